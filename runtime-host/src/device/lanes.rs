//! The control thread's table of lanes: which runtime's lane is in which slot of the mixer.
//!
//! A slot is taken from `AddLane` until the mixer has handed the lane's strip back, so a runtime may have a lane that fades
//! out and a new one at the same time, in different slots.

use std::sync::atomic::Ordering::Relaxed;

use ipc::limits::MAX_LANES;
use ipc::message::{Buses, DeviceReply, LaneStatus, OutputMap};
use ipc::segment::{SegmentError, SegmentRef, SessionId};

use super::counters::Counters;
use super::mixer::{Command, MixerControl};
use super::patchbay::Wire;
use super::strip::Strip;

/// Why a lane is not read.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error("the runtime already has a lane; remove it first")]
    Duplicate,
    #[error("all {MAX_LANES} lanes are in use; remove one first")]
    Full,
    #[error("the lane {0} belongs to another session")]
    ForeignSession(String),
    #[error("MIDI cannot be sent: {0}")]
    Midi(std::io::Error),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

struct Entry {
    runtime: String,
    /// Where its sound goes on a tape: the same for all lanes of a runtime.
    track: Option<usize>,
    /// The session's block in which it was first heard.
    started_block: Option<u64>,
    is_leaving: bool,
    /// A gain, and the frames to get there, that the mixer has not been told yet.
    untold_gain: Option<(f32, u32)>,
    /// Channels that the mixer has not been told yet.
    untold_route: Option<OutputMap>,
    /// What the mixer has been told of its input, and of whether it is heard directly.
    told_wire: (Wire, bool),
}

/// The table.
pub struct Lanes {
    session: SessionId,
    /// Who listens to whom.
    buses: Buses,
    slots: [Option<Entry>; MAX_LANES],
}

impl Lanes {
    pub fn new(session: SessionId) -> Self {
        Self { session, buses: Buses::default(), slots: std::array::from_fn(|_| None) }
    }

    /// The track for a lane's sound: that of another lane of its runtime, or a free one. `taken` are those of runtimes that are
    /// on a tape, whether they have a lane or not. `None`: there is none left.
    pub fn track_for(&self, lane: &str, taken: &[(usize, String)]) -> Option<usize> {
        let used: Vec<(usize, String)> = self.tracks().into_iter().chain(taken.iter().cloned()).collect();
        let own = used.iter().find(|(_, name)| name == runtime_of(lane)).map(|(track, _)| *track);
        own.or_else(|| (0..MAX_LANES).find(|track| used.iter().all(|(other, _)| other != track)))
    }

    /// The runtimes that have a lane, with their tracks.
    pub fn tracks(&self) -> Vec<(usize, String)> {
        let mut tracks: Vec<(usize, String)> = Vec::new();
        for entry in self.slots.iter().flatten() {
            let Some(track) = entry.track else { continue };
            if !tracks.iter().any(|(other, _)| *other == track) {
                tracks.push((track, runtime_of(&entry.runtime).to_owned()));
            }
        }
        tracks
    }

    /// Maps a lane with `open`, and hands its strip to the mixer.
    pub fn add(
        &mut self,
        runtime: &str,
        lane: &SegmentRef,
        track: Option<usize>,
        open: impl FnOnce(&SegmentRef) -> Result<Strip, SegmentError>,
        counters: &Counters,
        mixer: &mut MixerControl,
    ) -> Result<(), LaneError> {
        if self.slot_of(runtime).is_some() {
            return Err(LaneError::Duplicate);
        }
        let slot = self.slots.iter().position(Option::is_none).ok_or(LaneError::Full)?;
        if !lane.name.contains(self.session.as_str()) {
            return Err(LaneError::ForeignSession(lane.name.clone()));
        }
        let mut strip = open(lane)?;
        // It comes connected: a moment later it would have heard silence.
        let told_wire = self.wire_of(runtime);
        strip.connect_rt(told_wire.0, told_wire.1, 0);
        counters.lanes[slot].reset();
        if !mixer.send(Command::Add { slot, strip, track }) {
            return Err(LaneError::Full);
        }
        self.slots[slot] = Some(Entry {
            runtime: runtime.to_owned(),
            track,
            started_block: None,
            is_leaving: false,
            untold_gain: None,
            untold_route: None,
            told_wire,
        });
        self.tell_wires(mixer);
        Ok(())
    }

    /// Connects the lanes, those that are still to come included.
    pub fn connect(&mut self, buses: Buses, mixer: &mut MixerControl) {
        self.buses = buses;
        self.tell_wires(mixer);
    }

    /// Hands over what the mixer has not been told yet of how lanes are connected.
    pub fn tell_wires(&mut self, mixer: &mut MixerControl) {
        for slot in 0..self.slots.len() {
            let Some(wire) = self.slots[slot].as_ref().filter(|entry| !entry.is_leaving).map(|entry| self.wire_of(&entry.runtime)) else {
                continue;
            };
            if let Some(entry) = &mut self.slots[slot]
                && entry.told_wire != wire
                && mixer.send_if_quiet(Command::Wire { slot, wire: wire.0, is_direct: wire.1 })
            {
                entry.told_wire = wire;
            }
        }
    }

