//! The table of edits: what each is classified as, and why.

use ipc::diagnostic::BlockName;
use ipc::manifest::{ConfigEntry, ElementType};
use ipc::plan::{Change, ChangeClass, ChangeReport, Fate, ItemEdit, Rename, ResetCause, Shape, StateKey};

use super::builder::{AUDIO, Default, FLOAT, INT, ItemText, POINTER, SAME_RUNTIME, Text, bytes, floats, text};
use crate::change::{Context, RuntimeFacts, classify};

/// `osc` feeds `filter`; `filter` and `delay` feed each other; `lfo` stands alone.
fn program() -> Text {
    text()
        .module("osc")
        .float("phase", 0.0)
        .float("frequency", 440.0)
        .array("table", FLOAT, 8, floats(&[0.0, 0.5, 1.0, 0.5]))
        .module("filter")
        .pointer("input", "osc", "phase")
        .pointer("feedback", "delay", "out")
        .float("out", 0.0)
        .module("delay")
        .pointer("input", "filter", "out")
        .array("buffer", FLOAT, 64, Default::Zero)
        .int("position", 0)
        .float("out", 0.0)
        .module("lfo")
        .float("phase", 0.0)
        .int("steps", 16)
}

fn report(old: &Text, new: &Text) -> ChangeReport {
    let (old, new) = (old.build(), new.build());
    classify(old.revision(), new.revision(), &SAME_RUNTIME)
}

fn edited(edit: impl FnOnce(&mut Text)) -> ChangeReport {
    report(&program(), &program().edited(edit))
}

fn key(module: &str, item: &str) -> StateKey {
    StateKey { module: module.to_owned(), item: item.to_owned(), shadowed: None }
}

fn scalar(element: ElementType) -> Shape {
    Shape { element, is_array: false }
}

fn array(element: ElementType) -> Shape {
    Shape { element, is_array: true }
}

fn new_item(name: &str) -> ItemText {
    ItemText { name: name.to_owned(), element: FLOAT, is_array: false, count: 1, default: Default::Zero }
}

/// The class, and the differences of that class.
fn assert_is(report: &ChangeReport, class: ChangeClass, causes: &[Change]) {
    assert_eq!(report.class, class, "{report:#?}");
    let found: Vec<&Change> =
        report.differences.iter().filter(|difference| difference.class == class).map(|difference| &difference.what).collect();
    // Where things are is a consequence, and tested by itself.
    let found: Vec<&Change> = found.into_iter().filter(|change| !matches!(change, Change::Layout { .. })).collect();
    assert_eq!(found, causes.iter().collect::<Vec<_>>());
}

fn fate(report: &ChangeReport, module: &str, item: &str) -> Fate {
    report.items.iter().find(|change| change.key == key(module, item)).unwrap().fate
}

// ---------------------------------------------------------------------------------------------------- none and A

#[test]
fn the_same_program_is_no_change() {
    let report = edited(|_| {});
    assert_is(&report, ChangeClass::None, &[]);
    assert!(report.differences.is_empty());
    assert_eq!(report.counts().kept, report.items.len());
    assert!(!report.loses_state());
}

#[test]
fn comments_and_lines_are_no_change() {
    assert_is(&edited(|text| text.comment_lines = 7), ChangeClass::None, &[]);
}

#[test]
fn a_default_is_a_parameter() {
    let report = edited(|text| text.find_item("osc", "frequency").default = bytes(&880f32.to_le_bytes()));
    assert_is(&report, ChangeClass::A, &[Change::Default { key: key("osc", "frequency") }]);
    assert_eq!(fate(&report, "osc", "frequency"), Fate::Kept);
    assert_eq!(report.counts().default_changed, 1);
}

#[test]
fn a_default_inside_a_loop_is_a_parameter() {
    let report = edited(|text| text.find_item("delay", "position").default = bytes(&3i32.to_le_bytes()));
    assert_is(&report, ChangeClass::A, &[Change::Default { key: key("delay", "position") }]);
}

#[test]
fn elements_of_an_array_are_parameters() {
    let report = edited(|text| text.find_item("osc", "table").default = floats(&[0.0, 0.7, 1.0, 0.5]));
    assert_is(&report, ChangeClass::A, &[Change::Default { key: key("osc", "table") }]);
}

