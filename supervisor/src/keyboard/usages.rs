//! Keys as USB-HID usages of the keyboard page: what a browser calls `event.code`, by number. Characters are those of a US
//! layout, which is all that can be known of a key by its character.
//!
//! Source: HID Usage Tables 1.5, §10; functional keys by the numbers of the kitty keyboard protocol.

/// A key that is not known.
pub const UNKNOWN: u8 = 0;
pub const ENTER: u8 = 40;
pub const ESCAPE: u8 = 41;
pub const BACKSPACE: u8 = 42;
pub const TAB: u8 = 43;

/// Usages from 45 on by their characters, without shift and with it; `\0` where there is none.
const SYMBOLS: [(char, char); 12] = [
    ('-', '_'),
    ('=', '+'),
    ('[', '{'),
    (']', '}'),
    ('\\', '|'),
    ('\0', '\0'),
    (';', ':'),
    ('\'', '"'),
    ('`', '~'),
    (',', '<'),
    ('.', '>'),
    ('/', '?'),
];

/// The key that makes a character.
pub fn of_character(character: char) -> u8 {
    match character {
        'a'..='z' => 4 + (character as u8 - b'a'),
        'A'..='Z' => 4 + (character as u8 - b'A'),
        '1'..='9' => 30 + (character as u8 - b'1'),
        '0' | ')' => 39,
        '\r' | '\n' => ENTER,
        '\x1b' => ESCAPE,
        '\x08' | '\x7f' => BACKSPACE,
        '\t' => TAB,
        ' ' => 44,
        _ => of_symbol(character),
    }
}

fn of_symbol(character: char) -> u8 {
    let digit = "!@#$%^&*(".find(character).map(|index| 30 + index as u8);
    let symbol = || SYMBOLS.iter().position(|pair| character != '\0' && (pair.0 == character || pair.1 == character));
    digit.or_else(|| symbol().map(|index| 45 + index as u8)).unwrap_or(UNKNOWN)
}

/// The key of a sequence that ends with a letter.
pub fn of_final(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A' => 82,
        b'B' => 81,
        b'C' => 79,
        b'D' => 80,
        b'E' => 93,
        b'F' => 77,
        b'H' => 74,
        b'P'..=b'S' => 58 + (byte - b'P'),
        b'Z' => TAB,
        _ => return None,
    })
}

/// The key of a sequence that ends with `~`, by its number.
pub fn of_number(number: u32) -> Option<u8> {
    Some(match number {
        1 | 7 => 74,
        2 => 73,
        3 => 76,
        4 | 8 => 77,
        5 => 75,
        6 => 78,
        11..=15 => 58 + (number - 11) as u8,
        17..=21 => 63 + (number - 17) as u8,
        23 | 24 => 68 + (number - 23) as u8,
        29 => 101,
        _ => return None,
    })
}

/// A key as the kitty protocol numbers it: a character, or a functional key in Unicode's private use area.
pub fn of_kitty(number: u32) -> u8 {
    /// Usages of the numbers from 57417 on: keypad arrows and what stands beside them.
    const KEYPAD: [u8; 11] = [92, 94, 96, 90, 97, 91, 95, 89, 98, 99, 93];
    /// From 57441 on: shift, control, alt, super, hyper, meta, left and right.
    const MODIFIERS: [u8; 12] = [225, 224, 226, 227, UNKNOWN, UNKNOWN, 229, 228, 230, 231, UNKNOWN, UNKNOWN];
    match number {
        57_358 => 57,
        57_359 => 71,
        57_360 => 83,
        57_361 => 70,
        57_362 => 72,
        57_363 => 101,
        57_376..=57_387 => 104 + (number - 57_376) as u8,
        57_399 => 98,
        57_400..=57_408 => 89 + (number - 57_400) as u8,
        57_409 => 99,
        57_410 => 84,
        57_411 => 85,
        57_412 => 86,
        57_413 => 87,
        57_414 => 88,
        57_415 => 103,
        57_416 => 133,
        57_417..=57_427 => KEYPAD[(number - 57_417) as usize],
        57_441..=57_452 => MODIFIERS[(number - 57_441) as usize],
        _ => char::from_u32(number).map_or(UNKNOWN, of_character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_keys_of_a_us_layout() {
        let cases =
            [('a', 4), ('Z', 29), ('1', 30), ('!', 30), ('0', 39), (')', 39), ('(', 38), (' ', 44), ('-', 45), ('?', 56), (';', 51)];
        for (character, usage) in cases {
            assert_eq!(of_character(character), usage, "{character:?}");
        }
        assert_eq!((of_character('ä'), of_character('\0'), of_character('\u{10ffff}')), (UNKNOWN, UNKNOWN, UNKNOWN));
    }

    #[test]
    fn functional_keys_are_known_by_all_their_names() {
        assert_eq!((of_final(b'P'), of_number(11), of_number(15), of_number(24)), (Some(58), Some(58), Some(62), Some(69)));
        assert_eq!((of_kitty(97), of_kitty(57_441), of_kitty(57_447), of_kitty(57_376), of_kitty(57_427)), (4, 225, 229, 104, 93));
        assert_eq!((of_kitty(57_399), of_kitty(57_408), of_kitty(u32::MAX)), (98, 97, UNKNOWN));
    }
}
