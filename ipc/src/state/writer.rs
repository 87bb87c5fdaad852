//! The tick thread's end of a state segment.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::layout::{self, Layout, WORD};
use super::words::{Extent, head_to_words_rt, pack, ramp_to_words_rt, write_to_words_rt};
use super::{Applied, Clock, Commit, Head, Ramp, Role, Write};
use crate::live::RequestId;
use crate::manifest::Manifest;
use crate::midi::Received;
use crate::segment::{Segment, SegmentError, SegmentRef};
use crate::wires::WireId;

/// Kind of a log record: values written by a request. Words: kind and length, request, tick, steps and number of values, then
/// three words for each value.
pub(super) const SET: u32 = 1;
/// Words of a record of [`SET`] besides its values.
pub(super) const SET_WORDS: u64 = 4;
/// Kind of a log record: messages that have come in over MIDI. Words: kind and length, request, tick, then one for each
/// message.
pub(super) const MIDI: u32 = 2;
/// Words of a record of [`MIDI`] besides its messages.
pub(super) const MIDI_WORDS: u64 = 3;
/// Kind of a log record: a value that a control wire has brought. Words: kind and length, wire, tick, then those of a value.
pub(super) const WIRE: u32 = 3;
/// Words of a record of [`WIRE`].
pub(super) const WIRE_WORDS: u64 = 3 + VALUE_WORDS;
/// Words of a value of [`SET`].
pub(super) const VALUE_WORDS: u64 = 3;

/// Writes checkpoints and inputs. Opened on the control thread, used on the tick thread.
pub struct StateWriter {
    segment: Segment,
    layout: Layout,
    /// The slot that is written next.
    slot: usize,
    /// Where the log begins that the newest checkpoint of the running program needs.
    log_start: u64,
    log_end: u64,
    /// How many of the requests that have taken effect are in the ring.
    applied: u64,
}

impl StateWriter {
    /// Maps the segment of a program that has not run yet.
    pub fn open(reference: &SegmentRef, manifest: &Manifest) -> Result<Self, SegmentError> {
        let writer = super::StateReader::open(reference, manifest)?.into_parts();
        Ok(Self::new(writer.0, writer.1, 0, 0, 0))
    }

    pub(super) fn new(segment: Segment, layout: Layout, slot: usize, log_start: u64, applied: u64) -> Self {
        let log_end = segment.word_u64(layout::LOG_END).load(Relaxed);
        Self { segment, layout, slot, log_start, log_end, applied }
    }

    /// Makes the operating system provide the segment's pages now, so that the tick thread does not wait for it.
    pub fn touch(&self) {
        if self.segment.populate() {
            return;
        }
        for offset in (0..self.segment.payload_bytes() / WORD * WORD).step_by(4_096) {
            self.segment.word_u64(offset).fetch_or(0, Relaxed);
        }
    }

    /// Writes a checkpoint. `sequence` is higher than that of every earlier one of the runtime. `memory` gives the bytes of
    /// each memory.
    pub fn checkpoint_rt<'a>(&mut self, sequence: u64, head: &Head, ramps: &[Ramp], applied: &Applied, memory: impl Fn(u32) -> &'a [u8]) {
        let commit = Commit { offset: layout::head(self.slot) };
        commit.begin_rt(&self.segment);
        self.put_applied_rt(applied);
        let extent = Extent { log_position: self.log_end, applied: applied.total, ramps: ramps.len() as u64 };
        self.put_rt(layout::head(self.slot) + WORD, &head_to_words_rt(head, extent)[1..]);
        for (index, ramp) in ramps.iter().enumerate() {
            self.put_rt(layout::ramp(self.slot, index), &ramp_to_words_rt(ramp));
        }
        let copies = self.layout.copies(self.slot);
        for (index, (offset, length)) in (0u32..).zip(&self.layout.memories) {
            let bytes = memory(index);
            self.segment.copy_in_rt(copies + offset, &bytes[..bytes.len().min(*length)]);
        }
        commit.complete_rt(&self.segment, sequence);
        self.slot = 1 - self.slot;
        if head.role != Role::Kept {
            self.log_start = self.log_end;
        }
    }

    /// Logs values that a request writes in `tick`. Returns false, and logs nothing, when there is no room: then it takes a
    /// checkpoint.
    pub fn log_set_rt(&mut self, request: RequestId, tick: u64, steps: u32, writes: &[Write]) -> bool {
        let words = SET_WORDS + VALUE_WORDS * writes.len() as u64;
        // The check in `append_rt` keeps both numbers far below 2^32.
        let first = [pack(SET, words as u32), request, tick, pack(steps, writes.len() as u32)];
        let values = writes.iter().flat_map(write_to_words_rt);
        self.append_rt(words, first.into_iter().chain(values))
    }

    /// Logs messages that take effect in `tick`. Returns false, and logs nothing, when there is no room.
    pub fn log_midi_rt(&mut self, request: RequestId, tick: u64, messages: &[Received]) -> bool {
        let words = MIDI_WORDS + messages.len() as u64;
        let first = [pack(MIDI, words as u32), request, tick];
        self.append_rt(words, first.into_iter().chain(messages.iter().map(|message| message.to_word_rt())))
    }

    /// Logs a value that a control wire brings in `tick`. Returns false, and logs nothing, when there is no room.
    pub fn log_wire_rt(&mut self, wire: WireId, tick: u64, write: &Write) -> bool {
        let first = [pack(WIRE, WIRE_WORDS as u32), wire, tick];
        self.append_rt(WIRE_WORDS, first.into_iter().chain(write_to_words_rt(write)))
    }

    /// Appends a record of so many words, if there is room.
    fn append_rt(&mut self, words: u64, record: impl Iterator<Item = u64>) -> bool {
        if self.log_end - self.log_start + words > layout::LOG_WORDS {
            return false;
        }
        for (position, word) in (self.log_end..).zip(record) {
            self.segment.word_u64(layout::log(position)).store(word, Relaxed);
        }
        self.log_end += words;
        self.segment.word_u64(layout::LOG_END).store(self.log_end, Release);
        true
    }

    /// All ticks below `ticks` are complete. `clock` is as it is after them.
    pub fn complete_rt(&self, ticks: u64, clock: Option<Clock>) {
        self.put_clock_rt(clock);
        self.segment.word_u64(layout::COMPLETED_TICKS).store(ticks, Release);
    }

    /// Where the clock is.
    pub fn put_clock_rt(&self, clock: Option<Clock>) {
        // The clock goes first: a tick that is not complete yet counts as one whose deadline has passed.
        if let Some(clock) = clock {
            self.segment.word_u64(layout::CLOCK_START).store(clock.start_ns, Relaxed);
            self.segment.word_u64(layout::CLOCK_NEXT).store(clock.next, Release);
        }
    }

    /// Adds the requests to the ring that it does not have yet.
    fn put_applied_rt(&mut self, applied: &Applied) {
        for (number, (request, tick)) in applied.since_rt(self.applied) {
            self.put_rt(layout::applied(number), &[request, tick]);
        }
        self.applied = applied.total;
    }

    fn put_rt(&self, offset: usize, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.segment.word_u64(offset + index * WORD).store(*word, Relaxed);
        }
    }
}
