//! An open output and all that belongs to it: the mixer's control end, the lanes, the driver that plays, the tape.
//!
//! Owned by the control thread. Made by `Open`, ended by `Stop`, or when the supervisor is gone and nobody is waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ipc::input::InputWriter;
use ipc::lane::LaneReader;
use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS, MAX_LEAD_BLOCKS, SAMPLE_RATE_RANGE_HZ};
use ipc::message::{Buses, DeviceReply, DeviceStatus, InputStatus, OpenDevice, Output, OutputMap, Tape};
use ipc::midi::{MidiCounters, PortChange, Ports};
use ipc::segment::{SegmentError, SegmentKind, SegmentRef, SessionId};
use ipc::tempo::Tempo;

use super::baton::Baton;
use super::clients::Clients;
use super::control::Event;
use super::counters::Counters;
use super::lanes::{Lanes, runtime_of};
use super::listening::Listening;
use super::midi::input::{InputCounters, MidiInput, Setup};
use super::midi::{Destinations, Drivers, MidiOut, SessionTime};
use super::mixer::{Command, Mixer, MixerControl, MixerSettings, Notice, ahead_blocks};
use super::output::follow::{Outputs, Wanted};
use super::output::{Target, unpaced};
use super::strip::Strip;
use super::tape::TapeError;
use super::tape::deck::Deck;
use super::tape::wav_file::MAX_RECORDING_FRAMES;
use super::tape::writer::News;

/// How often the status is reported.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// How long the fade-out at the end may take. The null device takes over from a lost one within half of this.
const FADE_LIMIT: Duration = Duration::from_secs(1);

/// Frames after which a session is not believed to go on: some 740,000 years at 384 kHz. Keeps sums of frames in range.
const MAX_FIRST_FRAME: u64 = u64::MAX / 2;

/// Why an output cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0} Hz is not a sample rate between {min} and {max} Hz", min = SAMPLE_RATE_RANGE_HZ.start(), max = SAMPLE_RATE_RANGE_HZ.end())]
    SampleRate(u32),
    #[error("a lead of {0} blocks is not between 1 and {MAX_LEAD_BLOCKS}")]
    Lead(u32),
    #[error("a rendering without a clock cannot be resumed; begin it anew")]
    Resumed,
    #[error("{0} frames are more than a session plays")]
    FirstFrame(u64),
    #[error("rendering without a clock needs a recording to render into")]
    NoRecording,
    #[error("{0} frames are more than the {MAX_RECORDING_FRAMES} that a WAV file can hold")]
    TooLong(u64),
    #[error(transparent)]
    Tape(#[from] TapeError),
}

/// What plays.
enum Playback {
    /// Devices, and the null device in between.
    Clocked(Box<Outputs>),
    /// No clock; rendering begins with `Begin`.
    Unpaced { frames: u64, state: Rendering },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rendering {
    NotBegun,
    Running,
    Done,
}

/// An open output.
pub struct Session {
    mixer: MixerControl,
    baton: Arc<Baton>,
    counters: Arc<Counters>,
    lanes: Lanes,
    midi: MidiOut,
    midi_to: Destinations,
    midi_in: Option<MidiInput>,
    midi_in_counters: Arc<InputCounters>,
    listening: Listening,
    session: SessionId,
    sample_rate_hz: u32,
    lead_blocks: u64,
    playback: Playback,
    deck: Deck,
    reported_unrecorded: bool,
    status_at: Instant,
    has_begun: bool,
    ending_until: Option<Instant>,
    events: Sender<Event>,
}

impl Session {
    /// Opens the output. `Opened` or `Failed` is among the replies now or comes with a later event.
    pub fn open(
        session: SessionId,
        request: &OpenDevice,
        clients: &Clients,
        events: &Sender<Event>,
        now: Instant,
    ) -> Result<(Self, Vec<DeviceReply>), OpenError> {
        check(request)?;
        let counters = Arc::new(Counters::default());
        let mut deck = Deck::new(request.sample_rate, Arc::clone(&counters), events.clone());
        let reel = request.tape.as_ref().map(|tape| deck.load_first(tape)).transpose()?;
        let settings = MixerSettings {
            sample_rate_hz: request.sample_rate,
            lead_blocks: request.lead_blocks,
            first_frame: request.first_frame,
            counters: Arc::clone(&counters),
            reel,
            // Without a clock, rendering itself begins with `Begin`.
            starts_together: request.starts_together && !matches!(request.output, Output::Unpaced { .. }),
            is_unpaced: matches!(request.output, Output::Unpaced { .. }),
        };
        let (mixer, control) = Mixer::new(settings);
        let baton = Baton::new(mixer);
        let (playback, replies) = begin_playback(request, &baton, clients, events, now);
        let midi_to = midi_destinations(request, clients);
        let midi_time = SessionTime { sample_rate_hz: request.sample_rate, counters: Arc::clone(&counters) };
        let session = Self {
            mixer: control,
            baton,
            counters,
            lanes: Lanes::new(session.clone()),
            midi: MidiOut::new(midi_to.clone(), midi_time),
            midi_to,
            midi_in: None,
            midi_in_counters: Arc::default(),
            listening: Listening::new(request.sample_rate, clients.clone()),
            session,
            sample_rate_hz: request.sample_rate,
            lead_blocks: u64::from(request.lead_blocks),
            playback,
            deck,
            reported_unrecorded: false,
            status_at: now + STATUS_INTERVAL,
            has_begun: false,
            ending_until: None,
            events: events.clone(),
        };
        Ok((session, replies))
    }

