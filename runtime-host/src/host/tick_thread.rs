//! The tick thread: runs a program tick by tick, in real time.
//!
//! Owned by the control thread, which starts and ends it. The two meet in wait-free queues and atomics only: prepared
//! programs go in, retired programs and reports come out, counters are read. Nothing is allocated, freed, locked or
//! formatted here, and the only system calls are the waits of the runtime type (DESIGN §5, P9); the test
//! `a_tick_thread_does_not_allocate` runs it under an allocator that notices. What it owns when it ends goes back to the
//! control thread to be freed there.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::engine::TICK_THREAD_STACK_BYTES;
use rtrb::{Consumer, Producer, RingBuffer};

use super::failure::Failure;
use super::fault_log::{FaultLog, Report};
use super::program::Program;
use crate::realtime::{RealtimeSection, flush_denormals, monotonic_ns_rt, promote_current_thread, tighten_timer_slack};
use crate::registry::RuntimeType;
use crate::registry::runtime::Runtime;

/// Failing ticks in a row after which a program is held.
pub const HOLD_AFTER_TICKS: u32 = 16;
/// Longest wait before the thread looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longest time a fade-out may take, in nanoseconds, when nobody takes its blocks.
const END_PATIENCE_NS: u64 = 150_000_000;
/// Programs that may be on the way at a time.
const PROGRAM_QUEUE: usize = 4;
/// Reports that may be on the way at a time; what does not fit stays in the fault log until it does.
const REPORT_QUEUE: usize = 64;

/// What the control thread reads while the thread runs.
#[derive(Default)]
pub struct Counters {
    ticks: AtomicU64,
    load_permille: AtomicU32,
    lost_ticks: AtomicU64,
    non_finite: AtomicU64,
    is_realtime: AtomicBool,
    is_held: AtomicBool,
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

    pub fn is_realtime(&self) -> bool {
        self.is_realtime.load(Relaxed)
    }

    pub fn is_held(&self) -> bool {
        self.is_held.load(Relaxed)
    }
}

/// What a tick thread leaves behind, to be freed on the control thread.
pub struct Remains {
    _runtime: Box<dyn Runtime>,
    _program: Option<Box<Program>>,
}

/// A running tick thread, seen from the control thread.
pub struct TickThread {
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    prepared: Producer<Box<Program>>,
    retired: Consumer<Box<Program>>,
    reports: Consumer<Report>,
    thread: JoinHandle<Remains>,
}

/// How a tick thread is to run.
pub struct TickThreadOptions {
    pub runtime_type: &'static RuntimeType,
    /// Without real-time priority: nobody waits for it at a fixed time.
    pub is_offline: bool,
    /// Called on the thread when it has ended, after its real-time part, however it ended.
    pub on_end: Box<dyn FnOnce() + Send>,
}

