//! Audio runtimes: what reaches the lane, and what a failing program does to it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ipc::fault::{Fault, FaultKind};
use ipc::lane::SILENCE;
use ipc::limits::BLOCK_FRAMES;
use ipc::message::{HostReply, HostRequest};

use crate::fixture::{Assist, LEFT, Mode, RIGHT, line_of};
use crate::harness::{Host, block, expected, start};

fn fault_of(reply: &HostReply) -> Option<(Fault, bool)> {
    match reply {
        HostReply::Faulted { fault, held, .. } => Some((fault.clone(), *held)),
        _ => None,
    }
}

#[test]
fn both_channels_reach_the_lane_block_by_block() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::sounding().artifact(), "audio", 48_000);
    host.wait_until_started();
    for number in 0..500 {
        assert_eq!(block(&reader, number), expected(number + 1), "block {number}");
    }
    host.stop();
    assert_eq!(host.log_lines(), ["Successfully initialized runtime: audio", "Destroying runtime: audio"]);
}

#[test]
fn the_artifact_is_released_before_the_runtime_has_started() {
    let mut host = Host::start();
    host.start_runtime(&Assist::sounding().artifact(), "audio", 48_000);
    host.wait_until_started();
    let loaded = host.seen.iter().position(|reply| matches!(reply, HostReply::Loaded { .. }));
    let started = host.seen.iter().position(|reply| matches!(reply, HostReply::Started { .. }));
    assert!(loaded.is_some() && loaded < started);
}

#[test]
fn audio_without_a_lane_is_refused() {
    let mut host = Host::start();
    let artifact = host.publish(&Assist::sounding().artifact());
    host.send(HostRequest::Start(start(artifact, None, "AudioWorkletRuntime", 48_000)));
    assert!(host.wait_for_refusal().message.contains("`audio` needs a lane"));
}

#[test]
fn a_missing_or_impossible_output_is_silent() {
    let mut host = Host::start();
    let assist = Assist::default().with_config("audioRuntime.audioOutBufferRAddress", "16300", 12); // Its end lies outside.
    let reader = host.start_runtime(&assist.artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 3), SILENCE);
}

#[test]
fn outputs_may_be_word_indices() {
    let mut host = Host::start();
    let assist = Assist::default().with_config("audioRuntime.audioOutBufferLAddress", &(LEFT / 4).to_string(), 12).with_config(
        "audioRuntime.audioOutBufferRAddress",
        &(RIGHT / 4).to_string(),
        13,
    );
    let reader = host.start_runtime(&assist.artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 0), expected(1));
}

#[test]
fn a_tick_waits_for_what_it_is_to_hear_and_hears_its_own_block() {
    let mut host = Host::start();
    // What comes in goes out again from where it lies.
    let paths = ["audioRuntime.audioInBufferLAddress", "audioRuntime.audioInBufferRAddress"];
    let out = ["audioRuntime.audioOutBufferLAddress", "audioRuntime.audioOutBufferRAddress"];
    let assist = (10..).zip(paths.into_iter().chain(out)).fold(Assist::default(), |assist, (line, path)| {
        assist.with_config(path, if path.contains("BufferL") { "2048" } else { "2176" }, line)
    });
    let (reader, mut input) = host.start_listening(&assist.artifact(), 48_000);
    host.wait_until_started();
    for number in 0..300 {
        // It may run, but for its input.
        reader.demand_rt(number + 1);
        let heard = [[number as f32 + 0.5; BLOCK_FRAMES], [-(number as f32); BLOCK_FRAMES]];
        input.write_rt(&heard);
        input.wake_rt();
        assert_eq!(block(&reader, number), heard, "block {number}");
    }
    host.stop();
}

#[test]
fn a_program_without_buffer_runs_nothing_and_says_so_once() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist { without_buffer: true, ..Assist::sounding() }.artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 20), SILENCE, "`main` is never called by this type");
    host.stop();
    let lines = host.log_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("no export `buffer`")).count(), 1, "{lines:?}");
}

#[test]
fn denormals_are_flushed_while_audio_runs() {
    let mut host = Host::start();
    let assist = Assist::default().with_config("audioRuntime.audioOutBufferLAddress", "halved", 12);
    let reader = host.start_runtime(&assist.artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 2)[0][0].to_bits(), 0);
}

#[test]
fn after_a_trap_the_block_is_silent_and_the_next_one_sounds() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::failing(Mode::Division, 4, 6).large().artifact(), "audio", 48_000);
    host.wait_until_started();
    for number in 0..40 {
        let counter = number + 1;
        let heard = if (4..6).contains(&counter) { SILENCE } else { expected(counter) };
        assert_eq!(block(&reader, number), heard, "block {number}");
    }
    let (fault, held) = host.wait_for(fault_of);
    assert_eq!((fault.kind, fault.tick, fault.line, held), (FaultKind::DivisionByZero, 3, Some(line_of(Mode::Division)), false));
    assert_eq!(fault.block.unwrap().id, "assist");
    let status = host.wait_for_status(|status| status.ticks >= 40);
    assert!(!status.is_held);
}