    /// Reads a lane from now on; one that `resumes` goes on where a device host that has died had got to. What its host hears
    /// is decided by the mixer, unless somebody else does.
    pub fn add_lane(&mut self, runtime: String, lane: &SegmentRef, resumes: bool, decides_input: bool) -> DeviceReply {
        if lane.kind == SegmentKind::MidiLane {
            return match self.midi.add(self.session.as_str(), &runtime, lane) {
                Ok(()) => DeviceReply::LaneMapped { runtime },
                Err(error) => DeviceReply::LaneRefused { runtime, reason: error.to_string() },
            };
        }
        let ahead = ahead_blocks(self.lead_blocks, 1);
        let make = if resumes { Strip::resume } else { Strip::new };
        let open = |lane: &SegmentRef| -> Result<Strip, SegmentError> {
            // Before the host is woken: no tick runs without its input.
            let input = decides_input.then(|| InputWriter::open(lane)).transpose()?;
            let strip = make(LaneReader::open(lane)?, ahead);
            Ok(match input {
                Some(input) => strip.feeding(input),
                None => strip,
            })
        };
        let track = self.lanes.track_for(&runtime, self.deck.stems());
        let added = self.lanes.add(&runtime, lane, track, open, &self.counters, &mut self.mixer);
        match added {
            Ok(()) => {
                if let Some(track) = track {
                    self.deck.add_stem(track, runtime_of(&runtime), &mut self.mixer);
                }
                DeviceReply::LaneMapped { runtime }
            }
            Err(error) => DeviceReply::LaneRefused { runtime, reason: error.to_string() },
        }
    }

    /// Lets a lane fade out. A runtime that has none, or one of notes, which end now, is answered at once.
    pub fn remove_lane(&mut self, runtime: String) -> Option<DeviceReply> {
        let is_gone = self.midi.remove(&runtime) || !self.lanes.remove(&runtime, &mut self.mixer);
        is_gone.then_some(DeviceReply::LaneRemoved { runtime })
    }

    /// Brings a lane to another gain. Notes have none: they sound, or do not.
    pub fn set_gain(&mut self, runtime: &str, gain: f32, ramp_frames: u32) {
        self.midi.mute(runtime, gain == 0.0);
        self.lanes.set_gain(runtime, gain, ramp_frames, &mut self.mixer);
    }

    /// Brings a lane to other channels of the device.
    pub fn set_output(&mut self, runtime: &str, route: OutputMap) {
        self.lanes.set_output(runtime, route, &mut self.mixer);
    }

    /// Records from the tape's block on, all runtimes that have a lane and those that get one later.
    pub fn start_tape(&mut self, tape: &Tape) -> Option<DeviceReply> {
        self.reported_unrecorded = false;
        self.counters.unrecorded_frames.store(0, Relaxed);
        self.deck.load(tape, self.lanes.tracks())
    }

