//! A run without a clock: initialise, set, call so many times, show (`continuo run`, and every conformance test).
//!
//! Functions that the program imports do nothing and return zero here. Runs on a thread of its own with a stack for programs,
//! so that the control thread goes on answering. Strictly IEEE: denormals are kept, whatever runtime type the program asks for.
//! Replies leave through a function, in order.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use ipc::artifact::Artifact;
use ipc::limits::{BULK_CHUNK_BYTES, MAX_DUMP_ELEMENTS};
use ipc::message::{HostReply, ItemValue, Refusal, RunJob};

use super::assets;
use super::engine::{Engine, ExportHandle, FunctionImports, LoadError, Loader};
use super::failure::Failure;
use super::items::{Place, nearest};
use crate::registry;

/// How a run ends early.
enum Ended {
    Refused(Refusal),
    Failed {
        failure: Failure,
        cycle: u64,
    },
    /// Nobody wants its result any more.
    Cancelled,
}

fn refused(message: impl ToString) -> Ended {
    Ended::Refused(Refusal { message: message.to_string(), line: None, is_damaged: false, is_machine: false })
}

/// Executes `job` and returns its last reply; the others go through `reply`, which returns whether anybody still listens.
/// `cancelled` ends the run between two cycles, without a last reply.
pub fn execute(loader: &Loader, job: &RunJob, cancelled: &AtomicBool, reply: &mut dyn FnMut(HostReply) -> bool) -> Option<HostReply> {
    let segment = job.artifact.name.clone();
    let engine = Artifact::read(&job.artifact).map_err(LoadError::from).and_then(|artifact| {
        reply(HostReply::Loaded { segment: segment.clone() });
        loader.load_checked(&artifact, FunctionImports::Silent)
    });
    let mut engine = match engine {
        Ok(engine) => engine,
        Err(error) => return Some(HostReply::Refused { segment, reason: error.to_refusal() }),
    };
    match run(&mut engine, job, cancelled, reply) {
        Ok(dumps) => Some(HostReply::RunDone { dumps }),
        Err(Ended::Refused(reason)) => Some(HostReply::Refused { segment, reason }),
        Err(Ended::Failed { failure, cycle }) => Some(HostReply::RunFailed { fault: failure.to_fault(engine.manifest(), cycle, 0) }),
        Err(Ended::Cancelled) => None,
    }
}

fn run(
    engine: &mut Engine,
    job: &RunJob,
    cancelled: &AtomicBool,
    reply: &mut dyn FnMut(HostReply) -> bool,
) -> Result<Vec<ItemValue>, Ended> {
    // Everything that names something is looked up first, so that a mistyped name does not cost a long run.
    let exports = find_exports(engine, &job.exports)?;
    let captures = find_all(engine, &job.captures)?;
    let dumps = find_all(engine, &job.dumps)?;
    let sets = job.sets.iter().map(|(name, value)| Ok((find(engine, name)?, value))).collect::<Result<Vec<_>, Ended>>()?;
    check_dump_size(&dumps)?;

    engine.initialise().map_err(|failure| Ended::Failed { failure, cycle: 0 })?;
    if let Some(base_directory) = &job.assets_from {
        let settings = registry::settings(engine.manifest());
        assets::load(engine, &settings, base_directory).map_err(Ended::Refused)?;
    }
    for (place, value) in sets {
        place.write(engine, value).map_err(refused)?;
    }
    cycle(engine, job.cycles, &exports, &captures, cancelled, reply)?;
    if job.dump_memory {
        report_memories(engine, reply)?;
    }
    dumps.iter().map(|place| show(engine, place)).collect()
}

fn cycle(
    engine: &mut Engine,
    cycles: u64,
    exports: &[ExportHandle],
    captures: &[Place],
    cancelled: &AtomicBool,
    reply: &mut dyn FnMut(HostReply) -> bool,
) -> Result<(), Ended> {
    let mut captured = Captured { bytes: Vec::new(), reply };
    for cycle in 0..cycles {
        if cancelled.load(Relaxed) {
            return Err(Ended::Cancelled);
        }
        let outcome = exports.iter().try_for_each(|export| engine.call_rt(*export));
        if let Err(failure) = outcome {
            captured.flush()?;
            return Err(Ended::Failed { failure, cycle });
        }
        for place in captures {
            captured.push(place.bytes(engine).map_err(refused)?)?;
        }
    }
    captured.flush()
}

/// Collects captured bytes into messages of bounded size.
struct Captured<'a> {
    bytes: Vec<u8>,
    reply: &'a mut dyn FnMut(HostReply) -> bool,
}

impl Captured<'_> {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BULK_CHUNK_BYTES - self.bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
            if self.bytes.len() == BULK_CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        send(self.reply, HostReply::RunCaptured(std::mem::take(&mut self.bytes)))
    }
}

fn send(reply: &mut dyn FnMut(HostReply) -> bool, message: HostReply) -> Result<(), Ended> {
    if reply(message) { Ok(()) } else { Err(Ended::Cancelled) }
}

fn report_memories(engine: &Engine, reply: &mut dyn FnMut(HostReply) -> bool) -> Result<(), Ended> {
    for memory in 0..engine.manifest().memories.len() as u32 {
        for (index, chunk) in engine.memory(memory).chunks(BULK_CHUNK_BYTES).enumerate() {
            let offset = (index * BULK_CHUNK_BYTES) as u64;
            send(reply, HostReply::RunMemory { memory, offset, bytes: chunk.to_vec() })?;
        }
    }
    Ok(())
}

fn show(engine: &Engine, place: &Place) -> Result<ItemValue, Ended> {
    Ok(ItemValue { item: place.name.clone(), values: place.values(engine).map_err(refused)? })
}

fn find(engine: &Engine, name: &str) -> Result<Place, Ended> {
    Place::find(engine.manifest(), name).map_err(refused)
}

fn find_all(engine: &Engine, names: &[String]) -> Result<Vec<Place>, Ended> {
    names.iter().map(|name| find(engine, name)).collect()
}

fn check_dump_size(dumps: &[Place]) -> Result<(), Ended> {
    let elements: u64 = dumps.iter().map(|place| u64::from(place.count)).sum();
    if elements > MAX_DUMP_ELEMENTS {
        return Err(refused(format!(
            "the items to show have {elements} elements, more than {MAX_DUMP_ELEMENTS}; write them to a file with --dump-memory or --capture"
        )));
    }
    Ok(())
}

/// The exports to call in each cycle: those named, or every entry.
fn find_exports(engine: &Engine, names: &[String]) -> Result<Vec<ExportHandle>, Ended> {
    let entries: Vec<String> = engine.manifest().entries.iter().map(|entry| entry.name.clone()).collect();
    let names = if names.is_empty() { &entries } else { names };
    names.iter().map(|name| engine.export(name).ok_or_else(|| refused(no_export(engine, name)))).collect()
}

fn no_export(engine: &Engine, name: &str) -> String {
    let manifest = engine.manifest();
    if manifest.has_export(name) {
        return format!("the exported function `{name}` takes parameters, so it cannot be called by itself");
    }
    let near = nearest(name, manifest.exports.iter().map(|export| export.name.clone()));
    let names = if near.is_empty() { manifest.exports.iter().map(|export| export.name.clone()).collect() } else { near };
    format!("the program has no entry or exported function `{name}`; there is `{}`", names.join("`, `"))
}
