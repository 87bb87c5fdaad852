//! JavaScript's `**` on doubles, bit for bit as V8 computes it.
//!
//! Constants of a program may be powers (`10^-5`), and memory must start with exactly the bytes that the reference gives it.
//! The standard `pow` of this machine is more accurate, and so it differs in the last bit about one time in ten. V8 uses the
//! method of fdlibm's `e_pow.c` with one term of the last quotient bracketed differently, which is kept here:
//! x = 2ⁿ·a; log2(x) as a sum of two doubles; y·log2(x) likewise; 2 to that.
//!
//! The method and its constants stem from fdlibm: Copyright (C) 2004 by Sun Microsystems, Inc. All rights reserved.
//! Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved.

/// (3/2)·(log(x) − 2s − 2/3·s³) as a polynomial in s².
const L: [f64; 6] =
    [0.5999999999999946, 0.4285714285785502, 0.33333332981837743, 0.272728123808534, 0.23066074577556175, 0.20697501780033842];
/// exp(x) by x·(exp(x)+1)/(exp(x)−1), as a polynomial in x².
const P: [f64; 5] = [0.16666666666666602, -0.0027777777777015593, 6.613756321437934e-5, -1.6533902205465252e-6, 4.1381367970572385e-8];
/// log2(1) and log2(1.5), high and low part.
const LOG2_OF_BASE_HIGH: [f64; 2] = [0.0, f64::from_bits(0x3fe2_b803_4000_0000)];
const LOG2_OF_BASE_LOW: [f64; 2] = [0.0, f64::from_bits(0x3e4c_fdeb_43cf_d006)];
/// 2/(3·ln 2) and its high and low part.
const CP: f64 = f64::from_bits(0x3fee_c709_dc3a_03fd);
const CP_HIGH: f64 = f64::from_bits(0x3fee_c709_e000_0000);
const CP_LOW: f64 = f64::from_bits(0xbe3e_2fe0_145b_01f5);
/// ln 2 and its high and low part.
const LN2: f64 = f64::from_bits(0x3fe6_2e42_fefa_39ef);
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e43_0000_0000);
const LN2_LOW: f64 = f64::from_bits(0xbe20_5c61_0ca8_6c39);
/// 1/ln 2 and its high and low part.
const INVERSE_LN2: f64 = f64::from_bits(0x3ff7_1547_652b_82fe);
const INVERSE_LN2_HIGH: f64 = f64::from_bits(0x3ff7_1547_6000_0000);
const INVERSE_LN2_LOW: f64 = f64::from_bits(0x3e54_ae0b_f85d_df44);
/// −(1024 − log2(largest double + half a unit)).
const OVERFLOW_SLACK: f64 = 8.008_566_259_537_294e-17;

/// `base ** exponent`.
pub fn power(base: f64, exponent: f64) -> f64 {
    if exponent.is_nan() || (exponent.is_infinite() && base.abs() == 1.0) {
        return f64::NAN;
    }
    // These are exact, or the same in every implementation.
    if exponent == 1.0 {
        return base;
    }
    if exponent == -1.0 {
        return 1.0 / base;
    }
    if exponent == 2.0 {
        return base * base;
    }
    if exponent == 0.5 && base.is_sign_positive() {
        return base.sqrt();
    }
    let is_plain = base.is_finite() && base != 0.0 && base.abs() != 1.0 && exponent.is_finite() && exponent != 0.0;
    if !is_plain || (base < 0.0 && exponent.fract() != 0.0) {
        return base.powf(exponent);
    }
    let magnitude = power_of_magnitude(base.abs(), exponent);
    if base < 0.0 && exponent % 2.0 != 0.0 { -magnitude } else { magnitude }
}

