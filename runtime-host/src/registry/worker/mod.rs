//! The runtime type `worker`: calls `main` so many times a second, and delivers nothing (LANGUAGE §20.5).

use super::schema::{ConfigKey, ValueKind};
use super::{RuntimeType, timer};

const SAMPLE_RATE: &str = "workerRuntime.sampleRate";

pub const TYPE: RuntimeType = RuntimeType {
    id: "worker",
    aliases: &["WebWorkerRuntime"],
    config: &[ConfigKey { path: SAMPLE_RATE, kind: ValueKind::NumberAtLeast(1.0) }],
    sample_rate_key: SAMPLE_RATE,
    default_sample_rate_hz: 50,
    ..timer::BASE
};
