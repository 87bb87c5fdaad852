//! Plays a script, as the supervisor would: it sends requests, hears what is played, and when the host dies has another one
//! go on, sends again what was not applied, and knows what ran from what it is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::artifact::Artifact;
use ipc::fault::Fault;
use ipc::lane::{Block, LaneReader, SILENCE};
use ipc::live::{LiveChange, LiveReply, LiveRequest, Patch, RequestId, SetItem, Swap, SwapProgress};
use ipc::message::{HostReply, HostRequest, Refusal, StartRuntime};
use ipc::recovery::{Candidate, Prepare, TakeOver, TookOver};
use ipc::segment::{SegmentRef, Session};

use super::script::{Step, What};
use crate::harness::{Host, start};
use crate::live::band::Band;
use crate::live::chance::Chance;
use crate::live::plans;

/// Blocks that are computed at a time: what the lane holds, with room to spare.
const PORTION: u64 = 32;
/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often somebody kills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Violence {
    /// In so many of a hundred portions that are played.
    pub in_a_hundred: u64,
    /// The same while a request is on its way.
    pub requests_in_a_hundred: u64,
    /// Whether the spare has the programs ready.
    pub is_spare_warm: bool,
}

pub const NONE: Violence = Violence { in_a_hundred: 0, requests_in_a_hundred: 0, is_spare_warm: false };

/// A program that has been sent.
struct Sent {
    artifact: Artifact,
    candidate: Candidate,
}

pub struct Show {
    host: Host,
    spare: Option<Host>,
    reader: LaneReader,
    start: StartRuntime,
    violence: Violence,
    chance: Chance,
    /// Every program that was sent, oldest first.
    sent: Vec<Sent>,
    /// What runs once everything that was sent has happened: index into `sent`.
    current: usize,
    /// What the running change was made from.
    before: usize,
    pub heard: Vec<Block>,
    next_request: RequestId,
    /// Sent and neither answered nor known to be applied.
    open: Vec<LiveRequest>,
    /// Every answer there was, in order.
    pub replies: Vec<LiveReply>,
    /// Every failure that was told, in order.
    pub faults: Vec<Fault>,
    pub takeovers: Vec<TookOver>,
    generation: u64,
    /// When anything but a status was heard last.
    heard_at: Instant,
}

impl Show {
    pub fn new(artifact: Artifact, violence: Violence, seed: u64) -> Self {
        Self::with(artifact, violence, seed, |_| {})
    }

    pub fn with(artifact: Artifact, violence: Violence, seed: u64, change: impl FnOnce(&mut StartRuntime)) -> Self {
        let session = Arc::new(Session::open().unwrap());
        let mut host = process(&session);
        let segment = host.publish(&artifact);
        let state = host.state(&artifact);
        let (lane, reader) = host.lane();
        let mut request = start(segment.clone(), Some(lane), "audio", 48_000);
        request.run_until = Some(0);
        request.state = Some(state.clone());
        change(&mut request);
        host.send(HostRequest::Start(request.clone()));
        host.wait_until_started();
        let candidate = candidate(&artifact, segment, state);
        let sent = vec![Sent { artifact, candidate }];
        let mut show = Self {
            host,
            spare: None,
            reader,
            start: request,
            violence,
            chance: Chance(seed),
            sent,
            current: 0,
            before: 0,
            heard: Vec::new(),
            next_request: 1,
            open: Vec::new(),
            replies: Vec::new(),
            faults: Vec::new(),
            takeovers: Vec::new(),
            generation: 1,
            heard_at: Instant::now(),
        };
        show.ready_a_spare();
        show
    }

    /// Plays all of a script and returns what was heard.
    pub fn play(mut self, script: &[Step]) -> Self {
        for step in script {
            self.act(&step.what);
            self.play_on(step.ticks);
            if let What::Swap { band: Band { trouble: Some(_), .. }, .. } = &step.what {
                self.wait_for_rollback();
            }
        }
        self
    }

    // --------------------------------------------------------------------------------------------------- requests

