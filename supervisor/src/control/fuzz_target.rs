//! What clients send to the control socket: any bytes, in pieces of any length (FAULTS rows 31 and 32).

use std::time::Duration;

use fuzz::{Random, Target};

use super::input::Input;
use super::limits::MAX_LINE_BYTES;
use super::protocol::{self, Verb};

/// Counts what decoders allocate; for all fuzz targets of this crate.
#[global_allocator]
static ALLOCATOR: fuzz::Tally = fuzz::Tally;

/// Words that lines are made of.
const WORDS: [&str; 30] = [
    r#""jsonrpc":"2.0""#,
    r#""id":1"#,
    r#""method":"push""#,
    r#""params":{}"#,
    r#""runtime":"drums""#,
    r#""values":["#,
    r#""on":true"#,
    "\n",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    ":",
    ",",
    "null",
    "-0",
    "1e999",
    "NaN",
    "9223372036854775808",
    "\u{feff}",
    "[[[[[[[[",
    "\"crossfadeMs\":",
    "\"rampMs\":",
    "\"boundary\":\"freeze\"",
    "\"path\":\"/\"",
    "\"items\":[\"a:b[",
];

/// The requests that the description of the protocol shows.
fn described() -> Vec<Vec<u8>> {
    let text = include_str!("../../../PROTOCOL.md");
    text.lines().filter_map(|line| line.strip_prefix("→ ")).map(|line| format!("{line}\n").into_bytes()).collect()
}

fn check(bytes: &[u8]) {
    // The pieces are cut by the content, so that the same input is always cut in the same way.
    let mut random = Random::new(bytes.iter().map(|byte| u64::from(*byte)).sum());
    let (mut input, mut rest, mut lines) = (Input::default(), bytes, Vec::new());
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(random.below(rest.len()) + 1);
        rest = later;
        let mut read = input.push(piece);
        while let (Ok(()), Some(line)) = (read, input.line()) {
            answer(line);
            lines.push(line.to_vec());
            read = input.next_line();
        }
        read.expect("a line this short is not too long");
    }
    let whole: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines, whole[..whole.len() - 1], "every line comes out, however it was cut");
}

/// What a line is answered with when it is no request is one line of JSON and not much longer than the line.
fn answer(line: &[u8]) {
    match protocol::parse(line) {
        Ok(request) => assert!(Verb::method(&request.verb).len() < line.len()),
        Err(unreadable) => {
            let reply = protocol::reply_line(unreadable.id.as_ref(), &Err(unreadable.error));
            assert!(reply.ends_with(b"\n") && !reply[..reply.len() - 1].contains(&b'\n'));
            assert!(reply.len() < 4 << 10, "{} bytes", reply.len());
            let json: serde_json::Value = serde_json::from_slice(&reply).expect("a reply is JSON");
            assert!(json["error"]["code"].is_i64());
        }
    }
}

#[test]
fn control_frames() {
    let target = Target {
        name: "control_frames",
        seeds: described(),
        words: &WORDS,
        max_bytes: (16 << 10).min(MAX_LINE_BYTES),
        cases: 60_000,
        cpu: Duration::from_secs(2),
        bytes: 256 << 10,
        bytes_per_byte: 64,
    };
    assert!(target.seeds.len() > 20, "the description shows every verb");
    target.run(check);
}