#[test]
fn a_pointer_aimed_elsewhere_is_a_parameter_while_no_loop_changes() {
    let report = edited(|text| text.find_item("filter", "input").default = Default::Address("lfo".to_owned(), "phase".to_owned(), 0));
    assert_is(&report, ChangeClass::A, &[Change::Default { key: key("filter", "input") }]);
}

#[test]
fn an_address_is_no_new_default_because_its_target_moved() {
    // `lfo` lies between `filter` and `osc`, so `osc` moves.
    let report = edited(|text| text.find("lfo").items.push(new_item("depth")));
    assert_eq!(fate(&report, "osc", "phase"), Fate::Moved);
    assert_eq!(report.counts().default_changed, 0, "{report:#?}");
}

#[test]
fn a_pointer_into_another_memory_is_structure() {
    let two = |target: &str| {
        text().module("a").float("x", 0.0).module("b").in_region(1).float("x", 0.0).module("c").pointer("p", target, "x").edited(|text| {
            text.regions = vec!["fast".to_owned()];
        })
    };
    assert_is(&report(&two("a"), &two("b")), ChangeClass::B, &[Change::Default { key: key("c", "p") }]);
}

// ------------------------------------------------------------------------------------------------------------- B

#[test]
fn code_is_structure() {
    let report = edited(|text| text.find("osc").code = "push phase 0.5".to_owned());
    assert_is(&report, ChangeClass::B, &[Change::ModuleCode { module: "osc".to_owned() }]);
    assert!(!report.loses_state());
}

#[test]
fn a_constant_in_code_is_structure() {
    let with = |value: &str| program().edited(|text| text.find("osc").code = format!("push {value} mul"));
    assert_is(&report(&with("0.5"), &with("0.25")), ChangeClass::B, &[Change::ModuleCode { module: "osc".to_owned() }]);
}

#[test]
fn code_inside_a_loop_is_structure_while_the_loop_stays() {
    let report = edited(|text| text.find("delay").code = "other".to_owned());
    assert_is(&report, ChangeClass::B, &[Change::ModuleCode { module: "delay".to_owned() }]);
}

#[test]
fn a_module_added_is_structure() {
    let report = report(&program(), &program().module("noise").int("seed", 1));
    assert_is(&report, ChangeClass::B, &[Change::ModuleAdded { module: "noise".to_owned() }]);
    assert_eq!(fate(&report, "noise", "seed"), Fate::New);
    assert!(!report.loses_state());
}

#[test]
fn a_module_removed_is_structure_and_takes_its_state_with_it() {
    let report = edited(|text| text.modules.retain(|module| module.id != "lfo"));
    assert_is(&report, ChangeClass::B, &[Change::ModuleRemoved { module: "lfo".to_owned() }]);
    assert_eq!((fate(&report, "lfo", "phase"), fate(&report, "lfo", "steps")), (Fate::Discarded, Fate::Discarded));
    assert!(report.loses_state());
}

#[test]
fn modules_in_another_order_are_structure() {
    let report = edited(|text| text.modules.swap(0, 3));
    assert_is(&report, ChangeClass::B, &[Change::ModuleOrder]);
    assert_eq!(report.counts().kept, report.items.len(), "the layout does not depend on the order");
}

#[test]
fn a_module_added_in_front_is_no_other_order() {
    let report =
        edited(|text| *text = std::mem::replace(text, super::builder::text()).module("noise").edited(|text| text.modules.rotate_right(1)));
    assert_is(&report, ChangeClass::B, &[Change::ModuleAdded { module: "noise".to_owned() }]);
}

#[test]
fn a_module_that_no_longer_runs_is_structure() {
    let report = edited(|text| text.find("osc").skip_execution = true);
    assert_is(&report, ChangeClass::B, &[Change::ModuleRole { module: "osc".to_owned() }]);
}

#[test]
fn a_module_in_another_entry_is_structure() {
    let report = edited(|text| text.find("lfo").entry = "slow".to_owned());
    assert_is(&report, ChangeClass::B, &[Change::ModuleRole { module: "lfo".to_owned() }, Change::EntryAdded { entry: "slow".to_owned() }]);
}

