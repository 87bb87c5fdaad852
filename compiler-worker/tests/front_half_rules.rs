//! Rules of the language that the corpus does not hold, one by one: constants and environment, layout, references, defaults,
//! order of errors, includes, limits. Each program is resolved, not compiled.

use compiler_worker::languages::lang_8f4e::instruction::Instruction;
use compiler_worker::languages::lang_8f4e::program::{Argument, Item, Literal, LiteralKind, Module, Program};
use compiler_worker::languages::lang_8f4e::{FrontOptions, resolve};
use ipc::diagnostic::{Diagnostic, Stage};

fn with_environment(values: &[(&str, f64)]) -> FrontOptions {
    FrontOptions { environment: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(), ..FrontOptions::default() }
}

fn program(text: &str) -> Program {
    resolve(text.as_bytes(), &FrontOptions::default()).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"))
}

fn errors(text: &str) -> Vec<Diagnostic> {
    resolve(text.as_bytes(), &FrontOptions::default()).expect_err("the program is wrong")
}

/// Stage, code and line inside the block of the first error.
fn error(text: &str) -> (Stage, i32, u32) {
    let first = errors(text).remove(0);
    (first.stage, first.code, first.line_in_block.expect("it is in a block"))
}

/// A program with one module `t`.
fn module_text(lines: &str) -> String {
    format!("8f4e/v1\nentry main\nmodule t\n{lines}\nmoduleEnd\nentryEnd\n")
}

fn module(lines: &str) -> Module {
    program(&module_text(lines)).modules.remove(0)
}

fn item<'m>(module: &'m Module, name: &str) -> &'m Item {
    module.item(name).unwrap_or_else(|| panic!("{name} is declared"))
}

/// The literal that the nth `push` of a module pushes.
fn pushed(module: &Module, nth: usize) -> Literal {
    let line = module.body.iter().filter(|line| line.instruction == Instruction::Push).nth(nth).expect("there are as many");
    match &line.arguments[0] {
        Argument::Literal(literal) => literal.clone(),
        other => panic!("pushes {other:?}"),
    }
}

/// Words of memory 0 after initialisation.
fn words(text: &str) -> Vec<u32> {
    let program = program(text);
    let mut bytes = vec![0u8; program.memories[0].required_bytes as usize + 64];
    for segment in &program.data {
        bytes[segment.address as usize..][..segment.bytes.len()].copy_from_slice(&segment.bytes);
    }
    let words = bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().expect("four bytes")));
    words.take(program.memories[0].required_bytes as usize / 4).collect()
}

#[test]
fn the_first_worked_example_starts_with_the_documented_memory() {
    let text = "8f4e/v1\n\nentry main\n\nmodule ramp\nfloat64 precise 0.25f64\nint steps\nfloat value 0.5\nfloat[] history 4 1.0 2.0\n\
                float* out &value\nmoduleEnd\n\nmodule Alpha\nint16[] table 3 -1 2 3\nint* tap &ramp:steps\nint seen\nint last\nmoduleEnd\n\nentryEnd\n";
    let expected =
        [0x00000000, 0xffff0200, 0x03000000, 0x20000000, 0, 0, 0, 0x0000d03f, 0, 0x0000003f, 0x0000803f, 0x00000040, 0, 0, 0x24000000];
    assert_eq!(words(text), expected);
    let program = program(text);
    let ids: Vec<&str> = program.modules.iter().map(|module| module.id.as_str()).collect();
    assert_eq!(ids, ["ramp", "Alpha"], "document order is the order of execution");
}

#[test]
fn both_slots_of_a_name_start_with_the_last_default() {
    let text = "8f4e/v1\nprototype voice\nfloat level 0.5\nint gate\nprototypeEnd\nentry main\nmodule v1\nshape voice\nfloat level 0.75\nint kind\n\
                moduleEnd\nentryEnd\n";
    assert_eq!(words(text), [0, 0x0000403f, 0, 0x0000403f, 0]);
    let module = program(text).modules.remove(0);
    assert_eq!((item(&module, "level").byte_address, module.items.len()), (12, 4));
    assert_eq!((module.items[0].line, module.shapes.as_slice()), (1, &["voice".to_owned()][..]));
}

