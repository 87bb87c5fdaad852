//! Control wires between two hosts, each a process of its own, tick by tick: the test paces both by their horizons, so that
//! every value is known, and kills them as it likes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::artifact::Artifact;
use ipc::lane::{Block, LaneReader, SILENCE};
use ipc::live::{Boundary, LiveChange, LiveReply, LiveRequest, RequestId, Swap, SwapProgress};
use ipc::message::{HostReply, HostRequest, StartRuntime};
use ipc::recovery::{Candidate, TakeOver};
use ipc::segment::{Segment, SegmentRef, Session};
use ipc::wires::{self, Inlet, Outlet, Panel, Taken, WireId, Wiring};

use crate::harness::{Host, start};
use crate::live::band::compile;
use crate::live::chance::{Chance, seed};
use crate::live::plans;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(60);
const WIRE: WireId = 7;
const SOCKET: u32 = 3;
/// What the item holds that follows, before it does.
const DEFAULT: f32 = 0.25;

/// Counts its ticks: `out` is half of how many have been executed. `first` is declared before it, and `out` as `out` says.
fn source(first: &str, out: &str) -> Artifact {
    compile(&format!(
        "8f4e/v1\nentry main\nmodule env\n{first}\nint n\npush &n\npush n\npush 1\nadd\nstore\n{out}\nmoduleEnd\nentryEnd
function buffer\n#export\ncall main\nfunctionEnd\n"
    ))
}

const HALF: &str = "float out\npush &out\npush n\ncastToFloat\npush 0.5\nmul\nstore";

fn half(ticks: u64) -> f32 {
    ticks as f32 * 0.5
}

/// Sounds like its item `level`: `item` declares it, `cast` makes a float of it.
fn follower(item: &str, cast: &str) -> Artifact {
    compile(&format!(
        "8f4e/v1\nentry main\nmodule m\n; @config runtime AudioWorkletRuntime\n; @config audioRuntime.audioOutBufferLAddress m:left
float[] left 128\n{item}\nint position\npush &left\npush position\npush 4\nmul\nadd\npush level\n{cast}\nstore
push &position\npush position\npush 1\nadd\npush 127\nand\nstore\nmoduleEnd\nentryEnd
function buffer\n#export\nloop 128\ncall main\nloopEnd\nfunctionEnd\n"
    ))
}

fn float_follower() -> Artifact {
    follower(&format!("float level {DEFAULT:?}"), "")
}

fn process(session: &Arc<Session>) -> Host {
    Host::start_process(Arc::clone(session), "a_host_process")
}

/// A host with one runtime, paced by its horizon.
struct Player {
    host: Host,
    reader: LaneReader,
    start: StartRuntime,
    candidates: Vec<Candidate>,
    current: Artifact,
    ticks: u64,
    /// Values that its wires have brought, by their numbers.
    told: BTreeMap<u64, Taken>,
    log: Vec<String>,
    last_request: RequestId,
}

impl Player {
    fn start(session: &Arc<Session>, artifact: Artifact, wiring: Wiring) -> Self {
        let mut host = process(session);
        let (segment, state) = (host.publish(&artifact), host.state(&artifact));
        let (lane, reader) = host.lane();
        let mut start = start(segment.clone(), Some(lane), "audio", 48_000);
        start.run_until = Some(0);
        start.state = Some(state.clone());
        start.wiring = Box::new(wiring);
        host.send(HostRequest::Start(start.clone()));
        host.wait_until_started();
        let mut player = Self {
            host,
            reader,
            start,
            candidates: Vec::new(),
            current: artifact.clone(),
            ticks: 0,
            told: BTreeMap::new(),
            log: Vec::new(),
            last_request: 0,
        };
        player.knows(&artifact, segment, state, None);
        player
    }

    fn knows(&mut self, artifact: &Artifact, segment: SegmentRef, state: SegmentRef, swap: Option<(RequestId, Box<Swap>)>) {
        let revision = artifact.manifest.revision;
        self.candidates.push(Candidate { revision, artifact: segment, state, base_directory: PathBuf::from("/"), swap });
    }

    /// Lets one more tick be executed.
    fn proceed(&mut self) {
        self.ticks += 1;
        self.raise();
    }

    fn raise(&self) {
        self.host.send(HostRequest::Live(LiveRequest { request: 0, at_tick: None, what: LiveChange::Proceed { to_tick: self.ticks } }));
        self.reader.demand_rt(self.ticks);
    }

    /// The block of the last tick.
    fn block(&self) -> Block {
        let (mut block, began, number) = (SILENCE, Instant::now(), self.ticks - 1);
        while !self.reader.wait_until_written(number, Duration::from_millis(100)) {
            assert!(began.elapsed() < DEADLINE, "block {number} never came");
        }
        assert!(self.reader.read_rt(number, &mut block), "block {number}");
        block
    }

