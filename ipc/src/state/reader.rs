//! What others read of a state segment: the host that takes over, and the supervisor that looks on.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{self, HEAD_WORDS, Layout, RAMP_WORDS, WORD};
use super::words::{Extent, WRITE_WORDS, head_from_words, ramp_from_words, unpack, write_from_words};
use super::writer::{MIDI, SET, SET_WORDS, VALUE_WORDS, WIRE};
use super::{Applied, Clock, Commit, Head, Ramp, StateWriter, Write};
use crate::limits::{MAX_LIVE_REQUESTS, MAX_RAMPS};
use crate::live::RequestId;
use crate::manifest::Manifest;
use crate::midi::Received;
use crate::segment::{Segment, SegmentError, SegmentKind, SegmentRef};
use crate::wires::WireId;

/// Highest number of anything that is believed: a million a second for a hundred years stay below it.
const MAX_NUMBER: u64 = 1 << 52;

/// A complete checkpoint, found by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub sequence: u64,
    pub head: Head,
    slot: usize,
    extent: Extent,
}

/// A state segment of any program, for looking on.
pub struct StateView {
    segment: Segment,
}

impl StateView {
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        let segment = Segment::open(reference)?;
        if reference.kind != SegmentKind::State || segment.payload_bytes() < layout::FIXED_BYTES {
            return Err(SegmentError::Damaged { name: reference.name.clone(), what: "it is not a state segment of this version" });
        }
        Ok(Self { segment })
    }

    /// Number of ticks that are complete, as far as this program has executed them.
    pub fn completed_ticks(&self) -> u64 {
        self.segment.word_u64(layout::COMPLETED_TICKS).load(Acquire)
    }

    /// When the next ticks are due, in runtimes that a clock drives.
    pub fn clock(&self) -> Option<Clock> {
        let next = self.segment.word_u64(layout::CLOCK_NEXT).load(Acquire);
        let start_ns = self.segment.word_u64(layout::CLOCK_START).load(Relaxed);
        (start_ns != 0).then_some(Clock { start_ns, next })
    }

    /// The checkpoints that are complete. One that is damaged does not count as long as the other is whole: what took effect
    /// only there is not among the requests of the other, so that it is sent once more.
    pub fn checkpoints(&self) -> Result<Vec<Found>, SegmentError> {
        let (whole, damaged): (Vec<_>, Vec<_>) = (0..2).map(|slot| self.checkpoint_in(slot)).partition(Result::is_ok);
        let whole: Vec<Found> = whole.into_iter().flatten().flatten().collect();
        match damaged.into_iter().find_map(Result::err).filter(|_| whole.is_empty()) {
            Some(error) => Err(error),
            None => Ok(whole),
        }
    }

    /// The newest complete checkpoint.
    pub fn newest(&self) -> Result<Option<Found>, SegmentError> {
        Ok(self.checkpoints()?.into_iter().max_by_key(|found| found.sequence))
    }

    /// Maps nothing again: the same segment, as that of the program that `manifest` describes.
    pub fn into_reader(self, manifest: &Manifest) -> Result<StateReader, SegmentError> {
        let layout = Layout::of(manifest);
        match self.segment.payload_bytes() == layout.payload_bytes() {
            true => Ok(StateReader { view: self, layout }),
            false => Err(self.damaged("it is not as long as the program's memories want it")),
        }
    }

    fn checkpoint_in(&self, slot: usize) -> Result<Option<Found>, SegmentError> {
        let commit = Commit { offset: layout::head(slot) };
        let Some(sequence) = commit.read(&self.segment) else { return Ok(None) };
        let words: [u64; HEAD_WORDS] = self.words_at(layout::head(slot));
        if !commit.is_still(&self.segment, sequence) {
            return Ok(None); // It is being replaced right now, and the other one is newer.
        }
        let (head, extent) = head_from_words(&words);
        let highest = sequence.max(head.tick).max(extent.applied).max(extent.log_position);
        if highest > MAX_NUMBER || extent.ramps > MAX_RAMPS as u64 {
            return Err(self.damaged("the head of a checkpoint says what cannot be"));
        }
        let ramps = self.ramps_in(slot, extent);
        match (commit.is_still(&self.segment, sequence), ramps) {
            (false, _) => Ok(None),
            (true, None) => Err(self.damaged("a ramp is none")),
            (true, Some(_)) => Ok(Some(Found { sequence, head, slot, extent })),
        }
    }

    /// The ramps of a slot; `None` when one of them is none.
    fn ramps_in(&self, slot: usize, extent: Extent) -> Option<Vec<Ramp>> {
        let words = |index| self.words_at::<RAMP_WORDS>(layout::ramp(slot, index));
        (0..extent.ramps as usize).map(|index| ramp_from_words(&words(index))).collect()
    }

    fn words_at<const N: usize>(&self, offset: usize) -> [u64; N] {
        std::array::from_fn(|index| self.segment.word_u64(offset + index * WORD).load(Relaxed))
    }

    fn damaged(&self, what: &'static str) -> SegmentError {
        SegmentError::Damaged { name: self.segment.reference().name.clone(), what }
    }
}

