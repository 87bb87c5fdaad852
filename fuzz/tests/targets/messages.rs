//! What processes send each other: bytes of a peer that may be damaged or of another build.

use std::time::Duration;

use fuzz::{Random, Target, arbitrary};
use ipc::codec;
use ipc::limits::MAX_MESSAGE_BYTES;
use ipc::message::{DeviceReply, DeviceRequest, HostReply, HostRequest, WorkerReply, WorkerRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Made-up messages of each kind to begin with.
const SEEDS_PER_KIND: usize = 24;

/// The kinds, by the first byte of an input.
const KINDS: u8 = 6;

/// Reads a message, and writes it again: what was understood must be understood in the same way the next time.
fn read_and_write<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = codec::decode::<T>(bytes) else { return };
    let written = codec::encode(&message).expect("what was read can be written");
    let again: T = codec::decode(&written).expect("what was written can be read");
    assert_eq!(codec::encode(&again).expect("it can be written twice"), written);
}

fn check(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % KINDS {
        0 => read_and_write::<WorkerRequest>(bytes),
        1 => read_and_write::<WorkerReply>(bytes),
        2 => read_and_write::<HostRequest>(bytes),
        3 => read_and_write::<HostReply>(bytes),
        4 => read_and_write::<DeviceRequest>(bytes),
        _ => read_and_write::<DeviceReply>(bytes),
    }
}

fn seeds_of<T: Serialize + DeserializeOwned>(kind: u8, random: &mut Random) -> Vec<Vec<u8>> {
    let encoded = arbitrary::encodings::<T>(SEEDS_PER_KIND, random, |message| codec::encode(message).ok());
    encoded.into_iter().map(|bytes| [vec![kind], bytes].concat()).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let random = &mut Random::new(1);
    [
        seeds_of::<WorkerRequest>(0, random),
        seeds_of::<WorkerReply>(1, random),
        seeds_of::<HostRequest>(2, random),
        seeds_of::<HostReply>(3, random),
        seeds_of::<DeviceRequest>(4, random),
        seeds_of::<DeviceReply>(5, random),
    ]
    .concat()
}

#[test]
fn ipc_messages() {
    let target = Target {
        name: "ipc_messages",
        seeds: seeds(),
        words: &["continuo-", "audio", "\u{fb}\u{ff}\u{ff}"],
        max_bytes: 64 << 10,
        cases: 60_000,
        cpu: Duration::from_secs(2),
        bytes: MAX_MESSAGE_BYTES as u64 + (1 << 20),
        bytes_per_byte: 400,
    };
    assert_eq!(target.seeds.len(), SEEDS_PER_KIND * usize::from(KINDS), "no message refuses to be made up");
    target.run(check);
}
