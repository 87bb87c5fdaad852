//! What a dying host leaves behind: state segments and crash pages with any words anywhere, and other lengths than announced.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fuzz::Target;
use ipc::crash::CrashPage;
use ipc::hash::ContentHash;
use ipc::manifest::{ElementType, Manifest};
use ipc::segment::{Segment, SegmentKind, SegmentRef, Session};
use ipc::state::{self, Applied, Clock, Head, OpenTrial, Ramp, Role, StateReader, StateWriter, Write};

use crate::programs;

/// Highest sequence number that a reader believes.
const LAST_SEQUENCE: u64 = 1 << 52;

/// Where the head of the first slot begins, in bytes of the payload.
const FIRST_HEAD: usize = 128;

/// Bytes of one damage in an input: the word it is done to, and what it becomes.
const DAMAGE_BYTES: usize = 11;

/// Damages as they are written in an input: where, as a number of words in three bytes, and the word.
fn damages(input: &[u8]) -> impl Iterator<Item = (usize, u64)> + '_ {
    input.chunks_exact(DAMAGE_BYTES).map(|damage| {
        let mut word = [0; 8];
        word.copy_from_slice(&damage[3..]);
        (usize::from(damage[0]) | usize::from(damage[1]) << 8 | usize::from(damage[2]) << 16, u64::from_le_bytes(word))
    })
}

fn damage(index: usize, word: u64) -> Vec<u8> {
    [&index.to_le_bytes()[..3], &word.to_le_bytes()].concat()
}

/// A segment that is damaged and made whole again.
struct Victim {
    segment: Segment,
    /// Every word of it, when it was whole.
    words: Vec<u64>,
}

impl Victim {
    fn new(segment: Segment) -> Self {
        let words = (0..segment.payload_bytes() / 8).map(|index| segment.word_u64(8 * index).load(Relaxed)).collect();
        Self { segment, words }
    }

    /// Does `job` with the segment as it is after the damages.
    fn with_damages(&self, input: &[u8], job: impl FnOnce()) {
        for (index, word) in damages(input) {
            self.segment.word_u64(8 * (index % self.words.len())).store(word, Relaxed);
        }
        job();
        for (index, word) in self.words.iter().enumerate() {
            self.segment.word_u64(8 * index).store(*word, Relaxed);
        }
    }

    /// Seeds: each word that is not 0 made 0, 1 more, and the highest there is; there are not many of them.
    fn seeds(&self, most: usize) -> Vec<Vec<u8>> {
        let used = self.words.iter().enumerate().filter(|(_, word)| **word != 0).take(most);
        used.flat_map(|(index, word)| [0, word.wrapping_add(1), u64::MAX].map(|word| damage(index, word))).collect()
    }
}

/// The head of a checkpoint of which nothing has been said but that it is complete.
fn blank_head(session: &Session, manifest: &Manifest) -> Head {
    let segment = state::create(session.id(), 1, manifest).expect("there is room");
    segment.word_u64(FIRST_HEAD).store(1, Relaxed);
    let view = state::StateView::open(segment.reference()).expect("a new state segment");
    view.newest().expect("zeros are a head").expect("it is complete").head
}

/// What a host says of the state in a tick.
fn head(blank: Head, tick: u64) -> Head {
    let trial = OpenTrial { request: 9, is_patch: true, ticks_left: 5, fade_done_frames: 128, fade_total_frames: 4_800 };
    let (role, revision) = (Role::Running { kept: Some(1) }, ContentHash::of(&[b"program"]));
    Head { tick, has_begun: true, role, revision, failed_in_a_row: 1, trial: Some(trial), ..blank }
}

/// Two checkpoints with ramps, requests and a log after the newer one.
fn written(session: &Session, manifest: &Manifest, blank: Head) -> Segment {
    let segment = state::create(session.id(), 1, manifest).expect("there is room");
    let mut writer = StateWriter::open(segment.reference(), manifest).expect("a new state segment");
    let write = Write { memory: 0, address: 8, element: ElementType::Float32, bytes: [1, 2, 3, 4, 0, 0, 0, 0] };
    let ramp = Ramp { write, from: 0.0, to: 1.0, step: 3, steps: 10 };
    let mut applied = Applied::default();
    for number in 0..5 {
        applied.push_rt(number, 10 + number);
    }
    let memory = vec![7; 65_536];
    writer.checkpoint_rt(1, &head(blank, 20), &[], &applied, |_| &memory);
    writer.checkpoint_rt(2, &head(blank, 30), &[ramp, ramp], &applied, |_| &memory);
    assert!(writer.log_set_rt(7, 31, 0, &[write]) && writer.log_set_rt(8, 32, 4, &[write, write]));
    assert!(writer.log_wire_rt(9, 32, &write));
    writer.complete_rt(33, Some(Clock { start_ns: 1_000, next: 34 }));
    segment
}