#[test]
fn items_outside_of_loops_are_structure() {
    let added = edited(|text| text.find("osc").items.insert(1, new_item("gain")));
    assert_is(&added, ChangeClass::B, &[Change::Item { key: key("osc", "gain"), edit: ItemEdit::Added }]);
    let removed = edited(|text| text.find("osc").items.retain(|item| item.name != "phase" && item.name != "table"));
    let gone = |item| Change::Item { key: key("osc", item), edit: ItemEdit::Removed };
    assert_is(&removed_pointers(&removed), ChangeClass::B, &[gone("phase"), gone("table")]);
    assert_eq!(fate(&removed, "osc", "table"), Fate::Discarded);
    let retyped = edited(|text| text.find_item("lfo", "steps").element = FLOAT);
    let edit = ItemEdit::Retyped { from: scalar(INT), to: scalar(FLOAT) };
    assert_is(&retyped, ChangeClass::B, &[Change::Item { key: key("lfo", "steps"), edit }]);
    assert_eq!(fate(&retyped, "lfo", "steps"), Fate::Reset(ResetCause::Retyped { from: scalar(INT), to: scalar(FLOAT) }));
}

/// The builder follows names, so a pointer at a removed item means its module instead: a new default, which is not asked for.
fn removed_pointers(report: &ChangeReport) -> ChangeReport {
    let mut report = report.clone();
    report.differences.retain(|difference| !matches!(difference.what, Change::Default { .. }));
    report
}

#[test]
fn an_array_that_grows_or_shrinks_keeps_its_identity() {
    let grown = edited(|text| text.find_item("osc", "table").count = 12);
    let edit = ItemEdit::Resized { from_count: 8, to_count: 12 };
    assert_is(&grown, ChangeClass::B, &[Change::Item { key: key("osc", "table"), edit }]);
    assert_eq!(fate(&grown, "osc", "table"), Fate::Grown { from_count: 8, to_count: 12 });
    assert!(!grown.loses_state());
    let shrunk = edited(|text| text.find_item("osc", "table").count = 5);
    assert_eq!((shrunk.class, fate(&shrunk, "osc", "table")), (ChangeClass::B, Fate::Shrunk { from_count: 8, to_count: 5 }));
    assert!(shrunk.loses_state());
}

#[test]
fn bytes_that_share_a_word_are_counted() {
    let small = |count| text().module("a").array("x", ElementType::Int8, count, Default::Zero);
    let report = report(&small(3), &small(4));
    assert_eq!((report.class, fate(&report, "a", "x")), (ChangeClass::B, Fate::Grown { from_count: 3, to_count: 4 }));
}

#[test]
fn another_layout_alone_is_structure() {
    let report = edited(|text| text.gap_words = 2);
    assert_eq!(report.class, ChangeClass::B);
    assert_eq!(report.differences.len(), 1);
    assert!(matches!(report.differences[0].what, Change::Layout { moved } if moved == report.items.len()));
}

#[test]
fn exported_functions_are_structure() {
    let with = |code: &str| program().edited(|text| drop(text.functions.insert("buffer".to_owned(), code.to_owned())));
    let export = "buffer".to_owned();
    assert_is(&report(&program(), &with("a")), ChangeClass::B, &[Change::FunctionAdded { export: export.clone() }]);
    assert_is(&report(&with("a"), &program()), ChangeClass::B, &[Change::FunctionRemoved { export: export.clone() }]);
    assert_is(&report(&with("a"), &with("b")), ChangeClass::B, &[Change::FunctionChanged { export }]);
}

#[test]
fn a_memory_added_is_structure() {
    assert_is(&edited(|text| text.regions.push("fast".to_owned())), ChangeClass::B, &[Change::Memories]);
}

// ------------------------------------------------------------------------------------------------------ settings

fn config(path: &str, value: &str, block: &str) -> ConfigEntry {
    let block = BlockName { kind: "module".to_owned(), id: block.to_owned() };
    ConfigEntry { directive: "config".to_owned(), arguments: vec![path.to_owned(), value.to_owned()], block, line: 1 }
}

fn configured(entries: &[(&str, &str, &str)]) -> Text {
    program().edited(|text| text.config = entries.iter().map(|(path, value, block)| config(path, value, block)).collect())
}

#[test]
fn a_setting_of_the_runtime_is_structure() {
    let with = |item| configured(&[("audioRuntime.audioOutBufferLAddress", item, "osc")]);
    let path = "audioRuntime.audioOutBufferLAddress".to_owned();
    assert_is(&report(&with("osc:table"), &with("delay:buffer")), ChangeClass::B, &[Change::Setting { path }]);
}

