//! What processes died of, in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::control::protocol::{Death, Deaths, ProcessRole};

/// Describes deaths, the newest first.
pub fn describe(deaths: &Deaths) -> String {
    if deaths.deaths.is_empty() {
        return match &deaths.runtime {
            Some(runtime) => format!("no host of {runtime} has died"),
            None => "no process of this session has died".to_owned(),
        };
    }
    deaths.deaths.iter().map(death).collect::<Vec<_>>().join("\n\n")
}

fn death(death: &Death) -> String {
    let who = match (&death.runtime, death.role) {
        (Some(runtime), _) => format!("the host of {runtime}"),
        (None, ProcessRole::CompilerWorker) => "the compiler-worker".to_owned(),
        (None, ProcessRole::DeviceHost) => "the device host".to_owned(),
        (None, ProcessRole::RuntimeHost | ProcessRole::SpareHost) => "a spare host".to_owned(),
    };
    let mut lines = vec![format!("{who} (pid {}) died {}: {}", death.pid, ago(death.at_ms), death.cause)];
    let revision = death.revision.as_ref().and_then(|revision| revision.as_str().get(..8)).map(|digits| format!(" of revision {digits}"));
    let tick = death.tick.map(|tick| format!(", tick {tick}{}", revision.unwrap_or_default())).unwrap_or_default();
    let thread = death.thread.as_ref().map(|name| format!(", on its thread `{name}`")).unwrap_or_default();
    lines.push(format!("  it was {}{tick}{thread}", death.doing));
    if !death.backtrace.is_empty() {
        lines.push("  called, the innermost first:".to_owned());
        lines.extend(death.backtrace.iter().map(|frame| format!("    {frame}")));
    }
    if !death.stderr.is_empty() {
        lines.push("  it said last:".to_owned());
        lines.extend(death.stderr.lines().map(|line| format!("    {line}")));
    }
    lines.join("\n")
}

fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.saturating_sub(Duration::from_millis(at_ms)).as_secs() {
        0 => "just now".to_owned(),
        seconds @ 1..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{DeathKind, RuntimeName};

    #[test]
    fn a_death_is_told_with_who_when_where_and_why() {
        let runtime = RuntimeName::new("drums").unwrap();
        let death = Death {
            role: ProcessRole::RuntimeHost,
            runtime: Some(runtime.clone()),
            pid: 7,
            at_ms: 0,
            kind: DeathKind::Signal,
            cause: "process 9 sent it SIGSEGV".to_owned(),
            signal: Some("SIGSEGV".to_owned()),
            exit_status: None,
            system_call: None,
            doing: "executing a tick".to_owned(),
            tick: Some(41),
            revision: None,
            thread: Some("tick".to_owned()),
            address: None,
            backtrace: vec!["continuo+0x10 main".to_owned()],
            stderr: "oh\n".to_owned(),
        };
        let text = describe(&Deaths { runtime: Some(runtime.clone()), deaths: vec![death] });
        assert!(text.starts_with("the host of drums (pid 7) died "), "{text}");
        assert!(text.contains("process 9 sent it SIGSEGV\n  it was executing a tick, tick 41, on its thread `tick`\n"), "{text}");
        assert!(text.ends_with("    continuo+0x10 main\n  it said last:\n    oh"), "{text}");
        assert_eq!(describe(&Deaths { runtime: Some(runtime), deaths: Vec::new() }), "no host of drums has died");
    }
}
