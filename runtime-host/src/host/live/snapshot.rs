//! A copy of a program's memories, made on the tick thread into a buffer that was there before: what a failed tick goes back
//! to. Owned by the change or the program it belongs to, allocated and freed on the control thread.

use ipc::limits::{MAX_KEPT_START_BYTES, MAX_SNAPSHOT_BYTES};
use ipc::manifest::Manifest;

use crate::host::engine::Engine;
use crate::host::migration::Memories;

/// The bytes that a program's items occupy, of every memory; or all bytes of all memories.
pub struct Snapshot {
    memories: Vec<Vec<u8>>,
}

impl Snapshot {
    /// Room for the memories of the program that `manifest` describes; `None` when they are too large to be copied every tick.
    pub fn for_program(manifest: &Manifest) -> Option<Self> {
        let sizes = || manifest.memories.iter().map(|memory| memory.required_bytes);
        let total = sizes().fold(0u64, u64::saturating_add);
        // The limit keeps every size far below the address space.
        (total <= MAX_SNAPSHOT_BYTES).then(|| Self { memories: sizes().map(|bytes| vec![0; bytes as usize]).collect() })
    }

    /// A copy of all of the memories of `engine`, items or not; `None` when they are too large to be copied in every tick of
    /// every program. Its pages have been written to, so that the tick thread does not wait for them.
    pub fn of_all(engine: &Engine) -> Option<Self> {
        let total = engine.sizes().into_iter().fold(0u64, u64::saturating_add);
        let memories = || (0..engine.manifest().memories.len() as u32).map(|index| engine.memory(index).to_vec());
        (total <= MAX_KEPT_START_BYTES).then(|| Self { memories: memories().collect() })
    }

    /// Sizes of the copies in bytes.
    pub fn sizes(&self) -> Vec<u64> {
        self.memories.iter().map(|memory| memory.len() as u64).collect()
    }

    /// Copies the memories of `engine`. What it does not have stays as it was.
    pub fn take_rt(&mut self, engine: &Engine) {
        for (index, copy) in (0u32..).zip(&mut self.memories) {
            if let Some(bytes) = engine.bytes_rt(index, 0, copy.len()) {
                copy.copy_from_slice(bytes);
            }
        }
    }

    /// Puts the copies back.
    pub fn restore_rt(&self, engine: &mut Engine) {
        for (index, copy) in (0u32..).zip(&self.memories) {
            if let Some(bytes) = engine.bytes_mut_rt(index, 0, copy.len()) {
                bytes.copy_from_slice(copy);
            }
        }
    }
}

impl Memories for Snapshot {
    fn memory_rt(&self, index: u32) -> &[u8] {
        self.memories.get(index as usize).map_or(&[], Vec::as_slice)
    }
}
