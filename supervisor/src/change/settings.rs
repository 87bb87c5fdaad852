//! Compares what the comments of a source text ask of its runtime (LANGUAGE §20, DESIGN §8), apart from what the resolved
//! runtime type and rate already say.

use std::collections::BTreeMap;

use ipc::manifest::{ConfigEntry, Manifest};
use ipc::plan::{Change, ChangeClass, Difference};

/// The directive that sets one path to one value; the last one of a path counts.
const CONFIG: &str = "config";

/// Paths, or first parts of paths, that concern editors only (LANGUAGE §20.2).
const OF_EDITORS: [&str; 5] = ["recompileDebounceDelay", "export", "font", "color", "webUI"];

/// Constants of the environment that say how long a tick is (LANGUAGE §20.3).
const TIME_BASE: [&str; 2] = ["SAMPLE_RATE", "AUDIO_BUFFER_SIZE"];

/// Settings whose effect differs.
pub fn differences(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let (before, after) = (effective(old), effective(new));
    let paths: std::collections::BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let differing = paths.into_iter().filter(|path| before.get(path) != after.get(path));
    differing.map(|path| Difference { class: ChangeClass::B, what: Change::Setting { path: path.to_owned() } }).collect()
}

/// Constants that say how long a tick is and that both revisions have, with another value.
pub fn time_base(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let value =
        |manifest: &Manifest, name: &str| manifest.environment.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value);
    let differing = TIME_BASE.iter().filter_map(|name| {
        let (from, to) = (value(old, name)?, value(new, name)?);
        let what = Change::TimeBase { constant: (*name).to_owned(), from, to };
        (from.to_bits() != to.to_bits()).then_some(Difference { class: ChangeClass::C, what })
    });
    differing.collect()
}

/// What a setting comes down to: its arguments, and the block that qualifies a bare item name.
type Effect<'a> = Vec<(&'a [String], Option<&'a str>)>;

fn effective(manifest: &Manifest) -> BTreeMap<&str, Effect<'_>> {
    let mut settings: BTreeMap<&str, Effect> = BTreeMap::new();
    for entry in &manifest.config {
        match (entry.directive.as_str(), entry.arguments.as_slice()) {
            (CONFIG, [path, value @ ..]) if concerns_runtime(path) => {
                settings.insert(path, vec![(value, block(entry, value))]);
            }
            (CONFIG, _) => {}
            // Other directives, such as MIDI routes, add to each other.
            (directive, arguments) => settings.entry(directive).or_default().push((arguments, block(entry, arguments))),
        }
    }
    settings
}

/// Runtime type and rate are compared once they are resolved; an alias is no change.
fn concerns_runtime(path: &str) -> bool {
    let first = path.split('.').next().unwrap_or(path);
    path != "runtime" && !path.ends_with(".sampleRate") && !OF_EDITORS.contains(&first)
}

/// The block matters where an argument is a bare name.
fn block<'a>(entry: &'a ConfigEntry, arguments: &[String]) -> Option<&'a str> {
    let is_bare_name =
        |argument: &String| argument.starts_with(|c: char| c.is_alphabetic() || c == '_') && !argument.contains([':', '/', '.']);
    arguments.iter().any(is_bare_name).then_some(entry.block.id.as_str())
}
