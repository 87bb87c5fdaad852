//! The runtime type `main`: as `worker`, at the rate of a screen. In the reference it runs on the browser's main thread;
//! here it has a tick thread of its own like every other type.

use ipc::limits::TIMER_RATE_RANGE_HZ;

use super::schema::{ConfigKey, ValueKind};
use super::{RuntimeType, timer};
use crate::realtime::TIMER_PRIORITY;

const SAMPLE_RATE: &str = "mainThreadRuntime.sampleRate";

pub const TYPE: RuntimeType = RuntimeType {
    id: "main",
    aliases: &["MainThreadRuntime"],
    config: &[ConfigKey { path: SAMPLE_RATE, kind: ValueKind::NumberAtLeast(1.0) }],
    sample_rate_key: SAMPLE_RATE,
    // A program that sets the rate gets what LANGUAGE §20.2 says. One that does not gets the default of DESIGN §8, which
    // is Continuo's own; the reference would run it at 50.
    default_sample_rate_hz: 60,
    sample_rate_range_hz: TIMER_RATE_RANGE_HZ,
    constants: &[],
    flushes_denormals: false,
    priority: TIMER_PRIORITY,
    tick_export: "main",
    bind: timer::bind,
    build: timer::build,
};