#[test]
fn settings_that_come_down_to_the_same_are_no_change() {
    let one = configured(&[("bin.kick.memory", "osc:table", "osc"), ("font", "8x16", "osc"), ("runtime", "audio", "osc")]);
    let other = configured(&[
        ("runtime", "AudioWorkletRuntime", "lfo"),
        ("bin.kick.memory", "delay:buffer", "lfo"),
        ("bin.kick.memory", "osc:table", "lfo"),
        ("color.text", "red", "lfo"),
    ]);
    assert_is(&report(&one, &other), ChangeClass::None, &[]);
}

#[test]
fn a_bare_name_means_an_item_of_its_block() {
    let with = |block| configured(&[("keyboard.keyCodeMemory", "phase", block)]);
    let path = "keyboard.keyCodeMemory".to_owned();
    assert_is(&report(&with("osc"), &with("lfo")), ChangeClass::B, &[Change::Setting { path }]);
}

// ------------------------------------------------------------------------------------------------------------- C

#[test]
fn items_inside_a_loop_are_identity() {
    let in_loop = |item, edit| Change::ItemInLoop { key: key("delay", item), edit };
    let added = edited(|text| text.find("delay").items.push(new_item("gain")));
    assert_is(&added, ChangeClass::C, &[in_loop("gain", ItemEdit::Added)]);
    let removed = edited(|text| text.find("delay").items.retain(|item| item.name != "position"));
    assert_is(&removed, ChangeClass::C, &[in_loop("position", ItemEdit::Removed)]);
    let retyped = edited(|text| text.find_item("delay", "position").element = FLOAT);
    assert_is(&retyped, ChangeClass::C, &[in_loop("position", ItemEdit::Retyped { from: scalar(INT), to: scalar(FLOAT) })]);
    let resized = edited(|text| text.find_item("delay", "buffer").count = 128);
    assert_is(&resized, ChangeClass::C, &[in_loop("buffer", ItemEdit::Resized { from_count: 64, to_count: 128 })]);
    assert!(resized.class.needs_acknowledgement());
}

#[test]
fn an_item_in_a_loop_that_the_edit_breaks_counts_as_inside() {
    let report = edited(|text| {
        text.find("delay").items.retain(|item| item.name != "position");
        text.find_item("filter", "feedback").default = Default::Zero;
    });
    let broken = Change::LoopBroken { modules: vec!["delay".to_owned(), "filter".to_owned()] };
    assert_is(&report, ChangeClass::C, &[broken, Change::ItemInLoop { key: key("delay", "position"), edit: ItemEdit::Removed }]);
}

#[test]
fn a_loop_created_is_identity() {
    let report = edited(|text| text.find("osc").references = vec!["delay".to_owned()]);
    let members = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let joined = Change::LoopChanged { from: vec![members(&["delay", "filter"])], to: vec![members(&["delay", "filter", "osc"])] };
    assert_is(&report, ChangeClass::C, &[joined]);
    let apart = edited(|text| text.find("lfo").references = vec!["osc".to_owned()]);
    assert_is(&apart, ChangeClass::None, &[]);
    let created = report_of_pair(&[], &["b"], &["a"]);
    assert_is(&created, ChangeClass::C, &[Change::LoopCreated { modules: members(&["a", "b"]) }]);
}

/// Two modules, `a` referring to `b`; the edit makes `b` refer to `a` as well.
fn report_of_pair(old_b: &[&str], a: &[&str], new_b: &[&str]) -> ChangeReport {
    let pair = |b: &[&str]| text().module("a").float("x", 0.0).refers_to(a).module("b").float("x", 0.0).refers_to(b);
    report(&pair(old_b), &pair(new_b))
}

#[test]
fn a_loop_broken_is_identity() {
    let broken = report_of_pair(&["a"], &["b"], &[]);
    assert_is(&broken, ChangeClass::C, &[Change::LoopBroken { modules: vec!["a".to_owned(), "b".to_owned()] }]);
}

#[test]
fn a_loop_split_in_two_is_one_difference() {
    let ring = |edges: [&str; 4]| {
        let modules = ["a", "b", "c", "d"].iter().zip(edges);
        modules.fold(text(), |text, (id, to)| text.module(id).float("x", 0.0).refers_to(&[to]))
    };
    let report = report(&ring(["b", "c", "d", "a"]), &ring(["b", "a", "d", "c"]));
    let members = |ids: [&str; 2]| ids.map(str::to_owned).to_vec();
    let from = vec![["a", "b", "c", "d"].map(str::to_owned).to_vec()];
    assert_is(&report, ChangeClass::C, &[Change::LoopChanged { from, to: vec![members(["a", "b"]), members(["c", "d"])] }]);
}

