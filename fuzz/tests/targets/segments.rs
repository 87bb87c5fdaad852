//! Files in shared memory that are not what was announced: cut, grown, with another header or another content.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fuzz::Target;
use ipc::segment::{HEADER_BYTES, Segment, SegmentKind, Session, read_checked};

#[test]
fn segment_headers() {
    let session = Session::open().expect("a session");
    let segment = Segment::publish(session.id(), SegmentKind::Artifact, 3, &[b"the content"]).expect("there is room");
    let reference = segment.reference().clone();
    let path = Path::new("/dev/shm").join(&reference.name);
    let good = fs::read(&path).expect("the segment has a file");
    let lane = ipc::lane::create(session.id(), 3).expect("there is room");
    let other = fs::read(Path::new("/dev/shm").join(&lane.reference().name)).expect("the lane has a file")[..HEADER_BYTES].to_vec();
    let target = Target {
        name: "segment_headers",
        seeds: vec![good.clone(), other],
        words: &["CONTINUO", "\u{1}\0\0\0", "\u{3}\0\0\0\0\0\0\0"],
        max_bytes: 4 << 10,
        cases: 20_000,
        cpu: Duration::from_secs(2),
        bytes: 1 << 20,
        bytes_per_byte: 16,
    };
    // The mapping of `segment` is never touched: cutting its file would make that a bus error.
    target.run(|input| {
        fs::write(&path, input).expect("the file can be written");
        let read = read_checked(&reference, 1 << 20);
        assert_eq!(read.is_ok(), input == good, "only what was announced is believed");
        let opened = Segment::open(&reference);
        let is_right = input.len() == good.len() && input[..32] == good[..32];
        assert_eq!(opened.is_ok(), is_right, "a mapping has the length, kind and generation that were announced");
    });
}
