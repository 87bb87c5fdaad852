//! Measuring two or more sides of a comparison in turns, so that both see the same machine.

use std::time::{Duration, Instant};

/// One side of a comparison: runs a number of repetitions and says how long they took.
pub type Side<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

/// What one side cost, in nanoseconds per repetition.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub median_ns: f64,
    pub minimum_ns: f64,
}

/// Runs all sides in turns for `rounds` rounds of `repetitions`, after one round that is thrown away.
pub fn interleave(sides: &mut [Side<'_>], rounds: usize, repetitions: u64) -> Vec<Cost> {
    let mut samples = vec![Vec::with_capacity(rounds); sides.len()];
    for round in 0..=rounds {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            let took = side(repetitions).as_nanos() as f64 / repetitions as f64;
            if round > 0 {
                samples.push(took);
            }
        }
    }
    samples.into_iter().map(|samples| cost(&samples)).collect()
}

/// Median and minimum of samples in nanoseconds.
pub fn cost(samples: &[f64]) -> Cost {
    Cost { median_ns: quantile(samples, 0.5), minimum_ns: quantile(samples, 0.0) }
}

/// The sample at `fraction` (0 … 1) of the sorted samples.
pub fn quantile(samples: &[f64], fraction: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * fraction).round() as usize]
}

/// A side that times a closure.
pub fn timed<'a>(mut work: impl FnMut() + 'a) -> Side<'a> {
    Box::new(move |repetitions| {
        let start = Instant::now();
        for _ in 0..repetitions {
            work();
        }
        start.elapsed()
    })
}
