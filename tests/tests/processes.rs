//! The processes of a play: who is there, who dies, and that nothing is left.

use rustix::process::Signal;
use tests::playing::{Folder, Playing, send_signal, text};
use tests::programs::{BODY_LINE, audio_program, ramp, silence};
use tests::remains::shared_memory_names;

/// A play of these programs on the null device, waited for until all of them sound.
fn play(folder: &Folder, programs: &[(&str, String)]) -> Playing {
    let files: Vec<_> = programs.iter().map(|(name, source)| folder.file(&format!("{name}.8f4e"), source)).collect();
    // Whoever has lost their supervisor waits no longer than this for the next one.
    let mut arguments = vec!["--device", "null", "--grace", "3"];
    arguments.extend(files.iter().map(|file| text(file)));
    let mut playing = Playing::start(folder, &arguments, &[]);
    for _ in programs {
        playing.wait_for("sounding");
    }
    playing
}

fn is_spare(event: &serde_json::Value) -> bool {
    event["event"] == "processStarted" && event["role"] == "spare-host"
}

/// The id of the session that a play belongs to: every child is told it.
fn session_of(playing: &Playing) -> String {
    let host = &playing.in_role("device-host")[0];
    host.arguments.iter().rfind(|argument| !argument.is_empty()).expect("a role has arguments").clone()
}

fn nothing_is_left(folder: &Folder, session: &str) {
    let names: Vec<_> = shared_memory_names().into_iter().filter(|name| name.contains(session)).collect();
    assert!(names.is_empty(), "left in shared memory: {names:?}");
    let ours = folder.path().join("continuo");
    let left: Vec<_> =
        std::fs::read_dir(ours).into_iter().flatten().flatten().filter(|e| e.file_name().to_string_lossy().contains(session)).collect();
    assert!(left.is_empty(), "left in the runtime directory: {left:?}");
}

