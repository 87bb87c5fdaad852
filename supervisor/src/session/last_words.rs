//! The kernel tells of a child's death on one thread; what the child said before comes in on another, perhaps later. This
//! keeps the death back until the child is read out, so that it is always the last thing heard of it.

use crate::policy::ProcessEnd;

/// What is known of one child's end.
#[derive(Debug, Default)]
pub struct LastWords {
    /// Everything it has said has been read: nothing more comes.
    is_read_out: bool,
    /// How it ended, as long as something it said before may still be on its way.
    death: Option<ProcessEnd>,
}

impl LastWords {
    /// The kernel says that it is dead. Returns the death if it may be told now.
    pub fn died(&mut self, end: ProcessEnd) -> Option<ProcessEnd> {
        if self.is_read_out {
            return Some(end);
        }
        self.death = Some(end);
        None
    }

    /// Its channel has come to an end. Returns the death that was kept back, to be told instead of what it brought about.
    pub fn read_out(&mut self) -> Option<ProcessEnd> {
        self.is_read_out = true;
        self.death.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_that_overtakes_the_last_message_is_told_after_it() {
        let mut child = LastWords::default();
        assert_eq!(child.died(ProcessEnd::Exited(0)), None);
        assert_eq!(child.read_out(), Some(ProcessEnd::Exited(0)));
        assert_eq!(child.read_out(), None, "and once only");
    }

    #[test]
    fn a_death_after_the_last_message_is_told_at_once() {
        let mut child = LastWords::default();
        assert_eq!(child.read_out(), None);
        assert_eq!(child.died(ProcessEnd::Killed(9)), Some(ProcessEnd::Killed(9)));
    }
}
