//! The five log lines of the runtime registry, exactly as DESIGN §8 has them.
//!
//! The supervisor prints the first three: they belong to choosing a type, which [`super::resolve`] does before any host is
//! asked. The host sends the last two as `HostReply::Log`, when its runtime has begun and when it is taken apart.

pub fn requesting(requested: &str) -> String {
    format!("Requesting runtime: {requested}")
}

pub fn loaded(id: &str) -> String {
    format!("Loaded runtime from registry: {id}")
}

pub fn unknown(requested: &str, default: &str) -> String {
    format!("Unknown runtime {requested}, falling back to default: {default}")
}

pub fn destroying(id: &str) -> String {
    format!("Destroying runtime: {id}")
}

pub fn initialized(id: &str) -> String {
    format!("Successfully initialized runtime: {id}")
}