#[test]
fn a_module_that_feeds_itself_is_no_loop() {
    let with = |count| text().module("a").array("x", FLOAT, count, Default::Zero).refers_to(&["a"]);
    assert_eq!(report(&with(4), &with(8)).class, ChangeClass::B);
}

#[test]
fn a_pointer_that_closes_a_loop_is_identity() {
    let report = edited(|text| text.find("osc").items.push(ItemText { default: at("lfo", "phase"), element: POINTER, ..new_item("mod") }));
    assert_eq!(report.class, ChangeClass::B);
    let closing = edited(|text| text.find("osc").items.push(ItemText { default: at("delay", "out"), element: POINTER, ..new_item("mod") }));
    assert_eq!(closing.class, ChangeClass::C);
}

fn at(module: &str, item: &str) -> Default {
    Default::Address(module.to_owned(), item.to_owned(), 0)
}

#[test]
fn an_array_of_other_elements_lost_its_identity() {
    let retyped = edited(|text| text.find_item("osc", "table").element = INT);
    let lost = |to| Change::ArrayIdentity { key: key("osc", "table"), from: array(FLOAT), to };
    assert_is(&retyped, ChangeClass::C, &[lost(array(INT))]);
    let reshaped = edited(|text| {
        let table = text.find_item("osc", "table");
        (table.is_array, table.count, table.default) = (false, 1, Default::Zero);
    });
    assert_is(&reshaped, ChangeClass::C, &[lost(scalar(FLOAT))]);
    let cause = ResetCause::Reshaped { from: array(FLOAT), to: scalar(FLOAT) };
    assert_eq!(fate(&reshaped, "osc", "table"), Fate::Reset(cause));
}

#[test]
fn a_tick_of_another_length_is_identity() {
    let at_rate = |rate: f64, code: &str| {
        program().edited(|text| {
            text.environment = vec![("SAMPLE_RATE".to_owned(), rate)];
            text.find("osc").code = code.to_owned();
        })
    };
    let what = Change::TimeBase { constant: "SAMPLE_RATE".to_owned(), from: 48_000.0, to: 44_100.0 };
    assert_is(&report(&at_rate(48_000.0, "a"), &at_rate(44_100.0, "b")), ChangeClass::C, &[what]);
    assert_is(&report(&at_rate(48_000.0, "a"), &at_rate(44_100.0, "a")), ChangeClass::None, &[]);
}

// ------------------------------------------------------------------------------------------------------------- T

#[test]
fn another_runtime_type_or_rate_takes_a_new_process() {
    let built = program().build();
    let classify = |new| classify(built.revision(), built.revision(), &Context { old: AUDIO, new });
    let timer = classify(RuntimeFacts { runtime_type: "worker", ..AUDIO });
    assert_is(&timer, ChangeClass::T, &[Change::RuntimeType { from: "audio".to_owned(), to: "worker".to_owned() }]);
    let slower = classify(RuntimeFacts { sample_rate_hz: 44_100, ..AUDIO });
    assert_is(&slower, ChangeClass::T, &[Change::SampleRate { from_hz: 48_000, to_hz: 44_100 }]);
}

#[test]
fn the_deepest_difference_decides_and_comes_first() {
    let old = program().build();
    let new = program()
        .edited(|text| {
            text.find("delay").items.push(new_item("gain"));
            text.find("osc").code = "other".to_owned();
            text.find_item("osc", "frequency").default = bytes(&1f32.to_le_bytes());
        })
        .build();
    let report = classify(old.revision(), new.revision(), &Context { old: AUDIO, new: RuntimeFacts { sample_rate_hz: 1, ..AUDIO } });
    let classes: Vec<ChangeClass> = report.differences.iter().map(|difference| difference.class).collect();
    assert_eq!(report.class, ChangeClass::T);
    assert!(classes.is_sorted_by(|one, next| one >= next), "{classes:?}");
    for class in [ChangeClass::T, ChangeClass::C, ChangeClass::B, ChangeClass::A] {
        assert!(classes.contains(&class), "{class} is missing");
    }
}

// ------------------------------------------------------------------------------------------------ keys and renames

