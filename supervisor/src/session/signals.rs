//! Signals that end a session: Ctrl-C, SIGTERM, and the terminal that goes away. They become events like everything else.

use std::sync::mpsc::SyncSender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::connection::Incoming;
use crate::policy::Event;

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
