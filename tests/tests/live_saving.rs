//! Saving a file changes the sound, however the editor writes it.

use std::fs;
use std::path::Path;

use serde_json::json;
use tests::live::LiveSession;
use tests::playing::Folder;
use tests::programs;

fn constant(level: f32) -> String {
    programs::constant(level, "")
}

/// A way to save a text, and what it is called.
type Way = (&'static str, fn(&Path, &str));

/// Ways in which editors save a file.
const WAYS: [Way; 5] = [
    ("written in place", |file, text| fs::write(file, text).expect("a file can be written")),
    ("truncated, then written in pieces", |file, text| {
        use std::io::Write;
        let mut open = fs::File::create(file).expect("a file can be truncated");
        for piece in text.as_bytes().chunks(64) {
            open.write_all(piece).expect("a file can be written");
        }
    }),
    ("written beside and renamed over it", |file, text| {
        let beside = file.with_extension("tmp");
        fs::write(&beside, text).expect("a file can be written");
        fs::rename(&beside, file).expect("a file can be renamed");
    }),
    ("moved to a backup, then written anew", |file, text| {
        fs::rename(file, file.with_extension("8f4e~")).expect("a file can be renamed");
        fs::write(file, text).expect("a file can be written");
    }),
    ("removed, then renamed from beside", |file, text| {
        let beside = file.with_extension("new");
        fs::write(&beside, text).expect("a file can be written");
        fs::remove_file(file).expect("a file can be removed");
        fs::rename(&beside, file).expect("a file can be renamed");
    }),
];

#[test]
fn saving_a_file_changes_the_sound() {
    let folder = Folder::new();
    let file = folder.file("tone.8f4e", constant(0.0625));
    let mut session = LiveSession::start(&folder, &[&file]);
    session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
    let mut levels = vec![0.0625];
    for (index, (way, save)) in WAYS.iter().enumerate() {
        let level = 0.125 + 0.0625 * index as f32;
        save(&file, &constant(level));
        let what = format!("the file, {way}, to be heard");
        session.peer.event(&what, |event| event["progress"]["state"] == "committed");
        levels.push(level);
        session.play_on(2_400);
        // A text that is wrong changes nothing.
        save(&file, "8f4e/v1\nentry main\nmodule m\npuhs 1\nmoduleEnd\nentryEnd\n");
        let what = format!("a wrong text, {way}, to be refused");
        let refused = session.peer.event(&what, |event| event["progress"]["state"] == "rejected");
        let lines = refused["progress"]["diagnostics"].as_array().expect("diagnostics").iter();
        assert!(lines.filter_map(|found| found["line"].as_u64()).any(|line| line == 4), "{refused}");
        session.assert_playing("tone");
    }
    session.play_on(9_600);
    let underruns = session.underruns();
    let heard = session.end();
    let mut steps: Vec<f32> = heard.iter().map(|frame| frame[0]).collect();
    steps.dedup();
    let start = steps.iter().position(|sample| *sample == levels[0]).expect("the first program is heard");
    if underruns == 0 {
        assert_eq!(&steps[start..start + levels.len()], levels, "each saved level is heard, and nothing between");
    } else {
        // Where blocks were concealed, the levels come with fades between.
        let mut left = steps[start..].iter();
        assert!(levels.iter().all(|level| left.any(|sample| sample == level)), "each saved level is heard");
    }
}
