//! A replay: one life of a runtime, driven by its log instead of by clients. Part of the state machine: see the parent module.
//!
//! The host runs up to a horizon. An entry is sent when the horizon is at its tick, and the horizon is raised past it only
//! when everything for that tick has been sent, and a change is ready; so each takes effect in the tick it did.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ipc::limits::{BLOCK_FRAMES, MAX_DUMP_ELEMENTS, MAX_RECEIVED};
use ipc::live::{Boundary, LiveChange, LiveReply, LiveRequest, Patch, SetItem, Swap, SwapProgress};
use ipc::manifest::Manifest;
use ipc::message::{CompileOutcome, ItemValue};
use ipc::midi::Received;
use ipc::segment::SegmentRef;
use runtime_host::device::midi::input::score::Score;

use super::edits::of;
use super::log::{LogEntry, Logged, RevisionText};
use super::program::Phase;
use super::runtime::Revision;
use super::{Action, Compiling, Failure, Goal, Inspection, Policy, Report, RuntimeIndex, Stage, Target, Verdict, deadlines};
use crate::change;
use crate::control::protocol::ChangeId;

/// Requests that the host has not answered at a time. With the horizons between them, half as many messages as a child may
/// leave unread before it counts as stuck.
const MAX_UNANSWERED: usize = 16;

/// The one program of a replay.
const ONLY: RuntimeIndex = RuntimeIndex(0);

/// What stands for a change of a replay where edits have a number.
const NO_CHANGE: ChangeId = ChangeId(0);

/// What a replay waits for.
#[derive(Debug)]
enum Waiting {
    Nothing,
    /// The worker or the shell has the revision of this entry.
    Compile {
        entry: Box<LogEntry>,
        artifact: Option<SegmentRef>,
    },
    /// The host builds it.
    Build {
        request: u64,
    },
    /// The host reads what its items hold at the end: requests and their answers.
    Values {
        read: BTreeMap<u64, Option<Vec<ItemValue>>>,
    },
    /// Everything has been sent.
    Done,
}

/// Requests that read what the items hold at the end: of more than eight million elements the others are left out.
const MAX_READS: usize = 16;

/// Items that are read at a time.
const MAX_READ_ITEMS: usize = 1_024;

/// A log that is being replayed.
#[derive(Debug)]
pub struct Script {
    runtime: String,
    entries: VecDeque<LogEntry>,
    /// What else it hears, until it is known in which ticks.
    scores: Vec<Score>,
    /// It is a bounce that hears these, and no log: musical time does not stand in it.
    is_bounce: bool,
    waiting: Waiting,
    /// Requests that the host has not answered, and their ticks.
    unanswered: BTreeMap<u64, u64>,
    horizon: u64,
    /// The tick at whose start it is over, where nobody listens and says when it is.
    end: Option<u64>,
    current: Option<Arc<Revision>>,
    /// What a rollback returns to.
    base: Option<Arc<Revision>>,
    /// Compiled revisions by hash, for those that are laid out against them or go back to them.
    revisions: BTreeMap<String, Arc<Revision>>,
}

impl Policy {
    /// Replays this log of one life; its first entry has become the program of the job.
    pub fn replay(&mut self, first: &RevisionText, entries: impl IntoIterator<Item = LogEntry>) {
        if let Some(program) = self.programs.first_mut() {
            program.settings = first.settings();
        }
        let mut entries: Vec<LogEntry> = entries.into_iter().flat_map(unbundled).collect();
        // What wires brought comes after everything else of its tick but a rollback that a clock decided, as it did then.
        let end = self.script_end();
        entries.retain(|entry| end.is_none_or(|end| entry.tick < end));
        entries.sort_by_key(|entry| (entry.tick, matches!(entry.what, Logged::RolledBack { is_forced: true, .. })));
        self.begin_script(entries.into(), Vec::new());
    }

    /// Lets the one program hear these, each at a port, from its first tick on.
    pub fn play_scores(&mut self, scores: Vec<Score>) {
        self.begin_script(VecDeque::new(), scores);
    }

    fn begin_script(&mut self, entries: VecDeque<LogEntry>, scores: Vec<Score>) {
        let Some(program) = self.programs.first() else { return };
        let end = self.script_end();
        self.script = Some(Script {
            runtime: program.name.clone(),
            entries,
            is_bounce: !scores.is_empty(),
            scores,
            waiting: Waiting::Nothing,
            unanswered: BTreeMap::new(),
            horizon: 0,
            end,
            current: None,
            base: None,
            revisions: BTreeMap::new(),
        });
    }

