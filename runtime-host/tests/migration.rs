//! Plans that a host refuses before it writes a byte (FAULTS row 24), and the carrying out of good ones under an allocator
//! that notices.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ipc::artifact::DefaultBytes;
use ipc::hash::ContentHash;
use ipc::plan::{CopyRange, DefaultAddress, MigrationPlan, Place, Relocation, StateKey, TargetRange};
use runtime_host::host::migration::{Memories, MemoriesMut, Migration, PlanError, validate, write_defaults};

thread_local! {
    /// Calls of the allocator by this thread; tests run side by side.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged, and counting allocates nothing: the counter is a
// constant-initialised thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is the system allocator's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Sizes of the memories of both sides in bytes.
const FROM: [u64; 2] = [256, 64];
const TO: [u64; 2] = [512, 64];

struct Ram(Vec<Vec<u8>>);

impl Ram {
    fn of(sizes: &[u64]) -> Self {
        Self(sizes.iter().map(|size| (0..*size).map(|byte| byte as u8).collect()).collect())
    }

    fn word(&self, memory: usize, address: usize) -> u32 {
        u32::from_le_bytes(self.0[memory][address..address + 4].try_into().unwrap())
    }

    fn set_word(&mut self, memory: usize, address: usize, value: u32) {
        self.0[memory][address..address + 4].copy_from_slice(&value.to_le_bytes());
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

fn at(memory: u32, address: u32) -> Place {
    Place { memory, address }
}

/// A plan with one of everything: two copies, two pointers, a target that moved, one that is gone, a patch.
fn good() -> MigrationPlan {
    let pointer = |from, to, default| Relocation { from, to, count: 2, from_pointee: 0, to_pointee: 0, default, pointer: 0 };
    MigrationPlan {
        from: ContentHash::of(&[b"from"]),
        to: ContentHash::of(&[b"to"]),
        copies: vec![CopyRange { from: at(0, 4), to: at(0, 8), bytes: 32 }, CopyRange { from: at(1, 5), to: at(1, 1), bytes: 3 }],
        relocations: vec![
            pointer(at(0, 64), at(0, 128), None),
            pointer(at(0, 80), at(0, 256), Some(DefaultAddress { from: 250, to: 500 })),
        ],
        targets: vec![
            TargetRange { from: at(0, 100), bytes: 20, to: Some(at(0, 300)) },
            TargetRange { from: at(0, 120), bytes: 8, to: None },
            TargetRange { from: at(0, 128), bytes: 4, to: Some(at(1, 0)) },
        ],
        patches: vec![DefaultBytes { memory: 0, address: 40, bytes: vec![0xaa; 4] }],
        pointers: vec![StateKey { module: "m".to_owned(), item: "p".to_owned(), shadowed: None }],
        resets: Vec::new(),
        reruns_init_only: false,
    }
}

fn refusal(damage: impl FnOnce(&mut MigrationPlan)) -> String {
    let mut plan = good();
    damage(&mut plan);
    let error: PlanError = validate(&plan, &FROM, &TO).expect_err("a plan that must be refused");
    assert_eq!(Migration::prepare(plan, FROM.to_vec(), TO.to_vec()).err(), Some(error.clone()));
    error.to_string()
}

#[test]
fn a_good_plan_is_accepted() {
    assert_eq!(validate(&good(), &FROM, &TO), Ok(()));
}

#[test]
fn entries_out_of_range_are_refused_with_their_name() {
    assert_eq!(refusal(|plan| plan.copies[0].from.address = 228), "copies[0].from ends at byte 260 of memory 0, which has 256 bytes");
    assert_eq!(
        refusal(|plan| plan.copies[1].to.address = 0xffff_fffd),
        "copies[1].to ends at byte 4294967296 of memory 1, which has 64 bytes"
    );
    assert!(refusal(|plan| plan.copies[0].bytes = u32::MAX).starts_with("copies[0].from ends at byte 4294967299"));
    assert!(refusal(|plan| plan.relocations[1].count = u32::MAX).starts_with("relocations[1].from ends at byte 17179869260"));
    assert!(refusal(|plan| plan.relocations[0].to.address = 508).starts_with("relocations[0].to ends at byte 516"));
    assert!(refusal(|plan| plan.targets[2].bytes = 200).starts_with("targets[2].from ends at byte 328"));
    assert!(refusal(|plan| plan.targets[0].to = Some(at(0, 500))).starts_with("targets[0].to ends at byte 520"));
    assert!(refusal(|plan| plan.patches[0].address = 510).starts_with("patches[0].bytes ends at byte 514"));
}

#[test]
fn memories_that_do_not_exist_are_refused() {
    assert_eq!(refusal(|plan| plan.copies[0].to.memory = 2), "copies[0].to names memory 2, which does not exist");
    assert_eq!(refusal(|plan| plan.relocations[0].to_pointee = 7), "relocations[0].to_pointee names memory 7, which does not exist");
    assert!(refusal(|plan| plan.targets[1].from.memory = u32::MAX).starts_with("targets[1].from names memory"));
    assert!(refusal(|plan| plan.patches[0].memory = 2).starts_with("patches[0].bytes names memory 2"));
}

#[test]
fn bytes_that_two_entries_claim_are_refused() {
    assert_eq!(refusal(|plan| plan.patches[0].address = 36), "patches[0].bytes overlaps copies[0].to");
    assert_eq!(refusal(|plan| plan.copies[0].bytes = 64), "relocations[0].from overlaps copies[0].from");
    assert_eq!(refusal(|plan| plan.relocations[0].count = 5), "relocations[1].from overlaps relocations[0].from");
    assert_eq!(refusal(|plan| plan.copies.push(plan.copies[0])), "copies[2].from overlaps copies[0].from");
    assert_eq!(refusal(|plan| plan.targets[0].bytes = 21), "targets[1].from overlaps targets[0].from");
}

#[test]
fn entries_that_split_words_are_refused() {
    assert_eq!(refusal(|plan| plan.copies[0].to.address = 9), "copies[0].to is not aligned");
    assert_eq!(refusal(|plan| plan.relocations[0].from.address = 66), "relocations[0].from is not aligned");
    assert_eq!(refusal(|plan| plan.relocations[1].to.address = 257), "relocations[1].to is not aligned");
}

#[test]
fn empty_and_unordered_entries_are_refused() {
    assert_eq!(refusal(|plan| plan.copies[1].bytes = 0), "copies[1].from is empty");
    assert_eq!(refusal(|plan| plan.relocations[0].count = 0), "relocations[0].from is empty");
    assert_eq!(refusal(|plan| plan.patches[0].bytes.clear()), "patches[0].bytes is empty");
    assert_eq!(refusal(|plan| plan.relocations.swap(0, 1)), "relocations[1].place is not in ascending order");
    assert_eq!(refusal(|plan| plan.targets.swap(0, 2)), "targets[1].place is not in ascending order");
    assert_eq!(refusal(|plan| plan.relocations[0].pointer = 1), "relocations[0].pointer is 1, there are 1");
}

/// Flips bits in the numbers of a good plan, as a damaged or hostile peer would.
#[test]
fn a_damaged_plan_is_refused_or_stays_inside_its_memories() {
    let bytes = ipc::codec::encode(&good()).unwrap();
    let mut accepted = 0;
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(plan) = ipc::codec::decode::<MigrationPlan>(&damaged) else { continue };
        let Ok(mut migration) = Migration::prepare(plan, FROM.to_vec(), TO.to_vec()) else { continue };
        // An access outside of the memories would panic.
        migration.apply_rt(&Ram::of(&FROM), &mut Ram::of(&TO)).unwrap();
        accepted += 1;
    }
    assert!(accepted > 0, "damage of names and addresses can be harmless");
}

#[test]
fn addresses_follow_what_they_point_at() {
    let mut migration = Migration::prepare(good(), FROM.to_vec(), TO.to_vec()).unwrap();
    let (mut from, mut to) = (Ram::of(&FROM), Ram::of(&TO));
    let outcome = |value: u32, from: &mut Ram, to: &mut Ram, migration: &mut Migration| {
        [(0, 64), (0, 68), (0, 80), (0, 84)].into_iter().for_each(|(memory, address)| from.set_word(memory, address, 0));
        from.set_word(0, 80, value);
        to.set_word(0, 256, 77);
        let carried = migration.apply_rt(from, to).unwrap();
        (to.word(0, 256), carried.lost)
    };
    let mut follow = |value| outcome(value, &mut from, &mut to, &mut migration);
    assert_eq!(follow(100), (300, 0), "first byte of what moved");
    assert_eq!(follow(119), (319, 0), "its last byte");
    assert_eq!(follow(120), (77, 1), "gone: the destination keeps its default");
    assert_eq!(follow(127), (77, 1));
    assert_eq!(follow(128), (77, 1), "moved to a memory that the pointer does not reach");
    assert_eq!(follow(132), (132, 0), "behind all targets");
    assert_eq!(follow(99), (99, 0), "before all targets");
    assert_eq!(follow(250), (500, 0), "the default is the default again");
    assert_eq!(follow(0), (0, 0));
    assert_eq!(follow(u32::MAX), (u32::MAX, 0));
}

#[test]
fn nothing_but_what_the_plan_names_is_written() {
    let mut migration = Migration::prepare(good(), FROM.to_vec(), TO.to_vec()).unwrap();
    let (from, mut to) = (Ram::of(&FROM), Ram::of(&TO));
    let before = Ram::of(&TO);
    let carried = migration.apply_rt(&from, &mut to).unwrap();
    assert_eq!((carried.kept_bytes, carried.moved_bytes, carried.patched_bytes), (0, 35 + 4 * 4, 4));
    assert_eq!(to.0[0][8..40], from.0[0][4..36]);
    assert_eq!(to.0[1][1..4], from.0[1][5..8]);
    assert_eq!(to.0[0][40..44], [0xaa; 4]);
    let named = |address: usize| (8..44).contains(&address) || (128..136).contains(&address) || (256..264).contains(&address);
    let untouched = |address: &usize| !named(*address);
    assert!((0..512).filter(untouched).all(|address| to.0[0][address] == before.0[0][address]));
    assert!((4..64).chain(0..1).all(|address| to.0[1][address] == before.0[1][address]));
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    let part = |memory, address| [DefaultBytes { memory, address, bytes: vec![1; 8] }];
    let mut ram = Ram::of(&FROM);
    assert_eq!(write_defaults(&part(1, 56), &mut ram), Ok(()));
    assert_eq!(ram.0[1][56..], [1; 8]);
    assert!(write_defaults(&part(1, 57), &mut ram).is_err());
    assert!(write_defaults(&part(2, 0), &mut ram).is_err());
    assert!(write_defaults(&part(0, u32::MAX), &mut ram).is_err());
}

#[test]
fn carrying_state_over_back_and_in_place_allocates_nothing() {
    let mut there = Migration::prepare(good(), FROM.to_vec(), TO.to_vec()).unwrap();
    let mut back_plan = good();
    back_plan.targets.retain(|target| target.to.is_none_or(|to| to.memory == 0));
    let mut back = Migration::prepare(back_plan, TO.to_vec(), FROM.iter().map(|size| size * 2).collect()).unwrap();
    let (mut from, mut to, mut kept) = (Ram::of(&FROM), Ram::of(&TO), Ram::of(&[512, 128]));
    from.set_word(0, 64, 121);
    let before = CALLS.with(Cell::get);
    let carried = there.apply_rt(&from, &mut to).unwrap();
    back.roll_back_rt(&there, &to, &mut kept).unwrap();
    there.exchange_patches_rt(&mut to).unwrap();
    let calls = CALLS.with(Cell::get) - before;
    assert_eq!((calls, carried.lost), (0, 1));
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(CALLS.with(Cell::get) - before, 2, "the allocator notices an allocation and its end");
}
