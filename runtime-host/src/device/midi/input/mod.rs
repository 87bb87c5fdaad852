//! MIDI in: what instruments and files play, stamped with the block of the session that is to know of it (DESIGN §2, §6).
//!
//! | thread | does | module |
//! |---|---|---|
//! | control | begins and ends | this one |
//! | midi-in | looks at all sources, stamps, hands on to the control thread | this one, [`clock`], [`score`] |
//! | midi-in-jack | looks for a JACK server, and connects ports by name | [`jack`], [`wiring`] |
//! | JACK's own (real-time) | takes in what has come, with its time | [`jack`] |
//! | midi-in-seq | opens the ALSA sequencer where there is no JACK server, and connects ports by name | [`sequencer`], [`wiring`] |
//! | midir's own, one for each port | take in what has come, with its time | [`sequencer`] |
//!
//! From the arrival of a message to its block there are always as many blocks: those that hosts have computed ahead of the
//! device, and `MARGIN_BLOCKS` for the way. So what was played evenly sounds evenly, whatever the period of the device is
//! and however busy the machine. A flood is taken in bit by bit; what finds no room is counted, and is never the end of a
//! note ([`inbox`]). No user code runs here, and nobody is waited for.
//!
//! What the session itself sends can be listened to, too, without any driver: see [`looped_port`].

pub mod clock;
pub mod follower;
pub mod inbox;
pub mod jack;
pub mod score;
pub mod sequencer;
pub mod wiring;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::limits::BLOCK_FRAMES;
use ipc::midi::{Arrived, Message, PortChange, Ports, Received};
use ipc::tempo::Tempo;

use super::{Drivers, alsa};
use crate::device::counters::Counters;
use crate::realtime::{monotonic_ns_rt, tighten_timer_slack};
use clock::CountClock;
use follower::{Followed, Follower};
use inbox::Inbox;
use jack::JackIn;
use score::Score;
use sequencer::SequencerIn;
use wiring::Wiring;

/// How often sources are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Blocks for the way of a message through this process and the supervisor into its host.
const MARGIN_BLOCKS: u64 = 2;

/// Messages that are handed on at a time: as many as 64 full wires have in this time.
pub const MESSAGES_AT_A_TIME: usize = 64;

/// Frames of a file that are handed on before their time, so that they are there on time however busy the machine is.
const FILE_AHEAD_FRAMES: u64 = 16 * BLOCK_FRAMES as u64;

/// Input ports, and output ports: those that a session has, and as many of JACK and of the sequencer. What is sent at others
/// is left out.
pub const PORTS: usize = 4;

/// Name of an input port that hears what the session sends at its first output port; `loop:2` hears the second.
const LOOP: &str = "loop";

/// The output port that an input port of this name hears, where it is one of the session's own.
pub fn looped_port(name: &str) -> Option<u8> {
    let number = name.strip_prefix(LOOP)?;
    if number.is_empty() {
        return Some(1);
    }
    number.strip_prefix(':')?.parse().ok().filter(|port| (1..=PORTS as u8).contains(port))
}

/// Whether an input port of this name is to be connected to ports of other programs.
fn is_port_name(name: &str) -> bool {
    !score::is_file(name) && looped_port(name).is_none()
}

/// What has been counted.
#[derive(Debug, Default)]
pub struct InputCounters {
    pub received: AtomicU64,
    pub dropped: AtomicU64,
    /// Pieces of bytes that were no message.
    pub malformed: AtomicU64,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Messages, in order.
    Arrived(Vec<Arrived>),
    /// Files begin at this frame of the session.
    FilesBegin { frame: u64 },
    /// A port has come or gone. All that it has played has been told.
    Port(PortChange),
    /// What the clock that comes in says.
    Tempo(Tempo),
    /// It says nothing any more.
    ClockLost,
    /// There is nothing that instruments could be heard and played through, and why.
    Unavailable(String),
}

/// A message from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, on the monotonic clock.
    pub at_ns: u64,
    pub received: Received,
}

/// What a session's input is made with.
pub struct Setup {
    pub ports: Ports,
    /// Frame of the session at which files have begun, where this process goes on for another one.
    pub files_from: Option<u64>,
    /// What to listen to.
    pub drivers: Drivers,
    pub sample_rate_hz: u32,
    /// Blocks that hosts may have computed ahead of the device.
    pub ahead_blocks: u64,
    /// Of the mixer: the session clock.
    pub counters: Arc<Counters>,
    pub input_counters: Arc<InputCounters>,
    /// What the session sends, by output port.
    pub looped: Option<Inbox>,
}

