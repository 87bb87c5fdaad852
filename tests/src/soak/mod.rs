//! The soak: sessions with real processes that are hit from outside again and again while their programs are edited, and
//! listened to sample by sample (FAULTS, "Beyond single faults").
//!
//! A run is a row of sessions, each with a seed of its own that follows from the run's: [`run`] plays them until its time is
//! over. In each, [`blows`] chooses what to do, [`gig`] is the session, [`voices`] knows what must be heard, [`hearing`]
//! compares, [`tally`] counts; [`attrition`] kills one kind of process until a leak would show. Whatever the fault matrix does
//! not allow is an unexpected outcome.

pub mod attrition;
pub mod blows;
pub mod gig;
pub mod hearing;
pub mod tally;
pub mod voices;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use blows::{Blow, Ordeal, Window};
use gig::{Gig, Setup};
use hearing::Heard;
use tally::Tally;
use voices::Side;

use crate::edits::Random;
use crate::live::Holdings;

/// Deaths of hosts within [`WINDOW`] that a soak causes at most: one runtime may have all of them, and is not to be held for
/// it (DESIGN §10: five in ten seconds are borne).
const DEATHS: usize = 5;

/// See [`DEATHS`]; a little longer than the session's own.
const WINDOW: Duration = Duration::from_millis(10_500);

/// Gaps that one blow may tear at most: a host that is killed again in its recovery is missed twice. The block after each gap
/// is faded in, so it differs as well.
const GAPS: u64 = 2;

/// Descriptors that a supervisor may hold more than when it began, once it has come to rest: a file that it is just reading.
const GROWTH: usize = 1;

/// Memory that it may hold more, in KiB: the texts and manifests of its revisions, and what it knows of the dead.
const GROWTH_KIB: u64 = 16 << 10;

/// Between two looks at what a supervisor holds, in frames.
const REST_FRAMES: u64 = 12_000;

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
        round.unexpected.iter_mut().for_each(|what| what.insert_str(0, &format!("seed {seed}: ")));
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
    let mut ordeal = Ordeal::start(Setup { lead_blocks, ..Setup::default() }, seed);
    let mut deaths = VecDeque::new();
    let began = Instant::now();
    while began.elapsed() < duration {
        while deaths.front().is_some_and(|at: &Instant| at.elapsed() > WINDOW) {
            deaths.pop_front();
        }
        let blow = blows::choose(&mut ordeal.random, (DEATHS - deaths.len()) as u64);
        deaths.extend((0..blow.hosts).map(|_| Instant::now()));
        if !ordeal.strike(blow) {
            break; // What the session is like now nobody can say: the next one begins anew.
        }
        std::thread::sleep(Duration::from_millis(ordeal.random.below(400)));
    }
    tally.add(ordeal.end());
}

impl Ordeal {
    /// Starts a session; the same seed strikes the same blows.
    pub fn start(setup: Setup, seed: u64) -> Self {
        let (random, tally) = (Random::new(seed), Tally::default());
        let mut gig = Gig::start(setup);
        let held = holdings_at_rest(&mut gig);
        Self { gig, random, tally, windows: Vec::new(), edited: [0; 3], kind: "", held }
    }

    /// What the supervisor holds now is what it may hold at the end: something has been added to the session.
    pub fn hold_anew(&mut self) {
        self.held = holdings_at_rest(&mut self.gig);
    }

    /// Strikes, and waits for what comes of it. Returns whether that was as it must be.
    pub fn strike(&mut self, blow: &Blow) -> bool {
        self.kind = blow.name;
        self.tally.line(blow.name).injected += 1;
        let outcome = (blow.strike)(self);
        let is_well = outcome.is_ok();
        outcome.unwrap_or_else(|wrong| self.tally.complain(blow.name, wrong));
        is_well
    }

    /// Ends the session, and compares what was heard of it with what must have been.
    pub fn end(mut self) -> Tally {
        if let Err(wrong) = self.gig.check_counter() {
            self.tally.complain("worker host: SIGKILL", wrong);
        }
        self.check_holdings();
        let Self { gig, mut tally, windows, .. } = self;
        match gig.finish() {
            Ok(heard) => judge(&heard, &windows, &mut tally),
            Err(wrong) => tally.complain("the end of a session", wrong),
        }
        tally
    }
}

impl Ordeal {
    /// The supervisor comes to rest holding no more than when it began, whoever has died meanwhile.
    fn check_holdings(&mut self) {
        let Some(before) = self.held else { return };
        let pid = self.gig.playing.pid();
        let is_flat = |now: Holdings| is_no_more(before, now);
        if self.gig.wait_until("it to rest", |_| Holdings::of(pid).is_none_or(is_flat)).is_err() {
            let now = Holdings::of(pid);
            self.tally.complain("what the supervisor holds", format!("{before:?} became {now:?}"));
        }
    }
}

