//! The standard library against a second implementation of LANGUAGE §19.1, bit for bit.
//!
//! For each overload a small program is compiled that hands its parameters to the library function and its results back.
//! The test calls it in process, over edge cases and random inputs, and compares results and memory with what the same
//! formula gives in Rust: f32 arithmetic rounded after each operation, i32 arithmetic that wraps. Only NaN is compared as
//! NaN, because the bits of a NaN depend on the machine.
//!
//! A failing random test prints its seed; `CONTINUO_TEST_SEED` gives it back.

mod running;

use std::collections::BTreeSet;
// The decimals of LANGUAGE §19.1 are these numbers once they are rounded to f32.
use std::f32::consts::{FRAC_1_PI, FRAC_PI_2, PI};
use std::path::{Path, PathBuf};

use running::Running;
use wasmtime::{Func, Memory, Store, Val};

/// Address of the scratch memory of every probe: the first module begins at word 1 (LANGUAGE §7).
const AREA: i32 = 4;
/// Items of the scratch memory.
const AREA_WORDS: usize = 2048;
/// Random inputs per function, besides the edge cases.
const RANDOM_INPUTS: usize = 2000;

// -------------------------------------------------------------------------------------------------- probes

/// A compiled program around one overload of one library function.
struct Probe {
    store: Store<()>,
    memory: Memory,
    function: Func,
    is_float: Vec<bool>,
    result_count: usize,
}

impl Probe {
    /// `params` and `results` are types of the language, separated by blanks.
    fn new(include: &str, name: &str, params: &str, results: &str) -> Self {
        let types: Vec<&str> = params.split_whitespace().collect();
        let declared: String = types.iter().enumerate().map(|(n, ty)| format!("param {ty} p{n}\n")).collect();
        let passed: String = (0..types.len()).map(|n| format!(" p{n}")).collect();
        let source = format!(
            "8f4e/v1\nincludes\ninclude {include}\nincludesEnd\nfunction probe\n#impure\n#export\n{declared}call {name}{passed}\n\
             functionEnd {results}\nentry main\nmodule scratch\nint[] area {AREA_WORDS}\nmoduleEnd\nentryEnd\n"
        );
        let Running { mut store, memory, instance, manifest } = Running::new(&source);
        assert_eq!(manifest.item("scratch", "area").expect("it is declared").1.byte_address, AREA as u32);
        let function = instance.get_func(&mut store, "probe").expect("the probe is exported");
        let is_float = types.iter().map(|ty| *ty == "float").collect();
        Self { store, memory, function, is_float, result_count: results.split_whitespace().count() }
    }

    /// Calls the function with the bits of its arguments and returns the bits of its results.
    fn call(&mut self, arguments: &[u32]) -> Vec<u32> {
        assert_eq!(arguments.len(), self.is_float.len());
        let arguments: Vec<Val> = arguments
            .iter()
            .zip(&self.is_float)
            .map(|(bits, is_float)| if *is_float { Val::F32(*bits) } else { Val::I32(*bits as i32) })
            .collect();
        let mut results = vec![Val::I32(0); self.result_count];
        self.function.call(&mut self.store, &arguments, &mut results).expect("library functions do not trap");
        results
            .into_iter()
            .map(|value| match value {
                Val::I32(value) => value as u32,
                Val::F32(bits) => bits,
                other => panic!("unexpected result {other:?}"),
            })
            .collect()
    }

    /// The only result.
    fn one(&mut self, arguments: &[u32]) -> u32 {
        let results = self.call(arguments);
        assert_eq!(results.len(), 1);
        results[0]
    }

    fn poke(&mut self, address: i32, bits: u32) {
        self.memory.write(&mut self.store, address as usize, &bits.to_le_bytes()).expect("within the memory");
    }

    fn poke_bytes(&mut self, address: i32, bytes: &[u8]) {
        self.memory.write(&mut self.store, address as usize, bytes).expect("within the memory");
    }

    fn peek(&mut self, address: i32) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(&self.store, address as usize, &mut bytes).expect("within the memory");
        u32::from_le_bytes(bytes)
    }
}

// -------------------------------------------------------------------------------------------------- inputs

fn int(value: i32) -> u32 {
    value as u32
}

fn float(value: f32) -> u32 {
    value.to_bits()
}