/// An input since a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Logged {
    Set(LoggedSet),
    Midi(LoggedMidi),
    Wire(LoggedWire),
}

impl Logged {
    /// The tick at whose start it took effect.
    pub fn tick(&self) -> u64 {
        match self {
            Self::Set(set) => set.tick,
            Self::Midi(midi) => midi.tick,
            Self::Wire(wire) => wire.tick,
        }
    }
}

/// Values that a request has written.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedSet {
    pub request: RequestId,
    pub tick: u64,
    pub steps: u32,
    pub writes: Vec<Write>,
}

/// Messages that have come in over MIDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedMidi {
    pub request: RequestId,
    pub tick: u64,
    pub messages: Vec<Received>,
}

/// A value that a control wire has brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoggedWire {
    pub wire: WireId,
    pub tick: u64,
    pub write: Write,
}

/// The state segment of a known program, for the host that takes it over.
pub struct StateReader {
    view: StateView,
    layout: Layout,
}

impl StateReader {
    pub fn open(reference: &SegmentRef, manifest: &Manifest) -> Result<Self, SegmentError> {
        StateView::open(reference)?.into_reader(manifest)
    }

    pub fn view(&self) -> &StateView {
        &self.view
    }

    /// Copies a memory of a checkpoint into `bytes`. What was copied is whole if [`Self::check_still`] says so afterwards.
    pub fn copy_memory(&self, found: &Found, memory: u32, bytes: &mut [u8]) {
        let Some((offset, length)) = self.layout.memories.get(memory as usize) else { return };
        let length = bytes.len().min(*length);
        self.view.segment.copy_out(self.layout.copies(found.slot) + offset, &mut bytes[..length]);
    }

    /// The ramps of a checkpoint.
    pub fn ramps(&self, found: &Found) -> Result<Vec<Ramp>, SegmentError> {
        let ramps = self.view.ramps_in(found.slot, found.extent);
        self.check_still(found)?;
        ramps.ok_or_else(|| self.view.damaged("a ramp is none"))
    }

    /// The requests that had taken effect before a checkpoint.
    pub fn applied(&self, found: &Found) -> Result<Applied, SegmentError> {
        let total = found.extent.applied;
        let first = total.saturating_sub(MAX_LIVE_REQUESTS as u64);
        let mut applied = Applied { total: first, ..Applied::default() };
        for number in first..total {
            let [request, tick] = self.view.words_at(layout::applied(number));
            applied.push_rt(request, tick);
        }
        self.check_still(found)?;
        Ok(applied)
    }

