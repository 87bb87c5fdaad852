//! The artifact: what the worker hands over for one revision, in one immutable segment.
//!
//! Payload: the lengths of the four sections as 64-bit little-endian words, then the sections: manifest, memory image,
//! wasm, native code. The segment's hash covers all of it, so a host reads nothing of an artifact whose hash
//! is wrong; see [`crate::segment::read_checked`].

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::limits::MAX_ARTIFACT_BYTES;
use crate::manifest::Manifest;
use crate::segment::{Segment, SegmentError, SegmentKind, SegmentRef, SessionId, read_checked};

const SECTIONS: usize = 4;
const INDEX_BYTES: usize = SECTIONS * 8;

/// Bytes that an initialised memory has at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultBytes {
    /// Index into `Manifest::memories`.
    pub memory: u32,
    pub address: u32,
    pub bytes: Vec<u8>,
}

/// Everything a host needs to run one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    pub manifest: Manifest,
    /// What the memories hold after `initDefaults`; everything else is zero.
    pub image: Vec<DefaultBytes>,
    /// The WebAssembly binary.
    pub wasm: Vec<u8>,
    /// Native code of the same, made by wasmtime; empty when it was not asked for.
    pub native: Vec<u8>,
}

/// Why an artifact could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("the artifact's {section} cannot be read: {source}")]
    Section { section: &'static str, source: CodecError },
    #[error("the artifact's index does not match its length")]
    Index,
}

impl Artifact {
    /// Writes the artifact into a fresh segment of the session.
    pub fn publish(&self, session: &SessionId, generation: u64) -> Result<Segment, ArtifactError> {
        let manifest = encode("manifest", &self.manifest)?;
        let image = encode("memory image", &self.image)?;
        let sections: [&[u8]; SECTIONS] = [&manifest, &image, &self.wasm, &self.native];
        let index: Vec<u8> = sections.iter().flat_map(|section| (section.len() as u64).to_le_bytes()).collect();
        let mut parts: Vec<&[u8]> = vec![&index];
        parts.extend(sections);
        Ok(Segment::publish(session, SegmentKind::Artifact, generation, &parts)?)
    }

    /// Reads an artifact out of its segment: private copy first, then length and hash, then the content.
    pub fn read(reference: &SegmentRef) -> Result<Self, ArtifactError> {
        Self::from_payload(&read_checked(reference, MAX_ARTIFACT_BYTES)?)
    }

    fn from_payload(payload: &[u8]) -> Result<Self, ArtifactError> {
        let index = payload.get(..INDEX_BYTES).ok_or(ArtifactError::Index)?;
        let mut rest = &payload[INDEX_BYTES..];
        let mut sections = [&payload[..0]; SECTIONS];
        for (section, length) in sections.iter_mut().zip(index.chunks_exact(8)) {
            let length = u64::from_le_bytes(length.try_into().map_err(|_| ArtifactError::Index)?);
            let length = usize::try_from(length).map_err(|_| ArtifactError::Index)?;
            (*section, rest) = rest.split_at_checked(length).ok_or(ArtifactError::Index)?;
        }
        if !rest.is_empty() {
            return Err(ArtifactError::Index);
        }
        Ok(Self {
            manifest: decode("manifest", sections[0])?,
            image: decode("memory image", sections[1])?,
            wasm: sections[2].to_vec(),
            native: sections[3].to_vec(),
        })
    }
}

fn encode<T: Serialize>(section: &'static str, value: &T) -> Result<Vec<u8>, ArtifactError> {
    codec::encode(value).map_err(|source| ArtifactError::Section { section, source })
}

fn decode<T: serde::de::DeserializeOwned>(section: &'static str, bytes: &[u8]) -> Result<T, ArtifactError> {
    codec::decode(bytes).map_err(|source| ArtifactError::Section { section, source })
}