/// Everything a host that takes over reads, and what it does with it.
fn read_all(reference: &SegmentRef, manifest: &Manifest) {
    let Ok(reader) = StateReader::open(reference, manifest) else { return };
    let (_, _) = (reader.view().completed_ticks(), reader.view().clock());
    let Ok(found) = reader.view().checkpoints() else { return };
    let mut bytes = vec![0; 256];
    for checkpoint in &found {
        let _ = reader.ramps(checkpoint).map(|ramps| assert!(ramps.len() <= ipc::limits::MAX_RAMPS));
        let _ = reader.applied(checkpoint).map(|applied| assert!(applied.iter().count() <= ipc::limits::MAX_LIVE_REQUESTS));
        let _ = reader.inputs(checkpoint, u64::MAX).map(|inputs| assert!(inputs.iter().all(|input| input.tick() >= checkpoint.head.tick)));
        reader.copy_memory(checkpoint, 0, &mut bytes);
        reader.copy_memory(checkpoint, 7, &mut bytes);
    }
    let newest = found.into_iter().filter(|found| found.sequence < LAST_SEQUENCE).max_by_key(|found| found.sequence);
    let Some(newest) = newest else { return };
    let (Ok(_), Ok(applied), Ok(_)) = (reader.ramps(&newest), reader.applied(&newest), reader.inputs(&newest, u64::MAX)) else { return };
    // It can be gone on from: the next checkpoint goes into the slot that was not restored, and is whole whatever was there.
    let mut writer = reader.into_writer(&newest);
    writer.checkpoint_rt(newest.sequence + 1, &newest.head, &[], &applied, |_| &[]);
    let view = state::StateView::open(reference).expect("the segment is as long as before");
    let next = view.newest().expect("nothing damaged is left in the heads");
    assert_eq!(next.map(|next| next.sequence), Some(newest.sequence + 1));
}

#[test]
fn state_segments() {
    let session = Session::open().expect("a session");
    let mut manifest = programs::artifact().manifest;
    manifest.memories.truncate(1);
    manifest.memories[0].pages = 1;
    let segment = written(&session, &manifest, blank_head(&session, &manifest));
    let reference = segment.reference().clone();
    let victim = Victim::new(segment);
    let target = Target {
        name: "state_segments",
        seeds: victim.seeds(80),
        words: &["\0\0\0\0\0\0\0\0\0\0\0"],
        max_bytes: 16 * DAMAGE_BYTES,
        cases: 10_000,
        cpu: Duration::from_secs(2),
        bytes: 1 << 20,
        bytes_per_byte: 0,
    };
    target.run(|input| victim.with_damages(input, || read_all(&reference, &manifest)));
}

#[test]
fn crash_pages() {
    let session = Session::open().expect("a session");
    let page = CrashPage::create(session.id()).expect("there is room");
    let bytes = fs::metadata(Path::new("/dev/shm").join(page.name())).expect("the page has a file").len();
    let reference = SegmentRef { name: page.name().to_owned(), kind: SegmentKind::CrashPage, generation: 0, bytes, hash: None };
    let victim = Victim::new(Segment::open(&reference).expect("the page is a segment"));
    let everything: Vec<u8> = (0..victim.words.len()).flat_map(|index| damage(index, 0x3130_2d74_7365_7400 | index as u64)).collect();
    let target = Target {
        name: "crash_pages",
        seeds: vec![everything, damage(0, 2), damage(9, u64::MAX), Vec::new()],
        words: &["\u{80}\u{ff}tick"],
        max_bytes: 200 * DAMAGE_BYTES,
        cases: 30_000,
        cpu: Duration::from_secs(2),
        bytes: 64 << 10,
        bytes_per_byte: 0,
    };
    target.run(|input| {
        victim.with_damages(input, || {
            let record = page.read();
            assert!(record.frames.len() <= ipc::crash::MAX_FRAMES);
            assert!(record.panic.as_ref().is_none_or(|panic| panic.len() <= 3 * ipc::crash::MAX_PANIC_BYTES));
            assert!(format!("{record:?}").len() < 64 << 10);
        });
    });
}
