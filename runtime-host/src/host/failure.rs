//! From a wasmtime trap to a fault: what kind of failure it was and which source line it stems from.
//!
//! [`Failure::of`] runs on whichever thread called the program; it is small and `Copy`, so that the tick thread can hand it
//! to the control thread, which makes the [`Fault`] with its names out of it. A trap is the one thing on the tick thread
//! that allocates: wasmtime collects its backtrace on the heap. It happens in ticks that produce no sound anyway.

use ipc::fault::{Fault, FaultKind};
use ipc::manifest::{Manifest, SourcePoint};
use wasmtime::{Trap, WasmBacktrace};

/// Why a call into a program did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FaultKind,
    /// Where in the source, as far as the manifest's source map knows it.
    pub point: Option<SourcePoint>,
}

impl Failure {
    /// A sample that was not a finite number; no line can be blamed for it.
    pub const NON_FINITE: Self = Self { kind: FaultKind::NonFinite, point: None };

    /// A tick that took too much processor time; no single line can be blamed for it.
    pub const DEADLINE_EXCEEDED: Self = Self { kind: FaultKind::DeadlineExceeded, point: None };

    /// Reads kind and place out of the error of a call into the program that `manifest` describes.
    pub fn of(error: &wasmtime::Error, manifest: &Manifest) -> Self {
        let mut points = error
            .downcast_ref::<WasmBacktrace>()
            .map_or(&[][..], WasmBacktrace::frames)
            .iter()
            .filter_map(|frame| manifest.source_at(u32::try_from(frame.module_offset()?).ok()?));
        let innermost = points.next();
        let is_budget = innermost.is_some_and(|point| point.is_budget);
        let in_file = |point: &&SourcePoint| block_line(manifest, point).is_some();
        // A library function has no line in the performer's file: then the call that led there is the line to look at.
        let point = innermost.filter(in_file).or_else(|| points.find(in_file)).or(innermost);
        Self { kind: kind_of(error.downcast_ref::<Trap>(), is_budget), point: point.copied() }
    }

    /// The fault to report: `tick` is where it first happened, `repeats` how many more ticks failed in the same way.
    pub fn to_fault(self, manifest: &Manifest, tick: u64, repeats: u64) -> Fault {
        let block = self.point.and_then(|point| manifest.blocks.get(point.block as usize));
        let line = self.point.and_then(|point| Some(block_line(manifest, &point)? + point.line_in_block));
        Fault { kind: self.kind, tick, block: block.map(|block| block.name.clone()), line, repeats }
    }
}

fn block_line(manifest: &Manifest, point: &SourcePoint) -> Option<u32> {
    manifest.blocks.get(point.block as usize)?.line
}

fn kind_of(trap: Option<&Trap>, is_budget: bool) -> FaultKind {
    match trap {
        Some(Trap::UnreachableCodeReached) if is_budget => FaultKind::Runaway,
        Some(Trap::Interrupt | Trap::OutOfFuel) => FaultKind::Runaway,
        Some(Trap::IntegerDivisionByZero) => FaultKind::DivisionByZero,
        Some(Trap::IntegerOverflow) => FaultKind::IntegerOverflow,
        Some(Trap::MemoryOutOfBounds | Trap::HeapMisaligned) => FaultKind::OutOfBounds,
        Some(Trap::StackOverflow) => FaultKind::StackOverflow,
        // Anything else is not one of the language's own failures; wasmtime's list may grow, so it stays open here.
        Some(_) | None => FaultKind::Trap,
    }
}