#[test]
fn a_renamed_module_is_a_new_one_and_a_hint() {
    let report = edited(|text| text.find("lfo").id = "vibrato".to_owned());
    assert_eq!(report.class, ChangeClass::B);
    assert_eq!((fate(&report, "lfo", "phase"), fate(&report, "vibrato", "phase")), (Fate::Discarded, Fate::New));
    assert_eq!(report.renames, [Rename { module: None, from: "lfo".to_owned(), to: "vibrato".to_owned() }]);
}

#[test]
fn a_renamed_item_is_a_new_one_and_a_hint() {
    let report = edited(|text| text.find_item("lfo", "steps").name = "beats".to_owned());
    assert_eq!((fate(&report, "lfo", "steps"), fate(&report, "lfo", "beats")), (Fate::Discarded, Fate::New));
    assert_eq!(report.renames, [Rename { module: Some("lfo".to_owned()), from: "steps".to_owned(), to: "beats".to_owned() }]);
}

#[test]
fn what_looks_different_or_could_be_several_things_is_no_rename() {
    let other = edited(|text| {
        let steps = text.find_item("lfo", "steps");
        (steps.name, steps.element) = ("beats".to_owned(), FLOAT);
    });
    assert!(other.renames.is_empty());
    let two = edited(|text| {
        text.find_item("lfo", "steps").name = "beats".to_owned();
        text.find("lfo").items.push(ItemText { element: INT, ..new_item("bars") });
    });
    assert!(two.renames.is_empty());
}

#[test]
fn a_name_declared_twice_means_the_last_declaration() {
    let twice = |first: i32, last: i32| text().module("a").int("x", first).int("y", 0).int("x", last);
    let report = report(&twice(1, 2), &twice(1, 3));
    let shadowed = StateKey { shadowed: Some(0), ..key("a", "x") };
    assert_is(&report, ChangeClass::A, &[Change::Default { key: key("a", "x") }]);
    assert!(report.items.iter().any(|item| item.key == shadowed && !item.default_changed));
}

#[test]
fn a_declaration_that_becomes_shadowed_is_the_new_one() {
    let once = text().module("a").int("x", 1);
    let twice = text().module("a").int("x", 1).int("x", 1);
    let report = report(&once, &twice);
    assert_eq!(fate(&report, "a", "x"), Fate::Moved);
    let added = report.items.iter().find(|item| item.key.shadowed == Some(0)).unwrap();
    assert_eq!(added.fate, Fate::New);
}

#[test]
fn anonymous_items_are_known_by_their_order() {
    let at_lines =
        |first: u32, second: u32| text().module("a").int(&format!("__anonymous__{first}"), 1).int(&format!("__anonymous__{second}"), 2);
    assert_is(&report(&at_lines(2, 3), &at_lines(4, 9)), ChangeClass::None, &[]);
}

// ----------------------------------------------------------------------------------------------------- init-only

fn initialised() -> Text {
    text()
        .module("osc")
        .array("table", FLOAT, 8, Default::Zero)
        .float("gain", 1.0)
        .module("setup")
        .int("base", 1)
        .refers_to(&["osc"])
        .init_only()
}

#[test]
fn init_only_modules_run_again_when_a_default_changed() {
    let old = initialised();
    let again = |edit: &dyn Fn(&mut Text)| report(&old, &old.edited(edit)).reruns_init_only;
    assert!(again(&|text| text.find_item("osc", "gain").default = bytes(&2f32.to_le_bytes())));
    assert!(again(&|text| text.find("setup").code = "other".to_owned()));
    assert!(again(&|text| text.find_item("osc", "table").count = 16), "it never wrote the new elements");
    assert!(again(&|text| text.find_item("osc", "gain").element = INT), "what it wrote is gone");
}

#[test]
fn init_only_modules_leave_state_alone_otherwise() {
    let old = initialised();
    let again = |edit: &dyn Fn(&mut Text)| report(&old, &old.edited(edit)).reruns_init_only;
    assert!(!again(&|_| {}));
    assert!(!again(&|text| text.find("osc").code = "other".to_owned()));
    assert!(!again(&|text| text.find("osc").items.push(new_item("depth"))));
    assert!(!again(&|text| text.find_item("osc", "table").count = 4));
    assert!(!again(&|text| text.find("setup").skip_execution = true), "it never runs");
    assert!(!edited(|text| text.find_item("osc", "frequency").default = Default::Zero).reruns_init_only, "there are none");
}
