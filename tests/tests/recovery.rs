//! What happens when the processes of a session die: hosts, the device host, the worker, the spare. Real processes, killed by
//! their ids; everything that is heard is recorded and compared sample by sample.

use std::path::PathBuf;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::live::{Holdings, LiveSession, read_wav};
use tests::playing::{Folder, PATIENCE, Playing, send_signal, text};
use tests::programs::{audio_program, ramp, silence};
use tests::remains::shared_memory_names;
use tests::takes::{Stretch, Verdict, judge, missed_between, missed_so_far, odd_blocks};

/// Takes in which the machine was late while nobody was killed prove nothing about kills: then the scene is played again.
const TAKES: usize = 6;

/// A play of these programs on the paced null device with the longest lead, recorded, waited for until all of them sound and
/// the spare is there.
fn play(folder: &Folder, programs: &[(&str, String)], environment: &[(&str, &str)]) -> (Playing, PathBuf) {
    let files: Vec<_> = programs.iter().map(|(name, source)| folder.file(&format!("{name}.8f4e"), source)).collect();
    let wav = folder.path().join("take.wav");
    let mut arguments = vec!["--device", "null", "--lead", "24", "--session", "under-test", "--wav", text(&wav)];
    arguments.extend(files.iter().map(|file| text(file)));
    let mut playing = Playing::start(folder, &arguments, environment);
    for _ in programs {
        playing.wait_for("sounding");
    }
    (playing, wav)
}

/// The newest process of this role (and runtime).
fn pid_of(playing: &Playing, role: &str, runtime: Option<&str>) -> u32 {
    let is_it = |event: &&Value| event["event"] == "processStarted" && event["role"] == role && event["runtime"].as_str() == runtime;
    let started = playing.seen().iter().rev().find(is_it).unwrap_or_else(|| panic!("no {role} was started: {:#?}", playing.seen()));
    started["pid"].as_u64().expect("a process has a pid") as u32
}

/// Kills a runtime's host and waits until another one goes on and the next spare is there; returns how many blocks were missed.
fn kill_host(playing: &mut Playing, runtime: &str, signal: Signal) -> u64 {
    let (takeovers, spares) = (seen(playing, is_ready), seen(playing, is_spare));
    send_signal(playing.host_pid(runtime), signal);
    let died = playing.wait_for("died");
    assert_eq!((died["role"].as_str(), died["runtime"].as_str()), (Some("runtime-host"), Some(runtime)), "{died}");
    wait_until_seen(playing, is_spare, spares + 1);
    wait_until_seen(playing, is_ready, takeovers + 1);
    let ready = playing.seen().iter().rev().find(|event| is_ready(event)).expect("it was seen");
    assert!(ready["nextTick"].as_u64() >= ready["restoredTick"].as_u64(), "{ready}");
    ready["gapBlocks"].as_u64().expect("a gap is counted")
}

fn is_spare(event: &Value) -> bool {
    event["event"] == "processStarted" && event["role"] == "spare-host"
}

fn is_ready(event: &Value) -> bool {
    event["event"] == "hostReady"
}

/// How many such events there have been.
fn seen(playing: &Playing, is_it: fn(&Value) -> bool) -> usize {
    playing.seen().iter().filter(|event| is_it(event)).count()
}

/// Waits until there have been so many such events, whatever else comes between.
fn wait_until_seen(playing: &mut Playing, is_it: fn(&Value) -> bool, count: usize) {
    while seen(playing, is_it) < count {
        playing.wait_until("such an event", is_it);
    }
}

/// Waits for the first spare; returns its process.
fn wait_for_spare(playing: &mut Playing) -> u32 {
    wait_until_seen(playing, is_spare, 1);
    pid_of(playing, "spare-host", None)
}

/// Waits until a runtime has come so many ticks further.
fn play_on(playing: &mut Playing, runtime: &str, ticks: u64) {
    let ticks_of = |event: &Value| event["ticks"].as_u64().unwrap_or(0);
    let is_status = |event: &Value| event["event"] == "runtimeStatus" && event["runtime"] == runtime;
    let now = ticks_of(&playing.wait_until("a status", is_status));
    playing.wait_until("progress", |event| is_status(event) && ticks_of(event) >= now + ticks);
}

fn end(playing: &mut Playing) {
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0), "the play ends well");
    playing.wait_until_gone();
}

/// A stretch of a take: so long that whatever a kill at its begin does to anybody is told in it.
fn stretch(playing: &mut Playing, hit: Option<(&str, Signal)>) -> Stretch {
    let before = missed_so_far(playing);
    if let Some((runtime, signal)) = hit {
        kill_host(playing, runtime, signal);
    }
    play_on(playing, "ramp", 300);
    let missed = missed_between(&before, &missed_so_far(playing));
    Stretch { hit: hit.map(|(runtime, _)| runtime.to_owned()), missed }
}