/// Random words by Marsaglia's xorshift in 64 bits, which no library function uses.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("CONTINUO_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x9E37_79B9_7F4A_7C15);
        println!("CONTINUO_TEST_SEED={seed}");
        Self(if seed == 0 { 1 } else { seed })
    }

    fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Any word, or a small one, or an edge case.
    fn int(&mut self) -> i32 {
        match self.word() % 3 {
            0 => self.word() as i32,
            1 => (self.word() % 2001) as i32 - 1000,
            _ => INTS[self.word() as usize % INTS.len()],
        }
    }

    /// Any bits, or a value from -4 to 4, or an edge case.
    fn float(&mut self) -> f32 {
        match self.word() % 3 {
            0 => f32::from_bits(self.word()),
            1 => (self.word() as f32 / 4_294_967_296.0 - 0.5) * 8.0,
            _ => FLOATS[self.word() as usize % FLOATS.len()],
        }
    }

    fn below(&mut self, limit: u32) -> i32 {
        (self.word() % limit) as i32
    }
}

const INTS: &[i32] = &[0, 1, -1, 2, -2, 3, 7, 8, 12, 31, 32, 33, 100, 127, -128, 255, 256, 32767, 65535, 65536, i32::MAX, i32::MIN];

const FLOATS: &[f32] = &[
    0.0,
    -0.0,
    0.25,
    -0.25,
    0.5,
    1.0,
    -1.0,
    1.25,
    -1.75,
    FRAC_PI_2,
    -FRAC_PI_2,
    1.570_796_5,
    -1.570_796_5,
    2.5,
    -2.5,
    PI,
    -PI,
    4.0,
    1e-40,
    -1e-40,
    1e10,
    -1e10,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// Whether two words are the same float, all NaNs being the same.
fn same_float(left: u32, right: u32) -> bool {
    left == right || (f32::from_bits(left).is_nan() && f32::from_bits(right).is_nan())
}

#[track_caller]
fn assert_float(got: u32, want: f32, inputs: &[f32]) {
    let (shown, bits) = (f32::from_bits(got), want.to_bits());
    assert!(same_float(got, bits), "{inputs:?}: got {shown} ({got:#010x}), want {want} ({bits:#010x})");
}

fn ints(random: &mut Random) -> Vec<i32> {
    INTS.iter().copied().chain((0..RANDOM_INPUTS).map(|_| random.int())).collect()
}

fn floats(random: &mut Random) -> Vec<f32> {
    FLOATS.iter().copied().chain((0..RANDOM_INPUTS).map(|_| random.float())).collect()
}

// -------------------------------------------------------------------------------- words of LANGUAGE §14 and §19.1

/// Minimum as wasm has it: NaN wins, and -0 is below 0.
fn min(left: f32, right: f32) -> f32 {
    if left.is_nan() || right.is_nan() {
        f32::NAN
    } else if left == right {
        f32::from_bits(left.to_bits() | right.to_bits())
    } else if left < right {
        left
    } else {
        right
    }
}

fn max(left: f32, right: f32) -> f32 {
    -min(-left, -right)
}

fn safe(value: i32) -> i32 {
    if value == 0 { 1 } else { value }
}

fn wrap_offset(distance: i32, length: i32) -> i32 {
    distance.wrapping_rem(safe(length)).wrapping_add(length).wrapping_rem(safe(length))
}

// -------------------------------------------------------------------------------------------------- bitwise

#[test]
fn extract_bit_and_extract_byte_shift_and_mask() {
    let mut random = Random::new();
    let mut bit = Probe::new("std/bitwise/extractBit", "extractBit", "int int", "int");
    let mut byte = Probe::new("std/bitwise/extractByte", "extractByte", "int int", "int");
    for word in ints(&mut random) {
        let index = random.int();
        let want_bit = ((word as u32) >> (index & 31)) & 1;
        let want_byte = ((word as u32) >> (index.wrapping_shl(3) & 31)) & 0xFF;
        assert_eq!(bit.one(&[int(word), int(index)]), want_bit, "bit {index} of {word}");
        assert_eq!(byte.one(&[int(word), int(index)]), want_byte, "byte {index} of {word}");
    }
}

// --------------------------------------------------------------------------------------------------- events

/// Feeds a sequence through an event function and compares results and the remembered value.
fn check_int_event(include: &str, name: &str, fires: impl Fn(i32, i32) -> bool) {
    let mut random = Random::new();
    let mut probe = Probe::new(include, name, "int int*", "int");
    let mut previous = 0;
    for value in ints(&mut random) {
        assert_eq!(probe.one(&[int(value), int(AREA)]), u32::from(fires(value, previous)), "{name}({value}) after {previous}");
        assert_eq!(probe.peek(AREA), int(value));
        previous = value;
    }
}

fn check_float_event(include: &str, name: &str, slot: &str, fires: impl Fn(f32, f32) -> bool) {
    let mut random = Random::new();
    let mut probe = Probe::new(include, name, &format!("float {slot}"), "int");
    let mut previous = 0.0;
    for value in floats(&mut random) {
        assert_eq!(probe.one(&[float(value), int(AREA)]), u32::from(fires(value, previous)), "{name}({value}) after {previous}");
        assert_eq!(probe.peek(AREA), float(value));
        previous = value;
    }
}

#[test]
fn gate_to_trigger_and_rising_edge_fire_when_the_value_rises() {
    for (include, name) in [("std/events/gateToTrigger", "gateToTrigger"), ("std/events/risingEdge", "risingEdge")] {
        check_int_event(include, name, |value, previous| value > previous);
        check_float_event(include, name, "float*", |value, previous| value > previous);
        check_float_event(include, name, "int*", |value, previous| value > previous);
    }
}

#[test]
fn has_changed_fires_when_the_value_differs() {
    let (include, name) = ("std/events/hasChanged", "hasChanged");
    check_int_event(include, name, |value, previous| value != previous);
    check_float_event(include, name, "float*", |value, previous| value != previous);
    check_float_event(include, name, "int*", |value, previous| value != previous);
}

/// The gate after a trigger, and what remains of it.
fn held(fires: bool, duration: i32, remaining: i32) -> (u32, i32) {
    let remaining = if fires { duration } else { remaining };
    if remaining > 0 { (1, remaining - 1) } else { (0, remaining) }
}

#[test]
fn trigger_to_gate_holds_for_the_duration() {
    let mut random = Random::new();
    let mut on_int = Probe::new("std/events/triggerToGate", "triggerToGate", "int int int*", "int");
    let mut on_float = Probe::new("std/events/triggerToGate", "triggerToGate", "float int int*", "int");
    let (mut int_left, mut float_left) = (0, 0);
    for trigger in ints(&mut random) {
        let duration = if random.word().is_multiple_of(4) { random.int() } else { random.below(6) };
        let (gate, left) = held(trigger > 0, duration, int_left);
        assert_eq!(on_int.one(&[int(trigger), int(duration), int(AREA)]), gate, "trigger {trigger}, {int_left} left");
        assert_eq!(on_int.peek(AREA), int(left));
        int_left = left;

        let trigger = random.float();
        let (gate, left) = held(trigger > 0.0, duration, float_left);
        assert_eq!(on_float.one(&[float(trigger), int(duration), int(AREA)]), gate, "trigger {trigger}, {float_left} left");
        assert_eq!(on_float.peek(AREA), int(left));
        float_left = left;
    }
}

// ----------------------------------------------------------------------------------------------------- math

#[test]
fn clamp_of_ints_is_the_minimum_of_the_maximum() {
    let mut random = Random::new();
    let mut probe = Probe::new("std/math/clamp", "clamp", "int int int", "int");
    for value in ints(&mut random) {
        let (low, high) = (random.int(), random.int());
        assert_eq!(probe.one(&[int(value), int(low), int(high)]), int(value.max(low).min(high)), "{value} in {low}…{high}");
    }
}

#[test]
fn clamp_of_floats_is_the_minimum_of_the_maximum() {
    let mut random = Random::new();
    let mut probe = Probe::new("std/math/clamp", "clamp", "float float float", "float");
    for value in floats(&mut random) {
        let (low, high) = (random.float(), random.float());
        let got = probe.one(&[float(value), float(low), float(high)]);
        assert_float(got, min(max(value, low), high), &[value, low, high]);
    }
}

/// Compares a function from one float to a float.
fn check_curve(include: &str, name: &str, formula: impl Fn(f32) -> f32) {
    let mut random = Random::new();
    let mut probe = Probe::new(include, name, "float", "float");
    for value in floats(&mut random) {
        assert_float(probe.one(&[float(value)]), formula(value), &[value]);
    }
}

#[test]
fn fract_keeps_the_sign() {
    check_curve("std/math/fract", "fract", |value| value - (value as i32) as f32);
}

#[test]
fn lerp_weighs_both_ends() {
    let mut random = Random::new();
    let mut probe = Probe::new("std/math/lerp", "lerp", "float float float", "float");
    for start in floats(&mut random) {
        let (end, amount) = (random.float(), random.float());
        let got = probe.one(&[float(start), float(end), float(amount)]);
        assert_float(got, (start * (1.0 - amount)) + (end * amount), &[start, end, amount]);
    }
}

#[test]
fn normalize_divides_by_the_largest_value_and_stays_within_one() {
    let mut random = Random::new();
    for (ty, largest) in [("int8*", 127), ("int8u*", 255), ("int16*", 32767), ("int16u*", 65535), ("int*", i32::MAX)] {
        let mut probe = Probe::new("std/math/normalize", "normalize", ty, "float");
        for word in ints(&mut random) {
            probe.poke(AREA, int(word));
            let value = match ty {
                "int8*" => i32::from(word as i8),
                "int8u*" => i32::from(word as u8),
                "int16*" => i32::from(word as i16),
                "int16u*" => i32::from(word as u16),
                _ => word,
            };
            let lowest = if ty.contains('u') { 0.0 } else { -1.0 };
            let want = min(max(value as f32 / largest as f32, lowest), 1.0);
            assert_float(probe.one(&[int(AREA)]), want, &[value as f32]);
        }
    }
}

#[test]
fn pow2_shifts_a_one() {
    let mut probe = Probe::new("std/math/pow2", "pow2", "int", "int");
    for exponent in INTS.iter().copied().chain(0..40) {
        assert_eq!(probe.one(&[int(exponent)]), 1_u32.wrapping_shl(exponent as u32), "2^{exponent}");
    }
}

#[test]
fn smoothstep_starts_and_ends_level() {
    check_curve("std/math/smoothstep", "smoothstep", |amount| (amount * amount) * (3.0 - 2.0 * amount));
}

#[test]
fn advance_phase_restarts_at_minus_pi() {
    let mut random = Random::new();
    let mut probe = Probe::new("std/math/trig/advancePhase", "advancePhase", "float* float int", "float");
    for phase in floats(&mut random) {
        let (frequency, rate) = (random.float() * 100.0, [48_000, 44_100, 50, 0, -8][random.below(5) as usize]);
        probe.poke(AREA, float(phase));
        let got = probe.one(&[int(AREA), float(frequency), int(rate)]);
        let divisor = if rate == 0 { 1.0 } else { rate as f32 };
        let advanced = phase + ((PI - -PI) * frequency) / divisor;
        let want = if advanced > PI { -PI } else { advanced };
        assert_float(got, want, &[phase, frequency, rate as f32]);
        assert!(same_float(probe.peek(AREA), got), "the result is what was stored");
    }
}

#[test]
fn sine_folds_and_follows_its_polynomial() {
    const T1: f32 = -0.1666666666_f64 as f32;
    const T2: f32 = 0.0083333333_f64 as f32;
    const T3: f32 = -0.000198412_f64 as f32;
    check_curve("std/math/trig/sine", "sine", |x| {
        let x = if x > FRAC_PI_2 { PI - x } else { x };
        let x = if x < -FRAC_PI_2 { -PI - x } else { x };
        let x2 = x * x;
        ((((x2 * T3 + T2) * x2) + T1) * x2 + 1.0) * x
    });
}

#[test]
fn cosine_folds_and_changes_its_sign() {
    const T1: f32 = -0.5;
    const T2: f32 = 0.0416666666_f64 as f32;
    const T3: f32 = -0.0013888888_f64 as f32;
    check_curve("std/math/trig/cosine", "cosine", |x| {
        let (x, sign) = if x > FRAC_PI_2 { (PI - x, -1.0) } else { (x, 1.0) };
        let (x, sign) = if x < -FRAC_PI_2 { (-PI - x, -1.0) } else { (x, sign) };
        let x2 = x * x;
        ((((x2 * T3 + T2) * x2) + T1) * x2 + 1.0) * sign
    });
}

#[test]
fn sine_and_cosine_stay_close_to_the_true_ones() {
    let mut sine = Probe::new("std/math/trig/sine", "sine", "float", "float");
    let mut cosine = Probe::new("std/math/trig/cosine", "cosine", "float", "float");
    for step in -1000..=1000 {
        let x = PI * step as f32 / 1000.0;
        let (s, c) = (f32::from_bits(sine.one(&[float(x)])), f32::from_bits(cosine.one(&[float(x)])));
        assert!((s - x.sin()).abs() < 2e-4, "sine({x}) = {s}");
        assert!((c - x.cos()).abs() < 1e-3, "cosine({x}) = {c}");
    }
}

#[test]
fn saw_and_triangle_scale_the_phase() {
    check_curve("std/math/trig/saw", "saw", |x| x * FRAC_1_PI);
    check_curve("std/math/trig/triangle", "triangle", |x| 1.0 - ((x.abs() * FRAC_1_PI) * 2.0));
}

// --------------------------------------------------------------------------------------------------- memory

#[test]
fn advance_pointer_and_decrement_pointer_stay_in_the_ring() {
    let mut random = Random::new();
    let buffer = AREA + 64;
    for (name, step) in [("advancePointer", 4), ("decrementPointer", -4)] {
        for types in ["int** int* int", "float** float* int"] {
            let mut probe = Probe::new(&format!("std/memory/{name}"), name, types, "");
            for count in [1, 2, 5, 16, 0, -3] {
                probe.poke(AREA, int(buffer));
                let mut pointer = buffer;
                for _ in 0..40 {
                    let length = count * 4;
                    let want = buffer.wrapping_add(wrap_offset(pointer.wrapping_add(step).wrapping_sub(buffer), length));
                    probe.call(&[int(AREA), int(buffer), int(count)]);
                    assert_eq!(probe.peek(AREA), int(want), "{name} from {pointer}, {count} items");
                    pointer = want;
                }
                let stray = random.int();
                probe.poke(AREA, int(stray));
                probe.call(&[int(AREA), int(buffer), int(count)]);
                let want = buffer.wrapping_add(wrap_offset(stray.wrapping_add(step).wrapping_sub(buffer), count * 4));
                assert_eq!(probe.peek(AREA), int(want), "{name} from {stray}, {count} items");
            }
        }
    }
}

#[test]
fn wrap_pointer_brings_any_address_into_the_buffer() {
    let mut random = Random::new();
    for (buffer_type, result) in [("int*", "int*"), ("float*", "float*")] {
        let mut probe = Probe::new("std/memory/wrapPointer", "wrapPointer", &format!("int {buffer_type} int"), result);
        for pointer in ints(&mut random) {
            let (buffer, count) = (AREA + 4 * random.below(100), random.int());
            let length = count.wrapping_mul(4);
            let want = buffer.wrapping_add(wrap_offset(pointer.wrapping_sub(buffer), length));
            assert_eq!(probe.one(&[int(pointer), int(buffer), int(count)]), int(want), "{pointer} into {count} items at {buffer}");
        }
    }
}

#[test]
fn copy_moves_one_element_bit_for_bit() {
    let mut random = Random::new();
    for types in ["int* int*", "float* float*"] {
        let mut probe = Probe::new("std/memory/copy", "copy", types, "");
        for _ in 0..RANDOM_INPUTS {
            let word = random.word();
            probe.poke(AREA, word);
            probe.poke(AREA + 4, !word);
            probe.poke(AREA + 8, word ^ 0x5555_5555);
            probe.call(&[int(AREA), int(AREA + 4)]);
            assert_eq!([probe.peek(AREA), probe.peek(AREA + 4), probe.peek(AREA + 8)], [word, word, word ^ 0x5555_5555]);
        }
    }
}

#[test]
fn load_at_and_store_at_count_elements() {
    let mut random = Random::new();
    let mut load = Probe::new("std/memory/loadAt", "loadAt", "int* int", "int");
    let mut store = Probe::new("std/memory/storeAt", "storeAt", "int* int int", "");
    for index in 0..50 {
        let (buffer, word) = (AREA + 4 * random.below(100), random.word());
        load.poke(buffer + 4 * index, word);
        assert_eq!(load.one(&[int(buffer), int(index)]), word);
        store.call(&[int(buffer), int(index), word]);
        assert_eq!(store.peek(buffer + 4 * index), word);
    }
}

#[test]
fn load_at_and_store_at_outside_the_memory_do_nothing() {
    let mut load = Probe::new("std/memory/loadAt", "loadAt", "int* int", "int");
    let mut store = Probe::new("std/memory/storeAt", "storeAt", "int* int int", "");
    for index in [-2, 1 << 20, i32::MAX, i32::MIN / 2 - 7] {
        assert_eq!(load.one(&[int(AREA), int(index)]), 0, "element {index}");
        store.call(&[int(AREA), int(index), 77]);
    }
    let untouched: Vec<u32> = (0..AREA_WORDS as i32).map(|word| store.peek(AREA + 4 * word)).collect();
    assert_eq!(untouched, vec![0; AREA_WORDS]);
}

/// The formula of `nearestValue` over any element type. The scan sees at most a thousand items.
fn nearest<T: Copy + Default>(items: &[T], count: i32, distance: impl Fn(T) -> T, is_less: impl Fn(T, T) -> bool) -> T {
    if count <= 0 {
        return T::default();
    }
    let mut best = items[0];
    for item in &items[..(count as usize).min(1000)] {
        if is_less(distance(*item), distance(best)) {
            best = *item;
        }
    }
    best
}

#[test]
fn nearest_value_of_ints_is_the_first_with_the_smallest_distance() {
    let mut random = Random::new();
    let mut probe = Probe::new("std/memory/nearestValue", "nearestValue", "int int* int", "int");
    for round in 0..RANDOM_INPUTS {
        let count = [0, -1, 1, 2, 3, 8, 20][round % 7];
        let items: Vec<i32> = (0..20).map(|_| if round % 2 == 0 { random.below(40) } else { random.int() }).collect();
        let value = if round % 2 == 0 { random.below(40) } else { random.int() };
        for (index, item) in items.iter().enumerate() {
            probe.poke(AREA + 4 * index as i32, int(*item));
        }
        let want = nearest(&items, count, |item| item.wrapping_sub(value).wrapping_abs(), |left, right| left < right);
        assert_eq!(probe.one(&[int(value), int(AREA), int(count)]), int(want), "{value} among {count} of {items:?}");
    }
}

#[test]
fn nearest_value_of_floats_is_the_first_with_the_smallest_distance() {
    let mut random = Random::new();
    let mut probe = Probe::new("std/memory/nearestValue", "nearestValue", "float float* int", "float");
    for round in 0..RANDOM_INPUTS {
        let count = [0, -1, 1, 2, 3, 8, 20][round % 7];
        let items: Vec<f32> = (0..20).map(|_| if round % 2 == 0 { random.below(40) as f32 } else { random.float() }).collect();
        let value = random.float();
        for (index, item) in items.iter().enumerate() {
            probe.poke(AREA + 4 * index as i32, float(*item));
        }
        let want = nearest(&items, count, |item| (item - value).abs(), |left, right| left < right);
        assert_float(probe.one(&[float(value), int(AREA), int(count)]), want, &items);
    }
}

#[test]
fn nearest_value_scans_a_thousand_items() {
    let mut probe = Probe::new("std/memory/nearestValue", "nearestValue", "int int* int", "int");
    for index in 0..1100 {
        probe.poke(AREA + 4 * index, int(index));
    }
    assert_eq!(probe.one(&[int(999), int(AREA), int(1100)]), int(999));
    assert_eq!(probe.one(&[int(1050), int(AREA), int(1100)]), int(999), "the loop's default cap ends the scan");
}

#[test]
fn read_interpolated_blends_two_neighbours_of_a_ring() {
    let mut random = Random::new();
    for (ty, bytes) in [("int*", 4), ("int16*", 2), ("float*", 4)] {
        let mut probe = Probe::new("std/memory/readInterpolated", "readInterpolated", &format!("int {ty} int float"), "float");
        let words: Vec<u32> = (0..64).map(|_| if ty == "float*" { float(random.float()) } else { random.word() }).collect();
        let memory: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        probe.poke_bytes(AREA, &memory);
        let element = |address: i32| {
            let at = (address - AREA) as usize;
            match ty {
                "int16*" => f32::from(i16::from_le_bytes([memory[at], memory[at + 1]])),
                "float*" => f32::from_le_bytes(memory[at..at + 4].try_into().unwrap()),
                _ => i32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) as f32,
            }
        };
        for round in 0..RANDOM_INPUTS {
            let (buffer, count) = (AREA + 4 * random.below(8), [1, 2, 7, 40][round % 4]);
            let near = buffer + bytes * (random.below(200) - 100);
            let fraction = if round % 5 == 0 { random.float() } else { random.below(1000) as f32 / 1000.0 };
            let length = count * bytes;
            let here = element(buffer + wrap_offset(near - buffer, length));
            let next = element(buffer + wrap_offset(near + bytes - buffer, length));
            let got = probe.one(&[int(near), int(buffer), int(count), float(fraction)]);
            assert_float(got, here + (next - here) * fraction, &[here, next, fraction]);
        }
    }
}

