//! Names the build: a hash over the sources of all crates, the lock file and how they are compiled, so that two processes can tell
//! whether they stem from the same one (`ipc::channel::Hello`). The same sources, compiled in the same way, give the same name on
//! every machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What the build is made of, relative to the workspace. Tests and benches do not count.
const PARTS: [&str; 6] = ["Cargo.toml", "Cargo.lock", "ipc", "compiler-worker", "runtime-host", "supervisor"];
/// Folders in them that are not part of the binary.
const LEFT_OUT: [&str; 3] = ["tests", "benches", "target"];
/// What Cargo says of how the binary is compiled: of one source, each makes another one.
const SETTINGS: [&str; 6] = ["TARGET", "PROFILE", "OPT_LEVEL", "DEBUG", "CARGO_ENCODED_RUSTFLAGS", "CARGO_CFG_TARGET_FEATURE"];

fn main() {
    let workspace = PathBuf::from("..");
    let mut files = Vec::new();
    for part in PARTS {
        println!("cargo::rerun-if-changed=../{part}");
        collect(&workspace.join(part), &mut files);
    }
    files.sort();
    let sources = files.iter().map(|file| (file.to_string_lossy().into_owned(), fs::read(file).unwrap_or_default()));
    let settings = SETTINGS.map(|name| (name.to_owned(), env::var(name).unwrap_or_default().into_bytes()));
    println!("cargo::rustc-env=CONTINUO_BUILD={}-{:016x}", env!("CARGO_PKG_VERSION"), identity(sources.chain(settings)));
}

/// A number for all of these, each with its name.
fn identity(parts: impl IntoIterator<Item = (String, Vec<u8>)>) -> u64 {
    let mut hash = Fnv::new();
    for (name, content) in parts {
        hash.add(name.as_bytes());
        hash.add(&content);
    }
    hash.0
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        return files.push(path.to_owned());
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !LEFT_OUT.contains(&&*name) {
            collect(&entry.path(), files);
        }
    }
}

/// FNV-1a, 64 bits: an identity, not a protection.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        // The length keeps the end of one part and the start of the next apart.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_sources_with_another_profile_are_another_build() {
        let compiled = |profile: &str| {
            let parts = [("lib.rs", "fn main() {}"), ("PROFILE", profile)];
            identity(parts.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec())))
        };
        assert_ne!(compiled("debug"), compiled("release"));
        assert_eq!(compiled("debug"), compiled("debug"));
        assert!(SETTINGS.contains(&"PROFILE") && SETTINGS.contains(&"OPT_LEVEL"));
    }
}