    fn wire_of(&self, runtime: &str) -> (Wire, bool) {
        let mut wire = Wire::default();
        for bus in self.buses.list.iter().filter(|bus| bus.to == runtime) {
            match bus.from.as_deref().map(|from| self.slot_of(from)) {
                None => wire.hears_device = true,
                Some(Some(source)) => wire.sources |= 1 << source,
                Some(None) => wire.awaits_source = true,
            }
        }
        (wire, !self.buses.unheard.iter().any(|unheard| unheard == runtime))
    }

    /// Whether anybody listens to the device's input.
    pub fn hears_device(&self) -> bool {
        self.buses.list.iter().any(|bus| bus.from.is_none() && self.slot_of(&bus.to).is_some())
    }

    /// Lets a lane fade out; false when the runtime has none.
    pub fn remove(&mut self, runtime: &str, mixer: &mut MixerControl) -> bool {
        let Some(slot) = self.slot_of(runtime) else { return false };
        if let Some(entry) = &mut self.slots[slot] {
            entry.is_leaving = true;
        }
        let is_told = mixer.send(Command::Remove { slot });
        self.tell_wires(mixer);
        is_told
    }

    /// Brings a lane to another gain. One that is no number, or negative, is silence. A runtime without a lane is fine.
    pub fn set_gain(&mut self, runtime: &str, gain: f32, ramp_frames: u32, mixer: &mut MixerControl) {
        let gain = if gain.is_finite() { gain.max(0.0) } else { 0.0 };
        if let Some(entry) = self.slot_of(runtime).and_then(|slot| self.slots[slot].as_mut()) {
            entry.untold_gain = Some((gain, ramp_frames));
        }
        self.tell_levels(mixer);
    }

    /// Brings a lane to other channels of the device. A gain that is no number is silence. A runtime without a lane is fine.
    pub fn set_output(&mut self, runtime: &str, route: OutputMap, mixer: &mut MixerControl) {
        let gain = if route.gain.is_finite() { route.gain.max(0.0) } else { 0.0 };
        if let Some(entry) = self.slot_of(runtime).and_then(|slot| self.slots[slot].as_mut()) {
            entry.untold_route = Some(OutputMap { gain, ..route });
        }
        self.tell_levels(mixer);
    }

    /// Hands over the gains and routes that found no room before.
    pub fn tell_levels(&mut self, mixer: &mut MixerControl) {
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            let Some(entry) = entry else { continue };
            if let Some((gain, ramp_frames)) = entry.untold_gain
                && mixer.send_if_quiet(Command::Gain { slot, gain, ramp_frames })
            {
                entry.untold_gain = None;
            }
            if let Some(route) = entry.untold_route
                && mixer.send_if_quiet(Command::Output { slot, route })
            {
                entry.untold_route = None;
            }
        }
    }

    /// The lane in this slot is about to be heard.
    pub fn on_started(&mut self, slot: usize, block: u64) -> Option<DeviceReply> {
        let entry = self.slots.get_mut(slot)?.as_mut()?;
        entry.started_block = Some(block);
        Some(DeviceReply::LaneStarted { runtime: entry.runtime.clone(), block })
    }

    /// The mixer is done with the strip in this slot.
    pub fn on_removed(&mut self, slot: usize, strip: Strip) -> Option<DeviceReply> {
        drop(strip);
        let entry = self.slots.get_mut(slot)?.take()?;
        Some(DeviceReply::LaneRemoved { runtime: entry.runtime })
    }

    /// Whether something is about to happen that others wait for: a lane begins or goes.
    pub fn is_changing(&self) -> bool {
        self.slots.iter().flatten().any(|entry| entry.started_block.is_none() || entry.is_leaving)
    }

    /// What has been told about the lanes that stay.
    pub fn describe(&self) -> Vec<DeviceReply> {
        let mut replies = Vec::new();
        for entry in self.slots.iter().flatten().filter(|entry| !entry.is_leaving) {
            let runtime = || entry.runtime.clone();
            replies.push(DeviceReply::LaneMapped { runtime: runtime() });
            replies.extend(entry.started_block.map(|block| DeviceReply::LaneStarted { runtime: runtime(), block }));
        }
        replies
    }

    /// Counters of the lanes that stay, and their peaks since the last time.
    pub fn status(&self, counters: &Counters) -> Vec<LaneStatus> {
        let status = |(slot, entry): (usize, &Option<Entry>)| {
            let entry = entry.as_ref().filter(|entry| !entry.is_leaving)?;
            let counters = &counters.lanes[slot];
            Some(LaneStatus {
                runtime: entry.runtime.clone(),
                underruns: counters.underruns.load(Relaxed),
                input_underruns: counters.input_underruns.load(Relaxed),
                last_underrun_block: counters.last_underrun_block.load(Relaxed),
                peak: counters.peak.take(),
            })
        };
        self.slots.iter().enumerate().filter_map(status).collect()
    }

    /// The slot of the runtime's lane that stays.
    fn slot_of(&self, runtime: &str) -> Option<usize> {
        self.slots.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.runtime == runtime && !entry.is_leaving))
    }
}

/// The runtime that a lane is of: `drums/2` is that of its second host.
pub fn runtime_of(lane: &str) -> &str {
    lane.split('/').next().unwrap_or(lane)
}