    /// Whether there is a log that says what a program is told of musical time.
    pub(super) fn is_logged(&self) -> bool {
        self.script.as_ref().is_some_and(|script| !script.is_bounce)
    }

    fn script_end(&self) -> Option<u64> {
        if let Goal::Replay { to_tick } = self.goal { Some(to_tick) } else { None }
    }

    /// Sends whatever can be sent.
    pub(super) fn advance_script(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let is_running = self.programs.first().is_some_and(|program| program.phase == Phase::Running || program.phase == Phase::Held);
        if !is_running || self.stage != Stage::Working {
            return;
        }
        let first = self.programs.first().and_then(|program| program.revision.clone());
        let Some(script) = &mut self.script else { return };
        if let (None, Some(first)) = (&script.current, first) {
            script.revisions.insert(first.hash().to_string(), Arc::clone(&first));
            let scores = std::mem::take(&mut script.scores);
            script.entries.extend(heard(&scores, &first));
            script.current = Some(first);
        }
        while let Some(script) = self.script.as_mut().filter(|script| matches!(script.waiting, Waiting::Nothing)) {
            let next = script.entries.front().map_or(script.end.unwrap_or(u64::MAX), |entry| entry.tick);
            if next > script.horizon {
                script.horizon = next;
                self.send_scripted(None, LiveChange::Proceed { to_tick: next }, actions);
            }
            let Some(script) = &mut self.script else { return };
            // Those of earlier ticks are answered as time goes on.
            if script.unanswered.len() >= MAX_UNANSWERED && script.unanswered.values().any(|tick| *tick < next) {
                return;
            }
            match script.entries.pop_front() {
                Some(entry) => self.play_entry(now_ms, entry, actions),
                None => match script.end {
                    Some(end) => self.read_at_the_end(end, actions),
                    None => script.waiting = Waiting::Done,
                },
            }
        }
    }

    /// Asks for what every item holds when all ticks below the end are complete.
    fn read_at_the_end(&mut self, end: u64, actions: &mut Vec<Action>) {
        let Some(current) = self.script.as_ref().and_then(|script| script.current.clone()) else { return };
        let mut read = BTreeMap::new();
        for items in readings(&current.plan.content.manifest) {
            self.send_scripted(Some(end), LiveChange::Get { items }, actions);
            read.insert(self.last_live_request, None);
        }
        let nothing = read.is_empty();
        if let Some(script) = &mut self.script {
            script.waiting = Waiting::Values { read };
        }
        self.send_scripted(None, LiveChange::Proceed { to_tick: end.saturating_add(1) }, actions);
        if nothing {
            self.script_is_over(Vec::new(), actions);
        }
    }

    /// It is the end, and this is what the items hold.
    fn script_is_over(&mut self, dumps: Vec<ItemValue>, actions: &mut Vec<Action>) {
        if let Some(script) = &mut self.script {
            script.waiting = Waiting::Done;
        }
        let program = &mut self.programs[ONLY.0];
        match program.phase {
            Phase::Running | Phase::Held => {
                program.phase = Phase::Done;
                actions.push(Action::Tell(Report::RunDone { dumps }));
            }
            // It has come to another end meanwhile.
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Starting { .. } => {}
            Phase::Done | Phase::Failed | Phase::Recovering { .. } | Phase::Quarantined => {}
        }
    }

    fn play_entry(&mut self, now_ms: u64, entry: LogEntry, actions: &mut Vec<Action>) {
        let at = Some(entry.tick);
        match &entry.what {
            // What wires brought has become `set`s.
            Logged::Start { .. } | Logged::Asset { .. } | Logged::Seen {} | Logged::Wired { .. } => {}
            Logged::Change { revision, .. } => self.compile_scripted(now_ms, revision.clone(), entry.clone(), actions),
            Logged::Set { values, ramp_ticks } => {
                let values = values.iter().map(|(item, bits)| SetItem { item: item.clone(), value: f64::from_bits(*bits) }).collect();
                self.send_scripted(at, LiveChange::Set { values, ramp_ticks: *ramp_ticks }, actions);
            }
            Logged::Midi { messages, .. } => self.send_scripted(at, LiveChange::Midi { messages: messages.clone() }, actions),
            Logged::Reset {} => self.send_scripted(at, LiveChange::Reset, actions),
            Logged::Freeze {} => self.send_scripted(at, LiveChange::Freeze, actions),
            Logged::Run {} => self.send_scripted(at, LiveChange::Run, actions),
            Logged::RolledBack { is_forced, to } => {
                if let Some(script) = &mut self.script {
                    let named = to.as_ref().and_then(|to| script.revisions.get(to)).cloned();
                    script.current = named.or(script.base.take()).or(script.current.take());
                }
                if *is_forced {
                    self.send_scripted(at, LiveChange::RollBack, actions);
                }
            }
        }
    }