/// Plays a scene of a ramp with these kills, each after as long a stretch without one, until the machine was not late by
/// itself. No lane but those that are hit may miss a block then. Returns the take.
fn take_of(folder: &Folder, kills: &[(&str, Signal)]) -> (Playing, Vec<Stretch>, PathBuf) {
    for take in 0..TAKES {
        let (mut playing, wav) = play(folder, &[("ramp", ramp()), ("quiet", silence()), ("other", silence())], &[]);
        wait_for_spare(&mut playing);
        let mut stretches = Vec::new();
        for kill in kills {
            stretches.push(stretch(&mut playing, None));
            stretches.push(stretch(&mut playing, Some(*kill)));
        }
        end(&mut playing);
        match judge(&stretches) {
            Verdict::Undisturbed => {
                eprintln!("{take} of {} takes were thrown away", take + 1);
                return (playing, stretches, wav);
            }
            Verdict::MachineWasLate(what) => eprintln!("{what}; once more"),
            Verdict::Disturbed(what) => panic!("{what}"),
        }
    }
    panic!("in each of {TAKES} takes blocks came too late while nobody was killed: the machine is too busy to tell anything");
}

#[test]
fn a_killed_host_continues_without_losing_a_sample() {
    let folder = Folder::new();
    let (playing, stretches, wav) = take_of(&folder, &[("ramp", Signal::KILL); 4]);
    let takeovers: Vec<&Value> = playing.seen().iter().filter(|event| is_ready(event)).collect();
    assert_eq!(takeovers.len(), 4);
    let unheard = takeovers.iter().filter(|took| took["wasPrepared"] == true && took["gapBlocks"] == 0).count();
    assert!(unheard > 0, "at the longest lead a prepared host takes over unheard: {takeovers:#?}");
    // What was heard of the others is what was told, and a block faded in after each.
    let gaps: Vec<u64> = stretches.iter().map(|stretch| stretch.missed["ramp"]).filter(|missed| *missed > 0).collect();
    let told = gaps.iter().sum::<u64>() as usize + gaps.len();
    let odd = odd_blocks(&wav);
    assert!(odd.len() <= told, "{told} blocks may differ, these do: {odd:?}; {stretches:?}");
}

#[test]
fn killed_hosts_do_not_change_one_sample_of_another_runtime() {
    let folder = Folder::new();
    let (_, _, wav) = take_of(&folder, &[("quiet", Signal::SEGV), ("other", Signal::KILL), ("quiet", Signal::BUS)]);
    assert_eq!(odd_blocks(&wav), Vec::<usize>::new());
}

#[test]
fn two_hosts_that_die_at_once_both_go_on() {
    let folder = Folder::new();
    let (mut playing, _) = play(&folder, &[("one", ramp()), ("two", silence())], &[]);
    wait_for_spare(&mut playing);
    for runtime in ["one", "two"] {
        send_signal(playing.host_pid(runtime), Signal::KILL);
    }
    wait_until_seen(&mut playing, is_ready, 2);
    for runtime in ["one", "two"] {
        play_on(&mut playing, runtime, 100);
    }
    end(&mut playing);
}

#[test]
fn a_stopped_host_is_told_killed_and_taken_over() {
    let folder = Folder::new();
    let (mut playing, _) = play(&folder, &[("one", ramp()), ("two", silence())], &[]);
    wait_for_spare(&mut playing);
    send_signal(playing.host_pid("two"), Signal::STOP);
    assert_eq!(playing.wait_for("stalled")["runtime"], "two");
    let died = playing.wait_for("died");
    assert_eq!((died["runtime"].as_str(), died["signalName"].as_str()), (Some("two"), Some("SIGKILL")));
    assert!(died["reason"].as_str().is_some_and(|reason| reason.contains("no progress")), "{died}");
    assert_eq!(playing.wait_for("hostReady")["runtime"], "two");
    play_on(&mut playing, "two", 100);
    end(&mut playing);
}

#[test]
fn a_killed_spare_is_replaced_and_the_next_one_takes_over() {
    let folder = Folder::new();
    let (mut playing, _) = play(&folder, &[("one", ramp())], &[]);
    let spare = wait_for_spare(&mut playing);
    send_signal(spare, Signal::KILL);
    assert_eq!(playing.wait_for("died")["role"], "spare-host");
    wait_until_seen(&mut playing, is_spare, 2);
    kill_host(&mut playing, "one", Signal::KILL);
    play_on(&mut playing, "one", 100);
    end(&mut playing);
}

