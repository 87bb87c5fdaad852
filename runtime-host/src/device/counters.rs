//! What the real-time side counts for the status reports: atomics that the mixer writes and the control thread reads.
//!
//! One table for the life of the device host. Reading a peak resets it, so each report covers the time since the last one.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use ipc::limits::{LANE_CHANNELS, MAX_LANES};

/// Highest absolute sample of each channel since it was last taken.
#[derive(Debug, Default)]
pub struct Peak([AtomicU32; LANE_CHANNELS]);

impl Peak {
    /// Raises channel `channel` to `level`, which is not negative. The bits of such floats are ordered like the floats.
    pub fn raise_rt(&self, channel: usize, level: f32) {
        self.0[channel].fetch_max(level.to_bits(), Relaxed);
    }

    /// Returns the peak and begins anew.
    pub fn take(&self) -> [f32; LANE_CHANNELS] {
        std::array::from_fn(|channel| f32::from_bits(self.0[channel].swap(0, Relaxed)))
    }
}

/// Counters of one slot of the mixer; reset when a lane is put into it.
#[derive(Debug, Default)]
pub struct LaneCounters {
    pub underruns: AtomicU64,
    /// Blocks of its input in which something was missing.
    pub input_underruns: AtomicU64,
    pub last_underrun_block: AtomicU64,
    pub peak: Peak,
}

impl LaneCounters {
    /// Forgets the lane that was in the slot before.
    pub fn reset(&self) {
        self.underruns.store(0, Relaxed);
        self.input_underruns.store(0, Relaxed);
        self.last_underrun_block.store(0, Relaxed);
        self.peak.take();
    }
}

/// Counters of the mixer.
#[derive(Debug)]
pub struct Counters {
    /// Frames given to a device.
    pub frames: AtomicU64,
    /// Samples that were not finite and were replaced.
    pub non_finite: AtomicU64,
    /// Frames that found no room in the recording's queue.
    pub unrecorded_frames: AtomicU64,
    /// Blocks by which a bus is late.
    pub bus_latency_blocks: AtomicU64,
    /// The same for what the device's input takes in, and the frames of it that wait.
    pub capture_latency_blocks: AtomicU64,
    pub capture_waiting_frames: AtomicU64,
    /// How often frames of it were missing, or left out.
    pub capture_gaps: AtomicU64,
    /// The fade-out of the whole session has been given to the device to its last frame.
    pub has_ended: AtomicBool,
    pub peak: Peak,
    pub lanes: [LaneCounters; MAX_LANES],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            frames: AtomicU64::new(0),
            non_finite: AtomicU64::new(0),
            unrecorded_frames: AtomicU64::new(0),
            bus_latency_blocks: AtomicU64::new(1),
            capture_latency_blocks: AtomicU64::new(0),
            capture_waiting_frames: AtomicU64::new(0),
            capture_gaps: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            peak: Peak::default(),
            lanes: std::array::from_fn(|_| LaneCounters::default()),
        }
    }
}