// --------------------------------------------------------------------------------------------------- random

#[test]
fn lcg_follows_its_recurrence_from_any_seed() {
    let mut probe = Probe::new("std/random/lcg", "lcg", "int*", "int");
    for seed in INTS {
        probe.poke(AREA, int(*seed));
        let mut state = *seed;
        for _ in 0..100 {
            state = (wrap_offset(state, 65_536).wrapping_mul(26_125).wrapping_add(62_303)) % 65_536;
            assert_eq!(probe.one(&[int(AREA)]), int(state), "from {seed}");
            assert_eq!(probe.peek(AREA), int(state));
        }
    }
}

#[test]
fn xorshift_follows_its_recurrence_from_any_seed() {
    let mut probe = Probe::new("std/random/xorshift", "xorshift", "int*", "int");
    for seed in INTS {
        probe.poke(AREA, int(*seed));
        let mut state = *seed as u32;
        for _ in 0..100 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            assert_eq!(probe.one(&[int(AREA)]), state, "from {seed}");
            assert_eq!(probe.peek(AREA), state);
        }
    }
}

// ---------------------------------------------------------------------------------------------------- stack

#[test]
fn dup_and_swap_reorder_values_of_any_kind() {
    let (one, other) = (int(-7), float(-0.0));
    for ty in ["int", "float"] {
        let mut probe = Probe::new("std/stack/dup", "dup", ty, &format!("{ty} {ty}"));
        assert_eq!(probe.call(&[one]), [one, one]);
        assert_eq!(probe.call(&[other]), [other, other]);
    }
    for first in ["int", "float"] {
        for second in ["int", "float"] {
            let mut probe = Probe::new("std/stack/swap", "swap", &format!("{first} {second}"), &format!("{second} {first}"));
            assert_eq!(probe.call(&[one, other]), [other, one]);
        }
    }
}

