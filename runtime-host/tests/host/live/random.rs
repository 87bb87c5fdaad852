//! Hundreds of random edits, sets, freezes and failures, compared with a model sample by sample.

use ipc::lane::{Block, SILENCE};
use ipc::live::{LiveChange, SwapProgress};

use super::band::{Band, Model, Player, Trouble, player};
use super::rig::{Rig, assert_heard, join, set};

const EDITS: usize = 300;
/// Players there may be.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

fn seed() -> u64 {
    std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_801)
}

fn edited(band: &Band, chance: &mut Chance) -> Band {
    let mut band = band.clone();
    let absent: Vec<&str> = NAMES.into_iter().filter(|name| band.players.iter().all(|player| player.name != *name)).collect();
    match chance.below(6) {
        0 if !absent.is_empty() => {
            let name = *chance.pick(&absent);
            let seat = NAMES.iter().position(|known| *known == name).unwrap();
            let new = Player { phase: chance.below(50) as i32, ..player(name, seat, chance.below(9) as i32) };
            band.players.insert(chance.below(band.players.len() as u64 + 1) as usize, new);
        }
        1 if band.players.len() > 1 => {
            band.players.remove(chance.below(band.players.len() as u64) as usize);
        }
        2 => band.players.rotate_left(1),
        3 => {
            let index = chance.below(band.players.len() as u64) as usize;
            band.players[index].ballast = chance.below(40) as usize;
        }
        4 => {
            let index = chance.below(band.players.len() as u64) as usize;
            band.players[index].step = chance.below(9) as i32;
        }
        _ => {
            let index = chance.below(band.players.len() as u64) as usize;
            band.players[index].extra = chance.below(5) as i32;
        }
    }
    band
}

struct Session {
    rig: Rig,
    model: Model,
    expected: Vec<Block>,
    chance: Chance,
    is_frozen: bool,
}

impl Session {
    fn play(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.expected.push(if self.is_frozen { SILENCE } else { self.model.tick() });
        }
        self.rig.play_to(self.expected.len() as u64);
    }

    fn edit(&mut self) {
        let band = edited(&self.model.band, &mut self.chance);
        if band == self.model.band {
            return;
        }
        let trial_ticks = self.chance.below(30) as u32;
        let changes_defaults_only = {
            let plain = |band: &Band| band.clone().with(|band| band.players.iter_mut().for_each(|player| player.step = 0));
            plain(&band) == plain(&self.model.band)
        };
        if changes_defaults_only {
            let patch = self.rig.patch_to(&band, trial_ticks);
            let patch = self.rig.send(patch);
            self.model.edit(&band);
            self.play(1);
            self.rig.applied(patch);
        } else {
            let swap = self.rig.swap(&band, |swap| swap.trial_ticks = trial_ticks);
            self.model.edit(&band);
            self.play(1);
            assert_eq!(self.rig.committed(swap).0 + 1, self.expected.len() as u64);
        }
    }

    fn fail(&mut self) {
        let good = self.rig.current.clone();
        let after = 1 + self.chance.below(20);
        let trouble = *self.chance.pick(&[Trouble::Overflow(after as i32), Trouble::Runaway(after as i32)]);
        // Everything else stays, so that a rollback brings everything back.
        let bad = self.model.band.clone().in_trouble(trouble);
        let swap = self.rig.swap(&bad, |swap| swap.trial_ticks = 100);
        let failing_tick = self.expected.len() as u64 + after - 1;
        self.play(after);
        self.rig.committed(swap);
        assert!(matches!(self.rig.progress(swap), SwapProgress::RolledBack { tick, .. } if tick == failing_tick));
        self.rig.current = good;
    }

    fn knob(&mut self) {
        let names: Vec<String> = self.model.band.players.iter().map(|player| player.name.clone()).collect();
        let name = self.chance.pick(&names).clone();
        let value = self.chance.below(100) as i32;
        let write = self.rig.send(set(&format!("{name}:step"), f64::from(value)));
        self.model.player(&name).1 = value;
        self.play(1);
        assert_eq!(self.rig.applied(write) + 1, self.expected.len() as u64);
    }

    fn freeze_or_run(&mut self) {
        let what = if self.is_frozen { LiveChange::Run } else { LiveChange::Freeze };
        let request = self.rig.send(what);
        self.is_frozen = !self.is_frozen;
        self.play(1);
        self.rig.applied(request);
        let tick = self.expected.len() - 1;
        join(&mut self.expected, tick);
    }
}

#[test]
fn three_hundred_random_edits_sound_like_their_model() {
    let seed = seed();
    println!("CONTINUO_SEED={seed}");
    let first = Band::of([player("a", 0, 1), player("b", 1, 2)]);
    let mut session =
        Session { rig: Rig::start(&first), model: Model::new(&first), expected: Vec::new(), chance: Chance(seed), is_frozen: false };
    for _ in 0..EDITS {
        let pause = session.chance.below(12);
        session.play(pause);
        match session.chance.below(10) {
            0..6 => session.edit(),
            6 if !session.is_frozen => session.fail(),
            7 => session.freeze_or_run(),
            _ => session.knob(),
        }
    }
    session.play(10);
    assert_heard(&session.rig.heard, &session.expected);
}
