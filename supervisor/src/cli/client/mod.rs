//! The commands that talk to a running session: arguments to parameters, one call, its answer in words or as JSON.
//!
//! Nothing here knows what a verb does; everything these commands can do, an editor can do through the same socket.

mod answers;
mod arguments;
mod deaths;
mod events;

use serde::Serialize;
use serde_json::json;

pub use self::arguments::Verb;
use self::arguments::{Talk, TapeOrder};
use super::CommandError;
use super::play::session_name;
use crate::control::protocol::{self as protocol, ErrorCode, ErrorReply, ItemName, Number, Params, RevisionName, RuntimeName, WireEnd};
use crate::control::{Address, Client, ClientError, SessionName};
use crate::policy::Verdict;
use crate::render;

/// Who we say we are.
const CLIENT_NAME: &str = "continuo-cli";

/// Carries a command out. With `--json` whatever goes wrong is an object with the key `error`, also where there is nobody to ask.
pub fn execute(verb: &Verb) -> Result<Verdict, CommandError> {
    match carry_out(verb) {
        Err(error) if verb.talk().json => {
            let name = match &error {
                CommandError::Client(ClientError::NoSession { .. }) => "no_session",
                CommandError::Client(_) => "no_answer",
                _ => ErrorCode::InvalidParams.name(),
            };
            render::print(&json!({ "error": { "code": null, "message": error.to_string(), "data": { "name": name } } }).to_string());
            Ok(error.verdict())
        }
        outcome => outcome,
    }
}

fn carry_out(verb: &Verb) -> Result<Verdict, CommandError> {
    match verb {
        Verb::Push(push) => ask(&push.talk, &push.params()?, answers::change),
        Verb::Plan(plan) => ask(&plan.talk, &plan.params()?, answers::change),
        Verb::Confirm(confirm) => ask(&confirm.talk, &confirm.params(), answers::change),
        Verb::Cancel(cancel) => ask(&cancel.talk, &protocol::Cancel { change: protocol::ChangeId(cancel.change) }, |cancelled| {
            format!("change {} is cancelled", cancelled.change.0)
        }),
        Verb::Rollback(rollback) => ask(&rollback.talk, &rollback.params()?, answers::change),
        Verb::Freeze(one) => ask(&one.talk, &protocol::Freeze { runtime: runtime(&one.runtime)? }, answers::now),
        Verb::Unfreeze(one) => ask(&one.talk, &protocol::Run { runtime: runtime(&one.runtime)? }, answers::now),
        Verb::Get(get) => {
            let items = get.items.iter().map(|item| item_name(item)).collect::<Result<_, _>>()?;
            ask(&get.talk, &protocol::Get { runtime: runtime(&get.runtime)?, items }, answers::values)
        }
        Verb::Set(set) => ask(&set.talk, &set.params()?, |at| format!("from tick {} on", at.tick)),
        Verb::Wire(wire) => ask(&wire.talk, &wire.params()?, answers::wire),
        Verb::Unwire(unwire) => ask(&unwire.talk, &protocol::Unwire { to: wire_end(&unwire.item)? }, |unwired| {
            format!("{} does not follow {} any more", unwired.to, unwired.from)
        }),
        Verb::Wires(talk) => ask(talk, &protocol::Wires {}, |list| match list.wires.is_empty() {
            true => "there are no control wires".to_owned(),
            false => list.wires.iter().map(answers::wire).collect::<Vec<_>>().join("\n"),
        }),
        Verb::Gain(gain) => {
            let params = protocol::Gain { runtime: runtime(&gain.runtime)?, gain: gain.gain, ramp_ms: gain.ramp_ms };
            ask(&gain.talk, &params, answers::mix)
        }
        Verb::Mute(mute) => ask(&mute.talk, &protocol::Mute { runtime: runtime(&mute.runtime)?, on: !mute.off }, answers::mix),
        Verb::Solo(solo) => ask(&solo.talk, &protocol::Solo { runtime: runtime(&solo.runtime)?, on: !solo.off }, answers::mix),
        Verb::Output(output) => {
            let params = protocol::Output { runtime: runtime(&output.runtime)?, channels: output.channels };
            ask(&output.talk, &params, answers::mix)
        }
        Verb::Route(route) => {
            let params = protocol::Route { from: runtime(&route.from)?, to: runtime(&route.to)?, only: route.only };
            ask(&route.talk, &params, answers::routing)
        }
        Verb::Unroute(unroute) => {
            let params = protocol::Unroute { from: runtime(&unroute.from)?, to: runtime(&unroute.to)? };
            ask(&unroute.talk, &params, answers::routing)
        }
        Verb::Tempo(tempo) => ask(&tempo.talk, &tempo.params(), answers::tempo),
        Verb::Panic(talk) => ask(talk, &protocol::Panic {}, |silenced| match silenced.runtimes.len() {
            1 => "1 runtime is silent now; it plays on".to_owned(),
            count => format!("{count} runtimes are silent now; they play on"),
        }),
        Verb::Restart(restart) => {
            let params = protocol::Restart { runtime: runtime(&restart.runtime)?, reset: restart.reset, generation: restart.generation };
            ask(&restart.talk, &params, answers::now)
        }
        Verb::Stop(one) => ask(&one.talk, &protocol::Stop { runtime: runtime(&one.runtime)? }, answers::now),
        Verb::Status(status) => {
            let only = status.runtime.as_deref().map(runtime).transpose()?;
            ask(&status.talk, &protocol::Status { runtime: only }, answers::status)
        }
        Verb::WhyDied(why) => {
            let only = why.runtime.as_deref().map(runtime).transpose()?;
            ask(&why.talk, &protocol::WhyDied { runtime: only }, deaths::describe)
        }
        Verb::List(list) => ask(&list.talk, &protocol::List { runtime: runtime(&list.runtime)?, limit: list.limit }, answers::revisions),
        Verb::Watch(watch) => ask(&watch.talk, &watch.params()?, answers::watching),
        Verb::Unwatch(one) => ask(&one.talk, &protocol::Unwatch { runtime: runtime(&one.runtime)? }, answers::watching),
        Verb::Tape(arguments::Tape { order }) => match order {
            TapeOrder::Start(start) => ask(&start.talk, &start.params()?, answers::tape),
            TapeOrder::Stop(stop) => ask(&stop.talk, &stop.params(), answers::tape),
        },
        Verb::Record(record) => ask(&record.talk, &record.params()?, answers::recording),
        Verb::ReplayInfo(info) => ask(&info.talk, &info.params()?, answers::recorded),
        Verb::Events(events) => events::follow(events),
        Verb::Ping(talk) => ask(talk, &protocol::Ping {}, |_| "it answers".to_owned()),
        Verb::Shutdown(talk) => ask(talk, &protocol::Shutdown {}, |_| "the session fades out and ends".to_owned()),
    }
}

