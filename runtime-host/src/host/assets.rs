//! Binary assets: files whose bytes a program wants in its memory (`@config bin.<id>.…`, LANGUAGE §20.6), from an offset on
//! where it says one.
//!
//! Read on the control thread after initialisation. Whatever the file is, at most the item's own bytes are read of it; a pipe
//! or a device is never waited for.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipc::artifact::DefaultBytes;
use ipc::hash::ContentHash;
use ipc::limits::MAX_ASSET_BYTES;
use ipc::message::Refusal;
use ipc::plan::{CopyRange, MigrationPlan, Place};

use super::engine::Engine;
use crate::registry::Settings;
use crate::registry::settings::{Asset, AssetTarget};

/// Why an asset could not be loaded. Every variant's message names the file or url.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    #[error("the asset `{id}` is at `{url}`, which is not a file; download it and give its path")]
    NotAFileUrl { id: String, url: String },
    #[error("the asset `{id}` cannot be read from {}: {source}", path.display())]
    Unreadable { id: String, path: PathBuf, source: std::io::Error },
    #[error("the asset `{id}` at {} is not a regular file", path.display())]
    NotRegular { id: String, path: PathBuf },
    #[error("the asset `{id}` at {} has {bytes} bytes, and is to be read from byte {offset} on", path.display())]
    TooShort { id: String, path: PathBuf, bytes: u64, offset: u64, line: Option<u32> },
}

impl AssetError {
    /// The refusal to answer the supervisor with, with the line that is to blame: of `asset`, the one that gives the url, or
    /// that of an offset.
    pub fn to_refusal(&self, asset: &Asset) -> Refusal {
        let line = match self {
            Self::TooShort { line, .. } => line.unwrap_or(asset.line),
            Self::NotAFileUrl { .. } | Self::Unreadable { .. } | Self::NotRegular { .. } => asset.line,
        };
        Refusal { message: self.to_string(), line: Some(line), is_damaged: false, is_machine: false }
    }
}

/// Sizes in bytes of a program's assets, for its environment constants. Relative paths start from `base_directory`.
pub fn sizes(settings: &Settings, base_directory: &Path) -> Result<Vec<(String, u64)>, Refusal> {
    let size = |asset: &Asset| {
        let bytes = open(asset, base_directory).map_err(|e| e.to_refusal(asset))?.1;
        Ok((asset.id.clone(), bytes))
    };
    settings.assets().iter().map(size).collect()
}

/// What tells one state of a file from another without reading it: device, inode, length in bytes, time of its last change
/// in nanoseconds.
pub type Stamp = (u64, u64, u64, i128);

/// A file that a program wants in an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub path: PathBuf,
    pub stamp: Stamp,
    /// Bytes of it that are passed over.
    pub offset: u64,
    /// Where its bytes go, and how many at most.
    pub place: Place,
    pub bytes: u64,
}

/// Every file of a program, once for each item that it goes into. Files that are not there are left out: loading them fails.
pub fn wanted(settings: &Settings, base_directory: &Path) -> Vec<Wanted> {
    let mut found = Vec::new();
    for asset in settings.assets() {
        let Some(path) = path_of(&asset.url).map(|path| base_directory.join(path)) else { continue };
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let changed_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let stamp = (metadata.dev(), metadata.ino(), metadata.len(), changed_ns);
        found.extend(asset.targets.iter().map(|AssetTarget { target, offset, .. }| Wanted {
            path: path.clone(),
            stamp,
            offset: *offset,
            place: Place { memory: target.memory, address: target.byte_address },
            bytes: target.bytes(),
        }));
    }
    found
}

/// Loads every asset of the program into the items that it names.
pub fn load(engine: &mut Engine, settings: &Settings, base_directory: &Path) -> Result<(), Refusal> {
    engine.write_rt(&read_all(settings, base_directory)?);
    Ok(())
}

/// Reads every asset of the program: the bytes that each of its items is to get.
pub fn read_all(settings: &Settings, base_directory: &Path) -> Result<Vec<DefaultBytes>, Refusal> {
    let mut parts = Vec::new();
    for asset in settings.assets() {
        parts.extend(read(&asset, base_directory).map_err(|e| e.to_refusal(&asset))?);
    }
    Ok(parts)
}

/// Bytes of a file that are in a program's memory, or were written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    place: Place,
    bytes: u32,
    content: ContentHash,
}

/// What it means to write these parts.
pub fn loaded(parts: &[DefaultBytes]) -> Vec<Loaded> {
    let loaded = |part: &DefaultBytes| Loaded {
        place: Place { memory: part.memory, address: part.address },
        bytes: part.bytes.len() as u32,
        content: ContentHash::of(&[&part.bytes]),
    };
    parts.iter().map(loaded).collect()
}

/// The parts that an edit has to write: those whose bytes are not carried over from where the same bytes have been loaded
/// before. What the program has made of these since is state like any other, and is not overwritten by a file that has not
/// changed (DESIGN §9).
pub fn to_write(parts: Vec<DefaultBytes>, before: &[Loaded], plan: &MigrationPlan, keeps_memory: bool) -> Vec<DefaultBytes> {
    let is_carried = |old: &Loaded, new: &Loaded| match keeps_memory {
        true => old.place == new.place,
        false => plan.copies.iter().any(|copy| carries(copy, old, new)),
    };
    let is_there = |part: &DefaultBytes| {
        let new = loaded(std::slice::from_ref(part));
        new.iter().any(|new| {
            let is_same = |old: &&Loaded| old.bytes == new.bytes && old.content == new.content;
            before.iter().filter(is_same).any(|old| is_carried(old, new))
        })
    };
    parts.into_iter().filter(|part| !is_there(part)).collect()
}

