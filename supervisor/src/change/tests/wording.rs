//! What people read about a change.

use super::builder::{Default, FLOAT, SAME_RUNTIME, Text, bytes, text};
use crate::change::sentences::{losses, sentences};
use crate::change::{Context, RuntimeFacts, classify};

fn program() -> Text {
    text().module("a").int("count", 1).float("gain", 0.5).array("t", FLOAT, 16, Default::Zero).module("b").float("x", 0.0).float("y", 0.0)
}

fn told(edit: impl FnOnce(&mut Text)) -> Vec<String> {
    let (old, new) = (program().build(), program().edited(edit).build());
    sentences(&classify(old.revision(), new.revision(), &SAME_RUNTIME))
}

#[test]
fn nothing_is_said_about_nothing() {
    assert_eq!(told(|text| text.comment_lines = 3), ["nothing that runs changes"]);
}

#[test]
fn a_reset_is_named_with_its_reason() {
    let told = told(|text| text.find_item("a", "count").element = FLOAT);
    assert_eq!(
        told,
        [
            "class B (structure): a:count was int, is float",
            "some state will reinitialise (1 item): a:count was int, is float",
            "items: 4 kept"
        ]
    );
}

#[test]
fn everything_that_is_lost_is_named() {
    let told = told(|text| {
        text.find_item("a", "t").count = 4;
        text.modules.retain(|module| module.id != "b");
    });
    assert!(told.contains(&"1 array is cut off: a:t keeps the first 4 of 16".to_owned()), "{told:#?}");
    assert!(told.contains(&"2 items go with their state: b:x; b:y".to_owned()), "{told:#?}");
}

#[test]
fn a_parameter_is_one_line_and_its_balance() {
    let told = told(|text| text.find_item("a", "gain").default = bytes(&1f32.to_le_bytes()));
    assert_eq!(told, ["class A (parameters)", "1 item gets its new default: a:gain", "items: 5 kept"]);
}

#[test]
fn a_rename_is_asked_about() {
    let told = told(|text| text.find("b").id = "c".to_owned());
    assert!(told.contains(&"module renamed? `b` → `c`: state goes by name, so the new one starts afresh".to_owned()), "{told:#?}");
}

#[test]
fn a_class_c_edit_says_why_it_is_one() {
    let told = told(|text| {
        text.find("a").references = vec!["b".to_owned()];
        text.find("b").references = vec!["a".to_owned()];
    });
    assert_eq!(told[0], "class C (identity): new feedback loop of `a`, `b`");
}

#[test]
fn what_the_init_only_modules_may_write_again_is_named() {
    let old = program().module("setup").int("base", 1).refers_to(&["a"]).init_only();
    let new = old.edited(|text| text.find_item("b", "x").default = bytes(&1f32.to_le_bytes()));
    let report = classify(old.build().revision(), new.build().revision(), &SAME_RUNTIME);
    let said = "the init-only modules run once and may write 4 items again: a:count; a:gain; a:t; setup:base".to_owned();
    assert!(sentences(&report).contains(&said), "{:#?}", sentences(&report));
    assert_eq!(losses(&report), [said]);
    assert!(report.loses_state(), "a session that asks before any loss asks");
    let code = old.edited(|text| text.find("b").code = "other".to_owned());
    let report = classify(old.build().revision(), code.build().revision(), &SAME_RUNTIME);
    assert!(!report.loses_state() && losses(&report).is_empty(), "they do not run for new code");
}

#[test]
fn a_new_host_is_said_to_keep_nothing() {
    let (old, new) = (program().build(), program().build());
    let new_rate = RuntimeFacts { sample_rate_hz: 44_100, ..SAME_RUNTIME.new };
    let told = sentences(&classify(old.revision(), new.revision(), &Context { new: new_rate, ..SAME_RUNTIME }));
    assert_eq!(told[1], "a new host takes over: 5 items start from the default: a:count; a:gain; a:t; b:x; b:y");
    assert_eq!(told.len(), 2, "nothing is said to be kept: {told:#?}");
}

#[test]
fn long_lists_are_cut_short() {
    let told = told(|text| *text = (0..12).fold(text.clone(), |text, index| text.module(&format!("m{index:02}"))));
    assert!(told[0].ends_with("module `m07` added; and 4 more"), "{told:#?}");
}
