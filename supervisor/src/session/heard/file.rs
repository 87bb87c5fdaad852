//! The file of what was heard: `RECORDING.heard`.
//!
//! A first line with the recording's id, then pieces: so many blocks that one life heard in ticks that follow each other. Silence
//! has no samples, and what is the same on both sides has those of one. Each piece begins with a hash of the rest of it; one that
//! does not fit ends the file: there the recorder was killed, or the disk was full.
//!
//! All numbers are little-endian, and samples are kept as their bits. Written by the writer's thread, read by `replay`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ipc::hash::ContentHash;
use ipc::lane::{Block, SILENCE};
use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS};

/// What the first line begins with.
const MAGIC: &str = "continuo heard 1 ";

/// Bytes of a piece before its samples: hash, life, kind, first tick, number of blocks.
const HEAD_BYTES: usize = 32;

/// Of which its hash has so many.
const HASH_BYTES: usize = 8;

/// Blocks of a piece that has samples: 64 KiB of two channels, a sixth of a second at 48 kHz.
pub const MAX_SOUNDING_BLOCKS: u64 = 64;

/// Bytes of one channel of a block.
const CHANNEL_BYTES: usize = BLOCK_FRAMES * 4;

/// Ticks that are believed: as many as of a lane.
const LAST_TICK: u64 = 1 << 52;

/// What a piece has samples for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Silence,
    /// The same on both sides.
    Mono,
    Stereo,
}

impl Kind {
    /// What is enough to keep this block.
    pub fn of(block: &Block) -> Self {
        let [left, right] = block;
        let is_same = left.iter().zip(right).all(|(left, right)| left.to_bits() == right.to_bits());
        match is_same {
            true if left.iter().all(|sample| sample.to_bits() == 0) => Self::Silence,
            true => Self::Mono,
            false => Self::Stereo,
        }
    }

    fn channels(self) -> usize {
        match self {
            Self::Silence => 0,
            Self::Mono => 1,
            Self::Stereo => LANE_CHANNELS,
        }
    }

    fn number(self) -> u32 {
        self.channels() as u32
    }

    fn parse(number: u32) -> Option<Self> {
        [Self::Silence, Self::Mono, Self::Stereo].into_iter().find(|kind| kind.number() == number)
    }
}

/// Why what was heard cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HeardError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not what was heard in a recording", .0.display())]
    Foreign(PathBuf),
    #[error("{} belongs to another recording", .0.display())]
    OtherRecording(PathBuf),
}

/// The first line of a file.
pub fn first_line(id: &str) -> Vec<u8> {
    format!("{MAGIC}{id}\n").into_bytes()
}

/// A piece that is being put together.
#[derive(Debug)]
pub struct Piece {
    life: u32,
    kind: Kind,
    from: u64,
    blocks: u64,
    /// Room for its head, then its samples.
    bytes: Vec<u8>,
}

impl Piece {
    /// Begins with nothing, at this tick.
    pub fn begin(life: u32, kind: Kind, from: u64) -> Self {
        Self { life, kind, from, blocks: 0, bytes: vec![0; HEAD_BYTES] }
    }

    /// So many ticks of silence.
    pub fn silence(life: u32, from: u64, blocks: u64) -> Self {
        Self { blocks, ..Self::begin(life, Kind::Silence, from) }
    }

    /// The tick of its first block.
    pub fn first_tick(&self) -> u64 {
        self.from
    }

    /// Whether a block of this kind may be added.
    pub fn takes(&self, kind: Kind) -> bool {
        self.kind == kind && (kind == Kind::Silence || self.blocks < MAX_SOUNDING_BLOCKS)
    }

    /// Adds the block of the next tick, which is of the piece's kind.
    pub fn push(&mut self, block: &Block) {
        let samples = block.iter().take(self.kind.channels()).flatten();
        self.bytes.extend(samples.flat_map(|sample| sample.to_bits().to_le_bytes()));
        self.blocks += 1;
    }

    /// As it stands in the file.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let head = [&self.life.to_le_bytes()[..], &self.kind.number().to_le_bytes(), &self.from.to_le_bytes(), &self.blocks.to_le_bytes()];
        self.bytes[HASH_BYTES..HEAD_BYTES].copy_from_slice(&head.concat());
        let hash = ContentHash::of(&[&self.bytes[HASH_BYTES..]]);
        self.bytes[..HASH_BYTES].copy_from_slice(&hash.0[..HASH_BYTES]);
        self.bytes
    }
}

/// Where a piece stands in a file.
#[derive(Clone, Copy, Debug)]
struct Place {
    kind: Kind,
    from: u64,
    blocks: u64,
    /// Of its samples.
    at: u64,
}

