//! The soak: sessions with real processes that are hit from outside again and again while their programs are edited, and
//! listened to sample by sample (FAULTS, "Beyond single faults").
//!
//! A run is a row of sessions, each with a seed of its own that follows from the run's: [`run`] plays them until its time is
//! over. In each, [`blows`] chooses what to do, [`gig`] is the session, [`voices`] knows what must be heard, [`hearing`]
//! compares, [`tally`] counts. Whatever the fault matrix does not allow is an unexpected outcome.

pub mod blows;
pub mod gig;
pub mod hearing;
pub mod tally;
pub mod voices;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use blows::{Scene, Window};
use gig::{Gig, Setup};
use hearing::Heard;
use tally::Tally;
use voices::Side;

use crate::edits::Random;

/// Deaths of hosts within [`WINDOW`] that a soak causes at most: one runtime may have all of them, and is not to be held for
/// it (DESIGN §10: five in ten seconds are borne).
const DEATHS: usize = 5;

/// See [`DEATHS`]; a little longer than the session's own.
const WINDOW: Duration = Duration::from_millis(10_500);

/// Blocks that are concealed, or faded in, for each gap beside those that were missing.
const FADES: u64 = 2;

/// What is done for how long.
pub struct Plan {
    pub duration: Duration,
    /// How long each session plays.
    pub round: Duration,
    pub seed: u64,
    pub lead_blocks: u32,
}

/// Runs a soak and returns what came of it.
pub fn run(plan: &Plan) -> Tally {
    let began = Instant::now();
    let mut seeds = Random::new(plan.seed);
    let mut tally = Tally::default();
    while began.elapsed() < plan.duration {
        let seed = seeds.below(u64::MAX);
        let left = plan.duration.saturating_sub(began.elapsed()).min(plan.round);
        let mut round = Tally::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| play(seed, left, plan.lead_blocks, &mut round)));
        tally.add(round);
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            tally.complain("the session", format!("seed {seed}: {}", text.unwrap_or_default()));
        }
        tally.rounds += 1;
        let (injected, unexpected) = (tally.injected(), tally.unexpected.len());
        println!("session {} (seed {seed}): {injected} faults and edits so far, {unexpected} unexpected outcomes", tally.rounds);
    }
    tally
}

/// One session.
fn play(seed: u64, duration: Duration, lead_blocks: u32, tally: &mut Tally) {
    let mut random = Random::new(seed);
    let mut gig = Gig::start(Setup { lead_blocks, ..Setup::default() });
    let (mut windows, mut edited) = (Vec::new(), [0; 3]);
    let mut deaths = VecDeque::new();
    let began = Instant::now();
    while began.elapsed() < duration {
        while deaths.front().is_some_and(|at: &Instant| at.elapsed() > WINDOW) {
            deaths.pop_front();
        }
        let blow = blows::choose(&mut random, (DEATHS - deaths.len()) as u64);
        deaths.extend((0..blow.hosts).map(|_| Instant::now()));
        tally.line(blow.name).injected += 1;
        let mut scene = Scene { gig: &mut gig, random: &mut random, tally, windows: &mut windows, edited: &mut edited, kind: blow.name };
        if let Err(wrong) = (blow.strike)(&mut scene) {
            tally.complain(blow.name, format!("seed {seed}, after {:?}: {wrong}", began.elapsed()));
            // What the session is like now nobody can say: the next one begins anew.
            break;
        }
        std::thread::sleep(Duration::from_millis(random.below(400)));
    }
    if let Err(wrong) = gig.check_counter() {
        tally.complain("worker host: SIGKILL", wrong);
    }
    match gig.finish() {
        Ok(heard) => judge(&heard, &windows, seed, tally),
        Err(wrong) => tally.complain("the end of a session", format!("seed {seed}: {wrong}")),
    }
}

/// Compares what was heard with what may have been.
fn judge(heard: &Heard, windows: &[Window], seed: u64, tally: &mut Tally) {
    tally.blocks += heard.blocks;
    for odd in &heard.odd {
        let is_excused = |window: &&Window| window.side == odd.side && (window.from_tick..=window.to_tick).contains(&odd.tick);
        if !windows.iter().any(|window| is_excused(&window)) {
            tally.complain("a voice that nobody has hit", format!("seed {seed}: {odd:?}"));
        }
    }
    for side in Side::ALL {
        for window in windows.iter().filter(|window| window.side == side) {
            let odd = heard.odd_ticks(side).filter(|tick| (window.from_tick..=window.to_tick).contains(tick)).count() as u64;
            let told: u64 = windows.iter().filter(|other| is_same_time(window, other)).map(|other| allowed(other.gap_blocks)).sum();
            if odd > told {
                tally.complain(window.kind, format!("seed {seed}: {odd} blocks were not as they must be: {window:?}"));
            }
        }
    }
    // Two voices that are hit at once cannot be told apart while both are concealed.
    let excused = |text: &&String| {
        let tick = text.strip_prefix("tick ").and_then(|rest| rest.split(':').next()).and_then(|tick| tick.parse::<u64>().ok());
        tick.is_some_and(|tick| windows.iter().filter(|window| (window.from_tick..=window.to_tick).contains(&tick)).count() > 1)
    };
    for text in heard.unexplained.iter().filter(|text| !excused(text)) {
        tally.complain("the mix", format!("seed {seed}: {text}"));
    }
}

/// Blocks that may differ where so many were missing.
fn allowed(gap_blocks: u64) -> u64 {
    if gap_blocks == 0 { 0 } else { FADES * gap_blocks }
}

fn is_same_time(one: &Window, other: &Window) -> bool {
    one.side == other.side && one.from_tick <= other.to_tick && other.from_tick <= one.to_tick
}
