//! Artifacts that are damaged, of the wrong kind, or want what a host does not give.

use std::path::{Path, PathBuf};

use ipc::artifact::Artifact;
use ipc::segment::{SegmentRef, Session};
use runtime_host::host::engine::{FunctionImports, LoadError, Loader};

use crate::fixture::{Assist, Folder};
use crate::harness::Host;

fn path_of(reference: &SegmentRef) -> PathBuf {
    Path::new("/dev/shm").join(&reference.name)
}

/// A small generator with a printable seed (SplitMix64).
struct Random(u64);

impl Random {
    /// The seed comes from `CONTINUO_SEED`, or else from the clock; it is printed, so that a failure can be repeated.
    fn new() -> Self {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        let seed = std::env::var("CONTINUO_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(clock);
        println!("CONTINUO_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Refused by `Artifact::read`, and so before anything native is looked at.
fn is_refused_as_damaged(loader: &Loader, reference: &SegmentRef) -> bool {
    match loader.load(reference) {
        Err(error @ LoadError::Artifact(_)) => error.to_refusal().is_damaged,
        Err(_) | Ok(_) => false,
    }
}

#[test]
fn a_damaged_artifact_never_reaches_its_native_code() {
    let session = Session::open().unwrap();
    let segment = Assist::sounding().artifact().publish(session.id(), 1).unwrap();
    let (reference, path) = (segment.reference().clone(), path_of(segment.reference()));
    let good = std::fs::read(&path).unwrap();
    let loader = Loader::new().unwrap();
    let mut random = Random::new();
    for flip in 0..400 {
        let bit = random.below(good.len() as u64 * 8) as usize;
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bad).unwrap();
        assert!(is_refused_as_damaged(&loader, &reference), "flip {flip}: bit {bit}");
    }
    std::fs::write(&path, &good).unwrap();
    assert!(loader.load(&reference).is_ok(), "undamaged it loads");
}

#[test]
fn a_truncated_artifact_is_refused() {
    let session = Session::open().unwrap();
    let artifact = Assist::sounding().artifact();
    let segment = artifact.publish(session.id(), 1).unwrap();
    let (reference, path) = (segment.reference().clone(), path_of(segment.reference()));
    let good = std::fs::read(&path).unwrap();
    let loader = Loader::new().unwrap();
    // Nothing, inside and after the header, inside and after the index, where the native code begins, and near the end.
    let native_at = good.len() - artifact.native.len();
    let wasm_at = native_at - artifact.wasm.len();
    let lengths = [0, 1, 31, 63, 64, 65, 103, 104, 105, wasm_at, native_at - 1, native_at, native_at + 1, good.len() - 1];
    for length in lengths {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(is_refused_as_damaged(&loader, &reference), "length {length}");
    }
    let longer = [&good[..], &[0]].concat();
    std::fs::write(&path, longer).unwrap();
    assert!(is_refused_as_damaged(&loader, &reference), "one byte too many");
}

#[test]
fn a_host_says_that_a_damaged_artifact_is_worth_another_compile() {
    let mut host = Host::start();
    let reference = host.publish(&Assist::sounding().artifact());
    let path = path_of(&reference);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (lane, _reader) = host.lane();
    host.send(ipc::message::HostRequest::Start(crate::harness::start(reference, Some(lane), "audio", 48_000)));
    let refusal = host.wait_for_refusal();
    assert!(refusal.is_damaged && refusal.message.contains("hash"), "{}", refusal.message);
}

fn refusal_of(artifact: &Artifact) -> ipc::message::Refusal {
    match Loader::new().unwrap().load_checked(artifact, FunctionImports::Refused) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_refusal(),
    }
}

#[test]
fn a_function_import_is_refused_with_its_name_and_line() {
    let refusal = refusal_of(&Assist { import: Some("sendMail"), ..Assist::sounding() }.artifact());
    assert_eq!((refusal.line, refusal.is_damaged), (Some(3), false));
    assert!(refusal.message.contains("`host.sendMail`"), "{}", refusal.message);
}

#[test]
fn code_and_manifest_must_fit_together() {
    let mut artifact = Assist::sounding().artifact();
    artifact.manifest.memories[0].pages = 2;
    assert!(refusal_of(&artifact).message.contains("`memory` differs"));
    let mut artifact = Assist::sounding().artifact();
    artifact.manifest.exports[1].name = "ghost".into();
    assert!(refusal_of(&artifact).message.contains("`ghost` is missing"));
    let mut artifact = Assist::sounding().artifact();
    artifact.manifest.memories.push(artifact.manifest.memories[0].clone());
    assert!(refusal_of(&artifact).message.contains("is not imported"));
}

#[test]
fn an_artifact_without_native_code_or_of_another_build_is_refused() {
    let artifact = Artifact { native: Vec::new(), ..Assist::sounding().artifact() };
    assert!(refusal_of(&artifact).message.contains("no native code"));
    let mut config = ipc::engine::engine_config();
    config.epoch_interruption(true);
    let artifact = Assist::sounding().artifact();
    let native = wasmtime::Engine::new(&config).unwrap().precompile_module(&artifact.wasm).unwrap();
    assert!(refusal_of(&Artifact { native, ..artifact }).message.contains("of one build"));
}

#[test]
fn a_program_with_too_much_memory_is_refused() {
    let mut artifact = Assist::sounding().artifact();
    artifact.manifest.memories[0].pages = 1 << 40;
    let message = refusal_of(&artifact).message;
    assert!(message.contains("differs") || message.contains("limit"), "{message}");
}

#[test]
fn the_rehearsal_of_a_trap_does_trap() {
    assert!(Loader::rehearse_trap(&Assist::sounding().artifact()));
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let folder = Folder::new("missing-segment");
    let session = Session::open().unwrap();
    let mut segment = Assist::sounding().artifact().publish(session.id(), 1).unwrap();
    let reference = segment.reference().clone();
    segment.unlink();
    let error = Loader::new().unwrap().load(&reference).err().unwrap();
    assert!(error.to_string().contains(&reference.name), "{error} {}", folder.0.display());
}
