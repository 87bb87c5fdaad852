//! Migration plans that lie: what the validator lets pass is carried out without reaching outside of a memory or writing a byte
//! twice.

use std::time::Duration;

use fuzz::{Random, Target, arbitrary};
use ipc::artifact::DefaultBytes;
use ipc::codec;
use ipc::hash::ContentHash;
use ipc::limits::MAX_MESSAGE_BYTES;
use ipc::plan::{CopyRange, DefaultAddress, MigrationPlan, Place, Relocation, StateKey, TargetRange};
use runtime_host::host::migration::{Memories, MemoriesMut, Migration, write_defaults};

/// Sizes of the memories of both sides in bytes.
const FROM: [u64; 2] = [256, 64];
const TO: [u64; 2] = [320, 64];

#[derive(Clone, Debug, PartialEq)]
struct Ram(Vec<Vec<u8>>);

impl Ram {
    fn of(sizes: &[u64], first: u8) -> Self {
        Self(sizes.iter().map(|size| (0..*size).map(|byte| (byte as u8).wrapping_add(first)).collect()).collect())
    }
}

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

/// Whether a plan says of a byte that it is written.
fn writes(plan: &MigrationPlan, memory: u32, address: u64) -> bool {
    let covers =
        |place: Place, bytes: u64| place.memory == memory && (place.address.into()..u64::from(place.address) + bytes).contains(&address);
    let at = |patch: &DefaultBytes| Place { memory: patch.memory, address: patch.address };
    plan.copies.iter().any(|copy| covers(copy.to, copy.bytes.into()))
        || plan.relocations.iter().any(|relocation| covers(relocation.to, 4 * u64::from(relocation.count)))
        || plan.patches.iter().any(|patch| covers(at(patch), patch.bytes.len() as u64))
}

fn carry(plan: MigrationPlan) {
    let mut again = plan.clone();
    again.patches.clear();
    let Ok(mut migration) = Migration::prepare(plan, FROM.to_vec(), TO.to_vec()) else { return };
    let (from, before) = (Ram::of(&FROM, 0), Ram::of(&TO, 100));
    let mut to = before.clone();
    migration.apply_rt(&from, &mut to).expect("the memories have the sizes of the plan");
    for ((memory, old), new) in (0..).zip(&before.0).zip(&to.0) {
        assert_eq!(old.len(), new.len());
        let touched = (0..).zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new);
        for (address, _) in touched {
            assert!(writes(migration.plan(), memory, address), "byte {address} of memory {memory} was written");
        }
    }
    assert!(migration.lost_pointers().len() <= migration.plan().pointers.len());
    let mut back = Migration::prepare(again, FROM.to_vec(), TO.to_vec()).expect("the same plan without patches is one");
    back.roll_back_rt(&migration, &from, &mut to).expect("the memories have the sizes of the plan");
    let carried = to.clone();
    migration.exchange_patches_rt(&mut to).expect("the memories have the sizes of the plan");
    migration.exchange_patches_rt(&mut to).expect("the memories have the sizes of the plan");
    assert_eq!(to, carried, "exchanged twice is as before");
}

/// A plan, or else an image of defaults.
fn check(input: &[u8]) {
    if let Ok(plan) = codec::decode::<MigrationPlan>(input) {
        carry(plan);
    }
    if let Ok(image) = codec::decode::<Vec<DefaultBytes>>(input) {
        let mut memories = Ram::of(&TO, 0);
        let fits =
            image.iter().all(|part| u64::from(part.address) + part.bytes.len() as u64 <= memories.memory_rt(part.memory).len() as u64);
        assert_eq!(write_defaults(&image, &mut memories).is_ok(), fits);
    }
}

/// A plan with all there can be in one.
fn full_plan() -> MigrationPlan {
    let place = |memory, address| Place { memory, address };
    let relocation = |from, to, pointer| Relocation {
        from: place(0, from),
        to: place(0, to),
        count: 2,
        from_pointee: 0,
        to_pointee: 0,
        default: Some(DefaultAddress { from: 128, to: 160 }),
        pointer,
    };
    let key = |item: &str| StateKey { module: "osc".to_owned(), item: item.to_owned(), shadowed: None };
    MigrationPlan {
        from: ContentHash::of(&[b"from"]),
        to: ContentHash::of(&[b"to"]),
        copies: vec![
            CopyRange { from: place(0, 0), to: place(0, 16), bytes: 8 },
            CopyRange { from: place(0, 64), to: place(0, 128), bytes: 32 },
            CopyRange { from: place(1, 0), to: place(1, 0), bytes: 64 },
        ],
        relocations: vec![relocation(8, 24, 0), relocation(16, 32, 1)],
        targets: vec![
            TargetRange { from: place(0, 0), bytes: 8, to: Some(place(0, 16)) },
            TargetRange { from: place(0, 64), bytes: 32, to: Some(place(0, 128)) },
            TargetRange { from: place(0, 200), bytes: 16, to: None },
        ],
        patches: vec![DefaultBytes { memory: 0, address: 240, bytes: vec![1, 2, 3, 4] }],
        pointers: vec![key("read"), key("write")],
        resets: vec![key("phase")],
        reruns_init_only: true,
    }
}

#[test]
fn migration_plans() {
    let plan = full_plan();
    Migration::prepare(plan.clone(), FROM.to_vec(), TO.to_vec()).expect("the plan to begin with is one");
    let mut seeds = vec![codec::encode(&plan).expect("a plan is short")];
    seeds.push(codec::encode(&plan.patches).expect("an image is short"));
    seeds.extend(arbitrary::encodings::<MigrationPlan>(60, &mut Random::new(2), |plan| codec::encode(plan).ok()));
    let target = Target {
        name: "migration_plans",
        seeds,
        words: &["\u{fc}\u{ff}\u{ff}\u{ff}\u{ff}"],
        max_bytes: 16 << 10,
        cases: 80_000,
        cpu: Duration::from_secs(2),
        bytes: MAX_MESSAGE_BYTES as u64 + (1 << 20),
        bytes_per_byte: 400,
    };
    target.run(check);
}
