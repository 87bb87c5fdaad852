//! Plans, carried out by the host's own code on memories.

use ipc::manifest::ElementType;
use ipc::plan::{Fate, MigrationPlan};
use runtime_host::host::migration::{Memories, Migration};

use super::builder::{Built, Default, FLOAT, INT, POINTER, SAME_RUNTIME, Text, bytes, floats, text};
use super::ram::{Ram, roll_back, sizes, swap};
use crate::change::{classify, plan};

fn two(old: &Text, edit: impl FnOnce(&mut Text)) -> (Built, Built) {
    (old.build(), old.edited(edit).build())
}

fn plan_of(old: &Built, new: &Built) -> MigrationPlan {
    plan(old.revision(), new.revision())
}

/// `b` reads `a` through a pointer and an integer that holds its address.
fn pointing() -> Text {
    text()
        .module("a")
        .float("pad", 0.0)
        .array("buffer", FLOAT, 4, floats(&[1.0, 2.0, 3.0, 4.0]))
        .module("b")
        .pointer("head", "a", "buffer")
        .scalar("base", INT, Default::Address("a".to_owned(), "buffer".to_owned(), 4))
        .int("number", 20)
}

#[test]
fn a_program_that_only_moved_is_one_copy_and_its_addresses() {
    let (old, new) = two(&text().module("a").int("x", 1).int("y", 2).float("z", 3.0), |text| text.gap_words = 3);
    let plan = plan_of(&old, &new);
    assert_eq!((plan.copies.len(), plan.copies[0].bytes), (1, 12));
    assert!(plan.relocations.is_empty() && plan.patches.is_empty() && plan.resets.is_empty());
}

#[test]
fn state_moves_and_new_items_start_from_their_default() {
    let old = text().module("a").int("x", 1).module("b").float("y", 2.0);
    let (old, new) = two(&old, |text| *text = text.clone().module("aa").int("z", 7));
    let mut memory = Ram::initial(&old);
    memory.set(&old, "a", "x", &41i32.to_le_bytes());
    memory.set(&old, "b", "y", &9.5f32.to_le_bytes());
    let swap = swap(&old, &new, &memory);
    assert_eq!(swap.memory.word(&new, "a", "x"), 41);
    assert_eq!(swap.memory.item(&new, "b", "y"), 9.5f32.to_le_bytes());
    assert_eq!(swap.memory.word(&new, "aa", "z"), 7);
}