    /// Kills the host while it is at whatever it is, and has another one go on.
    fn strike(&mut self, session: &Arc<Session>) {
        let seen = std::mem::take(&mut self.host.seen);
        let last_words = self.host.kill(process(session));
        seen.iter().chain(&last_words).for_each(|reply| self.hear(reply));
        self.start.generation += 1;
        let order = TakeOver { start: self.start.clone(), candidates: self.candidates.clone(), first: Vec::new() };
        self.host.send(HostRequest::TakeOver(Box::new(order)));
        self.host.wait_for(|reply| match reply {
            HostReply::TookOver(_) => Some(()),
            HostReply::Refused { reason, .. } => panic!("refused: {}", reason.message),
            _ => None,
        });
        self.raise();
    }

    fn hear(&mut self, reply: &HostReply) {
        match reply {
            HostReply::Wired { first, values, .. } => {
                for (number, taken) in (*first..).zip(values) {
                    let before = self.told.insert(number, *taken);
                    assert!(before.is_none_or(|before| before == *taken), "{number} was told as {before:?} and is told as {taken:?}");
                }
            }
            HostReply::Log { line, .. } => self.log.push(line.clone()),
            _ => {}
        }
    }

    /// From the next tick on, this program runs.
    fn edit(&mut self, artifact: Artifact) {
        self.last_request += 1;
        let (segment, state) = (self.host.publish(&artifact), self.host.state(&artifact));
        let swap = Box::new(Swap {
            artifact: segment.clone(),
            state: Some(state.clone()),
            revision: artifact.manifest.revision,
            there: Some(plans::there(&self.current, &artifact)),
            back: None,
            back_to_good: None,
            boundary: Boundary::Frame,
            trial_ticks: 0,
            crossfade_frames: 0,
            base_directory: PathBuf::from("/"),
        });
        let request = self.last_request;
        let what = LiveChange::Swap(swap.clone());
        self.host.send(HostRequest::Live(LiveRequest { request, at_tick: None, what }));
        self.host.wait_for(|reply| match reply {
            HostReply::Live(LiveReply::Swap { progress: SwapProgress::Pending { .. }, .. }) => Some(()),
            HostReply::Live(LiveReply::Refused { reason, .. }) => panic!("refused: {}", reason.message),
            _ => None,
        });
        self.knows(&artifact, segment, state, Some((request, swap)));
        self.current = artifact;
    }

    /// Ends it; returns what its wires have brought, in order, and what it has logged.
    fn end(mut self) -> (Vec<Taken>, Vec<String>) {
        self.host.stop();
        let seen = std::mem::take(&mut self.host.seen);
        seen.iter().for_each(|reply| self.hear(reply));
        let numbers: Vec<u64> = self.told.keys().copied().collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "a value was never told");
        (self.told.into_values().collect(), self.log)
    }
}

/// Two players with a wire from one to the other.
struct Pair {
    session: Arc<Session>,
    source: Player,
    follower: Player,
    panel: Panel,
    _boards: [Segment; 2],
}

impl Pair {
    fn start(source: Artifact, follower: Artifact) -> Self {
        let session = Arc::new(Session::open().unwrap());
        let boards = [0, 1].map(|_| wires::create(session.id(), 1).unwrap());
        let [from, to] = [0, 1].map(|index: usize| boards[index].reference().clone());
        let outlets = vec![Outlet { wire: WIRE, socket: SOCKET, item: "env:out".to_owned() }];
        let inlets = vec![Inlet { wire: WIRE, item: "m:level".to_owned(), board: from.clone(), socket: SOCKET }];
        let panel = Panel::open(&from).unwrap();
        let source = Player::start(&session, source, Wiring { board: Some(from), outlets, inlets: Vec::new() });
        let follower = Player::start(&session, follower, Wiring { board: Some(to), outlets: Vec::new(), inlets });
        Self { session, source, follower, panel, _boards: boards }
    }

    /// One tick of the follower, and then one of the source, which is over when its sample is this. Returns what is heard.
    fn tick(&mut self, sample: f64, mut strikes: impl FnMut(&Arc<Session>, &mut Player)) -> f32 {
        self.follower.proceed();
        strikes(&self.session, &mut self.follower);
        let [left, _] = self.follower.block();
        assert!(left.iter().all(|frame| *frame == left[0]), "one value a tick: {left:?}");
        self.source.proceed();
        strikes(&self.session, &mut self.source);
        let began = Instant::now();
        while self.panel.get_rt(SOCKET, WIRE) != Some(sample) {
            assert!(began.elapsed() < DEADLINE, "{sample} is never sampled, but {:?}", self.panel.get_rt(SOCKET, WIRE));
            std::thread::yield_now();
        }
        left[0]
    }
}

/// The value in a tick of the follower when as many ticks of the source have been executed.
fn expected(tick: u64) -> f32 {
    if tick == 0 { DEFAULT } else { half(tick) }
}

fn taken(tick: u64) -> Taken {
    Taken { tick, wire: WIRE, bits: f64::from(half(tick)).to_bits() }
}

