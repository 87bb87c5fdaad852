//! From an artifact to a plan: which runtime type its program runs under, at which rate, with which environment. The only
//! place where the supervisor asks the runtime registry.

use std::path::Path;
use std::sync::Arc;

use ipc::artifact::Artifact;
use ipc::manifest::{Item, Manifest};
use runtime_host::host::assets;
use runtime_host::registry::{self, MemoryTarget, RuntimeType, Settings};

use super::job::{AUDIO_WORK_BUDGET, TIMER_WORK_BUDGET};
use crate::policy::{CompileSettings, Content, Inspection, KeyItems, Plan, TempoItems};

/// Runtime type of programs that ask for none, or for one that does not exist (DESIGN §8).
const DEFAULT_RUNTIME_TYPE: &str = registry::audio::TYPE.id;

/// What a program has been compiled with.
pub struct Compiled<'a> {
    /// `None`: with what most programs need.
    pub settings: Option<&'a CompileSettings>,
    /// It has been compiled with the settings asked for here before: do not ask again.
    pub is_settled: bool,
}

/// Decides how a program is to be played.
pub fn plan(artifact: Artifact, base_directory: &Path, compiled: &Compiled<'_>, default_type: Option<&str>) -> Inspection {
    let manifest = &artifact.manifest;
    let settings = registry::settings(manifest);
    let resolved = registry::resolve(settings.requested_runtime(), default_type.unwrap_or(DEFAULT_RUNTIME_TYPE));
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
    let budget_used = compiled.settings.map_or(AUDIO_WORK_BUDGET, |settings| settings.work_budget);
    if !compiled.is_settled && (work_budget != budget_used || differs(&environment, &manifest.environment)) {
        return Inspection::NeedsSettings(CompileSettings { environment, work_budget });
    }
    let wanted = assets::wanted(&settings, base_directory);
    let fallback_from = resolved.fell_back.then(|| settings.requested_runtime().unwrap_or_default().to_owned());
    let pulse = pulse(manifest);
    let (told, untold) = told_items(&settings, manifest);
    let log = resolved.log.into_iter().chain(warnings(&settings)).chain(untold).collect();
    let Artifact { manifest, image, .. } = artifact;
    Inspection::Playable(Plan {
        content: Arc::new(Content { manifest, image }),
        fallback_from,
        pulse,
        keys: told.0,
        tempo: told.1,
        runtime_type: resolved.runtime_type.id.to_owned(),
        has_lane: has_lane(resolved.runtime_type),
        sides: registry::audio::sides(&settings),
        sample_rate,
        log,
        assets: wanted,
    })
}

/// The item that a program names as its pulse: `; @config pulse MODULE:ITEM`, the last one counting. A bare name is one of
/// the module the comment stands in.
fn pulse(manifest: &Manifest) -> Option<String> {
    let named = manifest.config.iter().rev().find_map(|entry| match (entry.directive.as_str(), entry.arguments.as_slice()) {
        ("config", [path, item]) if path == "pulse" => Some((entry, item)),
        _ => None,
    });
    let (entry, item) = named?;
    let (module, name) = item.split_once(':').unwrap_or((entry.block.id.as_str(), item));
    manifest.item(module, name).map(|_| format!("{module}:{name}"))
}

/// The items in which a program wants to be told of the keyboard and of musical time, and what is to be said of settings that
/// name none.
fn told_items(settings: &Settings, manifest: &Manifest) -> ((KeyItems, Option<Box<TempoItems>>), Vec<String>) {
    let mut warnings = Vec::new();
    let mut item = |path: &str| {
        let target = settings.memory(path)?;
        let name = item_at(manifest, target);
        if name.is_none() {
            let line = settings.line(path).unwrap_or_default();
            warnings.push(format!("warning: line {line}: `{path}` names a place where no item begins; nothing is written there"));
        }
        name
    };
    let keys = KeyItems { code: item("keyboard.keyCodeMemory"), pressed: item("keyboard.keyPressedMemory") };
    let tempo = TempoItems { tempo: item("clock.tempoMemory"), running: item("clock.runningMemory"), beat: item("clock.beatMemory") };
    let tempo = (tempo != TempoItems::default()).then(|| Box::new(tempo));
    ((keys, tempo), warnings)
}

/// What a request calls the item at a place; of an array, its first element.
fn item_at(manifest: &Manifest, target: &MemoryTarget) -> Option<String> {
    let is_it = |item: &&Item| item.byte_address == target.byte_address && item.words > 0;
    let modules = manifest.modules.iter().rev().filter(|module| module.memory == target.memory);
    let (module, item) = modules.filter_map(|module| Some((module, module.items.iter().rev().find(is_it)?))).next()?;
    let index = if item.count == 1 { "" } else { "[0]" };
    Some(format!("{}:{}{index}", module.id, item.name))
}

/// `audio` delivers blocks into a lane, and `midi` events.
fn has_lane(runtime_type: &RuntimeType) -> bool {
    is_audio(runtime_type) || runtime_type.id == registry::midi::TYPE.id
}

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