#[test]
fn an_array_keeps_its_common_prefix() {
    let table = |count| text().module("a").array("t", ElementType::Int16, count, Default::Bytes(vec![9; 2])).int("after", 0);
    for (from, to) in [(5, 9), (9, 5), (4, 5), (5, 4)] {
        let (old, new) = (table(from).build(), table(to).build());
        let mut memory = Ram::initial(&old);
        let state: Vec<u8> = (1..=2 * from as u8).collect();
        memory.set(&old, "a", "t", &state);
        let after = swap(&old, &new, &memory).memory;
        let common = 2 * from.min(to) as usize;
        assert_eq!(after.item(&new, "a", "t")[..common], state[..common]);
        assert!(after.item(&new, "a", "t")[common..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_grown_sequence_takes_its_edited_steps_and_keeps_the_rest() {
    let sequence = |values: &[f32]| text().module("a").array("t", FLOAT, values.len() as u32, floats(values));
    let (old, new) = (sequence(&[1.0, 2.0, 3.0]).build(), sequence(&[1.0, 5.0, 3.0, 4.0]).build());
    let mut memory = Ram::initial(&old);
    memory.set(&old, "a", "t", &[10f32.to_le_bytes(), 20f32.to_le_bytes(), 30f32.to_le_bytes()].concat());
    let after = swap(&old, &new, &memory).memory;
    assert_eq!(after.item(&new, "a", "t"), [10f32, 5.0, 30.0, 4.0].map(f32::to_le_bytes).concat());
}

#[test]
fn the_rest_of_an_arrays_last_word_is_state() {
    let small = text().module("a").array("t", ElementType::Int8, 5, Default::Zero);
    let (old, new) = two(&small, |text| text.gap_words = 1);
    let mut memory = Ram::initial(&old);
    let start = old.item("a", "t").byte_address as usize;
    memory.0[0][start..start + 8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let after = swap(&old, &new, &memory).memory;
    assert_eq!(after.0[0][new.item("a", "t").byte_address as usize..][..8], [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_retyped_item_starts_from_its_default_and_is_named() {
    let (old, new) = two(&text().module("a").int("x", 3), |text| text.find_item("a", "x").element = FLOAT);
    let mut memory = Ram::initial(&old);
    memory.set(&old, "a", "x", &77i32.to_le_bytes());
    let swap = swap(&old, &new, &memory);
    assert_eq!(swap.memory, Ram::initial(&new));
    assert_eq!(swap.migration.plan().resets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:x"]);
}

#[test]
fn only_a_changed_default_is_written_over_kept_state() {
    let (old, new) = two(&text().module("a").int("x", 3).int("y", 4), |text| text.find_item("a", "y").default = bytes(&5i32.to_le_bytes()));
    let mut memory = Ram::initial(&old);
    memory.set(&old, "a", "x", &77i32.to_le_bytes());
    memory.set(&old, "a", "y", &88i32.to_le_bytes());
    let plan = plan_of(&old, &new);
    assert_eq!(plan.patches.len(), 1);
    let mut running = memory.clone();
    let mut patching = Migration::prepare(plan, sizes(&old.manifest), sizes(&new.manifest)).unwrap();
    patching.exchange_patches_rt(&mut running).unwrap();
    assert_eq!((running.word(&new, "a", "x"), running.word(&new, "a", "y")), (77, 5));
    assert_eq!(running, swap(&old, &new, &memory).memory, "class A in place is what a new engine would hold");
    patching.exchange_patches_rt(&mut running).unwrap();
    assert_eq!(running, memory, "a second exchange undoes the first");
}

#[test]
fn addresses_follow_their_targets() {
    let (old, new) = two(&pointing(), |text| text.find("a").items.insert(0, text_item("first")));
    let mut memory = Ram::initial(&old);
    let buffer = old.item("a", "buffer").byte_address;
    memory.set(&old, "b", "head", &(buffer + 12).to_le_bytes());
    let swap = swap(&old, &new, &memory);
    let moved = new.item("a", "buffer").byte_address;
    assert_ne!(moved, buffer);
    assert_eq!(swap.memory.word(&new, "b", "head"), moved + 12);
    assert_eq!(swap.memory.word(&new, "b", "base"), moved + 4, "an integer whose default is an address");
    assert_eq!(swap.memory.word(&new, "b", "number"), 20, "an integer that only looks like one");
    assert_eq!((swap.carried.relocated, swap.carried.lost), (2, 0));
}

fn text_item(name: &str) -> super::builder::ItemText {
    super::builder::ItemText { name: name.to_owned(), element: INT, is_array: false, count: 1, default: Default::Zero }
}

#[test]
fn an_address_of_a_target_that_stayed_does_not_change() {
    let (old, new) = two(&pointing(), |text| text.find("b").items.push(text_item("last")));
    let memory = Ram::initial(&old);
    let swap = swap(&old, &new, &memory);
    assert_eq!(swap.memory.word(&new, "b", "head"), memory.word(&old, "b", "head"));
    assert_eq!(swap.carried.relocated, 0);
    assert!(swap.migration.plan().relocations.is_empty(), "nothing moved, so addresses are bytes");
}

#[test]
fn an_address_of_nothing_does_not_change() {
    let (old, new) = two(&pointing(), |text| text.gap_words = 4);
    for value in [0u32, 3, 0xffff_fff0, old.manifest.memories[0].required_bytes as u32] {
        let mut memory = Ram::initial(&old);
        memory.set(&old, "b", "head", &value.to_le_bytes());
        assert_eq!(swap(&old, &new, &memory).memory.word(&new, "b", "head"), value);
    }
}

#[test]
fn an_address_whose_target_is_gone_goes_back_to_its_default_and_is_named() {
    let with_target = pointing().module("c").float("other", 0.0);
    let (old, new) = two(&with_target, |text| {
        text.modules.retain(|module| module.id != "c");
        text.gap_words = 1;
    });
    let mut memory = Ram::initial(&old);
    memory.set(&old, "b", "head", &old.item("c", "other").byte_address.to_le_bytes());
    let announced = classify(old.revision(), new.revision(), &SAME_RUNTIME);
    let head = announced.items.iter().find(|item| item.key.item == "head").unwrap();
    assert!(head.may_lose_target && head.fate == Fate::Moved);
    let mut swap = swap(&old, &new, &memory);
    assert_eq!(swap.memory.word(&new, "b", "head"), new.item("a", "buffer").byte_address);
    assert_eq!(swap.migration.lost_pointers(), [&head.key]);
    assert_eq!(swap.carried.lost, 1);
    let mut kept = memory.clone();
    swap.memory.set(&new, "a", "pad", &6f32.to_le_bytes());
    roll_back(&new, &old, &swap, &mut kept);
    assert_eq!(kept.word(&old, "b", "head"), old.item("c", "other").byte_address, "its target is back");
    assert_eq!(kept.item(&old, "a", "pad"), 6f32.to_le_bytes());
}

#[test]
fn an_address_beyond_the_end_of_a_shrunk_array_is_gone() {
    let (old, new) = two(&pointing(), |text| {
        let buffer = text.find_item("a", "buffer");
        (buffer.count, buffer.default) = (2, floats(&[1.0, 2.0]));
    });
    let buffer = old.item("a", "buffer").byte_address;
    let outcome = |offset: u32| {
        let mut memory = Ram::initial(&old);
        memory.set(&old, "b", "head", &(buffer + offset).to_le_bytes());
        let swap = swap(&old, &new, &memory);
        (swap.memory.word(&new, "b", "head"), swap.carried.lost)
    };
    assert_eq!(outcome(4), (buffer + 4, 0));
    assert_eq!(outcome(8), (buffer, 1));
}

#[test]
fn an_address_of_a_reset_item_stays_with_it() {
    let old = text().module("a").int("x", 1).int("y", 0).module("b").pointer("p", "a", "y");
    let (old, new) = two(&old, |text| {
        text.find_item("a", "y").element = ElementType::Float64;
        text.find("a").items.insert(0, text_item("first"));
    });
    let after = swap(&old, &new, &Ram::initial(&old)).memory;
    assert_eq!(after.word(&new, "b", "p"), new.item("a", "y").byte_address);
}

#[test]
fn an_end_that_lies_behind_its_item_follows_the_item() {
    // With a word for alignment before it, the end of a float64 is the start of the next item (LANGUAGE §7).
    let end = || Default::Address("a".to_owned(), "wide".to_owned(), 8);
    let old = text().module("a").int("x", 0).int("z", 0).scalar("wide", ElementType::Float64, Default::Zero).int("next", 0);
    let old = old.module("b").scalar("p", POINTER, end());
    let (old, new) = two(&old, |text| text.find("a").items.insert(3, text_item("between")));
    let report = classify(old.revision(), new.revision(), &SAME_RUNTIME);
    assert_eq!(report.counts().default_changed, 0, "{report:#?}");
    let after = swap(&old, &new, &Ram::initial(&old)).memory;
    assert_eq!(after.word(&new, "b", "p"), new.item("a", "wide").byte_address + 8);
}

#[test]
fn arrays_of_pointers_follow_element_by_element() {
    let addresses = |built: &Built| [built.item("a", "x"), built.item("a", "y")].map(|item| item.byte_address);
    let table = |order: [u32; 2]| {
        let bytes = order.iter().flat_map(|address| address.to_le_bytes()).collect();
        text().module("a").int("x", 0).int("y", 0).module("b").array("t", POINTER, 3, Default::Bytes(bytes))
    };
    let old = table(addresses(&table([0, 0]).build())).build();
    let wider = |order| table(order).edited(|text| text.gap_words = 2);
    let new = wider(addresses(&wider([0, 0]).build())).build();
    let report = classify(old.revision(), new.revision(), &SAME_RUNTIME);
    assert_eq!(report.counts().default_changed, 0, "the same targets at other addresses are the same defaults");
    let mut memory = Ram::initial(&old);
    let [x, y] = addresses(&old);
    memory.set(&old, "b", "t", &[y, x, 0].map(u32::to_le_bytes).concat());
    let [x, y] = addresses(&new);
    assert_eq!(swap(&old, &new, &memory).memory.item(&new, "b", "t"), [y, x, 0].map(u32::to_le_bytes).concat());
    let swapped = wider([y, x]).build();
    assert_eq!(classify(old.revision(), swapped.revision(), &SAME_RUNTIME).counts().default_changed, 1);
}

#[test]
fn state_follows_its_module_into_another_memory() {
    let old = text().module("a").int("x", 1).module("b").pointer("p", "a", "x").edited(|text| text.regions = vec!["fast".to_owned()]);
    let (old, new) = two(&old, |text| text.find("a").memory = 1);
    let mut memory = Ram::initial(&old);
    memory.set(&old, "a", "x", &5i32.to_le_bytes());
    let swap = swap(&old, &new, &memory);
    assert_eq!(swap.memory.word(&new, "a", "x"), 5);
    assert_eq!(swap.memory.word(&new, "b", "p"), new.item("a", "x").byte_address, "the default says which memory it is of");
}

#[test]
fn what_the_failed_revision_dropped_comes_back_as_it_was() {
    let old = text().module("a").int("x", 1).array("t", FLOAT, 4, Default::Zero).int("level", 7).module("b").int("gone", 2);
    let (old, new) = two(&old, |text| {
        text.modules.retain(|module| module.id != "b");
        text.find_item("a", "t").count = 2;
        text.find_item("a", "level").default = bytes(&8i32.to_le_bytes());
        text.gap_words = 5;
    });
    let mut memory = Ram::initial(&old);
    memory.set(&old, "b", "gone", &99i32.to_le_bytes());
    memory.set(&old, "a", "t", &[1f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
    memory.set(&old, "a", "level", &70i32.to_le_bytes());
    let mut swap = swap(&old, &new, &memory);
    swap.memory.set(&new, "a", "x", &55i32.to_le_bytes());
    swap.memory.set(&new, "a", "t", &9f32.to_le_bytes());
    let mut kept = memory.clone();
    roll_back(&new, &old, &swap, &mut kept);
    assert_eq!((kept.word(&old, "b", "gone"), kept.word(&old, "a", "level"), kept.word(&old, "a", "x")), (99, 70, 55));
    assert_eq!(kept.item(&old, "a", "t"), [9f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
}

#[test]
fn a_plan_for_other_memories_writes_nothing() {
    let (old, new) = two(&text().module("a").int("x", 1), |text| text.gap_words = 1);
    let mut migration = Migration::prepare(plan_of(&old, &new), sizes(&old.manifest), sizes(&new.manifest)).unwrap();
    let mut other = Ram(vec![vec![0; 4]]);
    assert!(migration.apply_rt(&Ram::initial(&old), &mut other).is_err());
    assert_eq!(other.memory_rt(0), [0; 4]);
}

#[test]
fn manifests_that_lie_end_without_a_panic() {
    let mut built = pointing().build();
    let good = built.clone();
    for module in &mut built.manifest.modules {
        (module.memory, module.references) = (9, vec![u32::MAX, 0]);
        for item in &mut module.items {
            (item.byte_address, item.words, item.count) = (u32::MAX - 2, u32::MAX, u32::MAX);
            item.default_fingerprint ^= 1;
        }
    }
    built.image.push(ipc::artifact::DefaultBytes { memory: 9, address: u32::MAX, bytes: vec![1; 32] });
    built.manifest.entries[0].steps.push(u32::MAX);
    for (old, new) in [(&good, &built), (&built, &good), (&built, &built)] {
        classify(old.revision(), new.revision(), &SAME_RUNTIME);
        let plan = plan_of(old, new);
        assert!(plan.copies.is_empty() || Migration::prepare(plan, sizes(&old.manifest), sizes(&new.manifest)).is_err());
    }
}

#[test]
fn a_plan_survives_the_way_to_the_host() {
    let (old, new) = two(&pointing(), |text| text.gap_words = 4);
    let plan = plan_of(&old, &new);
    assert!(!plan.relocations.is_empty() && !plan.targets.is_empty());
    let bytes = ipc::codec::encode(&plan).unwrap();
    assert_eq!(ipc::codec::decode::<MigrationPlan>(&bytes).unwrap(), plan);
}