    /// Records no block from this one on.
    pub fn stop_tape(&mut self, number: u64, end_block: u64) -> Option<DeviceReply> {
        self.deck.stop(number, end_block, &mut self.mixer)
    }

    /// A MIDI port of another program has come or gone.
    pub fn on_midi_port(&mut self, change: &PortChange) {
        self.midi.on_port(change);
    }

    /// The writer of a tape has something to tell.
    pub fn on_tape_news(&mut self, number: u64, news: News) -> Vec<DeviceReply> {
        self.deck.on_news(number, news, &mut self.mixer).into_iter().collect()
    }

    /// Connects the lanes with each other, and with the device's input.
    pub fn connect(&mut self, buses: Buses) {
        self.lanes.connect(buses, &mut self.mixer);
    }

    /// Listens to MIDI from now on. What a session without a clock is to hear, its hosts are told otherwise.
    pub fn listen(&mut self, ports: Ports, files_from: Option<u64>) {
        let Playback::Clocked(_) = self.playback else { return };
        if self.midi_in.is_some() {
            return;
        }
        let setup = Setup {
            ports,
            files_from,
            drivers: self.midi_to.drivers.clone(),
            sample_rate_hz: self.sample_rate_hz,
            ahead_blocks: ahead_blocks(self.lead_blocks, 1),
            counters: Arc::clone(&self.counters),
            input_counters: Arc::clone(&self.midi_in_counters),
            looped: self.midi.looped(),
        };
        let events = self.events.clone();
        // Without threads there is no input; when the control thread has ended, nobody needs to know.
        self.midi_in = MidiInput::start(setup, move |news| drop(events.send(Event::Midi(news)))).ok();
    }

    /// Sends MIDI clock at this tempo. Without a clock of its own a session has nobody to send it to.
    pub fn set_tempo(&mut self, tempo: Tempo) {
        if let Playback::Clocked(_) = self.playback {
            self.midi.set_tempo(tempo);
        }
    }

    /// Starts an unpaced output.
    pub fn begin(&mut self) -> Option<DeviceReply> {
        let (frames, state) = match &mut self.playback {
            Playback::Clocked(_) => {
                // There is room for it: see `Mixer::new`. A second one would find the lanes started.
                if !std::mem::replace(&mut self.has_begun, true) {
                    let _ = self.mixer.send(Command::Begin);
                }
                return None;
            }
            Playback::Unpaced { frames, state: state @ Rendering::NotBegun } => (frames, state),
            Playback::Unpaced { .. } => return None,
        };
        *state = Rendering::Running;
        let done_in = self.events.clone();
        let on_done = move |_| drop(done_in.send(Event::Rendered));
        unpaced::start(&self.baton, *frames, on_done).err().map(|error| {
            *state = Rendering::Done;
            DeviceReply::Failed { reason: format!("the rendering thread cannot be started: {error}") }
        })
    }

    /// An unpaced output has rendered all its frames, or was told to stop.
    pub fn on_rendered(&mut self) -> Vec<DeviceReply> {
        let Playback::Unpaced { state, .. } = &mut self.playback else { return Vec::new() };
        *state = Rendering::Done;
        if self.ending_until.is_some() {
            return Vec::new();
        }
        let mut replies = vec![self.status()];
        replies.extend(self.finish_tape());
        replies.push(self.stopped());
        replies
    }

    /// The devices that are followed, unless there is no clock.
    pub fn outputs(&mut self) -> Option<&mut Outputs> {
        match &mut self.playback {
            Playback::Clocked(outputs) => Some(outputs),
            Playback::Unpaced { .. } => None,
        }
    }

