//! Which keys are held, with terminals that tell of releases and with those that do not.
//!
//! Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// How long a key counts as held that its terminal does not tell the release of. Longer than the pause between two
/// repetitions (33 ms usually, 50 ms at most), so that a key that is kept down is held throughout once it repeats; shorter
/// than the pause before the first one (250 ms or more), so that a tap is a tap.
const TAP: Duration = Duration::from_millis(150);

/// Keys that may be held at a time. Of more, the oldest are forgotten; the policy does the same.
const MAX_HELD: usize = 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Held {
    /// When each counts as released; `None` when its terminal tells.
    keys: Vec<(u8, Option<Instant>)>,
    tells_releases: bool,
}

impl Held {
    /// The terminal has said that it tells of releases.
    pub fn terminal_tells_releases(&mut self) {
        self.tells_releases = true;
    }

    /// A key is down. Returns whether it was not before.
    pub fn press(&mut self, usage: u8, now: Instant) -> bool {
        let until = (!self.tells_releases).then(|| now + TAP);
        if let Some(key) = self.keys.iter_mut().find(|key| key.0 == usage) {
            key.1 = until;
            return false;
        }
        if self.keys.len() >= MAX_HELD {
            self.keys.remove(0);
        }
        self.keys.push((usage, until));
        true
    }

    /// A key is up. Returns whether it was down.
    pub fn release(&mut self, usage: u8) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.0 != usage);
        self.keys.len() < before
    }

    /// All keys are up. Returns whether any was down.
    pub fn release_all(&mut self) -> bool {
        !std::mem::take(&mut self.keys).is_empty()
    }

    /// When the next key counts as released.
    pub fn next_release(&self) -> Option<Instant> {
        self.keys.iter().filter_map(|key| key.1).min()
    }

    /// Takes the keys that count as released by now.
    pub fn expire(&mut self, now: Instant) -> Vec<u8> {
        let expired = self.keys.extract_if(.., |key| key.1.is_some_and(|until| until <= now));
        expired.map(|key| key.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPETITION: Duration = Duration::from_millis(33);

    #[test]
    fn a_tap_ends_by_itself_and_repetitions_hold() {
        let (mut held, start) = (Held::default(), Instant::now());
        assert!(held.press(4, start));
        assert!(held.expire(start + TAP - Duration::from_millis(1)).is_empty());
        assert_eq!(held.next_release(), Some(start + TAP));
        assert_eq!(held.expire(start + TAP), [4]);
        let again = start + TAP * 2;
        assert!(held.press(4, again));
        for repetition in 1..20 {
            let now = again + REPETITION * repetition;
            assert!(held.expire(now).is_empty());
            assert!(!held.press(4, now), "a repetition");
        }
        assert_eq!(held.expire(again + REPETITION * 19 + TAP), [4]);
    }

    #[test]
    fn a_terminal_that_tells_releases_is_believed() {
        let (mut held, start) = (Held::default(), Instant::now());
        held.terminal_tells_releases();
        assert!(held.press(4, start) && held.press(5, start));
        assert!(held.expire(start + TAP * 100).is_empty() && held.next_release().is_none());
        assert!(held.release(4) && !held.release(4));
        assert!(held.release_all() && !held.release_all());
    }

    #[test]
    fn a_terminal_that_never_tells_makes_nothing_grow() {
        let mut held = Held::default();
        held.terminal_tells_releases();
        for usage in 0..=255 {
            held.press(usage, Instant::now());
        }
        assert_eq!(held.keys.len(), MAX_HELD);
    }
}
