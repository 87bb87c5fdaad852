//! A table of edits: which modules keep their place, and what counts as changed code and as a changed default.

use std::collections::BTreeSet;

use ipc::manifest::Manifest;

use crate::{compiled, module};

const PROGRAM: &str = "8f4e/v1

constants tuning
const STEP 3
const SCALE 0.5
constantsEnd

prototype voice
float gain 0.5
prototypeEnd

function scaled
use tuning
param float x
push x
push SCALE
mul
functionEnd float

function peek
#impure
push &delta:level
loadFloat
functionEnd float

function through
#impure
call peek
functionEnd float

function mute
#impure
paramShape voice
push gain
push 0.0
store
functionEnd

entry main

module alpha
use tuning
int count 1
float level 0.25
push &count
push count
push STEP
add
store
moduleEnd

module beta
float64 precise 1.5f64
float[] table 4 0.5 0.25
float* in &alpha:level
int 7
push &table
push *in
call scaled
store
push &precise
push 2.5f64
store
moduleEnd

module delta
float level 1.0
float out
push &out
call through
store
moduleEnd

module epsilon
int[] spare 3 1 2 3
int*[] taps 2 &alpha:count &delta:level
moduleEnd

module zeta
int seen
int where &beta:table
push &seen
push &alpha:count
load
store
moduleEnd

module omega
shape voice
pushShape voice
call mute
moduleEnd

entryEnd
";

/// What an edit does to the modules and items that both texts have.
#[derive(Debug, Default, PartialEq)]
struct Effect {
    /// Modules that lie elsewhere.
    moved: BTreeSet<String>,
    /// Modules whose code changed.
    recoded: BTreeSet<String>,
    /// Items with another default.
    defaulted: BTreeSet<String>,
}

fn effect(old: &str, new: &str) -> Effect {
    let before = compiled(old, None).manifest;
    let after = compiled(new, Some(&before)).manifest;
    let mut effect = Effect::default();
    for module in &after.modules {
        let Some(old) = crate::module(&before, &module.id) else { continue };
        if old.byte_address != module.byte_address {
            effect.moved.insert(module.id.clone());
        }
        if old.code_hash != module.code_hash {
            effect.recoded.insert(module.id.clone());
        }
        for item in &module.items {
            let Some(old) = old.items.iter().find(|old| old.name == item.name) else { continue };
            let is_same = match (&old.points_at, &item.points_at) {
                (Some(from), Some(to)) => (&from.module, &from.item) == (&to.module, &to.item),
                (from, to) => from == to && old.default_fingerprint == item.default_fingerprint,
            };
            if !is_same {
                effect.defaulted.insert(format!("{}:{}", module.id, item.name));
            }
        }
    }
    effect
}

/// The program with one piece of text, which it has once, replaced.
fn edited(from: &str, to: &str) -> String {
    assert_eq!(PROGRAM.matches(from).count(), 1, "{from}");
    PROGRAM.replace(from, to)
}

