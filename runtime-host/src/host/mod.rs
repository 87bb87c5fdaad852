//! The runtime host: a process that executes one program, tick by tick. It never compiles, and writes only its own
//! segments; what others have sampled for its control wires it maps for reading.
//!
//! Two threads matter (DESIGN §7). The control thread (`control.rs`) talks to the supervisor, loads artifacts ([`engine`],
//! `start.rs`) and frees what is no longer needed. The tick thread ([`tick_thread`]) runs the program under its runtime type
//! ([`crate::registry`]). They meet in wait-free queues and atomics only; how a program is changed between two of its ticks is
//! told in [`live`]. A spare host keeps programs ready (`spare.rs`) and goes on for one that died (`take_over.rs`). A program
//! that fails is a fault to report ([`failure`], [`fault_log`]), never the end of the process.

pub mod assets;
mod control;
pub mod engine;
pub mod failure;
pub mod fault_log;
pub mod horizon;
pub mod items;
mod line;
pub mod live;
pub mod migration;
pub mod program;
pub mod run_job;
mod spare;
mod start;
mod take_over;
pub mod tick_thread;

use std::process::ExitCode;

use ipc::channel::{Receiver, Sender};
use ipc::engine::TICK_THREAD_STACK_BYTES;
use ipc::message::{HostReply, Refusal};
use ipc::rendezvous::{Connection, Grace};
use ipc::segment::SessionId;

use crate::realtime::lock_memory;
use control::Control;
use engine::Loader;

/// Runs a host until the supervisor closes its channel.
pub fn run(sender: Sender, receiver: Receiver, session: SessionId) -> ExitCode {
    run_with_grace(Connection { sender, receiver }, session, None)
}

/// As [`run`]; but when the supervisor is gone while a runtime runs, it plays on for the next one to come.
pub fn run_with_grace(connection: Connection, session: SessionId, grace: Option<Grace>) -> ExitCode {
    lock_memory();
    // Defaults and init-only modules of programs run on the control thread, so it needs a stack for programs.
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .stack_size(TICK_THREAD_STACK_BYTES)
        .spawn(move || run_control(connection, session, grace));
    match control.map(|thread| thread.join()) {
        Ok(Ok(code)) => code,
        Ok(Err(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn run_control(connection: Connection, session: SessionId, grace: Option<Grace>) -> ExitCode {
    let loader = match Loader::new() {
        Ok(loader) => loader,
        Err(error) => {
            let reason = Refusal { message: error.to_string(), line: None, is_damaged: false, is_machine: true };
            let _ = connection.sender.send(&HostReply::Refused { segment: String::new(), reason });
            return ExitCode::FAILURE;
        }
    };
    match Control::new(connection, session, loader, grace) {
        Ok(control) => {
            control.run();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}