    /// What there is to tell after some time has passed.
    pub fn on_tick(&mut self, now: Instant) -> Vec<DeviceReply> {
        let mut replies = self.outputs().map(|outputs| outputs.on_tick(now)).unwrap_or_default();
        while let Some(notice) = self.mixer.notice() {
            match notice {
                Notice::TapeBegun { block } => replies.extend(self.deck.on_begun(block)),
                Notice::TapeEnded { block, reel } => self.deck.on_ended(block, reel),
                Notice::Started { slot, block } => replies.extend(self.lanes.on_started(slot, block)),
                Notice::Removed { slot, strip } => replies.extend(self.lanes.on_removed(slot, strip)),
                Notice::CaptureLeft(tap) => drop(tap),
            }
        }
        replies.extend(self.midi.started(self.block()));
        self.lanes.tell_levels(&mut self.mixer);
        self.lanes.tell_wires(&mut self.mixer);
        let wanted = self.lanes.hears_device();
        let source = self.outputs().and_then(|outputs| outputs.input()).filter(|_| wanted);
        if let Some(change) = self.listening.follow(source, now) {
            // Where there is no room nothing renders; the input is opened once more when something does.
            if !self.mixer.send(Command::Capture(change)) {
                self.listening.close();
            }
        }
        replies.extend(self.unrecorded());
        if now >= self.status_at {
            self.status_at = now + STATUS_INTERVAL;
            replies.push(self.status());
        }
        replies
    }

    /// Whether somebody waits for something that the mixer is about to report.
    pub fn is_changing(&self) -> bool {
        self.lanes.is_changing() || self.midi.is_changing() || self.ending_until.is_some()
    }

    /// Begins to end: fades out, or ends the rendering where it is.
    pub fn begin_end(&mut self, now: Instant) {
        self.ending_until.get_or_insert(now + FADE_LIMIT);
        match &self.playback {
            // A full queue means that nothing renders; then there is nothing to fade.
            Playback::Clocked(_) => drop(self.mixer.send(Command::End)),
            Playback::Unpaced { .. } => self.baton.withdraw(),
        }
    }

    /// Whether the end has begun.
    pub fn is_ending(&self) -> bool {
        self.ending_until.is_some()
    }

    /// What a supervisor that was not there has to know: the output, the lanes, and whether something is wrong.
    pub fn describe(&self) -> Vec<DeviceReply> {
        let opened = match &self.playback {
            Playback::Clocked(outputs) => outputs.describe(),
            Playback::Unpaced { .. } => Some(unpaced_opened(self.sample_rate_hz)),
        };
        let lanes = self.lanes.describe().into_iter().chain(self.midi.describe(self.block()));
        opened.into_iter().chain(lanes).chain(self.deck.describe()).collect()
    }

    /// Whether the end has come: faded out, or not worth waiting for any longer.
    pub fn has_ended(&self, now: Instant) -> bool {
        let is_silent = match &self.playback {
            Playback::Clocked(_) => self.counters.has_ended.load(Acquire),
            Playback::Unpaced { state, .. } => *state != Rendering::Running,
        };
        self.ending_until.is_some_and(|until| is_silent || now >= until)
    }

    /// Completes the tape and begins to close what is open at sound servers. The last counters come before `Stopped`.
    pub fn close(mut self) -> Vec<DeviceReply> {
        drop(self.midi_in.take());
        self.listening.close();
        self.midi.close();
        self.baton.withdraw();
        // Where the fade-out has been heard to its end this does nothing; else it saves the last frames.
        self.baton.with_idle_mixer(Mixer::finish_tape);
        let mut replies = vec![self.status()];
        replies.extend(self.finish_tape());
        replies.push(self.stopped());
        replies
    }

    /// The block of the session that is played now.
    pub fn block(&self) -> u64 {
        self.counters.frames.load(Relaxed) / BLOCK_FRAMES as u64
    }

    fn finish_tape(&mut self) -> Option<DeviceReply> {
        self.deck.finish(self.counters.frames.load(Relaxed))
    }

    /// Tells once that the disk was too slow.
    fn unrecorded(&mut self) -> Option<DeviceReply> {
        let frames = self.counters.unrecorded_frames.load(Relaxed);
        if frames == 0 || self.reported_unrecorded {
            return None;
        }
        self.reported_unrecorded = true;
        let name = self.deck.name()?;
        let reason = format!("the disk is too slow for the recording {name}: {frames} frames are silent in it so far; it goes on");
        Some(DeviceReply::RecordingFailed { reason, ended: None })
    }

    fn input_status(&self) -> InputStatus {
        let blocks = self.counters.capture_latency_blocks.load(Relaxed);
        let waiting_frames = self.counters.capture_waiting_frames.load(Relaxed);
        InputStatus {
            device: self.listening.device(),
            latency_frames: blocks * BLOCK_FRAMES as u64 + waiting_frames,
            gaps: self.counters.capture_gaps.load(Relaxed),
        }
    }