impl TickThread {
    /// Starts the thread with its first program.
    pub fn start(runtime: Box<dyn Runtime>, program: Box<Program>, options: TickThreadOptions) -> std::io::Result<Self> {
        let (mut prepared, prepared_rt) = RingBuffer::new(PROGRAM_QUEUE);
        let (retired_rt, retired) = RingBuffer::new(PROGRAM_QUEUE);
        let (reports_rt, reports) = RingBuffer::new(REPORT_QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Counters::default());
        counters.ticks.store(runtime.first_tick(), Release);
        // The queue is fresh and has room.
        let _ = prepared.push(program);
        let tick_loop = TickLoop {
            tick: runtime.first_tick(),
            runtime,
            program: None,
            prepared: prepared_rt,
            retired: retired_rt,
            reports: reports_rt,
            log: FaultLog::default(),
            hold_report: None,
            failed_in_a_row: 0,
            stop: Arc::clone(&stop),
            counters: Arc::clone(&counters),
        };
        let thread = std::thread::Builder::new()
            .name("tick".to_owned())
            .stack_size(TICK_THREAD_STACK_BYTES)
            .spawn(move || run(tick_loop, options))?;
        Ok(Self { stop, counters, prepared, retired, reports, thread })
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hands over a program that replaces the running one at the next tick. Returns it when too many are on the way.
    pub fn replace(&mut self, program: Box<Program>) -> Result<(), Box<Program>> {
        self.prepared.push(program).map_err(|rtrb::PushError::Full(program)| program)
    }

    /// The next program that has been replaced; the caller frees it by dropping it.
    pub fn take_retired(&mut self) -> Option<Box<Program>> {
        self.retired.pop().ok()
    }

    /// The next report.
    pub fn take_report(&mut self) -> Option<Report> {
        self.reports.pop().ok()
    }

    /// Asks the thread to fade out and end. Returns at once.
    pub fn request_stop(&self) {
        self.stop.store(true, Release);
    }

    /// Waits for the thread and frees what it had.
    pub fn join(self) {
        drop(self.thread.join());
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
    program: Option<Box<Program>>,
    prepared: Consumer<Box<Program>>,
    retired: Producer<Box<Program>>,
    reports: Producer<Report>,
    log: FaultLog,
    /// Says that the program is held, until it fits into the queue.
    hold_report: Option<Report>,
    failed_in_a_row: u32,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl TickLoop {
    fn run_rt(mut self) -> Remains {
        {
            let _section = RealtimeSection::enter_rt();
            while !self.stop.load(Acquire) {
                if self.runtime.wait_rt(PATIENCE) {
                    self.tick_rt();
                }
                self.report_rt(monotonic_ns_rt());
            }
            self.end_rt();
        }
        Remains { _runtime: self.runtime, _program: self.program }
    }

    fn end_rt(&mut self) {
        self.runtime.begin_end_rt();
        let give_up_ns = monotonic_ns_rt() + END_PATIENCE_NS;
        while !self.runtime.has_ended_rt() && monotonic_ns_rt() < give_up_ns {
            if self.runtime.wait_rt(PATIENCE / 4) {
                self.tick_rt();
            }
        }
        let now_ns = monotonic_ns_rt();
        while !self.reports.is_full() {
            let Some(report) = self.hold_report.take().or_else(|| self.log.rest_rt(now_ns)) else { break };
            let _ = self.reports.push(report);
        }
    }

    fn tick_rt(&mut self) {
        let begin_ns = monotonic_ns_rt();
        self.take_prepared_rt();
        let has_run = self.run_program_rt(begin_ns);
        let non_finite = self.runtime.publish_rt(self.program.as_deref().filter(|_| has_run));
        if non_finite > 0 {
            self.counters.non_finite.fetch_add(non_finite, Relaxed);
            self.log.note_rt(Failure::NON_FINITE, self.tick, begin_ns);
        }
        self.tick += 1;
        self.count_rt(monotonic_ns_rt().saturating_sub(begin_ns));
    }

    /// Runs the program's tick, unless it is held. Returns whether its output is to be heard.
    fn run_program_rt(&mut self, now_ns: u64) -> bool {
        let is_held = self.failed_in_a_row >= HOLD_AFTER_TICKS;
        let Some(program) = self.program.as_deref_mut().filter(|_| !is_held) else { return false };
        self.runtime.sample_inputs_rt(program);
        match program.tick_rt() {
            Ok(()) => {
                self.failed_in_a_row = 0;
                true
            }
            Err(failure) => {
                self.failed_in_a_row += 1;
                self.log.note_rt(failure, self.tick, now_ns);
                if self.failed_in_a_row == HOLD_AFTER_TICKS {
                    self.hold_rt(failure, now_ns);
                }
                false
            }
        }
    }

    /// The program does not run any more, and the report of its last failure says so.
    fn hold_rt(&mut self, failure: Failure, now_ns: u64) {
        self.counters.is_held.store(true, Relaxed);
        self.hold_report = self.log.take_rt(failure, now_ns).map(|report| Report { held: true, ..report });
    }

    fn take_prepared_rt(&mut self) {
        // Only with room for the old program: nothing is freed on this thread.
        while !self.retired.is_full() {
            let Ok(next) = self.prepared.pop() else { return };
            if let Some(old) = self.program.replace(next) {
                let _ = self.retired.push(old);
            }
            self.failed_in_a_row = 0;
            self.counters.is_held.store(false, Relaxed);
        }
    }

    /// Sends what is due and fits; the rest stays where it is.
    fn report_rt(&mut self, now_ns: u64) {
        while !self.reports.is_full() {
            let Some(report) = self.hold_report.take().or_else(|| self.log.due_rt(now_ns)) else { return };
            let _ = self.reports.push(report);
        }
    }

    fn count_rt(&mut self, spent_ns: u64) {
        let permille = spent_ns.saturating_mul(1_000) / self.runtime.tick_ns().max(1);
        self.counters.load_permille.fetch_max(u32::try_from(permille).unwrap_or(u32::MAX), Relaxed);
        self.counters.lost_ticks.store(self.runtime.lost_ticks(), Relaxed);
        self.counters.ticks.store(self.tick, Release);
    }
}
