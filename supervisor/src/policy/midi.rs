//! MIDI that comes in: who is told of it, and in which tick it is to be known. Part of the state machine: see the parent module.
//!
//! A message is an input like a `set`: it goes to the host as a request, takes effect at a tick that the host names, stands in
//! the log with that tick, and is asked of the next host when the one that was asked has died. The device host says which
//! block of the session is to know of it; of a program that delivers sound, that block is a tick.
//!
//! A host that does not answer is given no more than [`MAX_UNANSWERED`] requests; what comes then waits. Of more than
//! [`MAX_WAITING`] messages only the ends of notes are kept, the others are counted and left out.
//!
//! Notes that are held by an instrument which is unplugged, or by any when the device host dies, are ended here: whoever
//! could have said so is gone. The next supervisor is told by the device host what is held, and what has ended meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipc::held_notes::HeldNotes;
use ipc::limits::MAX_RECEIVED;
use ipc::live::{LiveChange, LiveRequest};
use ipc::midi::{Arrived, Direction, MidiCounters, NOTE_OFF, PortChange, Received, is_note_off};
use runtime_host::registry::midi::inputs;

use super::log::Logged;
use super::program::Phase;
use super::{Action, Device, Policy, Report, RuntimeIndex, Stage};
use crate::control::protocol::MidiStatus;

/// Requests that a host may have on the way. Half as many messages as a child may leave unread before it counts as stuck: a
/// host that takes over is asked all of them at once.
const MAX_UNANSWERED: usize = 32;

/// Messages that wait for a host: some seconds of a player, or a moment of a flood.
const MAX_WAITING: usize = 4_096;

/// What is known of MIDI.
#[derive(Debug, Default)]
pub(super) struct Midi {
    /// Which device host has been told to listen, by its generation.
    listening: u64,
    /// In which block of the session the first tick of each lane was heard, and which device host said so.
    origins: BTreeMap<RuntimeIndex, (u64, u64)>,
    /// What hosts have had no room for.
    waiting: BTreeMap<RuntimeIndex, Waiting>,
    /// The notes that instruments hold.
    held: HeldNotes,
    /// Frame of the session at which files begin, as the first device host that plays them has told.
    pub(super) files_from: Option<u64>,
    /// The last block of the session that a message was for.
    last_block: u64,
    /// Messages that were known later than they were to be.
    late: u64,
    /// Messages that a host had no room for.
    dropped: u64,
    /// What the device host has counted.
    device: MidiCounters,
    /// Whether it has been told that there is nothing to hear and play instruments through.
    has_told_unavailable: bool,
}

/// What a host has had no room for.
#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Received>,
    /// Ends of notes for which there was no room even here. No more than there are notes.
    ends: BTreeSet<Received>,
}

impl Waiting {
    /// Takes messages in; returns how many have been left out.
    fn take_in(&mut self, messages: &[Received]) -> u64 {
        let mut dropped = 0;
        for received in messages {
            let [status, note, _] = received.message;
            if self.messages.len() < MAX_WAITING && self.ends.is_empty() {
                self.messages.push_back(*received);
            } else if is_note_off(received.message) {
                self.ends.insert(Received { message: [NOTE_OFF | (status & 0x0f), note, 0], ..*received });
            } else {
                dropped += 1;
            }
        }
        dropped
    }

    /// What a request has room for, in order.
    fn next(&mut self) -> Vec<Received> {
        let mut messages: Vec<Received> = self.messages.drain(..self.messages.len().min(MAX_RECEIVED)).collect();
        while messages.len() < MAX_RECEIVED
            && let Some(end) = self.ends.pop_first()
        {
            messages.push(end);
        }
        messages
    }
}

impl Policy {
    /// Tells the device host to listen, once there is anything to be done with MIDI.
    pub(super) fn advance_midi(&mut self, actions: &mut Vec<Action>) {
        let is_told = self.midi.listening == self.device_generation;
        if is_told || !self.is_live() || self.device != Device::Open {
            return;
        }
        // Not before it runs, so that a file begins when somebody listens.
        let mut live = (0..self.runtimes.len()).filter_map(|runtime| self.live_slot(runtime));
        let has_notes = |slot: RuntimeIndex| self.programs[slot.0].revision.as_ref().is_some_and(|revision| revision.plan.has_notes());
        if self.plays_clock() || live.any(|slot| has_notes(slot) || self.takes_midi(slot)) {
            self.midi.listening = self.device_generation;
            actions.push(Action::Listen { files_from: self.midi.files_from });
        }
    }

