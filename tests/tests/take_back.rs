//! The death of a supervisor: what plays plays on, the next supervisor takes it back, and when nobody comes nothing is left
//! (DESIGN §10, FAULTS rows 35, 40, 46, 47, 54).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::live::read_wav;
use tests::playing::{Folder, PATIENCE, Playing, send_signal, text};
use tests::programs::{RAMP_STEP, audio_program, ramp, silence};
use tests::remains::shared_memory_names;
use tests::rpc::Peer;

const NAME: &str = "gig";

/// Gains of the two ramps; their sum is exact in every sample.
const GAINS: [f32; 2] = [0.25, 0.5];

/// Takes in which a busy machine made a ramp's own host late prove nothing: then the scene is played again.
const TAKES: usize = 5;

/// A session of two ramps and one silent program, on the paced null device, recorded.
struct Gig {
    folder: Folder,
    file: PathBuf,
    wav: PathBuf,
}

impl Gig {
    fn new(grace_seconds: f64) -> Self {
        let folder = Folder::new();
        let wav = folder.path().join("take.wav");
        for (name, source) in [("one", ramp()), ("two", ramp()), ("quiet", silence())] {
            folder.file(&format!("{name}.8f4e"), source);
        }
        let runtime = |name: &str, gain: f32| format!("[[runtime]]\nname = \"{name}\"\nfile = \"{name}.8f4e\"\ngain = {gain}\n");
        let session = format!(
            "name = \"{NAME}\"\ndevice = \"null\"\nlead = 24\nrecording = \"take.wav\"\ngrace = {grace_seconds:?}\n{}{}{}",
            runtime("one", GAINS[0]),
            runtime("two", GAINS[1]),
            runtime("quiet", 1.0)
        );
        let file = folder.file("gig.toml", session);
        Self { folder, file, wav }
    }

    /// A supervisor of the session that has begun it: everything sounds.
    fn begin(&self) -> Playing {
        let mut playing = self.up();
        (0..3).for_each(|_| drop(playing.wait_for("sounding")));
        playing
    }

    fn up(&self) -> Playing {
        Playing::up(&self.folder, &[text(&self.file)], &[])
    }

    fn peer(&self) -> Peer {
        let mut peer = Peer::connect(&self.folder.path().join("continuo").join(format!("{NAME}.sock")));
        peer.expect("subscribe", json!({ "topics": ["changes"] }));
        peer
    }

    /// Waits until so many bytes more have been recorded.
    fn record_on(&self, bytes: u64) {
        let length = || std::fs::metadata(&self.wav).map_or(0, |found| found.len());
        let goal = length() + bytes;
        wait_until("the recording goes on", || length() >= goal);
    }

