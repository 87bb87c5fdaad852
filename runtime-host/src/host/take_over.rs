//! Going on for a host that died: from what it left in shared memory to a runtime that is ready to tick (DESIGN §10).
//!
//! On the control thread. The newest complete checkpoint of a running program says what ran; its program is taken from those
//! kept ready, or loaded; memories, values on their way, trial and crossfade are put back; the ticks from there to the last
//! one that was delivered are executed once more. Nothing that the dead host wrote is believed without a look.

use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::live::{LiveReply, RequestId, Swap, SwapProgress};
use ipc::message::{HostReply, Refusal, StartRuntime};
use ipc::recovery::{Candidate, TookOver};
use ipc::segment::{SegmentError, SegmentRef, SessionId};
use ipc::state::{Found, OpenTrial, Role, StateReader, StateView};

use super::engine::{Engine, Loader};
use super::live::desk::{Desk, Office};
use super::live::handover::{Fade, PreparedBoundary, SwapWork, Trial};
use super::live::layouts::{FIRST_LAYOUT, Layouts, Revision};
use super::live::recall::Recalled;
use super::live::snapshot::Snapshot;
use super::migration::{Migration, PlanError};
use super::program::Program;
use super::spare::{Loaded, Spare};
use super::start::{Prepared, find_type, plain_refusal, prepare};
use super::tick_thread::Opening;
use crate::realtime::flush_denormals;
use crate::registry::runtime::{Assembly, Resume, Runtime};
use crate::registry::{self, RuntimeType};

/// Most ticks that are executed again. A host writes a checkpoint far more often than that.
const MAX_REPLAYED_TICKS: u64 = 16 * super::live::checkpoint::MAX_INTERVAL_TICKS;

/// A runtime that is ready to go on.
pub struct Resumed {
    pub runtime_type: &'static RuntimeType,
    pub opening: Opening,
    pub desk: Desk,
    pub took_over: TookOver,
    /// What there is to say about a trial that cannot go on, and of wires.
    pub told: Vec<HostReply>,
}

/// Everything a takeover is made with.
struct TakingOver<'a> {
    loader: &'a Loader,
    session: &'a SessionId,
    spare: &'a mut Spare,
    start: &'a StartRuntime,
    candidates: &'a [Candidate],
    runtime_type: &'static RuntimeType,
    was_prepared: bool,
}

/// A program that has been put back as its checkpoint has it.
struct Restored {
    program: Box<Program>,
    revision: Revision,
    sizes: Vec<u64>,
}

/// Brings a runtime to where it goes on.
pub fn resume(
    loader: &Loader,
    session: &SessionId,
    spare: &mut Spare,
    start: &StartRuntime,
    candidates: &[Candidate],
) -> Result<Resumed, Refusal> {
    let runtime_type = find_type(&start.runtime_type)?;
    // As on the tick thread that executed these ticks the first time.
    let _flushed = runtime_type.flushes_denormals.then(flush_denormals);
    let mut work = TakingOver { loader, session, spare, start, candidates, runtime_type, was_prepared: true };
    let segments = open_segments(candidates)?;
    let sequence = segments.iter().flat_map(|segment| &segment.found).map(|found| found.sequence).max().unwrap_or(0);
    match newest_running(&segments) {
        Some((index, found)) => work.go_on(segments, index, found, sequence),
        None => work.begin_anew(&segments),
    }
}

// ------------------------------------------------------------------------------------------------- what is there

/// A state segment and the complete checkpoints in it.
struct Opened {
    reference: SegmentRef,
    view: StateView,
    found: Vec<Found>,
}

/// The state segments of the candidates, each once.
fn open_segments(candidates: &[Candidate]) -> Result<Vec<Opened>, Refusal> {
    let mut opened: Vec<Opened> = Vec::new();
    for candidate in candidates {
        if opened.iter().all(|known| known.reference != candidate.state) {
            let view = StateView::open(&candidate.state).map_err(state_refusal)?;
            let found = view.checkpoints().map_err(state_refusal)?;
            opened.push(Opened { reference: candidate.state.clone(), view, found });
        }
    }
    Ok(opened)
}

