//! Signals that end a session: Ctrl-C, SIGTERM, and the terminal that goes away. They become events like everything else.
//! Faults end the process at once, sent from outside or its own: its hosts play on, and another supervisor takes them back.

use std::sync::mpsc::SyncSender;
use std::thread;

use nix::sys::signal::{SigHandler, Signal, signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::connection::Incoming;
use crate::policy::Event;

/// From here on a fault ends the process by its signal, also one that is sent: the standard library's handlers, made for stacks
/// that overflow, let the first one pass. To be called before anybody handles these signals.
pub fn die_of_faults() {
    for fault in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the default action runs no code of ours, and nothing of ours relies on the handler that it replaces.
        // It cannot fail for a signal that exists; the standard library's handler is good enough otherwise.
        let _ = unsafe { signal(fault, SigHandler::SigDfl) };
    }
}

/// From here on these signals no longer end the process; each becomes [`Event::Signal`].
pub fn listen(events: SyncSender<Incoming>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if events.send(Incoming::Event(Event::Signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