    /// The first tick of a lane is heard. One that goes on after the death of a device host has no tick that belongs to a block.
    pub(super) fn note_origin(&mut self, slot: RuntimeIndex, block: u64) {
        self.midi.origins.entry(slot).or_insert((self.device_generation, block));
    }

    pub(super) fn note_midi_counters(&mut self, counters: MidiCounters) {
        self.midi.device = counters;
    }

    /// Messages have come in.
    pub(super) fn midi_arrived(&mut self, arrived: &[Arrived], actions: &mut Vec<Action>) {
        if self.stage != Stage::Working {
            return;
        }
        for message in arrived {
            self.midi.held.take(message.received);
            self.midi.last_block = self.midi.last_block.max(message.block);
        }
        self.tell_all_midi(arrived, actions);
    }

    /// Files begin.
    pub(super) fn midi_files_begin(&mut self, frame: u64) {
        self.midi.files_from.get_or_insert(frame);
    }

    /// Notes that the last supervisor was told to be held. Those that have ended since are told next.
    pub(super) fn midi_held(&mut self, ends: Vec<Received>) {
        ends.into_iter().for_each(|end| self.midi.held.insert(end));
    }

    /// A port that is played on or sent to has come or gone.
    pub(super) fn midi_port_changed(&mut self, change: PortChange, actions: &mut Vec<Action>) {
        if change.direction == Direction::In && !change.is_there {
            self.end_held_notes(Some(change.port), actions);
        }
        actions.push(Action::Tell(Report::MidiPort(change)));
    }

