//! Valid values of any message type, made of random numbers: seeds that follow the types when these change.
//!
//! A deserializer without a text: whatever is asked for, it makes one up. Types that check what they read may refuse it.

use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use crate::random::Random;

/// Most elements of a made-up list.
const MAX_ELEMENTS: usize = 3;

/// What made-up texts are made of.
const TEXTS: [&str; 6] = ["", "a", "drums", "osc:phase", "continuo-0123456789abcdef-0123456789abcdef", "é\u{1f600}\n"];

/// A made-up value; `None` when its type refuses what was made up.
pub fn value<T: DeserializeOwned>(random: &mut Random) -> Option<T> {
    T::deserialize(MakeUp { random }).ok()
}

/// `count` encodings of made-up values.
pub fn encodings<T: DeserializeOwned>(count: usize, random: &mut Random, encode: impl Fn(&T) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    (0..count).filter_map(|_| encode(&value(random)?)).collect()
}

/// The type has refused a value.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct MakeUp<'a> {
    random: &'a mut Random,
}

impl MakeUp<'_> {
    /// Mostly small, so that numbers are sometimes equal and often in range.
    fn number(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.bits(),
            1 => self.random.below(300) as u64,
            _ => self.random.below(8) as u64,
        }
    }

    fn elements(&mut self, count: usize) -> Elements<'_> {
        Elements { random: self.random, left: count }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
            visitor.$visit(self.number() as $type)
        })*
    };
}

impl<'de> de::Deserializer<'de> for MakeUp<'_> {
    type Error = Refused;

    numbers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_f32 visit_f32 f32, deserialize_f64 visit_f64 f64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        Err(de::Error::custom("messages say what type they have"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bool(self.random.once_in(2))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_char('x')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_str(TEXTS[self.random.below(TEXTS.len())])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bytes(&self.random.bits().to_le_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.random.once_in(2) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        let count = self.random.below(MAX_ELEMENTS + 1);
        visitor.visit_seq(self.elements(count))
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, count: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(self.elements(count))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(mut self, _name: &'static str, count: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(self.elements(count))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        let count = self.random.below(MAX_ELEMENTS + 1);
        visitor.visit_map(self.elements(count))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_seq(self.elements(fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.random.below(variants.len()) as u32;
        visitor.visit_enum(Variant { make_up: self, index })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements<'a> {
    random: &'a mut Random,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(MakeUp { random: self.random }).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        seed.deserialize(MakeUp { random: self.random })
    }
}

struct Variant<'a> {
    make_up: MakeUp<'a>,
    index: u32,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Refused;
    type Variant = MakeUp<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, MakeUp<'a>), Refused> {
        let index: U32Deserializer<Refused> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self.make_up))
    }
}

impl<'de> de::VariantAccess<'de> for MakeUp<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, count: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(self.elements(count))
    }

    fn struct_variant<V: Visitor<'de>>(mut self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(self.elements(fields.len()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    enum Message {
        Nothing,
        Number(u32),
        Pair(i8, bool),
        Named { name: String, list: Vec<Option<f32>> },
    }

    #[test]
    fn every_variant_is_made_up_sooner_or_later() {
        let mut random = Random::new(1);
        let messages: Vec<Message> = (0..200).filter_map(|_| value(&mut random)).collect();
        assert_eq!(messages.len(), 200);
        assert!(messages.contains(&Message::Nothing));
        assert!(messages.iter().any(|message| matches!(message, Message::Number(_))));
        assert!(messages.iter().any(|message| matches!(message, Message::Pair(..))));
        assert!(messages.iter().any(|message| matches!(message, Message::Named { name, list } if !name.is_empty() && list.len() == 3)));
    }
}
