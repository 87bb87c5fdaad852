//! What is known of a process after its death (FAULTS rows 9, 19, 53): the crash page, the exit status, `whyDied`.
//!
//! Real processes of a session, hit from outside or told to die at a tick of their own. Each host dies its own death, beside one
//! that plays on.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::live::Holdings;
use tests::playing::{Folder, PATIENCE, Playing, continuo, send_signal, text};
use tests::programs::ramp;
use tests::rpc::Peer;

const SESSION: &str = "crash-reports";

/// A session on the null device that plays a program under each of these names.
struct Scene {
    folder: Folder,
    playing: Playing,
    peer: Peer,
}

impl Scene {
    fn start(names: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let files: Vec<PathBuf> = names.iter().map(|name| folder.file(&format!("{name}.8f4e"), ramp())).collect();
        let mut arguments = vec!["--session", SESSION, "--device", "null"];
        arguments.extend(files.iter().map(|file| text(file)));
        let playing = Playing::start(&folder, &arguments, environment);
        let peer = Peer::connect(&folder.path().join("continuo").join(format!("{SESSION}.sock")));
        Self { folder, playing, peer }
    }

    /// Waits until all of these have ticked.
    fn sounding(mut self, count: usize) -> Self {
        (0..count).for_each(|_| drop(self.playing.wait_for("sounding")));
        self
    }

    fn host(&mut self, runtime: &str) -> u32 {
        let status = self.peer.expect("status", json!({ "runtime": runtime }));
        status["runtimes"][0]["pid"].as_u64().unwrap_or_else(|| panic!("no host of {runtime}: {status}")) as u32
    }

    /// Waits for the death of a process, then asks what it died of.
    fn death_of(&mut self, pid: u32) -> Value {
        self.playing.wait_until("the death", |event| event["event"] == "died" && event["pid"] == pid);
        self.why(None, pid)
    }

    fn why(&mut self, runtime: Option<&str>, pid: u32) -> Value {
        let answer = self.peer.expect("whyDied", runtime.map_or_else(|| json!({}), |runtime| json!({ "runtime": runtime })));
        let deaths = answer["deaths"].as_array().expect("a list of deaths");
        deaths.iter().find(|death| death["pid"] == pid).cloned().unwrap_or_else(|| panic!("nothing about {pid}: {answer}"))
    }
}

#[test]
fn a_host_that_is_sent_a_fatal_signal_dies_of_it_and_tells_its_tick() {
    const SIGNALS: [(&str, Signal); 8] = [
        ("SIGSEGV", Signal::SEGV),
        ("SIGBUS", Signal::BUS),
        ("SIGILL", Signal::ILL),
        ("SIGFPE", Signal::FPE),
        ("SIGABRT", Signal::ABORT),
        ("SIGSYS", Signal::SYS),
        ("SIGTRAP", Signal::TRAP),
        ("SIGKILL", Signal::KILL),
    ];
    let mut names = vec!["stays"];
    names.extend(SIGNALS.iter().map(|(name, _)| *name));
    let mut scene = Scene::start(&names, &[]).sounding(names.len());
    for (name, signal) in SIGNALS {
        let pid = scene.host(name);
        send_signal(pid, signal);
        let death = scene.death_of(pid);
        assert_eq!((death["signal"].as_str(), death["runtime"].as_str()), (Some(name), Some(name)), "{death}");
        assert_eq!((death["kind"].as_str(), death["role"].as_str()), (Some("signal"), Some("runtimeHost")), "{death}");
        assert!(death["tick"].is_u64() && death["revision"].is_string(), "{death}");
        let cause = death["cause"].as_str().unwrap_or_default();
        if signal == Signal::KILL {
            assert!(cause.contains("from outside"), "{death}");
        } else {
            assert_eq!(cause, format!("process {} sent it {name}", std::process::id()));
            assert!(death["thread"].is_string() && !death["backtrace"].as_array().unwrap().is_empty(), "{death}");
        }
    }
    let pid = scene.host("stays");
    assert!(scene.peer.expect("whyDied", json!({ "runtime": "stays" }))["deaths"].as_array().unwrap().is_empty(), "{pid} lives");
}

/// Lets the host of `victim` die its way at a tick; returns what is told of it. The other one goes on.
fn die(fault: &str) -> Value {
    let fault = format!("{fault}@tick:40,runtime:victim");
    let mut scene = Scene::start(&["victim", "other"], &[("CONTINUO_FAULT", &fault)]);
    let died = scene.playing.wait_until("the death", |event| event["event"] == "died");
    assert_eq!(died["runtime"], "victim");
    let other = scene.host("other");
    let pid = died["pid"].as_u64().expect("a process") as u32;
    let death = scene.why(Some("victim"), pid);
    assert_eq!((death["tick"].as_u64(), death["doing"].as_str()), (Some(40), Some("executing a tick")), "{death}");
    assert!(death["revision"].is_string(), "{death}");
    assert_eq!(scene.host("other"), other);
    death
}

