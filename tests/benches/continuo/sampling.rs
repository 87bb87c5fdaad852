//! Measuring two or more sides of a comparison in turns, so that both see the same machine.
//!
//! What is counted is processor time of the thread that works, not the time of day: on a machine that others use as well it
//! says the same, only caches and shared cores still make themselves felt.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One side of a comparison: runs a number of repetitions and says how long they took.
pub type Side<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

/// Runs all sides in turns for `rounds` rounds of `repetitions`, after one round that is thrown away. Returns what each cost:
/// the median over its rounds, in nanoseconds per repetition.
pub fn interleave(sides: &mut [Side<'_>], rounds: usize, repetitions: u64) -> Vec<f64> {
    let mut samples = vec![Vec::with_capacity(rounds); sides.len()];
    for round in 0..=rounds {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            let took = side(repetitions).as_nanos() as f64 / repetitions as f64;
            if round > 0 {
                samples.push(took);
            }
        }
    }
    samples.iter().map(|samples| quantile(samples, 0.5)).collect()
}

/// How many repetitions of a side take about `round_ns`; at least one. Doubling from one, it also warms the side up.
pub fn calibrated(side: &mut Side<'_>, round_ns: u64) -> u64 {
    let mut repetitions = 1;
    loop {
        let took_ns = side(repetitions).as_nanos() as u64;
        if took_ns >= round_ns || repetitions >= 1 << 20 {
            return (repetitions * round_ns / took_ns.max(1)).clamp(1, repetitions);
        }
        repetitions *= 2;
    }
}

/// The sample at `fraction` (0 … 1) of the sorted samples.
pub fn quantile(samples: &[f64], fraction: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * fraction).round() as usize]
}

/// A side that counts the processor time of a closure on this thread.
pub fn timed<'a>(mut work: impl FnMut() + 'a) -> Side<'a> {
    Box::new(move |repetitions| {
        let start = thread_time();
        for _ in 0..repetitions {
            work();
        }
        thread_time() - start
    })
}

/// Processor time that the calling thread has used.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