    /// The inputs since a checkpoint, oldest first, for a program that goes on with tick `end`. Where that is the tick that
    /// the checkpoint is of, no log is needed, and none is looked at.
    pub fn inputs(&self, found: &Found, end: u64) -> Result<Vec<Logged>, SegmentError> {
        if found.head.has_begun && end <= found.head.tick {
            return Ok(Vec::new());
        }
        let start = found.extent.log_position;
        let end = self.log_end(found).ok_or_else(|| self.view.damaged("its log is longer than it can be"))?;
        let words: Vec<u64> = (start..end).map(|position| self.view.segment.word_u64(layout::log(position)).load(Relaxed)).collect();
        let inputs = read_log(&words, found.head.tick).ok_or_else(|| self.view.damaged("its log cannot be read"))?;
        self.check_still(found)?;
        Ok(inputs)
    }

    /// Where the log ends, if it can end there.
    fn log_end(&self, found: &Found) -> Option<u64> {
        let end = self.view.segment.word_u64(layout::LOG_END).load(Acquire);
        let length = end.checked_sub(found.extent.log_position)?;
        (length <= layout::LOG_WORDS).then_some(end)
    }

    /// Goes on writing. `restored` is the checkpoint that the program went on from: it is the last one to be overwritten. A log
    /// that was of no use begins again there.
    pub fn into_writer(self, restored: &Found) -> StateWriter {
        let (slot, log_position) = (1 - restored.slot, restored.extent.log_position);
        let log_end = self.log_end(restored).unwrap_or(log_position);
        let (segment, layout) = self.into_parts();
        segment.word_u64(layout::LOG_END).store(log_end, Release);
        StateWriter::new(segment, layout, slot, log_position, restored.extent.applied)
    }

    pub(super) fn into_parts(self) -> (Segment, Layout) {
        (self.view.segment, self.layout)
    }

    /// Whether the checkpoint is still the one that was found.
    pub fn check_still(&self, found: &Found) -> Result<(), SegmentError> {
        match (Commit { offset: layout::head(found.slot) }).is_still(&self.view.segment, found.sequence) {
            true => Ok(()),
            false => Err(self.view.damaged("somebody still writes to it")),
        }
    }
}

/// Reads log records; `None` when they are not what a writer writes. Ticks ascend from `first_tick`.
fn read_log(mut words: &[u64], first_tick: u64) -> Option<Vec<Logged>> {
    let mut records = Vec::new();
    let mut tick = first_tick;
    while let Some(first) = words.first() {
        let (kind, length) = unpack(*first);
        let record = words.get(..length as usize)?;
        let input = match kind {
            SET => Logged::Set(read_set(record)?),
            MIDI => Logged::Midi(read_midi(record)?),
            WIRE => Logged::Wire(read_wire(record)?),
            _ => return None,
        };
        if input.tick() < tick {
            return None;
        }
        tick = input.tick();
        records.push(input);
        words = &words[length as usize..];
    }
    Some(records)
}

fn read_set(record: &[u64]) -> Option<LoggedSet> {
    let [_, request, tick, shape, values @ ..] = record else { return None };
    let (steps, count) = unpack(*shape);
    if record.len() as u64 != SET_WORDS + VALUE_WORDS * u64::from(count) {
        return None;
    }
    let writes = values.as_chunks::<WRITE_WORDS>().0.iter().map(write_from_words).collect::<Option<Vec<_>>>()?;
    Some(LoggedSet { request: *request, tick: *tick, steps, writes })
}

fn read_wire(record: &[u64]) -> Option<LoggedWire> {
    let [_, wire, tick, place, element, bytes] = record else { return None };
    Some(LoggedWire { wire: *wire, tick: *tick, write: write_from_words(&[*place, *element, *bytes])? })
}

fn read_midi(record: &[u64]) -> Option<LoggedMidi> {
    let [_, request, tick, messages @ ..] = record else { return None };
    let messages = messages.iter().map(|word| Received::from_word(*word)).collect::<Option<Vec<_>>>()?;
    Some(LoggedMidi { request: *request, tick: *tick, messages })
}
