//! Programs handed to a running tick thread: the next tick runs the new one, and the old one comes back to be freed.

use std::time::{Duration, Instant};

use ipc::lane::{self, LaneReader};
use ipc::segment::Session;
use runtime_host::host::engine::{FunctionImports, Loader};
use runtime_host::host::program::Program;
use runtime_host::host::tick_thread::{TickThread, TickThreadOptions};
use runtime_host::registry::runtime::Assembly;
use runtime_host::registry::{audio, settings};

use crate::fixture::{Assist, COUNTER, Mode};
use crate::harness::{block, expected, start};

/// An initialised audio program.
fn program(assist: &Assist) -> Box<Program> {
    let mut engine = Loader::new().unwrap().load_checked(&assist.artifact(), FunctionImports::Refused).unwrap();
    engine.initialise().unwrap();
    let settings = settings(engine.manifest());
    let binding = (audio::TYPE.bind)(&audio::TYPE, &settings, &engine);
    Box::new(Program::new(engine, binding))
}

fn tick_thread(session: &Session, first: &Assist) -> (TickThread, LaneReader) {
    let lane = lane::create(session.id(), 1).unwrap();
    let reader = LaneReader::open(lane.reference()).unwrap();
    // The artifact is already loaded; the type's factory looks at lane and rate only.
    let request = start(lane.reference().clone(), Some(lane.reference().clone()), "audio", 48_000);
    let runtime = (audio::TYPE.build)(&Assembly { start: &request }).unwrap();
    let options = TickThreadOptions { runtime_type: &audio::TYPE, is_offline: true, on_end: Box::new(|| {}) };
    (TickThread::start(runtime, program(first), options).unwrap(), reader)
}

fn take_retired(tick_thread: &mut TickThread) -> Box<Program> {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match tick_thread.take_retired() {
            Some(program) => return program,
            None => assert!(Instant::now() < give_up, "the old program never came back"),
        }
        std::thread::yield_now();
    }
}

fn counter(program: &Program) -> i32 {
    i32::from_le_bytes(program.engine().bytes_rt(0, COUNTER, 4).unwrap().try_into().unwrap())
}

#[test]
fn the_new_program_runs_from_the_next_tick_and_the_old_one_comes_back() {
    let session = Session::open().unwrap();
    let (mut thread, reader) = tick_thread(&session, &Assist::sounding());
    block(&reader, 9);
    let new = Assist { defaults: vec![(COUNTER, 1_000)], ..Assist::sounding() };
    assert!(thread.replace(program(&new)).is_ok());
    let ticks = thread.counters().ticks();
    block(&reader, ticks + 8);
    let old = take_retired(&mut thread);
    let swapped_at = counter(&old) as u64;
    assert!(swapped_at >= 10);
    assert_eq!(block(&reader, swapped_at), expected(1_001), "not one tick in between");
    thread.request_stop();
    thread.join();
}

#[test]
fn a_new_program_releases_a_held_runtime() {
    let session = Session::open().unwrap();
    let (mut thread, reader) = tick_thread(&session, &Assist::failing(Mode::Division, 0, i32::MAX));
    block(&reader, 30);
    assert!(thread.counters().is_held());
    assert!(thread.replace(program(&Assist::sounding())).is_ok());
    let ticks = thread.counters().ticks();
    block(&reader, ticks + 8);
    assert_eq!(counter(&take_retired(&mut thread)), 16, "it did not run after it was held");
    assert!(!thread.counters().is_held());
    thread.request_stop();
    thread.join();
}

#[test]
fn more_programs_than_there_is_room_for_are_handed_back_at_once() {
    let session = Session::open().unwrap();
    let (mut thread, _reader) = tick_thread(&session, &Assist::sounding());
    // Nobody asks for a block, so nothing is taken.
    let refused = (0..8).filter(|_| thread.replace(program(&Assist::sounding())).is_err()).count();
    assert!(refused > 0);
    thread.request_stop();
    thread.join();
}
