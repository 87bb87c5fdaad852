//! The runtime registry: every runtime type with its names, its settings, its environment constants and its factory.
//!
//! A type is one folder here and one line in [`TYPES`]. The supervisor asks this module which type a program wants
//! ([`resolve`]), what its settings are ([`settings()`]) and which constants its environment has ([`environment`]); the host
//! asks it for the type's factory. Nothing here runs a program.

pub mod audio;
pub mod log_lines;
pub mod main_thread;
pub mod midi;
pub mod number;
pub mod runtime;
pub mod schema;
pub mod settings;
mod timer;
pub mod worker;

use std::ops::RangeInclusive;

use crate::host::engine::Engine;
use crate::host::program::Binding;
use runtime::{Assembly, BuildError, Runtime};
use schema::ConfigKey;
pub use settings::{MemoryTarget, SettingError, Settings, Warning, settings};

/// Every runtime type there is.
pub const TYPES: &[&RuntimeType] = &[&audio::TYPE, &worker::TYPE, &main_thread::TYPE, &midi::TYPE];

/// One entry of the registry.
pub struct RuntimeType {
    /// Its name in messages and in `@config runtime`.
    pub id: &'static str,
    /// Other names that programs may use.
    pub aliases: &'static [&'static str],
    /// Settings that concern this type.
    pub config: &'static [ConfigKey],
    /// Which of them is the sample rate: ticks a second, or for `audio` frames a second.
    pub sample_rate_key: &'static str,
    pub default_sample_rate_hz: u32,
    pub sample_rate_range_hz: RangeInclusive<u32>,
    /// Environment constants besides `SAMPLE_RATE` and the sizes of assets.
    pub constants: &'static [(&'static str, f64)],
    /// Whether denormals are flushed while its programs run, their initialisation included.
    pub flushes_denormals: bool,
    /// Real-time priority of its tick thread.
    pub priority: i32,
    /// When a host is given up that makes no progress although work is due: what its listeners can bear, and for types that
    /// nobody listens to, what a single tick may take within its work budget.
    pub stall_patience_ms: u64,
    /// The export that is one tick.
    pub tick_export: &'static str,
    /// Finds in a program what this type calls, reads and writes.
    pub bind: fn(&RuntimeType, &Settings, &Engine) -> Binding,
    /// Makes a runtime of this type.
    pub build: fn(&Assembly<'_>) -> Result<Box<dyn Runtime>, BuildError>,
}

impl std::fmt::Debug for RuntimeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RuntimeType").field(&self.id).finish()
    }
}

/// Finds a type by its id or an alias.
pub fn find(name: &str) -> Option<&'static RuntimeType> {
    TYPES.iter().copied().find(|ty| ty.id == name || ty.aliases.contains(&name))
}

/// Which type a program runs under.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub runtime_type: &'static RuntimeType,
    /// Lines for the log, in order.
    pub log: Vec<String>,
    /// The requested type is not known, so the session's default stands in for it.
    pub fell_back: bool,
}

/// Finds the type that a program asks for; `default` stands in where it asks for none or for one that does not exist.
/// A default that does not exist is `audio`.
pub fn resolve(requested: Option<&str>, default: &str) -> Resolved {
    let requested = requested.unwrap_or(default);
    let mut log = vec![log_lines::requesting(requested)];
    let found = find(requested);
    let runtime_type = found.or_else(|| find(default)).unwrap_or(&audio::TYPE);
    if found.is_none() {
        log.push(log_lines::unknown(requested, runtime_type.id));
    }
    log.push(log_lines::loaded(runtime_type.id));
    Resolved { runtime_type, log, fell_back: found.is_none() }
}

/// The constants that the program's `constants env` block is to have (LANGUAGE §20.3). `assets` are ids and sizes in bytes.
/// A sample rate that the type refuses counts as not set; [`Settings::sample_rate_hz`] reports it.
pub fn environment(ty: &RuntimeType, settings: &Settings, assets: &[(String, u64)]) -> Vec<(String, f64)> {
    let sample_rate_hz = settings.sample_rate_hz(ty).unwrap_or(ty.default_sample_rate_hz);
    let mut constants = vec![("SAMPLE_RATE".to_owned(), f64::from(sample_rate_hz))];
    constants.extend(ty.constants.iter().map(|(name, value)| ((*name).to_owned(), *value)));
    constants.extend(assets.iter().map(|(id, bytes)| (format!("ASSET_{}_SIZE", id.to_uppercase()), *bytes as f64)));
    constants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_found_by_id_and_by_alias() {
        for (name, id) in [("audio", "audio"), ("AudioWorkletRuntime", "audio"), ("worker", "worker"), ("WebWorkerRuntime", "worker")] {
            let resolved = resolve(Some(name), "main");
            assert_eq!((resolved.runtime_type.id, resolved.fell_back), (id, false));
            assert_eq!(resolved.log, [format!("Requesting runtime: {name}"), format!("Loaded runtime from registry: {id}")]);
        }
        assert_eq!(find("MainThreadRuntime").unwrap().id, "main");
    }

    #[test]
    fn an_unknown_type_falls_back_with_a_line() {
        let resolved = resolve(Some("QuantumRuntime"), "worker");
        assert!(resolved.fell_back);
        assert_eq!(resolved.runtime_type.id, "worker");
        assert_eq!(
            resolved.log,
            [
                "Requesting runtime: QuantumRuntime",
                "Unknown runtime QuantumRuntime, falling back to default: worker",
                "Loaded runtime from registry: worker"
            ]
        );
    }

    #[test]
    fn a_program_that_asks_for_nothing_gets_the_default() {
        let resolved = resolve(None, "audio");
        assert_eq!((resolved.runtime_type.id, resolved.fell_back), ("audio", false));
    }

    #[test]
    fn no_name_means_two_types() {
        let mut names: Vec<&str> = TYPES.iter().flat_map(|ty| ty.aliases.iter().copied().chain([ty.id])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
