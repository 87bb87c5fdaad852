//! Real-time threads.
