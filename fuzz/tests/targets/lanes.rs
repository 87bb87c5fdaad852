//! Lanes that their host has damaged: whatever its words say, the device host plays on and gives out finite samples.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fuzz::Target;
use ipc::lane::{self, LaneReader, LaneWriter, SILENCE};
use ipc::segment::{Segment, SegmentRef, Session};
use runtime_host::device::strip::Strip;

/// Blocks that a host is ahead of the device.
const AHEAD_BLOCKS: u64 = 4;
/// Bytes of one step of an input: what is done, or which word becomes what.
const STEP_BYTES: usize = 10;
/// The words that are damaged: the first ones of the payload, where the counters are, and the stamps of the first slots.
const WORDS: [usize; 8] = [0, 8, 16, 64, 72, 128, 128 + 64, 128 + 64 + 1_024];

/// Takes one step: a block is written, or played by this device host or the next one, or a word is damaged.
fn step(step: &[u8], reference: &SegmentRef, segment: &Segment, writer: &mut LaneWriter, strip: &mut Strip) {
    let reader = || LaneReader::open(reference).expect("a lane keeps its length");
    match step[0] % 8 {
        0 | 1 => writer.write_rt(&[[0.5; 128]; 2]),
        2 | 3 => {
            let mut block = SILENCE;
            let (_, _) = strip.render_rt(AHEAD_BLOCKS, true, &mut block);
            strip.take_rt();
            strip.demand_rt(AHEAD_BLOCKS);
            assert!(block.iter().flatten().all(|sample| sample.is_finite()));
        }
        4 => *strip = Strip::new(reader(), AHEAD_BLOCKS),
        5 => {
            *strip = Strip::resume(reader(), AHEAD_BLOCKS);
            strip.resume_in_place_rt();
        }
        6 => *writer = LaneWriter::open(reference).expect("a lane keeps its length"),
        _ => {
            let mut word = [0; 8];
            word.copy_from_slice(&step[2..]);
            segment.word_u64(WORDS[usize::from(step[1]) % WORDS.len()]).store(u64::from_le_bytes(word), Relaxed);
        }
    }
    strip.can_go_on_rt(AHEAD_BLOCKS);
    strip.is_ready_rt(AHEAD_BLOCKS);
    writer.is_wanted_rt();
}

#[test]
fn lanes() {
    let session = Session::open().expect("a session");
    let segment = lane::create(session.id(), 1).expect("there is room");
    let reference = segment.reference().clone();
    let (write, play) = ([0; STEP_BYTES], [2; STEP_BYTES]);
    let damage = |word: u8, value: u64| [&[7, word][..], &value.to_le_bytes()].concat();
    let seed = |steps: &[&[u8]]| steps.concat();
    let target = Target {
        name: "lanes",
        seeds: vec![
            seed(&[&write, &write, &write, &write, &write, &play, &play, &play, &[4; STEP_BYTES], &play, &[5; STEP_BYTES], &play]),
            seed(&[&write, &damage(3, 1 << 40), &[4; STEP_BYTES], &play, &play]),
            seed(&[&damage(3, u64::MAX - 2), &[4; STEP_BYTES], &play, &play, &play, &play, &play, &play, &play]),
            seed(&[&damage(3, u64::MAX), &[6; STEP_BYTES], &write, &write]),
            seed(&[&write, &damage(2, 1 << 40), &[5; STEP_BYTES], &play, &damage(6, 0x7fc0_0000_7f80_0000), &play]),
        ],
        words: &[],
        max_bytes: 64 * STEP_BYTES,
        cases: 10_000,
        cpu: Duration::from_secs(2),
        bytes: 64 << 10,
        bytes_per_byte: 0,
    };
    target.run(|input| {
        for offset in (0..segment.payload_bytes()).step_by(8) {
            segment.word_u64(offset).store(0, Relaxed);
        }
        let mut writer = LaneWriter::open(&reference).expect("a new lane");
        let mut strip = Strip::new(LaneReader::open(&reference).expect("a new lane"), AHEAD_BLOCKS);
        for bytes in input.chunks_exact(STEP_BYTES) {
            step(bytes, &reference, &segment, &mut writer, &mut strip);
        }
    });
}
