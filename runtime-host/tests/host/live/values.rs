//! Writing, ramping and reading items.

use ipc::limits::{MAX_DUMP_ELEMENTS, MAX_RAMPS};
use ipc::live::{LiveChange, SetItem};
use ipc::message::ElementValues;

use super::band::{Band, Model, compile, player};
use super::rig::{Rig, assert_heard, get, ramp, set};

fn solo() -> Band {
    Band::of([player("tone", 3, 1)])
}

fn ints(values: &[i64]) -> ElementValues {
    ElementValues::Int(values.to_vec())
}

#[test]
fn a_value_is_written_at_the_start_of_its_tick() {
    let mut rig = Rig::start(&solo());
    let write = rig.send_at(Some(10), set("step", 100.0));
    rig.play_to(20);
    assert_eq!(rig.applied(write), 10);
    let mut model = Model::new(&solo());
    let mut expected = model.ticks(10);
    model.player("tone").1 = 100;
    expected.extend(model.ticks(10));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_ramp_takes_equal_steps_and_ends_exactly_at_its_value() {
    let mut rig = Rig::start_artifact(compile(
        "8f4e/v1\nentry main\nmodule m\nfloat x 1.0\nint8[] small 1\nfloat64 fine 0.0f64\nmoduleEnd\nentryEnd\nfunction buffer\n#export\ncall main\nfunctionEnd\n",
    ));
    let values = [("x", 0.1), ("small", -7.0), ("fine", 1e-3)].map(|(item, value)| SetItem { item: item.to_owned(), value });
    let write = rig.send_at(Some(5), LiveChange::Set { values: values.to_vec(), ramp_ticks: 7 });
    let reads: Vec<u64> = (4..14).map(|tick| rig.send_at(Some(tick), get(&["x", "small", "fine"]))).collect();
    rig.play_to(20);
    assert_eq!(rig.applied(write), 5);
    for (tick, read) in (4..14u64).zip(reads) {
        let step = (tick.saturating_sub(4)).min(7) as f64;
        let at = |from: f64, to: f64| if step == 7.0 { to } else { from + (to - from) * step / 7.0 };
        let expected = [
            ElementValues::Float(vec![at(1.0, f64::from(0.1f32)) as f32]),
            ints(&[at(0.0, -7.0) as i64]),
            ElementValues::Float64(vec![at(0.0, 1e-3)]),
        ];
        assert_eq!(rig.values(read), (tick, expected.to_vec()), "tick {tick}");
    }
}

#[test]
fn a_newer_write_ends_a_ramp() {
    let mut rig = Rig::start(&solo());
    rig.send_at(Some(0), ramp("step", 1_000.0, 100));
    rig.send_at(Some(10), set("step", 3.0));
    let read = rig.send_at(Some(50), get(&["step"]));
    rig.play_to(60);
    assert_eq!(rig.values(read).1, [ints(&[3])]);
}

#[test]
fn a_ramp_follows_its_item_through_a_swap_and_ends_where_the_item_is_reset() {
    let moved = Band::of([player("first", 9, 7), player("tone", 3, 1)]);
    let mut rig = Rig::start(&solo());
    rig.send_at(Some(0), ramp("tone:step", 101.0, 100));
    rig.play_to(10);
    rig.swap(&moved, |_| {});
    let during = rig.send_at(Some(49), get(&["tone:step", "first:step"]));
    rig.play_to(60);
    assert_eq!(rig.values(during).1, [ints(&[51]), ints(&[7])]);
    let changed = moved.clone().with(|band| band.players[1].step = 33);
    rig.swap(&changed, |_| {});
    let after = rig.send_at(Some(80), get(&["tone:step"]));
    rig.play_to(90);
    assert_eq!(rig.values(after).1, [ints(&[33])]);
}

#[test]
fn more_ramps_than_there_is_room_for_are_refused_whole() {
    let arrays = "8f4e/v1\nentry main\nmodule m\nint[] a 300\nmoduleEnd\nentryEnd\nfunction buffer\n#export\ncall main\nfunctionEnd\n";
    let mut rig = Rig::start_artifact(compile(arrays));
    let values = |range: std::ops::Range<usize>| range.map(|index| SetItem { item: format!("a[{index}]"), value: 100.0 }).collect();
    let first = rig.send(LiveChange::Set { values: values(0..MAX_RAMPS), ramp_ticks: 10 });
    let second = rig.send(LiveChange::Set { values: values(MAX_RAMPS..MAX_RAMPS + 1), ramp_ticks: 10 });
    let third = rig.send(LiveChange::Set { values: values(0..MAX_RAMPS + 1), ramp_ticks: 10 });
    let read = rig.send_at(Some(5), get(&["a"]));
    let later = rig.send_at(Some(12), LiveChange::Set { values: values(MAX_RAMPS..MAX_RAMPS + 1), ramp_ticks: 10 });
    rig.play_to(20);
    assert_eq!(rig.applied(first), 0);
    assert!(rig.refused(second).contains("too many values are on a ramp"));
    assert!(rig.refused(third).contains("the limit is 256"));
    let (_, values) = rig.values(read);
    let mut expected = vec![60; MAX_RAMPS];
    expected.resize(300, 0);
    assert_eq!(values, [ElementValues::Int(expected)]);
    assert_eq!(rig.applied(later), 12);
}

#[test]
fn names_and_values_that_do_not_fit_are_refused_at_once() {
    let mut rig = Rig::start(&solo());
    let refusals = [
        (set("tune:step", 1.0), "no module `tune`; did you mean `tone`?"),
        (set("tone:stop", 1.0), "did you mean `tone:step`?"),
        (set("step", 1e12), "does not fit into `tone:step`"),
        (set("step", 3e9), "does not fit into `tone:step`, which takes whole numbers from -2147483648 to 2147483647"),
        (set("step", f64::NAN), "does not fit"),
        (set("left", 1.0), "`out:left` has 128 elements; say which of them is to be set"),
        (set("left[3]", 1e39), "is too large for `out:left[3]`"),
        (set("step", 5.5), "`5.5` is not a whole number, which `tone:step` takes"),
        (set("left[128]", 1.0), "has 128 elements"),
        (get(&["step", "stop"]), "no item `stop`"),
        (LiveChange::Get { items: vec!["left".to_owned(); MAX_DUMP_ELEMENTS as usize / 128 + 1] }, "elements, more than"),
    ];
    for (what, expected) in refusals {
        let request = rig.send(what);
        let message = rig.refused(request);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_set_sent_after_a_swap_is_for_the_new_revision_if_that_is_committed_before_it() {
    let with_guest = Band::of([player("guest", 9, 7), player("tone", 3, 1)]);
    let mut rig = Rig::start(&solo());
    rig.play_to(5);
    let swap = rig.swap_to(&with_guest, |_| {});
    let swap = rig.send(swap);
    let early = rig.send(set("guest:step", 70.0));
    let moved = rig.send(set("tone:step", 2.0));
    rig.wait_until_pending(swap);
    rig.play_to(15);
    assert_eq!((rig.committed(swap).0, rig.applied(early), rig.applied(moved)), (5, 5, 5));
    let mut model = Model::new(&solo());
    let mut expected = model.ticks(5);
    model.edit(&with_guest);
    model.player("guest").1 = 70;
    model.player("tone").1 = 2;
    expected.extend(model.ticks(10));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn an_item_that_is_gone_when_its_tick_comes_is_refused_and_one_that_moved_is_found() {
    let with_guest = Band::of([player("guest", 9, 7), player("tone", 3, 1)]);
    let mut rig = Rig::start(&with_guest);
    // Sent before the swap that they meet was.
    let gone = rig.send_at(Some(20), set("guest:step", 1.0));
    let moved = rig.send_at(Some(20), set("tone:step", 1_000.0));
    let read = rig.send_at(Some(30), get(&["tone:step"]));
    let swap = rig.swap_to(&solo(), |_| {});
    let swap = rig.send_at(Some(10), swap);
    rig.wait_until_pending(swap);
    rig.play_to(40);
    assert_eq!(rig.committed(swap).0, 10);
    assert!(rig.refused(gone).contains("no module `guest`"));
    // They were prepared for a program that was gone when their ticks came, so they were prepared once more, before the
    // horizon was raised from 32.
    assert_eq!(rig.applied(moved), 32);
    assert_eq!(rig.values(read), (32, vec![ints(&[1_000])]));
}

#[test]
fn an_edit_writes_what_a_file_holds_only_where_that_is_new() {
    let folder = crate::fixture::Folder::new("live-asset");
    let file = folder.0.join("kick.raw");
    let write = |words: [i32; 2]| std::fs::write(&file, words.map(i32::to_le_bytes).as_flattened()).unwrap();
    write([5, 6]);
    let sampler = |comment: &str, step: i32| {
        let with_ballast = super::band::Player { ballast: 2, ..player("low", 3, step) };
        Band::of([with_ballast]).with(|band| {
            let url = format!("bin.kick.url file://{}", file.display());
            band.config = vec![url, "bin.kick.memory low:ballast".to_owned(), format!("color.comment {comment}")];
        })
    };
    let mut rig = Rig::start(&sampler("a", 1));
    let read = |rig: &mut Rig| {
        let values = rig.send(get(&["low:ballast"]));
        let next = rig.heard.len() as u64 + 1;
        rig.play_to(next);
        rig.values(values).1
    };
    rig.play_to(5);
    assert_eq!(read(&mut rig), [ElementValues::Int(vec![5, 6])]);
    rig.send(set("low:ballast[0]", 99.0));
    let kept = [ElementValues::Int(vec![99, 6])];
    // A comment, another default, other code: what the program has made of the file stays.
    for band in [sampler("b", 1), sampler("b", 2)] {
        let patch = rig.patch_to(&band, 0);
        rig.send(patch);
        assert_eq!(read(&mut rig), kept);
    }
    rig.swap(&sampler("b", 2).with(|band| band.players[0].extra = 1), |_| {});
    assert_eq!(read(&mut rig), kept);
    // Another file is another content.
    write([7, 8]);
    let patch = rig.patch_to(&sampler("c", 2).with(|band| band.players[0].extra = 1), 0);
    rig.send(patch);
    assert_eq!(read(&mut rig), [ElementValues::Int(vec![7, 8])]);
}
