//! What comes in over MIDI, and where it goes in a program (LANGUAGE §20.6, §20.7).
//!
//! In programs of every runtime type, `@config midi.inputs.N` calls an exported function with the three bytes of every
//! message of a port. In those of the `midi` type, directives write what they hear into items. Routes are found on the
//! control thread; messages are taken in on the tick thread, at the start of the tick in which they are to be known.

use std::collections::BTreeSet;

use ipc::manifest::{Manifest, ValueType};
use ipc::midi::{CONTROLLER, NOTE_OFF, NOTE_ON, Received};

use super::notes::number_rt;
use super::routes::Source;
use crate::host::engine::{CallbackHandle, Engine};
use crate::registry::settings::{Settings, Warning};

/// A way by which messages come into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputRoute {
    /// Notes of one channel and port: which, how hard, and whether it sounds.
    Note { gate: Source, note: Source, channel: Option<Source>, velocity: Option<Source>, port: Option<Source> },
    /// The controller that is selected, of one channel of any port.
    Controller { selected: Source, value: Source, channel: Option<Source> },
    /// Everything of a port, which counts from 1.
    Callback { port: u8, callback: CallbackHandle },
}

/// Whether a program takes anything in.
pub fn are_wanted(manifest: &Manifest) -> bool {
    manifest.config.iter().any(|entry| match entry.directive.as_str() {
        "midiNoteInput" | "midiCCInput" => true,
        "config" => entry.arguments.first().is_some_and(|path| path.starts_with("midi.inputs.")),
        _ => false,
    })
}

/// The callbacks of a program, in the order of their names, each once for a port. Those that are none are left out: see
/// [`bad_callbacks`].
pub fn callbacks(settings: &Settings, engine: &Engine) -> impl Iterator<Item = InputRoute> {
    let bindings: BTreeSet<(u8, &str)> =
        settings.midi_inputs().into_iter().filter_map(|(port, callback, _)| Some((port_of(port)?, callback))).collect();
    let routes = bindings.into_iter().filter_map(|(port, name)| Some(InputRoute::Callback { port, callback: engine.callback(name)? }));
    routes.collect::<Vec<_>>().into_iter()
}

/// What is wrong with the callbacks of a program.
pub fn bad_callbacks(settings: &Settings, manifest: &Manifest) -> Vec<Warning> {
    let mut seen = BTreeSet::new();
    let wrong = settings.midi_inputs().into_iter().filter_map(|(port, callback, line)| {
        let export = manifest.exports.iter().find(|export| export.name == callback);
        let message = match (export, port_of(port)) {
            (_, None) => format!("there is no MIDI port {port}; it is left out"),
            (None, _) => format!("the program has no export `{callback}`; it is left out"),
            (Some(export), _) if export.params != [ValueType::Int; 3] || !export.results.is_empty() => {
                format!("`{callback}` does not take three integers (status, data, data) and return nothing; it is left out")
            }
            (Some(_), Some(port)) if !seen.insert((port, callback)) => {
                format!("`{callback}` is called for this port already; it is left out")
            }
            (Some(_), Some(_)) => return None,
        };
        Some(Warning { line, message })
    });
    wrong.collect()
}

/// Settings count ports from 0.
fn port_of(port: f64) -> Option<u8> {
    (port < 255.0).then_some(port as u8 + 1)
}

/// Lets a route have a message. Returns the callback that is to be called with it, if that is what the route does.
pub fn receive_rt(engine: &mut Engine, route: &InputRoute, received: Received) -> Option<CallbackHandle> {
    let [status, first, second] = received.message;
    let kind = status & 0xf0;
    match *route {
        InputRoute::Callback { port, callback } => return (port == received.port).then_some(callback),
        InputRoute::Note { gate, note, channel, velocity, port } => {
            let is_note = kind == NOTE_ON || kind == NOTE_OFF;
            if is_note && is_channel_rt(engine, channel, status) && counted_rt(engine, port) == i32::from(received.port) {
                let begins = kind == NOTE_ON && second > 0;
                write_rt(engine, note, i32::from(first));
                if let Some(velocity) = velocity {
                    write_rt(engine, velocity, i32::from(second));
                }
                write_rt(engine, gate, i32::from(begins));
            }
        }
        InputRoute::Controller { selected, value, channel } => {
            if kind == CONTROLLER && is_channel_rt(engine, channel, status) && number_rt(engine, selected) == i32::from(first) {
                write_rt(engine, value, i32::from(second));
            }
        }
    }
    None
}

/// Whether this is the channel that a route listens to.
fn is_channel_rt(engine: &Engine, channel: Option<Source>, status: u8) -> bool {
    counted_rt(engine, channel) == i32::from(status & 0x0f) + 1
}

/// A number that counts from 1, where nothing and 0 mean 1.
fn counted_rt(engine: &Engine, source: Option<Source>) -> i32 {
    let number = source.map_or(1, |source| number_rt(engine, source));
    if number == 0 { 1 } else { number }
}

/// Writes an item as an integer, whatever it was declared as: as many bytes of it as the item has.
fn write_rt(engine: &mut Engine, source: Source, number: i32) {
    let bytes = number.to_le_bytes();
    let length = (source.element.bytes() as usize).min(bytes.len());
    if let Some(place) = engine.bytes_mut_rt(source.place.memory, source.place.byte_address, length) {
        place.copy_from_slice(&bytes[..length]);
    }
}