    fn act(&mut self, what: &What) {
        let change = match what {
            What::Nothing => return,
            What::Swap { band, trial_ticks, crossfade_frames, boundary } => self.swap(band, |swap| {
                swap.trial_ticks = *trial_ticks;
                swap.crossfade_frames = *crossfade_frames;
                swap.boundary = boundary.clone();
            }),
            What::Patch { band, trial_ticks } => self.patch(band, *trial_ticks),
            What::Set { item, value, ramp_ticks } => {
                LiveChange::Set { values: vec![SetItem { item: item.clone(), value: *value }], ramp_ticks: *ramp_ticks }
            }
            What::Freeze => LiveChange::Freeze,
            What::Run => LiveChange::Run,
            What::Reset => LiveChange::Reset,
        };
        self.send(change);
    }

    pub fn send(&mut self, what: LiveChange) -> RequestId {
        let request = self.next_request;
        self.next_request += 1;
        if let LiveChange::Swap(swap) = &what {
            let revision = swap.revision;
            let sent = self.sent.iter_mut().rev().find(|sent| sent.candidate.revision == revision).unwrap();
            sent.candidate.swap = Some((request, swap.clone()));
        }
        let request = LiveRequest { request, at_tick: None, what };
        self.open.push(request.clone());
        self.host.send(HostRequest::Live(request.clone()));
        if self.is_struck(self.violence.requests_in_a_hundred) {
            self.strike();
        }
        self.wait_until_pending(request.request);
        request.request
    }

    fn swap(&mut self, band: &Band, change: impl FnOnce(&mut Swap)) -> LiveChange {
        let new = band.artifact();
        let (artifact, state) = (self.host.publish(&new), self.host.state(&new));
        let old = &self.sent[self.current].artifact;
        let mut swap = Swap {
            artifact: artifact.clone(),
            state: Some(state.clone()),
            revision: new.manifest.revision,
            there: Some(plans::there(old, &new)),
            back: Some(plans::back(&new, old)),
            back_to_good: None,
            boundary: ipc::live::Boundary::Frame,
            trial_ticks: 0,
            crossfade_frames: 0,
            base_directory: PathBuf::from("/"),
        };
        change(&mut swap);
        self.note(new, artifact, state);
        LiveChange::Swap(Box::new(swap))
    }

    fn patch(&mut self, band: &Band, trial_ticks: u32) -> LiveChange {
        let new = band.artifact();
        let artifact = self.host.publish(&new);
        let mut plan = plans::there(&self.sent[self.current].artifact, &new);
        plan.copies.clear();
        let state = self.sent[self.current].candidate.state.clone();
        self.note(new.clone(), artifact.clone(), state);
        LiveChange::Patch(Box::new(Patch {
            artifact,
            revision: new.manifest.revision,
            plan,
            trial_ticks,
            base_directory: PathBuf::from("/"),
        }))
    }

    fn note(&mut self, artifact: Artifact, segment: SegmentRef, state: SegmentRef) {
        let candidate = candidate(&artifact, segment, state);
        self.sent.push(Sent { artifact, candidate });
        self.before = self.current;
        self.current = self.sent.len() - 1;
        self.ready_programs();
    }

    /// A swap counts from the moment at which it is pending; a host that dies before does so again.
    fn wait_until_pending(&mut self, request: RequestId) {
        let is_swap = |open: &LiveRequest| open.request == request && matches!(open.what, LiveChange::Swap(_));
        while self.open.iter().any(is_swap) && !self.has_been_pending(request) {
            self.hear_reply();
        }
    }

    fn has_been_pending(&self, request: RequestId) -> bool {
        let mut since = self.replies.iter().rev();
        since.any(|reply| reply.request() == request)
    }

    /// The program that was sent last has failed: what it was made from runs again.
    fn wait_for_rollback(&mut self) {
        while self.current == self.sent.len() - 1 {
            self.hear_reply();
        }
    }

    // ------------------------------------------------------------------------------------------------------ replies

