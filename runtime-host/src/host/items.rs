//! Memory items by name: finds what `MODULE:ITEM[3]` means, shows its values, writes values into it.
//!
//! Used by runs without a clock, on the thread that runs the program, and by the control thread for live requests.

use ipc::manifest::{ElementType, Item, Manifest, ModuleInfo};
use ipc::message::ElementValues;

use super::engine::Engine;
use super::live::ramps::to_bytes_rt;
use crate::registry::number;

/// Names offered when one is not found.
const SUGGESTIONS: usize = 3;

/// What is wrong with the name or the value of an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error("`{0}` does not name an item; write `MODULE:ITEM`, `ITEM` or `MODULE:ITEM[INDEX]`")]
    Malformed(String),
    #[error("the program has no module `{name}`{}", suggestion(nearest))]
    NoModule { name: String, nearest: Vec<String> },
    #[error("the program has no item `{name}`{}", suggestion(nearest))]
    NoItem { name: String, nearest: Vec<String> },
    #[error("`{name}` is in more than one module; write {}", listed(candidates))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("`{name}` has {count} elements; there is no element {index}")]
    NoElement { name: String, count: u32, index: u32 },
    #[error("`{text}` is not a number, which `{name}` takes")]
    NotANumber { name: String, text: String },
    #[error("`{text}` does not fit into `{name}`, which takes whole numbers from {least} to {greatest}")]
    OutOfRange { name: String, text: String, least: i64, greatest: i64 },
    #[error("`{text}` is not a whole number, which `{name}` takes")]
    NotWhole { name: String, text: String },
    #[error("`{text}` is too large for `{name}`, whose numbers go up to 3.4e38")]
    TooLarge { name: String, text: String },
    #[error("`{name}` has {count} elements; say which of them is to be set, such as `{name}[0]`")]
    NeedsIndex { name: String, count: u32 },
    #[error("`{name}` has room for {room} values from there on, not for {given}")]
    TooMany { name: String, room: u32, given: usize },
    #[error("`{0}` lies outside the program's memory")]
    Outside(String),
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

fn suggestion(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", listed(names)) }
}

/// An item of a program, or one element of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `MODULE:ITEM`, with an index where one was given.
    pub name: String,
    /// Index into `Manifest::memories`.
    pub memory: u32,
    pub element: ElementType,
    pub byte_address: u32,
    /// Elements from there on that are meant: all of the item's, or the one.
    pub count: u32,
    /// Elements from there to the item's end.
    pub room: u32,
}

impl Place {
    /// Finds what `text` names.
    pub fn find(manifest: &Manifest, text: &str) -> Result<Self, ItemError> {
        let (path, index) = split_index(text)?;
        let (module, item) = match path.split_once(':') {
            Some((module, item)) => find_qualified(manifest, module, item)?,
            None => find_bare(manifest, path)?,
        };
        let name = format!("{}:{}", module.id, item.name);
        let place = Self {
            name,
            memory: module.memory,
            element: item.element,
            byte_address: item.byte_address,
            count: item.count,
            room: item.count,
        };
        match index {
            None => Ok(place),
            Some(index) => place.element(index),
        }
    }

    fn element(self, index: u32) -> Result<Self, ItemError> {
        if index >= self.count {
            return Err(ItemError::NoElement { name: self.name, count: self.count, index });
        }
        let byte_address = self.byte_address.saturating_add(index.saturating_mul(self.element.bytes()));
        Ok(Self { name: format!("{}[{index}]", self.name), byte_address, count: 1, room: self.count - index, ..self })
    }

    /// The bytes of the elements as they are in memory.
    pub fn bytes<'a>(&self, engine: &'a Engine) -> Result<&'a [u8], ItemError> {
        let length = self.count as usize * self.element.bytes() as usize;
        engine.bytes_rt(self.memory, self.byte_address, length).ok_or_else(|| ItemError::Outside(self.name.clone()))
    }

    /// The values of the elements, by their own type.
    pub fn values(&self, engine: &Engine) -> Result<ElementValues, ItemError> {
        Ok(self.decode(self.bytes(engine)?))
    }

    /// The values that these bytes are, by the item's type.
    pub fn decode(&self, bytes: &[u8]) -> ElementValues {
        decode(self.element, bytes)
    }

    /// The bytes of `value` as the one element that is meant: as many of them as the element has. What the element cannot
    /// hold is refused, whatever its bits could be read as: nobody who turns a knob sees what has become of the value.
    pub fn encode(&self, value: f64) -> Result<[u8; 8], ItemError> {
        if self.count != 1 {
            return Err(ItemError::NeedsIndex { name: self.name.clone(), count: self.count });
        }
        encode_rt(self.element, value).map_err(|misfit| misfit.into_error(value.to_string(), self.name.clone()))
    }

    /// Writes one value, or several separated by commas, from here on.
    pub fn write(&self, engine: &mut Engine, text: &str) -> Result<(), ItemError> {
        let values: Vec<&str> = text.split(',').collect();
        if values.len() > self.room as usize {
            return Err(ItemError::TooMany { name: self.name.clone(), room: self.room, given: values.len() });
        }
        let mut bytes = Vec::new();
        for value in values {
            encode(self.element, value.trim(), &self.name, &mut bytes)?;
        }
        let place = engine.bytes_mut_rt(self.memory, self.byte_address, bytes.len());
        place.ok_or_else(|| ItemError::Outside(self.name.clone()))?.copy_from_slice(&bytes);
        Ok(())
    }
}

