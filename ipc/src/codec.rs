//! The one place that turns values into bytes and back. Bincode, with a byte limit; to change the encoding, change this file.

use serde::{Serialize, de::DeserializeOwned};

use crate::limits::MAX_MESSAGE_BYTES;

/// Why a value did not become bytes or bytes did not become a value.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("the message has {bytes} bytes, the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the message cannot be written: {0}")]
    Encode(String),
    #[error("the message cannot be read: {0}")]
    Decode(String),
    #[error("the message has {0} bytes too many")]
    TrailingBytes(usize),
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_MESSAGE_BYTES>()
}

/// Encodes `value`; at most [`MAX_MESSAGE_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, configuration()).map_err(|e| CodecError::Encode(e.to_string()))?;
    within_limit(bytes.len())?;
    Ok(bytes)
}

/// Decodes exactly one value that fills `bytes`; at most [`MAX_MESSAGE_BYTES`], and never allocates more than that.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    within_limit(bytes.len())?;
    let (value, read) = bincode::serde::decode_from_slice(bytes, configuration()).map_err(|e| CodecError::Decode(e.to_string()))?;
    match bytes.len() - read {
        0 => Ok(value),
        left => Err(CodecError::TrailingBytes(left)),
    }
}

fn within_limit(bytes: usize) -> Result<(), CodecError> {
    if bytes > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLarge { bytes, limit: MAX_MESSAGE_BYTES });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_way_there_and_back() {
        let value = (7u64, "drums".to_owned(), vec![1u8, 2, 3]);
        assert_eq!(decode::<(u64, String, Vec<u8>)>(&encode(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&1u32).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(CodecError::TrailingBytes(1))));
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_reserved() {
        let mut bytes = vec![253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(CodecError::Decode(_))));
    }

    #[test]
    fn a_message_above_the_limit_is_not_sent() {
        assert!(encode(&vec![0u8; MAX_MESSAGE_BYTES + 1]).is_err());
    }
}