    fn send_scripted(&mut self, at_tick: Option<u64>, what: LiveChange, actions: &mut Vec<Action>) {
        self.last_live_request += 1;
        let request = LiveRequest { request: self.last_live_request, at_tick, what };
        let Some(host) = self.programs[ONLY.0].host else { return };
        if let Some((script, tick)) = self.script.as_mut().zip(at_tick) {
            script.unanswered.insert(self.last_live_request, tick);
        }
        actions.push(Action::Live { runtime: ONLY, host, request, content: None });
    }

    fn compile_scripted(&mut self, now_ms: u64, revision: RevisionText, entry: LogEntry, actions: &mut Vec<Action>) {
        self.last_request += 1;
        let request = self.last_request;
        let Some(script) = &mut self.script else { return };
        let text = revision.program(&script.runtime);
        let previous = revision
            .previous
            .as_ref()
            .and_then(|previous| script.revisions.get(previous))
            .map(|previous| Arc::clone(&previous.plan.content));
        script.waiting = Waiting::Compile { entry: Box::new(entry), artifact: None };
        if !self.process(self.worker()).is_usable() {
            return self.end_script("the compiler-worker is gone", actions);
        }
        self.compiling = Some(Compiling { target: Target::Script, request, deadline_ms: now_ms + deadlines::COMPILE_MS });
        actions.push(Action::CompileEdit { request, text, settings: revision.settings(), previous });
    }

    pub(super) fn script_compiled(&mut self, outcome: CompileOutcome, actions: &mut Vec<Action>) {
        let Some(Script { waiting: Waiting::Compile { entry, artifact: kept @ None }, .. }) = &mut self.script else { return };
        let Logged::Change { revision, .. } = &entry.what else { return };
        match outcome {
            CompileOutcome::Artifact(artifact) => {
                *kept = Some(artifact.clone());
                let (base_directory, settings) = (revision.directory.clone(), revision.settings());
                actions.push(Action::InspectEdit { change: NO_CHANGE, artifact, base_directory, settings, is_settled: true });
            }
            CompileOutcome::Rejected(_) | CompileOutcome::Failed(_) | CompileOutcome::Checked => {
                self.end_script("a revision of the recording does not compile", actions);
            }
        }
    }

    /// The revision is compiled: sends it to the host.
    pub(super) fn script_inspected(&mut self, inspection: Inspection, actions: &mut Vec<Action>) {
        let Some(script) = &mut self.script else { return };
        let Waiting::Compile { entry, artifact: Some(artifact) } = std::mem::replace(&mut script.waiting, Waiting::Nothing) else { return };
        let Logged::Change { revision: logged, is_patch, trial_ticks, crossfade_frames, good } = &entry.what else { return };
        let (Inspection::Playable(plan), Some(current)) = (inspection, script.current.clone()) else {
            return self.end_script("a revision of the recording cannot be played", actions);
        };
        let text = logged.program(&script.runtime);
        let revision = Arc::new(Revision { text, settings: logged.settings(), plan, previous: None });
        if revision.hash().to_string() != logged.hash {
            return self.end_script("the recording was made by another build: it compiles to something else now", actions);
        }
        script.revisions.insert(logged.hash.clone(), Arc::clone(&revision));
        let good = good.as_ref().and_then(|good| script.revisions.get(good));
        let there = change::plan(of(&current), of(&revision));
        let (hash, base_directory, trial_ticks) = (revision.hash(), logged.directory.clone(), *trial_ticks);
        let what = if *is_patch {
            LiveChange::Patch(Box::new(Patch { artifact, revision: hash, plan: there, trial_ticks, base_directory }))
        } else {
            let back = Some(change::plan_back(of(&revision), of(&current)));
            let back_to_good = good.map(|good| change::plan_back(of(&revision), of(good)));
            let crossfade_frames = *crossfade_frames;
            let (there, boundary) = (Some(there), Boundary::Frame);
            LiveChange::Swap(Box::new(Swap {
                artifact,
                state: None,
                revision: hash,
                there,
                back,
                back_to_good,
                boundary,
                trial_ticks,
                crossfade_frames,
                base_directory,
            }))
        };
        script.base = Some(current);
        script.current = Some(revision);
        if !is_patch {
            script.waiting = Waiting::Build { request: self.last_live_request + 1 };
        }
        self.send_scripted(Some(entry.tick), what, actions);
    }

