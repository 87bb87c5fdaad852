//! What a midi runtime sends after a tick, from what the items of its routes hold and what each route did last
//! (LANGUAGE §20.7).
//!
//! Tick thread; allocates nothing after [`Notes::new`]. A note that was begun is ended whatever else happens: when its gate
//! closes, when its route is gone from the program, when the program does not run, and when the runtime ends. While there
//! is no room in the lane for the end of a note, the note counts as sounding and its end is tried again in the next tick.

use ipc::limits::MAX_MIDI_ROUTES;
use ipc::manifest::ElementType;
use ipc::midi::{CONTROLLER, Message, MidiEvent, MidiLaneWriter, NOTE_ON, RouteState, note_off};
use ipc::words::Words;

use super::routes::{OutputRoute, Sends, Source};
use crate::host::engine::Engine;
use crate::host::program::Program;

/// Velocity of a route that names no item for it.
const FULL_VELOCITY: u8 = 127;

/// Reads the items of routes.
pub trait Items {
    /// The number that an item holds.
    fn number_rt(&self, source: Source) -> i32;
}

impl Items for Program {
    fn number_rt(&self, source: Source) -> i32 {
        number_rt(self.engine(), source)
    }
}

/// The number that an item of a program holds.
pub fn number_rt(engine: &Engine, source: Source) -> i32 {
    let length = source.element.bytes() as usize;
    let bytes = engine.bytes_rt(source.place.memory, source.place.byte_address, length).unwrap_or_default();
    to_integer_rt(source.element, bytes)
}

/// An element as a route reads it: as an integer, whatever it was declared as. The bits of a float make a number that is
/// out of every range, and that is zero where the float is.
fn to_integer_rt(element: ElementType, bytes: &[u8]) -> i32 {
    match (element, bytes) {
        (ElementType::Int8, &[a]) => i32::from(a as i8),
        (ElementType::Int8u, &[a]) => i32::from(a),
        (ElementType::Int16, &[a, b]) => i32::from(i16::from_le_bytes([a, b])),
        (ElementType::Int16u, &[a, b]) => i32::from(u16::from_le_bytes([a, b])),
        (_, &[a, b, c, d, ..]) => i32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// What every route is left with.
pub struct Notes {
    /// Never grows beyond the capacity it was made with.
    states: Vec<RouteState>,
}

impl Notes {
    /// Goes on from what the last host of the lane left.
    pub fn new(states: &[RouteState]) -> Self {
        let mut all = Vec::with_capacity(MAX_MIDI_ROUTES);
        all.extend(states.iter().take(MAX_MIDI_ROUTES));
        Self { states: all }
    }

    pub fn states_rt(&self) -> &[RouteState] {
        &self.states
    }

    /// Sends what has changed in a tick that was due at `due_ns`. Without a program everything that sounds ends.
    pub fn send_rt<W: Words, const EVENTS: usize>(&mut self, program: Option<&Program>, due_ns: u64, lane: &mut MidiLaneWriter<W, EVENTS>) {
        let routes = program.map_or(&[][..], Program::midi_rt);
        self.send_routes_rt(program, routes, due_ns, lane);
    }

    fn send_routes_rt<I: Items, W: Words, const EVENTS: usize>(
        &mut self,
        items: Option<&I>,
        routes: &[OutputRoute],
        due_ns: u64,
        lane: &mut MidiLaneWriter<W, EVENTS>,
    ) {
        let mut out = Out { due_ns, lane };
        // Ends come first, so that the places of routes that are gone can be used again. A program that pauses keeps what
        // its controllers were.
        let is_kept = |state: &RouteState| match items {
            Some(_) => routes.iter().any(|route| route.key == state.key),
            None => state.message.is_some_and(|message| !begins_note(message)),
        };
        self.states.retain_mut(|state| is_kept(state) || !end_rt(state, &mut out));
        let Some(items) = items else { return };
        for route in routes {
            let Some(state) = self.state_rt(route.key) else { continue };
            match route.sends {
                Sends::Note { gate, note, velocity, port } => {
                    if items.number_rt(gate) == 0 {
                        end_rt(state, &mut out);
                    } else if !state.message.is_some_and(begins_note) {
                        let velocity = velocity.map_or(Some(FULL_VELOCITY), |velocity| data_rt(items.number_rt(velocity)));
                        let port = port.map_or(Some(1), |port| port_rt(items.number_rt(port)));
                        let parts = (channel_rt(items, route), data_rt(items.number_rt(note)), velocity, port);
                        if let (Some(channel), Some(note), Some(velocity), Some(port)) = parts {
                            begin_rt(state, port, [NOTE_ON | channel, note, velocity], &mut out);
                        }
                    }
                }
                Sends::Controller { selected, value } => {
                    let parts = (channel_rt(items, route), data_rt(items.number_rt(selected)), data_rt(items.number_rt(value)));
                    if let (Some(channel), Some(selected), Some(value)) = parts
                        && state.message.is_none_or(|last| last[2] != value)
                    {
                        begin_rt(state, 1, [CONTROLLER | channel, selected, value], &mut out);
                    }
                }
            }
        }
    }

    /// The state of the route with this key; `None` when there is no room for one more.
    fn state_rt(&mut self, key: u64) -> Option<&mut RouteState> {
        let index = match self.states.iter().position(|state| state.key == key) {
            Some(index) => index,
            None if self.states.len() < self.states.capacity() => {
                self.states.push(RouteState { key, port: 1, message: None });
                self.states.len() - 1
            }
            None => return None,
        };
        self.states.get_mut(index)
    }
}

/// Where the events of a tick go.
struct Out<'a, W, const EVENTS: usize> {
    due_ns: u64,
    lane: &'a mut MidiLaneWriter<W, EVENTS>,
}

impl<W: Words, const EVENTS: usize> Out<'_, W, EVENTS> {
    fn push_rt(&mut self, port: u8, message: Message) -> bool {
        let event = MidiEvent { due_ns: self.due_ns, tick: self.lane.next_tick(), port, message };
        self.lane.push_rt(&event)
    }
}

