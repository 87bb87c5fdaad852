//! Artifacts whose segment has the right hash and whose content is anything: what a worker gone wrong would publish.

use std::time::Duration;

use fuzz::Target;
use ipc::artifact::Artifact;
use ipc::hash::ContentHash;
use ipc::limits::MAX_MESSAGE_BYTES;
use ipc::segment::{Segment, SegmentKind, Session};

use crate::programs;

/// The lengths of the sections, at the start of the payload.
const INDEX_BYTES: usize = 40;

/// The payload of an artifact as it is published.
fn payload(artifact: &Artifact, session: &Session) -> Vec<u8> {
    let segment = artifact.publish(session.id(), 1).expect("an artifact can be published");
    ipc::segment::read_checked(segment.reference(), usize::MAX).expect("it can be read")
}

fn check(session: &Session, payload: &[u8]) {
    let segment = Segment::publish(session.id(), SegmentKind::Artifact, 1, &[payload]).expect("there is room");
    let Ok(artifact) = Artifact::read(segment.reference()) else { return };
    let again = artifact.publish(session.id(), 1).expect("what was read can be published");
    let read = Artifact::read(again.reference()).expect("what was published can be read");
    assert_eq!(read.wasm, artifact.wasm);
    assert_eq!(read.manifest.modules, artifact.manifest.modules);
}

#[test]
fn artifact() {
    let session = Session::open().expect("a session");
    let mut whole = programs::artifact();
    whole.native = vec![0x7f, b'E', b'L', b'F'];
    let mut named = whole.clone();
    named.manifest.revision = ContentHash::of(&[b"another"]);
    let mut empty = whole.clone();
    (empty.wasm, empty.image, empty.manifest.modules, empty.manifest.source_map) = Default::default();
    let target = Target {
        name: "artifact",
        seeds: [&whole, &named, &empty].map(|artifact| payload(artifact, &session)).to_vec(),
        words: &["8f4e/v1", "osc", "\0\0\0\0\0\0\0\0"],
        max_bytes: 64 << 10,
        cases: 12_000,
        cpu: Duration::from_secs(2),
        bytes: MAX_MESSAGE_BYTES as u64 + (1 << 20),
        bytes_per_byte: 400,
    };
    assert!(target.seeds.iter().all(|seed| seed.len() > INDEX_BYTES));
    target.run(|input| check(&session, input));
}