fn names(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn each_edit_moves_and_changes_what_it_says() {
    // From, to; modules moved, modules with other code, items with other defaults.
    let edits = [
        ("entry main\n", "entry main\n\n; a comment\n\n", "", "", ""),
        ("push STEP\n", "push STEP ; a comment\n", "", "", ""),
        ("float level 0.25\n", "\n  float   level 0.25\n", "", "", ""),
        ("int 7\n", "; a comment\nint 7\n", "", "", ""),
        ("float level 0.25", "float level 0.75", "", "", "alpha:level"),
        ("table 4 0.5 0.25", "table 4 0.5", "", "", "beta:table"),
        ("where &beta:table", "where &beta:in", "", "", "zeta:where"),
        ("where &beta:table", "where 24", "", "", "zeta:where"),
        ("float gain 0.5", "float gain 0.75", "", "", "omega:gain"),
        // Code.
        ("const STEP 3", "const STEP 4", "", "alpha", ""),
        ("const SCALE 0.5", "const SCALE 0.25", "", "beta", ""),
        ("push &delta:level\nloadFloat", "push &delta:out\nloadFloat", "", "delta", ""),
        ("push 0.0\nstore", "push 0.5\nstore", "", "omega", ""),
        ("push count\npush STEP\nadd", "push count\npush STEP\nsub", "", "alpha", ""),
        ("module delta\n", "module delta\n#loopCap 7\n", "", "delta", ""),
        // Modules.
        ("entry main\n", "entry main\nmodule aaa\nint[] room 9\nmoduleEnd\n", "", "", ""),
        ("module epsilon\nint[] spare 3 1 2 3\nint*[] taps 2 &alpha:count &delta:level\nmoduleEnd\n", "", "", "", ""),
        // Items: epsilon lies between delta and omega, zeta lies last.
        ("int[] spare 3 1 2 3\n", "", "", "", ""),
        ("int[] spare 3 1 2 3", "int[] spare 2 1 2", "", "", "epsilon:spare"),
        ("int[] spare 3 1 2 3", "int[] spare 4 1 2 3", "epsilon", "", ""),
        ("float level 0.25\n", "float level 0.25\nint more\n", "alpha", "", ""),
        ("int seen\n", "int seen\nint more\n", "", "", ""),
        ("int seen\n", "int seen\nint[] more 300\n", "", "", ""),
        ("float64 precise 1.5f64\n", "float64 precise 1.5f64\nint more\n", "beta", "", ""),
        ("table 4 0.5", "table 5 0.5", "beta", "beta", ""),
        ("int[] spare 3", "int32[] spare 3", "", "", ""),
        ("int[] spare 3", "float[] spare 3", "", "", "epsilon:spare"),
    ];
    for (from, to, moved, recoded, defaulted) in edits {
        let expected = Effect { moved: names(moved), recoded: names(recoded), defaulted: names(defaulted) };
        assert_eq!(effect(PROGRAM, &edited(from, to)), expected, "{from:?} → {to:?}");
    }
}

#[test]
fn the_order_of_modules_is_no_property_of_one_of_them() {
    let (start, end) = (PROGRAM.find("module delta").unwrap(), PROGRAM.find("module epsilon").unwrap());
    let moved = format!("{}{}", &PROGRAM[..start], &PROGRAM[end..]).replace("entryEnd\n", &format!("{}entryEnd\n", &PROGRAM[start..end]));
    assert_eq!(effect(PROGRAM, &moved), Effect::default());
    let main = |manifest: &Manifest| manifest.exports.iter().find(|export| export.name == "main").unwrap().code_hash;
    assert_ne!(main(&compiled(PROGRAM, None).manifest), main(&compiled(&moved, None).manifest));
}

#[test]
fn a_prototype_with_another_item_is_other_code() {
    let new = PROGRAM
        .replace("float gain 0.5\n", "float gain 0.5\nint gate\n")
        .replace("paramShape voice\n", "paramShape voice\n; both are parameters now\n");
    assert_eq!(effect(PROGRAM, &new).recoded, names("omega"));
}

#[test]
fn a_module_that_moves_by_one_word_is_the_same_code() {
    // In a fresh layout, one word more in front changes which items of `beta` need a word for alignment.
    let before = compiled(PROGRAM, None).manifest;
    let after = compiled(&edited("float level 0.25\n", "float level 0.25\nint more\n"), None).manifest;
    let beta = |manifest: &Manifest| module(manifest, "beta").unwrap().clone();
    let (old, new) = (beta(&before), beta(&after));
    assert_ne!(old.words, new.words);
    assert_eq!(old.code_hash, new.code_hash);
}

#[test]
fn references_are_those_of_code_called_functions_and_defaults() {
    let manifest = compiled(PROGRAM, None).manifest;
    let references = |id: &str| -> Vec<&str> {
        let module = module(&manifest, id).unwrap();
        module.references.iter().map(|&index| manifest.modules[index as usize].id.as_str()).collect()
    };
    assert_eq!(references("alpha"), [""; 0]);
    assert_eq!(references("beta"), ["alpha"]);
    assert_eq!(references("delta"), [""; 0]); // Itself, through two functions.
    assert_eq!(references("epsilon"), ["alpha", "delta"]);
    assert_eq!(references("zeta"), ["alpha", "beta"]);
    let moved = PROGRAM.replace("call scaled\n", "call through\nadd\n");
    let manifest = compiled(&moved, None).manifest;
    let beta = module(&manifest, "beta").unwrap();
    assert_eq!(beta.references, [0, 2]);
}

#[test]
fn functions_that_call_each_other_count_together() {
    let functions = |number: &str| {
        format!(
            "function ping\n#impure\nparam int x\npush x\nif\npush x\npush 1\nsub\ncall pong\nifEnd\nfunctionEnd\n\
            function pong\n#impure\nparam int x\npush &alpha:count\npush {number}\nstore\npush x\ncall ping\nfunctionEnd\n"
        )
    };
    let program = |number: &str| {
        let called =
            edited("push &count\n", "push 1\ncall ping\npush &count\n").replace("call scaled\n", "push 2\ncall pong\ncall scaled\n");
        called.replace("entry main\n", &format!("{}entry main\n", functions(number)))
    };
    assert_eq!(effect(&program("1"), &program("2")).recoded, names("alpha beta"));
    assert_eq!(effect(&program("1"), &program("1")), Effect::default());
}

#[test]
fn a_long_chain_of_calls_is_followed_to_its_end() {
    const LENGTH: usize = 20_000;
    let mut text = String::from("8f4e/v1\nentry main\nmodule m\nint x\ncall f0\nmoduleEnd\nmodule n\nint y\nmoduleEnd\nentryEnd\n");
    for index in 0..LENGTH {
        text.push_str(&format!("function f{index}\n#impure\ncall f{}\nfunctionEnd\n", index + 1));
    }
    let end = |number: &str| format!("{text}function f{LENGTH}\n#impure\npush &n:y\npush {number}\nstore\nfunctionEnd\n");
    let (first, second) = (compiled(&end("1"), None).manifest, compiled(&end("2"), None).manifest);
    assert_eq!(first.modules[0].references, [1]);
    assert_ne!(first.modules[0].code_hash, second.modules[0].code_hash);
    assert_eq!(first.modules[1].code_hash, second.modules[1].code_hash);
}

#[test]
fn the_same_text_again_is_the_same_artifact() {
    let first = compiled(PROGRAM, None);
    assert_eq!(compiled(PROGRAM, Some(&first.manifest)), first);
}