    fn stopped(&self) -> DeviceReply {
        DeviceReply::Stopped { frames: self.counters.frames.load(Relaxed) }
    }

    fn status(&mut self) -> DeviceReply {
        DeviceReply::Status(DeviceStatus {
            frames: self.counters.frames.load(Relaxed),
            peak: self.counters.peak.take(),
            device_xruns: self.outputs().map_or(0, |outputs| outputs.xruns()),
            non_finite: self.counters.non_finite.load(Relaxed),
            midi: MidiCounters {
                received: self.midi_in_counters.received.load(Relaxed),
                received_dropped: self.midi_in_counters.dropped.load(Relaxed),
                received_malformed: self.midi_in_counters.malformed.load(Relaxed),
                sent_late: self.midi.counters().late.load(Relaxed),
                sent_dropped: self.midi.counters().dropped.load(Relaxed),
            },
            input: self.input_status(),
            bus_latency_blocks: self.counters.bus_latency_blocks.load(Relaxed),
            lanes: self.lanes.status(&self.counters),
        })
    }
}

/// Events go to JACK where sound may, else to the sequencer, unless nothing of the machine is to be played; and into a file
/// beside the recording, if there is one. Where a device host goes on for one that has died, the name of its file has the frame
/// it goes on from.
fn midi_destinations(request: &OpenDevice, clients: &Clients) -> Destinations {
    let master = request.tape.as_ref().and_then(|tape| tape.master.as_ref());
    let file = master.map(|path| match request.first_frame {
        0 => (path.with_extension("mid"), 0),
        frame => (path.with_extension(format!("{frame}.mid")), frame),
    });
    let target = match &request.output {
        Output::Default => Target::Any,
        Output::Named(name) => Target::parse(name),
        Output::Unpaced { .. } => Target::Null,
    };
    Destinations { file, drivers: Drivers::of_target(&target, clients.clone()), begins_session: request.first_frame == 0 }
}

fn check(request: &OpenDevice) -> Result<(), OpenError> {
    if !SAMPLE_RATE_RANGE_HZ.contains(&request.sample_rate) {
        return Err(OpenError::SampleRate(request.sample_rate));
    }
    if !(1..=MAX_LEAD_BLOCKS).contains(&request.lead_blocks) {
        return Err(OpenError::Lead(request.lead_blocks));
    }
    if request.first_frame > MAX_FIRST_FRAME {
        return Err(OpenError::FirstFrame(request.first_frame));
    }
    match &request.output {
        Output::Unpaced { .. } if request.first_frame > 0 => Err(OpenError::Resumed),
        Output::Unpaced { .. } if request.tape.as_ref().is_none_or(|tape| tape.master.is_none()) => Err(OpenError::NoRecording),
        Output::Unpaced { frames } if *frames > MAX_RECORDING_FRAMES => Err(OpenError::TooLong(*frames)),
        Output::Unpaced { .. } | Output::Default | Output::Named(_) => Ok(()),
    }
}

fn unpaced_opened(sample_rate: u32) -> DeviceReply {
    let channels = LANE_CHANNELS as u32;
    DeviceReply::Opened { device: "unpaced".into(), sample_rate, period_frames: BLOCK_FRAMES as u32, channels }
}

fn begin_playback(
    request: &OpenDevice,
    baton: &Arc<Baton>,
    clients: &Clients,
    events: &Sender<Event>,
    now: Instant,
) -> (Playback, Vec<DeviceReply>) {
    let target = match &request.output {
        Output::Default => Target::Any,
        Output::Named(name) => Target::parse(name),
        Output::Unpaced { frames } => {
            let opened = unpaced_opened(request.sample_rate);
            return (Playback::Unpaced { frames: *frames, state: Rendering::NotBegun }, vec![opened]);
        }
    };
    let mut outputs = Outputs::new(target, Wanted::of(request), Arc::clone(baton), clients.clone(), events.clone());
    let replies = outputs.open(now);
    (Playback::Clocked(Box::new(outputs)), replies)
}
