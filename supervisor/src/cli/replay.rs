//! `continuo replay`: a recording as the same bytes again, in fresh processes: of sound, or of what a runtime without sound sent
//! and what its items held.

use std::path::{Path, PathBuf};

use ipc::hash::ContentHash;
use ipc::limits::{BLOCK_FRAMES, MAX_LEAD_BLOCKS, SAMPLE_RATE_RANGE_HZ, TIMER_RATE_RANGE_HZ};
use ipc::message::{ElementValues, ItemValue};
use serde_json::json;

use super::play::absolute;
use super::run::show_items;
use super::{CommandError, check_outputs, run_job};
use crate::policy::log::{LogEntry, Logged};
use crate::policy::{Goal, Report, TapeFiles, Verdict};
use crate::render::sentences::Sentences;
use crate::render::{self, json};
use crate::session::asset_notes;
use crate::session::heard::{self, file::HeardLife};
use crate::session::sent::{Sending, Sent};
use crate::session::{Audience, HeardSource, Job, OutputChoice, ProgramText, Recording, Replay, SoundOutput};

/// Ticks whose sound fits into a WAV file: 4 GiB of frames of two 32-bit floats, a MiB left for what is around them. At 48 kHz
/// that is a little more than three hours.
const MOST_TICKS: u64 = ((4 << 30) - (1 << 20)) / (8 * BLOCK_FRAMES as u64);

/// Ticks that a runtime without sound is run through: a year at the highest rate. What goes beyond has been made up.
const MOST_SILENT_TICKS: u64 = 1 << 35;

/// Render a recording again, to the same samples, messages and values.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo record tonight.continuo                    while a session plays; `continuo record` alone ends it
  continuo replay tonight.continuo -o drums.wav --runtime drums
  continuo replay tonight.continuo --runtime arp --midi arp.mid
  continuo replay tonight.continuo --runtime lfo --dump lfo:out

A recording holds what was played since the session began: every revision, every input, each with its tick; what a runtime heard, of \
the device's input or of others, lies beside it in tonight.continuo.heard. Of a runtime with sound the file has the runtime's own output \
from its first sample on, unmixed: 32-bit float, two channels. One without sound runs through all its ticks, and what its items hold \
at the end can be shown; what a midi runtime sent goes into a MIDI file. The hash that is printed is of the file of sound, or of every \
message that was sent, with its tick, and of what the items hold at the end; the same recording gives the same hash, every time and \
everywhere.")]
pub struct Arguments {
    /// The recording.
    recording: PathBuf,
    /// The WAV file, of a runtime with sound.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A MIDI file of what a midi runtime sent.
    #[arg(long, value_name = "FILE")]
    midi: Option<PathBuf>,
    /// Show what this item of a runtime without sound holds at the end (MODULE:ITEM); may be repeated.
    #[arg(long = "dump", value_name = "ITEM")]
    dumps: Vec<String>,
    /// The runtime to render; without it, the first one.
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Which of its hosts, where it was given several, from 1.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1)]
    host: usize,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let outputs: Vec<&Path> = arguments.output.iter().chain(&arguments.midi).map(PathBuf::as_path).collect();
    check_outputs(&outputs, std::slice::from_ref(&arguments.recording))?;
    let recording = Recording::read(&arguments.recording).map_err(|error| CommandError::Input(error.to_string()))?;
    let life = Life::find(&recording, arguments).map_err(CommandError::Input)?;
    if let Some(cut) = &life.cut {
        render::tell(cut);
    }
    let (ticks, is_torn) = (life.ticks, recording.is_torn);
    match life.seconds {
        Some(seconds) => replay_sound(arguments, life, seconds, is_torn),
        None => replay_silently(arguments, life, ticks, is_torn),
    }
}

