//! The requests that wait for the supervisor's answer, and whether another one may join them.

use std::collections::BTreeMap;

use super::handle::{ClientId, Ticket};
use super::limits::{MAX_CALL_BYTES, MAX_CALLS, URGENT_CALLS};
use super::protocol::RequestId;

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    pub client: ClientId,
    pub id: RequestId,
    pub method: &'static str,
    pub is_change: bool,
    line_bytes: usize,
}

/// All requests that wait for their answer, those of vanished clients included.
#[derive(Debug, Default)]
pub struct Calls {
    waiting: BTreeMap<Ticket, Waiting>,
    line_bytes: usize,
    last_ticket: u64,
}

/// A request that asks to be let in.
pub struct Applicant {
    pub client: ClientId,
    pub id: RequestId,
    pub method: &'static str,
    pub is_urgent: bool,
    pub is_change: bool,
    pub line_bytes: usize,
}

impl Calls {
    /// Lets a request in, or gives its id back because there are too many.
    pub fn admit(&mut self, call: Applicant) -> Result<Ticket, RequestId> {
        let extra = if call.is_urgent { URGENT_CALLS } else { 0 };
        let has_room = self.waiting.len() < MAX_CALLS + extra && (call.is_urgent || self.line_bytes + call.line_bytes <= MAX_CALL_BYTES);
        if !has_room {
            return Err(call.id);
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.line_bytes += call.line_bytes;
        let Applicant { client, id, method, is_change, line_bytes, .. } = call;
        self.waiting.insert(ticket, Waiting { client, id, method, is_change, line_bytes });
        Ok(ticket)
    }

    /// Removes a request because it is answered; `None` if it has been already.
    pub fn settle(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.line_bytes -= waiting.line_bytes;
        Some(waiting)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applicant(line_bytes: usize) -> Applicant {
        let (client, id) = (ClientId(1), RequestId::Number(1));
        Applicant { client, id, method: "push", is_urgent: false, is_change: true, line_bytes }
    }

    #[test]
    fn waiting_requests_are_bounded_in_number() {
        let mut calls = Calls::default();
        let tickets: Vec<Ticket> = (0..MAX_CALLS).map(|_| calls.admit(applicant(10)).unwrap()).collect();
        assert!(calls.admit(applicant(10)).is_err());
        assert!(calls.admit(Applicant { is_urgent: true, ..applicant(10) }).is_ok(), "panic gets through");
        assert!(calls.settle(tickets[0]).is_some());
        assert!(calls.settle(tickets[0]).is_none(), "only the first answer counts");
    }

    #[test]
    fn waiting_requests_are_bounded_in_bytes() {
        let mut calls = Calls::default();
        let first = calls.admit(applicant(MAX_CALL_BYTES)).unwrap();
        assert!(calls.admit(applicant(1)).is_err());
        calls.settle(first).unwrap();
        assert!(calls.admit(applicant(1)).is_ok());
    }
}
