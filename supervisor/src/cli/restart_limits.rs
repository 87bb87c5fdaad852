//! How often processes may die before they are left alone: the table `[restarts]` of a session file, and the option
//! `--restarts` of `play` and `up`. What neither says is as DESIGN §10 has it.

use serde::Deserialize;

use crate::policy::{Intensity, RestartLimits};

/// Most deaths that anybody may ask for: each is remembered for as long as it counts.
pub const MAX_DEATHS: u32 = 1_000;

/// Longest time within which they count, in seconds.
pub const MAX_WINDOW_SECONDS: u32 = 3_600;

/// The table of a session file.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartsTable {
    runtime: Option<u32>,
    session: Option<u32>,
    seconds: Option<u32>,
}

impl RestartsTable {
    /// The limits it stands for, or what is wrong with it.
    pub fn limits(self) -> Result<RestartLimits, String> {
        let default = RestartLimits::default();
        let runtime = self.runtime.unwrap_or(default.of_one.deaths);
        // A session bears at least what one runtime of it does.
        let session = self.session.unwrap_or_else(|| default.of_session.deaths.max(runtime));
        let window_ms = self.seconds.map_or(default.of_one.window_ms, |seconds| u64::from(seconds) * 1_000);
        if runtime > MAX_DEATHS || session > MAX_DEATHS {
            return Err(format!("at most {MAX_DEATHS} restarts can be allowed"));
        }
        if !(1_000..=u64::from(MAX_WINDOW_SECONDS) * 1_000).contains(&window_ms) {
            return Err(format!("seconds must be 1 to {MAX_WINDOW_SECONDS}"));
        }
        if session < runtime {
            return Err("the session must allow at least as many restarts as a runtime".to_owned());
        }
        Ok(RestartLimits { of_one: Intensity { deaths: runtime, window_ms }, of_session: Intensity { deaths: session, window_ms } })
    }
}

/// Reads `RUNTIME,SESSION,SECONDS`; what is left away at the end is as usual.
pub fn parse(text: &str) -> Result<RestartLimits, String> {
    const SHAPE: &str = "it must be up to three whole numbers, RUNTIME,SESSION,SECONDS, such as 5,25,10";
    let numbers: Vec<u32> = text.split(',').map(|number| number.trim().parse().map_err(|_| SHAPE)).collect::<Result<_, _>>()?;
    let table = match numbers[..] {
        [runtime] => RestartsTable { runtime: Some(runtime), ..RestartsTable::default() },
        [runtime, session] => RestartsTable { runtime: Some(runtime), session: Some(session), seconds: None },
        [runtime, session, seconds] => RestartsTable { runtime: Some(runtime), session: Some(session), seconds: Some(seconds) },
        _ => return Err(SHAPE.to_owned()),
    };
    table.limits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(runtime: u32, session: u32, window_ms: u64) -> RestartLimits {
        RestartLimits { of_one: Intensity { deaths: runtime, window_ms }, of_session: Intensity { deaths: session, window_ms } }
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        assert_eq!(RestartsTable::default().limits(), Ok(RestartLimits::default()));
        assert_eq!(parse("8"), Ok(limits(8, 25, 10_000)));
        assert_eq!(parse("40"), Ok(limits(40, 40, 10_000)), "a session bears what one runtime does");
        assert_eq!(parse("8,40"), Ok(limits(8, 40, 10_000)));
        assert_eq!(parse("0, 3, 60"), Ok(limits(0, 3, 60_000)));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for wrong in ["", "many", "-1", "1,2,3,4", "8,4", "1001", "5,1001", "5,25,0", "5,25,3601", "1.5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