// ------------------------------------------------------------------------------------------------ signatures

/// The functions of LANGUAGE §19, one a line as they stand there, and three more: of the float overloads of the event functions §19.1 says
/// that their slot may be declared `int*` too.
const SIGNATURES: &str = "
std/bitwise/extractBit: extractBit(int word, int bitIndex) -> int
std/bitwise/extractByte: extractByte(int word, int byteIndex) -> int
std/events/gateToTrigger: gateToTrigger(int gate, int* previousGate) -> int #impure
std/events/gateToTrigger: gateToTrigger(float gate, float* previousGate) -> int #impure
std/events/gateToTrigger: gateToTrigger(float gate, int* previousGate) -> int #impure
std/events/hasChanged: hasChanged(int currentValue, int* previousValue) -> int #impure
std/events/hasChanged: hasChanged(float currentValue, float* previousValue) -> int #impure
std/events/hasChanged: hasChanged(float currentValue, int* previousValue) -> int #impure
std/events/risingEdge: risingEdge(int currentValue, int* previousValue) -> int #impure
std/events/risingEdge: risingEdge(float currentValue, float* previousValue) -> int #impure
std/events/risingEdge: risingEdge(float currentValue, int* previousValue) -> int #impure
std/events/triggerToGate: triggerToGate(int trigger, int duration, int* remainingSamples) -> int #impure
std/events/triggerToGate: triggerToGate(float trigger, int duration, int* remainingSamples) -> int #impure
std/math/clamp: clamp(int value, int minValue, int maxValue) -> int
std/math/clamp: clamp(float value, float minValue, float maxValue) -> float
std/math/fract: fract(float value) -> float
std/math/lerp: lerp(float start, float end, float amount) -> float
std/math/normalize: normalize(int8* pointer) -> float #impure
std/math/normalize: normalize(int8u* pointer) -> float #impure
std/math/normalize: normalize(int16* pointer) -> float #impure
std/math/normalize: normalize(int16u* pointer) -> float #impure
std/math/normalize: normalize(int* pointer) -> float #impure
std/math/pow2: pow2(int exponent) -> int
std/math/smoothstep: smoothstep(float amount) -> float
std/math/trig/advancePhase: advancePhase(float* phase, float frequency, int sampleRate) -> float #impure
std/math/trig/cosine: cosine(float x) -> float
std/math/trig/saw: saw(float x) -> float
std/math/trig/sine: sine(float x) -> float
std/math/trig/triangle: triangle(float x) -> float
std/memory/advancePointer: advancePointer(int** pointer, int* buffer, int itemCount) #impure
std/memory/advancePointer: advancePointer(float** pointer, float* buffer, int itemCount) #impure
std/memory/copy: copy(int* source, int* dest) #impure
std/memory/copy: copy(float* source, float* dest) #impure
std/memory/decrementPointer: decrementPointer(int** pointer, int* buffer, int itemCount) #impure
std/memory/decrementPointer: decrementPointer(float** pointer, float* buffer, int itemCount) #impure
std/memory/loadAt: loadAt(int* buffer, int index) -> int #impure
std/memory/nearestValue: nearestValue(int value, int* buffer, int itemCount) -> int #impure
std/memory/nearestValue: nearestValue(float value, float* buffer, int itemCount) -> float #impure
std/memory/readInterpolated: readInterpolated(int pointer, int* buffer, int itemCount, float fraction) -> float #impure
std/memory/readInterpolated: readInterpolated(int pointer, int16* buffer, int itemCount, float fraction) -> float #impure
std/memory/readInterpolated: readInterpolated(int pointer, float* buffer, int itemCount, float fraction) -> float #impure
std/memory/readInterpolated: (private) wrapReadAddress(int pointer, int* buffer, int byteLength) -> int*
std/memory/readInterpolated: (private) wrapReadAddress(int pointer, int16* buffer, int byteLength) -> int16*
std/memory/readInterpolated: (private) wrapReadAddress(int pointer, float* buffer, int byteLength) -> float*
std/memory/storeAt: storeAt(int* buffer, int index, int value) #impure
std/memory/wrapPointer: wrapPointer(int pointer, int* buffer, int itemCount) -> int*
std/memory/wrapPointer: wrapPointer(int pointer, float* buffer, int itemCount) -> float*
std/random/lcg: lcg(int* seed) -> int #impure
std/random/xorshift: xorshift(int* seed) -> int #impure
std/stack/dup: dup(int value) -> int int
std/stack/dup: dup(float value) -> float float
std/stack/swap: swap(int first, int second) -> int int
std/stack/swap: swap(int first, float second) -> float int
std/stack/swap: swap(float first, int second) -> int float
std/stack/swap: swap(float first, float second) -> float float
";

