//! A session that is to survive: three voices and a counting worker on the paced null device, recorded, its control socket,
//! and what must be left of it at the end.
//!
//! Nothing here judges a fault's outcome but [`Gig::finish`]; waits have a deadline and return what they waited for as an
//! error, so that a soak can count it and go on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::hearing::{self, Heard};
use super::voices::{COUNTING, Journal, Side, Variant};
use crate::live::{Holdings, read_wav};
use crate::playing::{Folder, PATIENCE, Playing, send_signal, text};
use crate::remains::shared_memory_names;
use crate::rpc::{Failure, Peer};

/// The runtime without a lane.
pub const COUNTER: &str = "counter";

/// The session's name.
const NAME: &str = "gig";

/// Blocks at the end of a session that may be part of its fade-out.
const FADE_OUT_BLOCKS: usize = 40;

/// How a session is set up.
pub struct Setup {
    /// Blocks that programs compute ahead.
    pub lead_blocks: u32,
    pub has_counter: bool,
    pub environment: Vec<(&'static str, String)>,
    /// Further lines of the session file.
    pub settings: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self { lead_blocks: ipc::limits::DEFAULT_LEAD_BLOCKS, has_counter: true, environment: Vec::new(), settings: String::new() }
    }
}

/// A running session.
pub struct Gig {
    pub playing: Playing,
    pub peer: Peer,
    pub folder: Folder,
    setup: Setup,
    /// Events of the topics `processes` and `changes`, in their order.
    pub events: Vec<Value>,
    pub journals: [Journal; 3],
    /// Which variant a revision is, by side.
    pub revisions: BTreeMap<(Side, String), Variant>,
    session: String,
    /// Whether another supervisor has taken the session back: the kernel tells it that its children have died, not of what.
    pub is_taken_back: bool,
}

impl Gig {
    /// Starts a session and waits until all of it runs and a spare is ready.
    pub fn start(setup: Setup) -> Self {
        let folder = Folder::new();
        write_session(&folder, &setup);
        let mut playing = play(&folder, &setup);
        Side::ALL.iter().for_each(|_| drop(playing.wait_for("sounding")));
        let peer = connect(&folder);
        let session = session_id(&playing);
        let journals = Side::ALL.map(|side| Journal::new(side.first_variant()));
        let mut gig =
            Self { playing, peer, folder, setup, events: Vec::new(), journals, revisions: BTreeMap::new(), session, is_taken_back: false };
        gig.subscribe();
        for side in Side::ALL {
            let revision = gig.runtime(side.runtime())["revision"].as_str().unwrap_or_default().to_owned();
            gig.revisions.insert((side, revision), side.first_variant());
        }
        gig.wait_for_spare().expect("a session has a spare");
        gig
    }

    fn subscribe(&mut self) {
        self.peer.expect("subscribe", json!({ "topics": ["processes", "changes"] }));
    }

