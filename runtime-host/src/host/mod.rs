//! The runtime host.
