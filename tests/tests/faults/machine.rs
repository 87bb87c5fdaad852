//! Rows in which the machine lacks something: shared memory, descriptors, the binary.

use std::io::Write;
use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use tests::playing::{Playing, binary, send_signal, text};

use crate::shares::share_machine;
use crate::{blow, ends_well, start};

#[test]
fn row_26_without_free_descriptors_the_session_plays_on_and_starts_what_is_missing_later() {
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    let mark = gig.mark();
    let pid = Pid::from_raw(gig.playing.pid() as i32);
    let used = std::fs::read_dir(format!("/proc/{}/fd", gig.playing.pid())).unwrap().count() as u64;
    let before = getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(used), ..before }).unwrap();
    // The spare dies: the next one cannot be started.
    let spare = gig.process("spareHost").unwrap();
    send_signal(spare, Signal::KILL);
    gig.event_since(mark, "the death of the spare", |event| event["kind"] == "processDied" && event["pid"] == spare).unwrap();
    let missing = gig.playing.wait_until("what failed", |event| event["event"] == "processFailed");
    let reason = missing["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(&too_many_files().to_string()), "the lack is named: {missing}");
    assert!(gig.process("spareHost").is_none());
    gig.play_on(24_000).unwrap();
    prlimit(pid, Resource::Nofile, before).unwrap();
    gig.wait_for_spare().unwrap();
    let now = |gig: &tests::soak::gig::Gig| std::fs::read_dir(format!("/proc/{}/fd", gig.playing.pid())).unwrap().count() as u64;
    gig.wait_until("no more descriptors than before", |gig| now(gig) <= used).unwrap();
    assert!(ordeal.strike(blow("host: SIGKILL")));
    ends_well(ordeal);
}

/// EMFILE in the system's words.
fn too_many_files() -> std::io::Error {
    std::io::Error::from(rustix::io::Errno::MFILE)
}