/// `base ** exponent` for a positive, finite base that is not 1 and a finite exponent that is not 0.
fn power_of_magnitude(base: f64, exponent: f64) -> f64 {
    const TWO_TO_31: f64 = 2_147_483_648.0;
    let (log_high, log_low) = if high_word(exponent.abs()) > high_word(TWO_TO_31) {
        // Such an exponent leaves the range unless the base is close to 1.
        let base_word = high_word(base);
        if !(0x3fef_ffff..=0x3ff0_0000).contains(&base_word) {
            return if (base > 1.0) == (exponent > 0.0) { f64::INFINITY } else { 0.0 };
        }
        log2_close_to_one(base)
    } else {
        log2(base)
    };
    // (y1 + y2)·(log_high + log_low) as the sum of two doubles.
    let exponent_high = without_low_word(exponent);
    let low = (exponent - exponent_high) * log_high + exponent * log_low;
    let high = exponent_high * log_high;
    let sum = low + high;
    if sum > 1024.0 || (sum == 1024.0 && low + OVERFLOW_SLACK > sum - high) {
        return f64::INFINITY;
    }
    if sum < -1075.0 || (sum == -1075.0 && low <= sum - high) {
        return 0.0;
    }
    two_to(high, low, sum)
}

/// log2(x) = t − t²/2 + t³/3 − t⁴/4 with t = x − 1, which suffices up to 2⁻²⁰.
fn log2_close_to_one(base: f64) -> (f64, f64) {
    let t = base - 1.0;
    let w = (t * t) * (0.5 - t * (0.333_333_333_333_333_3 - t * 0.25));
    let u = INVERSE_LN2_HIGH * t;
    let v = t * INVERSE_LN2_LOW - w * INVERSE_LN2;
    let high = without_low_word(u + v);
    (high, v - (high - u))
}

/// log2 of a positive, finite number as the sum of two doubles.
fn log2(base: f64) -> (f64, f64) {
    const TWO_TO_53: f64 = 9_007_199_254_740_992.0;
    let (normal, lifted) = if base < f64::MIN_POSITIVE { (base * TWO_TO_53, -53) } else { (base, 0) };
    let word = high_word(normal) as i32;
    let mut n = lifted + (word >> 20) - 0x3ff;
    let fraction = word & 0x000f_ffff;
    let mut normalized = fraction | 0x3ff0_0000;
    // a is brought near 1 or near 1.5, whichever is closer: below √(3/2), below √3, or halved.
    let k = usize::from((0x3988f..0xbb67a).contains(&fraction));
    if fraction >= 0xbb67a {
        n += 1;
        normalized -= 0x0010_0000;
    }
    let a = with_high_word(normal, normalized as u32);
    let near = [1.0, 1.5][k];
    // s = s_high + s_low = (a − near)/(a + near)
    let u = a - near;
    let v = 1.0 / (a + near);
    let s = u * v;
    let s_high = without_low_word(s);
    let t_high = with_high_word(0.0, ((normalized as u32 >> 1) | 0x2000_0000) + 0x0008_0000 + ((k as u32) << 18));
    let t_low = a - (t_high - near);
    let s_low = v * ((u - s_high * t_high) - s_high * t_low);
    // log(a)
    let s2 = s * s;
    let mut r = s2 * s2 * (L[0] + s2 * (L[1] + s2 * (L[2] + s2 * (L[3] + s2 * (L[4] + s2 * L[5])))));
    r += s_low * (s_high + s);
    let s2 = s_high * s_high;
    let t_high = without_low_word(3.0 + s2 + r);
    let t_low = r - ((t_high - 3.0) - s2);
    let u = s_high * t_high;
    let v = s_low * t_high + t_low * s;
    // 2/(3·ln 2)·(s + …)
    let p_high = without_low_word(u + v);
    let p_low = v - (p_high - u);
    let z_high = CP_HIGH * p_high;
    let z_low = CP_LOW * p_high + p_low * CP + LOG2_OF_BASE_LOW[k];
    let t = f64::from(n);
    let high = without_low_word(((z_high + z_low) + LOG2_OF_BASE_HIGH[k]) + t);
    (high, z_low - (((high - t) - LOG2_OF_BASE_HIGH[k]) - z_high))
}

