//! Processes that stand still without being dead: stopped, as a deadlock would leave them. Real processes, stopped by their ids;
//! what is missed is counted in blocks, and what is heard of the others is compared sample by sample.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use tests::playing::{Folder, Playing, send_signal, text};
use tests::programs::{ramp, silence};
use tests::soak::blows::{BLOWS, Ordeal};
use tests::soak::gig::Setup;
use tests::takes::{Stretch, Verdict, judge, missed_between, missed_so_far, odd_blocks};

/// Plays that are begun anew because the machine made blocks late by itself.
const TAKES: usize = 6;

/// Blocks in a second.
const SECOND_BLOCKS: u64 = 375;

/// A ramp to listen to and a silent runtime to hit, at the longest lead; waited for until both sound and the spare is there.
fn play(folder: &Folder) -> (Playing, PathBuf) {
    let programs = [("ramp", ramp()), ("quiet", silence())];
    let files = programs.map(|(name, source)| folder.file(&format!("{name}.8f4e"), source));
    let wav = folder.path().join("take.wav");
    let mut arguments = vec!["--device", "null", "--lead", "24", "--session", "under-test", "--wav", text(&wav)];
    arguments.extend(files.iter().map(|file| text(file)));
    let mut playing = Playing::start(folder, &arguments, &[]);
    for _ in 0..2 {
        playing.wait_for("sounding");
    }
    if pids(&playing, "spare-host").is_empty() {
        playing.wait_until("a spare", |event| event["event"] == "processStarted" && event["role"] == "spare-host");
    }
    play_on(&mut playing, SECOND_BLOCKS);
    (playing, wav)
}

/// Every process of this role that was started, oldest first.
fn pids(playing: &Playing, role: &str) -> Vec<u32> {
    let is_it = |event: &&Value| event["event"] == "processStarted" && event["role"] == role;
    playing.seen().iter().filter(is_it).filter_map(|event| event["pid"].as_u64()).map(|pid| pid as u32).collect()
}

fn newest(playing: &Playing, role: &str) -> u32 {
    *pids(playing, role).last().unwrap_or_else(|| panic!("no {role} was started"))
}

/// The process that a runtime was started in.
fn first_host(playing: &Playing, runtime: &str) -> u32 {
    let is_it = |event: &&Value| event["event"] == "processStarted" && event["role"] == "runtime-host" && event["runtime"] == runtime;
    playing.seen().iter().find(is_it).and_then(|event| event["pid"].as_u64()).expect("it has a host") as u32
}

/// Waits until the ramp has come so many ticks further.
fn play_on(playing: &mut Playing, ticks: u64) {
    let ticks_of = |event: &Value| event["ticks"].as_u64().unwrap_or(0);
    let is_status = |event: &Value| event["event"] == "runtimeStatus" && event["runtime"] == "ramp";
    let now = ticks_of(&playing.wait_until("a status", is_status));
    playing.wait_until("progress", |event| is_status(event) && ticks_of(event) >= now + ticks);
}

fn deaths(playing: &Playing) -> Vec<&Value> {
    playing.seen().iter().filter(|event| event["event"] == "died").collect()
}

fn end(playing: &mut Playing) {
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0), "the play ends well");
    playing.wait_until_gone();
}

/// Stops the spare, kills the silent runtime's host so many ticks later, and returns the gap that is told. Whatever happens to
/// that runtime, nothing happens to the ramp.
fn gap_with_a_stopped_spare(ticks_between: u64) -> u64 {
    for _ in 0..TAKES {
        let folder = Folder::new();
        let (mut playing, wav) = play(&folder);
        let calm = Stretch { hit: None, missed: missed_so_far(&playing) };
        let before = missed_so_far(&playing);
        let (spare, host) = (newest(&playing, "spare-host"), first_host(&playing, "quiet"));
        send_signal(spare, Signal::STOP);
        if ticks_between > 0 {
            play_on(&mut playing, ticks_between);
        }
        send_signal(host, Signal::KILL);
        let ready = playing.wait_for("hostReady");
        play_on(&mut playing, SECOND_BLOCKS);
        let missed = missed_between(&before, &missed_so_far(&playing));
        end(&mut playing);
        assert_eq!(ready["runtime"], "quiet");
        let gap = ready["gapBlocks"].as_u64().expect("a gap is counted");
        assert!(missed["quiet"] >= gap, "what is told was missed: {missed:?}, {ready}");
        let of_spare: Vec<&Value> = deaths(&playing).into_iter().filter(|died| died["pid"] == spare).collect();
        assert_eq!(of_spare.len(), 1, "its death is told once: {:#?}", deaths(&playing));
        assert!(of_spare[0]["reason"].is_string(), "and why: {}", of_spare[0]);
        match judge(&[calm, Stretch { hit: Some("quiet".to_owned()), missed }]) {
            Verdict::Undisturbed => {
                assert_eq!(odd_blocks(&wav), Vec::<usize>::new(), "every sample of the other is heard");
                return gap;
            }
            Verdict::MachineWasLate(what) => eprintln!("{what}; once more"),
            Verdict::Disturbed(what) => panic!("{what}"),
        }
    }
    panic!("in each of {TAKES} takes blocks came too late while nobody was hit: the machine is too busy to tell anything");
}

#[test]
fn a_spare_that_stands_still_is_replaced_before_somebody_needs_it() {
    let gap = gap_with_a_stopped_spare(SECOND_BLOCKS);
    assert!(gap < SECOND_BLOCKS / 2, "{gap} blocks");
}

#[test]
fn a_host_that_dies_while_the_spare_stands_still_is_soon_followed_by_another_one() {
    let gap = gap_with_a_stopped_spare(0);
    assert!(gap < 3 * SECOND_BLOCKS, "{gap} blocks");
}

#[test]
fn a_device_host_that_stands_still_is_replaced_as_soon_as_it_misses_blocks() {
    let folder = Folder::new();
    let (mut playing, _) = play(&folder);
    send_signal(newest(&playing, "device-host"), Signal::STOP);
    let died = playing.wait_for("died");
    assert_eq!(died["role"], "device-host");
    assert!(died["reason"].as_str().is_some_and(|reason| reason.contains("asked for nothing")), "{died}");
    play_on(&mut playing, SECOND_BLOCKS);
    assert_eq!(deaths(&playing).len(), 1, "{:#?}", deaths(&playing));
    end(&mut playing);
}

#[test]
fn children_outlive_the_end_of_a_terminal() {
    let folder = Folder::new();
    let (mut playing, _) = play(&folder);
    let supervisor = playing.pid();
    let children: Vec<u32> = playing.processes().iter().map(|process| process.pid).filter(|pid| *pid != supervisor).collect();
    assert!(children.len() >= 5, "worker, device host, two hosts, spare: {children:?}");
    children.iter().for_each(|pid| send_signal(*pid, Signal::HUP));
    play_on(&mut playing, SECOND_BLOCKS);
    let alive: Vec<u32> = playing.processes().iter().map(|process| process.pid).collect();
    assert!(children.iter().all(|pid| alive.contains(pid)), "{children:?}, {alive:?}");
    assert_eq!(deaths(&playing), Vec::<&Value>::new());
    end(&mut playing);
}

#[test]
fn a_session_survives_whatever_stands_still_in_it() {
    let mut ordeal = Ordeal::start(Setup { lead_blocks: 24, ..Setup::default() }, 4);
    for blow in BLOWS.iter().filter(|blow| blow.name.contains("SIGSTOP")) {
        ordeal.strike(blow);
    }
    let tally = ordeal.end();
    assert!(tally.unexpected.is_empty(), "{:#?}", tally.unexpected);
}