/// The newest checkpoint of a program that ran.
fn newest_running(segments: &[Opened]) -> Option<(usize, Found)> {
    let all = segments.iter().enumerate().flat_map(|(index, segment)| segment.found.iter().map(move |found| (index, *found)));
    all.filter(|(_, found)| found.head.role != Role::Kept).max_by_key(|(_, found)| found.sequence)
}

fn state_refusal(error: SegmentError) -> Refusal {
    plain_refusal(format!("the dead host's state cannot be used: {error}"))
}

// ----------------------------------------------------------------------------------------------------- going on

impl TakingOver<'_> {
    fn go_on(&mut self, segments: Vec<Opened>, index: usize, found: Found, sequence: u64) -> Result<Resumed, Refusal> {
        let candidate = self.candidate(&segments[index].reference, found.head.revision)?;
        let kept = self.kept(&segments, &found);
        let clock = segments[index].view.clock();
        let completed = segments[index].view.completed_ticks().max(found.head.tick);
        let mut views: Vec<Option<StateView>> = segments.into_iter().map(|segment| Some(segment.view)).collect();
        let runtime = self.build(Resume { tick: completed, clock })?;
        let end = check_end(&found, completed, runtime.first_tick())?;

        let reader = take(&mut views, index)?;
        let loaded = self.loaded(candidate)?;
        let reader = reader.into_reader(loaded.engine.manifest()).map_err(state_refusal)?;
        let old = match kept {
            Some(kept) => Some((self.restore_kept(&mut views, &kept)?, kept)),
            None => None,
        };
        let (ramps, applied) = (reader.ramps(&found).map_err(state_refusal)?, reader.applied(&found).map_err(state_refusal)?);
        let inputs = reader.inputs(&found, end).map_err(state_refusal)?;

        let layout = if old.is_some() { FIRST_LAYOUT + 1 } else { FIRST_LAYOUT };
        let running = self.restore(loaded, reader, &found, layout)?;
        let identity = running.program.identity();
        let (trial, layouts) = match old {
            Some((old, kept)) => {
                let mut layouts = Layouts::new(old.sizes.clone(), old.revision.clone());
                let id = layouts.next_id();
                layouts.add(id, running.sizes.clone(), running.revision.clone());
                // Plans were checked when the swap came. Should one not fit now, playing on is worth more than the way back.
                let trial = trial(&kept, old, &running).ok();
                if trial.is_none() {
                    layouts.remove(FIRST_LAYOUT);
                }
                (trial, layouts)
            }
            None => (None, Layouts::new(running.sizes.clone(), running.revision.clone())),
        };
        let cut_short = found.head.trial.filter(|open| trial.is_none() && open.ticks_left > 0).map(|open| cut_short(open, end));
        let mut desk = Desk::new(self.office(candidate), identity, layouts);
        let mut log = Vec::new();
        desk.connect((*self.start.wiring).clone(), &mut |reply| log.push(reply));
        // What the checkpoint has stays; what the log has is put on the tape once more.
        desk.rewind(found.head.tick + u64::from(found.head.has_begun));
        let recalled = Recalled { head: found.head, sequence, ramps, applied, inputs, trial, wiring: desk.wiring() };
        let opening = Opening::recalled(runtime, running.program, self.start.is_offline, recalled);
        let took_over = self.took_over(&opening, found.head.tick);
        Ok(Resumed { runtime_type: self.runtime_type, opening, desk, took_over, told: cut_short.into_iter().chain(log).collect() })
    }

    /// Nobody has come as far as a first checkpoint: the runtime begins, as if it had not been begun before.
    fn begin_anew(&mut self, segments: &[Opened]) -> Result<Resumed, Refusal> {
        let candidate = self.candidates.first().ok_or_else(|| plain_refusal("there is nothing to go on with".to_owned()))?;
        let start = StartRuntime {
            artifact: candidate.artifact.clone(),
            state: Some(candidate.state.clone()),
            base_directory: candidate.base_directory.clone(),
            ..self.start.clone()
        };
        // Its artifact may be needed again, so nobody is told that it has been loaded.
        let prepared = prepare(self.loader, self.session, &start, &mut |_| {})?;
        let Prepared { runtime_type, runtime, program, image } = prepared;
        let delivered = segments.iter().map(|segment| segment.view.completed_ticks()).fold(runtime.first_tick(), u64::max);
        if delivered > 0 {
            let message =
                format!("{delivered} ticks were delivered, but there is no complete checkpoint to go on from; restart the runtime");
            return Err(plain_refusal(message));
        }
        let revision = Revision { manifest: Arc::clone(program.engine().manifest()), image: Arc::new(image) };
        let mut desk = Desk::new(self.office(candidate), program.identity(), Layouts::new(program.engine().sizes(), revision));
        let mut told = Vec::new();
        desk.connect((*self.start.wiring).clone(), &mut |reply| told.push(reply));
        desk.rewind(0);
        let opening = Opening::new(runtime, program, self.start.is_offline);
        self.was_prepared = false;
        let took_over = self.took_over(&opening, 0);
        Ok(Resumed { runtime_type, opening, desk, took_over, told })
    }

    fn office(&self, candidate: &Candidate) -> Office {
        Office {
            session: self.session.clone(),
            runtime: self.start.runtime.clone(),
            runtime_type: self.runtime_type,
            base_directory: candidate.base_directory.clone(),
        }
    }

    fn build(&self, resume: Resume) -> Result<Box<dyn Runtime>, Refusal> {
        let assembly = Assembly { start: self.start, resume: Some(resume) };
        (self.runtime_type.build)(&assembly).map_err(|e| plain_refusal(e.to_string()))
    }

    fn loaded(&mut self, candidate: &Candidate) -> Result<Loaded, Refusal> {
        if let Some(loaded) = self.spare.take(&self.start.runtime, candidate.revision) {
            return Ok(loaded);
        }
        self.was_prepared = false;
        Loaded::load(self.loader, &candidate.artifact, candidate.revision)
    }

    /// Fills a program's memories from its checkpoint; its next ones go into the same segment.
    fn restore(&self, loaded: Loaded, reader: StateReader, found: &Found, layout: u64) -> Result<Restored, Refusal> {
        let revision = loaded.revision();
        let mut engine = loaded.engine;
        copy_memories(&reader, found, &mut engine)?;
        let settings = registry::settings(engine.manifest());
        let binding = (self.runtime_type.bind)(self.runtime_type, &settings, &engine);
        let sizes = engine.sizes();
        let state = reader.into_writer(found);
        state.touch();
        let program = Box::new(Program::new(engine, binding, layout, Some(state)));
        Ok(Restored { program, revision, sizes })
    }

    fn took_over(&self, opening: &Opening, restored_tick: u64) -> TookOver {
        let (stage, next_tick) = (opening.stage(), opening.tick());
        TookOver {
            runtime: self.start.runtime.clone(),
            generation: self.start.generation,
            revision: stage.revision(),
            restored_tick,
            replayed_ticks: next_tick - restored_tick,
            next_tick,
            applied: stage.applied_requests(),
            trial: stage.open_trial(),
            is_frozen: stage.is_frozen(),
            is_held: stage.is_held(),
            was_prepared: self.was_prepared,
            took_us: 0,
        }
    }
}

