//! The tick thread: runs a program tick by tick, in real time.
//!
//! Owned by the control thread, which starts and ends it. The two meet in wait-free queues and atomics only: commands go in,
//! outcomes come out ([`super::live`]), counters are read. Nothing is allocated, freed, locked or formatted here, and the only
//! system calls are the waits of the runtime type and its horizon (DESIGN §5, P9); the tests of `realtime_allocation.rs` run
//! it under an allocator that notices. What it owns when it ends goes back to the control thread to be freed there.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::crash;
use ipc::engine::TICK_THREAD_STACK_BYTES;

use super::horizon::Horizon;
use super::live::handover::{Command, Outcome};
use super::live::recall::Recalled;
use super::live::stage::{Leftovers, Stage, StageDoor};
use super::program::Program;
use crate::realtime::{RealtimeSection, flush_denormals, monotonic_ns_rt, promote_current_thread, tighten_timer_slack};
use crate::registry::RuntimeType;
use crate::registry::runtime::Runtime;

/// Longest wait before the thread looks whether it is to end. It is short, because a device that has stopped wakes nobody; a
/// runtime that plays is woken more often than that anyway.
const PATIENCE: Duration = Duration::from_millis(10);
/// Time, in nanoseconds, after which a fade-out is given up because nobody has taken a block of it: several periods of any
/// usual device. The device host has faded out before it stops taking blocks, so that then nothing is cut off.
const END_PATIENCE_NS: u64 = 30_000_000;
/// Longest wait for a block while fading out.
const END_WAIT: Duration = Duration::from_millis(10);

/// What the control thread reads while the thread runs.
#[derive(Default)]
pub struct Counters {
    ticks: AtomicU64,
    load_permille: AtomicU32,
    lost_ticks: AtomicU64,
    non_finite: AtomicU64,
    refused_growth: AtomicU64,
    is_realtime: AtomicBool,
    is_held: Arc<AtomicBool>,
}

impl Counters {
    /// Number of the next tick.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Acquire)
    }

    /// The highest load since it was last taken, in thousandths of the time a tick has.
    pub fn take_load_permille(&self) -> u32 {
        self.load_permille.swap(0, Relaxed)
    }

    pub fn lost_ticks(&self) -> u64 {
        self.lost_ticks.load(Relaxed)
    }

    /// Samples that were not finite and were replaced.
    pub fn non_finite(&self) -> u64 {
        self.non_finite.load(Relaxed)
    }

    /// How often the program asked for more memory, and was refused.
    pub fn refused_growth(&self) -> u64 {
        self.refused_growth.load(Relaxed)
    }

    pub fn is_realtime(&self) -> bool {
        self.is_realtime.load(Relaxed)
    }

    pub fn is_held(&self) -> bool {
        self.is_held.load(Relaxed)
    }
}

/// What a tick thread leaves behind, to be freed on the control thread.
struct Remains {
    _runtime: Box<dyn Runtime>,
    stage: Stage,
}

/// A running tick thread, seen from the control thread.
pub struct TickThread {
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    horizon: Arc<Horizon>,
    /// The horizon that it begins with.
    run_until: Option<u64>,
    door: StageDoor,
    thread: JoinHandle<Remains>,
}

/// How a tick thread is to run.
pub struct TickThreadOptions {
    pub runtime_type: &'static RuntimeType,
    /// Without real-time priority: nobody waits for it at a fixed time.
    pub is_offline: bool,
    /// Only ticks below this are executed, until [`TickThread::proceed`] raises it.
    pub run_until: Option<u64>,
    /// Called on the thread when it has ended, after its real-time part, however it ended.
    pub on_end: Box<dyn FnOnce() + Send>,
}

/// A runtime that is set up and does not tick yet.
pub struct Opening {
    tick_loop: TickLoop,
    door: StageDoor,
}

impl Opening {
    /// Sets up `runtime` with its first program, which is checkpointed as it is before its first tick.
    pub fn new(runtime: Box<dyn Runtime>, program: Box<Program>, is_offline: bool) -> Self {
        let mut opening = Self::set_up(runtime, program, is_offline);
        let TickLoop { tick, runtime, stage, .. } = &mut opening.tick_loop;
        stage.open(*tick, runtime.clock_rt());
        opening
    }

    /// Sets up `runtime` with a program that has run elsewhere: brings it to where its runtime goes on.
    pub fn recalled(runtime: Box<dyn Runtime>, program: Box<Program>, is_offline: bool, recalled: Recalled) -> Self {
        let mut opening = Self::set_up(runtime, program, is_offline);
        let TickLoop { tick, runtime, stage, .. } = &mut opening.tick_loop;
        stage.recall(recalled, *tick, &mut **runtime);
        opening
    }

    fn set_up(runtime: Box<dyn Runtime>, program: Box<Program>, is_offline: bool) -> Self {
        let counters = Arc::new(Counters::default());
        counters.ticks.store(runtime.first_tick(), Release);
        counters.lost_ticks.store(runtime.lost_ticks(), Relaxed);
        let tick_ns = runtime.tick_ns();
        let deadline_tick_ns = (!is_offline).then_some(tick_ns);
        let (stage, door) = Stage::new(program, runtime.tick_frames(), tick_ns, deadline_tick_ns, Arc::clone(&counters.is_held));
        let tick_loop = TickLoop {
            tick: runtime.first_tick(),
            runtime,
            stage,
            stop: Arc::new(AtomicBool::new(false)),
            counters,
            // Nothing ticks before it is told how far it may.
            horizon: Arc::new(Horizon::new(Some(0))),
        };
        Self { tick_loop, door }
    }

    pub fn stage(&self) -> &Stage {
        &self.tick_loop.stage
    }