    /// The directory of the session.
    fn directory(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.folder.path().join("continuo")).expect("there is a runtime directory");
        entries.flatten().map(|entry| entry.path()).find(|path| path.join("ledger").exists()).expect("the session has a directory")
    }

    /// Nothing of the session with this directory is left.
    fn nothing_is_left(&self, directory: &Path) {
        let id = directory.file_name().and_then(|name| name.to_str()).expect("a session's directory has its name");
        let names: Vec<_> = shared_memory_names().into_iter().filter(|name| name.contains(id)).collect();
        assert!(names.is_empty(), "left in shared memory: {names:?}");
        assert!(!directory.exists(), "the session's directory is left");
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills the supervisor, and waits until it is dead.
fn kill_supervisor(playing: &mut Playing) {
    playing.signal(Signal::KILL);
    assert_eq!(playing.wait(), None, "a signal is no exit code");
}

/// What must be the same under the next supervisor, of each runtime.
fn likeness(peer: &mut Peer) -> Vec<Value> {
    let status = peer.expect("status", json!({}));
    let runtimes = status["runtimes"].as_array().expect("a list of runtimes");
    let of = |runtime: &Value| {
        let kept = ["runtime", "state", "pid", "generation", "revision", "mix", "watching"];
        Value::Object(kept.iter().map(|key| ((*key).to_owned(), runtime[*key].clone())).collect())
    };
    runtimes.iter().map(of).collect()
}

fn runtime(peer: &mut Peer, name: &str) -> Value {
    peer.expect("status", json!({ "runtime": name }))["runtimes"][0].take()
}

fn underruns(peer: &mut Peer) -> u64 {
    let status = peer.expect("status", json!({}));
    status["runtimes"].as_array().into_iter().flatten().filter_map(|runtime| runtime["underruns"].as_u64()).sum()
}

fn quiet_with(items: &str) -> String {
    audio_program(&format!("int unused\n{items}"))
}

/// Pushes a text and waits until it is in effect.
fn push(peer: &mut Peer, text: &str) {
    let report = peer.expect("push", json!({ "runtime": "quiet", "text": text }));
    let change = report["change"].as_u64().expect("a change has a number");
    peer.progress(change, &["committed"]);
}

/// Demands that the recording is both ramps from their first sample to the fade-out, without a hole. Returns its frames.
fn check_ramps(frames: &[[f32; 2]], at_least: usize) {
    let sum: f32 = GAINS.iter().sum();
    let expected = |sample: usize| sum * RAMP_STEP * (sample & 0xF_FFFF) as f32;
    let first = frames.iter().position(|frame| frame[0] != 0.0).expect("something was heard");
    let whole = frames[first..].iter().enumerate().take_while(|(index, frame)| **frame == [expected(index + 1), -expected(index + 1)]);
    let whole = whole.count();
    // What follows is the fade-out at the end, 20 ms at most.
    let rest = frames.len() - first - whole;
    assert!(whole >= at_least && rest <= 2_000, "{whole} samples are as they should be, then {rest} are not");
}

#[test]
fn three_runtimes_play_on_through_the_death_of_their_supervisor_without_a_missing_sample() {
    for take in 1.. {
        let gig = Gig::new(60.0);
        let mut first = gig.begin();
        let mut peer = gig.peer();
        push(&mut peer, &quiet_with("int added"));
        peer.expect("gain", json!({ "runtime": "quiet", "gain": 0.125 }));
        peer.expect("set", json!({ "runtime": "quiet", "values": [{ "item": "m:added", "value": 77 }] }));
        let before = likeness(&mut peer);
        let history = peer.expect("list", json!({ "runtime": "quiet" }));
        let directory = gig.directory();
        kill_supervisor(&mut first);
        gig.record_on(100_000);

        let mut second = gig.up();
        let taken = second.wait_for("takenBack");
        assert_eq!(taken["runtimes"], json!(["one", "two", "quiet"]));
        second.wait_for("listening");
        let mut peer = gig.peer();
        assert_eq!(likeness(&mut peer), before);
        assert_eq!(peer.expect("list", json!({ "runtime": "quiet" })), history);
        assert_eq!(peer.expect("get", json!({ "runtime": "quiet", "items": ["m:added"] }))["values"][0]["values"], json!([77]));

        // Edits go on with the state there is, and so does the way back.
        push(&mut peer, &quiet_with("int added\nint more"));
        assert_eq!(peer.expect("get", json!({ "runtime": "quiet", "items": ["m:added"] }))["values"][0]["values"], json!([77]));
        let back = peer.expect("rollback", json!({ "runtime": "quiet", "revision": before[2]["revision"] }));
        peer.progress(back["change"].as_u64().expect("a change"), &["committed"]);
        assert_eq!(runtime(&mut peer, "quiet")["revision"], before[2]["revision"]);

        // A killed host is recovered as ever.
        let generation = runtime(&mut peer, "quiet")["generation"].as_u64().expect("a generation");
        let pid = runtime(&mut peer, "quiet")["pid"].as_u64().expect("a process");
        send_signal(pid as u32, Signal::KILL);
        let deadline = Instant::now() + PATIENCE;
        while runtime(&mut peer, "quiet")["generation"].as_u64() != Some(generation + 1)
            || runtime(&mut peer, "quiet")["state"] != "running"
        {
            assert!(Instant::now() < deadline, "it does not come back: {}", runtime(&mut peer, "quiet"));
        }
        assert_eq!(peer.expect("get", json!({ "runtime": "quiet", "items": ["m:added"] }))["values"][0]["values"], json!([77]));
        gig.record_on(100_000);
        let late = underruns(&mut peer) - runtime(&mut peer, "quiet")["underruns"].as_u64().unwrap_or(0);
        peer.expect("shutdown", json!({}));
        assert_eq!(second.wait(), Some(0));
        second.wait_until_gone();
        gig.nothing_is_left(&directory);
        if late == 0 {
            return check_ramps(&read_wav(&gig.wav), 25_000);
        }
        assert!(take < TAKES, "this machine is too busy to play");
    }
}

#[test]
fn supervisors_may_die_one_after_the_other() {
    let gig = Gig::new(60.0);
    let mut earlier = vec![gig.begin()];
    let before = likeness(&mut gig.peer());
    for _ in 0..4 {
        kill_supervisor(earlier.last_mut().expect("there is one"));
        let mut next = gig.up();
        next.wait_for("takenBack");
        next.wait_for("listening");
        assert_eq!(likeness(&mut gig.peer()), before);
        earlier.push(next);
    }
    let directory = gig.directory();
    gig.peer().expect("shutdown", json!({}));
    assert_eq!(earlier.last_mut().map(Playing::wait), Some(Some(0)));
    gig.nothing_is_left(&directory);
}

#[test]
fn a_host_that_died_while_there_was_no_supervisor_is_taken_over_by_the_next_one() {
    let gig = Gig::new(60.0);
    let mut first = gig.begin();
    let mut peer = gig.peer();
    peer.expect("set", json!({ "runtime": "quiet", "values": [{ "item": "m:unused", "value": 5 }] }));
    let pid = runtime(&mut peer, "quiet")["pid"].as_u64().expect("a process");
    kill_supervisor(&mut first);
    send_signal(pid as u32, Signal::KILL);
    wait_until("the host is dead", || !first.in_role("runtime-host").iter().any(|host| u64::from(host.pid) == pid));
    let mut second = gig.up();
    assert_eq!(second.wait_for("takenBack")["runtimes"], json!(["one", "two"]));
    second.wait_for("listening");
    let mut peer = gig.peer();
    let deadline = Instant::now() + PATIENCE;
    while runtime(&mut peer, "quiet")["state"] != "running" {
        assert!(Instant::now() < deadline, "it does not come back: {}", runtime(&mut peer, "quiet"));
    }
    assert_eq!(runtime(&mut peer, "quiet")["generation"], 2);
    assert_eq!(peer.expect("get", json!({ "runtime": "quiet", "items": ["m:unused"] }))["values"][0]["values"], json!([5]));
    peer.expect("shutdown", json!({}));
    assert_eq!(second.wait(), Some(0));
}

/// Waits until `quiet` runs in this generation of its host, with the value that was set.
fn quiet_goes_on(peer: &mut Peer, generation: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = runtime(peer, "quiet");
        if now["state"] == "running" && now["generation"] == generation {
            break;
        }
        assert!(Instant::now() < deadline, "it does not come back: {now}");
    }
    assert_eq!(peer.expect("get", json!({ "runtime": "quiet", "items": ["m:unused"] }))["values"][0]["values"], json!([5]));
}

