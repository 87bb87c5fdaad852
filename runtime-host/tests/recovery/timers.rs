//! Runtimes that a clock drives.

use std::path::PathBuf;
use std::sync::Arc;

use ipc::live::{LiveReply, LiveRequest};
use ipc::message::{ElementValues, HostReply, HostRequest, StartRuntime};
use ipc::recovery::{Candidate, TakeOver, TookOver};
use ipc::segment::Session;
use ipc::state::StateView;

use crate::harness::{Host, start};
use crate::live::band::compile;
use crate::live::chance::{Chance, seed};
use crate::live::rig::get;

/// Its `ticks` counts the calls of `main`.
const COUNTING: &str = "8f4e/v1\nentry main\nmodule m\nint ticks 0\npush &ticks\npush ticks\npush 1\nadd\nstore\nmoduleEnd\nentryEnd\n";

/// How often the program has run, and in which tick it was asked.
fn ask(host: &mut Host, request: u64) -> (u64, i64) {
    host.send(HostRequest::Live(LiveRequest { request, at_tick: None, what: get(&["ticks"]) }));
    host.wait_for(|reply| match reply {
        HostReply::Live(LiveReply::Values { tick, values, .. }) => match &values[0].values {
            ElementValues::Int(values) => Some((*tick, values[0])),
            other => panic!("{other:?}"),
        },
        HostReply::Live(LiveReply::Refused { reason, .. }) => panic!("{}", reason.message),
        _ => None,
    })
}

#[test]
fn a_counting_program_has_counted_every_tick_once_after_every_kill() {
    let mut chance = Chance(seed());
    let session = Arc::new(Session::open().unwrap());
    let artifact = compile(COUNTING);
    let mut host = Host::start_process(Arc::clone(&session), "a_host_process");
    let (segment, state) = (host.publish(&artifact), host.state(&artifact));
    let mut request = start(segment.clone(), None, "worker", 2_000);
    request.state = Some(state.clone());
    host.send(HostRequest::Start(request.clone()));
    host.wait_until_started();
    let view = StateView::open(&state).unwrap();
    let candidate =
        Candidate { revision: artifact.manifest.revision, artifact: segment, state, base_directory: PathBuf::from("/"), swap: None };
    let mut last_tick = 0;
    for round in 0..12 {
        let far_enough = last_tick + chance.below(300);
        host.wait_for_status(|status| status.ticks >= far_enough);
        let next = Host::start_process(Arc::clone(&session), "a_host_process");
        drop(host.kill(next));
        let (completed, clock) = (view.completed_ticks(), view.clock().unwrap());
        let start = StartRuntime { generation: 2 + round, ..request.clone() };
        host.send(HostRequest::TakeOver(Box::new(TakeOver { start, candidates: vec![candidate.clone()], first: Vec::new() })));
        let took_over: TookOver = host.wait_for(|reply| match reply {
            HostReply::TookOver(took_over) => Some((**took_over).clone()),
            HostReply::Refused { reason, .. } => panic!("{}", reason.message),
            _ => None,
        });
        assert_eq!(took_over.next_tick, completed, "it goes on after the last tick that was complete");
        let (tick, count) = ask(&mut host, round);
        assert_eq!(tick as i64, count, "the program has run once in every tick");
        let status = host.wait_for_status(|status| status.ticks > tick);
        let now = view.clock().unwrap();
        assert_eq!(now.start_ns, clock.start_ns, "its deadlines are where they were");
        assert!(status.ticks + status.lost_ticks >= clock.next, "{status:?}");
        last_tick = status.ticks;
    }
}
