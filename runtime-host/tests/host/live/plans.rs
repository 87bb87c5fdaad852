//! Plans by state key, for programs without pointers. The supervisor has the real algorithm; here a plan only has to be right.

use std::collections::BTreeMap;

use ipc::artifact::{Artifact, DefaultBytes};
use ipc::manifest::Item;
use ipc::plan::{CopyRange, MigrationPlan, Place};

fn items(artifact: &Artifact) -> BTreeMap<(String, String), Item> {
    let modules = artifact.manifest.modules.iter();
    modules.flat_map(|module| module.items.iter().map(|item| ((module.id.clone(), item.name.clone()), item.clone()))).collect()
}

/// What `item` starts from.
fn default_of(artifact: &Artifact, item: &Item) -> Vec<u8> {
    let mut memory = vec![0; artifact.manifest.memories[0].required_bytes as usize];
    for part in &artifact.image {
        memory[part.address as usize..][..part.bytes.len()].copy_from_slice(&part.bytes);
    }
    let start = item.byte_address as usize;
    memory[start..start + item.element_bytes() as usize].to_vec()
}

fn place(item: &Item) -> Place {
    Place { memory: 0, address: item.byte_address }
}

/// The plan from the memories of `old` into those of `new`. With `is_back`, new defaults are left alone.
fn plan(old: &Artifact, new: &Artifact, is_back: bool) -> MigrationPlan {
    let (olds, news) = (items(old), items(new));
    let mut plan = MigrationPlan {
        from: old.manifest.revision,
        to: new.manifest.revision,
        copies: Vec::new(),
        relocations: Vec::new(),
        targets: Vec::new(),
        patches: Vec::new(),
        pointers: Vec::new(),
        resets: Vec::new(),
        reruns_init_only: false,
    };
    for (key, item) in &news {
        let Some(before) = olds.get(key).filter(|before| (before.element, before.is_array) == (item.element, item.is_array)) else {
            continue;
        };
        let (was, is) = (default_of(old, before), default_of(new, item));
        let bytes = before.element_bytes().min(item.element_bytes()) as u32;
        match was[..bytes as usize] == is[..bytes as usize] {
            true => plan.copies.push(CopyRange { from: place(before), to: place(item), bytes }),
            // What a changed default did to the way there must not be carried back.
            false if is_back => {}
            false => plan.patches.push(DefaultBytes { memory: 0, address: item.byte_address, bytes: is }),
        }
    }
    plan.copies.sort_by_key(|copy| copy.to);
    plan.patches.sort_by_key(|patch| patch.address);
    plan.reruns_init_only = !is_back && !plan.patches.is_empty() && new.manifest.has_export("initOnly");
    plan
}

pub fn there(old: &Artifact, new: &Artifact) -> MigrationPlan {
    plan(old, new, false)
}

pub fn back(failed: &Artifact, good: &Artifact) -> MigrationPlan {
    plan(failed, good, true)
}