fn replay_sound(arguments: &Arguments, life: Life, seconds: f64, is_torn: bool) -> Result<Verdict, CommandError> {
    let Some(output) = &arguments.output else {
        return Err(CommandError::Input(format!("`{}` has sound: say with -o which WAV file it goes into", life.program.name)));
    };
    if arguments.midi.is_some() || !arguments.dumps.is_empty() {
        return Err(CommandError::Input(format!("`{}` has sound; --midi and --dump are for runtimes without", life.program.name)));
    }
    let mut job = Job::new(Goal::Bounce, vec![life.program]);
    job.sound = Some(SoundOutput {
        output: OutputChoice::Unpaced { seconds },
        lead_blocks: MAX_LEAD_BLOCKS,
        tape: TapeFiles { master: absolute(Some(output))?, stems: None },
        folders: Vec::new(),
    });
    job.replay = Some(life.replay);
    let verdict = run_job(&job, &mut Replayer::default())?;
    if verdict == Verdict::Fine {
        let bytes = std::fs::read(output).map_err(|error| CommandError::Input(format!("{}: {error}", output.display())))?;
        let hash = ContentHash::of(&[&bytes]).to_string();
        if arguments.json {
            render::print(&json!({ "hash": hash, "ticks": life.ticks, "isTorn": is_torn }).to_string());
        } else {
            render::print(&hash);
        }
    }
    Ok(verdict)
}

fn replay_silently(arguments: &Arguments, life: Life, ticks: u64, is_torn: bool) -> Result<Verdict, CommandError> {
    let name = life.program.name.clone();
    if arguments.output.is_some() {
        return Err(CommandError::Input(format!("`{name}` has no sound: leave -o out, and see --dump, and --midi for a midi runtime")));
    }
    let sends = life.replay.sending.is_some();
    if arguments.midi.is_some() && !sends {
        return Err(CommandError::Input(format!("`{name}` is no midi runtime: leave --midi out, and see --dump")));
    }
    let mut job = Job::new(Goal::Replay { to_tick: ticks }, vec![life.program]);
    job.replay = Some(life.replay);
    let mut replayer = Replayer::default();
    let verdict = run_job(&job, &mut replayer)?;
    let Some(items) = replayer.items.filter(|_| verdict == Verdict::Fine) else { return Ok(verdict) };
    let mut shown = Vec::new();
    for dump in &arguments.dumps {
        let is_it = |item: &&ItemValue| item.item == *dump || item.item.split_once(':').is_some_and(|(_, name)| name == dump);
        shown.push(
            items.iter().find(is_it).cloned().ok_or_else(|| CommandError::Input(format!("`{name}` has no item `{dump}` at the end")))?,
        );
    }
    let hash = hash_of(replayer.sent, &items).to_string();
    if arguments.json {
        let messages = replayer.sent.map(|sent| sent.messages);
        let items = json::items(&shown);
        render::print(&json!({ "hash": hash, "ticks": ticks, "isTorn": is_torn, "messages": messages, "items": items }).to_string());
    } else {
        show_items(shown.iter());
        render::print(&hash);
    }
    Ok(verdict)
}