#[test]
fn every_failure_is_told_apart_with_its_line() {
    let kinds = [
        (Mode::Division, FaultKind::DivisionByZero),
        (Mode::Overflow, FaultKind::IntegerOverflow),
        (Mode::Outside, FaultKind::OutOfBounds),
        (Mode::Runaway, FaultKind::Runaway),
        (Mode::Unreachable, FaultKind::Trap),
        // The line that called the library is the one to look at.
        (Mode::InLibrary, FaultKind::DivisionByZero),
        (Mode::Recursion, FaultKind::StackOverflow),
    ];
    for (mode, kind) in kinds {
        let mut host = Host::start();
        let reader = host.start_runtime(&Assist::failing(mode, 2, 3).large().artifact(), "audio", 48_000);
        host.wait_until_started();
        assert_eq!(block(&reader, 1), SILENCE, "{mode:?}");
        assert_eq!(block(&reader, 2), expected(3), "{mode:?}");
        let (fault, _) = host.wait_for(fault_of);
        assert_eq!((fault.kind, fault.tick), (kind, 1), "{mode:?} {fault:?}");
        assert_eq!(fault.line, Some(line_of(mode)), "{mode:?}");
    }
}

#[test]
fn a_program_that_keeps_failing_is_held_and_its_lane_stays_served() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::failing(Mode::Runaway, 3, i32::MAX).artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 1), expected(2));
    assert_eq!(block(&reader, 200), SILENCE);
    let (last, held) = host.wait_for(|reply| fault_of(reply).filter(|(_, held)| *held));
    assert!(held);
    let faults: Vec<Fault> = host.seen.iter().filter_map(fault_of).map(|(fault, _)| fault).collect();
    let ticks: u64 = faults.iter().map(|fault| fault.repeats + 1).sum();
    assert_eq!(ticks, 16, "held after sixteen failing ticks, and each is in a report: {faults:?}");
    assert_eq!((faults[0].tick, faults[0].repeats), (2, 0), "the first is reported by itself");
    assert_eq!(last.kind, FaultKind::Runaway);
    assert!(host.wait_for_status(|status| status.is_held).is_held);
    host.stop();
}

#[test]
fn fifteen_failures_in_a_row_do_not_hold_a_program() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::failing(Mode::Outside, 3, 18).large().artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 16), SILENCE);
    assert_eq!(block(&reader, 17), expected(18));
    assert!(!host.wait_for_status(|status| status.ticks > 17).is_held);
}

#[test]
fn a_program_that_asks_for_more_memory_is_refused_and_counted_and_plays_on() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::failing(Mode::Growth, 0, 0).artifact(), "audio", 48_000);
    host.wait_until_started();
    assert_eq!((block(&reader, 0), block(&reader, 40)), (expected(1), expected(41)));
    let status = host.wait_for_status(|status| status.ticks >= 41);
    assert!(status.refused_growth >= 41, "once in each tick: {status:?}");
    let said = |reply: &HostReply| matches!(reply, HostReply::Log { line, .. } if line.contains("more memory"));
    host.wait_for(|reply| said(reply).then_some(()));
    host.wait_for_status(|_| true);
    assert_eq!(host.seen.iter().filter(|reply| said(reply)).count(), 1);
}

#[test]
fn a_sample_that_is_not_a_number_is_replaced_and_counted() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::failing(Mode::NotANumber, 0, 0).artifact(), "audio", 48_000);
    host.wait_until_started();
    let mut heard = expected(10);
    heard[0][1] = 0.0;
    assert_eq!(block(&reader, 9), heard);
    let (fault, held) = host.wait_for(fault_of);
    assert_eq!((fault.kind, fault.line, held), (FaultKind::NonFinite, None, false));
    let status = host.wait_for_status(|status| status.ticks >= 10);
    assert_eq!(status.non_finite, status.ticks, "one in each block");
}

#[test]
fn a_runtime_fades_out_when_it_ends() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::sounding().artifact(), "audio", 48_000);
    host.wait_until_started();
    block(&reader, 20);
    let has_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A device that takes one block after the other, as the live one does.
        scope.spawn(|| {
            while !has_stopped.load(Relaxed) {
                let next = reader.written_rt();
                reader.demand_rt(next + 1);
                reader.wait_until_written_rt(next, Duration::from_millis(5));
            }
        });
        host.stop();
        has_stopped.store(true, Relaxed);
    });
    let end = reader.written_rt();
    let mut last = SILENCE;
    assert!(reader.read_rt(end - 1, &mut last));
    assert_eq!(last[0][127], 0.0, "it ends in silence");
    assert!(last[0][0] > 0.0 && last[0][0] < expected(end)[0][0], "and was quieter before");
}

#[test]
fn without_a_supervisor_the_host_ends_by_itself() {
    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::sounding().artifact(), "audio", 48_000);
    host.wait_until_started();
    block(&reader, 5);
    assert!(host.abandon());
}

#[test]
fn a_second_program_is_refused_while_one_runs_and_welcome_after() {
    let mut host = Host::start();
    let artifact = Assist::sounding().artifact();
    host.start_runtime(&artifact, "audio", 48_000);
    host.wait_until_started();
    host.start_runtime(&artifact, "audio", 48_000);
    assert!(host.wait_for_refusal().message.contains("already runs"));
    host.stop();
    let reader = host.start_runtime(&artifact, "audio", 48_000);
    host.wait_until_started();
    assert_eq!(block(&reader, 0), expected(1));
}

#[test]
fn segments_of_another_session_are_not_mapped() {
    let mut host = Host::start();
    let other = ipc::segment::Session::open().unwrap();
    let foreign = Assist::sounding().artifact().publish(other.id(), 1).unwrap();
    let (lane, _reader) = host.lane();
    host.send(HostRequest::Start(start(foreign.reference().clone(), Some(lane), "audio", 48_000)));
    assert!(host.wait_for_refusal().message.contains("another session"));
}