    /// Names of the runtimes.
    pub fn runtimes(&self) -> Vec<&'static str> {
        let counter = self.setup.has_counter.then_some(COUNTER);
        Side::ALL.iter().map(|side| side.runtime()).chain(counter).collect()
    }

    // ------------------------------------------------------------------------------------------------------- looking

    pub fn status(&mut self) -> Value {
        self.peer.expect("status", json!({}))
    }

    /// What `status` says about one runtime.
    pub fn runtime(&mut self, name: &str) -> Value {
        let mut status = self.peer.expect("status", json!({ "runtime": name }));
        status["runtimes"][0].take()
    }

    /// The process that executes a runtime.
    pub fn host(&mut self, runtime: &str) -> Option<u32> {
        self.runtime(runtime)["pid"].as_u64().map(|pid| pid as u32).filter(|pid| *pid != 0)
    }

    /// The process in this role (`compilerWorker`, `deviceHost`, `spareHost`), if there is one.
    pub fn process(&mut self, role: &str) -> Option<u32> {
        let status = self.status();
        let mut processes = status["processes"].as_array()?.iter();
        processes.find(|process| process["role"] == role)?["pid"].as_u64().map(|pid| pid as u32)
    }

    /// Waits until the session says so.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > deadline {
                return Err(format!("waited for {what}; status: {}", self.status()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for a spare that has had time to load what runs.
    pub fn wait_for_spare(&mut self) -> Result<(), String> {
        self.wait_until("a spare", |gig| gig.process("spareHost").is_some())
    }

    /// Waits until every runtime runs.
    pub fn wait_until_all_run(&mut self) -> Result<(), String> {
        self.wait_until("all runtimes to run", |gig| {
            let status = gig.status();
            status["runtimes"].as_array().is_some_and(|all| all.iter().all(|runtime| runtime["state"] == "running"))
        })
    }

    /// Waits until the device has played so many frames more, whichever device host plays them.
    pub fn play_on(&mut self, frames: u64) -> Result<(), String> {
        let played = |gig: &mut Self| gig.status()["device"]["frames"].as_u64().unwrap_or(0);
        let goal = played(self) + frames;
        self.wait_until("the device to play on", |gig| played(gig) >= goal)
    }

    /// Waits until a runtime has come to a tick.
    pub fn wait_for_tick(&mut self, runtime: &str, tick: u64) -> Result<u64, String> {
        let now = |gig: &mut Self| gig.runtime(runtime)["tick"].as_u64().unwrap_or(0);
        self.wait_until(&format!("tick {tick} of {runtime}"), |gig| now(gig) >= tick)?;
        Ok(now(self))
    }

    /// Whether the counting worker has counted every tick once.
    pub fn check_counter(&mut self) -> Result<(), String> {
        if !self.setup.has_counter {
            return Ok(());
        }
        let answer = self.peer.call("get", json!({ "runtime": COUNTER, "items": ["m:ticks"] })).map_err(|failure| failure.message)?;
        let (tick, count) = (answer["tick"].as_u64(), answer["values"][0]["values"][0].as_u64());
        if tick.is_none() || tick != count {
            return Err(format!("the counter has counted {count:?} ticks at tick {tick:?}"));
        }
        Ok(())
    }

    /// Memory and descriptors of the supervisor and of the process in each role and of each runtime.
    pub fn holdings(&mut self) -> BTreeMap<String, Holdings> {
        let status = self.status();
        let supervisor = (Some("supervisor".to_owned()), status["pid"].as_u64());
        let processes = status["processes"].as_array().into_iter().flatten();
        let name = |process: &Value| process["runtime"].as_str().or(process["role"].as_str()).map(str::to_owned);
        let named = processes.map(|process| (name(process), process["pid"].as_u64())).chain([supervisor]);
        named.filter_map(|(name, pid)| Some((name?, Holdings::of(pid? as u32)?))).collect()
    }

    // -------------------------------------------------------------------------------------------------------- events

    /// Where the log of events ends now.
    pub fn mark(&mut self) -> usize {
        while let Some(event) = self.peer.next_event(Duration::ZERO) {
            self.events.push(event);
        }
        self.events.len()
    }

    /// The first event from `mark` on that `is_wanted`.
    pub fn event_since(&mut self, mark: usize, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut at = mark;
        loop {
            while let Some(event) = self.events.get(at) {
                if is_wanted(event) {
                    return Ok(event.clone());
                }
                at += 1;
            }
            match self.peer.next_event(deadline.saturating_duration_since(Instant::now())) {
                Some(event) => self.events.push(event),
                None => return Err(format!("no event {what} since {:#?}", &self.events[mark..])),
            }
        }
    }

    /// How many events from `mark` on `are_meant`.
    pub fn count_since(&mut self, mark: usize, are_meant: impl Fn(&Value) -> bool) -> usize {
        self.mark();
        self.events[mark..].iter().filter(|event| are_meant(event)).count()
    }

    // --------------------------------------------------------------------------------------------------------- edits

    /// Sends an edit of a voice, without waiting.
    pub fn push(&mut self, side: Side, variant: Variant) -> u64 {
        self.peer.ask("push", json!({ "runtime": side.runtime(), "text": variant.text(side), "acknowledge": true }))
    }

    /// Waits for what becomes of an edit: its progress (`committed`, `rejected` …), which is written down.
    pub fn settle(&mut self, side: Side, variant: Variant, request: u64) -> Result<Value, Failure> {
        let report = self.peer.answer(request)?;
        let revision = report["revision"].as_str().unwrap_or_default().to_owned();
        self.revisions.insert((side, revision), variant);
        let change = report["change"].clone();
        let last = ["committed", "rejected", "superseded", "cancelled", "unchanged"];
        let is_over = |event: &Value| event["change"] == change && last.iter().any(|state| event["progress"]["state"] == *state);
        let event = self.event_since(0, &format!("about change {change}"), is_over).unwrap_or_else(|error| panic!("{error}"));
        let progress = event["progress"].clone();
        if let (Some("committed"), Some(tick)) = (progress["state"].as_str(), progress["tick"].as_u64()) {
            self.journals[side as usize].note(tick, variant);
        }
        Ok(progress)
    }

    /// Makes an edit that must take effect; returns its tick.
    pub fn edit(&mut self, side: Side, variant: Variant) -> u64 {
        let request = self.push(side, variant);
        let progress = self.settle(side, variant, request).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(progress["state"], "committed", "{progress}");
        progress["tick"].as_u64().expect("a tick")
    }

    /// Waits until an edit that fails has been taken back, and writes that down.
    pub fn wait_for_rollback(&mut self, side: Side, mark: usize) -> Result<Value, String> {
        let is_back = |event: &Value| event["runtime"] == side.runtime() && event["progress"]["state"] == "rolledBack";
        let event = self.event_since(mark, "rolledBack", is_back)?;
        let progress = event["progress"].clone();
        let to = progress["to"].as_str().unwrap_or_default().to_owned();
        let variant = self.revisions.get(&(side, to.clone())).copied().ok_or_else(|| format!("went back to the unknown {to}"))?;
        self.journals[side as usize].note(progress["tick"].as_u64().ok_or("no tick")?, variant);
        Ok(progress)
    }

    // ---------------------------------------------------------------------------------------------------- supervisor

    /// Kills the supervisor and starts another one over what it has left.
    pub fn replace_supervisor(&mut self) -> Result<(), String> {
        self.playing.signal(Signal::KILL);
        self.playing.wait();
        let next = play(&self.folder, &self.setup);
        std::mem::replace(&mut self.playing, next).leave();
        self.peer = connect(&self.folder);
        self.subscribe();
        self.is_taken_back = true;
        self.wait_until_all_run()?;
        self.wait_for_spare()
    }

    /// Kills every process of the session at once.
    pub fn kill_everything(&mut self) {
        for process in self.playing.processes() {
            send_signal(process.pid, Signal::KILL);
        }
        self.playing.wait_until_gone();
    }

    /// Starts the session again after all of it was killed: with a recording and a model that begin anew.
    pub fn start_again(&mut self) {
        let wavs = self.wavs();
        wavs.iter().for_each(|wav| drop(std::fs::remove_file(wav)));
        let next = play(&self.folder, &self.setup);
        std::mem::replace(&mut self.playing, next).leave();
        Side::ALL.iter().for_each(|_| drop(self.playing.wait_for("sounding")));
        self.peer = connect(&self.folder);
        self.session = session_id(&self.playing);
        self.journals = Side::ALL.map(|side| Journal::new(side.first_variant()));
        self.events.clear();
        self.subscribe();
        self.wait_for_spare().expect("a session has a spare");
    }

    // ------------------------------------------------------------------------------------------------------- the end

    /// Ends the session and listens to its recording. What it leaves behind is an error.
    pub fn finish(mut self) -> Result<Heard, String> {
        self.play_on(4 * 4_096)?;
        self.peer.expect("shutdown", json!({}));
        let code = self.playing.wait();
        self.playing.wait_until_gone();
        if code != Some(0) {
            return Err(format!("the session ended with {code:?}"));
        }
        self.remains()?;
        let parts: Vec<_> = self.wavs().iter().map(|wav| read_wav(wav)).collect();
        Ok(hearing::compare(&parts, &self.journals, FADE_OUT_BLOCKS))
    }

    /// Names and files that the session has left behind.
    pub fn remains(&self) -> Result<(), String> {
        let names: Vec<_> = shared_memory_names().into_iter().filter(|name| name.contains(&self.session)).collect();
        let ours = [self.folder.path().join("continuo"), temporary(&self.folder)];
        let entries = ours.into_iter().flat_map(|ours| std::fs::read_dir(ours).into_iter().flatten().flatten());
        let files: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| !is_kept(name)).collect();
        if names.is_empty() && files.is_empty() { Ok(()) } else { Err(format!("left behind: {names:?} {files:?}")) }
    }

    /// The parts of the recording that there are, in their order.
    pub fn wavs(&self) -> Vec<PathBuf> {
        let part = |number: u32| match number {
            1 => self.folder.path().join("take.wav"),
            _ => self.folder.path().join(format!("take.{number}.wav")),
        };
        (1..).map(part).take_while(|path| path.exists()).collect()
    }

    /// The session's id, which is part of every name in shared memory.
    pub fn session(&self) -> &str {
        &self.session
    }
}