#[test]
fn constants_are_visible_below_their_line_only() {
    let module = module("push A\nconst A 3\npush A\nconst A 4\npush A*2\ndrop");
    let arguments: Vec<&Argument> = module.body.iter().filter_map(|line| line.arguments.first()).collect();
    assert_eq!(arguments[0], &Argument::Name("A".to_owned()));
    assert_eq!(pushed_values(&arguments[1..]), [3.0, 8.0]);
}

fn pushed_values(arguments: &[&Argument]) -> Vec<f64> {
    let value = |argument: &&Argument| match argument {
        Argument::Literal(literal) => literal.value,
        other => panic!("not a literal: {other:?}"),
    };
    arguments.iter().map(value).collect()
}

#[test]
fn the_environment_replaces_constants_of_the_env_block_where_they_stand() {
    let text = "8f4e/v1\nconstants env\nconst SAMPLE_RATE 48000\nconst HALF SAMPLE_RATE/2\nconstantsEnd\nentry main\nmodule t\nuse env\n\
                int rate SAMPLE_RATE\nint half HALF\nint size ASSET_KICK_SIZE\nmoduleEnd\nentryEnd\n";
    let program = resolve(text.as_bytes(), &with_environment(&[("SAMPLE_RATE", 44100.0), ("ASSET_KICK_SIZE", 99.0)])).expect("is right");
    let expected = [("SAMPLE_RATE", 44100.0), ("HALF", 22050.0), ("ASSET_KICK_SIZE", 99.0)];
    assert_eq!(program.environment, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(program.data[0].bytes[..4], 44100i32.to_le_bytes());
}

#[test]
fn a_program_without_env_block_gets_one_if_there_is_an_environment() {
    let text = module_text("use env\nint rate SAMPLE_RATE");
    assert_eq!(error(&text), (Stage::Compiler, 69, 1));
    let program = resolve(text.as_bytes(), &with_environment(&[("SAMPLE_RATE", 96000.0)])).expect("is right");
    assert_eq!(program.environment, [("SAMPLE_RATE".to_owned(), 96000.0)]);
}

#[test]
fn values_of_the_environment_keep_the_kind_the_program_gave_them() {
    let text = "8f4e/v1\nconstants env\nconst A 1.5\nconst B 2f64\nconst C 3\nconstantsEnd\nentry main\nmodule t\nuse env\npush A\npush B\npush C\n\
                moduleEnd\nentryEnd\n";
    let program = resolve(text.as_bytes(), &with_environment(&[("A", 7.0), ("B", 8.0), ("C", 9.5)])).expect("is right");
    let kinds: Vec<LiteralKind> = (0..3).map(|nth| pushed(&program.modules[0], nth).kind).collect();
    assert_eq!(kinds, [LiteralKind::Float, LiteralKind::Float64, LiteralKind::Float]);
}

#[test]
fn names_are_never_taken_for_constants() {
    let module = module("const X 5\nint[] X 2 X\nlocal int X\npush X\nlocalSet X\ncall X X");
    assert_eq!(module.items[0].name, "X");
    let call = module.body.last().expect("the call is there");
    assert_eq!(call.arguments[0], Argument::Name("X".to_owned()));
    assert!(matches!(&call.arguments[1], Argument::Literal(literal) if literal.value == 5.0));
}

#[test]
fn address_expressions_carry_the_range_that_remains() {
    let module = module("int[] b 4\npush &b+4\npush 4+&b\npush &b+16\npush &b+20\npush &b-4\npush &b*2\npush b&+4");
    let range = |nth| pushed(&module, nth).range.map(|range| (range.byte_address, range.safe_bytes));
    let ranges: Vec<_> = (0..7).map(range).collect();
    assert_eq!(ranges, [Some((8, 12)), Some((8, 12)), Some((20, 0)), None, None, None, Some((20, 0))]);
}

#[test]
fn module_addresses_name_no_item() {
    let module = module("int a\nint b\npush &this\npush this&\npush &t:1\npush t:b&");
    let range = |nth| pushed(&module, nth).range.expect("an address has a range");
    assert_eq!((range(0).byte_address, range(0).safe_bytes, range(0).item), (4, 8, None));
    assert_eq!((range(1).byte_address, range(1).safe_bytes, range(1).item), (8, 4, None));
    assert_eq!((range(2).byte_address, range(2).item), (8, Some(1)));
    assert_eq!((range(3).byte_address, range(3).module), (8, 0));
}

#[test]
fn a_padded_item_ends_beyond_its_last_word() {
    let module = module("int a\nint b\nfloat64 d\nint z");
    let d = item(&module, "d");
    assert_eq!((d.byte_address, d.words, d.end_byte_address), (16, 3, 24));
    assert_eq!(item(&module, "z").byte_address, 24);
}

#[test]
fn counts_behind_pointers_follow_their_defaults() {
    let module = module(
        "int[] a 4\nint* p &a+8\nint* q\nint* one &a+12\nint[] c 2 count(*p) sizeof(*q)\npush count(*p)\npush count(*one)\npush count(*zz)",
    );
    assert_eq!(item(&module, "p").pointee_count, Some(2));
    assert_eq!(item(&module, "one").pointee_count, None);
    assert_eq!(pushed(&module, 0).value, 2.0);
    assert!(module.body[1..].iter().all(|line| matches!(line.arguments[0], Argument::PointeeQuery { .. })));
    let address = item(&module, "p").default_address.as_ref().expect("its default is an address");
    assert_eq!((address.byte_address, address.item), (12, Some(0)));
}

#[test]
fn sizes_behind_parameters_can_stand_in_expressions() {
    let text = "8f4e/v1\nprototype pair\nfloat64 left\nint16u* right\nprototypeEnd\nfunction f\nparam int16* p\nparamShape pair\nlocal float64** q\n\
                push sizeof(*p)*4\npush max(*left)-1\npush sizeof(*q)+sizeof(*right)\npush count(*p)*2\nfunctionEnd\n";
    let function = program(text).functions.remove(0);
    let pushes: Vec<&Argument> =
        function.body.iter().filter(|line| line.instruction == Instruction::Push).map(|line| &line.arguments[0]).collect();
    assert_eq!(pushed_values(&[pushes[0], pushes[2]]), [8.0, 8.0]);
    assert_eq!(pushed_values(&[pushes[1]]), [f64::MAX]);
    assert_eq!(pushes[3], &Argument::Unresolved { what: "count(*p)*2".to_owned() });
}

#[test]
fn functions_see_items_of_modules_by_their_full_name_only() {
    let text = format!("{}function f\npush &t:x\npush &x\npush &this\npush nope\nfunctionEnd int\n", module_text("int x"));
    let function = program(&text).functions.remove(0);
    let kinds: Vec<bool> = function.body.iter().map(|line| matches!(line.arguments[0], Argument::Literal(_))).collect();
    assert_eq!(kinds, [true, false, false, false, false]);
    assert_eq!(function.body.last().map(|line| line.instruction), Some(Instruction::FunctionEnd));
}

#[test]
fn modules_are_placed_by_utf16_order() {
    // As a code point U+1F600 comes last; in UTF-16 its surrogates come before U+FF5E.
    let text = "8f4e/v1\nentry main\nmodule \u{ff5e}\nint a\nmoduleEnd\nmodule \u{1f600}\nint b\nmoduleEnd\nmodule Z\nint c\nmoduleEnd\nentryEnd\n";
    let addresses: Vec<u32> = program(text).modules.iter().map(|module| module.byte_address).collect();
    assert_eq!(addresses, [12, 8, 4]);
}

#[test]
fn regions_are_memories_of_their_own() {
    let options = FrontOptions { memory_regions: vec!["slow".to_owned(), "fast".to_owned()], ..FrontOptions::default() };
    let text = "8f4e/v1\nentry main\nmodule a\n#region fast\nint[] x 4 1\nmoduleEnd\nmodule b\n#region 1\nint y\nmoduleEnd\nmodule c\nint* p &a:x\nmoduleEnd\nentryEnd\n";
    let program = resolve(text.as_bytes(), &options).expect("is right");
    let memories: Vec<(&str, u64)> = program.memories.iter().map(|memory| (memory.name.as_str(), memory.required_bytes)).collect();
    assert_eq!(memories, [("memory", 8), ("slow", 8), ("fast", 20)]);
    assert_eq!(program.data.iter().map(|segment| (segment.memory, segment.address)).collect::<Vec<_>>(), [(0, 4), (2, 4)]);
    assert_eq!(item(&program.modules[2], "p").default_address.as_ref().map(|range| range.memory), Some(2));
}

#[test]
fn unused_regions_are_no_memories() {
    let options = FrontOptions { memory_regions: vec!["slow".to_owned()], ..FrontOptions::default() };
    assert_eq!(resolve(module_text("int x").as_bytes(), &options).expect("is right").memories.len(), 1);
}

#[test]
fn errors_come_in_the_order_of_the_passes() {
    let text = |module: &str| format!("8f4e/v1\nentry main\nmodule a\n{module}\nmoduleEnd\nmodule b\nint x 1 300\nmoduleEnd\nentryEnd\n");
    assert_eq!(error(&text("foo")), (Stage::Syntax, 11, 1));
    assert_eq!(error(&text("use nope")), (Stage::Compiler, 69, 1));
    assert_eq!(error(&text("#region r")), (Stage::Compiler, 55, 1));
    assert_eq!(error(&text("int this")), (Stage::Compiler, 38, 1));
    assert_eq!(error(&text("push 1")), (Stage::Compiler, 36, 1));
}

#[test]
fn syntax_errors_of_prototypes_come_first_and_those_of_functions_last() {
    let text = "8f4e/v1\nfunction f\nfoo\nfunctionEnd\nconstants c\n\nbar\nconstantsEnd\nentry main\nmodule m\n\n\nbaz\nmoduleEnd\nentryEnd\n\
                prototype p\n\n\n\nqux\nprototypeEnd\n";
    let lines: Vec<Option<u32>> = errors(text).into_iter().map(|error| error.line).collect();
    assert_eq!(lines, [Some(20), Some(13), Some(7), Some(3)]);
}

#[test]
fn diagnostics_point_at_the_argument() {
    let first = errors(&module_text("int ok\n  int  x   nope ; why")).remove(0);
    assert_eq!((first.line, first.column, first.length), (Some(5), Some(12), Some(4)));
    assert_eq!(first.block.expect("it is in a block").id, "t");
}

#[test]
fn an_argument_on_a_continuation_line_is_reported_at_its_instruction() {
    let first = errors(&module_text("int x\n- nope")).remove(0);
    assert_eq!((first.line, first.column, first.instruction.as_deref()), (Some(4), Some(1), Some("int")));
}

#[test]
fn structure_is_checked() {
    for (lines, code, line) in [
        ("push 1\nif\nloop\nifEnd\nloopEnd", 9, 4),
        ("loop", 9, 2),
        ("push 1\nif\nloop\nelse", 9, 4),
        ("loopEnd", 12, 1),
        ("loopIndex", 12, 1),
        ("map 1 2", 12, 1),
        ("push 1\nmapBegin int\npush 1", 12, 3),
        ("param int x", 12, 1),
        ("return", 12, 1),
        ("push 1\n#skipExecution", 10, 2),
        ("const x 1", 2, 1),
        ("local int8 x", 2, 1),
        ("map 1", 12, 1),
    ] {
        assert_eq!(error(&module_text(lines)), (Stage::Syntax, code, line), "{lines}");
    }
    assert_eq!(error("8f4e/v1\nconstants c\nint x\nconstantsEnd"), (Stage::Syntax, 12, 1));
    assert_eq!(error("8f4e/v1\nconstants c\n#loopCap 3\nconstantsEnd"), (Stage::Syntax, 10, 1));
    assert_eq!(error("8f4e/v1\nfunction f\n#initOnly\nfunctionEnd"), (Stage::Syntax, 12, 1));
    assert_eq!(error("8f4e/v1\nfunction f\nexitIfTrue\nfunctionEnd"), (Stage::Syntax, 12, 1));
}

#[test]
fn init_only_and_skipped_modules_are_marked() {
    let module = module("#initOnly\n#initOnly\n#skipExecution\n#loopCap 7\nint x");
    assert_eq!((module.init_only, module.skip_execution, module.loop_cap), (true, true, Some(7)));
}

#[test]
fn a_line_that_a_comment_would_hide_is_an_error() {
    assert_eq!(error(&module_text("push 1 ; a\u{2028}b")), (Stage::Syntax, 1004, 1));
    let first = errors("8f4e/v1\r\nentry main\r\nentryEnd\r\n").remove(0);
    assert_eq!((first.stage, first.code, first.line), (Stage::Project, 1003, Some(1)));
    assert!(first.hint.is_some_and(|hint| hint.contains("sed")));
}

#[test]
fn included_functions_stand_where_their_block_stands() {
    let text =
        "8f4e/v1\nfunction first\nfunctionEnd\nincludes\ninclude std/memory/readInterpolated\nincludesEnd\nfunction last\nfunctionEnd\n";
    let program = program(text);
    let names: Vec<&str> = program.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"first"), Some(&"last")));
    let private = "__8f4e_std_memory_readInterpolated__wrapReadAddress";
    assert!(names.contains(&private));
    let calls: Vec<&Argument> = program
        .functions
        .iter()
        .flat_map(|function| &*function.body)
        .filter(|line| line.instruction == Instruction::Call)
        .map(|line| &line.arguments[0])
        .collect();
    assert!(!calls.is_empty() && calls.iter().all(|target| **target == Argument::Name(private.to_owned())));
    assert!(program.functions.iter().all(|function| function.exports.is_empty()));
    let block = &program.blocks[program.functions[1].block];
    assert_eq!((block.file_line, block.include.as_deref()), (None, Some("std/memory/readInterpolated")));
}

