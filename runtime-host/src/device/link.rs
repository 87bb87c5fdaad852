//! The connection to a supervisor: one thread that waits for its requests, one that sends it replies.
//!
//! Made by the control thread, which never waits for either: a supervisor that is stopped, or slow, delays neither the
//! watchdog of the sound devices nor anything else. Status reports that it does not take are left out; everything else
//! waits for it. A link lives from the greeting to the end of its channel; the next supervisor gets a link of its own, told
//! from the earlier ones by its number.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use ipc::message::{DeviceReply, DeviceRequest};
pub use ipc::rendezvous::{Connection, Grace};

use super::control::Event;

/// Replies that wait for the supervisor from which on status reports are left out: three seconds of them.
const MAX_WAITING_STATUS: usize = 32;

/// An open link.
pub struct Link {
    number: u64,
    replies: mpsc::Sender<DeviceReply>,
    waiting: Arc<AtomicUsize>,
    sent_all: mpsc::Receiver<()>,
}

impl Link {
    /// Starts the two threads. Requests, and the end of them, come as events that carry the link's number.
    pub fn open(connection: Connection, number: u64, events: &mpsc::Sender<Event>) -> std::io::Result<Self> {
        let Connection { sender, receiver } = connection;
        let (replies, replies_out) = mpsc::channel();
        let (all_in, sent_all) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (taken, events) = (Arc::clone(&waiting), events.clone());
        std::thread::Builder::new().name("requests".into()).spawn(move || forward(&receiver, number, &events))?;
        std::thread::Builder::new().name("replies".into()).spawn(move || {
            send_all(&sender, &replies_out, &taken);
            let _ = all_in.send(());
        })?;
        Ok(Self { number, replies, waiting, sent_all })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sends a reply when the supervisor takes it; a status report only if it takes them at all. That nobody is there any
    /// more shows in the end of the requests.
    pub fn send(&self, reply: DeviceReply) {
        if matches!(reply, DeviceReply::Status(_)) && self.waiting.load(Relaxed) >= MAX_WAITING_STATUS {
            return;
        }
        self.waiting.fetch_add(1, Relaxed);
        let _ = self.replies.send(reply);
    }

    /// Waits until everything has been sent, at most `limit`.
    pub fn close(self, limit: Duration) {
        drop(self.replies);
        let _ = self.sent_all.recv_timeout(limit);
    }
}

/// Passes requests on until there are no more. A supervisor that cannot be understood is as good as gone.
fn forward(receiver: &ipc::channel::Receiver, number: u64, events: &mpsc::Sender<Event>) {
    while let Ok(request) = receiver.receive::<DeviceRequest>() {
        if events.send(Event::Request(request)).is_err() {
            return;
        }
    }
    let _ = events.send(Event::Closed { link: number });
}

fn send_all(sender: &ipc::channel::Sender, replies: &mpsc::Receiver<DeviceReply>, waiting: &AtomicUsize) {
    while let Ok(reply) = replies.recv() {
        if sender.send(&reply).is_err() {
            return;
        }
        waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use ipc::channel::{Doorway, Hello, PROTOCOL_VERSION, connect};
    use ipc::message::{DeviceStatus, Role};

    use super::*;

    /// Both ends of a channel: the device host's, and the supervisor's.
    fn connection() -> (Connection, Connection) {
        let hello = Hello { protocol: PROTOCOL_VERSION, build: "test".into(), role: Role::DeviceHost };
        let doorway = Doorway::open().unwrap();
        let (name, theirs) = (doorway.name().to_owned(), hello.clone());
        let child = std::thread::spawn(move || connect(&name, &theirs).unwrap());
        let (sender, receiver) = doorway.accept(&hello).unwrap();
        let supervisors = Connection { sender, receiver };
        let (sender, receiver) = child.join().unwrap();
        (Connection { sender, receiver }, supervisors)
    }

    #[test]
    fn a_supervisor_that_does_not_read_delays_nobody_and_misses_status_reports_only() {
        const REPORTS: u64 = 50_000;
        let (ours, theirs) = connection();
        let (events_in, _events) = mpsc::channel();
        let link = Link::open(ours, 1, &events_in).unwrap();
        for number in 0..REPORTS {
            link.send(DeviceReply::Status(DeviceStatus { frames: number, lanes: vec![], ..DeviceStatus::default() }));
            if number % 1_000 == 0 {
                link.send(DeviceReply::Moved { device: number.to_string(), reason: "r".repeat(1_000), channels: 2 });
            }
        }
        let reader = std::thread::spawn(move || std::iter::from_fn(|| theirs.receiver.receive::<DeviceReply>().ok()).collect::<Vec<_>>());
        link.send(DeviceReply::Stopped { frames: 7 });
        link.close(Duration::from_secs(60));
        let moves = |replies: &[DeviceReply]| replies.iter().filter(|reply| matches!(reply, DeviceReply::Moved { .. })).count();
        let replies = reader.join().unwrap();
        assert_eq!(moves(&replies), 50);
        assert_eq!(replies.last(), Some(&DeviceReply::Stopped { frames: 7 }));
        assert!((replies.len() as u64) < REPORTS, "what was not read has not been kept");
    }

    #[test]
    fn the_end_of_a_link_carries_its_number() {
        let (ours, theirs) = connection();
        let (events_in, events) = mpsc::channel();
        let _link = Link::open(ours, 7, &events_in).unwrap();
        theirs.sender.send(&DeviceRequest::List).unwrap();
        drop(theirs);
        assert!(matches!(events.recv().unwrap(), Event::Request(DeviceRequest::List)));
        assert!(matches!(events.recv().unwrap(), Event::Closed { link: 7 }));
    }
}