#[test]
fn a_killed_device_host_is_replaced_and_the_recording_goes_on_in_a_new_part() {
    let folder = Folder::new();
    let (mut playing, wav) = play(&folder, &[("ramp", ramp())], &[]);
    wait_for_spare(&mut playing);
    send_signal(pid_of(&playing, "device-host", None), Signal::KILL);
    assert_eq!(playing.wait_for("died")["role"], "device-host");
    playing.wait_until("the next device host", |event| event["event"] == "processStarted" && event["role"] == "device-host");
    play_on(&mut playing, "ramp", 600);
    end(&mut playing);
    assert!(!playing.seen().iter().any(|event| event["event"] == "died" && event["role"] == "runtime-host"), "the host was not touched");
    let part = read_wav(&wav.with_file_name("take.2.wav"));
    assert!(part.iter().any(|frame| frame[0] != 0.0), "the second part is not silent");
    read_wav(&wav);
}

#[test]
fn a_killed_worker_is_replaced_and_edits_go_on() {
    let folder = Folder::new();
    let program = folder.file("ramp.8f4e", ramp());
    let mut session = LiveSession::start(&folder, &[&program]);
    let worker = pid_of(&session.playing, "compiler-worker", None);
    send_signal(worker, Signal::KILL);
    assert_eq!(session.playing.wait_for("died")["role"], "compiler-worker");
    let edited = ramp().replace("push 127\n", "push 0x7F\n");
    session.peer.expect("push", json!({ "runtime": "ramp", "text": edited, "answer": "committed" }));
    session.end();
}

#[test]
fn an_edited_program_is_recovered_as_it_was_edited() {
    let folder = Folder::new();
    let program = folder.file("level.8f4e", audio_program("int level 1\npush &level\npush level\nstore"));
    let mut session = LiveSession::start(&folder, &[&program]);
    wait_for_spare(&mut session.playing);
    let edited = audio_program("int level 1\nint other 7\npush &other\npush other\nstore");
    session.peer.expect("push", json!({ "runtime": "level", "text": edited, "answer": "committed", "acknowledge": true }));
    session.peer.expect("set", json!({ "runtime": "level", "values": [{ "item": "other", "value": 42 }] }));
    kill_host(&mut session.playing, "level", Signal::KILL);
    let values = session.peer.expect("get", json!({ "runtime": "level", "items": ["other"] }));
    assert_eq!(values["values"][0]["values"][0], 42, "{values}");
    assert_eq!(session.runtime("level")["state"], "running");
    assert_eq!(session.runtime("level")["restarts"], 1);
    session.end();
}

#[test]
fn a_program_that_kills_its_host_again_and_again_is_held_and_the_others_play_on() {
    let folder = Folder::new();
    let fault = [("CONTINUO_FAULT", "segv@tick:400,runtime:bad")];
    let (mut playing, _) = play(&folder, &[("bad", ramp()), ("good", silence())], &fault);
    let held = playing.wait_for("quarantined");
    assert_eq!(held["runtime"], "bad");
    assert!(held["reason"].as_str().is_some_and(|reason| reason.contains("tick 400")), "{held}");
    let deaths = playing.seen().iter().filter(|event| event["event"] == "died").count();
    assert_eq!(deaths, 2, "it is blamed after the second time");
    play_on(&mut playing, "good", 300);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(1), "a program has failed");
    playing.wait_until_gone();
}

#[test]
fn twenty_kills_leave_nothing_behind() {
    const KILLS: usize = 20;
    let folder = Folder::new();
    let (mut playing, _) = play(&folder, &[("one", ramp()), ("two", silence())], &[]);
    wait_for_spare(&mut playing);
    kill_host(&mut playing, "one", Signal::KILL);
    let before = holdings(&playing);
    for kill in 0..KILLS {
        // As fast as the limit on restarts allows.
        play_on(&mut playing, "one", 450);
        kill_host(&mut playing, if kill % 2 == 0 { "two" } else { "one" }, Signal::KILL);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let after = holdings(&playing);
        if after == before {
            break;
        }
        assert!(Instant::now() < deadline, "before: {before:?}, after: {after:?}");
        play_on(&mut playing, "one", 10);
    }
    let session = session_of(&playing);
    assert!(names_of(&session) > 0, "a session that plays has names");
    end(&mut playing);
    assert_eq!(names_of(&session), 0, "none of them is left");
}

/// The session's id, which is part of every name in shared memory.
fn session_of(playing: &Playing) -> String {
    let device = &playing.in_role("device-host")[0];
    device.arguments.iter().rfind(|argument| !argument.is_empty()).cloned().expect("it was told")
}

fn names_of(session: &str) -> usize {
    shared_memory_names().iter().filter(|name| name.contains(session)).count()
}

/// Processes of the play, descriptors of the supervisor, names in shared memory.
fn holdings(playing: &Playing) -> (usize, usize, usize) {
    let names = names_of(&session_of(playing));
    (playing.processes().len(), Holdings::of(playing.pid()).expect("the supervisor lives").descriptors, names)
}