fn set_quiet(peer: &mut Peer) {
    peer.expect("set", json!({ "runtime": "quiet", "values": [{ "item": "m:unused", "value": 5 }] }));
}

fn pid_of_quiet(peer: &mut Peer) -> u32 {
    runtime(peer, "quiet")["pid"].as_u64().expect("a process") as u32
}

/// What is known of the deaths of `quiet`'s hosts, the newest first. The names in a backtrace come a little later.
fn deaths_of_quiet(peer: &mut Peer) -> Vec<Value> {
    let mut deaths = peer.expect("whyDied", json!({ "runtime": "quiet" }))["deaths"].as_array().expect("a list of deaths").clone();
    deaths.iter_mut().filter_map(Value::as_object_mut).for_each(|death| drop(death.remove("backtrace")));
    deaths
}

#[test]
fn a_host_that_stands_still_is_given_up_by_the_next_supervisor_and_its_runtime_goes_on_from_its_state() {
    let gig = Gig::new(60.0);
    let mut first = gig.begin();
    let mut peer = gig.peer();
    set_quiet(&mut peer);
    let pid = pid_of_quiet(&mut peer);
    kill_supervisor(&mut first);
    send_signal(pid, Signal::STOP);
    let mut second = gig.up();
    assert_eq!(second.wait_for("takenBack")["runtimes"], json!(["one", "two"]));
    second.wait_for("listening");
    let mut peer = gig.peer();
    quiet_goes_on(&mut peer, 2);
    assert!(!first.processes().iter().any(|process| process.pid == pid), "it may not write beside the next one");
    let death = &deaths_of_quiet(&mut peer)[0];
    assert_eq!(death["pid"], pid);
    assert!(death["cause"].as_str().is_some_and(|cause| cause.contains("stood still")), "{death}");
    peer.expect("shutdown", json!({}));
    assert_eq!(second.wait(), Some(0));
}

