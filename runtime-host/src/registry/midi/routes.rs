//! The MIDI routes of a program: what its directives name, found in its manifest (LANGUAGE §20.7).
//!
//! An item that is declared as a pointer is followed once, to where its default points. A route that names an item which is
//! not there, or which cannot be followed, is left out and told; the others work.

use ipc::hash::ContentHash;
use ipc::limits::MAX_MIDI_ROUTES;
use ipc::manifest::{ConfigEntry, ElementType, Item, Manifest};

use super::inputs::InputRoute;
use crate::host::program::Route;

/// An item that a route reads: its first element, as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub place: Route,
    pub element: ElementType,
}

/// What a route sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// While `gate` is not zero, a note.
    Note { gate: Source, note: Source, velocity: Option<Source>, port: Option<Source> },
    /// A controller, when its value changes.
    Controller { selected: Source, value: Source },
}

/// A way by which notes or a controller leave a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputRoute {
    /// Names it in whatever revision it occurs: its module and items, and how many like it come before.
    pub key: u64,
    pub sends: Sends,
    pub channel: Option<Source>,
}

/// A route that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRoute {
    /// 1-based line of the file.
    pub line: u32,
    pub message: String,
}

/// The program's input routes of the MIDI runtime in the order of its text, and those that cannot be.
pub fn inputs(manifest: &Manifest) -> (Vec<InputRoute>, Vec<BadRoute>) {
    let (mut routes, mut bad) = (Vec::new(), Vec::new());
    for entry in &manifest.config {
        let found = match entry.directive.as_str() {
            "midiNoteInput" => note_input(manifest, entry),
            "midiCCInput" => controller_input(manifest, entry),
            _ => continue,
        };
        match found {
            Ok(_) if routes.len() == MAX_MIDI_ROUTES => {
                bad.push(BadRoute { line: entry.line, message: format!("a program has at most {MAX_MIDI_ROUTES} MIDI inputs") });
            }
            Ok(route) => routes.push(route),
            Err(message) => bad.push(BadRoute { line: entry.line, message }),
        }
    }
    (routes, bad)
}

fn note_input(manifest: &Manifest, entry: &ConfigEntry) -> Result<InputRoute, String> {
    let argument = |index| optional(manifest, entry, index);
    Ok(InputRoute::Note {
        gate: required(manifest, entry, 0)?,
        note: required(manifest, entry, 1)?,
        channel: argument(2)?,
        velocity: argument(3)?,
        port: argument(4)?,
    })
}

fn controller_input(manifest: &Manifest, entry: &ConfigEntry) -> Result<InputRoute, String> {
    let (selected, value) = (required(manifest, entry, 0)?, required(manifest, entry, 1)?);
    Ok(InputRoute::Controller { selected, value, channel: optional(manifest, entry, 2)? })
}

/// The program's output routes in the order of its text, and those that cannot be.
pub fn outputs(manifest: &Manifest) -> (Vec<OutputRoute>, Vec<BadRoute>) {
    let (mut routes, mut bad) = (Vec::new(), Vec::new());
    for entry in &manifest.config {
        let found = match entry.directive.as_str() {
            "midiNoteOutput" => note_output(manifest, entry),
            "midiCCOutput" => controller_output(manifest, entry),
            _ => continue,
        };
        match found {
            Ok(_) if routes.len() == MAX_MIDI_ROUTES => {
                bad.push(BadRoute { line: entry.line, message: format!("a program has at most {MAX_MIDI_ROUTES} MIDI outputs") });
            }
            Ok(route) => {
                let key = free_key(entry, &routes);
                routes.push(OutputRoute { key, ..route });
            }
            Err(message) => bad.push(BadRoute { line: entry.line, message }),
        }
    }
    (routes, bad)
}

fn note_output(manifest: &Manifest, entry: &ConfigEntry) -> Result<OutputRoute, String> {
    let argument = |index| optional(manifest, entry, index);
    let sends = Sends::Note {
        gate: required(manifest, entry, 0)?,
        note: required(manifest, entry, 1)?,
        velocity: argument(3)?,
        port: argument(4)?,
    };
    Ok(OutputRoute { key: 0, sends, channel: argument(2)? })
}

fn controller_output(manifest: &Manifest, entry: &ConfigEntry) -> Result<OutputRoute, String> {
    let sends = Sends::Controller { selected: required(manifest, entry, 0)?, value: required(manifest, entry, 1)? };
    Ok(OutputRoute { key: 0, sends, channel: optional(manifest, entry, 2)? })
}

fn required(manifest: &Manifest, entry: &ConfigEntry, index: usize) -> Result<Source, String> {
    optional(manifest, entry, index)?.ok_or_else(|| format!("~{} needs two items at least", entry.directive))
}

fn optional(manifest: &Manifest, entry: &ConfigEntry, index: usize) -> Result<Option<Source>, String> {
    let Some(name) = entry.arguments.get(index) else { return Ok(None) };
    let (module, item) = manifest
        .item(&entry.block.id, name)
        .ok_or_else(|| format!("~{} names `{name}`, which is not an item of the module `{}`", entry.directive, entry.block.id))?;
    source(manifest, module.memory, item).map(Some).ok_or_else(|| {
        format!("~{} names `{name}`, which holds no number and points at none; give it a default such as &item", entry.directive)
    })
}

/// Where an item's number is: in itself, or where it points.
fn source(manifest: &Manifest, memory: u32, item: &Item) -> Option<Source> {
    if !matches!(item.element, ElementType::Pointer { .. }) {
        let place = Route { memory, byte_address: item.byte_address };
        return (item.count > 0).then_some(Source { place, element: item.element });
    }
    let points_at = item.points_at.as_ref()?;
    let (_, target) = manifest.item(points_at.module.as_ref()?, points_at.item.as_ref()?)?;
    let place = Route { memory: points_at.memory, byte_address: points_at.address };
    (target.count > 0).then_some(Source { place, element: target.element })
}

/// The route's name. Routes that say the same are told apart by their order.
fn free_key(entry: &ConfigEntry, routes: &[OutputRoute]) -> u64 {
    let names = entry.arguments.iter().flat_map(|name| [name.as_bytes(), b"\n"]);
    let mut parts: Vec<&[u8]> = vec![entry.directive.as_bytes(), b"\n", entry.block.id.as_bytes(), b"\n"];
    parts.extend(names);
    let hash = ContentHash::of(&parts);
    let mut key = hash.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    while routes.iter().any(|route| route.key == key) {
        key = key.wrapping_add(1);
    }
    key
}
