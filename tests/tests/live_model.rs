//! The reference model of the edit campaign is right: what it computes for a program is what a bounce of its text gives.

use tests::edits::{Edit, Edits, Random};
use tests::live::{BLOCK_FRAMES, read_wav};
use tests::patchwork::machine::Machine;
use tests::patchwork::{Program, text};
use tests::playing::{Folder, run, text as argument};

/// Edits between two programs that are bounced.
const EDITS_BETWEEN: usize = 12;

#[test]
fn the_model_computes_what_a_bounce_gives() {
    let mut edits = Edits::with_clips(Random::from_environment("the_model_computes_what_a_bounce_gives"));
    let folder = Folder::new();
    folder.file(text::CLIP_FILE, text::clip_file());
    let mut program = Program::base();
    for _ in 0..6 {
        let source = folder.file("patchwork.8f4e", text::of(&program));
        let wav = folder.path().join("bounce.wav");
        let output = run(&folder, &["bounce", argument(&source), "--seconds", "2", "-o", argument(&wav)]);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), text::of(&program));
        let frames = read_wav(&wav);
        let mut machine = Machine::new(&program);
        // The end of a bounce may be faded out.
        for (block, heard) in frames.chunks_exact(BLOCK_FRAMES).take(700).enumerate() {
            let expected = machine.tick();
            for (frame, (heard, expected)) in heard.iter().zip(expected).enumerate() {
                assert_eq!(heard, &[expected, 0.0], "block {block}, frame {frame} of\n{}", text::of(&program));
            }
        }
        for _ in 0..EDITS_BETWEEN {
            if let Edit::Good { program: edited, .. } = edits.good(&program) {
                program = edited;
            }
        }
    }
}

#[test]
fn a_broken_text_is_refused_at_its_line() {
    let mut edits = Edits::new(Random::from_environment("a_broken_text_is_refused_at_its_line"));
    let folder = Folder::new();
    let program = Program::base();
    let mut left = 8;
    while left > 0 {
        let Edit::Broken { name, text, line } = edits.next(&program) else { continue };
        let source = folder.file("broken.8f4e", &text);
        let output = run(&folder, &["check", argument(&source), "--json"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{name}: {said}\n{text}");
        if let Some(line) = line {
            assert!(said.contains(&format!("\"line\":{line},")) || said.contains(&format!("\"line\": {line},")), "{name}: {line}: {said}");
        }
        left -= 1;
    }
}