    fn hear_reply(&mut self) {
        let reply = self.host.next();
        // A host that says nothing but how it is would be listened to for ever.
        if matches!(reply, HostReply::Status(_)) {
            assert!(self.heard_at.elapsed() < DEADLINE, "no answer to {:?}", self.open);
        } else {
            self.heard_at = Instant::now();
        }
        self.hear(reply);
    }

    /// What `wanted` finds in the first answer, given or to come, in which it finds anything.
    pub fn hear_until<T>(&mut self, wanted: impl Fn(&LiveReply) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.replies.iter().find_map(&wanted) {
                return found;
            }
            self.hear_reply();
        }
    }

    fn hear(&mut self, reply: HostReply) {
        let reply = match reply {
            HostReply::Live(reply) => reply,
            HostReply::Faulted { fault, .. } => return self.faults.push(fault),
            HostReply::Refused { reason, .. } => panic!("refused: {}", reason.message),
            _ => return,
        };
        if let LiveReply::Swap { progress: SwapProgress::RolledBack { .. }, .. } = reply {
            self.current = self.before;
        }
        let is_pending = matches!(reply, LiveReply::Swap { progress: SwapProgress::Pending { .. }, .. });
        if !is_pending {
            self.open.retain(|open| open.request != reply.request());
        }
        self.replies.push(reply);
    }

    /// Hears everything until all requests have been answered, but for those that wait for their boundary.
    pub fn settle(&mut self) {
        while self.open.iter().any(|open| !self.waits_for_boundary(open)) {
            self.hear_reply();
        }
    }

    /// Waits until a failure has been told.
    pub fn hear_fault(&mut self) {
        while self.faults.is_empty() {
            self.hear_reply();
        }
    }

    fn waits_for_boundary(&self, open: &LiveRequest) -> bool {
        let LiveChange::Swap(swap) = &open.what else { return false };
        swap.boundary != ipc::live::Boundary::Frame && self.has_been_pending(open.request)
    }

    /// Hears what there is to hear about a request until `is_it` is.
    pub fn hear_of(&mut self, request: RequestId, is_it: impl Fn(&SwapProgress) -> bool) {
        self.hear_until(|reply| match reply {
            LiveReply::Swap { request: of, progress } if *of == request && is_it(progress) => Some(()),
            _ => None,
        });
    }

    // -------------------------------------------------------------------------------------------------------- sound

    fn play_on(&mut self, ticks: u64) {
        let end = self.heard.len() as u64 + ticks;
        while (self.heard.len() as u64) < end {
            let next = self.heard.len() as u64;
            let portion = (next + PORTION).min(end);
            self.proceed(portion);
            self.reader.demand_rt(portion);
            if self.is_struck(self.violence.in_a_hundred) {
                self.linger();
                self.strike();
                self.proceed(portion);
            }
            for number in next..portion {
                let block = self.block(number);
                self.heard.push(block);
            }
        }
        self.settle();
    }

    fn proceed(&mut self, to_tick: u64) {
        self.host.send(HostRequest::Live(LiveRequest { request: 0, at_tick: None, what: LiveChange::Proceed { to_tick } }));
    }

    fn block(&self, number: u64) -> Block {
        let (mut block, began) = (SILENCE, Instant::now());
        while !self.reader.wait_until_written_rt(number, Duration::from_millis(100)) {
            assert!(began.elapsed() < DEADLINE, "block {number} never came");
        }
        assert!(self.reader.read_rt(number, &mut block), "block {number}");
        block
    }

    // ------------------------------------------------------------------------------------------------------ violence

    fn is_struck(&mut self, in_a_hundred: u64) -> bool {
        in_a_hundred > 0 && self.chance.below(100) < in_a_hundred
    }

    /// Lets the host get somewhere: sometimes nowhere, sometimes through with all of it.
    fn linger(&mut self) {
        let began = Instant::now();
        let us = self.chance.below(400);
        while began.elapsed() < Duration::from_micros(us) {
            std::hint::spin_loop();
        }
    }

    /// Kills the host, and has another one go on.
    pub fn strike(&mut self) {
        let next = self.spare.take().unwrap_or_else(|| process(&self.host.session));
        let last_words = self.host.kill(next);
        last_words.into_iter().for_each(|reply| self.hear(reply));
        let request = self.take_over_request(Vec::new());
        self.try_take_over(request).unwrap();
        self.ready_a_spare();
    }

    /// Kills the host; another one waits for what it is told.
    pub fn kill_and_wait(&mut self) {
        let next = process(&self.host.session);
        let last_words = self.host.kill(next);
        last_words.into_iter().for_each(|reply| self.hear(reply));
    }

    /// Has the host of now go on; what was sent and not applied is sent again.
    pub fn try_take_over(&mut self, request: TakeOver) -> Result<(), Refusal> {
        self.host.send(HostRequest::TakeOver(Box::new(request)));
        let took_over = loop {
            match self.host.next() {
                HostReply::TookOver(took_over) => break *took_over,
                HostReply::Refused { reason, .. } => return Err(reason),
                other => self.hear(other),
            }
        };
        self.recover(took_over);
        Ok(())
    }

    /// A state segment that nobody has written to, for the first program.
    pub fn fresh_state(&mut self) -> SegmentRef {
        self.host.state(&self.sent[0].artifact)
    }

    pub fn take_over_request(&mut self, first: Vec<LiveRequest>) -> TakeOver {
        self.generation += 1;
        let start = StartRuntime { generation: self.generation, ..self.start.clone() };
        let candidates = self.sent.iter().map(|sent| sent.candidate.clone()).collect();
        TakeOver { start, candidates, first }
    }

    fn recover(&mut self, took_over: TookOver) {
        assert_eq!(took_over.generation, self.generation);
        self.open.retain(|open| took_over.applied.iter().all(|(request, _)| *request != open.request));
        // A swap that was pending is pending no more.
        self.replies.retain(|reply| !self.open.iter().any(|open| open.request == reply.request()));
        let waits = self.open.iter().any(|open| matches!(open.what, LiveChange::Swap(_) | LiveChange::Patch(_)));
        if !waits {
            self.current = self.sent.iter().rposition(|sent| sent.candidate.revision == took_over.revision).unwrap();
        }
        for open in &self.open {
            self.host.send(HostRequest::Live(open.clone()));
        }
        self.takeovers.push(took_over);
        for open in self.open.clone() {
            self.wait_until_pending(open.request);
        }
    }

    fn ready_a_spare(&mut self) {
        let is_violent = self.violence.in_a_hundred + self.violence.requests_in_a_hundred > 0;
        if is_violent {
            self.spare = Some(process(&self.host.session));
            self.ready_programs();
        }
    }

    fn ready_programs(&mut self) {
        let Some(spare) = self.spare.as_mut().filter(|_| self.violence.is_spare_warm) else { return };
        let from = self.sent.len().saturating_sub(2);
        for sent in &self.sent[from..] {
            let candidate = &sent.candidate;
            spare.send(HostRequest::Prepare(Box::new(Prepare {
                runtime: self.start.runtime.clone(),
                runtime_type: self.start.runtime_type.clone(),
                revision: candidate.revision,
                artifact: candidate.artifact.clone(),
            })));
            let revision = candidate.revision;
            spare.wait_for(|reply| matches!(reply, HostReply::Prepared { revision: ready, .. } if *ready == revision).then_some(()));
        }
    }

    /// The host of now.
    pub fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    pub fn states(&self) -> Vec<SegmentRef> {
        self.sent.iter().map(|sent| sent.candidate.state.clone()).collect()
    }
}

fn process(session: &Arc<Session>) -> Host {
    Host::start_process(Arc::clone(session), "a_host_process")
}

fn candidate(artifact: &Artifact, segment: SegmentRef, state: SegmentRef) -> Candidate {
    Candidate { revision: artifact.manifest.revision, artifact: segment, state, base_directory: PathBuf::from("/"), swap: None }
}
