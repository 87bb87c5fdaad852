//! Who wants to be told of which item, how often, and what each was told last.
//!
//! UDP has no end of a conversation, so a subscription is a lease: it ends by itself unless it is made again. Pure: time
//! comes in as an argument.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rosc::{OscMessage, OscPacket, OscType};

use crate::control::protocol::{ItemKind, ItemName, ItemValues, Number, RuntimeName};

/// Subscriptions of all together.
pub const MAX_SUBSCRIPTIONS: usize = 64;

/// Shortest time between two looks at an item.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

/// The same where the subscriber does not say.
const USUAL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a subscription lasts.
const LEASE: Duration = Duration::from_secs(60);

/// Elements of an item that are told; more do not fit into a packet.
const MAX_ELEMENTS: usize = 1_024;

/// A look at an item for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    id: u64,
    pub runtime: RuntimeName,
    pub item: ItemName,
}

#[derive(Debug)]
struct Subscription {
    id: u64,
    to: SocketAddr,
    address: String,
    runtime: RuntimeName,
    item: ItemName,
    interval: Duration,
    ends: Instant,
    next: Instant,
    /// A look is under way.
    is_asked: bool,
    /// The packet that was sent last.
    told: Option<Vec<u8>>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Subscriptions {
    all: Vec<Subscription>,
    last_id: u64,
}

impl Subscriptions {
    /// Begins a subscription, or goes on with one; its value is told again in any case. Returns whether there is room.
    pub fn add(
        &mut self,
        to: SocketAddr,
        address: String,
        runtime: RuntimeName,
        item: ItemName,
        interval: Option<Duration>,
        now: Instant,
    ) -> bool {
        self.remove(to, &address);
        self.all.retain(|one| one.ends > now);
        if self.all.len() >= MAX_SUBSCRIPTIONS {
            return false;
        }
        self.last_id += 1;
        let interval = interval.unwrap_or(USUAL_INTERVAL).max(SHORTEST_INTERVAL);
        let (id, ends) = (self.last_id, now + LEASE);
        self.all.push(Subscription { id, to, address, runtime, item, interval, ends, next: now, is_asked: false, told: None });
        true
    }

    pub fn remove(&mut self, to: SocketAddr, address: &str) {
        self.all.retain(|one| one.to != to || one.address != address);
    }

    /// When the next look is due.
    pub fn next_poll(&self) -> Option<Instant> {
        self.all.iter().filter(|one| !one.is_asked).map(|one| one.next).min()
    }

    /// A look that is due, if there is one.
    pub fn due(&mut self, now: Instant) -> Option<Poll> {
        self.all.retain(|one| one.ends > now);
        let due = self.all.iter_mut().filter(|one| !one.is_asked && one.next <= now).min_by_key(|one| one.next)?;
        due.is_asked = true;
        due.next = now + due.interval;
        Some(Poll { id: due.id, runtime: due.runtime.clone(), item: due.item.clone() })
    }

    /// What a look has found. Returns what is to be sent, if it is news.
    pub fn tell(&mut self, poll: &Poll, values: &ItemValues) -> Option<(SocketAddr, Vec<u8>)> {
        let one = self.all.iter_mut().find(|one| one.id == poll.id)?;
        one.is_asked = false;
        let args = values.values.first().map(|item| {
            let argument = |value: &Number| match (item.kind, *value) {
                (ItemKind::Int, Number::Int(value)) => i32::try_from(value).map_or(OscType::Long(value), OscType::Int),
                (ItemKind::Float64, value) => OscType::Double(value.as_f64()),
                (ItemKind::Int | ItemKind::Float, value) => OscType::Float(value.as_f64() as f32),
            };
            item.values.iter().take(MAX_ELEMENTS).map(argument).collect()
        })?;
        let message = OscPacket::Message(OscMessage { addr: one.address.clone(), args });
        let bytes = rosc::encoder::encode(&message).ok()?;
        if one.told.as_ref() == Some(&bytes) {
            return None;
        }
        one.told = Some(bytes.clone());
        Some((one.to, bytes))
    }

    /// A look has found nothing; the next one may.
    pub fn missed(&mut self, poll: &Poll) {
        if let Some(one) = self.all.iter_mut().find(|one| one.id == poll.id) {
            one.is_asked = false;
        }
    }

    /// There is no such item: it is over.
    pub fn end(&mut self, poll: &Poll) {
        self.all.retain(|one| one.id != poll.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::ItemValue;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn values(value: f64) -> ItemValues {
        ItemValues {
            tick: 1,
            values: vec![ItemValue { item: "a:b".to_owned(), kind: ItemKind::Float, values: vec![Number::Float(value)] }],
        }
    }

    fn add(subscriptions: &mut Subscriptions, port: u16, now: Instant) -> bool {
        let (runtime, item) = (RuntimeName::new("d").unwrap(), ItemName::new("a:b").unwrap());
        subscriptions.add(at(port), "/d/a/b".to_owned(), runtime, item, None, now)
    }

    #[test]
    fn a_value_is_told_when_it_has_changed_and_no_oftener_than_asked_for() {
        let (mut all, now) = (Subscriptions::default(), Instant::now());
        assert!(add(&mut all, 1, now));
        let poll = all.due(now).unwrap();
        assert_eq!((all.due(now), all.next_poll()), (None, None), "one look at a time");
        assert!(all.tell(&poll, &values(0.5)).is_some_and(|(to, _)| to == at(1)));
        assert_eq!(all.due(now + USUAL_INTERVAL / 2), None);
        let poll = all.due(now + USUAL_INTERVAL).unwrap();
        assert_eq!(all.tell(&poll, &values(0.5)), None, "no news");
        let poll = all.due(now + USUAL_INTERVAL * 2).unwrap();
        assert!(all.tell(&poll, &values(0.75)).is_some());
        assert!(add(&mut all, 1, now), "made again");
        let poll = all.due(now + USUAL_INTERVAL * 3).unwrap();
        assert!(all.tell(&poll, &values(0.75)).is_some(), "and told again");
    }

    #[test]
    fn subscriptions_end_are_bounded_and_belong_to_their_sender() {
        let (mut all, now) = (Subscriptions::default(), Instant::now());
        assert!((0..MAX_SUBSCRIPTIONS as u16).all(|port| add(&mut all, port, now)));
        assert!(!add(&mut all, 999, now));
        all.remove(at(3), "/d/a/b");
        assert!(add(&mut all, 999, now));
        assert!(add(&mut all, 1_000, now + LEASE), "the others have ended");
        assert_eq!(all.all.len(), 1);
        let poll = all.due(now + LEASE).unwrap();
        all.missed(&poll);
        let again = all.due(now + LEASE + USUAL_INTERVAL);
        assert_eq!(again.as_ref(), Some(&poll), "looked at again");
        all.end(&poll);
        assert_eq!((all.all.len(), all.tell(&poll, &values(1.0))), (0, None));
    }
}
