//! Whether a spare still answers. It has no work that would show it standing still, so it is asked now and then for a program
//! that it has loaded, which costs it nothing. Part of the state machine: see the parent module.
//!
//! Time comes in as what the supervisor itself has seen pass (`super::stalls`), so a starved supervisor gives nobody up.

use super::deadlines;

/// From an answer to the next question. With [`ANSWER_MS`], a spare that stands still is known within a second.
const ASK_MS: u64 = 250;

/// When a spare that does not answer is given up. It has a thread of ordinary priority that waits for nothing else; on a machine
/// that lets the supervisor look every 50 ms, only one that stands still gets no turn for so long.
const ANSWER_MS: u64 = 500;

/// What is known of a spare's answers.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Programs it has been told to load and has not answered for, and their bytes.
    loads: u32,
    loading_bytes: u64,
    is_asked: bool,
    /// Since its last answer, or since it was told or asked something if that came later.
    quiet_ms: u64,
}

/// What a look at a spare comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Well,
    /// It is to be asked.
    Due,
    /// It has not answered for so long.
    Stuck {
        quiet_ms: u64,
    },
}

impl Pulse {
    /// It has been told to load a program whose artifact has so many bytes.
    pub fn loads(&mut self, bytes: u64) {
        self.begin_waiting();
        self.loads += 1;
        self.loading_bytes = self.loading_bytes.saturating_add(bytes);
    }

    /// It has been asked for what it has.
    pub fn is_asked(&mut self) {
        self.begin_waiting();
        self.is_asked = true;
    }

    fn begin_waiting(&mut self) {
        if !self.is_waiting() {
            self.quiet_ms = 0;
        }
    }

    /// It has loaded a program, or could not.
    pub fn has_loaded(&mut self) {
        self.quiet_ms = 0;
        self.loads = self.loads.saturating_sub(1);
        if self.loads == 0 {
            self.loading_bytes = 0;
        }
    }

    /// It has said that it has what it was asked for.
    pub fn has_answered(&mut self) {
        self.quiet_ms = 0;
        self.is_asked = false;
    }

    fn is_waiting(&self) -> bool {
        self.loads > 0 || self.is_asked
    }

    /// So much time has passed.
    pub fn pass(&mut self, seen_ms: u64) -> Found {
        self.quiet_ms += seen_ms;
        let patience_ms = if self.loads > 0 { deadlines::load_ms(self.loading_bytes) } else { ANSWER_MS };
        match self.is_waiting() {
            true if self.quiet_ms >= patience_ms => Found::Stuck { quiet_ms: self.quiet_ms },
            true => Found::Well,
            false if self.quiet_ms >= ASK_MS => Found::Due,
            false => Found::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_answers_is_asked_again_and_again_and_never_given_up() {
        let mut pulse = Pulse::default();
        let mut questions = 0;
        for _ in 0..1_000 {
            match pulse.pass(50) {
                Found::Well => {}
                Found::Due => {
                    questions += 1;
                    pulse.is_asked();
                    assert_eq!(pulse.pass(ANSWER_MS - 1), Found::Well);
                    pulse.has_answered();
                }
                stuck @ Found::Stuck { .. } => panic!("{stuck:?}"),
            }
        }
        assert_eq!(questions, 200);
    }

    #[test]
    fn one_that_stands_still_is_known_within_a_second() {
        let mut pulse = Pulse::default();
        let mut seen_ms = 0;
        let quiet_ms = loop {
            seen_ms += 50;
            match pulse.pass(50) {
                Found::Well => {}
                Found::Due => pulse.is_asked(),
                Found::Stuck { quiet_ms } => break quiet_ms,
            }
        };
        assert_eq!((quiet_ms, seen_ms), (ANSWER_MS, ASK_MS + ANSWER_MS));
    }

    #[test]
    fn one_that_loads_is_given_the_time_that_a_load_of_that_size_may_take() {
        let mut pulse = Pulse::default();
        pulse.loads(1 << 20);
        pulse.loads(64 << 20);
        assert_eq!(pulse.pass(deadlines::load_ms(65 << 20) - 1), Found::Well);
        pulse.has_loaded();
        assert_eq!(pulse.pass(deadlines::load_ms(65 << 20) - 1), Found::Well, "each answer is a sign of life");
        pulse.has_loaded();
        pulse.is_asked();
        assert_eq!(pulse.pass(ANSWER_MS), Found::Stuck { quiet_ms: ANSWER_MS });
    }
}