#[test]
fn a_session_in_which_everything_stands_still_goes_on_from_its_state() {
    let gig = Gig::new(60.0);
    let mut first = gig.begin();
    let mut peer = gig.peer();
    set_quiet(&mut peer);
    let directory = gig.directory();
    let ticks = ["one", "two", "quiet"].map(|name| runtime(&mut peer, name)["tick"].as_u64().expect("a tick"));
    kill_supervisor(&mut first);
    let stopped: Vec<u32> = first.processes().iter().map(|process| process.pid).collect();
    stopped.iter().for_each(|pid| send_signal(*pid, Signal::STOP));
    let mut second = gig.up();
    assert_eq!(second.wait_for("takenBack")["runtimes"], json!([]));
    second.wait_for("listening");
    let mut peer = gig.peer();
    quiet_goes_on(&mut peer, 2);
    for (name, before) in ["one", "two", "quiet"].into_iter().zip(ticks) {
        let deadline = Instant::now() + PATIENCE;
        let mut now = runtime(&mut peer, name);
        while now["state"] != "running" || now["tick"] == 0 {
            assert!(Instant::now() < deadline, "{name} does not come back: {now}");
            now = runtime(&mut peer, name);
        }
        assert!(now["tick"].as_u64() > Some(before), "{name} has begun anew: {now}");
    }
    assert!(!first.processes().iter().any(|process| stopped.contains(&process.pid)), "who stood still has been ended");
    peer.expect("shutdown", json!({}));
    assert_eq!(second.wait(), Some(0));
    second.wait_until_gone();
    gig.nothing_is_left(&directory);
}

#[test]
fn why_somebody_died_is_known_to_every_supervisor_that_follows() {
    let gig = Gig::new(60.0);
    let mut first = gig.begin();
    let mut peer = gig.peer();
    set_quiet(&mut peer);
    send_signal(pid_of_quiet(&mut peer), Signal::KILL);
    quiet_goes_on(&mut peer, 2);
    let pid = pid_of_quiet(&mut peer);
    let known = deaths_of_quiet(&mut peer);
    assert_eq!(known.len(), 1);
    kill_supervisor(&mut first);
    // This death nobody sees but the page it leaves.
    send_signal(pid, Signal::SEGV);
    wait_until("the host is dead", || !first.processes().iter().any(|host| host.pid == pid));

    let mut second = gig.up();
    second.wait_for("listening");
    let mut peer = gig.peer();
    quiet_goes_on(&mut peer, 3);
    let told = deaths_of_quiet(&mut peer);
    assert_eq!((told.len(), &told[1], &told[0]["pid"], &told[0]["signal"]), (2, &known[0], &json!(pid), &json!("SIGSEGV")));
    kill_supervisor(&mut second);

    let mut third = gig.up();
    third.wait_for("listening");
    let mut peer = gig.peer();
    assert_eq!(deaths_of_quiet(&mut peer), told);
    peer.expect("shutdown", json!({}));
    assert_eq!(third.wait(), Some(0));
}

#[test]
fn when_no_supervisor_comes_everything_fades_out_and_leaves_nothing() {
    let gig = Gig::new(0.5);
    let mut playing = gig.begin();
    let directory = gig.directory();
    kill_supervisor(&mut playing);
    playing.wait_until_gone();
    gig.nothing_is_left(&directory);
    let ours = gig.folder.path().join("continuo");
    // The folder itself stays where the last one to go was a host, which may not write beside it.
    let left: Vec<_> = std::fs::read_dir(ours).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "sockets and locks are left: {left:?}");
    check_ramps(&read_wav(&gig.wav), 5_000);
}

