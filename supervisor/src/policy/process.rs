//! One process as the policy sees it: what is known of its life, and by when it must have done what.

use super::deadlines;
use super::vocabulary::ProcessEnd;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not part of this session, or not yet wanted.
    Absent,
    /// Started; it has not come in through its doorway.
    Starting {
        deadline_ms: u64,
    },
    /// Connected.
    Joined,
    /// Its channel is closed; `is_wanted` when we closed it.
    Closing {
        deadline_ms: u64,
        is_wanted: bool,
    },
    /// We have sent SIGKILL. `is_fault` when that was for something it did or omitted, so that its death is a loss.
    Killed {
        is_fault: bool,
    },
    Dead,
}

/// What a death means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// We wanted it.
    Expected,
    Unexpected,
    /// It was known already.
    Stale,
}

/// A process of the session.
#[derive(Clone, Debug)]
pub struct Process {
    pub life: Life,
    /// 0 until it is known.
    pub pid: u32,
    /// What it is killed for.
    pub cause: Option<String>,
}

impl Process {
    pub fn absent() -> Self {
        Self { life: Life::Absent, pid: 0, cause: None }
    }

    pub fn start(&mut self, now_ms: u64) {
        self.life = Life::Starting { deadline_ms: now_ms + deadlines::JOIN_MS };
    }

    /// Whether it can be talked to.
    pub fn is_joined(&self) -> bool {
        self.life == Life::Joined
    }

    /// Whether what it says still counts: it has not been given up for a fault.
    pub fn is_heard(&self) -> bool {
        match self.life {
            Life::Starting { .. } | Life::Joined | Life::Closing { .. } | Life::Killed { is_fault: false } => true,
            Life::Absent | Life::Killed { is_fault: true } | Life::Dead => false,
        }
    }

    /// Whether it is, or may still become, of use.
    pub fn is_usable(&self) -> bool {
        match self.life {
            Life::Starting { .. } | Life::Joined => true,
            Life::Absent | Life::Closing { .. } | Life::Killed { .. } | Life::Dead => false,
        }
    }

    /// Whether nothing of it is left, or nothing ever was.
    pub fn is_gone(&self) -> bool {
        match self.life {
            Life::Absent | Life::Dead => true,
            Life::Starting { .. } | Life::Joined | Life::Closing { .. } | Life::Killed { .. } => false,
        }
    }

    pub fn join(&mut self) {
        match self.life {
            Life::Starting { .. } => self.life = Life::Joined,
            // A greeting that crossed with our decision to end the process, or comes twice, changes nothing.
            Life::Absent | Life::Joined | Life::Closing { .. } | Life::Killed { .. } | Life::Dead => {}
        }
    }

    /// Its channel is closed, by us (`is_wanted`) or by itself. Returns whether that is news.
    pub fn close(&mut self, now_ms: u64, is_wanted: bool) -> bool {
        match self.life {
            Life::Starting { .. } | Life::Joined => {
                self.life = Life::Closing { deadline_ms: now_ms + deadlines::CLOSE_MS, is_wanted };
                true
            }
            Life::Absent | Life::Closing { .. } | Life::Killed { .. } | Life::Dead => false,
        }
    }

    /// SIGKILL is to be sent. Returns whether there is something to kill.
    pub fn kill(&mut self, is_fault: bool) -> bool {
        match self.life {
            Life::Starting { .. } | Life::Joined | Life::Closing { .. } => {
                self.life = Life::Killed { is_fault };
                true
            }
            Life::Absent | Life::Killed { .. } | Life::Dead => false,
        }
    }

    /// The kernel says that it is dead.
    pub fn die(&mut self, end: ProcessEnd) -> Death {
        let before = std::mem::replace(&mut self.life, Life::Dead);
        match (before, end) {
            (Life::Absent, _) => {
                self.life = Life::Absent;
                Death::Stale
            }
            (Life::Dead, _) => Death::Stale,
            (Life::Killed { is_fault: false }, _)
            | (Life::Closing { is_wanted: true, .. }, ProcessEnd::Exited(0) | ProcessEnd::UNKNOWN) => Death::Expected,
            (Life::Killed { is_fault: true }, _) => Death::Unexpected,
            (Life::Starting { .. } | Life::Joined, _)
            | (Life::Closing { is_wanted: true, .. }, ProcessEnd::Exited(_) | ProcessEnd::Killed(_))
            | (Life::Closing { is_wanted: false, .. }, _) => Death::Unexpected,
        }
    }

    /// When something must have happened.
    pub fn deadline_ms(&self) -> Option<u64> {
        match self.life {
            Life::Starting { deadline_ms } | Life::Closing { deadline_ms, .. } => Some(deadline_ms),
            Life::Absent | Life::Joined | Life::Killed { .. } | Life::Dead => None,
        }
    }
}
