//! Rows of programs and machines that ask for too much: time, memory, all processors, many answers at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::live::LiveSession;
use tests::playing::{Folder, send_signal};
use tests::programs::{audio_program, ramp};
use tests::soak::blows::Window;
use tests::soak::voices::Side;
use tests::takes::odd_ramp_blocks;

use crate::shares::{own_machine, share_machine};
use crate::{blow, ends_well, start, unheard_takeovers};

/// An audio program whose every sample costs `rounds` rounds of a loop: few operations, which are counted, of much time each.
fn slow() -> String {
    let round = "push &sum\npush sum\npush 1.0\nadd\nsqrt\npush 1.0\nadd\nsqrt\npush 1.0\nadd\nsqrt\nstore";
    audio_program(&format!(
        "int rounds 1\nfloat sum 1.0\nloop 10000\nloopIndex\npush rounds\ngreaterOrEqual\nbranchIfTrue 1\n{round}\nloopEnd"
    ))
}

#[test]
fn row_18_a_program_that_is_too_slow_is_told_late_and_counted_and_never_killed() {
    /// More would be more than a tick's budget of operations.
    const MOST_ROUNDS: u64 = 8_000;
    own_machine();
    let folder = Folder::new();
    let (slow, ramp) = (folder.file("slow.8f4e", slow()), folder.file("ramp.8f4e", ramp()));
    let mut session = LiveSession::start(&folder, &[&slow, &ramp]);
    let host = session.host_pids()["slow"];
    session.play_on(24_000);
    assert_eq!(session.runtime("slow")["state"], "running");

    // As many rounds as this machine cannot do in a block's time: then most blocks come too late.
    let missed = |session: &mut LiveSession| session.runtime("slow")["underruns"].as_u64().unwrap();
    let mut rounds = 250;
    loop {
        session.peer.expect("set", json!({ "runtime": "slow", "values": [{ "item": "m:rounds", "value": rounds }] }));
        let before = missed(&mut session);
        session.play_on(48_000);
        if missed(&mut session) > before + 200 {
            break;
        }
        rounds *= 2;
        assert!(rounds <= MOST_ROUNDS, "no load is too much for this machine");
    }
    let before = missed(&mut session);
    session.wait_until("it to be told late", |peer| peer.expect("status", json!({ "runtime": "slow" }))["runtimes"][0]["state"] == "late");
    session.play_on(48_000);
    let slow = session.runtime("slow");
    assert!(slow["underruns"].as_u64().unwrap() > before, "what came too late is counted: {slow}");

    session.peer.expect("set", json!({ "runtime": "slow", "values": [{ "item": "m:rounds", "value": 1 }] }));
    session.wait_until("the program to be in time again", |peer| {
        peer.expect("status", json!({ "runtime": "slow" }))["runtimes"][0]["state"] == "running"
    });
    let slow = session.runtime("slow");
    assert_eq!((slow["pid"].as_u64(), slow["restarts"].as_u64()), (Some(host), Some(0)), "it was never killed: {slow}");
    let missed = session.runtime("ramp")["underruns"].as_u64().unwrap();
    let odd = odd_ramp_blocks(&session.end());
    assert_eq!((missed, odd), (0, Vec::new()), "the other program has not noticed");
}

#[test]
fn row_30_programs_that_are_bombs_are_refused_and_what_plays_does_not_notice() {
    share_machine();
    let gibibytes = audio_program("int[] ballast 1073741823\npush &ballast\npush 1\nstore");
    let locals: String = (0..40_000).map(|number| format!("local int l{number}\n")).collect();
    let many_locals = audio_program("int unused") + &format!("\nfunction bomb\n{locals}functionEnd\n");
    let folder = Folder::new();
    let ramp = folder.file("ramp.8f4e", ramp());
    let mut session = LiveSession::start(&folder, &[&ramp]);
    session.play_on(24_000);
    let worker = |session: &mut LiveSession| {
        let status = session.peer.expect("status", json!({}));
        let processes = status["processes"].as_array().unwrap().clone();
        processes.into_iter().find(|process| process["role"] == "compilerWorker").map(|process| process["pid"].clone())
    };
    let before = worker(&mut session);
    let failure = session.peer.call("push", json!({ "runtime": "memory", "text": gibibytes })).expect_err("no memory is so large");
    assert_eq!(failure.name, "compile_failed", "{failure:?}");
    // What a function declares and never uses is not in its code: no bomb is left of it.
    let report = session.peer.expect("push", json!({ "runtime": "locals", "text": many_locals, "answer": "committed" }));
    assert_eq!(report["state"], "committed", "{report}");
    assert_eq!(worker(&mut session), before, "the compiler-worker has borne them");

    // What runs before the first tick has a budget as well, and no real-time thread waits for it.
    let rounds = "loop 2000000000\nloop 2000000000\npush &n\npush n\npush 1\nadd\nstore\nloopEnd\nloopEnd";
    let endless =
        audio_program("int unused").replace("\nentryEnd", &format!("\nmodule begin\n#initOnly\nint n\n{rounds}\nmoduleEnd\nentryEnd"));
    session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
    let ended = match session.peer.call("push", json!({ "runtime": "endless", "text": endless })) {
        Err(failure) => failure.message,
        Ok(report) => {
            let is_over = |event: &Value| event["change"] == report["change"] && event["progress"]["state"] != "pending";
            let event = session.peer.event("the end of the change", is_over);
            assert_eq!(event["progress"]["state"], "rejected", "{event}");
            event["progress"]["why"].as_str().unwrap_or_default().to_owned()
        }
    };
    assert!(ended.contains("while it was initialised"), "{ended}");
    session.play_on(24_000);
    let ramp = session.runtime("ramp");
    assert_eq!((&ramp["underruns"], &ramp["restarts"]), (&json!(0), &json!(0)), "{ramp}");
    assert_eq!(odd_ramp_blocks(&session.end()), Vec::<usize>::new());
}

