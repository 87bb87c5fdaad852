//! Tapes: recordings of the sound, begun with the session or while it plays (the verb `tape`). Part of the state machine: see the
//! parent module.
//!
//! There is one tape at a time. It begins and ends at a boundary: with the next block, or with that of the next beat of the
//! session, of its tempo when that is asked for. The device host writes it; this remembers that it is to be written, so that
//! the next device host goes on with it, in files of their own, and so does the next supervisor.

use std::path::{Path, PathBuf};

use ipc::limits::BLOCK_FRAMES;
use ipc::message::{DeviceReply, Tape};
use serde::{Deserialize, Serialize};

use super::{Action, Device, Policy, Report, Verdict};
use crate::control::Ticket;
use crate::control::protocol::{Answer, ErrorCode, ErrorReply, TapeBoundary, TapeNow, TapeStatus};

/// What a tape records, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapeFiles {
    /// The file of what the device is given.
    pub master: Option<PathBuf>,
    /// The folder of what each runtime adds to it.
    pub stems: Option<PathBuf>,
}

impl TapeFiles {
    /// Whether anything is recorded.
    pub fn is_empty(&self) -> bool {
        self.master.is_none() && self.stems.is_none()
    }

    /// Folders that are written into.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.master.iter().filter_map(|master| master.parent()).chain(self.stems.as_deref())
    }
}

/// What another supervisor must know of a tape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeNote {
    tape: Tape,
    is_told: bool,
    /// The first block that is not wanted any more, once it is to be ended.
    end_block: Option<u64>,
    from_block: Option<u64>,
    part_from: Option<(u32, u64)>,
}

/// The tape that is written.
#[derive(Clone, Debug)]
struct Taped {
    note: TapeNote,
    starter: Option<Ticket>,
    stopper: Option<Ticket>,
}

/// What is known of tapes.
#[derive(Debug, Default)]
pub(super) struct Taping {
    last_number: u64,
    taped: Option<Taped>,
    /// What the last one is called by.
    name: Option<PathBuf>,
}

impl Taping {
    fn load(&mut self, files: TapeFiles, replaces: bool, from_block: u64, starter: Option<Ticket>) -> &mut TapeNote {
        self.last_number += 1;
        let TapeFiles { master, stems } = files;
        self.name = master.clone().or(stems.clone());
        let tape = Tape { number: self.last_number, part: 1, master, stems, replaces, from_block };
        let note = TapeNote { tape, is_told: false, end_block: None, from_block: None, part_from: None };
        &mut self.taped.insert(Taped { note, starter, stopper: None }).note
    }

    fn of(&mut self, number: u64) -> Option<&mut Taped> {
        self.taped.as_mut().filter(|taped| taped.note.tape.number == number)
    }
}

fn files_of(tape: &Tape) -> TapeFiles {
    TapeFiles { master: tape.master.clone(), stems: tape.stems.clone() }
}

