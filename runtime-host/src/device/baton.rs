//! Who renders: one mixer, handed from driver to driver.
//!
//! Every driver (a device stream, the null device, the unpaced output) gets a [`Renderer`] with a generation number; only
//! the one that holds the baton renders, the others get nothing. So a stream that hangs in a dying driver and wakes up later
//! never moves the session clock. The control thread passes the baton by storing a number and never locks the mixer;
//! the drivers only ever *try* to: the lock is taken for the length of one callback, so the single moment when it can be
//! held is a hand-over, and then the newcomer gives one callback of silence. A driver that takes over from another one fades
//! in: its device is in the middle of the sound. The recording, which is the session's and not a device's, has no such fade.
//!
//! The protocol of the hand-over is `passing`; loom tries it in every order (`tests/loom_models.rs`).

mod passing;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use ipc::limits::BLOCK_FRAMES;

use self::passing::Passing;
use super::fade::FadeIn;
use super::mixer::Mixer;
use super::routing::DeviceFrame;
use crate::realtime::RealtimeSection;

/// What [`passing`] is made of here.
mod sync {
    pub use std::sync::Mutex;
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

/// Callbacks that a driver waits at most for the lanes to get ahead far enough for its period.
const WARM_UP_CALLBACKS: u32 = 4;

/// The mixer and the number of the driver that may render it.
pub struct Baton {
    mixer: Passing<Mixer>,
    /// Which generation has rendered last; 0 before the first.
    rendered_by: AtomicU64,
}

impl Baton {
    pub fn new(mixer: Mixer) -> Arc<Self> {
        Arc::new(Self { mixer: Passing::new(mixer), rendered_by: AtomicU64::new(0) })
    }

    /// A renderer for a new driver. It gets nothing until it is given the baton.
    pub fn issue(self: &Arc<Self>, period_frames: usize) -> Renderer {
        let generation = self.mixer.issue();
        let pulse = Arc::new(Pulse::default());
        Renderer { baton: Arc::clone(self), generation, pulse, period_frames, warm_up: WARM_UP_CALLBACKS, fade: FadeIn::DONE }
    }

    /// From now on only this generation renders.
    pub fn pass_to(&self, generation: u64) {
        self.mixer.pass_to(generation);
    }

    /// From now on nobody renders.
    pub fn withdraw(&self) {
        self.mixer.withdraw();
    }

    /// Uses the mixer when nobody renders; `None` when a driver that hangs still holds it.
    pub fn with_idle_mixer<T>(&self, job: impl FnOnce(&mut Mixer) -> T) -> Option<T> {
        self.mixer.use_idle(job)
    }
}

/// Signs of life of a driver, for the watchdog.
#[derive(Debug, Default)]
pub struct Pulse {
    callbacks: AtomicU64,
    frames: AtomicU64,
    is_wild: AtomicBool,
}

impl Pulse {
    /// How often the driver has asked for sound.
    pub fn callbacks(&self) -> u64 {
        self.callbacks.load(Acquire)
    }

    /// How many frames it has asked for.
    pub fn frames(&self) -> u64 {
        self.frames.load(Acquire)
    }

    /// Whether it has been found to take sound much faster than it can play it.
    pub fn is_wild(&self) -> bool {
        self.is_wild.load(Acquire)
    }

    /// Tells the watchdog that it runs wild.
    pub fn run_wild_rt(&self) {
        self.is_wild.store(true, Release);
    }
}

/// One driver's right to render, valid while it holds the baton.
pub struct Renderer {
    baton: Arc<Baton>,
    generation: u64,
    pulse: Arc<Pulse>,
    /// The largest number of frames the driver takes at once: what it announced, or more if it has taken more.
    period_frames: usize,
    warm_up: u32,
    fade: FadeIn,
}

impl Renderer {
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Whether this driver may render.
    pub fn holds_baton_rt(&self) -> bool {
        self.baton.mixer.is_turn_of_rt(self.generation)
    }

    /// Gives the next `frames` frames to `give`, with their position; or returns false and gives nothing, which means silence.
    pub fn render_rt(&mut self, frames: usize, mut give: impl FnMut(usize, DeviceFrame)) -> bool {
        let _section = RealtimeSection::enter_rt();
        self.pulse.callbacks.fetch_add(1, Relaxed);
        self.pulse.frames.fetch_add(frames as u64, Release);
        let baton = &self.baton;
        // What is not had at once means silence, and the watchdog sees to the rest.
        let rendered = baton.mixer.use_rt(self.generation, |mixer| {
            self.period_frames = self.period_frames.max(frames);
            let period_blocks = self.period_frames.div_ceil(BLOCK_FRAMES) as u64;
            if self.warm_up > 0 {
                self.warm_up -= 1;
                if !mixer.prepare_rt(period_blocks) {
                    return false;
                }
                self.warm_up = 0;
            }
            let earlier = baton.rendered_by.swap(self.generation, Relaxed);
            if earlier != 0 && earlier != self.generation {
                self.fade = FadeIn::new(mixer.sample_rate_hz());
            }
            mixer.fill_rt(period_blocks, frames, |at, frame| give(at, self.fade.apply_rt(frame)));
            true
        });
        rendered == Some(true)
    }

    /// For a driver without a clock: as [`Renderer::render_rt`], but waits for the lanes and for the recording, a moment at
    /// a time. False when they are not ready yet.
    pub fn render_when_ready(&mut self, ahead_frames: usize, frames: usize, timeout: std::time::Duration) -> bool {
        self.pulse.callbacks.fetch_add(1, Relaxed);
        let period_blocks = ahead_frames.div_ceil(BLOCK_FRAMES) as u64;
        let rendered = self.baton.mixer.use_rt(self.generation, |mixer| {
            let is_ready = mixer.wait_until_ready(period_blocks, frames, timeout);
            if is_ready {
                mixer.fill_rt(period_blocks, frames, |_, _| {});
            }
            is_ready
        });
        if rendered == Some(true) {
            self.pulse.frames.fetch_add(frames as u64, Release);
        }
        rendered == Some(true)
    }
}