/// Why an element cannot hold a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    OutOfRange { least: i64, greatest: i64 },
    NotWhole,
    TooLarge,
}

impl Misfit {
    fn into_error(self, text: String, name: String) -> ItemError {
        match self {
            Self::OutOfRange { least, greatest } => ItemError::OutOfRange { name, text, least, greatest },
            Self::NotWhole => ItemError::NotWhole { name, text },
            Self::TooLarge => ItemError::TooLarge { name, text },
        }
    }
}

/// The bytes of `value` as this element: as many of them as it has.
pub fn encode_rt(element: ElementType, value: f64) -> Result<[u8; 8], Misfit> {
    let (least, greatest) = match element {
        ElementType::Float32 if value.is_finite() && (value as f32).is_infinite() => return Err(Misfit::TooLarge),
        ElementType::Float32 | ElementType::Float64 => return Ok(to_bytes_rt(element, value)),
        ElementType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        ElementType::Int8u => (0, u8::MAX.into()),
        ElementType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        ElementType::Int16u => (0, u16::MAX.into()),
        ElementType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        ElementType::Pointer { .. } => (0, u32::MAX.into()),
    };
    whole_rt(value, least, greatest).map(i64::to_le_bytes)
}

/// The number, if it is whole and within the range.
fn whole_rt(number: f64, least: i64, greatest: i64) -> Result<i64, Misfit> {
    if !(number >= least as f64 && number <= greatest as f64) {
        Err(Misfit::OutOfRange { least, greatest })
    } else if number.fract() != 0.0 {
        Err(Misfit::NotWhole)
    } else {
        Ok(number as i64)
    }
}

fn split_index(text: &str) -> Result<(&str, Option<u32>), ItemError> {
    let malformed = || ItemError::Malformed(text.to_owned());
    let (path, index) = match text.split_once('[') {
        Some((path, rest)) => (path, Some(rest.strip_suffix(']').and_then(|index| index.parse().ok()).ok_or_else(malformed)?)),
        None => (text, None),
    };
    if path.is_empty() || path.starts_with(':') || path.ends_with(':') {
        return Err(malformed());
    }
    Ok((path, index))
}

fn find_qualified<'a>(manifest: &'a Manifest, module: &str, item: &str) -> Result<(&'a ModuleInfo, &'a Item), ItemError> {
    let Some(info) = manifest.modules.iter().find(|m| m.id == module) else {
        let ids = manifest.modules.iter().map(|m| m.id.clone());
        return Err(ItemError::NoModule { name: module.to_owned(), nearest: nearest(module, ids) });
    };
    manifest.item(module, item).ok_or_else(|| {
        let names = info.items.iter().map(|i| i.name.clone());
        let nearest = nearest(item, names).into_iter().map(|name| format!("{module}:{name}")).collect();
        ItemError::NoItem { name: format!("{module}:{item}"), nearest }
    })
}

fn find_bare<'a>(manifest: &'a Manifest, item: &str) -> Result<(&'a ModuleInfo, &'a Item), ItemError> {
    let found: Vec<_> = manifest.modules.iter().filter_map(|module| manifest.item(&module.id, item)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let names = manifest.modules.iter().flat_map(|module| module.items.iter().map(|i| i.name.clone()));
            Err(ItemError::NoItem { name: item.to_owned(), nearest: nearest(item, names) })
        }
        _ => {
            let candidates = found.iter().map(|(module, item)| format!("{}:{}", module.id, item.name)).collect();
            Err(ItemError::Ambiguous { name: item.to_owned(), candidates })
        }
    }
}

/// The names that resemble `wanted` most, best first.
pub fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut ranked: Vec<(usize, String)> = names.map(|name| (distance(wanted, &name), name)).collect();
    ranked.sort();
    ranked.dedup();
    let close_enough = wanted.chars().count().div_ceil(2);
    ranked.into_iter().filter(|(distance, _)| *distance <= close_enough).map(|(_, name)| name).take(SUGGESTIONS).collect()
}

