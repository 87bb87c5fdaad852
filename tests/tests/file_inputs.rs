//! Files that programs have in their memory, while they play: another part of one, and files that are gone, cut off, or none.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::live::LiveSession;
use tests::playing::{Folder, text};
use tests::programs::audio_program;

/// A program that has four numbers of a file in `clip`, from this byte of it on.
fn program(offset: u64) -> String {
    audio_program(&format!(
        "; @config bin.kick.url kick.raw\n; @config bin.kick.memory m:clip\n; @config bin.kick.offset {offset}\nfloat[] clip 4"
    ))
}

/// 1-based line of the offset in [`program`].
const OFFSET_LINE: u64 = tests::programs::BODY_LINE + 2;

/// The numbers from 1 on.
fn numbers(last: u8) -> Vec<u8> {
    (1..=last).flat_map(|number| f32::from(number).to_le_bytes()).collect()
}

fn clip(session: &mut LiveSession) -> Value {
    session.peer.expect("get", json!({ "runtime": "song", "items": ["m:clip"] }))["values"][0]["values"].take()
}

fn push(session: &mut LiveSession, file: &Path, offset: u64) -> Result<Value, String> {
    std::fs::write(file, program(offset)).expect("a file can be written");
    let params = json!({ "runtime": "song", "path": text(file), "answer": "committed" });
    session.peer.call("push", params).map_err(|failure| failure.message)
}

#[test]
fn another_part_of_a_file_is_loaded_by_an_edit_and_what_cannot_be_read_changes_nothing() {
    let folder = Folder::new();
    let raw = folder.file("kick.raw", numbers(10));
    let song = folder.file("song.8f4e", program(8));
    let edited = folder.path().join("edited.8f4e");
    let mut session = LiveSession::start(&folder, &[&song]);
    assert_eq!(clip(&mut session), json!([3.0, 4.0, 5.0, 6.0]));
    push(&mut session, &edited, 24).expect("another part of it");
    assert_eq!(clip(&mut session), json!([7.0, 8.0, 9.0, 10.0]));

    // Beyond the end; cut off while it plays; gone; a pipe that nobody writes to.
    let refused = push(&mut session, &edited, 44).unwrap_err();
    assert!(refused.contains("40 bytes"), "{refused}");
    assert_eq!(session.playing.wait_for("editRejected")["line"], OFFSET_LINE);
    std::fs::write(&raw, numbers(2)).expect("a file can be written");
    let refused = push(&mut session, &edited, 12).unwrap_err();
    assert!(refused.contains("8 bytes"), "{refused}");
    std::fs::remove_file(&raw).expect("a file can be removed");
    assert!(push(&mut session, &edited, 4).unwrap_err().contains("kick.raw"));
    assert!(Command::new("mkfifo").arg(&raw).status().expect("mkfifo can be started").success());
    assert!(push(&mut session, &edited, 4).unwrap_err().contains("not a regular file"));

    session.assert_playing("song");
    assert_eq!(clip(&mut session), json!([7.0, 8.0, 9.0, 10.0]), "what was loaded stays");
    std::fs::remove_file(&raw).expect("a pipe can be removed");
    std::fs::write(&raw, numbers(20)).expect("a file can be written");
    push(&mut session, &edited, 64).expect("it is there again");
    assert_eq!(clip(&mut session), json!([17.0, 18.0, 19.0, 20.0]));
    session.end();
}