/// The control thread's end.
pub struct MidiInput {
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MidiInput {
    /// Listens from now on. `hand_on` is called on a thread of its own with what has happened; it must not wait.
    pub fn start(setup: Setup, hand_on: impl Fn(News) + Send + 'static) -> std::io::Result<Self> {
        let (end, ended) = channel();
        // Files are read there, too: they may take their time.
        let job = move || Listening::new(setup).run(&ended, &hand_on);
        let thread = std::thread::Builder::new().name("midi-in".into()).spawn(job)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for MidiInput {
    fn drop(&mut self) {
        drop(self.end.take());
        // A thread that has panicked has aborted the process.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What a clock says with a message that is for this frame, as of the beginning of the frame's block. `None`: it has not said
/// how fast it goes.
fn tempo_of(followed: &Followed, frame: u64, sample_rate_hz: u32) -> Option<Tempo> {
    let block = frame / BLOCK_FRAMES as u64;
    let tempo = Tempo { block, bpm: followed.bpm?, is_running: followed.is_running, clocks: followed.clocks as f64 };
    let passed = if tempo.is_running { (frame - tempo.first_frame()) as f64 * tempo.clocks_per_frame(sample_rate_hz) } else { 0.0 };
    Some(Tempo { clocks: (tempo.clocks - passed).max(0.0), ..tempo })
}

/// Who has sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Outside,
    /// The session itself: the port is one of its outputs.
    Session,
}

/// A message that is no file's.
struct Sourced {
    at_ns: u64,
    received: Received,
    source: Source,
}

/// Begins to listen to what there is. Without the threads that look for it there are the files still.
fn listen(setup: &Setup, changes: &Sender<News>) -> (Option<JackIn>, Option<SequencerIn>) {
    let presence = setup.drivers.presence();
    // The input thread outlives the notices of those threads.
    let on_port = || -> wiring::OnPort {
        let changes = changes.clone();
        Box::new(move |change| drop(changes.send(News::Port(change))))
    };
    let jack = setup.drivers.jack.clone().and_then(|senders| JackIn::start(setup, senders, presence.clone(), on_port()).ok());
    let sequencer = setup.drivers.sequencer.clone().and_then(|senders| {
        let missing = changes.clone();
        let on_missing = Box::new(move |why: super::sequencer::Unavailable| drop(missing.send(News::Unavailable(why.to_string()))));
        let wiring = Wiring::new(setup.ports.clone(), senders, on_port());
        SequencerIn::start(Box::new(alsa::open_inputs), wiring, presence, &setup.input_counters, on_missing).ok()
    });
    (jack, sequencer)
}

/// A file that is being played into a port.
struct Playing {
    /// By the frame, counted from its beginning, in which they are due.
    messages: Vec<(u64, Message)>,
    port: u8,
    next: usize,
}

/// What the thread has.
struct Listening {
    setup: Setup,
    clock: CountClock,
    jack: Option<JackIn>,
    sequencer: Option<SequencerIn>,
    /// Ports that have come and gone, and the lack of any.
    changes: Receiver<News>,
    /// Where the session follows a clock.
    follower: Option<Follower>,
    /// What it has said and is not yet told.
    tempos: Vec<Tempo>,
    files: Vec<Playing>,
    /// Frame of the session at which files begin.
    origin: Option<u64>,
    /// The same, while it has not been told.
    has_begun: Option<u64>,
}

impl Listening {
    fn new(setup: Setup) -> Self {
        let clock = CountClock::of_session(setup.sample_rate_hz);
        let files = (1..).zip(&setup.ports.inputs).take(PORTS).filter(|(_, name)| score::is_file(name));
        // A file that cannot be read has been told of before the session began.
        let files = files.filter_map(|(port, name)| {
            let score = Score::read(Path::new(name)).ok()?;
            let messages = score.messages.into_iter().map(|(moment, message)| (moment.at_rate(setup.sample_rate_hz), message));
            Some(Playing { messages: messages.collect(), port, next: 0 })
        });
        let files = files.collect();
        let (changes_in, changes) = channel();
        let (jack, sequencer) = listen(&setup, &changes_in);
        let follower = setup.ports.follows_clock.then(Follower::default);
        Self { setup, clock, jack, sequencer, changes, follower, tempos: Vec::new(), files, origin: None, has_begun: None }
    }

    fn run(&mut self, ended: &Receiver<()>, hand_on: &impl Fn(News)) {
        tighten_timer_slack();
        let mut changes = Vec::new();
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_INTERVAL) {
            // What a port has played before it went is told before that.
            changes.extend(self.changes.try_iter());
            let now_ns = monotonic_ns_rt();
            let arrived = self.look(self.setup.counters.frames.load(Relaxed), now_ns);
            self.has_begun.take().into_iter().for_each(|frame| hand_on(News::FilesBegin { frame }));
            let is_all = arrived.len() < MESSAGES_AT_A_TIME;
            if !arrived.is_empty() {
                self.setup.input_counters.received.fetch_add(arrived.len() as u64, Relaxed);
                hand_on(News::Arrived(arrived));
            }
            self.tempos.drain(..).for_each(|tempo| hand_on(News::Tempo(tempo)));
            if self.follower.as_mut().is_some_and(|follower| follower.is_newly_lost(now_ns)) {
                hand_on(News::ClockLost);
            }
            if is_all {
                changes.drain(..).for_each(hand_on);
            }
        }
    }

    /// What has come in since the last look, when `frames` had been given to the device at `now_ns`.
    fn look(&mut self, frames: u64, now_ns: u64) -> Vec<Arrived> {
        self.clock.observe(frames, now_ns);
        let mut arrived = Vec::new();
        let latency = (self.setup.ahead_blocks + MARGIN_BLOCKS) * BLOCK_FRAMES as u64;
        if frames > 0 {
            // The ticks of this very moment are under way: what begins now is heard by those that come after them.
            let now = self.clock.count_at(now_ns);
            let until = now + latency + FILE_AHEAD_FRAMES;
            let origin = match self.origin {
                Some(origin) => origin,
                None => self.begin_files(now + latency, until),
            };
            self.files.iter_mut().for_each(|playing| playing.take(origin, until, &mut arrived));
        }
        while arrived.len() < MESSAGES_AT_A_TIME
            && let Some(heard) = self.hear()
        {
            let frame = self.clock.count_at(heard.at_ns) + latency;
            let block = frame / BLOCK_FRAMES as u64;
            let followed = self.follower.as_mut().filter(|_| heard.source == Source::Outside);
            if let Some(followed) = followed.and_then(|follower| follower.take(heard.at_ns, heard.received)) {
                self.tempos.extend(tempo_of(&followed, frame, self.setup.sample_rate_hz));
            }
            let arrived_at = |port| Arrived { block, received: Received { port, ..heard.received } };
            match heard.source {
                Source::Outside => arrived.push(arrived_at(heard.received.port)),
                Source::Session => arrived.extend(self.ports_that_hear(heard.received.port).map(arrived_at)),
            }
        }
        arrived
    }

    /// Settles where files begin: at the frame `at`, or where they have begun under another device host. Then they go on with what
    /// can be on time, from the frame `now` on.
    fn begin_files(&mut self, now: u64, at: u64) -> u64 {
        let frame = self.setup.files_from.unwrap_or(at);
        self.origin = Some(frame);
        if self.setup.files_from.is_some() {
            self.files.iter_mut().for_each(|playing| playing.pass_over(now.saturating_sub(frame)));
        } else if !self.files.is_empty() {
            self.has_begun = Some(frame);
        }
        frame
    }

    /// The next message of any source but files.
    fn hear(&mut self) -> Option<Sourced> {
        let of_jack = self.jack.as_mut().and_then(JackIn::hear);
        let outside = of_jack.or_else(|| self.sequencer.as_mut().and_then(SequencerIn::hear));
        let (heard, source) = outside
            .map(|heard| (heard, Source::Outside))
            .or_else(|| self.setup.looped.as_mut()?.hear().map(|heard| (heard, Source::Session)))?;
        Some(Sourced { at_ns: heard.at_ns, received: heard.received, source })
    }

    /// The input ports that hear what the session sends at this output port.
    fn ports_that_hear(&self, output: u8) -> impl Iterator<Item = u8> {
        let named = (1u8..).zip(&self.setup.ports.inputs).take(PORTS);
        named.filter(move |(_, name)| looped_port(name) == Some(output)).map(|(number, _)| number)
    }
}

impl Playing {
    /// Goes on with what is due at this frame of the file or later.
    fn pass_over(&mut self, frame: u64) {
        self.next = self.messages.partition_point(|(due, _)| *due < frame);
    }

    /// What is to be heard before the frame `until` of the session, of a file that begins at `origin`.
    fn take(&mut self, origin: u64, until: u64, arrived: &mut Vec<Arrived>) {
        while let Some((frame, message)) = self.messages.get(self.next).filter(|(frame, _)| origin.saturating_add(*frame) < until) {
            if arrived.len() >= MESSAGES_AT_A_TIME {
                return;
            }
            let received = Received { port: self.port, message: *message };
            arrived.push(Arrived { block: (origin + frame) / BLOCK_FRAMES as u64, received });
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(files: Vec<Playing>) -> Listening {
        let setup = Setup {
            ports: Ports::default(),
            files_from: None,
            drivers: Drivers::default(),
            sample_rate_hz: 48_000,
            ahead_blocks: 5,
            counters: Arc::default(),
            input_counters: Arc::default(),
            looped: None,
        };
        Listening { files, ..Listening::new(setup) }
    }

    #[test]
    fn a_file_is_heard_at_its_frames_whatever_the_period_of_the_device() {
        let on = |frame: u64| (frame, [0x90, 60, 100]);
        let messages = vec![on(0), on(127), on(128), on(12_800), on(48_000)];
        let mut listening = listening(vec![Playing { messages, port: 2, next: 0 }]);
        let mut blocks = Vec::new();
        for step in 0..2_000u64 {
            // Periods of 1,024 frames.
            let frames = (step * 48 / 1_024 + 1) * 1_024;
            blocks.extend(listening.look(frames, 1_000_000_000 + step * 1_000_000).into_iter().map(|arrived| arrived.block));
        }
        let first = blocks[0];
        let origin = listening.origin.unwrap() % 128;
        let expected: Vec<u64> = [0, 127, 128, 12_800, 48_000].map(|frame| first + (origin + frame) / 128).into();
        assert_eq!(blocks, expected);
    }

    #[test]
    fn a_device_host_that_goes_on_for_another_one_goes_on_in_the_file() {
        let on = |frame: u64| (frame, [0x90, 60, 100]);
        let file = || vec![Playing { messages: vec![on(0), on(40_000), on(90_000)], port: 1, next: 0 }];
        let second = 1_000_000_000;
        let mut first = listening(file());
        assert_eq!(first.look(128, second), []);
        let begun = first.has_begun.expect("it is told");
        let mut next = listening(file());
        next.setup.files_from = Some(begun);
        assert_eq!(next.look(60_000, second), []);
        assert_eq!(next.has_begun, None, "that is known");
        let heard = next.look(begun + 90_000, 2 * second);
        assert_eq!(heard.iter().map(|arrived| arrived.block).collect::<Vec<_>>(), [(begun + 90_000) / 128]);
    }

    #[test]
    fn what_the_session_sends_is_heard_at_every_port_that_asks_for_it_and_nowhere_else() {
        let (mut outbox, inbox) = inbox::queue();
        let mut listening = listening(Vec::new());
        listening.setup.looped = Some(inbox);
        listening.setup.ports.inputs = ["loop:2", "keys", "loop", "loop:2"].map(str::to_owned).into();
        let second = 1_000_000_000;
        listening.look(48_000, second);
        for (port, note) in [(1, 60), (2, 61), (3, 62)] {
            assert!(outbox.put_rt(Heard { at_ns: second, received: Received { port, message: [0x90, note, 1] } }));
        }
        let arrived = listening.look(48_000, second);
        let heard: Vec<(u8, u8)> = arrived.iter().map(|arrived| (arrived.received.port, arrived.received.message[1])).collect();
        assert_eq!(heard, [(3, 60), (1, 61), (4, 61)]);
        assert!(arrived.iter().all(|arrived| arrived.block == (48_000 + 7 * 128) / 128));
        assert_eq!([looped_port("loop:5"), looped_port("loop:0"), looped_port("looper"), looped_port("loop:")], [None; 4]);
    }

    #[test]
    fn a_flood_in_a_file_is_handed_on_bit_by_bit() {
        let messages = vec![(0, [0xb0, 1, 2]); 1_000];
        let mut listening = listening(vec![Playing { messages, port: 1, next: 0 }]);
        let counts: Vec<usize> = (0..20).map(|step| listening.look(128, 1_000_000_000 + step * 10_000_000).len()).collect();
        assert!(counts.iter().all(|count| *count <= MESSAGES_AT_A_TIME), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 1_000);
    }
}