/// What one life heard, from its first tick on.
#[derive(Debug)]
pub struct HeardLife {
    file: File,
    places: Vec<Place>,
    /// The piece that was read last, and its samples.
    current: usize,
    samples: Vec<u8>,
    /// Index of the piece that `samples` are of.
    loaded: Option<usize>,
}

impl HeardLife {
    /// Finds in the file of a recording what a life heard, up to the first tick that is not there.
    pub fn find(path: &Path, id: &str, life: usize) -> Result<Self, HeardError> {
        let failed = |source| HeardError::Read { path: path.to_owned(), source };
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
        let expected = first_line(id);
        let mut first = vec![0; expected.len()];
        let is_long_enough = read_whole(&mut reader, &mut first).map_err(failed)?;
        if !is_long_enough || !first.starts_with(MAGIC.as_bytes()) {
            return Err(HeardError::Foreign(path.to_owned()));
        }
        if first != expected {
            return Err(HeardError::OtherRecording(path.to_owned()));
        }
        let (mut places, mut at, mut end) = (Vec::new(), first.len() as u64, 0);
        while let Some((found, place)) = next_piece(&mut reader, &mut at).map_err(failed)? {
            if found as usize == life && place.from == end {
                end += place.blocks;
                places.push(place);
            }
        }
        let file = reader.into_inner();
        Ok(Self { file, places, current: 0, samples: Vec::new(), loaded: None })
    }

    /// The first tick of which it is not known what was heard.
    pub fn end(&self) -> u64 {
        self.places.last().map_or(0, |place| place.from + place.blocks)
    }

    /// What was heard in a tick: after the end silence. Ticks are asked for in order.
    pub fn block(&mut self, tick: u64) -> io::Result<Block> {
        let mut block = SILENCE;
        while self.places.get(self.current).is_some_and(|place| place.from + place.blocks <= tick) {
            self.current += 1;
        }
        let Some(place) = self.places.get(self.current).copied().filter(|place| place.from <= tick) else { return Ok(block) };
        let channels = place.kind.channels();
        if channels == 0 {
            return Ok(block);
        }
        if self.loaded != Some(self.current) {
            self.samples.resize(place.blocks as usize * channels * CHANNEL_BYTES, 0);
            self.file.read_exact_at(&mut self.samples, place.at)?;
            self.loaded = Some(self.current);
        }
        let bytes = self.samples.chunks_exact(CHANNEL_BYTES).skip((tick - place.from) as usize * channels).take(channels);
        for (samples, bytes) in block.iter_mut().zip(bytes) {
            for (sample, bytes) in samples.iter_mut().zip(bytes.as_chunks().0) {
                *sample = f32::from_bits(u32::from_le_bytes(*bytes));
            }
        }
        if channels == 1 {
            block[1] = block[0];
        }
        Ok(block)
    }
}

