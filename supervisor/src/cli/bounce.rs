//! `continuo bounce`: programs into a WAV file, faster than real time.

use std::path::PathBuf;

use ipc::limits::{DEFAULT_SAMPLE_RATE_HZ, MAX_LEAD_BLOCKS};
use ipc::tempo::{DEFAULT_TEMPO_BPM, Tempo};

use super::play::absolute;
use super::{CommandError, check_output, midi, routes, run_job, seconds, source};
use crate::policy::routes::Route;
use crate::policy::{Goal, Report, TapeFiles, Verdict};
use crate::render;
use crate::render::meter::{LiveLine, Meter, clock};
use crate::render::sentences::Sentences;
use crate::session::{Audience, Job, OutputChoice, ProgramText, SoundOutput};

/// Render programs into a WAV file, faster than real time.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo bounce drums.8f4e --seconds 60 -o drums.wav
  continuo bounce drums.8f4e bass.8f4e --seconds 8.5 -o both.wav    mixed
  continuo bounce drums.8f4e reverb.8f4e --route drums:reverb --seconds 8 -o wet.wav
  continuo bounce synth.8f4e --midi-in tune.mid --seconds 60 -o tune.wav
  continuo bounce beat.8f4e --tempo 174 --start --seconds 60 -o beat.wav

The same engine as `play`, without a clock: the same programs give the same samples. The file has 32-bit float samples, two \
channels, and the programs' sample rate. If one of several programs is wrong, no file is made.")]
pub struct Arguments {
    /// The programs.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How much to render.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = renderable_seconds)]
    seconds: f64,
    /// The WAV file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What each program adds to that as well, into a file `PROGRAM.wav` in this folder.
    #[arg(long, value_name = "FOLDER")]
    stems: Option<PathBuf>,
    /// Let one program hear another one, one block later; with `:only`, what is heard there is not heard directly.
    #[arg(long = "route", value_name = "FROM:TO[:only]", value_parser = routes::parse)]
    routes: Vec<Route>,
    /// What the program's MIDI input ports hear from its first tick on: MIDI files, that of port 1 first.
    #[arg(long = "midi-in", value_name = "FILE")]
    midi_inputs: Vec<String>,
    /// What programs that ask for the tempo are told, from their first tick on: beats a minute.
    #[arg(long, value_name = "BPM", default_value_t = DEFAULT_TEMPO_BPM, value_parser = midi::beats)]
    tempo: f64,
    /// The transport runs from the first tick on, from beat 0. Without it, it stands still, as that of a session does until it is started.
    #[arg(long)]
    start: bool,
}

/// Seconds that fit into a WAV file, which holds 4 GiB: a little more than three hours at 48 kHz.
fn renderable_seconds(text: &str) -> Result<f64, String> {
    const LONGEST_SECONDS: f64 = 3.0 * 3600.0;
    seconds(text).and_then(|seconds| {
        if seconds <= LONGEST_SECONDS { Ok(seconds) } else { Err("a WAV file holds at most three hours (10800)".to_owned()) }
    })
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let programs = source::read_all(&arguments.files)?;
    check_output(&arguments.output, &arguments.files)?;
    let scores = midi::scores(&arguments.midi_inputs)?;
    if !scores.is_empty() && programs.len() > 1 {
        return Err(CommandError::Input("--midi-in is for one program; bounce the others without it, and mix the files".to_owned()));
    }
    let mut job = Job::new(Goal::Bounce, programs);
    job.scores = scores;
    job.tempo = Tempo { bpm: arguments.tempo, is_running: arguments.start, ..Tempo::default() };
    routes::check(&arguments.routes, &job.programs)?;
    job.routes.clone_from(&arguments.routes);
    job.sound = Some(SoundOutput {
        output: OutputChoice::Unpaced { seconds: arguments.seconds },
        // Nobody waits for a sound: the further the hosts may run ahead, the less they wait for each other.
        lead_blocks: MAX_LEAD_BLOCKS,
        tape: TapeFiles { master: absolute(Some(&arguments.output))?, stems: absolute(arguments.stems.as_ref())? },
        folders: Vec::new(),
    });
    let mut bouncer = Bouncer { arguments, line: None, meter: Meter::default(), sample_rate: DEFAULT_SAMPLE_RATE_HZ, frames: None };
    let verdict = run_job(&job, &mut bouncer)?;
    bouncer.finish(verdict);
    Ok(verdict)
}

struct Bouncer<'a> {
    arguments: &'a Arguments,
    /// There from the moment the length in frames is known.
    line: Option<LiveLine>,
    meter: Meter,
    sample_rate: u32,
    /// Frames rendered, once the device host says that it has finished.
    frames: Option<u64>,
}

impl Bouncer<'_> {
    fn finish(&self, verdict: Verdict) {
        if let Some(line) = &self.line {
            line.clear();
        }
        let Some(frames) = self.frames.filter(|frames| *frames > 0) else { return };
        let bad = match self.meter.non_finite() {
            0 => String::new(),
            count => format!(", {count} samples were not finite and are silent"),
        };
        let unfinished = if verdict == Verdict::Interrupted { " (interrupted)" } else { "" };
        let length = clock(frames, self.sample_rate);
        render::tell(&format!(
            "wrote {}: {length}, {frames} frames at {} Hz{bad}{unfinished}",
            self.arguments.output.display(),
            self.sample_rate
        ));
    }
}

impl Audience for Bouncer<'_> {
    fn hear(&mut self, programs: &[ProgramText], report: Report) {
        let sentences = Sentences { programs, has_colour: render::has_colour(), session: None };
        match &report {
            Report::DeviceOpened { sample_rate, .. } => {
                self.sample_rate = *sample_rate;
                let total_frames = (self.arguments.seconds * f64::from(*sample_rate)).round() as u64;
                self.line = Some(LiveLine::progress(total_frames));
            }
            Report::DeviceStatus(status) => {
                self.meter.take_device(status);
                if let Some(line) = &self.line {
                    line.advance_to(status.frames);
                    line.show(clock(status.frames, self.sample_rate));
                }
            }
            Report::HostStatus { runtime, status } => {
                if let Some(program) = programs.get(runtime.0) {
                    self.meter.take_host(&program.name, status);
                }
            }
            Report::DeviceStopped { frames } => self.frames = Some(*frames),
            other => match (sentences.of(other), &self.line) {
                (Some(text), Some(line)) => line.say(&text),
                (Some(text), None) => render::tell(&text),
                (None, _) => {}
            },
        }
    }
}
