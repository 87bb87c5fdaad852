//! The example programs: each compiles, and what it plays is worth playing.
//!
//! They are run here without hosts and without a clock; that they sound through real processes is for the whole-system tests.

mod running;

use std::path::{Path, PathBuf};

use running::Running;
use wasmtime::TypedFunc;

/// Frames of one block.
const BLOCK_FRAMES: usize = 128;
/// Blocks of a second at 48 kHz.
const BLOCKS_PER_SECOND: usize = 375;
/// Twelve seconds: three chords of the slowest example.
const BLOCKS: usize = 12 * BLOCKS_PER_SECOND;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let entries = std::fs::read_dir(folder).expect("the examples are beside the crate");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "8f4e"));
    found.sort();
    found
}

fn start(path: &Path) -> Running {
    let source = std::fs::read_to_string(path).expect("a text");
    let mut program = Running::new(&source);
    export(&mut program, "initDefaults").call(&mut program.store, ()).expect("defaults do not trap");
    program
}

fn export(program: &mut Running, name: &str) -> TypedFunc<(), ()> {
    program.instance.get_typed_func(&mut program.store, name).expect("the export is there")
}

/// The value of the last `@config` line with this path.
fn configured<'a>(program: &'a Running, path: &str) -> Option<&'a str> {
    let mut lines = program.manifest.config.iter().rev().filter(|line| line.directive == "config");
    lines.find(|line| line.arguments[0] == path).map(|line| line.arguments[1].as_str())
}

/// Byte address of an output buffer.
fn output_address(program: &Running, side: char) -> usize {
    let reference = configured(program, &format!("audioRuntime.audioOutBuffer{side}Address")).expect("an audio program has outputs");
    let (module, item) = reference.split_once(':').expect("examples name the module");
    program.manifest.item(module, item).expect("the output exists").1.byte_address as usize
}

/// Plays a program: its left and its right frames.
fn play(path: &Path, blocks: usize) -> [Vec<f32>; 2] {
    let mut program = start(path);
    let buffer = export(&mut program, "buffer");
    let addresses = [output_address(&program, 'L'), output_address(&program, 'R')];
    let mut sound = [Vec::new(), Vec::new()];
    for _ in 0..blocks {
        buffer.call(&mut program.store, ()).expect("examples do not trap");
        for (side, address) in sound.iter_mut().zip(addresses) {
            let bytes = &program.memory.data(&program.store)[address..address + 4 * BLOCK_FRAMES];
            side.extend(bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("four bytes"))));
        }
    }
    sound
}

fn audio_examples() -> Vec<PathBuf> {
    let mut found = examples();
    found.retain(|path| configured(&start(path), "runtime") == Some("AudioWorkletRuntime"));
    assert!(found.len() >= 6, "there are examples to hear");
    found
}

#[test]
fn every_example_names_its_runtime() {
    for path in examples() {
        let program = start(&path);
        let runtime = configured(&program, "runtime").unwrap_or_else(|| panic!("{}: no runtime", path.display()));
        assert!(
            ["AudioWorkletRuntime", "WebWorkerMIDIRuntime", "WebWorkerRuntime", "MainThreadRuntime"].contains(&runtime),
            "{}: {runtime}",
            path.display()
        );
    }
}

#[test]
fn every_audio_example_is_heard_on_both_sides_and_never_too_loud() {
    for path in audio_examples() {
        for side in play(&path, BLOCKS) {
            let peak = side.iter().fold(0.0_f32, |peak, frame| peak.max(frame.abs()));
            assert!(side.iter().all(|frame| frame.is_finite()), "{}: not a number", path.display());
            assert!((0.1..0.95).contains(&peak), "{}: peak {peak}", path.display());
            let mean = side.iter().map(|frame| f64::from(*frame)).sum::<f64>() / side.len() as f64;
            assert!(mean.abs() < 0.02, "{}: stands still at {mean}", path.display());
        }
    }
}

#[test]
fn every_audio_example_begins_without_a_click() {
    for path in audio_examples() {
        for side in play(&path, 1) {
            let loudest = side[..8].iter().fold(0.0_f32, |peak, frame| peak.max(frame.abs()));
            assert!(loudest < 0.01, "{}: begins at {loudest}", path.display());
        }
    }
}

#[test]
fn every_audio_example_plays_the_same_each_time() {
    for path in audio_examples() {
        let bits = |sound: [Vec<f32>; 2]| sound.map(|side| side.iter().map(|frame| frame.to_bits()).collect::<Vec<u32>>());
        assert!(bits(play(&path, BLOCKS_PER_SECOND)) == bits(play(&path, BLOCKS_PER_SECOND)), "{}", path.display());
    }
}