#[test]
fn every_include_resolves_together_with_all_others() {
    use compiler_worker::languages::lang_8f4e::includes::LIBRARY;
    let ids: String = LIBRARY.iter().map(|(id, _)| format!("include {id}\n")).collect();
    let program = program(&format!("8f4e/v1\nincludes\n{ids}includesEnd\n"));
    assert!(program.functions.len() >= LIBRARY.len());
}

#[test]
fn config_reaches_the_program_in_document_order() {
    let text = "8f4e/v1\nnote\n; @config runtime AudioWorkletRuntime\nnoteEnd\nentry main\nmodule t\nfloat[] left 128 ; @config audioRuntime.audioOutBufferLAddress left\n\
                moduleEnd\nentryEnd\n";
    let config = program(text).config;
    let found: Vec<(&str, &str, u32)> =
        config.iter().map(|entry| (entry.block.id.as_str(), entry.arguments[1].as_str(), entry.line)).collect();
    assert_eq!(found, [("", "AudioWorkletRuntime", 3), ("t", "left", 7)]);
}

#[test]
fn wrong_midi_directives_are_kept_for_after_all_other_errors() {
    let program = program(&module_text("; ~midiNoteInput gate"));
    let kept: Vec<(i32, u32)> = program.directive_errors.iter().map(|error| (error.code, error.span.line)).collect();
    assert_eq!(kept, [(1040, 1)]);
    assert_eq!(error(&module_text("; ~midiNoteInput gate\nfoo")), (Stage::Syntax, 11, 2));
}