/// Connects to the session that is meant.
fn connect(talk: &Talk) -> Result<Client, CommandError> {
    let session: SessionName = session_name(talk.session.as_deref())?.unwrap_or_default();
    Ok(Client::connect(&Address::of(session), CLIENT_NAME)?)
}

/// Asks, and shows the answer.
fn ask<P: Params>(talk: &Talk, params: &P, describe: impl Fn(&P::Answer) -> String) -> Result<Verdict, CommandError> {
    match connect(talk)?.call(params) {
        Ok(answer) => {
            show(talk, &answer, &describe(&answer));
            Ok(Verdict::Fine)
        }
        Err(ClientError::Refused(error)) => Ok(refused(talk, &error)),
        Err(error) => Err(error.into()),
    }
}

fn show(talk: &Talk, answer: &impl Serialize, text: &str) {
    if talk.json {
        render::print(&serde_json::to_string(answer).unwrap_or_default());
    } else if !text.is_empty() {
        render::print(text);
    }
}

fn refused(talk: &Talk, error: &ErrorReply) -> Verdict {
    if talk.json {
        render::print(&json!({ "error": error }).to_string());
    } else {
        render::tell(&answers::error(error, talk.session.as_deref()));
    }
    match error.name() {
        ErrorCode::CompileFailed
        | ErrorCode::NeedsAck
        | ErrorCode::Refused
        | ErrorCode::NotApplied
        | ErrorCode::Superseded
        | ErrorCode::Held => Verdict::Program,
        ErrorCode::Internal | ErrorCode::Busy | ErrorCode::ShuttingDown | ErrorCode::CompilerRestarted | ErrorCode::Exhausted => {
            Verdict::Environment
        }
        _ => Verdict::Input,
    }
}

fn wrong(error: impl ToString) -> CommandError {
    CommandError::Input(error.to_string())
}

fn runtime(name: &str) -> Result<RuntimeName, CommandError> {
    RuntimeName::new(name).map_err(|error| CommandError::Input(format!("`{name}` cannot name a runtime: {error}")))
}

fn item_name(name: &str) -> Result<ItemName, CommandError> {
    ItemName::new(name).map_err(|error| CommandError::Input(format!("`{name}`: {error}")))
}

fn wire_end(name: &str) -> Result<WireEnd, CommandError> {
    WireEnd::parse(name).map_err(|error| CommandError::Input(format!("`{name}`: {error}")))
}

fn revision(name: &str) -> Result<RevisionName, CommandError> {
    RevisionName::new(name).map_err(|error| CommandError::Input(format!("`{name}`: {error}")))
}

fn number(text: &str) -> Result<Number, CommandError> {
    let int = text.parse().map(Number::Int).ok();
    let float = || text.parse().map(Number::Float).ok();
    int.or_else(float).ok_or_else(|| CommandError::Input(format!("`{text}` is no number")))
}
