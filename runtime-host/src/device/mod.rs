//! The device host: the only process that talks to sound drivers. It mixes the lanes of all runtime hosts into the device.
//!
//! | thread | does | module |
//! |---|---|---|
//! | control (main) | requests, policy, status | [`control`], [`session`], [`lanes`], [`output::follow`] |
//! | requests | waits for the supervisor | here |
//! | a driver's callback, or the null device (real-time) | renders the mixer | [`baton`], [`mixer`], [`strip`], [`fade`], [`gain`] |
//! | unpaced | the same, without a clock | [`output::unpaced`] |
//! | stream, search, listing | calls into driver libraries, which may hang | [`output`] |
//! | recording | writes the WAV file | [`recording`] |
//!
//! The control thread and the rendering thread meet in wait-free queues and in atomics ([`counters`]) only. No user program
//! runs in this process, and nothing it does waits for a runtime host: a lane that has nothing is concealed (DESIGN §6).
//! When a device is lost the mixer goes on, at the same frame, on the null device, and comes back when a device does.

pub mod baton;
pub mod control;
pub mod counters;
pub mod fade;
pub mod gain;
pub mod lanes;
pub mod mixer;
#[cfg(test)]
mod mixer_tests;
pub mod output;
pub mod recording;
pub mod session;
pub mod strip;
#[cfg(test)]
mod test_lane;

use std::process::ExitCode;
use std::sync::mpsc;

use control::{Control, Event};
use ipc::message::DeviceRequest;

/// Runs the device host until it is told to stop or the supervisor is gone.
pub fn run(sender: ipc::channel::Sender, receiver: ipc::channel::Receiver, session: ipc::segment::SessionId) -> ExitCode {
    let (events_in, events) = mpsc::channel();
    let requests_in = events_in.clone();
    let spawned = std::thread::Builder::new().name("requests".into()).spawn(move || forward(&receiver, &requests_in));
    if spawned.is_err() {
        return ExitCode::FAILURE;
    }
    Control::new(sender, events_in, session).run(&events)
}

/// Passes requests on until there are no more. A supervisor that cannot be understood is as good as gone.
fn forward(receiver: &ipc::channel::Receiver, requests_in: &mpsc::Sender<Event>) {
    while let Ok(request) = receiver.receive::<DeviceRequest>() {
        if requests_in.send(Event::Request(request)).is_err() {
            return;
        }
    }
    let _ = requests_in.send(Event::Closed);
}
