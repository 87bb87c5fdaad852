//! A runtime that is paced by its horizon: the test says how far it plays, and hears every block.

use std::path::PathBuf;
use std::time::Duration;

use ipc::artifact::Artifact;
use ipc::lane::{Block, LaneReader, SILENCE};
use ipc::live::{Boundary, Carried, LiveChange, LiveReply, LiveRequest, Patch, RequestId, SetItem, Swap, SwapProgress};
use ipc::message::{ElementValues, HostReply, HostRequest};
use ipc::segment::SegmentRef;

use super::band::Band;
use super::plans;
use crate::harness::{Host, start};

/// Blocks that are computed at a time: what the lane holds.
const PORTION: u64 = 32;

pub struct Rig {
    pub host: Host,
    pub reader: LaneReader,
    /// What runs once everything that was sent has been committed.
    pub current: Artifact,
    /// Every block so far.
    pub heard: Vec<Block>,
    next_request: RequestId,
    /// Live replies that nobody has asked for yet.
    replies: Vec<LiveReply>,
    /// Where the checkpoints of the program go that was sent last, if they are kept.
    pub state: Option<SegmentRef>,
}

impl Rig {
    pub fn start(band: &Band) -> Self {
        Self::start_artifact(band.artifact())
    }

    pub fn start_artifact(artifact: Artifact) -> Self {
        Self::start_with(artifact, true, PathBuf::from("/"))
    }

    /// A rig whose programs are checkpointed, or not.
    pub fn start_keeping(band: &Band, keeps_state: bool) -> Self {
        Self::start_as(band.artifact(), true, PathBuf::from("/"), keeps_state)
    }

    pub fn start_with(artifact: Artifact, is_offline: bool, base_directory: PathBuf) -> Self {
        Self::start_as(artifact, is_offline, base_directory, false)
    }

    fn start_as(artifact: Artifact, is_offline: bool, base_directory: PathBuf, keeps_state: bool) -> Self {
        let mut host = Host::start();
        let segment = host.publish(&artifact);
        let (lane, reader) = host.lane();
        let mut request = start(segment, Some(lane), "audio", 48_000);
        request.run_until = Some(0);
        request.is_offline = is_offline;
        request.base_directory = base_directory;
        let state = keeps_state.then(|| host.state(&artifact));
        request.state = state.clone();
        host.send(HostRequest::Start(request));
        host.wait_until_started();
        Self { host, reader, current: artifact, heard: Vec::new(), next_request: 1, replies: Vec::new(), state }
    }

    /// A rig around a runtime that has been started already. Without a lane nothing is heard.
    pub fn around(host: Host, reader: LaneReader, current: Artifact) -> Self {
        Self { host, reader, current, heard: Vec::new(), next_request: 1, replies: Vec::new(), state: None }
    }

    pub fn send(&mut self, what: LiveChange) -> RequestId {
        self.send_at(None, what)
    }

    pub fn send_at(&mut self, at_tick: Option<u64>, what: LiveChange) -> RequestId {
        let request = self.next_request;
        self.next_request += 1;
        self.host.send(HostRequest::Live(LiveRequest { request, at_tick, what }));
        request
    }

    /// Plays all ticks below `tick`. Everything sent before takes effect where it says.
    pub fn play_to(&mut self, tick: u64) {
        while (self.heard.len() as u64) < tick {
            let next = self.heard.len() as u64;
            let portion = (next + PORTION).min(tick);
            self.send(LiveChange::Proceed { to_tick: portion });
            self.reader.demand_rt(portion);
            for number in next..portion {
                self.heard.push(self.block(number));
            }
        }
    }

    fn block(&self, number: u64) -> Block {
        let mut block = SILENCE;
        for _ in 0..600 {
            if self.reader.wait_until_written_rt(number, Duration::from_millis(100)) {
                assert!(self.reader.read_rt(number, &mut block), "block {number}");
                return block;
            }
        }
        panic!("block {number} never came");
    }

    /// The next reply to this request, in the order in which they come.
    pub fn answer(&mut self, request: RequestId) -> LiveReply {
        loop {
            if let Some(index) = self.replies.iter().position(|reply| reply.request() == request) {
                return self.replies.remove(index);
            }
            let reply = self.host.wait_for(|reply| match reply {
                HostReply::Live(reply) => Some(reply.clone()),
                _ => None,
            });
            self.replies.push(reply);
        }
    }

    pub fn progress(&mut self, request: RequestId) -> SwapProgress {
        match self.answer(request) {
            LiveReply::Swap { progress, .. } => progress,
            other => panic!("{other:?}"),
        }
    }

    pub fn wait_until_pending(&mut self, request: RequestId) {
        assert!(matches!(self.progress(request), SwapProgress::Pending { .. }));
    }