#[test]
fn absurd_sizes_are_refused_without_being_allocated() {
    for count in ["1e9", "4294967296", "2^1000", "1e300*1e300", "0x7fffffff"] {
        let text = module_text(&format!("int ok\nfloat64[] x {count} 1.0"));
        assert_eq!(error(&text), (Stage::Compiler, 1011, 2), "{count}");
    }
    let text = module_text("int[] a 60000000\nint[] b 60000000");
    assert_eq!(error(&text), (Stage::Compiler, 1011, 2));
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| module_text(&format!("{}{}", "block\n".repeat(depth), "blockEnd\n".repeat(depth)));
    assert_eq!(program(&nested(256)).modules[0].body.len(), 512);
    assert_eq!(error(&nested(257)), (Stage::Syntax, 1010, 257));
}

#[test]
fn duplicate_and_unknown_namespaces_are_named() {
    let first = errors("8f4e/v1\nconstants c\nuse nope\nconstantsEnd\nentry main\nmodule m\nuse c\nmoduleEnd\nentryEnd\n").remove(0);
    assert_eq!((first.code, first.line), (69, Some(3)));
    let first = errors("8f4e/v1\nconstants c\nconstantsEnd\nconstants c\nconstantsEnd\n").remove(0);
    assert!(first.message.contains("DUPLICATE_NAMESPACE"), "{first:?}");
    assert_eq!(error("8f4e/v1\nfunction f\n\nuse nope\nfunctionEnd\n"), (Stage::Compiler, 69, 2));
}