#[test]
fn three_programs_are_three_hosts_a_spare_one_worker_and_one_device_host() {
    let folder = Folder::new();
    let mut playing = play(&folder, &[("one", ramp()), ("two", silence()), ("three", silence())]);
    if !playing.seen().iter().any(is_spare) {
        playing.wait_until("a spare", is_spare);
    }
    assert_eq!(playing.in_role("runtime-host").len(), 4);
    assert_eq!(playing.in_role("compiler-worker").len(), 1);
    assert_eq!(playing.in_role("device-host").len(), 1);
    assert_eq!(playing.processes().len(), 7, "and the supervisor: {:?}", playing.processes());
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

#[test]
fn nothing_is_left_after_an_interrupt() {
    ends_without_remains(Signal::INT);
}

#[test]
fn nothing_is_left_after_a_termination() {
    ends_without_remains(Signal::TERM);
}

fn ends_without_remains(signal: Signal) {
    let folder = Folder::new();
    let mut playing = play(&folder, &[("one", ramp()), ("two", silence())]);
    let session = session_of(&playing);
    playing.signal(signal);
    assert_eq!(playing.wait(), Some(0));
    playing.wait_until_gone();
    nothing_is_left(&folder, &session);
}

#[test]
fn a_killed_supervisor_leaves_nothing_behind_once_another_has_started() {
    let folder = Folder::new();
    let mut playing = play(&folder, &[("one", ramp()), ("two", silence())]);
    let session = session_of(&playing);
    playing.signal(Signal::KILL);
    playing.wait_until_gone();
    let mut next = play(&folder, &[("one", ramp())]);
    nothing_is_left(&folder, &session);
    next.signal(Signal::INT);
    assert_eq!(next.wait(), Some(0));
}

#[test]
fn a_killed_host_is_reported_by_name_and_the_others_play_on() {
    let folder = Folder::new();
    let mut playing = play(&folder, &[("one", ramp()), ("two", silence())]);
    let started = playing.seen().iter().find(|event| event["event"] == "processStarted" && event["runtime"] == "two").cloned();
    let pid = started.and_then(|event| event["pid"].as_u64()).expect("the host of \"two\" was announced");
    send_signal(pid as u32, Signal::KILL);
    let died = playing.wait_for("died");
    assert_eq!((died["runtime"].as_str(), died["signalName"].as_str()), (Some("two"), Some("SIGKILL")));
    let ticks = |playing: &mut Playing| {
        playing.wait_until("status of one", |event| event["event"] == "runtimeStatus" && event["runtime"] == "one")["ticks"].as_u64()
    };
    let before = ticks(&mut playing);
    playing.wait_until("progress of one", |event| {
        event["event"] == "runtimeStatus" && event["runtime"] == "one" && event["ticks"].as_u64() > before
    });
}

#[test]
fn a_host_that_dies_too_often_is_held_and_says_why() {
    let folder = Folder::new();
    let mut playing = play(&folder, &[("one", ramp())]);
    for _ in 0..6 {
        let hosts = playing.in_role("runtime-host");
        let host = hosts.iter().find(|host| host.arguments.iter().any(|argument| argument == "one")).or(hosts.first());
        let ready = playing.seen().iter().rev().find(|event| event["event"] == "hostReady").and_then(|event| event["pid"].as_u64());
        let pid = ready.map_or(host.map(|host| host.pid).unwrap_or_default(), |pid| pid as u32);
        send_signal(pid, Signal::ABORT);
        assert_eq!(playing.wait_until("its death", |event| event["event"] == "died")["signalName"], "SIGABRT");
        let went_on = playing.wait_until("what follows", |event| event["event"] == "hostReady" || event["event"] == "quarantined");
        if went_on["event"] == "quarantined" {
            assert!(went_on["reason"].as_str().is_some_and(|reason| reason.contains("SIGABRT")), "{went_on}");
            playing.signal(Signal::INT);
            assert!(playing.wait().is_some_and(|code| code != 0), "that it failed shows in the end");
            return playing.wait_until_gone();
        }
    }
    panic!("it is started for ever");
}

#[test]
fn the_deaths_of_worker_and_device_host_are_reported_and_the_play_goes_on() {
    for role in ["compiler-worker", "device-host"] {
        let folder = Folder::new();
        let mut playing = play(&folder, &[("one", ramp())]);
        let session = session_of(&playing);
        send_signal(playing.in_role(role)[0].pid, Signal::KILL);
        assert_eq!(playing.wait_for("died")["role"], role);
        playing.wait_until("another one", |event| event["event"] == "processStarted" && event["role"] == role);
        playing.signal(Signal::INT);
        assert_eq!(playing.wait(), Some(0));
        playing.wait_until_gone();
        nothing_is_left(&folder, &session);
    }
}

#[test]
fn a_trap_names_its_line_and_ends_no_process() {
    let folder = Folder::new();
    // The 1000th sample divides by a zero that the compiler takes for non-zero (LANGUAGE §25.12).
    let body = "int n\npush &n\npush n\npush 1\nadd\nstore\npush n\npush 1000\nequal\nif\npush 1\npush 0.5\ncastToInt\ndiv\ndrop\nifEnd";
    let mut playing = play(&folder, &[("trap", audio_program(body)), ("other", ramp())]);
    let fault = playing.wait_for("fault");
    assert_eq!(fault["runtime"], "trap");
    assert_eq!(fault["fault"]["kind"], "division_by_zero");
    assert_eq!(fault["fault"]["line"].as_u64(), Some(BODY_LINE + 13), "{fault}");
    assert!(!playing.seen().iter().any(|event| event["event"] == "died"));
}

#[test]
fn a_runaway_loop_is_caught_and_the_other_program_plays_on() {
    let folder = Folder::new();
    let body = "int n\nloop 30000\nloop 30000\nloop 30000\npush &n\npush n\npush 1\nadd\nstore\nloopEnd\nloopEnd\nloopEnd";
    let files = [folder.file("runaway.8f4e", audio_program(body)), folder.file("other.8f4e", ramp())];
    let mut playing = Playing::start(&folder, &["--device", "null", text(&files[0]), text(&files[1])], &[]);
    let fault = playing.wait_for("fault");
    assert_eq!(fault["fault"]["kind"], "runaway");
    let line = fault["fault"]["line"].as_u64().expect("a line is named");
    assert!((BODY_LINE + 1..BODY_LINE + 12).contains(&line), "{fault}");
    playing.wait_until("the runtime is held", |event| event["event"] == "fault" && event["isHeld"] == true);
    let ticks = playing.wait_until("status", |event| event["event"] == "runtimeStatus" && event["runtime"] == "other")["ticks"].as_u64();
    playing.wait_until("progress", |event| {
        event["event"] == "runtimeStatus" && event["runtime"] == "other" && event["ticks"].as_u64() > ticks
    });
    assert!(!playing.seen().iter().any(|event| event["event"] == "died"));
}
