//! The device host: the only process that talks to sound drivers. It mixes the lanes of all runtime hosts into the device.
//!
//! | thread | does | module |
//! |---|---|---|
//! | control (main) | requests, policy, status | [`control`], [`session`], [`lanes`], [`output::follow`] |
//! | requests, replies | wait for the supervisor | [`link`] |
//! | rendezvous | waits for the next supervisor when there is none | [`link::Grace`] |
//! | a driver's callback, or the null device (real-time) | renders the mixer | [`baton`], [`mixer`], [`patchbay`], [`strip`], [`routing`], [`fade`], [`gain`] |
//! | unpaced | the same, without a clock | [`output::unpaced`] |
//! | input | opens the device's input, and looks after it | [`listening`] |
//! | the input's callback (real-time) | takes in | [`listening`], [`capture`] |
//! | stream, search, listing | calls into driver libraries, which may hang | [`output`] |
//! | midi, midi-jack, midi-seq | read MIDI lanes, send and record events, end notes | [`midi`] |
//! | client-end | closes a client of a sound server | [`clients`] |
//! | tape | writes WAV files | [`tape`] |
//!
//! The control thread and the rendering thread meet in wait-free queues and in atomics ([`counters`]) only. No user program
//! runs in this process, and nothing it does waits for a runtime host: a lane that has nothing is concealed (DESIGN §6).
//! When a device is lost the mixer goes on, at the same frame, on the null device, and comes back when a device does. A device
//! host that goes on for one that has died is told the frame the session has reached, and finds in each lane how far that
//! one had given it to its device.

pub mod baton;
pub mod capture;
pub mod clients;
pub mod control;
pub mod counters;
pub mod fade;
pub mod gain;
pub mod lanes;
pub mod link;
pub mod listening;
pub mod midi;
pub mod mixer;
#[cfg(test)]
mod mixer_tests;
pub mod output;
pub mod patchbay;
#[cfg(test)]
mod patchbay_tests;
pub mod routing;
pub mod session;
pub mod strip;
pub mod tape;
#[cfg(test)]
mod test_lane;

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clients::Clients;
use control::Control;
use link::{Connection, Grace};

/// How long the end of the process waits for its clients to be closed: servers answer after a few periods, if they do at all.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// Runs the device host until it is told to stop or the supervisor is gone.
pub fn run(sender: ipc::channel::Sender, receiver: ipc::channel::Receiver, session: ipc::segment::SessionId) -> ExitCode {
    run_with_grace(Connection { sender, receiver }, session, None)
}

/// As [`run`]; but when the supervisor is gone while an output is open, plays on for the next one to come.
pub fn run_with_grace(connection: Connection, session: ipc::segment::SessionId, grace: Option<Grace>) -> ExitCode {
    let (events_in, events) = mpsc::channel();
    let clients = Clients::default();
    let Ok(control) = Control::new(connection, events_in, session, grace, clients.clone()) else { return ExitCode::FAILURE };
    let code = control.run(&events);
    // What has been opened and not been looked at is among the events.
    drop(events);
    clients.wait_until_closed(CLOSE_LIMIT);
    code
}
