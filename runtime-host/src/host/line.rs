//! The line to the supervisor, which may be cut and mended: what a host says, and what it remembers of it for the next
//! supervisor of its session (DESIGN §10).
//!
//! Owned by the control thread. While nobody is there nothing is sent, and nothing is lost that the next supervisor must know:
//! the answers to requests are kept, newest last, so that it can tell what has taken effect since the last one took notes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use ipc::channel::{ChannelError, Sender};
use ipc::limits::MAX_LIVE_REQUESTS;
use ipc::live::{LiveChange, LiveReply, LiveRequest, RequestId};
use ipc::message::HostReply;
use ipc::recovery::MAX_REMEMBERED_ANSWERS;

/// The supervisor cannot be reached any more.
pub struct Gone;

/// What has been asked and answered of late.
#[derive(Debug, Default)]
pub struct Diary {
    pub last_request: Option<RequestId>,
    pub is_frozen: bool,
    /// What a request does to `is_frozen` once it is applied.
    freezing: BTreeMap<RequestId, bool>,
    answers: VecDeque<LiveReply>,
}

impl Diary {
    /// A request has come in.
    pub fn ask(&mut self, asked: &LiveRequest) {
        self.last_request = self.last_request.max(Some(asked.request));
        let freezes = match asked.what {
            LiveChange::Freeze => true,
            LiveChange::Run => false,
            LiveChange::Swap(_) | LiveChange::Patch(_) | LiveChange::CancelSwap | LiveChange::Reset | LiveChange::Set { .. } => return,
            LiveChange::Get { .. } | LiveChange::RollBack | LiveChange::Proceed { .. } | LiveChange::Midi { .. } => return,
        };
        if self.freezing.len() >= MAX_LIVE_REQUESTS {
            self.freezing.pop_first();
        }
        self.freezing.insert(asked.request, freezes);
    }

    /// Something is said. Values that were read are of use to the one who asked only.
    fn note(&mut self, reply: &HostReply) {
        let HostReply::Live(answer) = reply else { return };
        match answer {
            LiveReply::Values { .. } => return,
            LiveReply::Refused { request, .. } => drop(self.freezing.remove(request)),
            LiveReply::Applied { request, .. } => self.is_frozen = self.freezing.remove(request).unwrap_or(self.is_frozen),
            LiveReply::Swap { .. } => {}
        }
        if self.answers.len() >= MAX_REMEMBERED_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(answer.clone());
    }

    pub fn answers(&self) -> Vec<LiveReply> {
        self.answers.iter().cloned().collect()
    }
}

/// The line, with somebody at its other end or not.
pub struct Line {
    sender: Option<Sender>,
    diary: RefCell<Diary>,
}

impl Line {
    pub fn new(sender: Sender) -> Self {
        Self { sender: Some(sender), diary: RefCell::default() }
    }

    /// Says something to whoever is there. That nobody is there any more shows in the end of the requests.
    pub fn send(&self, reply: &HostReply) -> Result<(), Gone> {
        self.diary.borrow_mut().note(reply);
        match self.sender.as_ref().map(|sender| sender.send(reply)) {
            None | Some(Ok(()) | Err(ChannelError::Closed)) => Ok(()),
            Some(Err(_)) => Err(Gone),
        }
    }

    pub fn is_cut(&self) -> bool {
        self.sender.is_none()
    }

    pub fn cut(&mut self) {
        self.sender = None;
    }

    pub fn mend(&mut self, sender: Sender) {
        self.sender = Some(sender);
    }

    pub fn diary(&mut self) -> &mut Diary {
        self.diary.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: RequestId, what: LiveChange) -> LiveRequest {
        LiveRequest { request, at_tick: None, what }
    }

    fn applied(request: RequestId) -> HostReply {
        HostReply::Live(LiveReply::Applied { request, tick: request, carried: None })
    }

    #[test]
    fn the_newest_answers_are_remembered_and_values_are_not() {
        let mut diary = Diary::default();
        for request in 0..MAX_REMEMBERED_ANSWERS as u64 + 10 {
            diary.note(&applied(request));
            diary.note(&HostReply::Live(LiveReply::Values { request, tick: 0, values: Vec::new() }));
            diary.note(&HostReply::Stopped);
        }
        let answers = diary.answers();
        assert_eq!(answers.len(), MAX_REMEMBERED_ANSWERS);
        assert_eq!((answers[0].request(), answers[MAX_REMEMBERED_ANSWERS - 1].request()), (10, MAX_REMEMBERED_ANSWERS as u64 + 9));
    }

    #[test]
    fn a_runtime_is_frozen_when_the_request_was_applied_and_not_before() {
        let mut diary = Diary::default();
        diary.ask(&asked(1, LiveChange::Freeze));
        diary.ask(&asked(2, LiveChange::Run));
        diary.ask(&asked(3, LiveChange::Reset));
        assert!(!diary.is_frozen);
        diary.note(&applied(1));
        assert!(diary.is_frozen);
        diary.note(&applied(3));
        assert!(diary.is_frozen);
        diary.note(&applied(2));
        assert!(!diary.is_frozen);
        assert_eq!(diary.last_request, Some(3));
    }
}
