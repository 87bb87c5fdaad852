//! The runtime type `midi`: calls `main` so many times a second, and sends notes and controllers after each call
//! (LANGUAGE §20.7, DESIGN §6).
//!
//! Its events go into a MIDI lane ([`ipc::midi`]), stamped with the time their tick was due; the device host sends them. The
//! tick thread completes a tick in the lane with one store, so that a host which takes over goes on with the first tick that
//! was not delivered: like the blocks of an audio lane, events are neither repeated nor lost.
//!
//! - [`routes`]: the directives of a program, and where their items lie. Control thread.
//! - [`inputs`]: what comes in, and where it goes; of every runtime type. Both threads.
//! - [`notes`]: what is sent, from what items hold and what each route did last. Tick thread.

pub mod inputs;
pub mod notes;
pub mod routes;

use std::time::Duration;

use ipc::limits::{MAX_MIDI_ROUTES, TIMER_RATE_RANGE_HZ};
use ipc::midi::MidiLaneWriter;
use ipc::state::Clock;

use super::runtime::{Assembly, BuildError, Resume, Runtime};
use super::schema::{ConfigKey, ValueKind};
use super::timer::{self, TimerRuntime};
use super::{RuntimeType, Settings};
use crate::host::engine::Engine;
use crate::host::live::stage::Sounding;
use crate::host::program::{Binding, Program};
use crate::realtime::{monotonic_ns_rt, sleep_until_rt};
use notes::Notes;

const SAMPLE_RATE: &str = "midiRuntime.sampleRate";

/// Events that one tick sends at most: of every route the end of a note and the beginning of another.
const MOST_EVENTS: u64 = 2 * MAX_MIDI_ROUTES as u64;

/// From one look for room in the lane to the next, where no clock paces the ticks.
const ROOM_INTERVAL_NS: u64 = 200_000;

pub const TYPE: RuntimeType = RuntimeType {
    id: "midi",
    aliases: &["WebWorkerMIDIRuntime"],
    config: &[ConfigKey { path: SAMPLE_RATE, kind: ValueKind::NumberAtLeast(1.0) }],
    sample_rate_key: SAMPLE_RATE,
    default_sample_rate_hz: 50,
    sample_rate_range_hz: TIMER_RATE_RANGE_HZ,
    bind,
    build,
    stall_patience_ms: 250,
    ..timer::BASE
};

/// Binds the program's export, and the routes by which notes and controllers leave.
fn bind(ty: &RuntimeType, settings: &Settings, engine: &Engine) -> Binding {
    let midi = routes::outputs(engine.manifest()).0.into();
    let midi_in = routes::inputs(engine.manifest()).0.into_iter().chain(inputs::callbacks(settings, engine)).collect();
    Binding { export: engine.export(ty.tick_export), midi, midi_in, ..Binding::default() }
}

/// Builds a runtime that goes on with the first tick which its lane does not have.
fn build(assembly: &Assembly<'_>) -> Result<Box<dyn Runtime>, BuildError> {
    let reference = assembly.start.lane.as_ref().ok_or(BuildError::NoLane(TYPE.id))?;
    let lane = MidiLaneWriter::open(reference)?;
    // What the state segment says may be a tick behind: it is told after the lane.
    let resume = assembly.resume.map(|resume| Resume { tick: lane.next_tick(), ..resume });
    let timer = TimerRuntime::build(&Assembly { start: assembly.start, resume })?;
    let notes = Notes::new(&lane.states());
    Ok(Box::new(MidiRuntime { timer, lane, notes, has_ended: false }))
}

struct MidiRuntime {
    timer: TimerRuntime,
    lane: MidiLaneWriter,
    notes: Notes,
    /// The last notes have been ended.
    has_ended: bool,
}

impl Runtime for MidiRuntime {
    fn first_tick(&self) -> u64 {
        self.lane.next_tick()
    }

    fn tick_ns(&self) -> u64 {
        self.timer.tick_ns()
    }

    fn wait_rt(&mut self, patience: Duration) -> bool {
        // Where no clock paces it, whoever reads the lane does: nothing is left out because it ticks too fast.
        if self.timer.is_free() && !self.lane.has_room_rt(MOST_EVENTS) {
            sleep_until_rt(monotonic_ns_rt().saturating_add(ROOM_INTERVAL_NS));
            return false;
        }
        self.timer.wait_rt(patience)
    }

    fn sample_inputs_rt(&mut self, _tick: u64, _program: &mut Program) {}

    fn publish_rt(&mut self, sounding: Sounding<'_>) -> u64 {
        let due_ns = self.timer.tick_due_ns();
        self.notes.send_rt(sounding.program, due_ns, &mut self.lane);
        self.lane.complete_rt(self.notes.states_rt(), due_ns.saturating_add(self.timer.tick_ns()));
        0
    }

    fn clock_rt(&self) -> Option<Clock> {
        self.timer.clock_rt()
    }

    fn lost_ticks(&self) -> u64 {
        self.timer.lost_ticks()
    }

    fn begin_end_rt(&mut self) {
        // Nothing waits for one more tick: the last notes end with what was due last.
        let due_ns = self.timer.tick_due_ns();
        self.notes.send_rt(None, due_ns, &mut self.lane);
        self.lane.complete_rt(self.notes.states_rt(), u64::MAX);
        self.has_ended = true;
    }

    fn has_ended_rt(&self) -> bool {
        self.has_ended
    }
}

#[cfg(test)]
mod tests {
    use ipc::message::StartRuntime;
    use ipc::midi::{MidiEvent, MidiLaneReader, NOTE_ON};
    use ipc::segment::Session;

    use super::*;

    #[test]
    fn where_no_clock_paces_it_a_tick_waits_for_room_for_all_that_it_may_send() {
        let session = Session::open().unwrap();
        let lane = ipc::midi::create(session.id(), 1).unwrap();
        let mut reader: MidiLaneReader = MidiLaneReader::open(lane.reference()).unwrap();
        let start = StartRuntime {
            runtime: "arp".into(),
            generation: 1,
            runtime_type: TYPE.id.into(),
            artifact: lane.reference().clone(),
            sample_rate: 50,
            lane: Some(lane.reference().clone()),
            base_directory: "/".into(),
            is_offline: true,
            state: None,
            run_until: Some(0),
            wiring: Box::default(),
        };
        let timer = TimerRuntime::build(&Assembly { start: &start, resume: None }).unwrap();
        let lane = MidiLaneWriter::open(lane.reference()).unwrap();
        let mut runtime = MidiRuntime { timer, notes: Notes::new(&[]), lane, has_ended: false };
        let mut ticks = 0;
        while runtime.wait_rt(Duration::ZERO) {
            (0..MOST_EVENTS)
                .for_each(|_| assert!(runtime.lane.push_rt(&MidiEvent { due_ns: 1, tick: ticks, port: 1, message: [NOTE_ON, 1, 1] })));
            runtime.lane.complete_rt(&[], 0);
            ticks += 1;
        }
        assert!(ticks > 4, "{ticks} ticks");
        assert_eq!(std::iter::from_fn(|| reader.next_event()).count() as u64, ticks * MOST_EVENTS);
        assert!(runtime.wait_rt(Duration::ZERO), "there is room again");
    }
}
