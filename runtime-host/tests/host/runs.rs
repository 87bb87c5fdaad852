//! Runs without a clock: sets, dumps, captures, memories, failures.

use ipc::fault::FaultKind;
use ipc::limits::BULK_CHUNK_BYTES;
use ipc::message::{ElementValues, HostReply, ItemValue};

use crate::fixture::{Assist, BYTES, COUNTER, Mode, line_of};
use crate::harness::Host;

fn done(host: &mut Host) -> Vec<ItemValue> {
    host.wait_for(|reply| match reply {
        HostReply::RunDone { dumps } => Some(dumps.clone()),
        HostReply::Refused { reason, .. } => panic!("refused: {}", reason.message),
        HostReply::RunFailed { fault } => panic!("failed: {fault:?}"),
        _ => None,
    })
}

fn captured(host: &Host) -> Vec<u8> {
    let parts = host.seen.iter().filter_map(|reply| match reply {
        HostReply::RunCaptured(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    parts.collect::<Vec<_>>().concat()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn refusal_of(assist: &Assist, job: impl FnOnce(&mut ipc::message::RunJob)) -> String {
    let mut host = Host::start();
    host.run(&assist.artifact(), job);
    host.wait_for_refusal().message
}

#[test]
fn every_entry_is_called_so_many_times() {
    let mut host = Host::start();
    for cycles in [0, 1, 7] {
        host.run(&Assist::default().artifact(), |job| {
            job.cycles = cycles;
            job.dumps = names(&["assist:counter"]);
        });
        let values = ElementValues::Int(vec![cycles as i64]);
        assert_eq!(done(&mut host), [ItemValue { item: "assist:counter".into(), values }]);
    }
}

#[test]
fn named_exports_are_called_in_their_order_results_and_all() {
    let mut host = Host::start();
    host.run(&Assist::default().artifact(), |job| {
        job.exports = names(&["main", "answer", "buffer"]);
        job.cycles = 5;
        job.dumps = names(&["counter"]);
    });
    assert_eq!(done(&mut host)[0].values, ElementValues::Int(vec![15]));
}

#[test]
fn a_run_is_strictly_ieee() {
    let mut host = Host::start();
    host.run(&Assist::default().artifact(), |job| job.dumps = names(&["halved"]));
    assert_eq!(done(&mut host)[0].values, ElementValues::Float(vec![f32::MIN_POSITIVE * 0.5]));
}

#[test]
fn items_are_set_and_shown_by_their_type() {
    let mut host = Host::start();
    host.run(&Assist::default().artifact(), |job| {
        job.cycles = 0;
        job.sets = pairs(&[
            ("bytes", "1,-2,0xFF"),
            ("assist:bytes[7]", "-128"),
            ("shorts[1]", "65535"),
            ("big", "-1.5e300"),
            ("pointer", "1024"),
            ("halved", "0.1"),
            ("clip[3]", "-0x10"),
        ]);
        job.dumps = names(&["bytes", "shorts", "big", "pointer", "halved", "clip[3]"]);
    });
    let values: Vec<_> = done(&mut host).into_iter().map(|dump| (dump.item, dump.values)).collect();
    let expected = [
        ("assist:bytes", ElementValues::Int(vec![1, -2, -1, 0, 0, 0, 0, -128])),
        ("assist:shorts", ElementValues::Int(vec![0, 65535, 0, 0])),
        ("assist:big", ElementValues::Float64(vec![-1.5e300])),
        ("assist:pointer", ElementValues::Int(vec![1024])),
        ("assist:halved", ElementValues::Float(vec![0.1])),
        ("assist:clip[3]", ElementValues::Int(vec![-16])),
    ];
    assert_eq!(values, expected.map(|(name, values)| (name.to_owned(), values)));
}

#[test]
fn captures_are_appended_after_every_cycle() {
    let mut host = Host::start();
    host.run(&Assist::default().artifact(), |job| {
        job.cycles = 3;
        job.exports = names(&["buffer"]);
        job.captures = names(&["counter", "left[1]"]);
    });
    done(&mut host);
    let expected: Vec<u8> = (1..=3i32).flat_map(|n| [n.to_le_bytes(), ((n * 128 + 1) as f32).to_le_bytes()].concat()).collect();
    assert_eq!(captured(&host), expected);
}

#[test]
fn long_captures_come_in_bounded_chunks() {
    let mut host = Host::start();
    host.run(&Assist::default().artifact(), |job| {
        job.cycles = 3_000;
        job.exports = names(&["buffer"]);
        job.captures = names(&["left"]);
    });
    done(&mut host);
    let bytes = captured(&host);
    assert_eq!(bytes.len(), 3_000 * 512);
    assert_eq!(&bytes[2_999 * 512..][..4], (3_000.0f32 * 128.0).to_le_bytes());
    let longest = host.seen.iter().filter_map(|reply| if let HostReply::RunCaptured(bytes) = reply { Some(bytes.len()) } else { None });
    assert_eq!(longest.max(), Some(BULK_CHUNK_BYTES));
}

#[test]
fn memories_are_reported_whole() {
    let mut host = Host::start();
    host.run(&Assist { region: true, ..Assist::default() }.artifact(), |job| {
        job.cycles = 9;
        job.dump_memory = true;
        job.sets = pairs(&[("recorder:counter", "77"), ("bytes[0]", "3")]);
        job.dumps = names(&["recorder:counter"]);
    });
    assert_eq!(done(&mut host)[0].values, ElementValues::Int(vec![77]));
    let memory = |index: u32| {
        let mut whole = Vec::new();
        for reply in &host.seen {
            if let HostReply::RunMemory { memory, offset, bytes } = reply
                && *memory == index
            {
                assert_eq!(*offset, whole.len() as u64);
                whole.extend_from_slice(bytes);
            }
        }
        whole
    };
    assert_eq!((memory(0).len(), memory(1).len()), (65_536, 65_536));
    assert_eq!(memory(0)[COUNTER as usize], 9);
    assert_eq!(memory(0)[BYTES as usize], 3);
    assert_eq!(memory(1)[4], 77);
}

#[test]
fn a_run_that_traps_tells_the_cycle_and_the_line() {
    let mut host = Host::start();
    host.run(&Assist::failing(Mode::Overflow, 5, 6).artifact(), |job| {
        job.exports = names(&["buffer"]);
        job.cycles = 100;
        job.captures = names(&["counter"]);
    });
    let fault = host.wait_for(|reply| if let HostReply::RunFailed { fault } = reply { Some(fault.clone()) } else { None });
    assert_eq!((fault.kind, fault.tick, fault.line), (FaultKind::IntegerOverflow, 4, Some(line_of(Mode::Overflow))));
    assert_eq!(captured(&host).len(), 4 * 4, "what was captured before is not lost");
}

#[test]
fn a_program_that_traps_while_it_is_initialised_is_a_failure_with_a_line() {
    let assist = Assist { fails_at_start: true, ..Assist::sounding() };
    let mut host = Host::start();
    host.run(&assist.artifact(), |_| {});
    let fault = host.wait_for(|reply| if let HostReply::RunFailed { fault } = reply { Some(fault.clone()) } else { None });
    assert_eq!((fault.kind, fault.line), (FaultKind::DivisionByZero, Some(14)));
    host.start_runtime(&assist.artifact(), "audio", 48_000);
    let refusal = host.wait_for_refusal();
    assert_eq!(refusal.line, Some(14));
    assert!(refusal.message.contains("while it was initialised"), "{}", refusal.message);
}

#[test]
fn unknown_names_are_refused_with_near_ones() {
    let plain = Assist::default();
    let message = refusal_of(&plain, |job| job.dumps = names(&["assist:countr"]));
    assert!(message.contains("`assist:countr`") && message.contains("did you mean `assist:counter`"), "{message}");
    let message = refusal_of(&plain, |job| job.sets = pairs(&[("asist:counter", "1")]));
    assert!(message.contains("no module `asist`") && message.contains("`assist`"), "{message}");
    let message = refusal_of(&plain, |job| job.captures = names(&["clip[4]"]));
    assert!(message.contains("4 elements"), "{message}");
    let message = refusal_of(&plain, |job| job.exports = names(&["bufer"]));
    assert!(message.contains("`bufer`") && message.contains("`buffer`"), "{message}");
    let message = refusal_of(&plain, |job| job.exports = names(&["takesOne"]));
    assert!(message.contains("takes parameters"), "{message}");
    let message = refusal_of(&plain, |job| job.sets = pairs(&[("clip[2]", "1,2,3")]));
    assert!(message.contains("room for 2 values"), "{message}");
}

#[test]
fn a_bare_name_must_be_unique() {
    let message = refusal_of(&Assist { region: true, ..Assist::default() }, |job| job.dumps = names(&["counter"]));
    assert!(message.contains("`assist:counter` or `recorder:counter`"), "{message}");
}

#[test]
fn a_run_can_be_cancelled() {
    let mut host = Host::start();
    host.run(&Assist::default().artifact(), |job| job.cycles = u64::MAX);
    host.wait_for(|reply| matches!(reply, HostReply::Loaded { .. }).then_some(()));
    host.stop();
    assert!(!host.seen.iter().any(|reply| matches!(reply, HostReply::RunDone { .. })));
    host.run(&Assist::default().artifact(), |job| job.dumps = names(&["counter"]));
    assert_eq!(done(&mut host)[0].values, ElementValues::Int(vec![1]), "and the host is free again");
}
