//! `continuo doctor`: what this machine has and lacks for playing, and the fix for each.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use ipc::limits::LANE_CHANNELS;
use runtime_host::device::midi::alsa::DEVICE as SEQUENCER;
use runtime_host::realtime::{DEVICE_PRIORITY, promote_current_thread};
use rustix::fs::{Access, StatVfs, StatVfsMountFlags, statvfs};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use super::{CommandError, devices};
use crate::containment::{self, Files};
use crate::policy::Verdict;
use crate::render;

/// Shared memory that a session with large programs needs; below it a warning.
const WANTED_SHARED_MEMORY_BYTES: u64 = 64 << 20;
/// Memory that hosts lock; below it a warning.
const WANTED_LOCKED_BYTES: u64 = 64 << 20;
/// Time that a recording has room for; below it a warning.
const WANTED_RECORDING: Duration = Duration::from_secs(600);
/// Bytes of a second of recording: 48,000 frames of 32-bit samples.
const RECORDING_BYTES_PER_SECOND: u64 = 48_000 * LANE_CHANNELS as u64 * 4;

/// Say what this machine has and lacks, and how to fix it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo doctor
  continuo doctor --json | jq '.checks[] | select(.state != \"fine\")'

A check is `fine`, `limited` (it plays, but not as well as it could) or `missing` (it does not play; exit code 3).

For debuggers and tracers: CONTINUO_SANDBOX=off leaves the child processes unconfined, CONTINUO_CORE=on lets them write core files.")]
pub struct Arguments {
    /// Print the checks as JSON: a list `checks` of objects with `name`, `state`, `detail`, `fix`.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    Limited,
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    /// What to do about it; for what is not fine.
    fix: Option<String>,
}

impl Check {
    fn new(name: &'static str, state: State, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = (state != State::Fine).then(|| fix.into());
        Self { name, state, detail: detail.into(), fix }
    }
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let mut checks = vec![processor(), realtime(), locked_memory(), confinement(), shared_memory(), runtime_directory(), recording()];
    checks.extend(session_and_outputs());
    checks.push(sequencer());
    if arguments.json {
        let checks: Vec<Value> = checks.iter().map(to_json).collect();
        render::print(&json!({ "checks": checks }).to_string());
    } else {
        checks.iter().for_each(show);
    }
    let is_missing = checks.iter().any(|check| check.state == State::Missing);
    Ok(if is_missing { Verdict::Environment } else { Verdict::Fine })
}

fn to_json(check: &Check) -> Value {
    json!({ "name": check.name, "state": check.state.name(), "detail": check.detail, "fix": check.fix })
}

fn show(check: &Check) {
    render::print(&format!("{:7}  {}: {}", check.state.name(), check.name, check.detail));
    if let Some(fix) = &check.fix {
        render::print(&format!("         fix: {fix}"));
    }
}

fn processor() -> Check {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("unknown", |(_, name)| name.trim());
    let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").unwrap_or_default();
    let governor = governor.trim();
    let detail = match governor {
        "" => format!("{count} × {model}"),
        governor => format!("{count} × {model}, governor {governor}"),
    };
    match (count, governor) {
        (0 | 1, _) => Check::new("processor", State::Limited, detail, "with a single core every program waits for every other one"),
        (_, "powersave") => Check::new("processor", State::Limited, detail, "sudo cpupower frequency-set -g performance"),
        (_, _) => Check::new("processor", State::Fine, detail, ""),
    }
}

fn realtime() -> Check {
    // On a thread of its own, which ends at once.
    let tried = std::thread::spawn(|| promote_current_thread(DEVICE_PRIORITY).map_err(|denied| denied.source.to_string()));
    match tried.join().unwrap_or_else(|_| Err("the attempt failed".to_owned())) {
        Ok(()) => Check::new("real-time priority", State::Fine, format!("allowed up to at least {DEVICE_PRIORITY}"), ""),
        Err(why) => Check::new(
            "real-time priority",
            State::Limited,
            format!("denied ({why}): other work on this machine will be heard as drop-outs"),
            "put `@audio - rtprio 95` and `@audio - memlock unlimited` into /etc/security/limits.d/audio.conf, \
             `sudo usermod -aG audio $USER`, and log in again",
        ),
    }
}

