//! The two slots of checkpoints: whatever the writer was doing when it stopped, a reader gets a whole checkpoint, and never an
//! older one than the last that was complete.

use std::sync::atomic::Ordering::Relaxed;

use ipc::state::Commit;
use ipc::words::Words;
use loom::sync::Arc;
use loom::thread;

use crate::memory::{Memory, Process};

/// Where the slots begin: the commit word, then two words of content.
const SLOTS: [usize; 2] = [0, 24];
/// Steps that writing a checkpoint takes.
const STEPS: u32 = 4;

fn memory() -> Arc<Memory> {
    Memory::new(&SLOTS.map(|slot| [slot, slot + 8, slot + 16]).concat(), &[])
}

/// Writes checkpoint `sequence` into its slot: the other one than that of the checkpoint before.
fn write_rt(words: &impl Words, sequence: u64) {
    let slot = SLOTS[sequence as usize % 2];
    let commit = Commit { offset: slot };
    commit.begin_rt(words);
    words.store_u64_rt(slot + 8, 10 * sequence, Relaxed);
    words.store_u64_rt(slot + 16, 10 * sequence + 1, Relaxed);
    commit.complete_rt(words, sequence);
}

/// What is in a slot, if it is complete and has stayed so while it was copied. Fails when the copy is anything else than
/// what its sequence number says.
fn read(words: &impl Words, slot: usize) -> Option<u64> {
    let commit = Commit { offset: slot };
    let sequence = commit.read(words)?;
    let content = [words.load_u64_rt(slot + 8, Relaxed), words.load_u64_rt(slot + 16, Relaxed)];
    if !commit.is_still(words, sequence) {
        return None;
    }
    assert_eq!(content, [10 * sequence, 10 * sequence + 1], "checkpoint {sequence} is mixed");
    Some(sequence)
}

fn newest(words: &impl Words) -> Option<u64> {
    SLOTS.iter().filter_map(|slot| read(words, *slot)).max()
}

#[test]
fn a_reader_gets_the_old_checkpoint_or_the_new_one_wherever_the_writer_dies() {
    for steps in 0..=STEPS {
        loom::model(move || {
            let memory = memory();
            let before = Process::living(&memory);
            write_rt(&before, 1);
            write_rt(&before, 2);
            let writer = Process::dying_after(&memory, steps);
            let host = thread::spawn(move || write_rt(&writer, 3));
            let reader = Process::living(&memory);
            assert!(matches!(newest(&reader), Some(2 | 3)));
            host.join().unwrap();
            let expected = if steps == STEPS { 3 } else { 2 };
            assert_eq!(newest(&reader), Some(expected), "the writer died after {steps} steps");
        });
    }
}

#[test]
fn a_host_that_takes_over_writes_over_what_the_dead_one_left_unfinished() {
    for steps in 0..=STEPS {
        loom::model(move || {
            let memory = memory();
            write_rt(&Process::living(&memory), 2);
            let (dying, second) = (Process::dying_after(&memory, steps), Process::living(&memory));
            let hosts = thread::spawn(move || {
                write_rt(&dying, 3);
                let next = newest(&second).map_or(1, |sequence| sequence + 1);
                write_rt(&second, next);
            });
            // Somebody who looks on at any moment: a whole checkpoint or, while both slots are in other hands, none.
            newest(&Process::living(&memory));
            hosts.join().unwrap();
            assert!(newest(&Process::living(&memory)).is_some_and(|sequence| sequence >= 3));
        });
    }
}

#[test]
fn the_model_notices_a_writer_that_does_not_invalidate_its_slot_first() {
    let mixed = std::panic::catch_unwind(|| {
        loom::model(|| {
            let memory = memory();
            write_rt(&Process::living(&memory), 1);
            let writer = Process::living(&memory);
            let host = thread::spawn(move || {
                writer.store_u64_rt(SLOTS[1] + 8, 30, Relaxed);
                writer.store_u64_rt(SLOTS[1] + 16, 31, Relaxed);
                Commit { offset: SLOTS[1] }.complete_rt(&writer, 3);
            });
            newest(&Process::living(&memory));
            host.join().unwrap();
        });
    });
    assert!(mixed.is_err(), "a mixed checkpoint was not found");
}
