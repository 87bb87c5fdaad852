//! Memories for tests, and plans carried out on them by the host's own code.

use ipc::manifest::Manifest;
use runtime_host::host::migration::{Carried, Memories, MemoriesMut, Migration, write_defaults};

use super::builder::Built;
use crate::change::{plan, plan_back};

/// All memories of one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Ram(pub Vec<Vec<u8>>);

impl Memories for Ram {
    fn memory_rt(&self, index: u32) -> &[u8] {
        self.0.get(index as usize).map_or(&[], Vec::as_slice)
    }
}

impl MemoriesMut for Ram {
    fn memory_mut_rt(&mut self, index: u32) -> &mut [u8] {
        self.0.get_mut(index as usize).map_or(&mut [], Vec::as_mut_slice)
    }
}

impl Ram {
    /// What a program's memories hold at first.
    pub fn initial(built: &Built) -> Self {
        let mut ram = Self(sizes(&built.manifest).into_iter().map(|size| vec![0; size as usize]).collect());
        write_defaults(&built.image, &mut ram).unwrap();
        ram
    }

    /// The bytes of an item's elements.
    pub fn item(&self, built: &Built, module: &str, item: &str) -> &[u8] {
        let (module, item) = built.manifest.item(module, item).unwrap();
        &self.0[module.memory as usize][item.byte_address as usize..][..item.element_bytes() as usize]
    }

    pub fn word(&self, built: &Built, module: &str, item: &str) -> u32 {
        u32::from_le_bytes(self.item(built, module, item)[..4].try_into().unwrap())
    }

    pub fn set(&mut self, built: &Built, module: &str, item: &str, bytes: &[u8]) {
        let (module, item) = built.manifest.item(module, item).unwrap();
        self.0[module.memory as usize][item.byte_address as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}

pub fn sizes(manifest: &Manifest) -> Vec<u64> {
    manifest.memories.iter().map(|memory| memory.required_bytes).collect()
}

/// A swap from one revision to another that has been carried out.
pub struct Swap {
    pub migration: Migration,
    pub carried: Carried,
    pub memory: Ram,
}

/// Carries `memory` of `old` over into fresh memories of `new`.
pub fn swap(old: &Built, new: &Built, memory: &Ram) -> Swap {
    let plan = plan(old.revision(), new.revision());
    let mut migration = Migration::prepare(plan, sizes(&old.manifest), sizes(&new.manifest)).unwrap();
    let mut next = Ram::initial(new);
    let carried = migration.apply_rt(memory, &mut next).unwrap();
    Swap { migration, carried, memory: next }
}

/// Carries what `failed` holds back into `kept`, the memories of `good` as they were at the swap.
pub fn roll_back(failed: &Built, good: &Built, swap: &Swap, kept: &mut Ram) {
    let plan = plan_back(failed.revision(), good.revision());
    let mut back = Migration::prepare(plan, sizes(&failed.manifest), sizes(&good.manifest)).unwrap();
    back.roll_back_rt(&swap.migration, &swap.memory, kept).unwrap();
}