fn locked_memory() -> Check {
    const NAME: &str = "locked memory";
    let Some(bytes) = getrlimit(Resource::Memlock).current else { return Check::new(NAME, State::Fine, "unlimited", "") };
    let is_privileged = rustix::process::geteuid().is_root();
    let state = if bytes >= WANTED_LOCKED_BYTES || is_privileged { State::Fine } else { State::Limited };
    let fix = "put `@audio - memlock unlimited` into /etc/security/limits.d/audio.conf and log in again";
    Check::new(NAME, state, format!("limit {}", mebibytes(bytes)), fix)
}

/// What of the confinement of children (DESIGN §14) is in force.
fn confinement() -> Check {
    const NAME: &str = "confinement";
    if !containment::is_wanted() {
        let detail = format!("switched off by {}=off: children may do whatever you may", containment::VARIABLE);
        return Check::new(NAME, State::Limited, detail, format!("unset {}", containment::VARIABLE));
    }
    let offered = containment::offered();
    let calls = if offered.calls { "system calls are filtered" } else { "system calls are not filtered" };
    let files = match offered.files {
        Files::Confined => "files, network and signals are confined (Landlock)",
        Files::Partly => "files are confined (Landlock), but an older kernel leaves some of it out",
        Files::NotOffered => "files are not confined",
    };
    let is_complete = offered.calls && offered.files == Files::Confined;
    let fix = "a kernel of version 6.12 or later with CONFIG_SECCOMP_FILTER and with landlock among its security modules (lsm=…)";
    Check::new(NAME, if is_complete { State::Fine } else { State::Limited }, format!("{calls}; {files}"), fix)
}

fn shared_memory() -> Check {
    const NAME: &str = "shared memory";
    let Ok(found) = statvfs("/dev/shm") else {
        return Check::new(NAME, State::Missing, "/dev/shm is not there", "sudo mount -t tmpfs -o mode=1777,size=256m tmpfs /dev/shm");
    };
    let (free, total) = (available_bytes(&found), found.f_blocks.saturating_mul(found.f_frsize));
    let noexec = if found.f_flag.contains(StatVfsMountFlags::NOEXEC) { ", noexec (which is fine: no code runs from there)" } else { "" };
    let detail = format!("{} free of {} in /dev/shm{noexec}", mebibytes(free), mebibytes(total));
    let state = if free >= WANTED_SHARED_MEMORY_BYTES { State::Fine } else { State::Limited };
    Check::new(NAME, state, detail, "sudo mount -o remount,size=256m /dev/shm (in a container: --shm-size=256m)")
}

fn runtime_directory() -> Check {
    const NAME: &str = "runtime directory";
    const FIX: &str = "log in through your system's login manager, or set XDG_RUNTIME_DIR to a folder of your own with mode 0700";
    let Some(path) = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) else {
        return Check::new(NAME, State::Limited, "XDG_RUNTIME_DIR is not set; a folder in /tmp stands in for it", FIX);
    };
    let shown = Path::new(&path).display();
    match fs::metadata(&path) {
        Err(error) => Check::new(NAME, State::Limited, format!("{shown}: {error}; a folder in /tmp stands in for it"), FIX),
        Ok(found) if !found.is_dir() => {
            Check::new(NAME, State::Limited, format!("{shown} is not a folder; one in /tmp stands in for it"), FIX)
        }
        Ok(found) if found.uid() != rustix::process::getuid().as_raw() => {
            Check::new(NAME, State::Limited, format!("{shown} belongs to somebody else"), FIX)
        }
        Ok(_) => Check::new(NAME, State::Fine, format!("{shown}"), ""),
    }
}

