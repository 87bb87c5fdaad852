//! The device host.
