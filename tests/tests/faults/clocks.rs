//! Rows of time itself: a wall clock that jumps, a machine that is suspended.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tests::playing::{Folder, send_signal, text};
use tests::soak::blows::{Ordeal, Window};
use tests::soak::gig::Setup;
use tests::soak::voices::Side;

use crate::{SEED, blow, ends_well, setup, start};

/// A library that, loaded before the others, lets the wall clock of a process jump an hour back and forth several times a
/// second. The monotonic clock stays what it is.
const JUMPING_CLOCK: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME && result == 0) {
        struct timespec since;
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &since);
        long step = (since.tv_sec * 10 + since.tv_nsec / 100000000) % 3 - 1;
        now->tv_sec += 3600 * step;
    }
    return result;
}
";

/// The library, compiled with the compiler that links the project itself.
fn jumping_clock(folder: &Folder) -> PathBuf {
    let source = folder.file("clock.c", JUMPING_CLOCK);
    let library = folder.path().join("clock.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", text(&library), text(&source)]).status();
    assert!(compiled.is_ok_and(|status| status.success()), "the C compiler that links this project makes a library");
    let seconds = || -> i64 {
        let date = Command::new("date").arg("+%s").env("LD_PRELOAD", &library).output().expect("there is a clock");
        String::from_utf8_lossy(&date.stdout).trim().parse().expect("seconds")
    };
    let first = seconds();
    assert!((0..1_000).any(|_| (seconds() - first).abs() > 3_000), "the clock jumps");
    library
}

#[test]
fn row_44_a_wall_clock_that_jumps_by_hours_moves_nothing() {
    let folder = Folder::new();
    let library = jumping_clock(&folder);
    let environment = vec![("LD_PRELOAD", text(&library).to_owned())];
    let mut ordeal = Ordeal::start(Setup { environment, ..setup() }, SEED);
    let mark = ordeal.gig.mark();
    for _ in 0..3 {
        for name in ["host: SIGKILL", "edit: structure", "edit: parameters"] {
            assert!(ordeal.strike(blow(name)), "{name}");
        }
    }
    let gig = &mut ordeal.gig;
    for process in gig.playing.processes() {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", process.pid)).unwrap_or_default();
        assert!(maps.contains(text(&library)), "this process has the machine's own clock: {process:?}");
    }
    let stalls = gig.count_since(mark, |event| event["kind"] == "hostStalled");
    assert_eq!(stalls, 0, "no clock that jumps makes a host late");
    ends_well(ordeal);
}

#[test]
fn row_44_a_session_that_is_suspended_as_a_whole_goes_on_and_kills_nobody() {
    /// Longer than any host may stand still by itself.
    const SUSPENDED: std::time::Duration = std::time::Duration::from_millis(1_500);
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    let mark = gig.mark();
    let missed = |gig: &mut tests::soak::gig::Gig| Side::ALL.map(|side| gig.runtime(side.runtime())["underruns"].as_u64().unwrap());
    let before = missed(gig);
    let from_tick = gig.runtime("left")["tick"].as_u64().unwrap();
    let pids: Vec<u32> = gig.playing.processes().iter().map(|process| process.pid).collect();
    pids.iter().for_each(|pid| send_signal(*pid, Signal::STOP));
    std::thread::sleep(SUSPENDED);
    pids.iter().for_each(|pid| send_signal(*pid, Signal::CONT));
    gig.play_on(96_000).unwrap();
    let died = gig.count_since(mark, |event| event["kind"] == "hostDied" || event["kind"] == "processDied");
    assert_eq!(died, 0, "nobody is given up for what the machine has done");
    gig.wait_until_all_run().unwrap();
    let after = missed(gig);
    for (side, (before, after)) in Side::ALL.into_iter().zip(before.into_iter().zip(after)) {
        let to_tick = ordeal.gig.runtime(side.runtime())["tick"].as_u64().unwrap();
        let gap_blocks = after - before;
        ordeal.windows.push(Window { side, kind: "suspended", from_tick: from_tick.saturating_sub(64), to_tick, gap_blocks });
    }
    ends_well(ordeal);
}