fn carries(copy: &CopyRange, old: &Loaded, new: &Loaded) -> bool {
    let offset = old.place.address.wrapping_sub(copy.from.address);
    old.place.memory == copy.from.memory
        && u64::from(offset) + u64::from(old.bytes) <= u64::from(copy.bytes)
        && new.place == (Place { address: copy.to.address.wrapping_add(offset), ..copy.to })
}

/// Reads of the file what each of its items holds. All of it comes from one file, whatever happens to its name meanwhile; of
/// one that is cut off while it is read, what is left.
fn read(asset: &Asset, base_directory: &Path) -> Result<Vec<DefaultBytes>, AssetError> {
    let (file, size, path) = open(asset, base_directory)?;
    let part = |AssetTarget { target, offset, .. }: &AssetTarget| {
        let length = size.saturating_sub(*offset).min(target.bytes()).min(MAX_ASSET_BYTES) as usize;
        let bytes = read_at(&file, *offset, length);
        let bytes = bytes.map_err(|source| AssetError::Unreadable { id: asset.id.clone(), path: path.clone(), source })?;
        Ok(DefaultBytes { memory: target.memory, address: target.byte_address, bytes })
    };
    asset.targets.iter().map(part).collect()
}

/// At most `length` bytes from `offset` on.
fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Opens the file; returns it with its size in bytes and its path. Anything but a regular file is refused: before it is opened,
/// because opening a device may do something, and afterwards, because another one may have the name by then. Nothing is waited
/// for: a pipe is opened without its other end.
fn open(asset: &Asset, base_directory: &Path) -> Result<(File, u64, PathBuf), AssetError> {
    let path = path_of(&asset.url).ok_or_else(|| AssetError::NotAFileUrl { id: asset.id.clone(), url: asset.url.clone() })?;
    let path = base_directory.join(path);
    let unreadable = |source| AssetError::Unreadable { id: asset.id.clone(), path: path.clone(), source };
    let not_regular = || AssetError::NotRegular { id: asset.id.clone(), path: path.clone() };
    if !std::fs::metadata(&path).map_err(unreadable)?.is_file() {
        return Err(not_regular());
    }
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    let bytes = metadata.len();
    if let Some(AssetTarget { offset, offset_line: line, .. }) = asset.targets.iter().find(|target| target.offset > bytes) {
        return Err(AssetError::TooShort { id: asset.id.clone(), path, bytes, offset: *offset, line: *line });
    }
    Ok((file, bytes, path))
}

/// The path that a url stands for: a plain path is itself, a `file:` url its decoded path, any other scheme is none.
fn path_of(url: &str) -> Option<PathBuf> {
    if let Some(rest) = url.strip_prefix("file://") {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        return path.starts_with('/').then(|| percent_decoded(path)).flatten();
    }
    (!has_scheme(url)).then(|| PathBuf::from(url))
}

fn has_scheme(url: &str) -> bool {
    let scheme = url.split_once(':').map(|(scheme, rest)| (scheme, rest.starts_with("//") || scheme.eq_ignore_ascii_case("data")));
    scheme.is_some_and(|(scheme, marks)| marks && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')))
}

fn percent_decoded(path: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => u8::try_from(hex(rest.next()?)? * 16 + hex(rest.next()?)?).ok()?,
            other => other,
        });
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

fn hex(digit: u8) -> Option<u32> {
    char::from(digit).to_digit(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(copies: Vec<CopyRange>) -> MigrationPlan {
        let hash = ContentHash::of(&[b"any"]);
        let (relocations, targets, patches, pointers, resets) = Default::default();
        MigrationPlan { from: hash, to: hash, copies, relocations, targets, patches, pointers, resets, reruns_init_only: false }
    }

    #[test]
    fn bytes_of_a_file_are_written_where_they_are_new_and_nowhere_else() {
        let part = |address, bytes: &[u8]| DefaultBytes { memory: 0, address, bytes: bytes.to_vec() };
        let place = |address| Place { memory: 0, address };
        let before = loaded(&[part(64, b"kick"), part(128, b"snare")]);
        let copies = |from, to, bytes| plan(vec![CopyRange { from: place(from), to: place(to), bytes }]);
        let written = |part: DefaultBytes, plan: &MigrationPlan| to_write(vec![part], &before, plan, false).len();
        assert_eq!(written(part(96, b"kick"), &copies(60, 92, 8)), 0, "it moved with its item");
        assert_eq!(written(part(96, b"kick"), &copies(60, 92, 7)), 1, "its item was cut off");
        assert_eq!(written(part(96, b"kick"), &copies(60, 88, 8)), 1, "another item is there now");
        assert_eq!(written(part(96, b"kack"), &copies(60, 92, 8)), 1, "the file has changed");
        assert_eq!(to_write(vec![part(64, b"kick"), part(128, b"share")], &before, &plan(Vec::new()), true), [part(128, b"share")]);
    }

    #[test]
    fn paths_and_file_urls_are_files_and_the_rest_is_not() {
        let cases = [
            ("samples/kick.raw", Some("samples/kick.raw")),
            ("/abs/kick.raw", Some("/abs/kick.raw")),
            ("odd:name.raw", Some("odd:name.raw")),
            ("file:///a%20b/c.raw", Some("/a b/c.raw")),
            ("file://localhost/c.raw", Some("/c.raw")),
            ("file://elsewhere/c.raw", None),
            ("file:///broken%2", None),
            ("https://example.org/kick.raw", None),
            ("HTTP://example.org/kick.raw", None),
            ("data:application/octet-stream;base64,AAAA", None),
        ];
        for (url, path) in cases {
            assert_eq!(path_of(url), path.map(PathBuf::from), "{url}");
        }
    }
}