/// Ends the note that sounds, if one does. False when it goes on sounding because there is no room.
fn end_rt<W: Words, const EVENTS: usize>(state: &mut RouteState, out: &mut Out<'_, W, EVENTS>) -> bool {
    let Some(message) = state.message.filter(|message| begins_note(*message)) else { return true };
    let is_ended = out.push_rt(state.port, note_off(message));
    if is_ended {
        state.message = None;
    }
    is_ended
}

/// Whether a route has begun a note with this message, be it without velocity.
fn begins_note(message: Message) -> bool {
    message[0] & 0xf0 == NOTE_ON
}

/// Sends the beginning of a note, or a controller.
fn begin_rt<W: Words, const EVENTS: usize>(state: &mut RouteState, port: u8, message: Message, out: &mut Out<'_, W, EVENTS>) {
    if out.push_rt(port, message) {
        (state.port, state.message) = (port, Some(message));
    } else {
        out.lane.count_dropped_rt();
    }
}

/// The channel as a status has it; `None` when there is no such channel.
fn channel_rt<I: Items>(items: &I, route: &OutputRoute) -> Option<u8> {
    let channel = route.channel.map_or(1, |channel| items.number_rt(channel));
    let channel = if channel == 0 { 1 } else { channel };
    (1..=16).contains(&channel).then(|| channel as u8 - 1)
}

/// Ports count from 1; 0 means the first. `None` when no port can have this number.
fn port_rt(port: i32) -> Option<u8> {
    u8::try_from(port).ok().map(|port| port.max(1))
}

/// A data byte; `None` when the number is none.
fn data_rt(number: i32) -> Option<u8> {
    (0..=127).contains(&number).then_some(number as u8)
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