    /// There is nothing to hear and play instruments through, which is told once: the next device host finds the same.
    pub(super) fn midi_unavailable(&mut self, reason: String, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.midi.has_told_unavailable, true) {
            actions.push(Action::Tell(Report::MidiUnavailable { reason }));
        }
    }

    /// Ends what is held, at one port or at all of them, after everything that has been played on them.
    pub(super) fn end_held_notes(&mut self, port: Option<u8>, actions: &mut Vec<Action>) {
        let block = self.midi.last_block;
        let ends: Vec<Arrived> = self.midi.held.release(port).into_iter().map(|received| Arrived { block, received }).collect();
        if self.stage == Stage::Working {
            self.tell_all_midi(&ends, actions);
        }
    }

    /// Tells every program that takes messages in.
    fn tell_all_midi(&mut self, arrived: &[Arrived], actions: &mut Vec<Action>) {
        for runtime in 0..self.runtimes.len() {
            let Some(slot) = self.live_slot(runtime).filter(|slot| self.takes_midi(*slot)) else { continue };
            let mut rest = arrived;
            while let Some(first) = rest.first() {
                let at_tick = self.tick_of(slot, first.block);
                let count = rest.iter().take(MAX_RECEIVED).take_while(|other| self.tick_of(slot, other.block) == at_tick).count();
                let (now, later) = rest.split_at(count);
                let messages = now.iter().map(|arrived| arrived.received).collect();
                self.tell_midi(runtime, slot, at_tick, messages, actions);
                rest = later;
            }
        }
    }

    /// A host has answered: there is room for what was kept.
    pub(super) fn midi_answered(&mut self, runtime: usize, tick: Option<u64>, what: &Logged, actions: &mut Vec<Action>) {
        let Logged::Midi { messages, wanted } = what else { return };
        if let (Some(tick), Some(wanted)) = (tick, wanted)
            && tick > *wanted
        {
            self.midi.late += messages.len() as u64;
        }
        let Some(slot) = self.live_slot(runtime).filter(|_| self.unanswered(runtime) < MAX_UNANSWERED / 2) else { return };
        let messages = self.midi.waiting.get_mut(&slot).map(Waiting::next).unwrap_or_default();
        if messages.is_empty() {
            self.midi.waiting.remove(&slot);
        } else {
            self.send_midi(runtime, slot, None, messages, actions);
        }
    }

    /// Whether the program of a host takes anything in. A file that is edited is asked as it is now.
    fn takes_midi(&self, slot: RuntimeIndex) -> bool {
        let runtime = self.programs[slot.0].runtime.and_then(|runtime| self.runtimes.get(runtime));
        let current = runtime.and_then(|runtime| runtime.current.as_ref()).or(self.programs[slot.0].revision.as_ref());
        current.is_some_and(|revision| inputs::are_wanted(&revision.plan.content.manifest))
    }

    /// The tick that a block of the session is, where ticks are blocks.
    pub(super) fn tick_of(&self, slot: RuntimeIndex, block: u64) -> Option<u64> {
        let has_sound = self.programs[slot.0].revision.as_ref().is_some_and(|revision| revision.plan.has_sound());
        let (_, origin) = self.midi.origins.get(&slot).filter(|(generation, _)| has_sound && *generation == self.device_generation)?;
        block.checked_sub(*origin)
    }

    fn unanswered(&self, runtime: usize) -> usize {
        self.runtimes[runtime].unasked.values().filter(|(_, what)| matches!(what, Logged::Midi { .. })).count()
    }

    fn tell_midi(&mut self, runtime: usize, slot: RuntimeIndex, at_tick: Option<u64>, messages: Vec<Received>, actions: &mut Vec<Action>) {
        // What was asked of hosts that are over is not answered any more.
        let programs = &self.programs;
        let is_over = |slot: &RuntimeIndex| programs.get(slot.0).is_none_or(|program| program.phase.is_over());
        self.runtimes[runtime].unasked.retain(|_, (slot, _)| !is_over(slot));
        self.midi.waiting.retain(|slot, _| !is_over(slot));
        let has_room = self.unanswered(runtime) < MAX_UNANSWERED;
        if has_room && !self.midi.waiting.contains_key(&slot) {
            self.send_midi(runtime, slot, at_tick, messages, actions);
        } else {
            self.midi.dropped += self.midi.waiting.entry(slot).or_default().take_in(&messages);
        }
    }

    fn send_midi(&mut self, runtime: usize, slot: RuntimeIndex, at_tick: Option<u64>, messages: Vec<Received>, actions: &mut Vec<Action>) {
        self.last_live_request += 1;
        let what = LiveChange::Midi { messages: messages.clone() };
        let request = LiveRequest { request: self.last_live_request, at_tick, what };
        self.runtimes[runtime].unasked.insert(request.request, (slot, Logged::Midi { messages, wanted: at_tick }));
        let program = &mut self.programs[slot.0];
        program.keep.sent(&request);
        let is_running = matches!(program.phase, Phase::Running | Phase::Held);
        if let Some(host) = program.host.filter(|_| is_running) {
            actions.push(Action::Live { runtime: slot, host, request, content: None });
        }
    }

    /// What has been counted of MIDI, here and in the device host.
    pub(super) fn midi_status(&self) -> MidiStatus {
        let Midi { device, late, dropped, .. } = &self.midi;
        let unsent = device.sent_late + device.sent_dropped;
        let dropped = dropped + device.received_dropped;
        MidiStatus { received: device.received, late: *late, dropped, malformed: device.received_malformed, unsent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_has_no_room_for_waits_in_order_and_every_note_ends() {
        let received = |message| Received { port: 1, message };
        let flood: Vec<Received> = (0..5_000u32).map(|n| received([0x90 | (n % 16) as u8, (n / 16 % 128) as u8, 1])).collect();
        let ends: Vec<Received> = (0..2_048u32).map(|n| received([0x90 | (n % 16) as u8, (n / 16) as u8, 0])).collect();
        let mut waiting = Waiting::default();
        assert_eq!(waiting.take_in(&flood), 5_000 - MAX_WAITING as u64);
        assert_eq!((waiting.take_in(&ends), waiting.take_in(&ends)), (0, 0));
        let mut told = Vec::new();
        while let messages @ [_, ..] = &waiting.next()[..] {
            assert!(messages.len() <= MAX_RECEIVED);
            told.extend_from_slice(messages);
        }
        assert_eq!(told[..MAX_WAITING], flood[..MAX_WAITING]);
        let ended: BTreeSet<Received> = told[MAX_WAITING..].iter().copied().collect();
        assert_eq!((ended.len(), told.len()), (2_048, MAX_WAITING + 2_048));
    }
}