/// Of what a runtime without sound has sent, and of what its items hold: names, and elements bit by bit.
fn hash_of(sent: Option<Sent>, items: &[ItemValue]) -> ContentHash {
    let mut hash = sent.map_or(ContentHash::of(&[]), |sent| sent.hash);
    for ItemValue { item, values } in items {
        let bytes: Vec<u8> = match values {
            ElementValues::Int(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ElementValues::Float(values) => values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect(),
            ElementValues::Float64(values) => values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect(),
        };
        hash = ContentHash::of(&[&hash.0, item.as_bytes(), &[0], &bytes]);
    }
    hash
}

/// The life of a runtime that is to be replayed.
struct Life {
    program: ProgramText,
    ticks: u64,
    /// How long its sound is, if it has any.
    seconds: Option<f64>,
    /// Why that is less than was played.
    cut: Option<String>,
    replay: Replay,
}

impl Life {
    fn find(recording: &Recording, arguments: &Arguments) -> Result<Self, String> {
        let entries = &recording.entries;
        let starts = entries.iter().filter_map(|entry| match &entry.what {
            Logged::Start { runtime, runtime_type, sample_rate, revision } => {
                Some((entry.life, runtime, runtime_type, *sample_rate, revision))
            }
            _ => None,
        });
        let starts: Vec<_> = starts.collect();
        let name = arguments.runtime.as_ref().or(starts.first().map(|(_, runtime, ..)| *runtime));
        let name = name.ok_or_else(|| format!("{}: nothing was played in it", arguments.recording.display()))?;
        let known = || {
            starts
                .iter()
                .map(|(_, runtime, ..)| runtime.as_str())
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        };
        let mut hosts = starts.iter().filter(|(_, runtime, ..)| *runtime == name);
        let Some((life, _, runtime_type, sample_rate, first)) = hosts.nth(arguments.host.saturating_sub(1)) else {
            return Err(format!("there is no such host of a runtime `{name}` in it; there is: {}", known().join(", ")));
        };
        let own: Vec<LogEntry> = entries.iter().filter(|entry| entry.life == *life).cloned().collect();
        if let Some(why) = asset_notes::changed(&own) {
            return Err(format!("{why}; a replay would not be what was played: put the file back as it was"));
        }
        let heard =
            if own.iter().any(|entry| hears_sound(&entry.what)) { Some(heard_in(recording, arguments, name, *life)?) } else { None };
        let (played, known) = (last_tick(&own), heard.as_ref().map_or(u64::MAX, |(_, end)| *end));
        let cut = (known < played)
            .then(|| format!("what `{name}` heard is known up to tick {known}, and not to {played}: the replay ends there"));
        let ticks = played.min(known).max(1);
        let is_wrong = |why: String| format!("{}: {why}", arguments.recording.display());
        let seconds = match runtime_type.as_str() {
            "audio" => Some(sounding_seconds(*sample_rate, ticks).map_err(is_wrong)?),
            _ => silent_ticks(*sample_rate, ticks).map(|()| None).map_err(is_wrong)?,
        };
        let sends = runtime_type.as_str() == "midi";
        let sending = sends.then(|| Sending { to_tick: ticks, rate_hz: *sample_rate, file: arguments.midi.clone() });
        let replay = Replay { first: (*first).clone(), entries: own, heard: heard.map(|(source, _)| source), sending };
        Ok(Self { program: first.program(name), ticks, seconds, cut, replay })
    }
}

/// Where it stands what a life heard, and up to which tick.
fn heard_in(recording: &Recording, arguments: &Arguments, name: &str, life: usize) -> Result<(HeardSource, u64), String> {
    let path = heard::beside(&arguments.recording);
    let (Some(id), true) = (&recording.header.heard, path.exists()) else {
        return Err(format!(
            "`{name}` listened to the device's input or to other runtimes, and what it heard is not there: it belongs into {}, beside the \
             recording (older builds did not keep it). A replay would not be what was played",
            path.display()
        ));
    };
    let end = HeardLife::find(&path, id, life).map_err(|error| error.to_string())?.end();
    if end == 0 {
        return Err(format!("nothing of what `{name}` heard stands in {}: a replay would not be what was played", path.display()));
    }
    Ok((HeardSource { path, id: id.clone(), life }, end))
}

/// Whether a revision that wants to hear something was played from there on.
fn hears_sound(what: &Logged) -> bool {
    match what {
        Logged::Start { revision, .. } | Logged::Change { revision, .. } => revision.hears_sound,
        Logged::Set { .. } | Logged::Midi { .. } | Logged::Reset {} | Logged::Freeze {} | Logged::Run {} => false,
        Logged::RolledBack { .. } | Logged::Asset { .. } | Logged::Seen {} | Logged::Wired { .. } => false,
    }
}

/// How far a life can be followed: what control wires brought is known up to where the recording says so, which may be before the
/// last of its other entries.
fn last_tick(own: &[LogEntry]) -> u64 {
    let is_wired = own.iter().any(|entry| matches!(entry.what, Logged::Wired { .. }));
    let tells = |entry: &&LogEntry| !is_wired || matches!(entry.what, Logged::Wired { .. } | Logged::Seen {});
    own.iter().filter(tells).map(|entry| entry.tick).max().unwrap_or(0)
}

/// How long so many ticks sound. A recording is a file that anybody can have written: what no session can have played is
/// refused before a host is asked for it.
fn sounding_seconds(sample_rate: u32, ticks: u64) -> Result<f64, String> {
    let (least, most) = (SAMPLE_RATE_RANGE_HZ.start(), SAMPLE_RATE_RANGE_HZ.end());
    if !SAMPLE_RATE_RANGE_HZ.contains(&sample_rate) {
        return Err(format!("its sample rate of {sample_rate} Hz is none that a session plays at ({least} to {most} Hz)"));
    }
    if ticks > MOST_TICKS {
        return Err(format!("it goes up to tick {ticks}, and a WAV file holds the sound of at most {MOST_TICKS}"));
    }
    Ok(ticks as f64 * BLOCK_FRAMES as f64 / f64::from(sample_rate))
}

/// Refuses what no runtime without sound can have run through.
fn silent_ticks(rate_hz: u32, ticks: u64) -> Result<(), String> {
    let (least, most) = (TIMER_RATE_RANGE_HZ.start(), TIMER_RATE_RANGE_HZ.end());
    if !TIMER_RATE_RANGE_HZ.contains(&rate_hz) {
        return Err(format!("its rate of {rate_hz} Hz is none that a runtime without sound ticks at ({least} to {most} Hz)"));
    }
    if ticks > MOST_SILENT_TICKS {
        return Err(format!("it goes up to tick {ticks}, and no session has come to more than {MOST_SILENT_TICKS}"));
    }
    Ok(())
}

/// Takes down what a replay brings.
#[derive(Default)]
struct Replayer {
    /// What the items hold at the end.
    items: Option<Vec<ItemValue>>,
    sent: Option<Sent>,
}

impl Audience for Replayer {
    fn has_sent(&mut self, sent: Sent) {
        self.sent = Some(sent);
    }

    fn hear(&mut self, programs: &[ProgramText], report: Report) {
        if let Report::RunDone { dumps } = report {
            self.items = Some(dumps);
            return;
        }
        // What the program did wrong then, it does wrong again: that is no news.
        if matches!(report, Report::Fault { .. } | Report::Log { .. }) {
            return;
        }
        if let Some(text) = (Sentences { programs, has_colour: render::has_colour(), session: None }).of(&report) {
            render::tell(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::log::RevisionText;
    use crate::session::Header;

    fn arguments() -> Arguments {
        Arguments { recording: "take.continuo".into(), output: None, midi: None, dumps: Vec::new(), runtime: None, host: 1, json: false }
    }

    /// A recording of a runtime `drums` that was seen last at this tick.
    fn recorded(runtime_type: &str, sample_rate: u32, last_tick: u64) -> Recording {
        let revision = RevisionText {
            hash: ContentHash::of(&[b"program"]).to_string(),
            previous: None,
            text: "8f4e/v1\n".to_owned(),
            path: PathBuf::from("drums.8f4e"),
            directory: PathBuf::new(),
            settings: None,
            hears_sound: false,
            assets: Vec::new(),
        };
        let start = Logged::Start { runtime: "drums".to_owned(), runtime_type: runtime_type.to_owned(), sample_rate, revision };
        holding([(0, start), (last_tick, Logged::Seen {})].map(|(tick, what)| LogEntry { life: 0, tick, what }).into())
    }

    fn holding(entries: Vec<LogEntry>) -> Recording {
        Recording { header: Header { format: 1, build: String::new(), seed: 0, heard: None }, entries, is_torn: false }
    }

    fn refusal(recording: &Recording) -> String {
        Life::find(recording, &arguments()).err().expect("a recording that must be refused")
    }

    #[test]
    fn a_recording_of_no_possible_session_is_refused_in_words() {
        for sample_rate in [0, 1, 7_999, 384_001, u32::MAX] {
            let why = refusal(&recorded("audio", sample_rate, 100));
            assert!(why.starts_with(&format!("take.continuo: its sample rate of {sample_rate} Hz is none")), "{why}");
        }
        for last_tick in [MOST_TICKS + 1, 1 << 40, u64::MAX] {
            let why = refusal(&recorded("audio", 48_000, last_tick));
            assert!(why.starts_with(&format!("take.continuo: it goes up to tick {last_tick}, and a WAV file holds")), "{why}");
        }
        assert!(refusal(&recorded("midi", 0, 0)).contains("its rate of 0 Hz is none"));
        assert!(refusal(&recorded("worker", 50, u64::MAX)).contains("it goes up to tick"));
        assert!(refusal(&holding(Vec::new())).contains("nothing was played in it"));
    }

    #[test]
    fn the_length_of_a_replay_is_that_of_what_was_played() {
        let life = |last_tick| match Life::find(&recorded("audio", 48_000, last_tick), &arguments()) {
            Ok(life) => life,
            Err(refusal) => panic!("a sound recording is refused: {refusal}"),
        };
        assert_eq!((life(375).ticks, life(375).seconds), (375, Some(1.0)));
        assert!(life(MOST_TICKS).seconds > Some(3.0 * 3_600.0));
        assert_eq!(life(0).ticks, 1);
    }
}
