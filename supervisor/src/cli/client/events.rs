//! `continuo events`: follows what happens in a session.

use std::time::Duration;

use super::arguments::Events;
use super::{CommandError, connect, refused, runtime};
use crate::control::protocol::{Event, Subscribe, Topic};
use crate::control::{ClientError, Notice};
use crate::policy::Verdict;
use crate::render;

/// How long one wait for the next event lasts; then the next one begins.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Prints events, one a line, until the session ends.
pub fn follow(events: &Events) -> Result<Verdict, CommandError> {
    let talk = &events.talk;
    let mut client = connect(talk)?;
    let default = || Topic::ALL.into_iter().filter(|topic| *topic != Topic::Meters).collect();
    let topics = if events.topics.is_empty() { default() } else { events.topics.clone() };
    let runtime = events.runtime.as_deref().map(runtime).transpose()?;
    match client.call(&Subscribe { topics, runtime }) {
        Ok(_) => {}
        Err(ClientError::Refused(error)) => return Ok(refused(talk, &error)),
        Err(error) => return Err(error.into()),
    }
    while !render::is_closed() {
        match client.notice_within(PATIENCE) {
            Ok(Some(Notice::Event(event))) => show(&event, talk.json),
            Ok(Some(Notice::Lagged { dropped })) => render::tell(&format!("{dropped} events were lost")),
            Ok(None) => {}
            Err(ClientError::Closed) => return Ok(Verdict::Fine),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Verdict::Fine)
}

fn show(event: &Event, as_json: bool) {
    let text = match event {
        Event::Log(line) if !as_json => {
            let name = line.runtime.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            if line.line.starts_with(&name) { line.line.clone() } else { format!("{name}{}", line.line) }
        }
        _ => serde_json::to_string(event).unwrap_or_default(),
    };
    render::print(&text);
}