/// Levenshtein's distance, letter case aside.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

fn decode(element: ElementType, bytes: &[u8]) -> ElementValues {
    match element {
        ElementType::Int8 => ElementValues::Int(bytes.iter().map(|b| i64::from(b.cast_signed())).collect()),
        ElementType::Int8u => ElementValues::Int(bytes.iter().map(|b| i64::from(*b)).collect()),
        ElementType::Int16 => ElementValues::Int(words(bytes).map(|w| i64::from(i16::from_le_bytes(w))).collect()),
        ElementType::Int16u => ElementValues::Int(words(bytes).map(|w| i64::from(u16::from_le_bytes(w))).collect()),
        ElementType::Int32 | ElementType::Pointer { .. } => {
            ElementValues::Int(words(bytes).map(|w| i64::from(i32::from_le_bytes(w))).collect())
        }
        ElementType::Float32 => ElementValues::Float(words(bytes).map(f32::from_le_bytes).collect()),
        ElementType::Float64 => ElementValues::Float64(words(bytes).map(f64::from_le_bytes).collect()),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Appends the bytes of `text` as one element. Whole numbers may be given signed or unsigned (`-1`, `0xFFFFFFFF`). What they
/// have after the point is not cut off, as the language's own defaults are (LANGUAGE §8): it is refused, because here nobody
/// sees what has become of it.
fn encode(element: ElementType, text: &str, name: &str, bytes: &mut Vec<u8>) -> Result<(), ItemError> {
    match element {
        ElementType::Float32 => bytes.extend((in_single_range(parse_float(text, name)?, text, name)? as f32).to_le_bytes()),
        ElementType::Float64 => bytes.extend(parse_float(text, name)?.to_le_bytes()),
        ElementType::Int8 | ElementType::Int8u => bytes.extend(&parse_int(text, name, 8)?.to_le_bytes()[..1]),
        ElementType::Int16 | ElementType::Int16u => bytes.extend(&parse_int(text, name, 16)?.to_le_bytes()[..2]),
        ElementType::Int32 | ElementType::Pointer { .. } => bytes.extend(&parse_int(text, name, 32)?.to_le_bytes()[..4]),
    }
    Ok(())
}

fn parse_float(text: &str, name: &str) -> Result<f64, ItemError> {
    let number = match text {
        "NaN" | "nan" => Some(f64::NAN),
        _ => parse_number(text),
    };
    number.ok_or_else(|| ItemError::NotANumber { name: name.to_owned(), text: text.to_owned() })
}

fn parse_int(text: &str, name: &str, bits: u32) -> Result<i64, ItemError> {
    let number = parse_number(text).ok_or_else(|| ItemError::NotANumber { name: name.to_owned(), text: text.to_owned() })?;
    // Signed or unsigned.
    whole_number(number, -(1i64 << (bits - 1)), (1i64 << bits) - 1, text, name)
}

/// The number, unless it would become infinite as a 32-bit float. `text` and `name` are for the error.
fn in_single_range(number: f64, text: &str, name: &str) -> Result<f64, ItemError> {
    let becomes_infinite = number.is_finite() && (number as f32).is_infinite();
    if becomes_infinite { Err(ItemError::TooLarge { name: name.to_owned(), text: text.to_owned() }) } else { Ok(number) }
}

/// The number, if it is whole and within the range. `text` and `name` are for the error.
fn whole_number(number: f64, least: i64, greatest: i64, text: &str, name: &str) -> Result<i64, ItemError> {
    whole_rt(number, least, greatest).map_err(|misfit| misfit.into_error(text.to_owned(), name.to_owned()))
}

/// As in the language, a sign may stand before a hexadecimal number, and nothing is not a number.
fn parse_number(text: &str) -> Option<f64> {
    match text.strip_prefix('-') {
        Some(rest) if !rest.starts_with(['-', '+']) => Some(-number::parse(rest).filter(|_| !rest.is_empty())?),
        Some(_) => None,
        None => number::parse(text).filter(|_| !text.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(element: ElementType, text: &str) -> Result<Vec<u8>, ItemError> {
        let mut bytes = Vec::new();
        encode(element, text, "m:x", &mut bytes).map(|()| bytes)
    }

    #[test]
    fn values_are_written_as_their_type_and_read_back() {
        let cases: [(ElementType, &str, ElementValues); 9] = [
            (ElementType::Int8, "-5", ElementValues::Int(vec![-5])),
            (ElementType::Int8, "0xFF", ElementValues::Int(vec![-1])),
            (ElementType::Int8u, "255", ElementValues::Int(vec![255])),
            (ElementType::Int16, "-2", ElementValues::Int(vec![-2])),
            (ElementType::Int16u, "65535", ElementValues::Int(vec![65535])),
            (ElementType::Int32, "4294967295", ElementValues::Int(vec![-1])),
            (ElementType::Int32, "-0x10", ElementValues::Int(vec![-16])),
            (ElementType::Float32, "0.1", ElementValues::Float(vec![0.1])),
            (ElementType::Float64, "1e-3", ElementValues::Float64(vec![0.001])),
        ];
        for (element, text, values) in cases {
            assert_eq!(decode(element, &encoded(element, text).unwrap()), values, "{text}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        assert!(matches!(encoded(ElementType::Int8, "256"), Err(ItemError::OutOfRange { least: -128, greatest: 255, .. })));
        assert!(matches!(encoded(ElementType::Int32, "4294967296"), Err(ItemError::OutOfRange { .. })));
        assert!(matches!(encoded(ElementType::Int32, "Infinity"), Err(ItemError::OutOfRange { .. })));
        for text in ["", "-", "abc", "--1", "1.2.3", "nan"] {
            assert!(matches!(encoded(ElementType::Int32, text), Err(ItemError::NotANumber { .. })), "{text}");
        }
    }

    #[test]
    fn a_fraction_is_not_cut_off_to_fit_a_whole_number() {
        for text in ["5.5", "-0.1", "0.5", "1e-3"] {
            for element in [ElementType::Int8u, ElementType::Int16, ElementType::Int32] {
                assert!(matches!(encoded(element, text), Err(ItemError::NotWhole { .. })), "{text}");
            }
        }
        assert_eq!(encoded(ElementType::Int8, "5.0").unwrap(), [5]);
        let place = Place { name: "m:x".to_owned(), memory: 0, element: ElementType::Int32, byte_address: 0, count: 1, room: 1 };
        assert_eq!(place.encode(5.0).unwrap()[..4], [5, 0, 0, 0]);
        let error = place.encode(5.5).unwrap_err();
        assert_eq!(error.to_string(), "`5.5` is not a whole number, which `m:x` takes");
        assert!(matches!(place.encode(f64::NAN), Err(ItemError::OutOfRange { .. })));
    }

    #[test]
    fn a_live_value_that_its_element_cannot_hold_is_refused_and_not_reinterpreted() {
        let place = |element, count| Place { name: "m:x".to_owned(), memory: 0, element, byte_address: 0, count, room: count };
        let set = |element, value| place(element, 1).encode(value);
        let cases: [(ElementType, f64, f64); 6] = [
            (ElementType::Int8, 127.0, 128.0),
            (ElementType::Int8u, 255.0, -1.0),
            (ElementType::Int16, -32_768.0, -32_769.0),
            (ElementType::Int16u, 65_535.0, -1.0),
            (ElementType::Int32, 2_147_483_647.0, 3_000_000_000.0),
            (ElementType::Int32, -2_147_483_648.0, -2_147_483_649.0),
        ];
        for (element, fits, does_not) in cases {
            assert!(set(element, fits).is_ok(), "{fits}");
            assert!(matches!(set(element, does_not), Err(ItemError::OutOfRange { .. })), "{does_not}");
        }
        assert!(matches!(set(ElementType::Float32, 1e39), Err(ItemError::TooLarge { .. })));
        assert_eq!(set(ElementType::Float32, 3.4e38).unwrap()[..4], 3.4e38_f32.to_le_bytes());
        assert!(set(ElementType::Float64, 1e39).is_ok());
        assert!(matches!(encoded(ElementType::Float32, "1e39"), Err(ItemError::TooLarge { .. })));
        assert_eq!(
            decode(ElementType::Float32, &encoded(ElementType::Float32, "Infinity").unwrap()),
            ElementValues::Float(vec![f32::INFINITY])
        );
        let error = place(ElementType::Float32, 128).encode(0.5).unwrap_err();
        assert_eq!(error.to_string(), "`m:x` has 128 elements; say which of them is to be set, such as `m:x[0]`");
    }

    #[test]
    fn near_names_are_offered_best_first() {
        let names = || ["frequency", "phase", "amplitude", "Phase2"].map(str::to_owned).into_iter();
        assert_eq!(nearest("phas", names()), ["phase", "Phase2"]);
        assert_eq!(nearest("freqency", names()), ["frequency"]);
        assert!(nearest("xyz", names()).is_empty());
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for text in ["", ":x", "m:", "x[", "x[1", "x[-1]", "x[a]", "[0]"] {
            assert_eq!(split_index(text), Err(ItemError::Malformed(text.to_owned())));
        }
        assert_eq!(split_index("m:x[3]"), Ok(("m:x", Some(3))));
    }
}