/// Threads that keep every processor busy while the value lives.
struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Two threads for each processor.
    fn begin() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let threads = (0..2 * processors).map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        let threads = threads.collect();
        Self { is_over, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn row_45_with_all_processors_loaded_nobody_healthy_is_killed_and_what_is_missed_is_told() {
    own_machine();
    let mut ordeal = start();
    let mark = ordeal.gig.mark();
    let missed = |gig: &mut tests::soak::gig::Gig, side: Side| gig.runtime(side.runtime())["underruns"].as_u64().unwrap();
    let before = Side::ALL.map(|side| missed(&mut ordeal.gig, side));
    let load = Load::begin();
    for _ in 0..100 {
        ordeal.gig.peer.expect("ping", json!({}));
    }
    assert!(ordeal.strike(blow("host: SIGKILL")));
    ordeal.gig.play_on(96_000).unwrap();
    assert!(ordeal.strike(blow("edit: structure")));
    assert!(ordeal.strike(blow("host: SIGKILL")));
    ordeal.gig.play_on(48_000).unwrap();
    unheard_takeovers(&mut ordeal, 2);
    drop(load);
    let deaths = ordeal.gig.count_since(mark, |event| event["kind"] == "hostDied" || event["kind"] == "processDied");
    assert_eq!(deaths, 2, "nobody has died but those that were killed");
    for (side, before) in Side::ALL.into_iter().zip(before) {
        let to_tick = ordeal.gig.runtime(side.runtime())["tick"].as_u64().unwrap();
        // Without real-time priority a lane may be late now and then: each such block is told, and the next one faded in.
        let gap_blocks = 2 * (missed(&mut ordeal.gig, side) - before);
        ordeal.windows.push(Window { side, kind: "all processors loaded", from_tick: 0, to_tick, gap_blocks });
    }
    ends_well(ordeal);
}

#[test]
fn row_48_a_host_that_is_killed_in_the_middle_of_its_answers_leaves_each_request_with_one() {
    const ROUNDS: usize = 4;
    const REQUESTS: usize = 60;
    let mut ordeal = start();
    for round in 0..ROUNDS {
        let gig = &mut ordeal.gig;
        let mark = gig.mark();
        let before = gig.runtime("left");
        let (pid, from_tick) = (before["pid"].as_u64().unwrap() as u32, before["tick"].as_u64().unwrap());
        let items: Vec<String> = (0..128).map(|index| format!("m:out[{index}]")).collect();
        let mut requests = Vec::new();
        for number in 0..REQUESTS {
            requests.push(gig.peer.ask("get", json!({ "runtime": "left", "items": items })));
            // Each time it has got a little further with them.
            if number == 10 * (round + 1) {
                send_signal(pid, Signal::KILL);
            }
        }
        // A second answer to one of them ends the test by itself: see `Peer`.
        let answers: Vec<_> = requests.iter().map(|request| gig.peer.answer(*request)).collect();
        for answer in answers {
            match answer {
                Ok(values) => assert_eq!(values["values"].as_array().map(Vec::len), Some(128), "it is whole: {values}"),
                Err(failure) => panic!("the next host answers what the dead one has not: {failure:?}"),
            }
        }
        let ready = gig.event_since(mark, "hostReady", |event| event["kind"] == "hostReady" && event["runtime"] == "left").unwrap();
        // What was meant for the dead host is not done to the one that has followed it.
        let stale = gig.peer.call("restart", json!({ "runtime": "left", "generation": before["generation"] }));
        assert_eq!(stale.unwrap_err().name, "stale_generation");
        let to_tick = gig.wait_for_tick("left", ready["restoredTick"].as_u64().unwrap() + 200).unwrap();
        let gap_blocks = ready["gapBlocks"].as_u64().unwrap();
        assert_eq!(gig.count_since(mark, |event| event["kind"] == "hostDied"), 1, "its death is told once");
        gig.wait_for_spare().unwrap();
        ordeal.windows.push(Window { side: Side::Left, kind: "in the middle of answers", from_tick, to_tick, gap_blocks });
    }
    ends_well(ordeal);
}
