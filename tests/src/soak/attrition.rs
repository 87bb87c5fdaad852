//! Killing audio hosts until a leak would show: what every process that outlives the kills holds, before and after.
//!
//! A session whose limits on restarts are out of the way loses an audio host again and again, each time waits for the
//! takeover and for the next spare, and is listened to in the end as in any soak. Descriptors, mappings and threads of the
//! survivors, names in shared memory and the number of processes must be what they were; memory may differ by what a session
//! remembers of its deaths, which is bounded.

use std::collections::BTreeMap;
use std::fmt;

use super::blows::{BLOWS, Ordeal};
use super::gig::{Gig, Setup};
use super::tally::Tally;
use crate::live::Holdings;
use crate::remains::shared_memory_names;

/// Kills before anything is counted: whatever is made once has been made by then.
const WARM_UP: u64 = 10;

/// The limits on restarts of the session: as high and as short as they can be set.
const RESTARTS: &str = "[restarts]\nruntime = 1000\nsession = 1000\nseconds = 1\n";

/// Memory that a survivor may have more, in KiB: what a supervisor remembers of the dead, and what allocators keep.
const GROWTH_KIB: u64 = 4 << 10;

/// Mappings that a survivor may have more. Allocators map and unmap as they like; one for each kill would show all the same.
const MAPPINGS: usize = 20;

/// What a process holds, with what [`Holdings`] leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub pid: u32,
    pub descriptors: usize,
    pub memory_kib: u64,
    pub mappings: usize,
    pub threads: usize,
}

/// What a session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// By role, or by runtime.
    pub processes: BTreeMap<String, Held>,
    /// All of its processes, those without a name included.
    pub process_count: usize,
    /// Its names in shared memory.
    pub names: usize,
}

/// Before and after.
pub struct Attrition {
    pub kills: u64,
    pub before: Inventory,
    pub after: Inventory,
    /// What came of the kills, and what was heard.
    pub tally: Tally,
}

/// Kills an audio host so many times. The same seed kills the same ones.
pub fn run(kills: u64, seed: u64, lead_blocks: u32) -> Attrition {
    let setup = Setup { lead_blocks, settings: RESTARTS.to_owned(), ..Setup::default() };
    let mut ordeal = Ordeal::start(setup, seed);
    strike(&mut ordeal, WARM_UP);
    let before = settled(&mut ordeal.gig, None);
    strike(&mut ordeal, kills);
    let after = settled(&mut ordeal.gig, Some(&before));
    let mut tally = ordeal.end();
    for difference in differences(&before, &after) {
        tally.complain("what is held", difference);
    }
    tally.rounds += 1;
    Attrition { kills, before, after, tally }
}

fn strike(ordeal: &mut Ordeal, kills: u64) {
    for kill in 1..=kills {
        if !ordeal.strike(&BLOWS[0]) {
            return; // It is in the tally.
        }
        if kill % 100 == 0 {
            println!("{kill} kills");
        }
    }
}

/// What the session holds once it has come to rest: as in `wanted`, or, if it never does, whatever it is.
fn settled(gig: &mut Gig, wanted: Option<&Inventory>) -> Inventory {
    let mut found = inventory(gig);
    let outcome = gig.wait_until("the session to hold what it did", |gig| {
        let last = std::mem::replace(&mut found, inventory(gig));
        wanted.map_or_else(|| differences(&last, &found).is_empty(), |wanted| differences(wanted, &found).is_empty())
    });
    // What differs is told by whoever asked.
    drop(outcome);
    found
}

fn inventory(gig: &mut Gig) -> Inventory {
    let status = gig.status();
    let processes = status["processes"].as_array().into_iter().flatten();
    let named = processes.filter_map(|process| {
        let name = process["runtime"].as_str().or(process["role"].as_str())?;
        Some((name.to_owned(), process["pid"].as_u64()?))
    });
    let supervisor = status["pid"].as_u64().map(|pid| ("supervisor".to_owned(), pid));
    Inventory {
        processes: named.chain(supervisor).filter_map(|(name, pid)| Some((name, Held::of(pid as u32)?))).collect(),
        process_count: gig.playing.processes().len(),
        names: shared_memory_names().into_iter().filter(|name| name.contains(gig.session())).count(),
    }
}

impl Held {
    /// `None` for a process that is gone.
    fn of(pid: u32) -> Option<Self> {
        let Holdings { memory_kib, descriptors } = Holdings::of(pid)?;
        let mappings = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?.lines().count();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.count();
        Some(Self { pid, descriptors, memory_kib, mappings, threads })
    }
}

/// What there is more or less of than before, in words.
fn differences(before: &Inventory, after: &Inventory) -> Vec<String> {
    let mut found = Vec::new();
    if (before.process_count, before.names) != (after.process_count, after.names) {
        let (processes, names) = (before.process_count, before.names);
        found.push(format!("{processes} processes and {names} names became {} and {}", after.process_count, after.names));
    }
    if !before.processes.keys().eq(after.processes.keys()) {
        found.push(format!("{:?} became {:?}", before.processes.keys(), after.processes.keys()));
    }
    for (name, before) in &before.processes {
        let Some(after) = after.processes.get(name) else { continue };
        let is_flat = before.descriptors == after.descriptors && before.threads == after.threads;
        let is_small = after.memory_kib <= before.memory_kib + GROWTH_KIB && after.mappings <= before.mappings + MAPPINGS;
        if !is_flat || !is_small {
            found.push(format!("{name}: {before:?} became {after:?}"));
        }
    }
    found
}

impl fmt::Display for Attrition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, before, after, .. } = self;
        writeln!(f, "before and after {kills} kills:\n")?;
        writeln!(f, "| process | descriptors | memory (KiB) | mappings | threads | the same process |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---|")?;
        for (name, before) in &before.processes {
            let Some(after) = after.processes.get(name) else { continue };
            let column = |of: fn(&Held) -> u64| format!("{} → {}", of(before), of(after));
            let is_same = if before.pid == after.pid { "yes" } else { "no" };
            let descriptors = column(|held| held.descriptors as u64);
            let mappings = column(|held| held.mappings as u64);
            let threads = column(|held| held.threads as u64);
            writeln!(f, "| {name} | {descriptors} | {} | {mappings} | {threads} | {is_same} |", column(|held| held.memory_kib))?;
        }
        write!(
            f,
            "\nprocesses: {} → {}; names in shared memory: {} → {}",
            before.process_count, after.process_count, before.names, after.names
        )
    }
}