/// 2 to the power of high + low; `sum` is that sum in one double.
fn two_to(mut high: f64, low: f64, sum: f64) -> f64 {
    let word = high_word(sum) as i32;
    let magnitude = word & 0x7fff_ffff;
    let mut n = 0;
    if magnitude > 0x3fe0_0000 {
        // |sum| > 1/2: n is the integer next to it.
        n = word + (0x0010_0000 >> ((magnitude >> 20) - 0x3ff + 1));
        let k = ((n & 0x7fff_ffff) >> 20) - 0x3ff;
        high -= with_high_word(0.0, (n & !(0x000f_ffff >> k)) as u32);
        n = ((n & 0x000f_ffff) | 0x0010_0000) >> (20 - k);
        if word < 0 {
            n = -n;
        }
    }
    let t = without_low_word(low + high);
    let u = t * LN2_HIGH;
    let v = (low - (t - high)) * LN2 + t * LN2_LOW;
    let z = u + v;
    let w = v - (z - u);
    let t = z * z;
    let t1 = z - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    // fdlibm has z·t1/(t1 − 2) − (w + z·w) here.
    let r = (z * t1) / ((t1 - 2.0) - (w + z * w));
    let z = 1.0 - (r - z);
    let word = (high_word(z) as i32).wrapping_add(n << 20);
    if (word >> 20) <= 0 { subnormal(z, n) } else { with_high_word(z, word as u32) }
}

/// z·2ⁿ where the result is below the normal numbers; rounds once.
fn subnormal(z: f64, n: i32) -> f64 {
    const STEP: i32 = 1000;
    z * 2f64.powi(-STEP) * 2f64.powi(n + STEP)
}

fn high_word(x: f64) -> u32 {
    (x.to_bits() >> 32) as u32
}

fn with_high_word(x: f64, word: u32) -> f64 {
    f64::from_bits((x.to_bits() & 0xffff_ffff) | u64::from(word) << 32)
}

fn without_low_word(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_v8_to_the_last_bit() {
        // Computed by node 20.
        for (base, exponent, bits) in [
            (10.0, -5.0, 0x3ee4_f8b5_88e3_68f0_u64),
            (10.0, -4.0, 0x3f1a_36e2_eb1c_432c_u64),
            (4.78125, 5.0625, 0x40a5_86b9_2509_97f7_u64),
            (3.390625, 3.625, 0x4054_e71c_de88_8cab_u64),
            (1.0594630943592953, 28.0, 0x4014_28a2_f98d_7292_u64),
            (2.0, 0.08333333333333333, 0x3ff0_f38f_92d9_7963_u64),
            (-7.25, 13.0, 0xc241_cca2_6e71_0246_u64),
            (1.0000000999, -3e9, 0x24e8_a9e8_8fea_787c_u64),
            (1e-300, 1.05, 0x0000_0000_0c10_69cd_u64),
            (5e-324, 0.3, 0x2bcb_db8c_dadb_e161_u64),
            (9.5, -325.0, 0x0000_0000_0005_5d6c_u64),
        ] {
            assert_eq!(power(base, exponent).to_bits(), bits, "{base} ** {exponent}");
        }
    }

    #[test]
    fn whole_powers_of_two_are_exact() {
        for exponent in -1074..1024 {
            assert_eq!(power(2.0, f64::from(exponent)), 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2), "{exponent}");
        }
    }

    #[test]
    fn special_values_follow_javascript() {
        assert!(power(1.0, f64::INFINITY).is_nan() && power(-1.0, f64::NEG_INFINITY).is_nan());
        assert!(power(1.0, f64::NAN).is_nan() && power(-8.0, 1.0 / 3.0).is_nan());
        assert_eq!(power(f64::NAN, 0.0), 1.0);
        assert_eq!(
            (power(0.0, -3.0), power(-2.0, 3.0), power(10.0, 400.0), power(10.0, -400.0)),
            (f64::INFINITY, -8.0, f64::INFINITY, 0.0)
        );
        assert_eq!((power(1.5, 1e300), power(0.5, 1e300), power(0.5, -1e300)), (f64::INFINITY, 0.0, f64::INFINITY));
    }
}
