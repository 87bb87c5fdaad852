//! Settings of a program: its `@config` directives, checked against the schema (LANGUAGE §20.1, §20.2).
//!
//! For each path the last valid entry wins. What is wrong is a warning with its line and is otherwise passed over: a
//! mistake in a setting never keeps a program from playing. The one exception is a sample rate no device has; see
//! [`Settings::sample_rate_hz`].

use std::collections::BTreeMap;

use ipc::manifest::{ConfigEntry, Item, Manifest};

use super::midi::{inputs, routes};
use super::schema::{self, ValueKind};
use super::{RuntimeType, number};

/// The directive that carries settings.
const CONFIG: &str = "config";

/// A setting that was passed over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// 1-based line of the file.
    pub line: u32,
    pub message: String,
}

/// A setting that keeps a program from being run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingError {
    /// 1-based line of the file.
    pub line: u32,
    pub message: String,
}

/// A place in a program's memory that a setting names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryTarget {
    /// Index into `Manifest::memories`.
    pub memory: u32,
    pub byte_address: u32,
    /// Words of the item that begins there; `None` when a word index names a place where none begins.
    pub words: Option<u32>,
}

impl MemoryTarget {
    /// Bytes of the item's words; 0 where no item begins.
    pub fn bytes(&self) -> u64 {
        4 * u64::from(self.words.unwrap_or(0))
    }
}

/// A binary asset: a file whose bytes are copied into memory items after initialisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    pub id: String,
    pub url: String,
    /// 1-based line that gives the url.
    pub line: u32,
    pub targets: Vec<AssetTarget>,
}

/// An item that a part of an asset goes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetTarget {
    pub target: MemoryTarget,
    /// Bytes of the file that are passed over.
    pub offset: u64,
    /// 1-based line that says so, if one does.
    pub offset_line: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
    /// `None`: the reference is well-formed, but there is no such item; it counts as missing.
    Memory(Option<MemoryTarget>),
}

#[derive(Clone, Debug)]
struct Setting {
    value: Value,
    line: u32,
}

/// All settings of a program, and what was wrong with some.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, Setting>,
    /// In the order of the file.
    pub warnings: Vec<Warning>,
}

/// Reads the settings out of a program's manifest.
pub fn settings(manifest: &Manifest) -> Settings {
    let mut settings = Settings::default();
    for entry in manifest.config.iter().filter(|entry| entry.directive == CONFIG) {
        if let Err(message) = settings.take(entry, manifest) {
            settings.warnings.push(Warning { line: entry.line, message });
        }
    }
    let bad_routes = routes::outputs(manifest).1.into_iter().chain(routes::inputs(manifest).1);
    settings.warnings.extend(bad_routes.map(|bad| Warning { line: bad.line, message: format!("{}; it is left out", bad.message) }));
    let bad_callbacks = inputs::bad_callbacks(&settings, manifest);
    settings.warnings.extend(bad_callbacks);
    settings
}

impl Settings {
    /// The number at `path`, where the program sets one.
    pub fn number(&self, path: &str) -> Option<f64> {
        match self.values.get(path)?.value {
            Value::Number(number) => Some(number),
            Value::Text(_) | Value::Memory(_) => None,
        }
    }

