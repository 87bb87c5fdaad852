//! Manifests that no compiler writes: the worker is another process, and what it says must not be able to end the supervisor.

use std::time::Duration;

use fuzz::{Random, Target, arbitrary};
use ipc::artifact::DefaultBytes;
use ipc::codec;
use ipc::manifest::Manifest;

use super::super::{Context, Revision, RuntimeFacts, classify, plan, plan_back};

type Pair = (Manifest, Vec<DefaultBytes>, Manifest, Vec<DefaultBytes>);

fn check(input: &[u8]) {
    let Ok((old_manifest, old_image, new_manifest, new_image)) = codec::decode::<Pair>(input) else { return };
    let facts = RuntimeFacts { runtime_type: "audio", sample_rate_hz: 48_000 };
    let context = Context { old: facts, new: facts };
    let old = Revision { manifest: &old_manifest, image: &old_image };
    let new = Revision { manifest: &new_manifest, image: &new_image };
    classify(old, new, &context);
    plan(old, new);
    plan_back(old, new);
}

#[test]
fn manifests() {
    let random = &mut Random::new(3);
    let mut seeds = arbitrary::encodings::<Pair>(40, random, |pair| codec::encode(pair).ok());
    let alike = |manifest: &Manifest| (manifest.clone(), Vec::<DefaultBytes>::new(), manifest.clone(), Vec::<DefaultBytes>::new());
    seeds.extend(arbitrary::encodings::<Manifest>(40, random, |manifest| codec::encode(&alike(manifest)).ok()));
    let target = Target {
        name: "manifests",
        seeds,
        words: &["\u{fc}\u{ff}\u{ff}\u{ff}\u{ff}", "drums", "osc:phase"],
        max_bytes: 16 << 10,
        cases: 30_000,
        cpu: Duration::from_secs(2),
        bytes: 8 << 20,
        bytes_per_byte: 1_000,
    };
    target.run(check);
}
