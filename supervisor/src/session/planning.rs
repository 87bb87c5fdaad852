//! From an artifact to a plan: which runtime type its program runs under, at which rate, with which environment. The only
//! place where the supervisor asks the runtime registry.

use std::path::Path;

use ipc::manifest::Manifest;
use runtime_host::host::assets;
use runtime_host::registry::{self, RuntimeType, Settings};

use super::job::{AUDIO_WORK_BUDGET, TIMER_WORK_BUDGET};
use crate::policy::{CompileSettings, Inspection, Plan};

/// Runtime type of programs that ask for none, or for one that does not exist (DESIGN §8).
const DEFAULT_RUNTIME_TYPE: &str = registry::audio::TYPE.id;

/// Decides how a program is to be played. `is_settled`: it has been compiled with the settings asked for here before.
pub fn plan(manifest: &Manifest, base_directory: &Path, is_settled: bool) -> Inspection {
    let settings = registry::settings(manifest);
    let resolved = registry::resolve(settings.requested_runtime(), DEFAULT_RUNTIME_TYPE);
    let sample_rate = match settings.sample_rate_hz(resolved.runtime_type) {
        Ok(rate) => rate,
        Err(error) => return Inspection::Unplayable { message: error.message, line: Some(error.line) },
    };
    let assets = match assets::sizes(&settings, base_directory) {
        Ok(assets) => assets,
        Err(refusal) => return Inspection::Unplayable { message: refusal.message, line: refusal.line },
    };
    let environment = registry::environment(resolved.runtime_type, &settings, &assets);
    let work_budget = work_budget(resolved.runtime_type);
    if !is_settled && (work_budget != AUDIO_WORK_BUDGET || differs(&environment, &manifest.environment)) {
        return Inspection::NeedsSettings(CompileSettings { environment, work_budget });
    }
    Inspection::Playable(Plan {
        runtime_type: resolved.runtime_type.id.to_owned(),
        has_lane: is_audio(resolved.runtime_type),
        sample_rate,
        log: resolved.log.into_iter().chain(warnings(&settings)).collect(),
    })
}

/// `audio` is the one type that delivers into a lane.
fn is_audio(runtime_type: &RuntimeType) -> bool {
    runtime_type.id == registry::audio::TYPE.id
}

/// Work budget of one tick. Programs are first compiled with that of `audio`, which most of them are.
fn work_budget(runtime_type: &RuntimeType) -> u64 {
    if is_audio(runtime_type) { AUDIO_WORK_BUDGET } else { TIMER_WORK_BUDGET }
}

/// Whether the program's own environment block lacks or contradicts a value. A program without the block uses none of them.
fn differs(wanted: &[(String, f64)], own: &[(String, f64)]) -> bool {
    let has = |(name, value): &(String, f64)| own.iter().any(|(n, v)| n == name && v.to_bits() == value.to_bits());
    !own.is_empty() && !wanted.iter().all(has)
}

fn warnings(settings: &Settings) -> impl Iterator<Item = String> {
    settings.warnings.iter().map(|warning| format!("warning: line {}: {}", warning.line, warning.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(values: &[(&str, f64)]) -> Vec<(String, f64)> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_program_without_an_environment_block_is_compiled_once() {
        assert!(!differs(&environment(&[("SAMPLE_RATE", 48000.0)]), &[]));
    }

    #[test]
    fn a_block_that_agrees_and_says_more_is_left_alone() {
        let own = environment(&[("SAMPLE_RATE", 48000.0), ("MINE", 3.0)]);
        assert!(!differs(&environment(&[("SAMPLE_RATE", 48000.0)]), &own));
    }

    #[test]
    fn a_block_with_another_value_or_without_one_is_replaced() {
        let wanted = environment(&[("SAMPLE_RATE", 44100.0), ("AUDIO_BUFFER_SIZE", 128.0)]);
        assert!(differs(&wanted, &environment(&[("SAMPLE_RATE", 48000.0), ("AUDIO_BUFFER_SIZE", 128.0)])));
        assert!(differs(&wanted, &environment(&[("SAMPLE_RATE", 44100.0)])));
    }
}