fn shown(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn now(tape: &Tape, is_taping: bool, block: u64, frames: u64) -> Answer {
    let (master, stems) = (shown(tape.master.as_ref()), shown(tape.stems.as_ref()));
    Answer::Tape(TapeNow { is_taping, master, stems, block, frames })
}

fn answer(ticket: Option<Ticket>, outcome: Result<Answer, ErrorReply>, actions: &mut Vec<Action>) {
    actions.extend(ticket.map(|ticket| Action::Answer { ticket, outcome: Box::new(outcome) }));
}

impl Policy {
    /// Records from the first block on. Files of these names are replaced.
    pub fn begin_with_tape(&mut self, files: TapeFiles) {
        self.taping.load(files, true, 0, None);
    }

    /// The tape that is to be written, for the device host that is about to be started or to open its output.
    pub fn tape(&self) -> Option<TapeFiles> {
        self.taping.taped.as_ref().map(|taped| files_of(&taped.note.tape))
    }

    /// What the tape is called that is written, or was the last.
    pub fn tape_name(&self) -> Option<&Path> {
        self.taping.name.as_deref()
    }

    pub(super) fn start_tape(
        &mut self,
        now_ms: u64,
        ticket: Ticket,
        files: TapeFiles,
        at: TapeBoundary,
        actions: &mut Vec<Action>,
    ) -> Result<(), ErrorReply> {
        if self.taping.taped.is_some() {
            let name = self.taping.name.clone().unwrap_or_default();
            let message = format!("the sound is being recorded into {}; end that first (`tape stop`)", name.display());
            return Err(ErrorReply::new(ErrorCode::WrongState, message));
        }
        let from_block = self.tape_boundary(now_ms, at, 0)?;
        let is_told = matches!(self.device, Device::Opening { .. } | Device::Open);
        let note = self.taping.load(files, false, from_block, Some(ticket));
        // Otherwise it is told when it opens its output.
        note.is_told = is_told;
        if is_told {
            actions.push(Action::StartTape(note.tape.clone()));
        }
        Ok(())
    }

    pub(super) fn stop_tape(
        &mut self,
        now_ms: u64,
        ticket: Ticket,
        at: TapeBoundary,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Answer>, ErrorReply> {
        let block = self.frames / BLOCK_FRAMES as u64;
        // What has not begun ends, at the earliest, a beat after it does.
        let not_before = self.taping.taped.as_ref().map_or(0, |taped| taped.note.tape.from_block.saturating_add(1));
        let end_block = self.tape_boundary(now_ms, at, not_before);
        let Some(taped) = &mut self.taping.taped else {
            return Err(ErrorReply::new(ErrorCode::WrongState, "the sound is not being recorded"));
        };
        if taped.note.end_block.is_some() {
            return Err(ErrorReply::new(ErrorCode::WrongState, "the recording is being ended already"));
        }
        let end_block = end_block?;
        if !taped.note.is_told {
            let Some(Taped { note, starter, .. }) = self.taping.taped.take() else { return Ok(None) };
            answer(starter, Err(ErrorReply::new(ErrorCode::NotApplied, "the recording was ended before it began")), actions);
            return Ok(Some(now(&note.tape, false, block, 0)));
        }
        taped.note.end_block = Some(end_block);
        taped.stopper = Some(ticket);
        actions.push(Action::StopTape { number: taped.note.tape.number, end_block });
        Ok(None)
    }

    /// The block of a boundary that is still ahead; 0 for the next one.
    fn tape_boundary(&self, now_ms: u64, at: TapeBoundary, not_before: u64) -> Result<u64, ErrorReply> {
        match at {
            TapeBoundary::Frame => Ok(0),
            TapeBoundary::Beat => self.block_of_next_beat(now_ms, not_before).ok_or_else(|| {
                let message =
                    "the transport stands still, so that no beat will come; let it run (`tempo --start`), or leave the boundary out";
                ErrorReply::new(ErrorCode::WrongState, message)
            }),
        }
    }

    /// The tape that a device host begins with.
    pub(super) fn tape_to_open(&mut self) -> Option<Tape> {
        let taped = self.taping.taped.as_mut()?;
        taped.note.is_told = true;
        Some(taped.note.tape.clone())
    }

    /// What the device host says about a tape.
    pub(super) fn tape_said(&mut self, reply: DeviceReply, actions: &mut Vec<Action>) {
        match reply {
            DeviceReply::TapeBegun { number, part, block, earlier_frames } => self.tape_begun(number, part, block, earlier_frames, actions),
            DeviceReply::TapeRefused { number, reason } => {
                let Some(Taped { starter, stopper, .. }) = self.take_tape(number) else { return };
                if starter.is_none() {
                    self.verdict = self.verdict.max(Verdict::Environment);
                    actions.push(Action::Tell(Report::RecordingFailed { path: None, reason: reason.clone() }));
                }
                for ticket in [starter, stopper] {
                    answer(ticket, Err(ErrorReply::new(ErrorCode::FileFailed, reason.clone())), actions);
                }
            }
            DeviceReply::TapeEnded { number, block, frames } => {
                let Some(Taped { note, starter, stopper }) = self.take_tape(number) else { return };
                answer(starter, Err(ErrorReply::new(ErrorCode::NotApplied, "the recording has been ended")), actions);
                answer(stopper, Ok(now(&note.tape, false, block, frames)), actions);
                actions.push(Action::Tell(Report::TapeEnded { files: files_of(&note.tape), block, frames }));
            }
            DeviceReply::RecordingFailed { reason, ended } => {
                self.verdict = self.verdict.max(Verdict::Environment);
                actions.push(Action::Tell(Report::RecordingFailed { path: None, reason: reason.clone() }));
                let Some(Taped { starter, stopper, .. }) = ended.and_then(|number| self.take_tape(number)) else { return };
                for ticket in [starter, stopper] {
                    answer(ticket, Err(ErrorReply::new(ErrorCode::FileFailed, reason.clone())), actions);
                }
            }
            DeviceReply::Opened { .. } | DeviceReply::Failed { .. } | DeviceReply::Moved { .. } | DeviceReply::LaneMapped { .. } => {}
            DeviceReply::LaneRefused { .. } | DeviceReply::LaneRemoved { .. } | DeviceReply::LaneStarted { .. } => {}
            DeviceReply::Status(_) | DeviceReply::Midi(_) | DeviceReply::MidiHeld(_) | DeviceReply::MidiPort(_) => {}
            DeviceReply::MidiFilesBegin { .. } => {}
            DeviceReply::MidiUnavailable { .. } | DeviceReply::Tempo(_) | DeviceReply::ClockLost => {}
            DeviceReply::Devices(_) | DeviceReply::Stopped { .. } => {}
        }
    }

    fn tape_begun(&mut self, number: u64, part: u32, block: u64, earlier_frames: Option<u64>, actions: &mut Vec<Action>) {
        let Some(Taped { note, starter, .. }) = self.taping.of(number) else { return };
        let before = note.part_from.replace((part, block));
        note.tape.part = part;
        let from_block = *note.from_block.get_or_insert(block);
        let starter = starter.take();
        let (tape, files) = (note.tape.clone(), files_of(&note.tape));
        answer(starter, Ok(now(&tape, true, from_block, 0)), actions);
        if before.is_some_and(|(before, _)| before == part) {
            return; // Said once more, to a supervisor that has taken the session back.
        }
        let start = |block: u64| block.saturating_mul(BLOCK_FRAMES as u64);
        let earlier_end = before.zip(earlier_frames).map(|((_, from), frames)| start(from).saturating_add(frames));
        let missed_frames = earlier_end.map(|end| start(block).saturating_sub(end));
        actions.push(Action::Tell(Report::TapeBegun { files, part, block, missed_frames }));
    }

    fn take_tape(&mut self, number: u64) -> Option<Taped> {
        self.taping.taped.take_if(|taped| taped.note.tape.number == number)
    }

    /// The next device host goes on with the tape; one that was being ended has come to its end.
    pub(super) fn tape_lost(&mut self, actions: &mut Vec<Action>) {
        let Some(taped) = &mut self.taping.taped else { return };
        if taped.note.end_block.is_none() {
            taped.note.tape.part += u32::from(std::mem::take(&mut taped.note.is_told));
            return;
        }
        let reason = "the device host died before the recording was complete; it can be read up to about a second before";
        let Some(Taped { starter, stopper, .. }) = self.taping.taped.take() else { return };
        for ticket in [starter, stopper] {
            answer(ticket, Err(ErrorReply::new(ErrorCode::NotApplied, reason)), actions);
        }
    }

    /// The session ends; the device host completes the tape.
    pub(super) fn release_tape(&mut self, actions: &mut Vec<Action>) {
        let Some(taped) = &mut self.taping.taped else { return };
        for ticket in [taped.starter.take(), taped.stopper.take()] {
            answer(ticket, Err(ErrorReply::new(ErrorCode::ShuttingDown, "the session is ending")), actions);
        }
    }

    pub(super) fn tape_status(&self) -> Option<TapeStatus> {
        let note = &self.taping.taped.as_ref()?.note;
        let from_block = note.from_block?;
        Some(TapeStatus {
            master: shown(note.tape.master.as_ref()),
            stems: shown(note.tape.stems.as_ref()),
            part: note.tape.part,
            block: from_block,
            frames: self.frames.saturating_sub(from_block.saturating_mul(BLOCK_FRAMES as u64)),
        })
    }

    pub(super) fn tape_note(&self) -> (u64, Option<TapeNote>) {
        (self.taping.last_number, self.taping.taped.as_ref().map(|taped| taped.note.clone()))
    }

    pub(super) fn take_tape_back(&mut self, (last_number, note): (u64, Option<TapeNote>)) {
        self.taping.last_number = last_number;
        self.taping.name = note.as_ref().and_then(|note| note.tape.master.clone().or(note.tape.stems.clone()));
        self.taping.taped = note.map(|note| Taped { note, starter: None, stopper: None });
    }

    /// The last supervisor may have died before it told the device host, which answers again if it did not. Where there is no
    /// device host any more, the next one goes on.
    pub(super) fn tape_comes_home(&mut self, actions: &mut Vec<Action>) {
        if self.device != Device::Open {
            return self.tape_lost(actions);
        }
        let Some(Taped { note, .. }) = &mut self.taping.taped else { return };
        note.is_told = true;
        actions.push(match note.end_block {
            Some(end_block) => Action::StopTape { number: note.tape.number, end_block },
            None => Action::StartTape(note.tape.clone()),
        });
    }
}
