//! The input of a lane: a host that waits for what it is to hear is woken, and what it may have to hear again is there.

use std::time::Duration;

use ipc::input::{InputReader, InputWriter};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::memory::{Memory, Process};

const FRAMES: usize = 1;
const BLOCKS: usize = 2;
/// One of the two is kept behind the runtime.
const KEPT: usize = 1;
const TICKS: u64 = 3;

type Writer = InputWriter<Process, BLOCKS, KEPT, FRAMES>;
type Reader = InputReader<Process, BLOCKS, FRAMES>;

fn memory() -> Arc<Memory> {
    let slots = (0..BLOCKS).map(|slot| 128 + slot * (64 + 2 * FRAMES * 4));
    let offsets: Vec<usize> = [0, 64].into_iter().chain(slots.flat_map(|slot| [slot, slot + 64, slot + 68])).collect();
    Memory::new(&offsets, &[8, 72])
}

fn block(number: u64) -> [[f32; FRAMES]; 2] {
    [[(2 * number + 1) as f32], [(2 * number + 2) as f32]]
}

#[test]
fn every_tick_hears_its_block_once_and_once_more() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let memory = memory();
        let completed = Arc::new(AtomicU64::new(0));
        let mut writer: Writer = InputWriter::over(Process::living(&memory));
        let reader: Reader = InputReader::over(Process::living(&memory));
        let seen = Arc::clone(&completed);
        let host = thread::spawn(move || {
            for tick in 0..TICKS {
                while !reader.wait_rt(tick, Duration::MAX) {}
                let mut heard = [[0.0; FRAMES]; 2];
                assert!(reader.read_rt(tick, &mut heard) && heard == block(tick), "tick {tick}");
                seen.store(tick + 1, Ordering::Release);
                // Another host executes it again.
                assert!(reader.read_rt(tick, &mut heard) && heard == block(tick), "tick {tick}, once more");
            }
        });
        while writer.next_block() < TICKS {
            if writer.has_room_rt(completed.load(Ordering::Acquire)) {
                writer.write_rt(&block(writer.next_block()));
                writer.wake_rt();
            } else {
                thread::yield_now();
            }
        }
        host.join().unwrap();
    });
}