#[test]
fn an_item_has_in_each_tick_what_the_other_had_at_the_end_of_its_last_one() {
    let mut pair = Pair::start(source("", HALF), float_follower());
    for tick in 0..200 {
        assert_eq!(pair.tick(half(tick + 1).into(), |_, _| {}), expected(tick), "tick {tick}");
    }
    assert_eq!(pair.follower.end().0, (1..200).map(taken).collect::<Vec<_>>(), "what was taken is told");
}

#[test]
fn kills_of_either_host_lose_no_value_and_tell_none_twice() {
    let mut chance = Chance(seed());
    let mut pair = Pair::start(source("", HALF), float_follower());
    let mut kills = [0, 0];
    for tick in 0..400 {
        let heard = pair.tick(half(tick + 1).into(), |session, player| {
            if chance.below(12) != 0 {
                return;
            }
            let began = Instant::now();
            let us = chance.below(600);
            while began.elapsed() < Duration::from_micros(us) {
                std::hint::spin_loop();
            }
            kills[usize::from(player.start.wiring.inlets.is_empty())] += 1;
            player.strike(session);
        });
        assert_eq!(heard, expected(tick), "tick {tick} after {kills:?} kills");
    }
    assert!(kills.iter().all(|kills| *kills >= 20), "{kills:?}");
    assert_eq!(pair.follower.end().0, (1..400).map(taken).collect::<Vec<_>>(), "{kills:?} kills");
}

#[test]
fn a_wire_follows_its_source_through_edits_that_move_remove_and_retype_it() {
    let mut pair = Pair::start(source("", HALF), float_follower());
    let mut heard = Vec::new();
    let mut play = |pair: &mut Pair, ticks: u64, sample: &dyn Fn(u64) -> f64| {
        for _ in 0..ticks {
            let executed = pair.source.ticks + 1;
            heard.push(pair.tick(sample(executed), |_, _| {}));
        }
    };
    play(&mut pair, 10, &|executed| half(executed).into());
    pair.source.edit(source("int[] room 100\nfloat64 more", HALF));
    play(&mut pair, 10, &|executed| half(executed).into());
    pair.source.edit(source("", ""));
    play(&mut pair, 10, &|_| half(20).into());
    pair.source.edit(source("", "int8[] gap 3\nint out\npush &out\npush n\nstore"));
    play(&mut pair, 10, &|executed| executed as f64);
    let expected = (0..40).map(|tick| match tick {
        0..=20 => expected(tick),
        21..=30 => half(20),
        _ => tick as f32,
    });
    assert_eq!(heard, expected.collect::<Vec<_>>());
}

#[test]
fn a_wire_leads_to_its_item_through_edits_of_the_program_that_follows() {
    let mut pair = Pair::start(source("", HALF), float_follower());
    let mut heard: Vec<f32> = (0..10).map(|tick| pair.tick(half(tick + 1).into(), |_, _| {})).collect();
    pair.follower.edit(follower("int[] room 50\nfloat level 0.75", ""));
    heard.extend((10..20).map(|tick| pair.tick(half(tick + 1).into(), |_, _| {})));
    // It is of another type now, and in another place.
    pair.follower.edit(follower("float level2 0.75\nint[] room 9\nint level", "castToFloat"));
    heard.extend((20..30).map(|tick| pair.tick(half(tick + 1).into(), |_, _| {})));
    let expected: Vec<f32> = (0..30).map(|tick| if tick < 20 { expected(tick) } else { half(tick - tick % 2) }).collect();
    assert_eq!(heard, expected);
}

#[test]
fn what_an_item_cannot_hold_is_not_taken_and_that_is_told_once() {
    let mut pair = Pair::start(source("", HALF), follower("int level 4", "castToFloat"));
    let heard: Vec<f32> = (0..50).map(|tick| pair.tick(half(tick + 1).into(), |_, _| {})).collect();
    // Of the halves the whole ones.
    let expected = (0..50).map(|tick| if tick < 2 { 4.0 } else { half(tick - tick % 2) });
    assert_eq!(heard, expected.collect::<Vec<_>>());
    let (_, log) = pair.follower.end();
    let told: Vec<&String> = log.iter().filter(|line| line.contains("m:level")).collect();
    assert_eq!(told.len(), 1, "{log:?}");
}

#[test]
fn a_host_whose_wires_have_gone_plays_on_and_tells() {
    let session = Arc::new(Session::open().unwrap());
    let boards = [0, 1].map(|_| wires::create(session.id(), 1).unwrap());
    let [from, to] = boards.each_ref().map(|board| board.reference().clone());
    drop(boards);
    let inlets = vec![Inlet { wire: WIRE, item: "m:level".to_owned(), board: from, socket: SOCKET }];
    let mut player = Player::start(&session, float_follower(), Wiring { board: Some(to), outlets: Vec::new(), inlets });
    player.proceed();
    assert_eq!(player.block()[0][0], DEFAULT);
    let (taken, log) = player.end();
    assert!(taken.is_empty());
    assert_eq!(log.iter().filter(|line| line.contains("wire")).count(), 2, "{log:?}");
}
