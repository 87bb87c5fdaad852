//! From a terminal's bytes to keys. Understands what terminals of the VT220 family send, and the kitty keyboard protocol
//! (<https://sw.kovidgoyal.net/kitty/keyboard-protocol/>).
//!
//! Pure, and fed with whatever the terminal sends, pasted text and line noise included: it keeps at most one sequence of
//! bounded length, and what it does not understand is passed over.

use super::usages;

/// Longest sequence that is waited for the end of, in bytes. The longest that a key makes has some thirty.
const MAX_SEQUENCE: usize = 64;

/// Bits of the kitty protocol for Caps Lock and Num Lock, which are not held.
const LOCKS: u32 = 64 | 128;

/// What the terminal has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Key {
        usage: u8,
        press: Press,
    },
    /// The terminal tells of releases from now on.
    TellsReleases,
    /// The window has lost the keyboard.
    FocusLost,
    /// Ctrl-C, Ctrl-\ and Ctrl-Z, where the terminal leaves them to us.
    Interrupt,
    Quit,
    Suspend,
}

/// Down, or down still; or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    Down,
    Up,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a sequence.
    sequence: Vec<u8>,
}

/// What a sequence has come to with one more byte.
enum Step {
    More,
    /// It is over.
    Done,
    /// It was over before this byte.
    Again,
}

impl Decoder {
    /// Whether a sequence has begun that may have come to its end.
    pub fn is_waiting(&self) -> bool {
        !self.sequence.is_empty()
    }

    /// Takes bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        for byte in bytes {
            while let Step::Again = self.step(*byte, &mut heard) {
                self.sequence.clear();
            }
        }
        heard
    }

    /// Nothing more has come for a while: what there is was the escape key, or is no sequence.
    pub fn flush(&mut self) -> Vec<Heard> {
        let sequence = std::mem::take(&mut self.sequence);
        match sequence[..] {
            [] => Vec::new(),
            [0x1b] => vec![down(usages::ESCAPE)],
            // Alt and a key that also begins a sequence.
            [0x1b, byte] => vec![down(usages::of_character(char::from(byte)))],
            _ => Vec::new(),
        }
    }

    fn step(&mut self, byte: u8, heard: &mut Vec<Heard>) -> Step {
        let step = match self.sequence[..] {
            [] => match byte {
                0x1b | 0xc2..=0xf4 => Step::More,
                _ => {
                    heard.extend(of_byte(byte));
                    Step::Done
                }
            },
            [0x1b] => match byte {
                b'[' | b'O' => Step::More,
                0x1b => {
                    heard.push(down(usages::ESCAPE));
                    return Step::Again;
                }
                // Alt is a key of its own, which nobody told us of.
                _ => return Step::Again,
            },
            [0x1b, b'O', ..] => {
                heard.extend(usages::of_final(byte).map(down));
                Step::Done
            }
            [0x1b, ..] => match byte {
                0x20..=0x3f => Step::More,
                0x40..=0x7e => {
                    heard.extend(of_sequence(&self.sequence[2..], byte));
                    Step::Done
                }
                _ => return Step::Again,
            },
            [first, ..] => match byte {
                0x80..=0xbf if self.sequence.len() + 1 < utf8_length(first) => Step::More,
                0x80..=0xbf => {
                    heard.push(down(usages::UNKNOWN));
                    Step::Done
                }
                _ => return Step::Again,
            },
        };
        match step {
            Step::More if self.sequence.len() < MAX_SEQUENCE => self.sequence.push(byte),
            _ => self.sequence.clear(),
        }
        step
    }
}

fn utf8_length(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    }
}

fn down(usage: u8) -> Heard {
    Heard::Key { usage, press: Press::Down }
}

/// A byte of its own: a character, or one with Ctrl.
fn of_byte(byte: u8) -> Option<Heard> {
    let usage = match byte {
        b'\t' | b'\n' | b'\r' | 0x08 | 0x20..=0x7f => usages::of_character(char::from(byte)),
        0x01..=0x1a => 4 + (byte - 1),
        // Not the beginning of a character.
        0x80.. => return None,
        _ => usages::UNKNOWN,
    };
    Some(down(usage))
}