#[test]
fn row_27_a_session_whose_binary_is_gone_from_the_disk_still_recovers() {
    share_machine();
    let folder = tests::playing::Folder::new();
    let copy = folder.path().join("continuo-copy");
    std::fs::copy(binary(), &copy).unwrap();
    let mut playing = copied(&folder, &copy);
    playing.wait_for("sounding");
    wait_for_hosts(&playing, 2);
    std::fs::remove_file(&copy).unwrap();
    for _ in 0..2 {
        let host = playing.in_role("runtime-host").into_iter().find(|process| process.arguments.iter().any(|argument| argument == "ramp"));
        // The one that has taken over was started as the spare, without the runtime's name.
        let pid = host.map_or_else(|| ready_pid(&playing), |process| process.pid);
        send_signal(pid, Signal::KILL);
        playing.wait_until("the takeover", |event| event["event"] == "hostReady");
        wait_for_hosts(&playing, 2);
    }
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

/// The runtime's host and the spare.
fn wait_for_hosts(playing: &Playing, count: usize) {
    let deadline = std::time::Instant::now() + tests::playing::PATIENCE;
    while playing.in_role("runtime-host").len() != count {
        assert!(std::time::Instant::now() < deadline, "there are not {count} hosts: {:?}", playing.processes());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn ready_pid(playing: &Playing) -> u32 {
    let ready = playing.seen().iter().rev().find(|event| event["event"] == "hostReady").expect("a takeover");
    ready["pid"].as_u64().unwrap() as u32
}

fn copied(folder: &tests::playing::Folder, copy: &std::path::Path) -> Playing {
    let program = folder.file("ramp.8f4e", tests::programs::ramp());
    Playing::of_program(folder, copy, &["play", "--json", "--device", "null", text(&program)])
}

#[test]
fn row_35_a_second_supervisor_of_the_same_session_is_refused_and_names_the_first() {
    let mut ordeal = start();
    let second = tests::playing::run(&ordeal.gig.folder, &["up", "--session", "gig", "--device", "null"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains(&ordeal.gig.playing.pid().to_string()), "the first one's process id is told: {said}");
    let status = ordeal.gig.status();
    assert!(status["runtimes"].as_array().unwrap().iter().all(|runtime| runtime["state"] == "running"));
    ends_well(ordeal);
}

/// A session in a mount namespace of its own, whose shared memory has so many mebibytes; `None` where that is not allowed.
fn with_small_shared_memory(folder: &tests::playing::Folder, mib: u32, arguments: &[&str]) -> Option<Playing> {
    let script = format!("mount -t tmpfs -o size={mib}m,mode=1777 tmpfs /dev/shm && exec \"$@\"");
    let unshare = |command: &[&str]| {
        let mut unshared = std::process::Command::new("unshare");
        unshared.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).args(command);
        unshared
    };
    let is_allowed = unshare(&["true"]).process_group(0).status().is_ok_and(|status| status.success());
    if !is_allowed {
        eprintln!("\n*** SKIPPED: this user may not make a mount namespace; run as root to test a full shared memory ***\n");
        return None;
    }
    let binary = binary();
    let mut all = vec!["--mount", "--propagation", "private", "sh", "-c", &script, "sh", text(&binary)];
    all.extend(arguments);
    Some(Playing::of_program(folder, std::path::Path::new("unshare"), &all))
}

/// The shared memory of a session in a mount namespace of its own, as seen from here.
struct SharedMemory {
    folder: std::path::PathBuf,
}

impl SharedMemory {
    fn of(playing: &Playing) -> Self {
        Self { folder: format!("/proc/{}/root/dev/shm", playing.pid()).into() }
    }

    fn filler(&self) -> std::path::PathBuf {
        self.folder.join("filler")
    }

    /// Writes until there is no room for one more page.
    fn fill(&self) {
        let mut filler = std::fs::File::options().create(true).append(true).open(self.filler()).expect("it can be written to");
        let error = loop {
            if let Err(error) = filler.write_all(&[1; 4_096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler was there");
    }
}

#[test]
fn row_25_when_shared_memory_is_full_what_plays_goes_on_and_what_is_new_is_refused() {
    share_machine();
    let folder = tests::playing::Folder::new();
    let wav = folder.path().join("take.wav");
    let programs = ["ramp", "quiet"].map(|name| {
        let text = if name == "ramp" { tests::programs::ramp() } else { tests::programs::silence() };
        folder.file(&format!("{name}.8f4e"), text)
    });
    let arguments = ["play", "--json", "--session", "small", "--device", "null", "--lead", "24", "--wav", text(&wav)];
    let arguments = [&arguments[..], &programs.each_ref().map(|program| text(program))].concat();
    let Some(mut playing) = with_small_shared_memory(&folder, 24, &arguments) else { return };
    programs.iter().for_each(|_| drop(playing.wait_for("sounding")));
    wait_for_hosts(&playing, 3);
    let memory = SharedMemory::of(&playing);
    let mut peer = tests::rpc::Peer::connect(&folder.path().join("continuo/small.sock"));
    play_ticks(&mut playing, 100);
    memory.fill();

    for (runtime, more) in [("new", "int one 1"), ("quiet", "int two 2")] {
        let failure = peer.call("push", json!({ "runtime": runtime, "text": tests::programs::audio_program(more), "answer": "committed" }));
        let failure = failure.expect_err("there is no room for it");
        assert_eq!((failure.code, failure.name.as_str()), (15, "exhausted"), "{failure:?}");
        assert!(failure.message.contains("bytes are needed in /dev/shm"), "{failure:?}");
    }
    // The spare has all it needs: a host that dies is followed by it, and nobody hears of that.
    let quiet = playing.in_role("runtime-host").into_iter().find(|process| process.arguments.iter().any(|argument| argument == "quiet"));
    let quiet = quiet.expect("it has a host").pid;
    send_signal(quiet, Signal::KILL);
    playing.wait_until("the takeover", |event| event["event"] == "hostReady" && event["runtime"] == "quiet");
    play_ticks(&mut playing, 400);
    let deaths: Vec<Value> = playing.seen().iter().filter(|event| event["event"] == "died" && event["pid"] != quiet).cloned().collect();
    assert_eq!(deaths, Vec::<Value>::new(), "nobody has died of it");
    assert_eq!(tests::takes::missed_so_far(&playing)["ramp"], 0);

    memory.free();
    wait_for_hosts(&playing, 3);
    let report =
        peer.expect("push", json!({ "runtime": "quiet", "text": tests::programs::audio_program("int two 2"), "answer": "committed" }));
    assert_eq!(report["state"], "committed", "with room there is a way again: {report}");
    play_ticks(&mut playing, 100);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    assert_eq!(tests::takes::odd_blocks(&wav), Vec::<usize>::new());
}

/// Waits until the ramp has come so many ticks further.
fn play_ticks(playing: &mut Playing, ticks: u64) {
    let ticks_of = |event: &Value| event["ticks"].as_u64().unwrap_or(0);
    let is_status = |event: &Value| event["event"] == "runtimeStatus" && event["runtime"] == "ramp";
    let now = ticks_of(&playing.wait_until("a status", is_status));
    playing.wait_until("progress", |event| is_status(event) && ticks_of(event) >= now + ticks);
}
