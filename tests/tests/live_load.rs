//! A session under load: edits faster than anybody makes them, and clients that behave badly (promise P8).

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::edits::{Edit, Edits, Random};
use tests::live::{LiveSession, assert_flat};
use tests::patchwork::{Program, text};
use tests::playing::Folder;

/// Environment variable with another number of seconds of edits than the usual one; the promise is for a minute.
const SECONDS: &str = "CONTINUO_SECONDS";

/// Seconds of edits of a usual run.
const USUAL_SECONDS: u64 = 6;

/// Longer than a trial takes.
const PAST_TRIALS_FRAMES: u64 = 72_000;

/// Edits a second.
const RATE: u64 = 50;

/// Sends so many edits, `RATE` a second, and waits for the answer to each. Returns how many took effect and how many were
/// superseded.
fn storm(session: &mut LiveSession, edits: &mut Edits, count: u64) -> (u64, u64) {
    let mut program = Program::base();
    let (mut committed, mut superseded) = (0, 0);
    let mut asked = Vec::new();
    let start = Instant::now();
    for number in 0..count {
        if let Edit::Good { program: edited, .. } = edits.good(&program) {
            program = edited;
        }
        let params = json!({ "runtime": "subject", "text": text::of(&program), "acknowledge": true, "answer": "committed" });
        asked.push(session.peer.ask("push", params));
        // At most 32 changes of one client may wait (PROTOCOL.md).
        while let Some(oldest) = asked.first().copied().filter(|oldest| asked.len() > 24 || session.peer.has_answer(*oldest)) {
            take(session, oldest, &mut committed, &mut superseded);
            asked.remove(0);
        }
        let due = start + Duration::from_nanos(1_000_000_000 / RATE * (number + 1));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let newest = *asked.last().expect("something was asked");
    for id in asked {
        let before = committed;
        take(session, id, &mut committed, &mut superseded);
        assert!(id != newest || committed == before + 1, "the latest edit wins");
    }
    (committed, superseded)
}

fn take(session: &mut LiveSession, id: u64, committed: &mut u64, superseded: &mut u64) {
    match session.peer.answer(id) {
        Ok(report) => {
            assert_eq!(report["state"], "committed", "{report}");
            *committed += 1;
        }
        Err(failure) => {
            assert_eq!((failure.code, failure.name.as_str()), (12, "superseded"), "{failure:?}");
            *superseded += 1;
        }
    }
}

#[test]
fn six_seconds_of_fifty_edits_a_second_are_each_answered_and_memory_stays_flat() {
    let random = Random::from_environment("six_seconds_of_fifty_edits_a_second_are_each_answered_and_memory_stays_flat");
    let seconds = std::env::var(SECONDS).ok().map_or(USUAL_SECONDS, |seconds| seconds.parse().expect("CONTINUO_SECONDS is a number"));
    let folder = Folder::new();
    let subject = folder.file("subject.8f4e", text::of(&Program::base()));
    let mut session = LiveSession::start(&folder, &[&subject]);
    let hosts = session.host_pids();
    let mut edits = Edits::new(random);
    storm(&mut session, &mut edits, 2 * RATE);
    let before = session.holdings();
    let (committed, superseded) = storm(&mut session, &mut edits, seconds * RATE);
    let after = session.holdings();
    println!("{committed} edits took effect, {superseded} were superseded; {before:?} {after:?}");
    assert_eq!(committed + superseded, seconds * RATE, "each edit is answered");
    assert_eq!(session.host_pids(), hosts, "no host has been restarted");
    assert_flat(&before, &after);
    session.end();
}

// ----------------------------------------------------------------------------------------------------- hostile clients

/// One misbehaviour; returns the connection where it stays open.
fn misbehave(socket: &Path, random: &mut Random) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let hello = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"protocol\":1,\"client\":\"hostile\"}}\n";
    let garbage: Vec<u8> = (0..2_000).map(|_| random.below(256) as u8).collect();
    let push =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"push\",\"params\":{{\"runtime\":\"x\",\"text\":\"{}\"", "a".repeat(9_000));
    let nested = "[".repeat(30_000) + "\n";
    let pieces: Vec<&[u8]> = match random.below(6) {
        0 => vec![&garbage],
        1 => vec![hello.as_bytes(), &garbage],
        2 => vec![hello.as_bytes(), push.as_bytes()],
        3 => vec![hello.as_bytes(), nested.as_bytes()],
        4 => vec![
            hello.as_bytes(),
            b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"subscribe\",\"params\":{\"topics\":[\"meters\",\"log\"]}}\n",
        ],
        _ => Vec::new(),
    };
    pieces.into_iter().for_each(|piece| drop(stream.write_all(piece)));
    random.one_in(3).then_some(stream)
}

/// Sends a line of this many bytes that never ends, until the session has enough of it.
fn endless_line(socket: &Path, bytes: usize) {
    let mut stream = UnixStream::connect(socket).expect("a client can connect");
    let piece = vec![b' '; 1 << 16];
    for _ in 0..bytes / piece.len() {
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
    panic!("{bytes} bytes of one line were read");
}

#[test]
fn hostile_clients_do_not_delay_others() {
    let mut random = Random::from_environment("hostile_clients_do_not_delay_others");
    let folder = Folder::new();
    let subject = folder.file("subject.8f4e", text::of(&Program::base()));
    let mut session = LiveSession::start(&folder, &[&subject]);
    let socket = session.socket().to_owned();
    // By then the spare host has what it needs.
    session.play_on(PAST_TRIALS_FRAMES);
    let before = session.holdings();
    let mut program = Program::base();
    let mut edits = Edits::new(random.clone());
    for round in 0..20 {
        // Up to 40 at a time beside the tests' own client: of 64, none is turned away.
        let open: Vec<_> = (0..40).filter_map(|_| misbehave(&socket, &mut random)).collect();
        if round % 10 == 0 {
            endless_line(&socket, 64 << 20);
        }
        for _ in 0..5 {
            session.peer.expect("ping", json!({}));
        }
        if let Edit::Good { program: edited, .. } = edits.good(&program) {
            program = edited;
            let params = json!({ "runtime": "subject", "text": text::of(&program), "acknowledge": true, "answer": "committed" });
            assert_eq!(session.peer.expect("push", params)["state"], "committed");
        }
        drop(open);
    }
    // What the last edits would go back to is held for as long as they are on trial.
    session.play_on(PAST_TRIALS_FRAMES);
    let after = session.holdings();
    assert_flat(&before, &after);
    session.assert_playing("subject");
    session.end();
}