    /// The text at `path`, where the program sets one.
    pub fn text(&self, path: &str) -> Option<&str> {
        match &self.values.get(path)?.value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Memory(_) => None,
        }
    }

    /// The place in memory at `path`, where the program names one that exists.
    pub fn memory(&self, path: &str) -> Option<&MemoryTarget> {
        match &self.values.get(path)?.value {
            Value::Memory(target) => target.as_ref(),
            Value::Number(_) | Value::Text(_) => None,
        }
    }

    /// The line that sets `path`.
    pub fn line(&self, path: &str) -> Option<u32> {
        Some(self.values.get(path)?.line)
    }

    /// The runtime type the program asks for: an id, an alias, or something unknown.
    pub fn requested_runtime(&self) -> Option<&str> {
        self.text("runtime")
    }

    /// The sample rate of a runtime of type `ty`, in hertz: the program's own, or the type's default.
    pub fn sample_rate_hz(&self, ty: &RuntimeType) -> Result<u32, SettingError> {
        let Some((number, line)) = self.number(ty.sample_rate_key).zip(self.line(ty.sample_rate_key)) else {
            return Ok(ty.default_sample_rate_hz);
        };
        let range = &ty.sample_rate_range_hz;
        let whole = (number.fract() == 0.0 && number <= f64::from(u32::MAX)).then_some(number as u32);
        whole.filter(|hz| range.contains(hz)).ok_or_else(|| SettingError {
            line,
            message: format!(
                "the sample rate {number} is impossible for the runtime `{}`; `{}` must be a whole number from {} to {}",
                ty.id,
                ty.sample_rate_key,
                range.start(),
                range.end()
            ),
        })
    }

    /// The binary assets that have a url, by id.
    pub fn assets(&self) -> Vec<Asset> {
        let urls = self.values.iter().filter_map(|(path, setting)| Some((asset_key(path, "url")?, setting)));
        urls.filter_map(|(id, setting)| {
            let Value::Text(url) = &setting.value else { return None };
            Some(Asset { id: id.to_owned(), url: url.clone(), line: setting.line, targets: self.asset_targets(id) })
        })
        .collect()
    }

    /// The bindings of input ports to callbacks that have both, by id: port (from 0), callback, and its line.
    pub fn midi_inputs(&self) -> Vec<(f64, &str, u32)> {
        let callbacks = self.values.iter().filter_map(|(path, setting)| Some((path.strip_suffix(".callback")?, setting)));
        let bindings = callbacks.filter(|(binding, _)| binding.starts_with("midi.inputs.")).filter_map(|(binding, setting)| {
            let Value::Text(callback) = &setting.value else { return None };
            Some((self.number(&format!("{binding}.port"))?, callback.as_str(), setting.line))
        });
        bindings.collect()
    }

    /// `bin.<id>.memory` with `bin.<id>.offset`, and each `bin.<id>.memories.<n>` with `bin.<id>.offsets.<n>`; where that is
    /// not set, with `bin.<id>.offset` too.
    fn asset_targets(&self, id: &str) -> Vec<AssetTarget> {
        let (one, many) = (format!("bin.{id}.memory"), format!("bin.{id}.memories."));
        let target = |path: &String| {
            let own = match path.strip_prefix(&many) {
                Some(number) => format!("bin.{id}.offsets.{number}"),
                None if *path == one => format!("bin.{id}.offset"),
                None => return None,
            };
            let key = [own, format!("bin.{id}.offset")].into_iter().find(|key| self.number(key).is_some());
            // Whole and not negative, as the schema demands; what no file can be long enough for stays that.
            let offset = key.as_deref().and_then(|key| self.number(key)).unwrap_or(0.0) as u64;
            Some(AssetTarget { target: self.memory(path)?.clone(), offset, offset_line: key.and_then(|key| self.line(&key)) })
        };
        self.values.keys().filter_map(target).collect()
    }

    fn take(&mut self, entry: &ConfigEntry, manifest: &Manifest) -> Result<(), String> {
        let [path, text] = &entry.arguments[..] else {
            return Err(format!("`@config` takes a path and a value, not {} arguments; it is ignored", entry.arguments.len()));
        };
        if schema::is_editor_only(path) {
            return Ok(());
        }
        let key = schema::find(path).ok_or_else(|| format!("there is no setting `{path}`; it is ignored"))?;
        let value = read_value(key.kind, text, entry, manifest)
            .ok_or_else(|| format!("`{path}` must be {}, not `{text}`; it is ignored", key.kind.describe()))?;
        let is_missing = value == Value::Memory(None);
        self.values.insert(path.clone(), Setting { value, line: entry.line });
        if is_missing { Err(format!("`{path}` names `{text}`, which is not an item of the program; it is left out")) } else { Ok(()) }
    }
}

/// The asset's id, if `path` is `bin.<id>.<last>`.
fn asset_key<'a>(path: &'a str, last: &str) -> Option<&'a str> {
    path.strip_prefix("bin.")?.strip_suffix(last)?.strip_suffix('.')
}

/// Reads a value; `None` when it is not one of that kind.
fn read_value(kind: ValueKind, text: &str, entry: &ConfigEntry, manifest: &Manifest) -> Option<Value> {
    match kind {
        ValueKind::NumberAtLeast(least) => number::parse(text).filter(|number| number.is_finite() && *number >= least).map(Value::Number),
        ValueKind::Whole => number::parse(text).filter(|number| *number >= 0.0 && number.fract() == 0.0).map(Value::Number),
        ValueKind::Text => (!text.is_empty()).then(|| Value::Text(text.to_owned())),
        ValueKind::FunctionName => is_function_name(text).then(|| Value::Text(text.to_owned())),
        ValueKind::Memory => read_reference(text, entry, manifest).map(Value::Memory),
    }
}

fn is_function_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads a memory reference: a word index, `module:item`, or an item of the block that the directive stands in.
fn read_reference(text: &str, entry: &ConfigEntry, manifest: &Manifest) -> Option<Option<MemoryTarget>> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let word: u32 = text.parse().ok()?;
        return Some(word.checked_mul(4).map(|address| at_address(manifest, address)));
    }
    let (module, item) = text.split_once(':').unwrap_or((&entry.block.id, text));
    if module.is_empty() || item.is_empty() || item.contains(':') {
        return None;
    }
    Some(manifest.item(module, item).map(|(module, item)| target_of(module.memory, item)))
}

fn target_of(memory: u32, item: &Item) -> MemoryTarget {
    MemoryTarget { memory, byte_address: item.byte_address, words: Some(item.words) }
}

/// A word index counts in memory 0.
fn at_address(manifest: &Manifest, address: u32) -> MemoryTarget {
    let items = manifest.modules.iter().filter(|module| module.memory == 0).flat_map(|module| &module.items);
    let words = items.filter(|item| item.byte_address == address && item.words > 0).map(|item| item.words).next_back();
    MemoryTarget { memory: 0, byte_address: address, words }
}
