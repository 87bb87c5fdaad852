//! The control thread's side of tapes: one at a time is loaded, turned, stopped and put away.
//!
//! Nothing here waits, except where the session begins or ends with a tape. Requests are answered by the tape's number, and
//! asked once more they are answered once more: a supervisor that takes the session back need not know what was heard.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use ipc::limits::BLOCK_FRAMES;
use ipc::message::{DeviceReply, Tape};

use super::TapeError;
use super::reel::Reel;
use super::writer::{Created, DISK_LIMIT, News, Recorder};
use crate::device::control::Event;
use crate::device::counters::Counters;
use crate::device::mixer::{Command, MixerControl};

/// The end of what is to end before the next block.
const AT_ONCE: u64 = 0;

/// How far a tape is.
enum Stage {
    /// Its files are being created.
    Creating(Box<Reel>),
    /// The mixer has it.
    Turning,
    /// The mixer has handed it back, after the block before this one; its files are being completed.
    Writing { block: u64 },
    /// It has failed, and the mixer still has it.
    Failed,
}

struct Loaded {
    tape: Tape,
    recorder: Recorder,
    /// The runtimes that have a stem, with their tracks.
    stems: Vec<(usize, String)>,
    stage: Stage,
    created: Option<Created>,
    begun_block: Option<u64>,
    /// The first block that is not wanted any more.
    end_wanted: Option<u64>,
    /// What the mixer has been told of that.
    end_sent: Option<u64>,
}

impl Loaded {
    fn of(tape: &Tape, recorder: Recorder, stage: Stage) -> Self {
        let (stems, created, begun_block) = Default::default();
        Self { tape: tape.clone(), recorder, stems, stage, created, begun_block, end_wanted: None, end_sent: None }
    }

    fn begun(&self) -> Option<DeviceReply> {
        let (Created { part, earlier_frames }, block) = (self.created?, self.begun_block?);
        Some(DeviceReply::TapeBegun { number: self.tape.number, part, block, earlier_frames })
    }

    /// Tells the mixer to hand it back before this block: once, and once more where that is at once.
    fn send_end(&mut self, block: u64, mixer: &mut MixerControl) {
        // There is room for it: see `Mixer::new`.
        if self.end_sent.is_none_or(|sent| block == AT_ONCE && sent != AT_ONCE) {
            self.end_sent = Some(block);
            let _ = mixer.send(Command::EndTape { block });
        }
    }
}

/// Where tapes are put in.
pub struct Deck {
    loaded: Option<Loaded>,
    /// How the tape before ended.
    last: Option<(u64, DeviceReply)>,
    sample_rate_hz: u32,
    counters: Arc<Counters>,
    events: Sender<Event>,
}

impl Deck {
    pub fn new(sample_rate_hz: u32, counters: Arc<Counters>, events: Sender<Event>) -> Self {
        Self { loaded: None, last: None, sample_rate_hz, counters, events }
    }

    /// Loads a tape that begins with the session, and waits until its files are there. The reel is for the mixer.
    pub fn load_first(&mut self, tape: &Tape) -> Result<Box<Reel>, TapeError> {
        let (first_in, first) = mpsc::channel();
        let (events, number) = (self.events.clone(), tape.number);
        // When the control thread has ended, nobody needs to know.
        let on_news = move |news| match news {
            News::Created(_) | News::NotCreated(_) => drop(first_in.send(news)),
            News::Failed(_) | News::Written { .. } => drop(events.send(Event::Tape { number, news })),
        };
        let (recorder, reel) = Recorder::start(tape, self.sample_rate_hz, &self.counters, on_news)?;
        match first.recv_timeout(DISK_LIMIT) {
            Ok(News::Created(created)) => {
                self.loaded = Some(Loaded { created: Some(created), ..Loaded::of(tape, recorder, Stage::Turning) });
                Ok(reel)
            }
            Ok(News::NotCreated(error) | News::Failed(error)) => Err(error),
            Ok(News::Written { .. }) | Err(_) => {
                Err(TapeError::Stuck { path: tape.master.clone().or(tape.stems.clone()).unwrap_or_default() })
            }
        }
    }

    /// Begins to load a tape, with stems of these runtimes on these tracks.
    pub fn load(&mut self, tape: &Tape, stems: Vec<(usize, String)>) -> Option<DeviceReply> {
        let number = tape.number;
        if let Some(loaded) = &self.loaded {
            return match loaded.tape.number == number {
                true => loaded.begun(),
                false => Some(refused(number, "another recording is still being completed; try again")),
            };
        }
        if let Some(end) = self.end_of(number) {
            return Some(end);
        }
        let events = self.events.clone();
        let on_news = move |news| drop(events.send(Event::Tape { number, news }));
        match Recorder::start(tape, self.sample_rate_hz, &self.counters, on_news) {
            Ok((recorder, mut reel)) => {
                if tape.stems.is_some() {
                    stems.iter().for_each(|(track, name)| reel.insert_rt(*track, recorder.add_stem(name, &self.counters)));
                }
                self.loaded = Some(Loaded { stems, ..Loaded::of(tape, recorder, Stage::Creating(reel)) });
                None
            }
            Err(error) => Some(refused(number, &error.to_string())),
        }
    }

