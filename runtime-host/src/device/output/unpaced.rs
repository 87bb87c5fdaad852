//! The unpaced output: no device and no clock. Mixes as fast as the lanes come, an exact number of frames, into the
//! recording.
//!
//! One ordinary thread. It waits for every lane and for the recording's queue instead of concealing and dropping, so that
//! the result depends on nothing but the programs. It works in batches, with the hosts a batch ahead, so that both sides of
//! a lane are busy at the same time. It ends when all frames are there or when it no longer holds the baton.

use std::sync::Arc;
use std::time::Duration;

use ipc::limits::BLOCK_FRAMES;

use crate::device::baton::{Baton, Renderer};
use crate::device::mixer::Mixer;

/// Frames rendered at a time. A multiple of the block.
const BATCH_FRAMES: u64 = 16 * BLOCK_FRAMES as u64;

/// How far hosts may work ahead, on top of the lead: two batches.
const AHEAD_FRAMES: usize = 32 * BLOCK_FRAMES;

/// How long the thread sleeps at most before it looks around again.
const WAIT: Duration = Duration::from_millis(5);

/// Gives the unpaced output the baton and starts it. `on_done` is called with the number of frames rendered.
pub fn start(baton: &Arc<Baton>, frames: u64, on_done: impl FnOnce(u64) + Send + 'static) -> std::io::Result<()> {
    let renderer = baton.issue(AHEAD_FRAMES);
    baton.pass_to(renderer.generation());
    let baton = Arc::clone(baton);
    std::thread::Builder::new().name("unpaced".into()).spawn(move || {
        let done = render(renderer, frames);
        baton.with_idle_mixer(Mixer::finish_tape);
        on_done(done);
    })?;
    Ok(())
}

fn render(mut renderer: Renderer, frames: u64) -> u64 {
    let mut done = 0;
    while done < frames && renderer.holds_baton_rt() {
        let batch = BATCH_FRAMES.min(frames - done);
        if renderer.render_when_ready(AHEAD_FRAMES, batch as usize, WAIT) {
            done += batch;
        }
    }
    done
}