/// The tick that goes on: the first that was not delivered. It is none that was complete, and not far from the checkpoint.
fn check_end(found: &Found, completed: u64, end: u64) -> Result<u64, Refusal> {
    if end >= completed && end <= found.head.tick + MAX_REPLAYED_TICKS {
        return Ok(end);
    }
    Err(plain_refusal(format!(
        "the newest checkpoint is of tick {}, {completed} ticks were complete and {end} were delivered: these do not belong together; restart the runtime",
        found.head.tick
    )))
}

fn take(views: &mut [Option<StateView>], index: usize) -> Result<StateView, Refusal> {
    views[index].take().ok_or_else(|| plain_refusal("two programs of a runtime share a state segment".to_owned()))
}

fn copy_memories(reader: &StateReader, found: &Found, engine: &mut Engine) -> Result<(), Refusal> {
    for index in 0..engine.manifest().memories.len() as u32 {
        reader.copy_memory(found, index, engine.memory_mut(index));
    }
    reader.check_still(found).map_err(state_refusal)
}

// ------------------------------------------------------------------------------------------- trial and crossfade

/// The program that a failed trial goes back to, or that is being blended out.
struct Kept<'a> {
    candidate: &'a Candidate,
    segment: usize,
    found: Found,
    open: OpenTrial,
    request: RequestId,
    swap: &'a Swap,
}

