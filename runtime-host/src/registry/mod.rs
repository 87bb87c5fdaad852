//! The runtime registry.
