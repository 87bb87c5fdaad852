//! The runtime type `main`: as `worker`, at the rate of a screen. In the reference it runs on the browser's main thread;
//! here it has a tick thread of its own like every other type.

use super::schema::{ConfigKey, ValueKind};
use super::{RuntimeType, timer};

const SAMPLE_RATE: &str = "mainThreadRuntime.sampleRate";

pub const TYPE: RuntimeType = RuntimeType {
    id: "main",
    aliases: &["MainThreadRuntime"],
    config: &[ConfigKey { path: SAMPLE_RATE, kind: ValueKind::NumberAtLeast(1.0) }],
    sample_rate_key: SAMPLE_RATE,
    // A program that sets the rate gets what LANGUAGE §20.2 says. One that does not gets the default of DESIGN §8, which
    // is Continuo's own; the reference would run it at 50.
    default_sample_rate_hz: 60,
    ..timer::BASE
};
