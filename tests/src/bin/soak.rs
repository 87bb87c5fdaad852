//! `soak --minutes N --seed S [--lead BLOCKS]`: real sessions under weighted random faults and edits, listened to sample by
//! sample. Prints its seed and a table by kind of fault; ends with 1 when anything was not as it must be.
//!
//! `soak --kills N` kills audio hosts of one session N times instead, and compares what all of it holds before and after.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::soak::tally::Tally;
use tests::soak::{self, Plan, attrition};

/// How long each session plays.
const ROUND: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let Some((plan, kills)) = plan(std::env::args().skip(1)) else {
        eprintln!("usage: soak [--minutes N | --kills N] [--seed S] [--lead BLOCKS]");
        return ExitCode::from(2);
    };
    let tally = if kills == 0 { soak_for(&plan) } else { kill_hosts(&plan, kills) };
    println!("\n{tally}");
    tally.unexpected.iter().for_each(|what| println!("unexpected: {what}"));
    ExitCode::from(u8::from(!tally.unexpected.is_empty()))
}

fn soak_for(plan: &Plan) -> Tally {
    let minutes = plan.duration.as_secs_f64() / 60.0;
    println!("soak --minutes {minutes} --seed {} --lead {}\n", plan.seed, plan.lead_blocks);
    soak::run(plan)
}

fn kill_hosts(plan: &Plan, kills: u64) -> Tally {
    println!("soak --kills {kills} --seed {} --lead {}\n", plan.seed, plan.lead_blocks);
    let attrition = attrition::run(kills, plan.seed, plan.lead_blocks);
    println!("\n{attrition}");
    attrition.tally
}

/// What is to be done, and how many kills if it is that.
fn plan(mut arguments: impl Iterator<Item = String>) -> Option<(Plan, u64)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let (mut minutes, mut kills, mut seed, mut lead_blocks) = (1.0_f64, 0, now, ipc::limits::DEFAULT_LEAD_BLOCKS);
    while let Some(option) = arguments.next() {
        let value = arguments.next()?;
        match option.as_str() {
            "--minutes" => minutes = value.parse().ok().filter(|minutes: &f64| (0.0..=10_000.0).contains(minutes))?,
            "--kills" => kills = value.parse().ok().filter(|kills| (1..=100_000).contains(kills))?,
            "--seed" => seed = value.parse().ok()?,
            "--lead" => lead_blocks = value.parse().ok()?,
            _ => return None,
        }
    }
    Some((Plan { duration: Duration::from_secs_f64(minutes * 60.0), round: ROUND, seed, lead_blocks }, kills))
}
