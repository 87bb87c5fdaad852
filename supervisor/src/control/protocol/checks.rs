//! What the types of parameters do not say: ranges, paths, one of two. Each check names the parameter and what it should be.

use ipc::limits::MAX_RECEIVED;

use super::params::{Confirm, Gain, Get, Hello, List, Midi, Plan, Push, Record, ReplayInfo, Rollback, Set, Subscribe, Tape, Tempo, Watch};
use ipc::tempo::{MAX_SIXTEENTHS, TEMPO_RANGE_BPM};

/// Longest client name in bytes.
const MAX_CLIENT_NAME_BYTES: usize = 64;

/// Longest path in bytes, as the kernel has it.
const MAX_PATH_BYTES: usize = 4_096;

/// Items that one `get` or `set` may name.
const MAX_ITEMS: usize = 1_024;

/// Largest linear gain: +18 dB. More than this is a slip of the finger.
pub const MAX_GAIN: f64 = 8.0;

/// Longest ramp or crossfade in milliseconds.
const MAX_RAMP_MS: u32 = 60_000;

/// A parameter that has the right type, but cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The parameter, such as `path`.
    pub field: &'static str,
    pub expected: String,
}

fn unfit<T: Into<String>>(field: &'static str, expected: T) -> Result<(), Unfit> {
    Err(Unfit { field, expected: expected.into() })
}

pub(super) fn check_hello(hello: &Hello) -> Result<(), Unfit> {
    if (1..=MAX_CLIENT_NAME_BYTES).contains(&hello.client.len()) && !hello.client.chars().any(char::is_control) {
        Ok(())
    } else {
        unfit("client", format!("a name of 1 to {MAX_CLIENT_NAME_BYTES} bytes without control characters"))
    }
}

fn check_path(field: &'static str, path: &str) -> Result<(), Unfit> {
    if path.starts_with('/') && path.len() < MAX_PATH_BYTES && !path.contains('\0') {
        Ok(())
    } else {
        unfit(field, "an absolute path (the supervisor's working directory is not yours)")
    }
}

fn check_source(text: Option<&str>, path: Option<&str>, directory: Option<&str>) -> Result<(), Unfit> {
    match (text, path, directory) {
        (Some(_), Some(_), _) => unfit("path", "either `text` or `path`, not both"),
        (None, None, _) => unfit("text", "the program as `text`, or its `path`"),
        (None, Some(_), Some(_)) => unfit("directory", "no `directory` with `path`: it is the file's own"),
        (None, Some(path), None) => check_path("path", path),
        (Some(_), None, Some(directory)) => check_path("directory", directory),
        (Some(_), None, None) => Ok(()),
    }
}

fn check_time(field: &'static str, time_ms: Option<u32>) -> Result<(), Unfit> {
    if time_ms.is_none_or(|time_ms| time_ms <= MAX_RAMP_MS) { Ok(()) } else { unfit(field, format!("0 to {MAX_RAMP_MS} milliseconds")) }
}

fn check_count(field: &'static str, count: usize) -> Result<(), Unfit> {
    if (1..=MAX_ITEMS).contains(&count) { Ok(()) } else { unfit(field, format!("1 to {MAX_ITEMS} items")) }
}

pub(super) fn check_push(push: &Push) -> Result<(), Unfit> {
    check_source(push.text.as_deref(), push.path.as_deref(), push.directory.as_deref())?;
    check_time("crossfadeMs", push.crossfade_ms)
}

pub(super) fn check_plan(plan: &Plan) -> Result<(), Unfit> {
    check_source(plan.text.as_deref(), plan.path.as_deref(), plan.directory.as_deref())
}

pub(super) fn check_confirm(confirm: &Confirm) -> Result<(), Unfit> {
    check_time("crossfadeMs", confirm.crossfade_ms)
}

pub(super) fn check_get(get: &Get) -> Result<(), Unfit> {
    check_count("items", get.items.len())
}

pub(super) fn check_set(set: &Set) -> Result<(), Unfit> {
    check_count("values", set.values.len())?;
    if set.values.iter().any(|one| !one.value.is_finite()) {
        return unfit("values", "finite numbers");
    }
    check_time("rampMs", set.ramp_ms)
}

pub(super) fn check_midi(midi: &Midi) -> Result<(), Unfit> {
    if !(1..=MAX_RECEIVED).contains(&midi.messages.len()) {
        return unfit("messages", format!("1 to {MAX_RECEIVED} messages"));
    }
    if midi.messages.iter().any(|message| message.received().is_none()) {
        return unfit("messages", "messages of a status byte from 128 and up to two bytes below 128, at ports from 1");
    }
    Ok(())
}

pub(super) fn check_gain(gain: &Gain) -> Result<(), Unfit> {
    if !(0.0..=MAX_GAIN).contains(&gain.gain) {
        return unfit("gain", format!("a linear gain from 0 to {MAX_GAIN}"));
    }
    check_time("rampMs", gain.ramp_ms)
}

pub(super) fn check_tempo(tempo: &Tempo) -> Result<(), Unfit> {
    let (least, most) = (TEMPO_RANGE_BPM.start(), TEMPO_RANGE_BPM.end());
    if tempo.bpm.is_some_and(|bpm| !TEMPO_RANGE_BPM.contains(&bpm)) {
        return unfit("bpm", format!("{least} to {most} beats a minute"));
    }
    let last_beat = MAX_SIXTEENTHS / 4.0;
    if tempo.beat.is_none_or(|beat| (0.0..=last_beat).contains(&beat)) { Ok(()) } else { unfit("beat", format!("0 to {last_beat} beats")) }
}

pub(super) fn check_list(list: &List) -> Result<(), Unfit> {
    if list.limit.is_none_or(|limit| (1..=1_000).contains(&limit)) { Ok(()) } else { unfit("limit", "1 to 1000") }
}

pub(super) fn check_rollback(rollback: &Rollback) -> Result<(), Unfit> {
    check_time("crossfadeMs", rollback.crossfade_ms)
}

pub(super) fn check_watch(watch: &Watch) -> Result<(), Unfit> {
    check_path("path", &watch.path)
}

pub(super) fn check_subscribe(subscribe: &Subscribe) -> Result<(), Unfit> {
    if subscribe.topics.is_empty() { unfit("topics", "at least one topic") } else { Ok(()) }
}

pub(super) fn check_record(record: &Record) -> Result<(), Unfit> {
    record.path.as_deref().map_or(Ok(()), |path| check_path("path", path))
}

pub(super) fn check_tape(tape: &Tape) -> Result<(), Unfit> {
    tape.master.as_deref().map_or(Ok(()), |path| check_path("master", path))?;
    tape.stems.as_deref().map_or(Ok(()), |path| check_path("stems", path))
}

pub(super) fn check_replay_info(info: &ReplayInfo) -> Result<(), Unfit> {
    check_path("path", &info.path)
}
