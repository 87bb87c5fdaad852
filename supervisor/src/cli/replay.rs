//! `continuo replay`: a recording as the same bytes of sound again, in fresh processes.

use std::path::PathBuf;

use ipc::hash::ContentHash;
use ipc::limits::{BLOCK_FRAMES, MAX_LEAD_BLOCKS, SAMPLE_RATE_RANGE_HZ};
use serde_json::json;

use super::play::absolute;
use super::{CommandError, check_output, run_job};
use crate::policy::log::{LogEntry, Logged};
use crate::policy::{Goal, Report, TapeFiles, Verdict};
use crate::render;
use crate::render::sentences::Sentences;
use crate::session::asset_notes;
use crate::session::{Audience, Job, OutputChoice, ProgramText, Recording, Replay, SoundOutput};

/// Ticks whose sound fits into a WAV file: 4 GiB of frames of two 32-bit floats, a MiB left for what is around them. At 48 kHz
/// that is a little more than three hours.
const MOST_TICKS: u64 = ((4 << 30) - (1 << 20)) / (8 * BLOCK_FRAMES as u64);

/// Render a recording again, to the same samples.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo record tonight.continuo                    while a session plays; `continuo record` alone ends it
  continuo replay tonight.continuo -o drums.wav --runtime drums

A recording holds what was played since the session began: every revision, every input, each with its tick. The file has the \
runtime's own output from its first sample on, unmixed: 32-bit float, two channels. Its hash is printed; the same recording gives the \
same hash, every time and everywhere.")]
pub struct Arguments {
    /// The recording.
    recording: PathBuf,
    /// The WAV file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
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
    check_output(&arguments.output, std::slice::from_ref(&arguments.recording))?;
    let recording = Recording::read(&arguments.recording).map_err(|error| CommandError::Input(error.to_string()))?;
    let life = Life::find(&recording.entries, arguments).map_err(CommandError::Input)?;
    let mut job = Job::new(Goal::Bounce, vec![life.program]);
    job.sound = Some(SoundOutput {
        output: OutputChoice::Unpaced { seconds: life.seconds },
        lead_blocks: MAX_LEAD_BLOCKS,
        tape: TapeFiles { master: absolute(Some(&arguments.output))?, stems: None },
        folders: Vec::new(),
    });
    job.replay = Some(life.replay);
    let verdict = run_job(&job, &mut Replayer)?;
    if verdict == Verdict::Fine {
        let bytes =
            std::fs::read(&arguments.output).map_err(|error| CommandError::Input(format!("{}: {error}", arguments.output.display())))?;
        let hash = ContentHash::of(&[&bytes]).to_string();
        if arguments.json {
            render::print(&json!({ "hash": hash, "ticks": life.ticks, "isTorn": recording.is_torn }).to_string());
        } else {
            render::print(&hash);
        }
    }
    Ok(verdict)
}

/// The life of a runtime that is to be replayed.
struct Life {
    program: ProgramText,
    ticks: u64,
    /// How long its sound is.
    seconds: f64,
    replay: Replay,
}

impl Life {
    fn find(entries: &[LogEntry], arguments: &Arguments) -> Result<Self, String> {
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
        if runtime_type.as_str() != "audio" {
            return Err(format!("`{name}` ran under the runtime type `{runtime_type}`, which has no sound"));
        }
        let own: Vec<LogEntry> = entries.iter().filter(|entry| entry.life == *life).cloned().collect();
        if let Some(why) = asset_notes::changed(&own) {
            return Err(format!("{why}; a replay would not be what was played: put the file back as it was"));
        }
        let ticks = last_tick(&own).max(1);
        let seconds = sounding_seconds(*sample_rate, ticks).map_err(|why| format!("{}: {why}", arguments.recording.display()))?;
        let replay = Replay { first: (*first).clone(), entries: own };
        Ok(Self { program: first.program(name), ticks, seconds, replay })
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

struct Replayer;

impl Audience for Replayer {
    fn hear(&mut self, programs: &[ProgramText], report: Report) {
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

    fn arguments() -> Arguments {
        Arguments { recording: "take.continuo".into(), output: "take.wav".into(), runtime: None, host: 1, json: false }
    }

    /// A recording of a runtime `drums` that was seen last at this tick.
    fn recorded(runtime_type: &str, sample_rate: u32, last_tick: u64) -> Vec<LogEntry> {
        let revision = RevisionText {
            hash: ContentHash::of(&[b"program"]).to_string(),
            previous: None,
            text: "8f4e/v1\n".to_owned(),
            path: PathBuf::from("drums.8f4e"),
            directory: PathBuf::new(),
            settings: None,
            assets: Vec::new(),
        };
        let start = Logged::Start { runtime: "drums".to_owned(), runtime_type: runtime_type.to_owned(), sample_rate, revision };
        [(0, start), (last_tick, Logged::Seen {})].map(|(tick, what)| LogEntry { life: 0, tick, what }).into()
    }

    fn refusal(entries: &[LogEntry]) -> String {
        Life::find(entries, &arguments()).err().expect("a recording that must be refused")
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
        assert!(refusal(&recorded("midi", 0, 0)).contains("which has no sound"));
        assert!(refusal(&[]).contains("nothing was played in it"));
    }

    #[test]
    fn the_length_of_a_replay_is_that_of_what_was_played() {
        let life = |last_tick| match Life::find(&recorded("audio", 48_000, last_tick), &arguments()) {
            Ok(life) => life,
            Err(refusal) => panic!("a sound recording is refused: {refusal}"),
        };
        assert_eq!((life(375).ticks, life(375).seconds), (375, 1.0));
        assert!(life(MOST_TICKS).seconds > 3.0 * 3_600.0);
        assert_eq!(life(0).ticks, 1);
    }
}