fn thread_of(death: &Value) -> &str {
    death["thread"].as_str().unwrap_or("no thread")
}

#[test]
fn a_crash_in_a_tick_names_signal_address_thread_and_place() {
    let death = die("segv");
    assert_eq!(
        (death["signal"].as_str(), death["kind"].as_str(), death["address"].as_str()),
        (Some("SIGSEGV"), Some("signal"), Some("0x10"))
    );
    assert_eq!(thread_of(&death), "tick");
    let backtrace = death["backtrace"].to_string();
    assert!(backtrace.contains("continuo"), "{backtrace}");
}

#[test]
fn a_native_stack_that_is_exhausted_is_told_as_such() {
    let death = die("overflow");
    assert_eq!((death["signal"].as_str(), death["kind"].as_str()), (Some("SIGSEGV"), Some("stack")), "{death}");
}

#[test]
fn a_forbidden_system_call_is_named() {
    let death = die("syscall");
    assert_eq!((death["signal"].as_str(), death["kind"].as_str()), (Some("SIGSYS"), Some("sandbox")), "{death}");
    assert_eq!(death["systemCall"], "execve");
    assert!(death["cause"].as_str().unwrap().starts_with("sandbox{execve}"), "{death}");
}

#[test]
fn a_panic_leaves_its_message_and_what_it_said_last() {
    let death = die("panic");
    assert_eq!((death["signal"].as_str(), death["kind"].as_str()), (Some("SIGABRT"), Some("panic")), "{death}");
    assert!(death["cause"].as_str().unwrap().contains("a panic on demand"), "{death}");
    assert!(death["stderr"].as_str().unwrap().contains("a panic on demand"), "{death}");
}

#[test]
fn a_kill_that_no_handler_sees_still_leaves_the_tick() {
    assert_eq!(die("kill")["signal"], "SIGKILL");
}

#[test]
fn worker_device_host_and_spare_tell_what_they_died_of_too() {
    let mut scene = Scene::start(&["one"], &[]).sounding(1);
    let host = scene.host("one");
    let pid_in = |scene: &Scene, role: &str| scene.playing.in_role(role).iter().map(|process| process.pid).find(|pid| *pid != host);
    for (role, name) in [("compiler-worker", "compilerWorker"), ("device-host", "deviceHost"), ("runtime-host", "spareHost")] {
        let pid = pid_in(&scene, role).unwrap_or_else(|| panic!("no {role}"));
        send_signal(pid, Signal::SEGV);
        let death = scene.death_of(pid);
        assert_eq!((death["role"].as_str(), death["signal"].as_str()), (Some(name), Some("SIGSEGV")), "{death}");
        assert_eq!(death["cause"], format!("process {} sent it SIGSEGV", std::process::id()));
    }
    assert_eq!(scene.host("one"), host, "the runtime plays on");
}

#[test]
fn the_command_line_tells_the_same_in_words() {
    let mut scene = Scene::start(&["one", "two"], &[]).sounding(2);
    let pid = scene.host("two");
    send_signal(pid, Signal::SEGV);
    scene.death_of(pid);
    let ask = |arguments: &[&str]| {
        let output = continuo(&scene.folder).args(["why-died", "--session", SESSION]).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let said = ask(&["two"]);
    assert!(said.starts_with(&format!("the host of two (pid {pid}) died")), "{said}");
    assert!(said.contains("sent it SIGSEGV") && said.contains(", tick "), "{said}");
    assert_eq!(ask(&["one"]), "no host of one has died\n");
    let json: Value = serde_json::from_str(&ask(&["--json"])).unwrap();
    assert_eq!(json["deaths"][0]["pid"], pid);
}

#[test]
fn a_real_time_thread_that_never_waits_loses_its_priority_and_its_process_lives() {
    let fault = "spin@tick:40,runtime:victim";
    let mut scene = Scene::start(&["victim", "other"], &[("CONTINUO_FAULT", fault)]).sounding(2);
    let pid = scene.host("victim");
    if !has_priority(pid) {
        return; // Denied on this machine: there is none to lose.
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while has_priority(pid) {
        assert!(std::time::Instant::now() < deadline, "the priority stays");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // It spins on; a session that does not wait for that has ended it after, not instead.
    if Holdings::of(pid).is_none() {
        scene.playing.wait_until("the death", |event| event["event"] == "died" && event["pid"] == pid);
        assert!(scene.why(None, pid)["stderr"].as_str().is_some_and(|said| said.contains("rt_budget")));
    }
}

/// Whether some thread of a process has real-time priority. A process that is gone has none.
fn has_priority(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let policies = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        // Fields after the name, which may hold blanks: state is the first, the policy the 39th of the line's 52.
        stat.rsplit(')').next()?.split_whitespace().nth(38).map(str::to_owned)
    });
    policies.into_iter().any(|policy| policy == "1" || policy == "2")
}