    /// The tick in which a swap was committed, and what it carried.
    pub fn committed(&mut self, request: RequestId) -> (u64, Carried) {
        match self.progress(request) {
            SwapProgress::Committed { tick, carried, .. } => (tick, carried),
            other => panic!("{other:?}"),
        }
    }

    pub fn applied(&mut self, request: RequestId) -> u64 {
        match self.answer(request) {
            LiveReply::Applied { tick, .. } => tick,
            other => panic!("{other:?}"),
        }
    }

    pub fn refused(&mut self, request: RequestId) -> String {
        match self.answer(request) {
            LiveReply::Refused { reason, .. } => reason.message,
            other => panic!("{other:?}"),
        }
    }

    pub fn values(&mut self, request: RequestId) -> (u64, Vec<ElementValues>) {
        match self.answer(request) {
            LiveReply::Values { tick, values, .. } => (tick, values.into_iter().map(|value| value.values).collect()),
            other => panic!("{other:?}"),
        }
    }

    /// Replies that have come and that nobody has asked for, apart from those to `Proceed`.
    pub fn rest(&mut self) -> Vec<LiveReply> {
        self.replies.drain(..).filter(|reply| !matches!(reply, LiveReply::Applied { carried: None, .. })).collect()
    }

    /// A swap from what runs to `band`, with plans both ways and a trial of `trial_ticks`.
    pub fn swap_to(&mut self, band: &Band, change: impl FnOnce(&mut Swap)) -> LiveChange {
        self.swap_of(band.artifact(), change)
    }

    /// Sends such a swap to any artifact.
    pub fn swap_between(&mut self, new: &Artifact, change: impl FnOnce(&mut Swap)) -> RequestId {
        let swap = self.swap_of(new.clone(), change);
        self.send(swap)
    }

    fn swap_of(&mut self, new: Artifact, change: impl FnOnce(&mut Swap)) -> LiveChange {
        let mut swap = Swap {
            artifact: self.host.publish(&new),
            state: self.state.is_some().then(|| self.host.state(&new)),
            revision: new.manifest.revision,
            there: Some(plans::there(&self.current, &new)),
            back: Some(plans::back(&new, &self.current)),
            back_to_good: None,
            boundary: Boundary::Frame,
            trial_ticks: 0,
            crossfade_frames: 0,
            base_directory: PathBuf::from("/"),
        };
        change(&mut swap);
        self.state = swap.state.clone();
        self.current = new;
        LiveChange::Swap(Box::new(swap))
    }

    /// Sends such a swap and waits until it is pending.
    pub fn swap(&mut self, band: &Band, change: impl FnOnce(&mut Swap)) -> RequestId {
        let swap = self.swap_to(band, change);
        let request = self.send(swap);
        self.wait_until_pending(request);
        request
    }

    pub fn patch_to(&mut self, band: &Band, trial_ticks: u32) -> LiveChange {
        let new = band.artifact();
        let mut plan = plans::there(&self.current, &new);
        plan.copies.clear();
        let patch = Patch {
            artifact: self.host.publish(&new),
            revision: new.manifest.revision,
            plan,
            trial_ticks,
            base_directory: PathBuf::from("/"),
        };
        self.current = new;
        LiveChange::Patch(Box::new(patch))
    }
}

pub fn set(item: &str, value: f64) -> LiveChange {
    ramp(item, value, 0)
}

pub fn ramp(item: &str, value: f64, ramp_ticks: u32) -> LiveChange {
    LiveChange::Set { values: vec![SetItem { item: item.to_owned(), value }], ramp_ticks }
}

pub fn get(items: &[&str]) -> LiveChange {
    LiveChange::Get { items: items.iter().map(|item| (*item).to_owned()).collect() }
}

/// Time was stopped in `tick`, or goes on from there: the block is joined to the last sample before it.
pub fn join(blocks: &mut [Block], tick: usize) {
    let before = tick.checked_sub(1).map_or(SILENCE, |before| blocks[before]);
    for (samples, before) in blocks[tick].iter_mut().zip(before) {
        for (frame, sample) in samples.iter_mut().enumerate() {
            let gain = (frame + 1) as f32 / 128.0;
            *sample = *sample * gain + before[127] * (1.0 - gain);
        }
    }
}

/// The first place where two recordings differ, for a message that can be read.
#[track_caller]
pub fn assert_heard(heard: &[Block], expected: &[Block]) {
    for (tick, (heard, expected)) in heard.iter().zip(expected).enumerate() {
        for (channel, (heard, expected)) in heard.iter().zip(expected).enumerate() {
            for (frame, (heard, expected)) in heard.iter().zip(expected).enumerate() {
                assert_eq!(
                    heard.to_bits(),
                    expected.to_bits(),
                    "tick {tick}, channel {channel}, frame {frame}: {heard} and not {expected}"
                );
            }
        }
    }
    assert_eq!(heard.len(), expected.len());
}