    pub(super) fn script_said(&mut self, reply: &LiveReply, actions: &mut Vec<Action>) {
        if self.was_told_first(reply.request()) {
            return;
        }
        let Some(script) = &mut self.script else { return };
        script.unanswered.remove(&reply.request());
        match (reply, &script.waiting) {
            (
                LiveReply::Swap { request, progress: SwapProgress::Pending { .. } | SwapProgress::Committed { .. } },
                Waiting::Build { request: ours },
            ) if request == ours => {
                script.waiting = Waiting::Nothing;
            }
            (LiveReply::Refused { reason, .. }, _) => {
                let message = format!("the host refuses what the recording says: {}", reason.message);
                self.end_script(&message, actions);
            }
            (LiveReply::Values { request, values, .. }, Waiting::Values { .. }) => self.script_read(*request, values, actions),
            (LiveReply::Swap { .. } | LiveReply::Applied { .. } | LiveReply::Values { .. }, _) => {}
        }
    }

    fn script_read(&mut self, request: u64, values: &[ItemValue], actions: &mut Vec<Action>) {
        let Some(Script { waiting: Waiting::Values { read }, .. }) = &mut self.script else { return };
        if let Some(answer @ None) = read.get_mut(&request) {
            *answer = Some(values.to_vec());
        }
        if read.values().all(Option::is_some) {
            let dumps = std::mem::take(read).into_values().flatten().flatten().collect();
            self.script_is_over(dumps, actions);
        }
    }

    pub(super) fn end_script(&mut self, why: &str, actions: &mut Vec<Action>) {
        if let Some(script) = &mut self.script {
            script.waiting = Waiting::Done;
        }
        self.fail(ONLY, Failure::NotDelivered { reason: why.to_owned() }, Verdict::Program, actions);
    }
}

/// The items of a program in the order of its modules, as many at a time as are read at a time.
fn readings(manifest: &Manifest) -> Vec<Vec<String>> {
    let mut readings: Vec<(u64, Vec<String>)> = Vec::new();
    let items = manifest.modules.iter().flat_map(|module| module.items.iter().map(move |item| (module, item)));
    for (module, item) in items.filter(|(_, item)| u64::from(item.count) <= MAX_DUMP_ELEMENTS) {
        let count = u64::from(item.count);
        match readings.last_mut().filter(|(elements, names)| elements + count <= MAX_DUMP_ELEMENTS && names.len() < MAX_READ_ITEMS) {
            Some((elements, names)) => {
                *elements += count;
                names.push(format!("{}:{}", module.id, item.name));
            }
            None => readings.push((count, vec![format!("{}:{}", module.id, item.name)])),
        }
    }
    readings.into_iter().take(MAX_READS).map(|(_, names)| names).collect()
}

/// An entry by itself; what wires brought as a `set` for each tick.
fn unbundled(entry: LogEntry) -> Vec<LogEntry> {
    let Logged::Wired { items, values } = entry.what else { return vec![entry] };
    let mut ticks: BTreeMap<u64, Vec<(String, u64)>> = BTreeMap::new();
    for (tick, item, bits) in values {
        if let Some(item) = items.get(item) {
            ticks.entry(tick).or_default().push((item.clone(), bits));
        }
    }
    ticks.into_iter().map(|(tick, values)| LogEntry { life: entry.life, tick, what: Logged::Set { values, ramp_ticks: 0 } }).collect()
}

/// What a program hears of scores, tick by tick.
fn heard(scores: &[Score], program: &Revision) -> Vec<LogEntry> {
    let frames_per_tick = if program.plan.has_sound() { BLOCK_FRAMES as u64 } else { 1 };
    let mut ticks: BTreeMap<u64, Vec<Received>> = BTreeMap::new();
    for (port, score) in (1..=u8::MAX).zip(scores) {
        for (moment, message) in &score.messages {
            let tick = moment.at_rate(program.plan.sample_rate) / frames_per_tick;
            ticks.entry(tick).or_default().push(Received { port, message: *message });
        }
    }
    let entry = |tick, messages: &[Received]| LogEntry { life: 0, tick, what: Logged::Midi { messages: messages.to_vec(), wanted: None } };
    ticks.iter().flat_map(|(tick, messages)| messages.chunks(MAX_RECEIVED).map(|messages| entry(*tick, messages))).collect()
}
