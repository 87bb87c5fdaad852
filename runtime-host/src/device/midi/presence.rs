//! Whether a JACK server is there, told by the thread that looks for one to the threads that play without it. One for each
//! direction of MIDI.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Release};

/// How long the first search may take before the other way is taken: a server that hangs answers nobody.
const PATIENCE_NS: u64 = 3_000_000_000;

const UNKNOWN: u8 = 0;
const THERE: u8 = 1;
const ABSENT: u8 = 2;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Presence {
    state: Arc<AtomicU8>,
    since_ns: u64,
}

impl Presence {
    /// Somebody looks for a server from now on.
    pub fn sought(now_ns: u64) -> Self {
        Self { state: Arc::new(AtomicU8::new(UNKNOWN)), since_ns: now_ns }
    }

    /// Nobody does.
    pub fn absent() -> Self {
        Self { state: Arc::new(AtomicU8::new(ABSENT)), since_ns: 0 }
    }

    pub fn tell(&self, is_there: bool) {
        self.state.store(if is_there { THERE } else { ABSENT }, Release);
    }

    /// Whether it is known that there is none.
    pub fn is_absent(&self, now_ns: u64) -> bool {
        match self.state.load(Acquire) {
            THERE => false,
            UNKNOWN => now_ns.saturating_sub(self.since_ns) >= PATIENCE_NS,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_waited_for_until_it_is_known_not_to_be_there_or_hangs() {
        let presence = Presence::sought(1_000);
        assert!(!presence.is_absent(1_000));
        assert!(presence.is_absent(1_000 + PATIENCE_NS), "it hangs");
        presence.tell(true);
        assert!(!presence.is_absent(u64::MAX));
        presence.tell(false);
        assert!(presence.is_absent(0) && Presence::absent().is_absent(0));
    }
}
