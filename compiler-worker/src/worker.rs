//! The worker process: takes requests, compiles, publishes artifacts in shared memory, and answers (DESIGN §2, §4).
//!
//! Owner: the supervisor, which starts it, gives it a deadline, and starts another one if it dies. It has one thread, opens no
//! files and no devices. It holds the segments it publishes until the supervisor releases them. When the channel closes it
//! leaves their names as they are: they are the session's, and the next supervisor may need them. It must never keep anything a
//! restart would miss: what it remembers are caches.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use ipc::artifact::Artifact;
use ipc::channel::{ChannelError, Receiver, Sender};
use ipc::limits::WORKER_ADDRESS_SPACE_BYTES;
use ipc::message::{CompileGoal, CompileOutcome, CompileRequest, CompileTimings, WorkerReply, WorkerRequest};
use ipc::segment::{Segment, SessionId};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::heap::keep_freed_memory;
use crate::languages::caches::{Caches, Texts};
use crate::native::NativeCompiler;
use crate::wasm::validation;
use crate::{CompileError, compile_with};

/// A program that makes the compiler take all the memory there is must not take it from the hosts: beyond this limit allocating fails,
/// which ends the worker, and with it one request. Time is limited from outside.
fn limit_memory() {
    let limit = Some(WORKER_ADDRESS_SPACE_BYTES);
    // Where it is refused there is a lower limit already.
    let _ = setrlimit(Resource::As, Rlimit { current: limit, maximum: limit });
}

/// Serves requests until the supervisor closes the channel. Limits the memory of the whole process, and keeps what is freed of it.
pub fn run(sender: Sender, receiver: Receiver, session: SessionId) -> ExitCode {
    limit_memory();
    // Where it is refused, compiles take a little longer.
    let _ = keep_freed_memory();
    let mut worker = Worker { session, native: NativeCompiler::default(), published: HashMap::new() };
    loop {
        let texts = Texts::default();
        if let Some(code) = worker.serve(&sender, &receiver, &Caches::new(&texts)) {
            worker.published.values_mut().for_each(Segment::leave_name);
            return code;
        }
    }
}

fn is_open(sent: Result<(), ChannelError>) -> bool {
    if let Err(error) = &sent
        && !matches!(error, ChannelError::Closed)
    {
        eprintln!("compiler-worker: {error}");
    }
    sent.is_ok()
}

/// What the process holds between requests.
struct Worker {
    session: SessionId,
    native: NativeCompiler,
    /// Segments by name, until they are released.
    published: HashMap<String, Segment>,
}

impl Worker {
    /// Serves requests until the channel closes, or, with `None`, until the caches are full.
    fn serve(&mut self, sender: &Sender, receiver: &Receiver, caches: &Caches<'_>) -> Option<ExitCode> {
        while !caches.are_full() {
            match receiver.receive::<WorkerRequest>() {
                Ok(WorkerRequest::Compile(request)) => {
                    if !is_open(sender.send(&self.answer(&request, caches))) {
                        return Some(ExitCode::SUCCESS);
                    }
                }
                Ok(WorkerRequest::Release { segment }) => {
                    self.published.remove(&segment);
                }
                Err(ChannelError::Closed) => return Some(ExitCode::SUCCESS),
                Err(error) => {
                    eprintln!("compiler-worker: {error}");
                    return Some(ExitCode::FAILURE);
                }
            }
        }
        None
    }

    fn answer(&mut self, request: &CompileRequest, caches: &Caches<'_>) -> WorkerReply {
        let mut timings = CompileTimings::default();
        let outcome = self.outcome(request, caches, &mut timings);
        WorkerReply::Compiled { id: request.id, outcome, timings }
    }

    fn outcome(&mut self, request: &CompileRequest, caches: &Caches<'_>, timings: &mut CompileTimings) -> CompileOutcome {
        let started = Instant::now();
        let compiled = compile_with(request, Some(caches));
        timings.wasm_us = micros_since(started);
        let mut artifact = match compiled {
            Ok(_) if request.goal == CompileGoal::Check => return CompileOutcome::Checked,
            Ok(artifact) => artifact,
            Err(CompileError::Rejected(diagnostics)) => return CompileOutcome::Rejected(diagnostics),
            Err(error @ CompileError::Internal(_)) => return CompileOutcome::Failed(error.to_string()),
        };
        if request.goal == CompileGoal::Native {
            let started = Instant::now();
            artifact.native = match self.native.compile(&artifact.wasm) {
                Ok(native) => native,
                Err(error) => return CompileOutcome::Failed(why_not_native(&artifact.wasm, &error)),
            };
            timings.native_us = micros_since(started);
        }
        let started = Instant::now();
        let outcome = self.publish(&artifact, request.generation);
        timings.publish_us = micros_since(started);
        outcome
    }

    fn publish(&mut self, artifact: &Artifact, generation: u64) -> CompileOutcome {
        match artifact.publish(&self.session, generation) {
            Ok(segment) => {
                let reference = segment.reference().clone();
                self.published.insert(reference.name.clone(), segment);
                CompileOutcome::Artifact(reference)
            }
            Err(error) => CompileOutcome::Failed(error.to_string()),
        }
    }
}

/// Whether the compiler is to blame or wasmtime: what is invalid has not been looked at before.
fn why_not_native(wasm: &[u8], error: &wasmtime::Error) -> String {
    match validation::validate(wasm) {
        Err(what) => CompileError::Internal(what).to_string(),
        Ok(()) => format!("no native code could be made: {error:#}"),
    }
}

fn micros_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_webassembly_is_refused_where_native_code_is_made_and_blamed_on_the_compiler() {
        // A function that owes an integer and gives nothing.
        let types = [1, 5, 1, 0x60, 0, 1, 0x7f];
        let wasm = [&b"\0asm\x01\0\0\0"[..], &types, &[3, 2, 1, 0], &[10, 4, 1, 2, 0, 0x0b]].concat();
        let error = NativeCompiler::default().compile(&wasm).expect_err("it is not valid");
        let told = why_not_native(&wasm, &error);
        assert!(told.starts_with("the compiler made invalid WebAssembly"), "{told}");
    }
}
