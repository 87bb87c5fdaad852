//! Values that several verbs share. Each checks itself while it is read, so that an error names the field it is in.

use std::fmt;

use ipc::limits::MAX_DEVICE_CHANNELS;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest runtime name in bytes.
pub const MAX_RUNTIME_NAME_BYTES: usize = 64;

/// Longest name of a memory item in bytes.
pub const MAX_ITEM_NAME_BYTES: usize = 512;

/// The name of a runtime, such as `drums`: 1 to 64 bytes, no control characters, no `/` or `:`, no blank at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuntimeName(String);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct NotAName {
    expected: &'static str,
}

impl RuntimeName {
    pub fn new(name: impl Into<String>) -> Result<Self, NotAName> {
        let name = name.into();
        let is_fine = !name.is_empty()
            && name.len() <= MAX_RUNTIME_NAME_BYTES
            && name.trim() == name
            && !name.chars().any(|c| c.is_control() || c == '/' || c == ':');
        if is_fine {
            Ok(Self(name))
        } else {
            Err(NotAName { expected: "a runtime name: 1 to 64 bytes without `/`, `:`, control characters or blanks at its ends" })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RuntimeName {
    type Error = NotAName;

    fn try_from(name: String) -> Result<Self, NotAName> {
        Self::new(name)
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A memory item: `MODULE:ITEM`, or a bare item name that is unique, optionally with an element index (`buffer[3]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ItemName(String);

impl ItemName {
    pub fn new(name: impl Into<String>) -> Result<Self, NotAName> {
        let name = name.into();
        let is_fine = !name.is_empty() && name.len() <= MAX_ITEM_NAME_BYTES && !name.chars().any(char::is_control);
        if is_fine { Ok(Self(name)) } else { Err(NotAName { expected: "an item: `MODULE:ITEM`, `ITEM` or `MODULE:ITEM[INDEX]`" }) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ItemName {
    type Error = NotAName;

    fn try_from(name: String) -> Result<Self, NotAName> {
        Self::new(name)
    }
}

/// One end of a control wire: a single value in the memory of a runtime's program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WireEnd {
    pub runtime: RuntimeName,
    pub item: ItemName,
}

impl WireEnd {
    /// Reads `RUNTIME.MODULE:ITEM` or `RUNTIME.ITEM`, with an index where one element is meant. A runtime's name may have a
    /// point in it, that of a module may not.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let none = NotAName { expected: "one value of a runtime: RUNTIME.MODULE:ITEM, such as drums.env:out" };
        let text = text.trim();
        let names_end = text.find([':', '[']).unwrap_or(text.len());
        let point = text.get(..names_end).and_then(|names| names.rfind('.')).ok_or(none)?;
        let (runtime, item) = (text.get(..point).unwrap_or_default(), text.get(point + 1..).unwrap_or_default());
        Ok(Self { runtime: RuntimeName::new(runtime)?, item: ItemName::new(item).map_err(|_| none)? })
    }
}

impl fmt::Display for WireEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.runtime, self.item.as_str())
    }
}

/// Channels of the device, counted from 1: `3-4` is left to 3 and right to 4, `3` is both to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String"))]
pub struct Channels {
    pub left: u8,
    pub right: u8,
}

impl Channels {
    /// Where everything goes that is not told otherwise.
    pub const MAIN: Self = Self { left: 1, right: 2 };

    pub fn new(text: &str) -> Result<Self, NotAName> {
        let channel = |text: &str| text.parse().ok().filter(|channel| (1..=MAX_DEVICE_CHANNELS as u8).contains(channel));
        let (left, right) = text.split_once('-').map_or((text, None), |(left, right)| (left, Some(right)));
        let left = channel(left);
        let right = right.map_or(left, |right| channel(right).filter(|right| Some(*right) != left));
        let found = left.zip(right).map(|(left, right)| Self { left, right });
        found.ok_or(NotAName { expected: "channels of the device, from 1 to 16: two such as `3-4`, or one such as `3`" })
    }

    /// The highest of them.
    pub fn highest(self) -> u8 {
        self.left.max(self.right)
    }
}

impl TryFrom<String> for Channels {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::new(&text)
    }
}

impl From<Channels> for String {
    fn from(channels: Channels) -> Self {
        channels.to_string()
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left == self.right { write!(f, "{}", self.left) } else { write!(f, "{}-{}", self.left, self.right) }
    }
}

/// A revision: its content hash as 64 hexadecimal digits, or the first 8 or more of them where that is unambiguous.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RevisionName(String);

impl RevisionName {
    pub fn new(name: impl Into<String>) -> Result<Self, NotAName> {
        let name = name.into();
        let is_fine = (8..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_fine { Ok(Self(name)) } else { Err(NotAName { expected: "a revision: 8 to 64 lower-case hexadecimal digits" }) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ipc::hash::ContentHash> for RevisionName {
    fn from(hash: ipc::hash::ContentHash) -> Self {
        Self(hash.to_string())
    }
}

impl TryFrom<String> for RevisionName {
    type Error = NotAName;

    fn try_from(name: String) -> Result<Self, NotAName> {
        Self::new(name)
    }
}

/// A change on its way: what `push`, `plan` and `rollback` answer with, and `confirm` and `cancel` refer to. Numbered from 1
/// within a session, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChangeId(pub u64);

/// Where a change takes effect (DESIGN §9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Boundary {
    /// The next tick after the new engine is ready.
    #[default]
    Frame,
    /// The next rising edge of the program's pulse after it is ready.
    Pulse,
    /// When the runtime is next frozen.
    Freeze,
}

/// How deep a change goes (DESIGN §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ChangeClass {
    /// The runtime's first program.
    #[serde(rename = "load")]
    Load,
    /// Nothing that runs.
    #[serde(rename = "none")]
    None,
    /// Parameters.
    A,
    /// Structure.
    B,
    /// Identity: needs an acknowledgement.
    C,
    /// Runtime type: a new host.
    T,
}

/// A number of a program. What JSON has no number for is one of the strings `NaN`, `Infinity`, `-Infinity`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// The value, rounded to the nearest double where an integer has more digits.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    pub fn is_finite(self) -> bool {
        self.as_f64().is_finite()
    }
}

impl From<f32> for Number {
    /// Takes the shortest decimal that reads back as the same 32-bit number, not the longer one of its 64-bit image.
    fn from(value: f32) -> Self {
        let shortest = if value.is_finite() { value.to_string().parse().ok() } else { None };
        Self::Float(shortest.unwrap_or(f64::from(value)))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Int(value) => serializer.serialize_i64(value),
            Self::Float(value) if value.is_finite() => serializer.serialize_f64(value),
            Self::Float(value) if value.is_nan() => serializer.serialize_str("NaN"),
            Self::Float(value) => serializer.serialize_str(if value > 0.0 { "Infinity" } else { "-Infinity" }),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
                Ok(Number::Int(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
                Ok(i64::try_from(value).map_or(Number::Float(value as f64), Number::Int))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
                Ok(Number::Float(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                match text {
                    "NaN" => Ok(Number::Float(f64::NAN)),
                    "Infinity" => Ok(Number::Float(f64::INFINITY)),
                    "-Infinity" => Ok(Number::Float(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Number {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number of a program. What JSON has no number for is one of these strings.",
            "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_json_cannot_write() {
        for number in [Number::Int(-3), Number::Float(0.5), Number::Float(f64::INFINITY), Number::Float(f64::NEG_INFINITY)] {
            let text = serde_json::to_string(&number).unwrap();
            assert_eq!(serde_json::from_str::<Number>(&text).unwrap(), number, "{text}");
        }
        assert_eq!(serde_json::to_string(&Number::Float(f64::NAN)).unwrap(), "\"NaN\"");
        assert_eq!(serde_json::to_string(&Number::from(0.1f32)).unwrap(), "0.1");
        assert!(serde_json::from_str::<Number>("\"seven\"").is_err());
    }

    #[test]
    fn an_end_of_a_wire_is_a_runtime_and_an_item() {
        for (text, runtime, item) in [
            ("drums.env:out", "drums", "env:out"),
            ("visual.energy", "visual", "energy"),
            (" a.b.m:x[3] ", "a.b", "m:x[3]"),
            ("drums/2.m:x", "", ""),
            ("drums", "", ""),
            ("drums:out", "", ""),
            (".x", "", ""),
            ("drums.", "", ""),
            ("", "", ""),
        ] {
            let found = WireEnd::parse(text).ok();
            let expected =
                (!runtime.is_empty()).then(|| WireEnd { runtime: RuntimeName::new(runtime).unwrap(), item: ItemName::new(item).unwrap() });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn names_that_would_be_ambiguous_elsewhere_are_refused() {
        for good in ["drums", "my drums", "träume", "a.b"] {
            assert!(RuntimeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", " drums", "a:b", "../x", "a\nb", &"x".repeat(65)] {
            assert!(RuntimeName::new(bad).is_err(), "{bad}");
        }
        assert!(RevisionName::new("0123abcd").is_ok());
        assert!(RevisionName::new("0123ABCD").is_err());
        assert!(RevisionName::new("0123abc").is_err());
        assert!(ItemName::new("").is_err());
    }
}