    /// Records one more runtime's stem, if stems are recorded and it has none yet.
    pub fn add_stem(&mut self, track: usize, runtime: &str, mixer: &mut MixerControl) {
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.tape.stems.is_some()) else { return };
        // Whoever comes so late has no stem: the reel may be on its way back.
        if loaded.end_sent.is_some() || loaded.stems.iter().any(|(_, name)| name == runtime) {
            return;
        }
        match &mut loaded.stage {
            Stage::Creating(reel) => reel.insert_rt(track, loaded.recorder.add_stem(runtime, &self.counters)),
            Stage::Turning => {
                let tap = loaded.recorder.add_stem(runtime, &self.counters);
                // There is room for it: see `Mixer::new`. Were there none, the stem would be silent.
                let _ = mixer.send(Command::AddStem { track, tap });
            }
            Stage::Writing { .. } | Stage::Failed => return,
        }
        loaded.stems.push((track, runtime.to_owned()));
    }

    /// The runtimes on the tape, with their tracks. No other runtime may have one of these.
    pub fn stems(&self) -> &[(usize, String)] {
        self.loaded.as_ref().map(|loaded| &loaded.stems[..]).unwrap_or_default()
    }

    /// Stops a tape before this block. Answered when its files are complete.
    pub fn stop(&mut self, number: u64, end_block: u64, mixer: &mut MixerControl) -> Option<DeviceReply> {
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.tape.number == number) else {
            return Some(self.end_of(number).unwrap_or_else(|| refused(number, "there is no such recording")));
        };
        loaded.end_wanted = Some(end_block);
        if let Stage::Turning = loaded.stage {
            loaded.send_end(end_block, mixer);
        }
        None
    }

    /// The writer has something to tell.
    pub fn on_news(&mut self, number: u64, news: News, mixer: &mut MixerControl) -> Option<DeviceReply> {
        let loaded = self.loaded.as_mut().filter(|loaded| loaded.tape.number == number)?;
        match news {
            News::Created(created) => {
                let Stage::Creating(reel) = std::mem::replace(&mut loaded.stage, Stage::Turning) else { return None };
                loaded.created = Some(created);
                if !mixer.send(Command::BeginTape(reel)) {
                    self.loaded = None;
                    return Some(refused(number, "nothing is being played"));
                }
                if let Some(end_block) = loaded.end_wanted {
                    loaded.send_end(end_block, mixer);
                }
                None
            }
            News::NotCreated(error) => {
                self.loaded = None;
                Some(refused(number, &error.to_string()))
            }
            News::Failed(error) => {
                let reply = DeviceReply::RecordingFailed { reason: error.to_string(), ended: Some(number) };
                match loaded.stage {
                    Stage::Writing { .. } => self.loaded = None,
                    Stage::Creating(_) | Stage::Turning | Stage::Failed => {
                        loaded.stage = Stage::Failed;
                        loaded.send_end(AT_ONCE, mixer);
                    }
                }
                Some(self.remember(number, reply))
            }
            News::Written { frames } => {
                let Stage::Writing { block } = loaded.stage else { return None };
                self.loaded = None;
                Some(self.remember(number, DeviceReply::TapeEnded { number, block, frames }))
            }
        }
    }

    /// The mixer has recorded its first block.
    pub fn on_begun(&mut self, block: u64) -> Option<DeviceReply> {
        let loaded = self.loaded.as_mut()?;
        loaded.begun_block = Some(block);
        loaded.begun()
    }

    /// The mixer has handed the tape back.
    pub fn on_ended(&mut self, block: u64, reel: Box<Reel>) {
        drop(reel);
        let Some(loaded) = &mut self.loaded else { return };
        match loaded.stage {
            Stage::Failed => self.loaded = None,
            Stage::Creating(_) | Stage::Turning | Stage::Writing { .. } => {
                loaded.stage = Stage::Writing { block };
                loaded.recorder.begin_finish();
            }
        }
    }

    /// What a supervisor that was not there has to know.
    pub fn describe(&self) -> Option<DeviceReply> {
        let begun = self.loaded.as_ref().filter(|loaded| !matches!(loaded.stage, Stage::Failed)).and_then(Loaded::begun);
        begun.or_else(|| self.last.as_ref().map(|(_, end)| end.clone()))
    }

    /// Completes the tape at the end of the session, which has come to this frame, and waits for that.
    pub fn finish(&mut self, frames: u64) -> Option<DeviceReply> {
        let Loaded { tape, recorder, stage, .. } = self.loaded.take()?;
        let number = tape.number;
        let block = if let Stage::Writing { block } = stage { block } else { frames.div_ceil(BLOCK_FRAMES as u64) };
        let is_told = matches!(stage, Stage::Failed);
        let end = match recorder.finish() {
            Ok(frames) => DeviceReply::TapeEnded { number, block, frames },
            Err(error) => DeviceReply::RecordingFailed { reason: error.to_string(), ended: Some(number) },
        };
        (!is_told).then(|| self.remember(number, end))
    }

    /// A name for what is recorded, for messages.
    pub fn name(&self) -> Option<String> {
        let tape = &self.loaded.as_ref()?.tape;
        tape.master.as_ref().or(tape.stems.as_ref()).map(|path| path.display().to_string())
    }

    fn remember(&mut self, number: u64, reply: DeviceReply) -> DeviceReply {
        self.last = Some((number, reply.clone()));
        reply
    }

    fn end_of(&self, number: u64) -> Option<DeviceReply> {
        self.last.as_ref().filter(|(last, _)| *last == number).map(|(_, reply)| reply.clone())
    }
}

fn refused(number: u64, reason: &str) -> DeviceReply {
    DeviceReply::TapeRefused { number, reason: reason.to_owned() }
}