fn is_no_more(before: Holdings, now: Holdings) -> bool {
    now.descriptors <= before.descriptors + GROWTH && now.memory_kib <= before.memory_kib + GROWTH_KIB
}

/// What the supervisor holds when nobody is being started: two looks in a row find the same descriptors.
fn holdings_at_rest(gig: &mut Gig) -> Option<Holdings> {
    let pid = gig.playing.pid();
    let mut found = Holdings::of(pid)?;
    let rest = gig.wait_until("it to rest", |gig| {
        // A host that is being started comes in before the session has played on so far.
        let _ = gig.play_on(REST_FRAMES);
        Holdings::of(pid).is_none_or(|now| std::mem::replace(&mut found, now).descriptors == now.descriptors)
    });
    rest.is_ok().then_some(found)
}

/// Compares what was heard with what may have been.
fn judge(heard: &Heard, windows: &[Window], tally: &mut Tally) {
    tally.blocks += heard.blocks;
    for odd in &heard.odd {
        let is_excused = |window: &&Window| window.side == odd.side && (window.from_tick..=window.to_tick).contains(&odd.tick);
        if !windows.iter().any(|window| is_excused(&window)) {
            tally.complain("a voice that nobody has hit", format!("{odd:?}"));
        }
    }
    for side in Side::ALL {
        for window in windows.iter().filter(|window| window.side == side) {
            let odd = heard.odd_ticks(side).filter(|tick| (window.from_tick..=window.to_tick).contains(tick)).count() as u64;
            let told: u64 = windows.iter().filter(|other| is_same_time(window, other)).map(|other| allowed(other.gap_blocks)).sum();
            if odd > told {
                tally.complain(window.kind, format!("{odd} blocks were not as they must be: {window:?}"));
            }
        }
    }
    // Two voices that are hit at once cannot be told apart while both are concealed.
    let excused = |text: &&String| {
        let tick = text.strip_prefix("tick ").and_then(|rest| rest.split(':').next()).and_then(|tick| tick.parse::<u64>().ok());
        tick.is_some_and(|tick| windows.iter().filter(|window| (window.from_tick..=window.to_tick).contains(&tick)).count() > 1)
    };
    for text in heard.unexplained.iter().filter(|text| !excused(text)) {
        tally.complain("the mix", text.clone());
    }
}

/// Blocks that may differ where so many were missing: these, and the first one after each gap, which has one block at least.
fn allowed(gap_blocks: u64) -> u64 {
    gap_blocks + gap_blocks.min(GAPS)
}

fn is_same_time(one: &Window, other: &Window) -> bool {
    one.side == other.side && one.from_tick <= other.to_tick && other.from_tick <= one.to_tick
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::hearing::Odd;

    const WINDOW: Window = Window { side: Side::Left, kind: "a blow", from_tick: 100, to_tick: 300, gap_blocks: 10 };

    /// What is complained of when these ticks of the left voice differ.
    fn complaints(odd: impl IntoIterator<Item = u64>, windows: &[Window]) -> usize {
        let odd = odd.into_iter().map(|tick| Odd { side: Side::Left, tick }).collect();
        let mut tally = Tally::default();
        judge(&Heard { blocks: 1_000, odd, unexplained: Vec::new() }, windows, &mut tally);
        tally.unexpected.len()
    }

    #[test]
    fn a_gap_that_was_told_may_be_heard_with_the_block_that_is_faded_in_after_it_and_no_more() {
        assert_eq!(complaints(150..161, &[WINDOW]), 0);
        assert_eq!(complaints(150..163, &[WINDOW]), 1);
        assert_eq!(complaints([150], &[Window { gap_blocks: 0, ..WINDOW }]), 1, "no gap was told");
    }

    #[test]
    fn a_descriptor_that_is_lost_with_every_other_death_is_complained_of() {
        let held = |descriptors, memory_kib| Holdings { descriptors, memory_kib };
        assert!(is_no_more(held(60, 9_000), held(61, 20_000)));
        assert!(!is_no_more(held(60, 9_000), held(62, 9_000)));
        assert!(!is_no_more(held(60, 9_000), held(60, 9_000 + GROWTH_KIB + 1)));
    }

    #[test]
    fn a_voice_that_was_not_hit_then_may_not_differ() {
        assert_eq!(complaints([99], &[WINDOW]), 1);
        assert_eq!(complaints([150], &[Window { side: Side::Right, ..WINDOW }]), 1);
    }
}
