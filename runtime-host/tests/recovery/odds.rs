//! Random edits, sets, freezes and failures with random kills, against the same without them.

use ipc::live::Boundary;
use ipc::recovery::TookOver;

use super::script::{Step, What};
use super::show::{NONE, Show, Violence};
use crate::live::band::{Band, Player, Trouble, player};
use crate::live::chance::{Chance, seed};
use crate::live::rig::assert_heard;

const STEPS: usize = 120;
/// Players there may be.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Makes scripts up.
struct Author {
    chance: Chance,
    band: Band,
    is_frozen: bool,
}

impl Author {
    fn step(&mut self) -> Step {
        let ticks = 1 + self.chance.below(60);
        let what = match self.chance.below(12) {
            0..4 => self.edit(),
            4 if !self.is_frozen => return self.fail(),
            5 => self.freeze_or_run(),
            6 => What::Reset,
            7..11 => self.knob(),
            _ => What::Nothing,
        };
        Step { what, ticks }
    }

    fn edit(&mut self) -> What {
        let band = self.edited();
        if band == self.band {
            return What::Nothing;
        }
        let plain = |band: &Band| band.clone().with(|band| band.players.iter_mut().for_each(|player| player.step = 0));
        let is_patch = plain(&band) == plain(&self.band);
        self.band = band.clone();
        match is_patch {
            true => What::Patch { band, trial_ticks: self.chance.below(30) as u32 },
            false => What::Swap {
                band,
                trial_ticks: self.chance.below(40) as u32,
                crossfade_frames: self.chance.below(3) as u32 * 1_500,
                boundary: Boundary::Frame,
            },
        }
    }

    fn edited(&mut self) -> Band {
        let (chance, mut band) = (&mut self.chance, self.band.clone());
        let index = chance.below(band.players.len() as u64) as usize;
        let absent: Vec<&str> = NAMES.into_iter().filter(|name| band.players.iter().all(|player| player.name != *name)).collect();
        match chance.below(6) {
            0 if !absent.is_empty() => {
                let name = *chance.pick(&absent);
                let seat = NAMES.iter().position(|known| *known == name).unwrap();
                band.players.insert(index, Player { phase: chance.below(50) as i32, ..player(name, seat, chance.below(9) as i32) });
            }
            1 if band.players.len() > 1 => drop(band.players.remove(index)),
            2 => band.players.rotate_left(1),
            3 => band.players[index].ballast = chance.below(40) as usize,
            4 => band.players[index].step = chance.below(9) as i32,
            _ => band.players[index].extra = chance.below(5) as i32,
        }
        band
    }

    fn fail(&mut self) -> Step {
        let after = 1 + self.chance.below(50);
        let trouble = *self.chance.pick(&[Trouble::Overflow(after as i32), Trouble::Runaway(after as i32)]);
        let crossfade_frames = self.chance.below(2) as u32 * 3_000;
        let what =
            What::Swap { band: self.band.clone().in_trouble(trouble), trial_ticks: 100, crossfade_frames, boundary: Boundary::Frame };
        Step { what, ticks: after + self.chance.below(20) }
    }

    fn knob(&mut self) -> What {
        let names: Vec<String> = self.band.players.iter().map(|player| player.name.clone()).collect();
        let item = format!("{}:step", self.chance.pick(&names));
        What::Set { item, value: self.chance.below(1_000) as f64, ramp_ticks: self.chance.below(3) as u32 * 25 }
    }

    fn freeze_or_run(&mut self) -> What {
        self.is_frozen = !self.is_frozen;
        if self.is_frozen { What::Freeze } else { What::Run }
    }
}

#[test]
fn random_edits_with_random_kills_sound_like_the_same_edits_without_them() {
    let seed = seed();
    let first = Band::of([player("a", 0, 1), player("b", 1, 2)]);
    let mut author = Author { chance: Chance(seed), band: first.clone(), is_frozen: false };
    let script: Vec<Step> = (0..STEPS).map(|_| author.step()).collect();
    let expected = Show::new(first.artifact(), NONE, seed).play(&script);
    let violence = Violence { in_a_hundred: 50, requests_in_a_hundred: 25, is_spare_warm: true };
    let show = Show::new(first.artifact(), violence, seed).play(&script);
    assert!(show.takeovers.len() > STEPS / 4);
    let has = |what: fn(&TookOver) -> bool| show.takeovers.iter().any(what);
    assert!(has(|took| took.replayed_ticks > 0) && has(|took| took.trial.is_some()) && has(|took| took.is_frozen));
    assert!(has(|took| took.was_prepared));
    println!("{} takeovers, {} ticks", show.takeovers.len(), show.heard.len());
    assert_heard(&show.heard, &expected.heard);
}
