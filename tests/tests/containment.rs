//! What each process of a session has and may do (docs/CONTAINMENT.md), seen from outside in `/proc` (FAULTS rows 14, 28, 53).

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use tests::playing::{Folder, PATIENCE, Playing, continuo, text};
use tests::programs::ramp;

const ROLES: [&str; 3] = ["compiler-worker", "device-host", "runtime-host"];

fn play(folder: &Folder, environment: &[(&str, &str)]) -> Playing {
    let files = ["one", "two"].map(|name| folder.file(&format!("{name}.8f4e"), ramp()));
    let mut playing = Playing::start(folder, &["--device", "null", text(&files[0]), text(&files[1])], environment);
    files.iter().for_each(|_| drop(playing.wait_for("sounding")));
    if environment.iter().all(|(name, _)| *name != "CONTINUO_SANDBOX") {
        wait_until_confined(&playing);
    }
    playing
}

/// The spare host may have been started this very moment; the filter of system calls is the last thing that a child confines
/// itself with.
fn wait_until_confined(playing: &Playing) {
    let deadline = Instant::now() + PATIENCE;
    for process in ROLES.iter().flat_map(|role| playing.in_role(role)) {
        while status(process.pid, "Seccomp") != "2" {
            assert!(Instant::now() < deadline, "the process {} stays without a filter", process.pid);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The table of descriptors in the documentation: role, then how many of each kind; `None` is any number.
fn documented() -> BTreeMap<String, BTreeMap<&'static str, Option<usize>>> {
    let document = include_str!("../../docs/CONTAINMENT.md");
    let section = document.split("## Descriptors").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section is there");
    let rows = section.lines().filter(|line| ROLES.iter().any(|role| line.starts_with(&format!("| {role} |"))));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let counts = ["/dev/null", "pipe", "socket", "segments", "pidfd", "members"]
            .into_iter()
            .zip(cells[2..8].iter().map(|cell| cell.parse().ok()));
        (cells[1].to_owned(), counts.collect())
    })
    .collect()
}

/// The kind of thing that a descriptor leads to.
fn kind(target: &str) -> &str {
    match target {
        "/dev/null" => "/dev/null",
        "anon_inode:[pidfd]" => "pidfd",
        pipe if pipe.starts_with("pipe:") => "pipe",
        socket if socket.starts_with("socket:") => "socket",
        segment if segment.starts_with("/dev/shm/continuo-") => "segments",
        members if members.ends_with("/members") => "members",
        other => other,
    }
}

fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there").flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// What a process has that it should not, or should and has not.
fn deviation(found: &[String], allowed: &BTreeMap<&'static str, Option<usize>>) -> Option<String> {
    let unknown: Vec<_> = found.iter().filter(|target| !allowed.contains_key(kind(target))).collect();
    let count = |wanted: &str| found.iter().filter(|target| kind(target) == wanted).count();
    let wrong = allowed.iter().find(|(wanted, documented)| documented.is_some_and(|documented| documented != count(wanted)));
    (!unknown.is_empty() || wrong.is_some()).then(|| format!("{unknown:?}, {wrong:?} of {found:?}"))
}

#[test]
fn every_child_has_the_documented_descriptors_and_no_others() {
    let folder = Folder::new();
    let playing = play(&folder, &[]);
    let documented = documented();
    for role in ROLES {
        let processes = playing.in_role(role);
        assert!(!processes.is_empty(), "{role}");
        for process in processes {
            // A message that is on its way may take a socket of its own for a moment.
            let deadline = Instant::now() + PATIENCE;
            while let Some(deviation) = deviation(&descriptors(process.pid), &documented[role]) {
                assert!(Instant::now() < deadline, "{role}: {deviation}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The value of a line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned()).unwrap_or_default()
}

#[test]
fn every_child_is_confined_and_the_supervisor_says_where_it_is_not() {
    let folder = Folder::new();
    let playing = play(&folder, &[]);
    for role in ROLES {
        for process in playing.in_role(role) {
            assert_eq!((status(process.pid, "NoNewPrivs"), status(process.pid, "Seccomp")), ("1".into(), "2".into()), "{role}");
        }
    }
    let doctor = continuo(&folder).args(["doctor", "--json"]).output().unwrap();
    let checks: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let confinement = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "confinement").unwrap();
    assert!(confinement["detail"].as_str().unwrap().contains("system calls are filtered"), "{confinement}");
}

#[test]
fn confinement_can_be_switched_off_for_debuggers_and_is_then_reported() {
    let folder = Folder::new();
    let playing = play(&folder, &[("CONTINUO_SANDBOX", "off")]);
    for role in ROLES {
        for process in playing.in_role(role) {
            assert_eq!(status(process.pid, "Seccomp"), "0", "{role}");
        }
    }
    let doctor = continuo(&folder).args(["doctor"]).env("CONTINUO_SANDBOX", "off").output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("confinement: switched off"));
}

#[test]
fn the_worker_goes_first_when_memory_runs_out_and_hosts_before_the_rest() {
    let folder = Folder::new();
    let playing = play(&folder, &[]);
    let readiness = |pid: u32| -> i32 { fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap() };
    let of = |role: &str| readiness(playing.in_role(role)[0].pid);
    assert_eq!((of("compiler-worker"), of("runtime-host")), (500, 200));
    assert_eq!(of("device-host"), readiness(playing.pid()));
    assert!(of("device-host") <= 0);
}

#[test]
fn no_child_writes_core_files_and_real_time_has_a_budget() {
    let folder = Folder::new();
    let playing = play(&folder, &[]);
    for role in ROLES {
        for process in playing.in_role(role) {
            let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid)).unwrap();
            let soft = |name: &str| {
                let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                line.split_whitespace().next().unwrap_or_default().to_owned()
            };
            assert_eq!(soft("Max core file size"), "0", "{role}");
            let budget = if role == "compiler-worker" { "unlimited" } else { "400000" };
            assert_eq!(soft("Max realtime timeout"), budget, "{role}");
            assert!(soft("Max open files").parse::<u64>().is_ok_and(|files| files <= 4_096), "{role}");
        }
    }
}