fn recording() -> Check {
    const NAME: &str = "room for recordings";
    const FIX: &str = "free some space, or record to another disk with --wav /path/to/file.wav";
    let Ok(found) = statvfs(".") else { return Check::new(NAME, State::Limited, "the current folder cannot be examined", FIX) };
    let room = Duration::from_secs(available_bytes(&found) / RECORDING_BYTES_PER_SECOND);
    let detail = format!("{} minutes in the current folder", room.as_secs() / 60);
    Check::new(NAME, if room >= WANTED_RECORDING { State::Fine } else { State::Limited }, detail, FIX)
}

/// What instruments are heard and played through where no JACK server plays. It is not opened: that is the device host's.
fn sequencer() -> Check {
    const NAME: &str = "ALSA sequencer (MIDI)";
    let opened = rustix::fs::access(SEQUENCER, Access::READ_OK | Access::WRITE_OK);
    let Err(error) = opened else { return Check::new(NAME, State::Fine, SEQUENCER, "") };
    let error = std::io::Error::from(error);
    let fix = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "`sudo usermod -aG audio $USER`, and log in again",
        _ => "sudo modprobe snd-seq; or ignore this if you play through JACK, which has MIDI of its own, or have no instruments",
    };
    Check::new(NAME, State::Limited, format!("{SEQUENCER}: {error}"), fix)
}

/// Opens a session with a device host, and asks that for the outputs.
fn session_and_outputs() -> Vec<Check> {
    const NAME: &str = "processes";
    const FIX: &str = "see the message above; `continuo` must be able to execute itself and to use shared memory";
    let (verdict, devices) = match devices::list() {
        Ok(listed) => listed,
        Err(error) => return vec![Check::new(NAME, State::Missing, error.to_string(), FIX)],
    };
    let processes = match verdict {
        Verdict::Fine => Check::new(NAME, State::Fine, "a session starts and ends", ""),
        Verdict::Program | Verdict::Input | Verdict::Environment | Verdict::Interrupted => {
            Check::new(NAME, State::Missing, "a session does not start and end as it should", FIX)
        }
    };
    let outputs = OUTPUTS.iter().map(|(host, name, fix)| {
        let usable: Vec<&str> = devices.iter().filter(|d| d.host == *host && d.is_usable).map(|d| d.name.as_str()).collect();
        let why = devices.iter().find(|device| device.host == *host).map_or("not found", |device| &device.detail);
        match usable[..] {
            [] => Check::new(name, State::Limited, why.to_owned(), *fix),
            [..] => Check::new(name, State::Fine, usable.join(", "), ""),
        }
    });
    let outputs: Vec<Check> = outputs.collect();
    let has_output = outputs.iter().any(|check| check.state == State::Fine);
    let sound = if has_output {
        Check::new("sound", State::Fine, "there is an output", "")
    } else {
        let detail = "no output can be opened: programs play in real time, unheard; --wav records them";
        Check::new("sound", State::Limited, detail, "one of the fixes above")
    };
    [processes].into_iter().chain(outputs).chain([sound]).collect()
}

/// Kinds of outputs: as the device host calls them, as people do, and how to get one.
const OUTPUTS: [(&str, &str, &str); 3] = [
    ("jack", "JACK server", "start one: `jackd -R -d alsa`; or ignore this if you use another output"),
    (
        "pulseaudio",
        "PulseAudio server",
        "start your desktop's sound server (pipewire-pulse or pulseaudio); or ignore this if you use another output",
    ),
    ("alsa", "ALSA device", "plug in a sound card and add yourself to the group audio; or ignore this if you use another output"),
];

fn available_bytes(found: &StatVfs) -> u64 {
    found.f_bavail.saturating_mul(found.f_frsize)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_fine_comes_with_a_fix() {
        for check in
            [processor(), realtime(), locked_memory(), confinement(), shared_memory(), runtime_directory(), recording(), sequencer()]
        {
            assert_eq!(check.fix.is_none(), check.state == State::Fine, "{check:?}");
            assert!(check.fix.is_none_or(|fix| !fix.is_empty()));
        }
    }
}
