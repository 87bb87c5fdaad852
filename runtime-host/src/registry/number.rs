//! Numbers as JavaScript's `Number()` reads them, which is how `@config` values are defined (LANGUAGE §20.1).

/// Reads `text` as `Number()` would. `None` where that gives NaN.
pub fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return parse_radix(digits, radix);
        }
    }
    match text {
        "" => Some(0.0),
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust also knows `inf` and `nan`, which `Number()` does not.
        _ if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')) => text.parse().ok(),
        _ => None,
    }
}

fn parse_radix(digits: &str, radix: u32) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0.0, |value, digit| Some(value * f64::from(radix) + f64::from(digit.to_digit(radix)?)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_javascript_reads_is_read() {
        let cases = [("44100", 44100.0), ("-1.5", -1.5), ("1e3", 1000.0), ("5.", 5.0), (".5", 0.5), ("+2", 2.0), ("0xFF", 255.0)];
        for (text, value) in cases.into_iter().chain([("0b101", 5.0), ("0o17", 15.0), ("", 0.0), (" 7 ", 7.0), ("Infinity", f64::INFINITY)])
        {
            assert_eq!(parse(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_javascript_calls_not_a_number_is_none() {
        for text in ["abc", "1,5", "1_000", "inf", "nan", "NaN", "0x", "0xG", "1e", "--1", "-0x10", "12px"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
