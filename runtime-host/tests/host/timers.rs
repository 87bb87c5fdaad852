//! Timer runtimes: `worker` and `main`.

use ipc::message::HostReply;

use crate::fixture::{Assist, Mode};
use crate::harness::Host;

#[test]
fn main_is_called_tick_after_tick() {
    for (runtime_type, rate_hz) in [("worker", 1_000), ("main", 500)] {
        let mut host = Host::start();
        host.start_runtime(&Assist::default().artifact(), runtime_type, rate_hz);
        host.wait_until_started();
        let status = host.wait_for_status(|status| status.ticks >= 200);
        assert_eq!(status.runtime, "drums");
        host.stop();
        assert!(host.log_lines().contains(&format!("Destroying runtime: {runtime_type}")));
    }
}

#[test]
fn ticks_and_lost_ticks_together_keep_up_with_the_clock() {
    let mut host = Host::start();
    host.start_runtime(&Assist::default().artifact(), "worker", 1_000);
    host.wait_until_started();
    let first = host.wait_for_status(|status| status.ticks > 0);
    let later = host.wait_for_status(|status| status.ticks + status.lost_ticks >= first.ticks + first.lost_ticks + 500);
    assert!(later.ticks > first.ticks);
    assert!(later.lost_ticks >= first.lost_ticks);
}

#[test]
fn a_timer_runtime_never_calls_buffer() {
    let mut host = Host::start();
    host.start_runtime(&Assist::failing(Mode::Division, 0, i32::MAX).artifact(), "worker", 1_000);
    host.wait_until_started();
    host.wait_for_status(|status| status.ticks >= 100);
    host.stop();
    assert!(!host.seen.iter().any(|reply| matches!(reply, HostReply::Faulted { .. })));
}

#[test]
fn an_unknown_type_and_a_rate_of_zero_are_refused() {
    let mut host = Host::start();
    host.start_runtime(&Assist::default().artifact(), "quantum", 50);
    assert!(host.wait_for_refusal().message.contains("`quantum`"));
    host.start_runtime(&Assist::default().artifact(), "worker", 0);
    assert!(host.wait_for_refusal().message.contains("sample rate of 0"));
}