impl<'a> TakingOver<'a> {
    fn candidate(&self, state: &SegmentRef, revision: ContentHash) -> Result<&'a Candidate, Refusal> {
        let candidates: &'a [Candidate] = self.candidates;
        candidates.iter().rev().find(|candidate| candidate.state == *state && candidate.revision == revision).ok_or_else(|| {
            let message = format!(
                "the newest checkpoint, in the segment {}, is of the revision {}, which was not sent",
                state.name,
                revision.short()
            );
            plain_refusal(message)
        })
    }

    /// Finds it, if everything is there that is needed to go back.
    fn kept(&self, segments: &[Opened], running: &Found) -> Option<Kept<'a>> {
        let Role::Running { kept: Some(sequence) } = running.head.role else { return None };
        let open = running.head.trial?;
        let candidates: &'a [Candidate] = self.candidates;
        let swaps = candidates.iter().filter_map(|candidate| candidate.swap.as_ref());
        let (request, swap) = swaps.rev().find(|(request, _)| *request == open.request)?;
        let is_it = |found: &&Found| found.sequence == sequence && found.head.role == Role::Kept;
        let (segment, found) =
            segments.iter().enumerate().find_map(|(index, segment)| Some((index, *segment.found.iter().find(is_it)?)))?;
        let is_its = |candidate: &&Candidate| candidate.state == segments[segment].reference && candidate.revision == found.head.revision;
        let candidate = candidates.iter().rev().find(is_its)?;
        Some(Kept { candidate, segment, found, open, request: *request, swap })
    }

    fn restore_kept(&mut self, views: &mut [Option<StateView>], kept: &Kept<'_>) -> Result<Restored, Refusal> {
        let view = take(views, kept.segment)?;
        let loaded = self.loaded(kept.candidate)?;
        let reader = view.into_reader(loaded.engine.manifest()).map_err(state_refusal)?;
        self.restore(loaded, reader, &kept.found, FIRST_LAYOUT)
    }
}

/// What a swap is after its commit, once more.
fn trial(kept: &Kept<'_>, old: Restored, running: &Restored) -> Result<Trial, PlanError> {
    let Kept { open, swap, .. } = kept;
    let wants_snapshot = open.ticks_left > 0 && swap.back.is_some();
    let snapshot = wants_snapshot.then(|| Snapshot::for_program(&running.revision.manifest)).flatten();
    let snapshot_sizes = snapshot.as_ref().map_or_else(|| running.sizes.clone(), Snapshot::sizes);
    let leads_past = swap.there.as_ref().is_some_and(|there| there.from != old.revision.hash());
    let there = swap.there.clone().filter(|_| !leads_past);
    let there = there.map(|plan| Migration::prepare(plan, old.sizes.clone(), running.sizes.clone())).transpose();
    let back = if leads_past { &swap.back_to_good } else { &swap.back };
    let back = back.clone().map(|plan| Migration::prepare(plan, snapshot_sizes, old.sizes.clone())).transpose();
    Ok(Trial::Swap(Box::new(SwapWork {
        request: kept.request,
        program: old.program,
        there: there?.map(Arc::new),
        back: back?,
        back_to_good: None,
        leads_past,
        boundary: PreparedBoundary::Frame,
        trial_ticks: open.ticks_left,
        fade: Fade { done_frames: open.fade_done_frames, total_frames: open.fade_total_frames },
        snapshot,
        assets: Vec::new(),
        failed_in_a_row: kept.found.head.failed_in_a_row,
    })))
}

/// A trial ends with the host where there is nothing to go back to any more: that of a patch, whose old values it kept.
fn cut_short(open: OpenTrial, tick: u64) -> HostReply {
    HostReply::Live(LiveReply::Swap { request: open.request, progress: SwapProgress::TrialCutShort { tick } })
}
