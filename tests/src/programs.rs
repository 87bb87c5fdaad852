//! Programs for tests, whose every sample is known.

/// The step of [`ramp`]: exact in 32-bit floats, as is every multiple of it below 1.
pub const RAMP_STEP: f32 = 1.0 / 1_048_576.0;

/// Sample n (from 1) on the left is n · [`RAMP_STEP`] (starting over after 2^20 samples), on the right its negative: a lost,
/// repeated or altered sample shows.
pub fn ramp() -> String {
    audio_program(
        "int n
int position
push &n
push n
push 1
add
push 0xFFFFF
and
store
push &left
push position
push 4
mul
add
push n
castToFloat
push 0.00000095367431640625
mul
store
push &right
push position
push 4
mul
add
push n
castToFloat
push -0.00000095367431640625
mul
store
push &position
push position
push 1
add
push 127
and
store",
    )
}

/// The same ramp on this side only: `left` or `right`.
pub fn ramp_on(side: &str) -> String {
    audio_program(&format!(
        "int n\nint position\npush &n\npush n\npush 1\nadd\npush 0xFFFFF\nand\nstore
push &{side}\npush position\npush 4\nmul\nadd\npush n\ncastToFloat\npush 0.00000095367431640625\nmul\nstore
push &position\npush position\npush 1\nadd\npush 127\nand\nstore"
    ))
}

/// An audio program that is silent: its buffers are never written.
pub fn silence() -> String {
    audio_program("int unused")
}

/// A program that gives this constant on the left, from its item `level`. These lines are more of its module.
pub fn constant(level: f32, more: &str) -> String {
    left_output(&format!("float level {level:?}"), "push level", more)
}

/// A program with these items that gives on the left, frame by frame, what these lines push. Some more lines follow them.
pub fn left_output(items: &str, value: &str, more: &str) -> String {
    audio_program(&format!(
        "{items}
int position
push &left
push position
push 4
mul
add
{value}
store
push &position
push position
push 1
add
push 127
and
store
{more}"
    ))
}

/// A synthesiser of one voice that is played through port 0: its output is the number of the note that sounds, in 128ths. What
/// it holds is `level`; how many messages it has had is `count`.
pub fn synth() -> String {
    let items = "; @config midi.inputs.keys.port 0
; @config midi.inputs.keys.callback played
float level 0.0
int count";
    let callback = "
function played
#impure
#export
param int status
param int number
param int velocity
push &m:count
push &m:count
load
push 1
add
store
push status
push 240
and
push 144
equal
push status
push 240
and
push 128
equal
or
if
 push &m:level
 push number
 castToFloat
 push 0.0078125
 mul
 push velocity
 push 0
 greaterThan
 castToFloat
 mul
 store
ifEnd
functionEnd
";
    left_output(items, "push level", "") + callback
}

/// An audio program whose main module `m` has buffers `left` and `right` and these lines as the rest of its body.
pub fn audio_program(body: &str) -> String {
    format!(
        "8f4e/v1

entry main
module m
; @config runtime AudioWorkletRuntime
; @config audioRuntime.audioOutBufferLAddress m:left
; @config audioRuntime.audioOutBufferRAddress m:right
float[] left 128
float[] right 128
{body}
moduleEnd
entryEnd

function buffer
#export
loop 128
call main
loopEnd
functionEnd
"
    )
}

/// 1-based line in [`audio_program`] of the body's first line.
pub const BODY_LINE: u64 = 10;
