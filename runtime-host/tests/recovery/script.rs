//! What is done to a runtime, tick by tick, so that it can be done twice: once undisturbed and once with kills.

use ipc::live::Boundary;

use crate::live::band::Band;

/// One thing that is done, and how many ticks are played afterwards.
#[derive(Clone, Debug)]
pub struct Step {
    pub what: What,
    pub ticks: u64,
}

#[derive(Clone, Debug)]
pub enum What {
    Nothing,
    Swap { band: Band, trial_ticks: u32, crossfade_frames: u32, boundary: Boundary },
    Patch { band: Band, trial_ticks: u32 },
    Set { item: String, value: f64, ramp_ticks: u32 },
    Freeze,
    Run,
    Reset,
}

pub fn swap(band: &Band, trial_ticks: u32, crossfade_frames: u32, ticks: u64) -> Step {
    Step { what: What::Swap { band: band.clone(), trial_ticks, crossfade_frames, boundary: Boundary::Frame }, ticks }
}

pub fn patch(band: &Band, ticks: u64) -> Step {
    Step { what: What::Patch { band: band.clone(), trial_ticks: 0 }, ticks }
}

pub fn set(item: &str, value: f64, ramp_ticks: u32, ticks: u64) -> Step {
    Step { what: What::Set { item: item.to_owned(), value, ramp_ticks }, ticks }
}

pub fn wait(ticks: u64) -> Step {
    Step { what: What::Nothing, ticks }
}

pub fn then(what: What, ticks: u64) -> Step {
    Step { what, ticks }
}
