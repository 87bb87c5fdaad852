//! Programs of a given size, the same every time: oscillators, comb filters and sequencers that feed each other.

use std::fmt::Write;

/// Lines around the modules.
const HEAD: &str = "8f4e/v1
includes
include std/math/trig/advancePhase
include std/math/trig/sine
includesEnd
constants env
; @config audioRuntime.audioOutBufferLAddress master:left
const SAMPLE_RATE 48000
const AUDIO_BUFFER_SIZE 128
constantsEnd
entry main
";
const FOOT: &str = "entryEnd
function buffer
#export
use env
loop AUDIO_BUFFER_SIZE
call main
loopEnd
functionEnd
";

/// A program of exactly so many lines and modules. What the modules leave over is filled with comments.
pub fn program(lines: usize, modules: usize) -> String {
    let mut text = HEAD.to_owned();
    let room = lines - HEAD.lines().count() - FOOT.lines().count() - master(modules).lines().count();
    let mut used = 0;
    for index in 0..modules - 1 {
        // The longest kind that keeps pace with the lines that are to be filled.
        let target = room * (index + 1) / (modules - 1);
        let candidates = [sequencer(index), comb(index), oscillator(index)];
        let fits = |module: &&String| used + module.lines().count() <= target;
        let module = if index == 0 { &candidates[2] } else { candidates.iter().find(fits).unwrap_or(&candidates[2]) };
        used += module.lines().count();
        text.push_str(module);
    }
    text.push_str(&master(modules));
    (used..room).for_each(|line| writeln!(text, "; line {line}").expect("a string takes everything"));
    text.push_str(FOOT);
    text
}

/// A constant between 0 and 1 of this module's own.
fn unit(index: usize, salt: usize) -> f64 {
    let mixed = (index as u64 * 2_654_435_761 + salt as u64 * 40_503).wrapping_mul(6_364_136_223_846_793_005) >> 40;
    (mixed % 9_000) as f64 / 10_000.0 + 0.05
}

fn oscillator(index: usize) -> String {
    let (frequency, gain) = (40.0 + 900.0 * unit(index, 1), unit(index, 2));
    let depth = 0.01 * unit(index, 3);
    let before = index.saturating_sub(1);
    format!(
        "module m{index}
use env
float frequency {frequency:.3}
float gain {gain:.4}
float depth {depth:.5}
float* in &m{before}:out
float phase
float out
push &out
call advancePhase &phase frequency SAMPLE_RATE
push *in
push depth
mul
add
call sine
push gain
mul
store
moduleEnd
"
    )
}

fn comb(index: usize) -> String {
    let (length, feedback, damping) = (200 + index * 7 % 900, 0.9 * unit(index, 4), unit(index, 5));
    let before = index.saturating_sub(1);
    format!(
        "module m{index}
float* in &m{before}:out
float out
float memory
float[] line {length}
float* pointer &line
float feedback {feedback:.4}
float damping {damping:.4}
push &out
push *pointer
store
push &memory
push memory
push out
push memory
sub
push damping
mul
add
store
push pointer
push *in
push memory
push feedback
mul
add
store
push &pointer
push pointer
push sizeof(pointer)
add
store
push pointer
push line&
greaterThan
if
push &pointer
push &line
store
ifEnd
moduleEnd
"
    )
}

fn sequencer(index: usize) -> String {
    let (period, first, second) = (1_000 + index * 137 % 9_000, unit(index, 6), unit(index, 7));
    let before = index.saturating_sub(1);
    format!(
        "module m{index}
float* in &m{before}:out
float out
int frame
int step
float level
float[] steps 8 {first:.4} {second:.4} 0.5 0.25
push &frame
push frame
push 1
add
store
push frame
push {period}
greaterThan
if
push &frame
push 0
store
push &step
push step
push 1
add
push 7
and
store
push &level
push &steps
push step
push sizeof(steps)
mul
add
loadFloat
store
ifEnd
push &level
push level
push 0.9995
mul
store
push &out
push *in
push level
mul
store
moduleEnd
"
    )
}

/// Hears the last modules.
fn master(modules: usize) -> String {
    let (last, other) = (modules - 2, modules.saturating_sub(3));
    format!(
        "module master
use env
float* a &m{last}:out
float* b &m{other}:out
float[] left AUDIO_BUFFER_SIZE
int frame
push &left
push frame
push sizeof(left)
mul
add
push *a
push *b
add
push 0.25
mul
store
push &frame
push frame
push 1
add
push 127
and
store
moduleEnd
"
    )
}
