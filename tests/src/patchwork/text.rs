//! Writes a patchwork in the language.

use super::{Default, Failure, Item, Kind, Module, Program, Shape};

/// File that clips are loaded from, beside the program's text.
pub const CLIP_FILE: &str = "clip.raw";

/// Samples in it: more than any clip has.
const CLIP_SAMPLES: usize = 1 << 14;

/// What is in the file.
pub fn clip_file() -> Vec<u8> {
    (0..CLIP_SAMPLES).flat_map(|index| clip_sample(index).to_le_bytes()).collect()
}

/// One sample of the file: a fraction that is exact in floats, never 0.
pub fn clip_sample(index: usize) -> f32 {
    ((index * 37) % 1_021 + 1) as f32 / 4_096.0
}

/// The text of a program.
pub fn of(program: &Program) -> String {
    let mut lines = vec!["8f4e/v1".to_owned(), String::new(), format!("; patchwork, comment {}", program.comment), "entry main".to_owned()];
    for module in &program.modules {
        lines.extend(module_lines(module, program));
        lines.push(String::new());
    }
    let end = ["entryEnd", "", "function buffer", "#export", "loop 128", "call main", "loopEnd", "functionEnd", ""];
    lines.extend(end.map(str::to_owned));
    lines.join("\n")
}

/// 1-based lines of the code by which a bomb fails, first and last.
pub fn failing_lines(text: &str) -> std::ops::RangeInclusive<u64> {
    let marked = |(index, line): (usize, &str)| line.ends_with("; fails").then_some(index as u64 + 1);
    let lines: Vec<u64> = text.lines().enumerate().filter_map(marked).collect();
    lines[0]..=lines[lines.len() - 1]
}

fn module_lines(module: &Module, program: &Program) -> Vec<String> {
    let mut lines = vec![format!("module {}", module.id)];
    match module.kind {
        Kind::Boot { .. } => lines.push("#initOnly".to_owned()),
        Kind::Mix => lines.extend(
            ["runtime AudioWorkletRuntime", "audioRuntime.audioOutBufferLAddress mix:left", "pulse mix:beat"]
                .map(|setting| format!("; @config {setting}")),
        ),
        Kind::Clip { .. } => {
            let id = &module.id;
            lines.push(format!("; @config bin.{id}.url {CLIP_FILE}"));
            lines.push(format!("; @config bin.{id}.memory {id}:clip"));
        }
        Kind::Oscillator { .. } | Kind::Counter { .. } | Kind::Delay { .. } | Kind::Tape { .. } | Kind::Echo { .. } | Kind::Bomb { .. } => {
        }
    }
    lines.extend(module.items().iter().map(declaration));
    lines.extend(body(module, program).lines().map(str::to_owned));
    lines.push("moduleEnd".to_owned());
    lines
}

fn declaration(item: &Item) -> String {
    let name = &item.name;
    let default = match &item.default {
        Default::Zero => String::new(),
        Default::Int(value) => format!(" {value}"),
        Default::Float(value) => format!(" {}", float(*value)),
        Default::OutOf(module) => format!(" &{module}:out"),
        Default::OwnTape => " &tape".to_owned(),
    };
    match item.shape {
        Shape::Int => format!("int {name}{default}"),
        Shape::Float => format!("float {name}{default}"),
        Shape::Pointer => format!("float* {name}{default}"),
        Shape::Ints(count) => format!("int[] {name} {count}"),
        Shape::Floats(count) => format!("float[] {name} {count}"),
    }
}

/// The exact value: the language reads literals as doubles.
fn float(value: f32) -> String {
    format!("{:?}", f64::from(value))
}

fn body(module: &Module, program: &Program) -> String {
    match &module.kind {
        Kind::Oscillator { phase, trim, is_centred, .. } => oscillator(phase, *trim, *is_centred),
        Kind::Counter { is_float, increment, .. } => counter(*is_float, *increment),
        Kind::Delay { .. } => DELAY.to_owned(),
        Kind::Tape { .. } => TAPE.to_owned(),
        Kind::Echo { .. } => ECHO.to_owned(),
        Kind::Clip { .. } => CLIP.to_owned(),
        Kind::Boot { .. } => BOOT.to_owned(),
        Kind::Bomb { way, .. } => bomb(*way),
        Kind::Mix => mix(program),
    }
}