#[test]
fn the_band_together_stays_below_full_scale() {
    // Sixteen seconds: all eight bars once.
    let parts = ["drums.8f4e", "bass.8f4e", "pad.8f4e", "fm-keys.8f4e"].map(|name| play(&path_of(name), 16 * BLOCKS_PER_SECOND));
    for side in 0..2 {
        let together = (0..parts[0][side].len()).map(|frame| parts.iter().map(|part| part[side][frame]).sum::<f32>());
        let peak = together.fold(0.0_f32, |peak, frame| peak.max(frame.abs()));
        assert!(peak < 1.0, "peak {peak}");
    }
}

/// Bytes of an item.
fn item_bytes(program: &Running, module: &str, item: &str) -> Vec<u8> {
    let (_, item) = program.manifest.item(module, item).expect("the item exists");
    let from = item.byte_address as usize;
    program.memory.data(&program.store)[from..from + item.element_bytes() as usize].to_vec()
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn example(name: &str) -> Running {
    start(&path_of(name))
}

#[test]
fn the_worker_example_spreads_five_pulses_over_sixteen_steps() {
    let mut program = example("worker.8f4e");
    export(&mut program, "main").call(&mut program.store, ()).expect("examples do not trap");
    let pattern = item_bytes(&program, "rhythm", "pattern");
    assert_eq!(pattern[..16], [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]);
    assert_eq!(item_bytes(&program, "rhythm", "bits"), 0b0010_0100_1001_0001_u32.to_le_bytes());
    assert_eq!(item_bytes(&program, "rhythm", "made"), 1_u32.to_le_bytes());
}

#[test]
fn the_worker_example_makes_its_table_anew_only_when_it_changes() {
    let mut program = example("worker.8f4e");
    let main = export(&mut program, "main");
    for _ in 0..199 {
        main.call(&mut program.store, ()).expect("examples do not trap");
    }
    assert_eq!(item_bytes(&program, "rhythm", "made"), 1_u32.to_le_bytes());
    // In the two hundredth cycle the rhythm turns; the table follows in the next one.
    for _ in 0..2 {
        main.call(&mut program.store, ()).expect("examples do not trap");
    }
    assert_eq!(item_bytes(&program, "rhythm", "made"), 2_u32.to_le_bytes());
}

/// One generation of Conway's Game of Life on a board of sixteen by sixteen whose edges meet.
fn next_generation(board: &[u8]) -> Vec<u8> {
    let alive = |row: i32, column: i32| i32::from(board[(row.rem_euclid(16) * 16 + column.rem_euclid(16)) as usize]);
    let mut next = Vec::new();
    for row in 0..16 {
        for column in 0..16 {
            let around: i32 = (-1..=1).flat_map(|y| (-1..=1).map(move |x| (y, x))).map(|(y, x)| alive(row + y, column + x)).sum();
            let neighbours = around - alive(row, column);
            next.push(u8::from(neighbours == 3 || (neighbours == 2 && alive(row, column) == 1)));
        }
    }
    next
}

#[test]
fn the_main_example_plays_the_game_of_life() {
    let mut program = example("main.8f4e");
    let main = export(&mut program, "main");
    let mut board = vec![0_u8; 256];
    // The R pentomino, around row 8, column 8.
    for cell in [7 * 16 + 8, 7 * 16 + 9, 8 * 16 + 7, 8 * 16 + 8, 9 * 16 + 8] {
        board[cell] = 1;
    }
    for generation in 1..=87 {
        for _ in 0..6 {
            main.call(&mut program.store, ()).expect("examples do not trap");
        }
        board = next_generation(&board);
        assert_eq!(item_bytes(&program, "life", "cells"), board, "generation {generation}");
        let population: u32 = board.iter().map(|cell| u32::from(*cell)).sum();
        assert_eq!(item_bytes(&program, "life", "population"), population.to_le_bytes());
    }
    // What is left turns on the spot: three cells. After twenty quiet generations a glider joins them.
    assert_eq!(board.iter().map(|cell| u32::from(*cell)).sum::<u32>(), 3);
    for _ in 0..6 {
        main.call(&mut program.store, ()).expect("examples do not trap");
    }
    assert_eq!(item_bytes(&program, "life", "cells").iter().map(|cell| u32::from(*cell)).sum::<u32>(), 8);
}
