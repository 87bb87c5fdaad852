//! The keyboard: the keys of the terminal that `play` was started from, as events of the session (LANGUAGE §20.6).
//!
//! Begun when the first program that runs asks for keys, so that a session without one leaves the terminal alone. One thread
//! reads; another one gives the terminal back while the session is suspended (Ctrl-Z). Dropping the [`Keyboard`] gives it back
//! for good; every other way out of the process does so, too (`terminal`).
//!
//! Terminals send characters, not keys. Those that speak the kitty protocol tell of releases; with all others a key counts as
//! held until it has not been repeated for a while (`held`).
//!
//! It must never end the session, whatever the terminal sends, and never read or change a terminal that another job has.

mod decoder;
mod held;
mod terminal;
mod usages;

use std::io;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use signal_hook::consts::SIGTSTP;

use self::decoder::{Decoder, Heard, Press};
use self::held::Held;
use self::terminal::{Input, Terminal};
use crate::policy::Event;
use crate::session::Incoming;

/// How often a terminal that another job has is looked at.
const ABSENCE: Duration = Duration::from_millis(300);

/// How long the rest of a key's sequence may take: longer, and what there is of it was typed. Over a slow line the escape key
/// is what is at stake, which comes this much later.
const SEQUENCE: Duration = Duration::from_millis(30);

/// The keyboard of this session.
pub struct Keyboard {
    terminal: Terminal,
}

impl Keyboard {
    /// Begins to listen to the keys of the controlling terminal. `None` where standard input is not one.
    pub fn begin(events: SyncSender<Incoming>) -> Option<io::Result<Self>> {
        std::io::IsTerminal::is_terminal(&io::stdin()).then(|| Self::open(events))
    }

    fn open(events: SyncSender<Incoming>) -> io::Result<Self> {
        let terminal = Terminal::open()?;
        let mut stops = signal_hook::iterator::Signals::new([SIGTSTP])?;
        let to_stop = terminal.clone();
        std::thread::Builder::new().name("suspend".to_owned()).spawn(move || {
            for signal in stops.forever() {
                to_stop.leave();
                // Returns when the session goes on; the reading thread then enters the terminal again.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
        let reader = Reader { terminal: terminal.clone(), events, decoder: Decoder::default(), held: Held::default() };
        std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || reader.run())?;
        Ok(Self { terminal })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.terminal.finish();
    }
}

/// The reading thread.
struct Reader {
    terminal: Terminal,
    events: SyncSender<Incoming>,
    decoder: Decoder,
    held: Held,
}

/// Nobody wants to know of keys any more.
struct Over;

impl Reader {
    fn run(mut self) {
        // A terminal that another job has would stop the whole session at the next read; this way it only refuses.
        let mut stops = SigSet::empty();
        stops.extend([Signal::SIGTTIN, Signal::SIGTTOU]);
        if stops.thread_block().is_ok() {
            let Over = self.read_all();
        }
        let _ = self.events.send(Incoming::Event(Event::KeysReleased));
    }

    fn read_all(&mut self) -> Over {
        loop {
            let step = match self.terminal.enter() {
                Ok(true) => self.read(),
                Ok(false) => self.wait_for_terminal(),
                Err(_) => Err(Over),
            };
            if let Err(over) = step {
                return over;
            }
        }
    }

    fn wait_for_terminal(&mut self) -> Result<(), Over> {
        self.release_all()?;
        std::thread::sleep(ABSENCE);
        Ok(())
    }

    /// Waits for a key, or for what is due.
    fn read(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        let until_release = self.held.next_release().map_or(ABSENCE, |at| at.saturating_duration_since(now));
        let patience = if self.decoder.is_waiting() { SEQUENCE.min(until_release) } else { until_release.min(ABSENCE) };
        let mut bytes = [0u8; 256];
        match self.terminal.read(&mut bytes, patience) {
            Input::Bytes(count) => {
                let heard = self.decoder.take(&bytes[..count]);
                self.hear(heard)?;
            }
            Input::Nothing => {
                let heard = self.decoder.flush();
                self.hear(heard)?;
            }
            Input::Absent => return self.wait_for_terminal(),
            Input::End => return Err(Over),
        }
        for usage in self.held.expire(Instant::now()) {
            self.tell(usage, false)?;
        }
        Ok(())
    }

    fn hear(&mut self, heard: Vec<Heard>) -> Result<(), Over> {
        for heard in heard {
            match heard {
                Heard::Key { usage, press } => self.key(usage, press)?,
                Heard::TellsReleases => self.held.terminal_tells_releases(),
                Heard::FocusLost => self.release_all()?,
                // What the terminal makes of them itself where it sends characters.
                Heard::Interrupt => drop(raise(Signal::SIGINT)),
                Heard::Quit => drop(raise(Signal::SIGQUIT)),
                Heard::Suspend => drop(nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGTSTP)),
            }
        }
        Ok(())
    }

    fn key(&mut self, usage: u8, press: Press) -> Result<(), Over> {
        match press {
            Press::Down => {
                if self.held.press(usage, Instant::now()) {
                    self.tell(usage, true)?;
                }
            }
            Press::Up => {
                if self.held.release(usage) {
                    self.tell(usage, false)?;
                }
            }
        }
        Ok(())
    }

    fn release_all(&mut self) -> Result<(), Over> {
        if self.held.release_all() {
            return self.events.send(Incoming::Event(Event::KeysReleased)).map_err(|_| Over);
        }
        Ok(())
    }

    fn tell(&self, usage: u8, is_down: bool) -> Result<(), Over> {
        self.events.send(Incoming::Event(Event::Key { usage, is_down })).map_err(|_| Over)
    }
}