#[test]
fn a_session_works_after_everything_was_killed_at_once_ten_times() {
    let gig = Gig::new(60.0);
    let mut earlier = Vec::new();
    for _ in 0..10 {
        let mut playing = gig.begin();
        let directory = gig.directory();
        for process in playing.processes() {
            send_signal(process.pid, Signal::KILL);
        }
        playing.wait_until_gone();
        earlier.push((playing, directory));
    }
    let mut last = gig.begin();
    earlier.iter().for_each(|(_, directory)| gig.nothing_is_left(directory));
    let sockets = std::fs::read_dir(gig.folder.path().join("continuo")).expect("a runtime directory").count();
    assert_eq!(sockets, 3, "the session's directory, its socket and its lock");
    gig.peer().expect("shutdown", json!({}));
    assert_eq!(last.wait(), Some(0));
    last.wait_until_gone();
}

#[test]
fn a_ledger_with_a_torn_end_is_good_up_to_there() {
    let gig = Gig::new(60.0);
    let mut first = gig.begin();
    let before = likeness(&mut gig.peer());
    let directory = gig.directory();
    kill_supervisor(&mut first);
    // As if it had been killed while it was writing.
    let ledger = directory.join("ledger");
    let mut bytes = std::fs::read(&ledger).expect("there is a ledger");
    bytes.extend_from_slice(&[0x40, 0, 0, 0, 1, 2, 3, 4, 5]);
    std::fs::write(&ledger, bytes).expect("the ledger can be written");
    let mut second = gig.up();
    second.wait_for("takenBack");
    second.wait_for("listening");
    assert_eq!(likeness(&mut gig.peer()), before);
    gig.peer().expect("shutdown", json!({}));
    assert_eq!(second.wait(), Some(0));
}

#[test]
fn without_a_ledger_a_new_session_begins_and_the_old_one_ends() {
    let gig = Gig::new(2.0);
    let mut first = gig.begin();
    let directory = gig.directory();
    let hosts = first.in_role("runtime-host");
    kill_supervisor(&mut first);
    std::fs::write(directory.join("ledger"), b"nothing that was ever written").expect("the ledger can be written");
    let mut second = gig.begin();
    wait_until("the old session ends", || !first.in_role("runtime-host").iter().any(|host| hosts.iter().any(|old| old.pid == host.pid)));
    wait_until("its directory goes", || !directory.exists());
    gig.nothing_is_left(&directory);
    assert_eq!(runtime(&mut gig.peer(), "one")["state"], "running", "the new one is another one's");
    gig.peer().expect("shutdown", json!({}));
    assert_eq!(second.wait(), Some(0));
}

#[test]
fn a_play_is_taken_back_by_up_and_ended_by_another_play() {
    let folder = Folder::new();
    let file = folder.file("one.8f4e", ramp());
    let arguments = ["--session", NAME, "--device", "null", "--grace", "60", text(&file)];
    let mut first = Playing::start(&folder, &arguments, &[]);
    first.wait_for("sounding");
    let host = first.in_role("runtime-host")[0].pid;
    kill_supervisor(&mut first);
    let mut second = Playing::up(&folder, &["--session", NAME], &[]);
    assert_eq!(second.wait_for("takenBack")["runtimes"], json!(["one"]));
    second.wait_for("listening");
    let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
    assert_eq!(runtime(&mut peer, "one")["pid"], host);
    kill_supervisor(&mut second);
    let mut third = Playing::start(&folder, &arguments, &[]);
    third.wait_for("sounding");
    wait_until("the old host has ended", || !third.in_role("runtime-host").iter().any(|process| process.pid == host));
    third.signal(Signal::INT);
    assert_eq!(third.wait(), Some(0));
}

#[test]
fn a_session_with_a_supervisor_is_not_taken_from_it() {
    let gig = Gig::new(60.0);
    let mut first = gig.begin();
    let before = likeness(&mut gig.peer());
    let mut second = gig.up();
    assert_eq!(second.wait(), Some(2), "the name is taken");
    assert_eq!(likeness(&mut gig.peer()), before);
    gig.peer().expect("shutdown", json!({}));
    assert_eq!(first.wait(), Some(0));
}
