//! The paced null device: takes blocks in real time and plays them to nobody, so that a session goes on without a device.
//!
//! One real-time thread on absolute deadlines of the monotonic clock. When it is more than a few blocks late (the machine
//! was overloaded or suspended) it moves its clock instead of catching up in a burst, as a sound card would. The thread ends
//! by itself when it no longer holds the baton.

use std::sync::Arc;
use std::thread::JoinHandle;

use ipc::limits::BLOCK_FRAMES;

use crate::device::baton::{Baton, Renderer};
use crate::realtime;

/// Blocks of lateness that are caught up with; beyond, the clock moves.
const MAX_LATE_BLOCKS: u64 = 4;

/// Gives the null device the baton and starts it.
pub fn start(baton: &Arc<Baton>, sample_rate_hz: u32) -> std::io::Result<JoinHandle<()>> {
    let renderer = baton.issue(BLOCK_FRAMES);
    baton.pass_to(renderer.generation());
    std::thread::Builder::new().name("null-device".into()).spawn(move || play(renderer, sample_rate_hz))
}

fn play(mut renderer: Renderer, sample_rate_hz: u32) {
    // Without the priority it plays as well as the machine lets it; nobody hears the difference.
    let _ = realtime::promote_current_thread(realtime::DEVICE_PRIORITY);
    realtime::tighten_timer_slack();
    let mut pacer = Pacer::new(realtime::monotonic_ns_rt(), sample_rate_hz);
    while renderer.holds_baton_rt() {
        renderer.render_rt(BLOCK_FRAMES, |_, _| {});
        realtime::sleep_until_rt(pacer.next_deadline_rt(realtime::monotonic_ns_rt()));
    }
}

/// Deadlines of blocks, one after the other, without accumulating rounding errors.
struct Pacer {
    base_ns: u64,
    blocks: u64,
    sample_rate_hz: u64,
}

impl Pacer {
    fn new(now_ns: u64, sample_rate_hz: u32) -> Self {
        Self { base_ns: now_ns, blocks: 0, sample_rate_hz: u64::from(sample_rate_hz) }
    }

    fn after_base_ns(&self, blocks: u64) -> u64 {
        (u128::from(blocks) * BLOCK_FRAMES as u128 * 1_000_000_000 / u128::from(self.sample_rate_hz)) as u64
    }

    /// When the next block is due, seen from `now_ns`.
    fn next_deadline_rt(&mut self, now_ns: u64) -> u64 {
        self.blocks += 1;
        let deadline_ns = self.base_ns + self.after_base_ns(self.blocks);
        if now_ns > deadline_ns + self.after_base_ns(MAX_LATE_BLOCKS) {
            self.base_ns = now_ns;
            self.blocks = 0;
            return now_ns;
        }
        deadline_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_NS: u64 = 128 * 1_000_000_000 / 48_000;

    #[test]
    fn deadlines_do_not_drift() {
        let mut pacer = Pacer::new(1_000, 48_000);
        let mut now_ns = 1_000;
        for block in 1..=375_000u64 {
            now_ns = pacer.next_deadline_rt(now_ns);
            assert_eq!(now_ns, 1_000 + block * 128 * 1_000_000_000 / 48_000);
        }
        assert_eq!(now_ns, 1_000 + 1_000 * 1_000_000_000, "375,000 blocks are exactly 1,000 s");
    }

    #[test]
    fn a_little_lateness_is_caught_up_with() {
        let mut pacer = Pacer::new(0, 48_000);
        let late = 3 * BLOCK_NS + BLOCK_NS / 2;
        let deadlines: Vec<u64> = (0..3).map(|_| pacer.next_deadline_rt(late)).collect();
        assert!(deadlines.iter().all(|deadline| *deadline <= late), "{deadlines:?}");
        assert!(pacer.next_deadline_rt(late) > late);
    }

    #[test]
    fn after_a_long_absence_one_block_is_due_and_not_a_burst() {
        let mut pacer = Pacer::new(0, 48_000);
        let woken = 3_600 * 1_000_000_000;
        assert_eq!(pacer.next_deadline_rt(woken), woken);
        assert_eq!(pacer.next_deadline_rt(woken), woken + BLOCK_NS);
    }
}
