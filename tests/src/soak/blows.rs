//! What can be done to a session from outside, and what must come of it (FAULTS).
//!
//! Every blow is one row of a table: its name, how often it is chosen, and what does it. A blow returns when its outcome has been
//! seen, or with what was wrong with it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::gig::{COUNTER, Gig};
use super::tally::Tally;
use super::voices::{Side, Variant};
use crate::edits::Random;
use crate::live::Holdings;
use crate::playing::send_signal;

/// How long a process is stopped that is to go on by itself: less than the 500 ms after which a host is given up.
const PAUSE: Duration = Duration::from_millis(150);

/// How long a supervisor is stopped: longer than after what a host is given up that stands still.
const ABSENCE: Duration = Duration::from_millis(700);

/// Longest delay between an edit and the blow that is to hit it, in microseconds: the time that an edit takes.
const EDIT_US: u64 = 40_000;

/// Longest delay between a death and the next one in its recovery, in microseconds.
const RECOVERY_US: u64 = 8_000;

/// Ticks after which a revision has passed its trial.
const TRIAL_TICKS: u64 = 450;

/// A stretch of ticks in which a voice may have been concealed, and for how many blocks.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub side: Side,
    pub kind: &'static str,
    pub from_tick: u64,
    pub to_tick: u64,
    /// Blocks the session says that were missing.
    pub gap_blocks: u64,
}

/// A session under blows.
pub struct Ordeal {
    pub gig: Gig,
    pub random: Random,
    pub tally: Tally,
    pub windows: Vec<Window>,
    /// When each voice was edited last, as a tick.
    pub edited: [u64; 3],
    /// What is being done.
    pub kind: &'static str,
    /// What the supervisor held at the begin.
    pub held: Option<Holdings>,
}

type Outcome = Result<(), String>;

/// A kind of blow.
pub struct Blow {
    pub name: &'static str,
    pub weight: u64,
    /// Hosts that it costs at most.
    pub hosts: u64,
    pub strike: fn(&mut Ordeal) -> Outcome,
}

/// All kinds.
pub const BLOWS: &[Blow] = &[
    Blow { name: "host: SIGKILL", weight: 10, hosts: 1, strike: |ordeal| ordeal.host(Signal::KILL) },
    Blow { name: "host: SIGSEGV", weight: 3, hosts: 1, strike: |ordeal| ordeal.host(Signal::SEGV) },
    Blow { name: "host: SIGBUS", weight: 3, hosts: 1, strike: |ordeal| ordeal.host(Signal::BUS) },
    Blow { name: "host: SIGILL", weight: 2, hosts: 1, strike: |ordeal| ordeal.host(Signal::ILL) },
    Blow { name: "host: SIGABRT", weight: 3, hosts: 1, strike: |ordeal| ordeal.host(Signal::ABORT) },
    Blow { name: "host: SIGSTOP", weight: 2, hosts: 1, strike: |ordeal| ordeal.stuck_host() },
    Blow { name: "host: SIGSTOP, SIGCONT", weight: 2, hosts: 0, strike: |ordeal| ordeal.paused_host() },
    Blow { name: "host: SIGKILL, again in its recovery", weight: 3, hosts: 2, strike: |ordeal| ordeal.host_twice() },
    Blow { name: "host: SIGKILL during an edit", weight: 4, hosts: 1, strike: |ordeal| ordeal.host_in_edit() },
    Blow { name: "worker host: SIGKILL", weight: 2, hosts: 1, strike: |ordeal| ordeal.counter(Signal::KILL) },
    Blow { name: "worker host: SIGSEGV", weight: 1, hosts: 1, strike: |ordeal| ordeal.counter(Signal::SEGV) },
    Blow { name: "two hosts: SIGKILL", weight: 2, hosts: 2, strike: |ordeal| ordeal.two_hosts() },
    Blow { name: "spare: SIGKILL", weight: 3, hosts: 0, strike: |ordeal| ordeal.part("spareHost", Signal::KILL) },
    Blow { name: "spare: SIGSTOP", weight: 2, hosts: 0, strike: |ordeal| ordeal.stuck_part("spareHost") },
    Blow { name: "spare: SIGSTOP, host: SIGKILL", weight: 2, hosts: 2, strike: |ordeal| ordeal.host_beside_stuck_spare() },
    Blow { name: "host and spare: SIGKILL", weight: 2, hosts: 1, strike: |ordeal| ordeal.host_and_spare() },
    Blow { name: "compiler-worker: SIGKILL", weight: 2, hosts: 0, strike: |ordeal| ordeal.part("compilerWorker", Signal::KILL) },
    Blow { name: "compiler-worker: SIGKILL during an edit", weight: 2, hosts: 0, strike: |ordeal| ordeal.worker_in_edit() },
    Blow { name: "compiler-worker: SIGSTOP during an edit", weight: 1, hosts: 0, strike: |ordeal| ordeal.stuck_worker_in_edit() },
    Blow { name: "device host: SIGKILL", weight: 1, hosts: 0, strike: |ordeal| ordeal.device(Signal::KILL) },
    Blow { name: "device host: SIGSEGV", weight: 1, hosts: 0, strike: |ordeal| ordeal.device(Signal::SEGV) },
    Blow { name: "device host: SIGSTOP", weight: 1, hosts: 0, strike: |ordeal| ordeal.stuck_device() },
    Blow { name: "supervisor: SIGSTOP, SIGCONT", weight: 2, hosts: 0, strike: |ordeal| ordeal.paused_supervisor() },
    Blow { name: "supervisor: SIGKILL", weight: 2, hosts: 0, strike: |ordeal| ordeal.supervisor() },
    Blow { name: "edit: parameters", weight: 3, hosts: 0, strike: |ordeal| ordeal.edit_parameter() },
    Blow { name: "edit: structure", weight: 3, hosts: 0, strike: |ordeal| ordeal.edit_structure() },
    Blow { name: "edit that fails", weight: 2, hosts: 0, strike: |ordeal| ordeal.edit_that_fails() },
];