    /// The next tick.
    pub fn tick(&self) -> u64 {
        self.tick_loop.tick
    }
}

impl TickThread {
    /// Starts the thread. It waits for [`TickThread::begin`].
    pub fn start(opening: Opening, options: TickThreadOptions) -> std::io::Result<Self> {
        let Opening { tick_loop, door } = opening;
        let (stop, counters) = (Arc::clone(&tick_loop.stop), Arc::clone(&tick_loop.counters));
        let (horizon, run_until) = (Arc::clone(&tick_loop.horizon), options.run_until);
        let thread = std::thread::Builder::new()
            .name("tick".to_owned())
            .stack_size(TICK_THREAD_STACK_BYTES)
            .spawn(move || run(tick_loop, options))?;
        Ok(Self { stop, counters, horizon, run_until, door, thread })
    }

    /// Lets it tick. What was sent to it before takes effect before its first tick.
    pub fn begin(&self) {
        self.horizon.raise(self.run_until.unwrap_or(u64::MAX));
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hands over a command. Returns it when too many are on the way.
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        self.door.send(command)
    }

    /// The next outcome; the caller frees what it brings by dropping it.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.door.take_outcome()
    }

    /// Lets all ticks below `to_tick` be executed. Returns whether there is a horizon to raise.
    pub fn proceed(&self, to_tick: u64) -> bool {
        if self.run_until.is_some() {
            self.horizon.raise(to_tick);
        }
        self.run_until.is_some()
    }

    /// Asks the thread to fade out and end. Returns at once, but for waking it.
    pub fn request_stop(&self) {
        self.stop.store(true, Release);
        self.horizon.raise(0);
    }

    /// Waits for the thread and hands out what it had. `None` when it ended in a panic. Outcomes that have not been taken
    /// are lost, so they are taken before, once the thread has said that it has ended.
    pub fn join(self) -> Option<Leftovers> {
        self.thread.join().ok().map(|remains| remains.stage.into_leftovers())
    }
}

/// Runs on the tick thread: prepares it, ticks until the end, hands everything back.
fn run(tick_loop: TickLoop, options: TickThreadOptions) -> Remains {
    // The thread's stack for signal handlers is made now, not in the first trap.
    wasmtime::Engine::tls_eager_initialize();
    tighten_timer_slack();
    let is_realtime = !options.is_offline && promote_current_thread(options.runtime_type.priority).is_ok();
    tick_loop.counters.is_realtime.store(is_realtime, Relaxed);
    let _end = OnEnd(Some(options.on_end));
    let _flushed = options.runtime_type.flushes_denormals.then(flush_denormals);
    tick_loop.run_rt()
}

/// Tells the control thread that this thread has ended, also where a panic unwinds instead of aborting.
struct OnEnd(Option<Box<dyn FnOnce() + Send>>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        if let Some(on_end) = self.0.take() {
            on_end();
        }
    }
}

struct TickLoop {
    tick: u64,
    runtime: Box<dyn Runtime>,
    stage: Stage,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    horizon: Arc<Horizon>,
}

impl TickLoop {
    fn run_rt(mut self) -> Remains {
        {
            let _section = RealtimeSection::enter_rt();
            self.stage.enter_rt();
            while !self.stop.load(Acquire) {
                if self.horizon.wait_rt(self.tick, PATIENCE) && self.runtime.wait_rt(PATIENCE) {
                    self.tick_rt();
                }
                self.stage.report_rt(monotonic_ns_rt());
            }
            self.end_rt();
        }
        Remains { _runtime: self.runtime, stage: self.stage }
    }

    /// Fades out. Nothing stops it but time: the horizon is about what is heard before.
    fn end_rt(&mut self) {
        self.runtime.begin_end_rt();
        let mut give_up_ns = monotonic_ns_rt() + END_PATIENCE_NS;
        while !self.runtime.has_ended_rt() && monotonic_ns_rt() < give_up_ns {
            if self.runtime.wait_rt(END_WAIT) {
                self.tick_rt();
                give_up_ns = monotonic_ns_rt() + END_PATIENCE_NS;
            }
        }
        self.stage.report_last_rt();
    }

    fn tick_rt(&mut self) {
        let begin_ns = monotonic_ns_rt();
        crash::note_tick_rt(self.tick, &self.stage.revision());
        self.stage.put_clock_rt(self.runtime.clock_rt());
        self.stage.begin_rt(self.tick);
        crash::begin_tick_rt(self.tick, &self.stage.revision());
        let has_run = self.stage.run_rt(self.tick, &mut *self.runtime);
        let non_finite = self.runtime.publish_rt(self.stage.sounding_rt(has_run));
        if non_finite > 0 {
            self.counters.non_finite.fetch_add(non_finite, Relaxed);
            self.stage.note_non_finite_rt(self.tick);
        }
        let refused_growth = self.stage.take_refused_growth_rt();
        if refused_growth > 0 {
            self.counters.refused_growth.fetch_add(refused_growth, Relaxed);
        }
        self.tick += 1;
        self.stage.complete_rt(self.tick, self.runtime.clock_rt());
        self.stage.end_rt(has_run);
        crash::end_tick_rt();
        self.count_rt(monotonic_ns_rt().saturating_sub(begin_ns));
    }

    fn count_rt(&mut self, spent_ns: u64) {
        let permille = spent_ns.saturating_mul(1_000) / self.runtime.tick_ns().max(1);
        self.counters.load_permille.fetch_max(u32::try_from(permille).unwrap_or(u32::MAX), Relaxed);
        self.counters.lost_ticks.store(self.runtime.lost_ticks(), Relaxed);
        self.counters.ticks.store(self.tick, Release);
    }
}