/// The functions a library file declares, written like [`SIGNATURES`].
fn declared_in(include: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut name, mut params, mut is_public, mut is_impure) = ("", Vec::new(), false, false);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["function", written] => (name, params, is_public, is_impure) = (written, Vec::new(), false, false),
            ["#export"] => is_public = true,
            ["#impure"] => is_impure = true,
            ["param", ty, param] => params.push(format!("{ty} {param}")),
            ["functionEnd", results @ ..] => {
                let private = if is_public { "" } else { "(private) " };
                let arrow = if results.is_empty() { String::new() } else { format!(" -> {}", results.join(" ")) };
                let impure = if is_impure { " #impure" } else { "" };
                found.push(format!("{include}: {private}{name}({}){arrow}{impure}", params.join(", ")));
            }
            _ => {}
        }
    }
    found
}

fn library_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the library is a folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() { library_files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn the_library_declares_exactly_the_functions_of_the_language() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/languages/lang_8f4e/stdlib");
    let mut files = Vec::new();
    library_files(&root, &mut files);
    assert_eq!(files.len(), 29, "one file for each include");
    let declared: BTreeSet<String> = files
        .iter()
        .flat_map(|file| {
            let include = file.strip_prefix(&root).expect("within the library").with_extension("");
            declared_in(include.to_str().expect("plain names"), &std::fs::read_to_string(file).expect("a text"))
        })
        .collect();
    let specified: BTreeSet<String> = SIGNATURES.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(declared, specified);
}
