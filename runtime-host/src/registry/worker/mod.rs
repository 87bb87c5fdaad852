//! The runtime type `worker`: calls `main` so many times a second, and delivers nothing (LANGUAGE §20.5).

use ipc::limits::TIMER_RATE_RANGE_HZ;

use super::schema::{ConfigKey, ValueKind};
use super::{RuntimeType, timer};
use crate::realtime::TIMER_PRIORITY;

const SAMPLE_RATE: &str = "workerRuntime.sampleRate";

pub const TYPE: RuntimeType = RuntimeType {
    id: "worker",
    aliases: &["WebWorkerRuntime"],
    config: &[ConfigKey { path: SAMPLE_RATE, kind: ValueKind::NumberAtLeast(1.0) }],
    sample_rate_key: SAMPLE_RATE,
    default_sample_rate_hz: 50,
    sample_rate_range_hz: TIMER_RATE_RANGE_HZ,
    constants: &[],
    flushes_denormals: false,
    priority: TIMER_PRIORITY,
    tick_export: "main",
    bind: timer::bind,
    build: timer::build,
};
