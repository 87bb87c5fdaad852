//! What listening runtimes heard, kept for recordings: the input that does not fit into the journal.
//!
//! What a tick hears stands in the ring of its lane ([`ipc::input`]), decided once, until no host can have to hear it again. So a
//! copy is taken there, by whoever looks on: no real-time thread has anything to do with it, a block has the number of its tick,
//! and the deaths of hosts and of the device host neither lose one nor double it.
//!
//! - [`ear`]: the thread that looks into the rings, some dozens of times before they come round.
//! - [`writer`]: the thread that writes what it brings, into a nameless file from the session's start on, and into the recording's own.
//! - [`mod@file`]: that file, `RECORDING.heard`: pieces with their ticks, each with its hash.
//! - [`player`]: the thread that decides in a replay what is heard: the same.
//!
//! The main thread has [`Heard`], and never waits for a disk but at the session's end, with a limit.

mod ear;
pub mod file;
mod player;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use ipc::input::InputReader;
use ipc::message::Buses;
use ipc::segment::SegmentRef;

pub use self::player::Player;
use super::connection::Incoming;
use ear::{Ear, Order};
use writer::{Load, Writer};

/// How long the end of a session waits for the disk.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Stack in bytes of the threads.
const STACK_BYTES: usize = 256 << 10;

/// What the threads tell the main thread.
#[derive(Debug)]
pub enum News {
    /// What was heard is complete in the file of the recording of this number.
    Finished { number: u64 },
    /// It cannot be recorded any more.
    Failed { path: PathBuf, why: String },
    /// What a replay is to hear cannot be read any more.
    Unplayable { why: String },
    /// What this life heard from this tick on is not known.
    Lost { life: usize, tick: u64, why: &'static str },
}

/// A lane that something may be heard in.
struct Lane {
    life: usize,
    segment: SegmentRef,
    is_listened_to: bool,
}

/// The main thread's end.
pub struct Heard {
    /// `None`: nothing is kept, because there is no thread to do it.
    orders: Option<Sender<Order>>,
    /// By the name that the device host knows them by.
    lanes: BTreeMap<String, Lane>,
    /// Lanes that something is heard in, by the same names.
    connected: BTreeSet<String>,
    /// The recording that is going on, and the number of the last one.
    recording: Option<PathBuf>,
    number: u64,
    /// Lives of which it is not known what they heard from a tick on, and why.
    lost: Vec<(usize, u64, &'static str)>,
    ended: Receiver<()>,
}

impl Heard {
    /// Starts the threads. Without them a recording holds nothing that was heard, and its replay says so.
    pub fn begin(events: &SyncSender<Incoming>) -> Self {
        let (orders, orders_out) = channel();
        let (load, load_out) = sync_channel(writer::MAX_LOADS);
        let (ended_in, ended) = channel();
        let (to_main, from_writer) = (events.clone(), events.clone());
        // When the main thread has ended, nobody needs to know.
        let tell = move |news| drop(to_main.send(Incoming::Heard(news)));
        let writes = spawn("heard", move || {
            Writer::new(move |news| drop(from_writer.send(Incoming::Heard(news)))).run(&load_out);
            let _ = ended_in.send(());
        });
        let listens = writes && spawn("ear", move || Ear::new(load, tell).run(&orders_out));
        Self {
            orders: listens.then_some(orders),
            lanes: BTreeMap::new(),
            connected: BTreeSet::new(),
            recording: None,
            number: 0,
            lost: Vec::new(),
            ended,
        }
    }

    /// A session in which nothing is recorded.
    pub fn none() -> Self {
        let (_, ended) = channel();
        Self { orders: None, lanes: BTreeMap::new(), connected: BTreeSet::new(), recording: None, number: 0, lost: Vec::new(), ended }
    }

    /// A life of a runtime has this lane from its first tick on. It may be connected already.
    pub fn add(&mut self, name: String, life: usize, segment: SegmentRef) {
        if self.orders.is_some() {
            self.lanes.insert(name, Lane { life, segment, is_listened_to: false });
            self.listen();
        }
    }

    /// Lanes are about to be connected like this, those that are there and those that are still to come.
    pub fn connect(&mut self, buses: &Buses) {
        self.connected = buses.list.iter().map(|bus| bus.to.clone()).collect();
        self.listen();
    }

    /// Listens to the lanes that have been connected. What one that has not been has heard so far is silence.
    fn listen(&mut self) {
        let Some(orders) = &self.orders else { return };
        for (_, lane) in self.lanes.iter_mut().filter(|(name, lane)| !lane.is_listened_to && self.connected.contains(*name)) {
            // One that cannot be mapped is not known in the recording, and its replay says so.
            if let Ok(reader) = InputReader::open(&lane.segment) {
                lane.is_listened_to = true;
                let from = reader.decided_rt();
                let _ = orders.send(Order::Listen { life: lane.life, reader, from });
            }
        }
    }

    /// Nobody writes into this segment any more.
    pub fn release(&mut self, segment: &str) {
        let gone = self.lanes.extract_if(.., |_, lane| lane.segment.name == segment);
        for (_, lane) in gone {
            if let Some(orders) = &self.orders {
                let _ = orders.send(Order::Leave { life: lane.life });
            }
        }
    }

    /// Begins to record into this new file, from the session's start on.
    pub fn record(&mut self, path: &Path, id: &str) {
        if let Some(orders) = &self.orders {
            self.recording = Some(path.to_owned());
            let _ = orders.send(Order::Record { path: path.to_owned(), id: id.to_owned() });
        }
    }

    /// Ends the recording. `News::Finished` comes with the number that is returned; `None`: there is nothing to wait for.
    pub fn finish(&mut self) -> Option<u64> {
        self.recording.take()?;
        self.number += 1;
        self.orders.as_ref()?.send(Order::Finish { number: self.number }).ok()?;
        Some(self.number)
    }

    /// The file that is recorded into.
    pub fn recording(&self) -> Option<&Path> {
        self.recording.as_deref()
    }

    /// What a life hears is not known from a tick on: no recording of this session knows it.
    pub fn lose(&mut self, life: usize, tick: u64, why: &'static str) {
        self.lost.push((life, tick, why));
    }

    /// What has been lost so far.
    pub fn lost(&self) -> &[(usize, u64, &'static str)] {
        &self.lost
    }

    /// Ends a recording that has failed.
    pub fn failed(&mut self, path: &Path) {
        self.recording.take_if(|recording| recording == path);
    }

    /// Completes what is being recorded, and waits for that.
    pub fn end(&mut self) {
        if self.orders.take().is_some() {
            let _ = self.ended.recv_timeout(END_LIMIT);
        }
    }
}

/// Where what was heard in a recording lies.
pub fn beside(recording: &Path) -> PathBuf {
    let mut name = recording.as_os_str().to_owned();
    name.push(".heard");
    PathBuf::from(name)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work).is_ok()
}

/// Where pieces of what was heard go.
type Loads = SyncSender<Load>;