/// Locks stay: removing one would take it from under whoever waits for it.
fn is_kept(name: &str) -> bool {
    name.ends_with(".lock")
}

fn write_session(folder: &Folder, setup: &Setup) {
    let mut session = format!(
        "name = \"{NAME}\"\nlead = {}\ndevice = \"null\"\nrecording = \"{}\"\n{}\n",
        setup.lead_blocks,
        text(&folder.path().join("take.wav")),
        setup.settings
    );
    let mut runtime = |name: &str, text: &str| {
        folder.file(&format!("{name}.8f4e"), text);
        session.push_str(&format!("[[runtime]]\nname = \"{name}\"\nfile = \"{name}.8f4e\"\n"));
    };
    Side::ALL.iter().for_each(|side| runtime(side.runtime(), &side.first_variant().text(*side)));
    if setup.has_counter {
        runtime(COUNTER, COUNTING);
    }
    folder.file("gig.toml", session);
}

/// The session's own place for temporary files, so that what is left there can be told from what others leave.
fn temporary(folder: &Folder) -> PathBuf {
    folder.path().join("tmp")
}

fn play(folder: &Folder, setup: &Setup) -> Playing {
    let temporary = temporary(folder);
    std::fs::create_dir_all(&temporary).expect("a folder can be made");
    let environment = setup.environment.iter().map(|(name, value)| (*name, value.as_str()));
    let environment: Vec<(&str, &str)> = environment.chain([("TMPDIR", text(&temporary))]).collect();
    Playing::up(folder, &[text(&folder.path().join("gig.toml"))], &environment)
}

fn connect(folder: &Folder) -> Peer {
    Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")))
}

/// The id that every child is told: what follows the doorway on the device host's command line.
fn session_id(playing: &Playing) -> String {
    let host = &playing.in_role("device-host")[0];
    let at = host.arguments.iter().position(|argument| argument == "device-host").expect("its role");
    host.arguments[at + 2].clone()
}