/// Reads the next piece: its life, and its place. `None` at the end, or where the file is torn.
fn next_piece(reader: &mut impl Read, at: &mut u64) -> io::Result<Option<(u32, Place)>> {
    let mut head = [0; HEAD_BYTES];
    if !read_whole(reader, &mut head)? {
        return Ok(None);
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let (life, from, blocks) = (word(8), long(16), long(24));
    let Some(kind) = Kind::parse(word(12)) else { return Ok(None) };
    let most = if kind == Kind::Silence { LAST_TICK } else { MAX_SOUNDING_BLOCKS };
    if blocks == 0 || blocks > most || from > LAST_TICK {
        return Ok(None);
    }
    let mut samples = vec![0; kind.channels() * if kind == Kind::Silence { 0 } else { blocks as usize * CHANNEL_BYTES }];
    if !read_whole(reader, &mut samples)? || ContentHash::of(&[&head[HASH_BYTES..], &samples]).0[..HASH_BYTES] != head[..HASH_BYTES] {
        return Ok(None);
    }
    let place = Place { kind, from, blocks, at: *at + HEAD_BYTES as u64 };
    *at = place.at + samples.len() as u64;
    Ok(Some((life, place)))
}

/// Fills the buffer; false where the file ends before that.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn block(left: f32, right: f32) -> Block {
        [[left; BLOCK_FRAMES], [right; BLOCK_FRAMES]]
    }

    /// What tick `tick` of life 3 heard: silence, the same on both sides, both sides.
    fn sound(tick: u64) -> Block {
        match tick {
            0..100 => SILENCE,
            100..150 => block(-0.0, -0.0),
            150..200 => block(f32::from_bits(0x7fc1_2345), 0.5),
            _ => block(tick as f32, -(tick as f32)),
        }
    }

    /// Pieces of these ticks of life 3.
    fn pieces(ticks: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        let mut pieces: Vec<Piece> = Vec::new();
        for tick in ticks {
            let kind = Kind::of(&sound(tick));
            if !pieces.last().is_some_and(|piece| piece.takes(kind)) {
                pieces.push(Piece::begin(3, kind, tick));
            }
            pieces.last_mut().unwrap().push(&sound(tick));
        }
        pieces.into_iter().map(Piece::into_bytes).collect()
    }

    fn file(folder: &tempfile::TempDir, pieces: &[Vec<u8>]) -> PathBuf {
        let path = folder.path().join("take.continuo.heard");
        std::fs::write(&path, [first_line(ID), pieces.concat()].concat()).unwrap();
        path
    }

    fn bits(block: &Block) -> Vec<u32> {
        block.iter().flatten().map(|sample| sample.to_bits()).collect()
    }

    #[track_caller]
    fn hears_as_recorded(life: &mut HeardLife) {
        for tick in 0..life.end() {
            assert_eq!(bits(&life.block(tick).unwrap()), bits(&sound(tick)), "tick {tick}");
        }
    }

    #[test]
    fn what_was_heard_comes_back_bit_for_bit_and_silence_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut others = vec![Piece::silence(2, 0, 7).into_bytes()];
        let own = pieces(0..600);
        assert_eq!(own[0].len(), HEAD_BYTES, "silence");
        assert_eq!(own[1].len(), HEAD_BYTES + 50 * CHANNEL_BYTES, "one side");
        others.extend(own);
        let mut life = HeardLife::find(&file(&folder, &others), ID, 3).unwrap();
        assert_eq!(life.end(), 600);
        hears_as_recorded(&mut life);
        assert_eq!(bits(&life.block(600).unwrap()), bits(&SILENCE), "behind the end");
        assert_eq!(HeardLife::find(&folder.path().join("take.continuo.heard"), ID, 2).unwrap().end(), 7);
    }

    #[test]
    fn what_is_torn_or_missing_is_known_up_to_there_and_never_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = pieces(0..600);
        let bytes: usize = all.iter().map(Vec::len).sum();
        let path = file(&folder, &all);
        let whole = std::fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(whole - 1).unwrap();
        let mut torn = HeardLife::find(&path, ID, 3).unwrap();
        assert_eq!(torn.end(), 598, "the last piece of {bytes} bytes is not whole");
        hears_as_recorded(&mut torn);
        all.remove(4);
        assert_eq!(HeardLife::find(&file(&folder, &all), ID, 3).unwrap().end(), 278, "a piece is missing");
        assert_eq!(HeardLife::find(&path, ID, 9).unwrap().end(), 0, "a life that is not there");
    }

    #[test]
    fn another_recordings_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, &pieces(0..10));
        assert!(matches!(HeardLife::find(&path, "fedcba9876543210", 3), Err(HeardError::OtherRecording(_))));
        std::fs::write(&path, "RIFF").unwrap();
        assert!(matches!(HeardLife::find(&path, ID, 3), Err(HeardError::Foreign(_))));
        assert!(matches!(HeardLife::find(folder.path(), ID, 3), Err(HeardError::Read { .. })));
    }

    /// What stands before the damage is read, nothing else is, and nothing is reserved for what a number says.
    #[test]
    fn heard() {
        let folder = tempfile::tempdir().unwrap();
        let whole = pieces(90..152);
        let path = folder.path().join("fuzzed.heard");
        let seed = [&Piece::silence(3, 0, 90).into_bytes(), &whole.concat()[..]].concat();
        let target = fuzz::Target {
            name: "heard",
            seeds: vec![[vec![0], seed.clone()].concat(), [vec![1], seed].concat()],
            words: &["\u{3}\0\0\0", "\u{1}\0\0\0", "\u{2}\0\0\0"],
            max_bytes: 48 << 10,
            cases: 1_000,
            cpu: std::time::Duration::from_secs(2),
            bytes: 4 << 20,
            bytes_per_byte: 100,
        };
        target.run(|input| {
            let Some((kind, bytes)) = input.split_first() else { return };
            let mut bytes = bytes.to_vec();
            if kind % 2 == 1 && bytes.len() > HASH_BYTES {
                // A damaged piece with the right hash.
                let hash = ContentHash::of(&[&bytes[HASH_BYTES..]]);
                bytes[..HASH_BYTES].copy_from_slice(&hash.0[..HASH_BYTES]);
            }
            std::fs::write(&path, [first_line(ID), bytes].concat()).unwrap();
            let Ok(mut life) = HeardLife::find(&path, ID, 3) else { return };
            for tick in [0, 1, 90, 128, life.end().saturating_sub(1), life.end()] {
                life.block(tick).unwrap();
            }
        });
    }
}