fn oscillator(phase: &str, trim: f32, is_centred: bool) -> String {
    let centre = if is_centred { "push 0.5\nsub\n" } else { "" };
    format!(
        "push &{phase}\npush {phase}\npush step\nadd\nstore
push {phase}\npush 1.0\ngreaterOrEqual\nif\npush &{phase}\npush {phase}\npush 1.0\nsub\nstore\nifEnd
push &out\npush {phase}\n{centre}push level\nmul\npush {}\nmul\nstore",
        float(trim)
    )
}

fn counter(is_float: bool, increment: i32) -> String {
    let (advance, read) = if is_float {
        let step = float(increment as f32);
        let wrap = "push count\npush 65536.0\ngreaterOrEqual\nif\npush &count\npush count\npush 65536.0\nsub\nstore\nifEnd";
        (format!("push &count\npush count\npush {step}\nadd\nstore\n{wrap}"), "push count")
    } else {
        (format!("push &count\npush count\npush {increment}\nadd\npush 65535\nand\nstore"), "push count\ncastToFloat")
    };
    format!("{advance}\npush &out\n{read}\npush 0.0000152587890625\nmul\npush level\nmul\nstore")
}

const DELAY: &str = "push &head\npush head\npush count(line)\nremainder\nstore
push &out\npush &line\npush head\npush 4\nmul\nadd\nloadFloat\npush gain\nmul\nstore
push &line\npush head\npush 4\nmul\nadd\npush *input\nstore
push &head\npush head\npush 1\nadd\nstore";

const TAPE: &str = "push &out\npush *cursor\nstore
push cursor\npush *input\nstore
push &cursor\npush cursor\npush 4\nadd\nstore
push cursor\npush tape&\ngreaterThan\nif\npush &cursor\npush &tape\nstore\nifEnd";

const ECHO: &str = "push &out\npush *other\npush keep\nmul\npush *drive\npush 0.25\nmul\nadd\nstore";

const CLIP: &str = "push &position\npush position\npush count(clip)\nremainder\nstore
push &out\npush &clip\npush position\npush 4\nmul\nadd\nloadFloat\nstore
push &position\npush position\npush 1\nadd\nstore";

const BOOT: &str = "push &runs\npush runs\npush 1\nadd\nstore\npush &derived\npush base\npush 7\nmul\nstore";

fn bomb(way: Failure) -> String {
    let failure = match way {
        // A constant that becomes 0 passes for a divisor that is not 0 (LANGUAGE §25, 12).
        Failure::DivisionByZero => "push &fuse ; fails\npush fuse ; fails\npush 0.5 ; fails\ncastToInt ; fails\ndiv ; fails\nstore ; fails",
        Failure::Overflow => "push &fuse ; fails\npush -2147483648 ; fails\npush -1 ; fails\ndiv ; fails\nstore ; fails",
        Failure::RunawayLoop => {
            "loop 2000000000 ; fails\nloop 2000000000 ; fails\npush &fuse ; fails\npush fuse ; fails\npush 1 ; fails
sub ; fails\nstore ; fails\nloopEnd ; fails\nloopEnd ; fails"
        }
    };
    format!("push &fuse\npush fuse\npush 1\nsub\nstore\npush fuse\npush 0\nlessThan\nif\n{failure}\nifEnd")
}

fn mix(program: &Program) -> String {
    let voices = program.voices().map(|voice| format!("push &{}:out\nloadFloat\nadd\n", voice.id)).collect::<String>();
    format!(
        "push &left\npush position\npush 4\nmul\nadd\npush 0.0\n{voices}push 0.25\nmul\nstore
push &position\npush position\npush 1\nadd\npush 127\nand\nstore"
    )
}
