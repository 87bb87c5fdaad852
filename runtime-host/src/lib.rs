//! The processes that make programs sound: the runtime host, which executes one program tick by tick, and the device host,
//! which mixes the lanes of all runtime hosts into the sound device.

pub mod device;
pub mod host;
pub mod realtime;
pub mod registry;
