//! Messages that come in, tick by tick: callbacks of a program, and what becomes of those that fail.

use ipc::live::LiveChange;
use ipc::message::{ElementValues, HostReply};
use ipc::midi::Received;

use super::band::compile;
use super::rig::{Rig, get};

/// Counts its ticks, and writes the tick and the bytes of what it is told into `last`. Note 13 fails.
const PROGRAM: &str = "8f4e/v1
entry main
module m
; @config midi.inputs.a.port 0
; @config midi.inputs.a.callback told
; @config midi.inputs.b.port 1
; @config midi.inputs.b.callback counted
; @config midi.inputs.c.port 1
; @config midi.inputs.c.callback told
int tick
int at -1
int status
int note
int velocity
int count
int least -2147483648
push &tick
push tick
push 1
add
store
moduleEnd
entryEnd
function buffer
#export
call main
functionEnd
function told
#impure
#export
param int status
param int note
param int velocity
push &m:at
push &m:tick
load
store
push &m:status
push status
store
push &m:note
push note
store
push &m:velocity
push velocity
push &m:least
load
push note
push 13
equal
push -2
mul
push 1
add
ensureNonZero
div
push 0
mul
add
store
functionEnd
function counted
#impure
#export
param int status
param int note
param int velocity
push &m:count
push &m:count
load
push 1
add
store
functionEnd
";

const ITEMS: [&str; 5] = ["m:at", "m:status", "m:note", "m:velocity", "m:count"];

fn midi(messages: &[(u8, [u8; 3])]) -> LiveChange {
    LiveChange::Midi { messages: messages.iter().map(|(port, message)| Received { port: *port, message: *message }).collect() }
}

fn ints(values: [i64; 5]) -> Vec<ElementValues> {
    values.map(|value| ElementValues::Int(vec![value])).into()
}

#[test]
fn callbacks_are_told_of_the_messages_of_their_port_at_the_start_of_the_tick() {
    let mut rig = Rig::start_artifact(compile(PROGRAM));
    let first = rig.send_at(Some(10), midi(&[(1, [0x93, 60, 100])]));
    let read = rig.send_at(Some(10), get(&ITEMS));
    let second = rig.send_at(Some(12), midi(&[(2, [0xf8, 0, 0]), (3, [0x90, 1, 1]), (2, [0xc0, 7, 0])]));
    let later = rig.send_at(Some(13), get(&ITEMS));
    rig.play_to(20);
    assert_eq!((rig.applied(first), rig.applied(second)), (10, 12));
    assert_eq!(rig.values(read).1, ints([10, 0x93, 60, 100, 0]));
    assert_eq!(rig.values(later).1, ints([12, 0xc0, 7, 0, 2]), "nothing listens to port 3");
}

#[test]
fn a_callback_that_fails_changes_nothing_is_told_with_its_line_and_stops_no_other() {
    let mut rig = Rig::start_artifact(compile(PROGRAM));
    rig.send_at(Some(3), midi(&[(2, [0x90, 13, 1])]));
    let read = rig.send_at(Some(4), get(&ITEMS));
    rig.play_to(10);
    assert_eq!(rig.values(read).1, ints([-1, 0, 0, 0, 1]));
    let line = PROGRAM.lines().position(|line| line == "div").map(|index| index as u32 + 1);
    let is_told = |reply: &HostReply| match reply {
        HostReply::Faulted { fault, held: false, .. } => Some(fault.clone()),
        _ => None,
    };
    let fault = rig.host.seen.iter().find_map(is_told).unwrap_or_else(|| rig.host.wait_for(is_told));
    assert_eq!((fault.line, fault.tick), (line, 3));
}

#[test]
fn what_no_port_can_have_received_is_refused() {
    let mut rig = Rig::start_artifact(compile(PROGRAM));
    for wrong in [(0, [0x90, 1, 1]), (1, [0x10, 1, 1]), (1, [0x90, 0x80, 1])] {
        let request = rig.send(midi(&[wrong]));
        assert!(rig.refused(request).contains("MIDI messages"));
    }
    let request = rig.send(midi(&[(1, [0x90, 1, 1]); 257]));
    assert!(rig.refused(request).contains("at most 256"));
}
