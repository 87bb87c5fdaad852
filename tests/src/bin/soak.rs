//! `soak --minutes N --seed S [--lead BLOCKS]`: real sessions under weighted random faults and edits, listened to sample by
//! sample. Prints its seed and a table by kind of fault; ends with 1 when anything was not as it must be.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::soak::{self, Plan};

/// How long each session plays.
const ROUND: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let Some(plan) = plan(std::env::args().skip(1)) else {
        eprintln!("usage: soak [--minutes N] [--seed S] [--lead BLOCKS]");
        return ExitCode::from(2);
    };
    let minutes = plan.duration.as_secs_f64() / 60.0;
    println!("soak --minutes {minutes} --seed {} --lead {}\n", plan.seed, plan.lead_blocks);
    let tally = soak::run(&plan);
    println!("\n{tally}");
    tally.unexpected.iter().for_each(|what| println!("unexpected: {what}"));
    ExitCode::from(u8::from(!tally.unexpected.is_empty()))
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Option<Plan> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let (mut minutes, mut seed, mut lead_blocks) = (1.0_f64, now, ipc::limits::DEFAULT_LEAD_BLOCKS);
    while let Some(option) = arguments.next() {
        let value = arguments.next()?;
        match option.as_str() {
            "--minutes" => minutes = value.parse().ok().filter(|minutes: &f64| (0.0..=10_000.0).contains(minutes))?,
            "--seed" => seed = value.parse().ok()?,
            "--lead" => lead_blocks = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(Plan { duration: Duration::from_secs_f64(minutes * 60.0), round: ROUND, seed, lead_blocks })
}