/// Chooses a blow by weight among those that cost no more hosts than this.
pub fn choose(random: &mut Random, hosts: u64) -> &'static Blow {
    let possible = || BLOWS.iter().filter(|blow| blow.hosts <= hosts);
    let mut at = random.below(possible().map(|blow| blow.weight).sum());
    possible()
        .find(|blow| {
            let is_chosen = at < blow.weight;
            at = at.saturating_sub(blow.weight);
            is_chosen
        })
        .unwrap_or(&BLOWS[0])
}

fn is_death(event: &Value, pid: u32) -> bool {
    matches!(event["kind"].as_str(), Some("hostDied" | "processDied")) && event["pid"] == pid
}

impl Ordeal {
    // ---------------------------------------------------------------------------------------------------- audio hosts

    fn any_side(&mut self) -> Side {
        *self.random.pick(&Side::ALL)
    }

    fn linger(&mut self, longest_us: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(longest_us)));
    }

    fn host(&mut self, signal: Signal) -> Outcome {
        let side = self.any_side();
        self.linger(5_000);
        self.host_of(side, signal)
    }

    fn host_of(&mut self, side: Side, signal: Signal) -> Outcome {
        let (mark, from_tick) = self.begin(side);
        let pid = self.pid(side.runtime())?;
        send_signal(pid, signal);
        self.death(mark, pid, Some(signal))?;
        self.recovery(mark, side, from_tick, 1)
    }

    /// Where the log ends, and a tick that the voice has passed.
    fn begin(&mut self, side: Side) -> (usize, u64) {
        (self.gig.mark(), self.gig.runtime(side.runtime())["tick"].as_u64().unwrap_or(0))
    }

    fn pid(&mut self, runtime: &str) -> Result<u32, String> {
        self.gig.host(runtime).ok_or_else(|| format!("{runtime} has no host"))
    }

    /// The session has told, once, that this process died of this signal.
    fn death(&mut self, mark: usize, pid: u32, signal: Option<Signal>) -> Outcome {
        let death = self.gig.event_since(mark, &format!("about the death of {pid}"), |event| is_death(event, pid))?;
        match signal {
            Some(_) if self.gig.is_taken_back && death["signal"].is_null() => Ok(()),
            Some(signal) if death["signal"] != signal.as_raw() => Err(format!("sent {signal:?}, told {death}")),
            _ => Ok(()),
        }
    }

    /// Waits until a voice plays again after so many deaths of its hosts; notes what may have been heard of it.
    fn recovery(&mut self, mark: usize, side: Side, from_tick: u64, deaths: usize) -> Outcome {
        let runtime = side.runtime();
        let is_ready = |event: &Value| event["kind"] == "hostReady" && event["runtime"] == runtime;
        self.gig.wait_until("the runtime to run again", |gig| {
            let ready = gig.count_since(mark, is_ready);
            let died = gig.count_since(mark, |event| event["kind"] == "hostDied" && event["runtime"] == runtime);
            // A host that died before it was ready is followed by one that is: one less of them.
            ready > 0 && ready + deaths > died && gig.runtime(runtime)["state"] == "running"
        })?;
        let readies: Vec<Value> = self.gig.events[mark..].iter().filter(|event| is_ready(event)).cloned().collect();
        let gap_blocks = readies.iter().filter_map(|event| event["gapBlocks"].as_u64()).sum();
        self.tally.took_over(self.kind, gap_blocks);
        self.note_window(side, from_tick, gap_blocks)?;
        let told = self.gig.count_since(mark, |event| event["kind"] == "hostDied" && event["runtime"] == runtime);
        if told > deaths {
            return Err(format!("{told} deaths of {runtime} were told, {deaths} happened: {:?}", &self.gig.events[mark..]));
        }
        self.gig.wait_for_spare()
    }

    fn note_window(&mut self, side: Side, from_tick: u64, gap_blocks: u64) -> Outcome {
        let now = self.gig.runtime(side.runtime())["tick"].as_u64().unwrap_or(0);
        let to_tick = self.gig.wait_for_tick(side.runtime(), now + 64)?;
        self.windows.push(Window { side, kind: self.kind, from_tick, to_tick, gap_blocks });
        Ok(())
    }

    fn stuck_host(&mut self) -> Outcome {
        let side = self.any_side();
        let (mark, from_tick) = self.begin(side);
        let pid = self.pid(side.runtime())?;
        send_signal(pid, Signal::STOP);
        self.death(mark, pid, Some(Signal::KILL))?;
        self.recovery(mark, side, from_tick, 1)
    }

    fn paused_host(&mut self) -> Outcome {
        let side = self.any_side();
        let (mark, from_tick) = self.begin(side);
        let underruns = |gig: &mut Gig| gig.runtime(side.runtime())["underruns"].as_u64().unwrap_or(0);
        let before = underruns(&mut self.gig);
        let pid = self.pid(side.runtime())?;
        send_signal(pid, Signal::STOP);
        std::thread::sleep(PAUSE);
        send_signal(pid, Signal::CONT);
        self.gig.wait_for_tick(side.runtime(), from_tick + 150)?;
        self.gig.play_on(8 * 4_800)?;
        let gap_blocks = underruns(&mut self.gig).saturating_sub(before);
        self.note_window(side, from_tick, gap_blocks)?;
        let deaths = self.gig.count_since(mark, |event| event["kind"] == "hostDied");
        if deaths == 0 { Ok(()) } else { Err("a host that was stopped for a moment was given up".to_owned()) }
    }

    fn host_twice(&mut self) -> Outcome {
        let side = self.any_side();
        let (mark, from_tick) = self.begin(side);
        let (pid, spare) = (self.pid(side.runtime())?, self.gig.process("spareHost").ok_or("no spare")?);
        send_signal(pid, Signal::KILL);
        self.linger(RECOVERY_US);
        send_signal(spare, Signal::KILL);
        self.death(mark, pid, Some(Signal::KILL))?;
        self.death(mark, spare, Some(Signal::KILL))?;
        self.recovery(mark, side, from_tick, 2)
    }

    fn two_hosts(&mut self) -> Outcome {
        let first = self.any_side();
        let second = Side::ALL[(first as usize + 1) % 3];
        let (mark, from_tick) = self.begin(first);
        let pids = [self.pid(first.runtime())?, self.pid(second.runtime())?];
        pids.iter().for_each(|pid| send_signal(*pid, Signal::KILL));
        for pid in pids {
            self.death(mark, pid, Some(Signal::KILL))?;
        }
        self.recovery(mark, first, from_tick, 1)?;
        self.recovery(mark, second, from_tick, 1)
    }

    fn host_and_spare(&mut self) -> Outcome {
        let side = self.any_side();
        let (mark, from_tick) = self.begin(side);
        let (pid, spare) = (self.pid(side.runtime())?, self.gig.process("spareHost").ok_or("no spare")?);
        send_signal(spare, Signal::KILL);
        send_signal(pid, Signal::KILL);
        self.death(mark, spare, Some(Signal::KILL))?;
        self.death(mark, pid, Some(Signal::KILL))?;
        self.recovery(mark, side, from_tick, 2)
    }

    fn counter(&mut self, signal: Signal) -> Outcome {
        let mark = self.gig.mark();
        let pid = self.pid(COUNTER)?;
        send_signal(pid, signal);
        self.death(mark, pid, Some(signal))?;
        let ready = self.gig.event_since(mark, "hostReady", |event| event["kind"] == "hostReady" && event["runtime"] == COUNTER)?;
        // Nobody hears it: what it costs are ticks, which are told.
        if !ready["gapBlocks"].is_null() || !ready["lostTicks"].is_u64() {
            return Err(format!("a runtime without sound has told {ready}"));
        }
        self.gig.check_counter()?;
        self.gig.wait_for_spare()
    }

    // ---------------------------------------------------------------------------------------------------- other roles

    fn part(&mut self, role: &str, signal: Signal) -> Outcome {
        let mark = self.gig.mark();
        let pid = self.gig.process(role).ok_or_else(|| format!("there is no {role}"))?;
        send_signal(pid, signal);
        self.death(mark, pid, Some(signal))?;
        self.gig.event_since(mark, "processReady", |event| event["kind"] == "processReady" && event["role"] == role)?;
        self.gig.wait_until_all_run()
    }

    /// A process that stands still is noticed, killed and replaced.
    fn stuck_part(&mut self, role: &str) -> Outcome {
        let mark = self.gig.mark();
        let pid = self.gig.process(role).ok_or_else(|| format!("there is no {role}"))?;
        send_signal(pid, Signal::STOP);
        self.death(mark, pid, Some(Signal::KILL))?;
        self.gig.event_since(mark, "processReady", |event| event["kind"] == "processReady" && event["role"] == role)?;
        self.gig.wait_until_all_run()
    }

    /// The host that is to go on cannot: the next one does.
    fn host_beside_stuck_spare(&mut self) -> Outcome {
        let side = self.any_side();
        let (mark, from_tick) = self.begin(side);
        let (pid, spare) = (self.pid(side.runtime())?, self.gig.process("spareHost").ok_or("no spare")?);
        send_signal(spare, Signal::STOP);
        self.linger(2 * u64::try_from(ABSENCE.as_micros()).unwrap_or(u64::MAX));
        send_signal(pid, Signal::KILL);
        self.death(mark, pid, Some(Signal::KILL))?;
        self.death(mark, spare, Some(Signal::KILL))?;
        self.recovery(mark, side, from_tick, 2)
    }

    /// The edit is compiled by the next worker, after the time that one compile may take.
    fn stuck_worker_in_edit(&mut self) -> Outcome {
        let side = self.any_side();
        let variant = self.other_variant(side, true);
        let mark = self.gig.mark();
        let pid = self.gig.process("compilerWorker").ok_or("there is no compiler-worker")?;
        send_signal(pid, Signal::STOP);
        let request = self.gig.push(side, variant);
        match self.gig.settle(side, variant, request) {
            Ok(progress) => self.edited[side as usize] = progress["tick"].as_u64().unwrap_or(0),
            Err(failure) => return Err(format!("a request that one worker has not answered is tried again: {failure:?}")),
        }
        self.death(mark, pid, Some(Signal::KILL))
    }

    fn stuck_device(&mut self) -> Outcome {
        self.stuck_part("deviceHost")?;
        // Long enough for a part of the recording that can be told from others.
        self.gig.play_on(24_000)
    }

    /// A supervisor that was late itself gives nobody up, and goes on where it was.
    fn paused_supervisor(&mut self) -> Outcome {
        let mark = self.gig.mark();
        self.gig.playing.signal(Signal::STOP);
        std::thread::sleep(ABSENCE);
        self.gig.playing.signal(Signal::CONT);
        self.gig.play_on(24_000)?;
        let deaths = self.gig.count_since(mark, |event| matches!(event["kind"].as_str(), Some("hostDied" | "processDied")));
        if deaths == 0 { self.gig.wait_until_all_run() } else { Err(format!("{deaths} processes were given up")) }
    }

    fn device(&mut self, signal: Signal) -> Outcome {
        self.part("deviceHost", signal)?;
        // Long enough for a part of the recording that can be told from others.
        self.gig.play_on(24_000)
    }

    /// All of the session plays on, and belongs to the next supervisor: the same processes, and not a block less.
    fn supervisor(&mut self) -> Outcome {
        let before: Vec<_> = self.gig.runtimes().into_iter().map(|runtime| (runtime, self.gig.host(runtime))).collect();
        let device = self.gig.process("deviceHost");
        self.check_holdings();
        self.gig.replace_supervisor()?;
        self.held = super::holdings_at_rest(&mut self.gig);
        for (runtime, host) in before {
            if self.gig.host(runtime) != host {
                return Err(format!("{runtime} has another host"));
            }
        }
        if self.gig.process("deviceHost") != device {
            return Err("there is another device host".to_owned());
        }
        self.gig.check_counter()
    }

    // ---------------------------------------------------------------------------------------------------------- edits

    fn other_variant(&mut self, side: Side, is_structure: bool) -> Variant {
        let now = self.gig.journals[side as usize].last();
        match (is_structure, self.random.one_in(2)) {
            (false, _) => Variant { offset: self.random.below(1 << 20) as i32, ..now },
            (true, false) => Variant { factor: 2 * self.random.below(500) as i32 + 1, ..now },
            (true, true) => Variant { pads: (now.pads + 1 + self.random.below(5) as u32) % 6, ..now },
        }
    }

    fn edit_parameter(&mut self) -> Outcome {
        self.edit(false)
    }

    fn edit_structure(&mut self) -> Outcome {
        self.edit(true)
    }

    fn edit(&mut self, is_structure: bool) -> Outcome {
        let side = self.any_side();
        let variant = self.other_variant(side, is_structure);
        if variant == self.gig.journals[side as usize].last() {
            return Ok(());
        }
        let request = self.gig.push(side, variant);
        let progress = self.gig.settle(side, variant, request).map_err(|failure| format!("{variant:?}: {failure:?}"))?;
        self.edited[side as usize] = progress["tick"].as_u64().unwrap_or(0);
        if progress["state"] == "committed" { Ok(()) } else { Err(format!("{variant:?}: {progress}")) }
    }

    /// A revision that divides by zero within its trial: the one before it takes its place, unheard.
    fn edit_that_fails(&mut self) -> Outcome {
        let side = self.any_side();
        self.gig.wait_for_tick(side.runtime(), self.edited[side as usize] + TRIAL_TICKS)?;
        let mark = self.gig.mark();
        let fuse = 300 + self.random.below(4_000) as u32;
        let variant = Variant { fuse: Some(fuse), ..self.gig.journals[side as usize].last() };
        let request = self.gig.push(side, variant);
        let progress = self.gig.settle(side, variant, request).map_err(|failure| format!("{variant:?}: {failure:?}"))?;
        if progress["state"] != "committed" {
            return Err(format!("{variant:?}: {progress}"));
        }
        let back = self.gig.wait_for_rollback(side, mark)?;
        let ticks = back["tick"].as_u64().zip(progress["tick"].as_u64()).map(|(to, from)| to.saturating_sub(from));
        let due = Some(u64::from(fuse) / 128);
        if ticks == due { Ok(()) } else { Err(format!("failed after {ticks:?} ticks, not {due:?}: {back}")) }
    }

    /// An edit on its way when its host dies: it takes effect or it does not, and that is told.
    fn host_in_edit(&mut self) -> Outcome {
        let side = self.any_side();
        let is_structure = self.random.one_in(2);
        let variant = self.other_variant(side, is_structure);
        let (mark, from_tick) = self.begin(side);
        let pid = self.pid(side.runtime())?;
        let request = self.gig.push(side, variant);
        self.linger(EDIT_US);
        send_signal(pid, Signal::KILL);
        match self.gig.settle(side, variant, request) {
            Ok(progress) => {
                self.edited[side as usize] = progress["tick"].as_u64().unwrap_or(from_tick) + 64;
                let is_known = matches!(progress["state"].as_str(), Some("committed" | "rejected" | "unchanged"));
                if !is_known {
                    return Err(format!("{progress}"));
                }
            }
            Err(failure) if failure.name == "not_applied" => {}
            Err(failure) => return Err(format!("{failure:?}")),
        }
        self.death(mark, pid, Some(Signal::KILL))?;
        self.recovery(mark, side, from_tick, 1)
    }

    fn worker_in_edit(&mut self) -> Outcome {
        let side = self.any_side();
        let variant = self.other_variant(side, true);
        let mark = self.gig.mark();
        let pid = self.gig.process("compilerWorker").ok_or("there is no compiler-worker")?;
        let request = self.gig.push(side, variant);
        self.linger(EDIT_US / 4);
        send_signal(pid, Signal::KILL);
        match self.gig.settle(side, variant, request) {
            Ok(progress) => self.edited[side as usize] = progress["tick"].as_u64().unwrap_or(0),
            Err(failure) => return Err(format!("a request that one worker has died of is tried again: {failure:?}")),
        }
        self.death(mark, pid, Some(Signal::KILL))?;
        self.gig.event_since(mark, "processReady", |event| event["kind"] == "processReady" && event["role"] == "compilerWorker")?;
        Ok(())
    }
}
