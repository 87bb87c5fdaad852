//! Edits of real source texts, compiled by the worker's own compiler.

use compiler_worker::compile;
use ipc::message::{CompileGoal, CompileRequest};
use ipc::plan::{ChangeClass, ChangeReport, Fate};

use super::builder::{Built, SAME_RUNTIME};
use super::ram::{Ram, swap};
use crate::change::classify;

/// Two modules that feed each other, one that feeds them, one that only listens, one that prepares a table.
const PROGRAM: &str = "8f4e/v1

entry main

module osc
float phase
float step 0.01
push &phase
push phase
push step
add
store
moduleEnd

module left
float* in &osc:phase
float* back &right:out
float out
push &out
push *in
push *back
add
store
moduleEnd

module right
float* in &left:out
float[] history 8
int cursor
float out
push &out
push *in
push 0.5
mul
store
moduleEnd

module scope
float[] seen 4 0.1 0.2
int where &osc:phase
int mark
float last
push &last
push &osc:phase
loadFloat
store
moduleEnd

entryEnd
";

fn compiled(source: &str) -> Built {
    let request = CompileRequest {
        id: 1,
        source: source.as_bytes().to_vec(),
        goal: CompileGoal::Wasm,
        memory_regions: Vec::new(),
        environment: Vec::new(),
        previous: None,
        work_budget: 0,
        generation: 1,
    };
    let artifact = compile(&request).unwrap_or_else(|error| panic!("{error}\n{source}"));
    Built { manifest: artifact.manifest, image: artifact.image }
}

/// The program with one piece of text, which it has once, replaced.
fn edited(from: &str, to: &str) -> String {
    assert_eq!(PROGRAM.matches(from).count(), 1, "{from}");
    PROGRAM.replace(from, to)
}

fn report(old: &str, new: &str) -> ChangeReport {
    let (old, new) = (compiled(old), compiled(new));
    classify(old.revision(), new.revision(), &SAME_RUNTIME)
}

fn fate(report: &ChangeReport, module: &str, item: &str) -> Fate {
    report.items.iter().find(|change| change.key.module == module && change.key.item == item).unwrap().fate
}

#[test]
fn each_edit_of_a_text_has_its_class() {
    use ChangeClass::{A, B, C, None};
    let edits = [
        ("entry main\n", "entry main\n\n; a comment\n\n", None),
        ("push step\n", "push step ; as far as that\n", None),
        ("float step 0.01", "float step 0.02", A),
        ("seen 4 0.1 0.2", "seen 4 0.1 0.3", A),
        ("int where &osc:phase", "int where &osc:step", A),
        ("push 0.5\n", "push 0.25\n", B),
        ("add\nstore\nmoduleEnd\n\nmodule right", "sub\nstore\nmoduleEnd\n\nmodule right", B),
        ("float last\n", "float last\nfloat peak\n", B),
        ("int mark\n", "float mark\n", B),
        ("int mark\n", "", B),
        ("seen 4 0.1 0.2", "seen 6 0.1 0.2", B),
        ("module scope\n", "module meter\nfloat level\nmoduleEnd\n\nmodule scope\n", B),
        ("float[] seen 4 0.1 0.2", "int[] seen 4 1 2", C),
        ("int cursor\n", "", C),
        ("int cursor\n", "int cursor\nint more\n", C),
        ("int cursor\n", "float cursor\n", C),
        ("history 8", "history 16", C),
        ("float* back &right:out", "float* back", C),
        ("int mark\n", "int mark\nfloat* watch &left:out\n", B),
        ("float step 0.01", "float step 0.01\nfloat* mod &right:out", C),
        ("float phase\n", "float phase\nfloat* listens &scope:last\n", C),
    ];
    for (from, to, class) in edits {
        let report = report(PROGRAM, &edited(from, to));
        assert_eq!(report.class, class, "{from:?} → {to:?}: {:#?}", report.differences);
    }
}

#[test]
fn a_comment_above_an_anonymous_item_is_no_change() {
    let program = edited("int mark\n", "int 7\n");
    assert_eq!(report(&program, &program.replace("int 7\n", "; note\nint 7\n")).class, ChangeClass::None);
}

#[test]
fn a_module_added_in_front_moves_state_and_the_addresses_of_it() {
    let (old, new) = (compiled(PROGRAM), compiled(&edited("module osc\n", "module first\nfloat[] room 3\nmoduleEnd\n\nmodule osc\n")));
    let report = classify(old.revision(), new.revision(), &SAME_RUNTIME);
    assert_eq!((report.class, report.counts().default_changed), (ChangeClass::B, 0), "{:#?}", report.differences);
    assert_eq!(fate(&report, "osc", "phase"), Fate::Moved);
    let mut memory = Ram::initial(&old);
    memory.set(&old, "osc", "phase", &0.75f32.to_le_bytes());
    memory.set(&old, "right", "history", &[7; 32]);
    let after = swap(&old, &new, &memory).memory;
    assert_eq!(after.item(&new, "osc", "phase"), 0.75f32.to_le_bytes());
    assert_eq!(after.item(&new, "right", "history"), [7; 32]);
    assert_eq!(after.word(&new, "left", "in"), new.item("osc", "phase").byte_address);
    assert_eq!(after.word(&new, "scope", "where"), new.item("osc", "phase").byte_address);
}

#[test]
fn an_init_only_module_runs_again_for_a_default_only() {
    let program = edited(
        "module scope\n",
        "module setup\n#initOnly\nint base 1\nint derived\npush &derived\npush base\nstore\nmoduleEnd\n\nmodule scope\n",
    );
    let again = |from: &str, to: &str| report(&program, &program.replace(from, to)).reruns_init_only;
    assert!(again("int base 1", "int base 10"));
    assert!(again("float step 0.01", "float step 0.02"));
    assert!(!again("push 0.5\n", "push 0.25\n"));
    assert!(!again("entry main\n", "entry main\n; note\n"));
}