/// A control sequence, without what it begins with.
fn of_sequence(parameters: &[u8], last: u8) -> Option<Heard> {
    let text = std::str::from_utf8(parameters).ok()?;
    if let Some(flags) = text.strip_prefix('?') {
        // The answer to whether the terminal speaks the kitty protocol; the second flag stands for releases.
        let tells = last == b'u' && flags.parse::<u32>().is_ok_and(|flags| flags & 2 != 0);
        return tells.then_some(Heard::TellsReleases);
    }
    if text.is_empty() && last == b'O' {
        return Some(Heard::FocusLost);
    }
    let mut fields = text.split(';');
    let mut key = fields.next().unwrap_or_default().split(':');
    let number = key.next().and_then(|number| number.parse::<u32>().ok());
    // Where the key is on a US layout, if the terminal says so: that is what `event.code` goes by.
    let base = key.nth(1).and_then(|number| number.parse::<u32>().ok());
    let mut modifiers = fields.next().unwrap_or_default().split(':');
    let held = modifiers.next().and_then(|held| held.parse::<u32>().ok()).unwrap_or(1).saturating_sub(1);
    let press = if modifiers.next() == Some("3") { Press::Up } else { Press::Down };
    let usage = match last {
        b'u' => {
            if let (Some(number), 4, Press::Down) = (number, held & !LOCKS, press)
                && let Some(command) = of_command(number)
            {
                return Some(command);
            }
            usages::of_kitty(base.or(number)?)
        }
        b'~' => usages::of_number(number?)?,
        _ => usages::of_final(last)?,
    };
    Some(Heard::Key { usage, press })
}

/// What Ctrl and a character have the session do.
fn of_command(number: u32) -> Option<Heard> {
    match char::from_u32(number)? {
        'c' => Some(Heard::Interrupt),
        '\\' => Some(Heard::Quit),
        'z' => Some(Heard::Suspend),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use fuzz::Random;

    use super::*;

    fn heard(text: &str) -> Vec<Heard> {
        let mut decoder = Decoder::default();
        let mut heard = decoder.take(text.as_bytes());
        heard.extend(decoder.flush());
        heard
    }

    fn up(usage: u8) -> Heard {
        Heard::Key { usage, press: Press::Up }
    }

    #[test]
    fn plain_terminals_send_characters_and_sequences() {
        let cases: [(&str, &[u8]); 12] = [
            ("a", &[4]),
            ("aB ", &[4, 5, 44]),
            ("\x1b", &[41]),
            ("\x1b\x1b", &[41, 41]),
            ("\x1b[A\x1bOB", &[82, 81]),
            ("\x1bOP\x1b[15~\x1b[24~", &[58, 62, 69]),
            ("\x1b[1;5C", &[79]),
            ("\x1bx", &[27]),
            ("\x01\t\r\x7f", &[4, 43, 40, 42]),
            ("ä€😀a", &[0, 0, 0, 4]),
            ("\x1b[99~a", &[4]),
            ("\x1b[", &[47]),
        ];
        for (text, usages) in cases {
            assert_eq!(heard(text), usages.iter().copied().map(down).collect::<Vec<_>>(), "{text:?}");
        }
    }

    #[test]
    fn the_kitty_protocol_tells_presses_repetitions_and_releases() {
        assert_eq!(heard("\x1b[?11u"), [Heard::TellsReleases]);
        assert_eq!(heard("\x1b[?0u\x1b[?1;2c"), []);
        assert_eq!(heard("\x1b[97u\x1b[97;1:2u\x1b[97;1:3u"), [down(4), down(4), up(4)]);
        assert_eq!(heard("\x1b[1;1:3A\x1b[3;1:3~"), [up(82), up(76)]);
        assert_eq!(heard("\x1b[57441;2u\x1b[57441;1:3u"), [down(225), up(225)]);
        // A key of a Cyrillic layout that is where C is.
        assert_eq!(heard("\x1b[1089::99u"), [down(6)]);
        assert_eq!(heard("\x1b[99;5u\x1b[92;5u\x1b[122;5u"), [Heard::Interrupt, Heard::Quit, Heard::Suspend]);
        // With Caps Lock on; on release; and with another modifier.
        assert_eq!(heard("\x1b[99;69u\x1b[99;5:3u\x1b[99;7u"), [Heard::Interrupt, up(6), down(6)]);
        assert_eq!(heard("\x1b[O\x1b[I"), [Heard::FocusLost]);
    }

    #[test]
    fn sequences_may_come_in_pieces() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(b"\x1b["), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.take(b"97;1"), []);
        assert_eq!(decoder.take(b":3u"), [up(4)]);
        assert!(!decoder.is_waiting());
    }

    #[test]
    fn a_hundred_thousand_random_bytes_are_passed_over_without_growing() {
        let seed = 0x6b65_7973;
        let mut random = Random::new(seed);
        let mut decoder = Decoder::default();
        for _ in 0..100_000 {
            let byte = if random.below(4) == 0 { b"\x1b[O;:u~?9c"[random.below(10)] } else { random.below(256) as u8 };
            decoder.take(&[byte]);
            assert!(decoder.sequence.len() <= MAX_SEQUENCE, "seed {seed:#x}");
        }
        decoder.take(b"\x1b\x1b\x1b[A");
        decoder.flush();
        assert_eq!(decoder.take(b"a"), [down(4)], "it goes on");
    }
}
