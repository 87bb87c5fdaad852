//! The edit campaign: random edits of a playing patchwork through the control socket, each checked against what the session
//! says about it, and all of them together, sample by sample, against the model.
//!
//! The session has three runtimes. `subject` is edited and heard on the left. `bystander` is a ramp on the right that nobody
//! touches. `guest` is silent and changes its runtime type now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::edits::{Edit, Edits, Random};
use crate::live::{BLOCK_FRAMES, LiveSession, read_wav};
use crate::patchwork::machine::Machine;
use crate::patchwork::{Kind, Module, Program, Shape, change, text};
use crate::playing::{self, Folder, PATIENCE};
use crate::programs::{RAMP_STEP, ramp_on, silence};

/// The runtime that is edited.
const SUBJECT: &str = "subject";

/// Frames that a fade of the device host takes at most, at the end of a session.
const FADE_BLOCKS: usize = 40;

/// Fuse, in samples, of a bomb during whose trial somebody saves again: three quarters of a second.
const SLOW_FUSE: i32 = 36_000;

/// Shortest and longest crossfade, in milliseconds.
const CROSSFADE_MS: std::ops::Range<u64> = 5..60;

/// Frames in a millisecond.
const MS_FRAMES: u64 = 48;

/// Something that reached the subject, with the tick it took effect in.
#[derive(Clone, Debug)]
enum Entry {
    Change(Box<Program>),
    /// The same, with so many frames in which both programs are heard.
    Crossfade(Box<Program>, u64),
    Set {
        module: String,
        item: &'static str,
        value: f32,
    },
    /// Time stops: silence from this tick on.
    Freeze,
    Run,
    /// Values that the session read, as words, by item.
    Read(Vec<(String, String, u32)>),
}

/// A campaign under way.
pub struct Campaign {
    pub session: LiveSession,
    pub random: Random,
    edits: Edits,
    /// Where the file is that clips are loaded from.
    directory: String,
    program: Program,
    /// The subject's revision.
    revision: String,
    hosts: BTreeMap<String, u64>,
    guest_is_worker: bool,
    journal: Vec<(u64, Entry)>,
    /// Programs that have played before, with their revisions.
    past: Vec<(String, Program)>,
    /// How many edits went which way.
    pub tally: BTreeMap<String, u32>,
}

impl Campaign {
    /// Starts a session with the base program.
    pub fn start(folder: &Folder, mut random: Random) -> Self {
        let program = Program::base();
        folder.file(text::CLIP_FILE, text::clip_file());
        let directory = playing::text(folder.path()).to_owned();
        let subject = folder.file("subject.8f4e", text::of(&program));
        let bystander = folder.file("bystander.8f4e", ramp_on("right"));
        let guest = folder.file("guest.8f4e", silence());
        let mut session = LiveSession::start(folder, &[&subject, &bystander, &guest]);
        session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
        let revision = revision(&session.runtime(SUBJECT));
        let hosts = session.host_pids();
        let edits = Edits::with_clips(Random::new(random.below(u64::MAX)));
        let past = vec![(revision.clone(), program.clone())];
        let (journal, tally) = (Vec::new(), BTreeMap::new());
        Self { session, random, edits, directory, program, revision, hosts, guest_is_worker: false, journal, past, tally }
    }

    /// Makes one random edit and checks everything that can be checked at once.
    pub fn step(&mut self) {
        match self.random.below(26) {
            0 => self.retype_guest(),
            1..=3 => self.set(),
            4 => self.freeze(),
            5 => self.roll_back(),
            6 => self.wait_for_a_freeze(),
            7 if self.random.one_in(3) => self.save_within_a_trial(),
            8 | 9 => self.wait_for_a_pulse(),
            10 if self.random.one_in(2) => self.crossfade(),
            _ => self.edit(),
        }
        if self.random.one_in(4) {
            self.read();
        }
        assert_eq!(self.session.host_pids(), self.hosts, "no host has been restarted");
    }

    fn edit(&mut self) {
        match self.edits.next(&self.program) {
            Edit::Good { name, program } => self.good(name, program),
            Edit::Broken { name, text, line } => self.broken(name, &text, line),
            Edit::Failing { program, fuse } => self.failing(&program, fuse),
        }
    }

    fn count(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    /// Parameters of `plan` and `push` for a text of the subject.
    fn params(&self, text: &str) -> Value {
        json!({ "runtime": SUBJECT, "text": text, "directory": self.directory })
    }

    /// The same with more of them.
    fn params_with(&self, text: &str, more: &[(&str, Value)]) -> Value {
        let mut params = self.params(text);
        more.iter().for_each(|(name, value)| params[*name] = value.clone());
        params
    }

    // ---------------------------------------------------------------------------------------------------- good edits

    fn good(&mut self, name: &str, program: Program) {
        let text = text::of(&program);
        let expected = change::between(&self.program, &program);
        let plan = self.session.peer.expect("plan", self.params(&text));
        assert_eq!(plan["state"], "planned", "{name}");
        check_report(name, &plan, &expected);
        self.count(expected.class);
        let is_confirmed_beforehand = expected.class == "C" && self.random.one_in(3);
        let params = self.params_with(&text, &[("acknowledge", json!(is_confirmed_beforehand))]);
        let report = if expected.class == "C" && !is_confirmed_beforehand {
            let failure = self.session.peer.call("push", params).expect_err("a change of class C waits");
            assert_eq!((failure.code, failure.name.as_str()), (5, "needs_ack"), "{name}: {failure:?}");
            let report = failure.data["change"].clone();
            assert_eq!(report["state"], "needsAck", "{name}");
            self.check_that_nothing_changed(name);
            if self.random.one_in(2) {
                return self.cancel(name, &plan, &report);
            }
            let confirmed = self.session.peer.expect("confirm", json!({ "change": report["change"] }));
            check_same(name, &report, &confirmed);
            report
        } else {
            self.session.peer.expect("push", params)
        };
        check_same(name, &plan, &report);
        self.commit(name, &report, &expected, program);
    }

    /// Goes back to a program that has played before.
    fn roll_back(&mut self) {
        let (revision, program) = self.random.pick(&self.past).clone();
        if program == self.program {
            return; // It plays already.
        }
        let name = "a rollback";
        let expected = change::between(&self.program, &program);
        let params = json!({ "runtime": SUBJECT, "revision": &revision[..16], "acknowledge": true });
        let report = self.session.peer.expect("rollback", params);
        check_report(name, &report, &expected);
        self.commit(name, &report, &expected, program);
        self.count("gone back");
    }

    /// Waits until a change is in effect, and checks that it is what was announced.
    fn commit(&mut self, name: &str, report: &Value, expected: &change::Expected, program: Program) -> u64 {
        self.commit_faded(name, report, expected, program, 0)
    }

    /// The same where both programs are heard for so many frames.
    fn commit_faded(&mut self, name: &str, report: &Value, expected: &change::Expected, program: Program, fade_frames: u64) -> u64 {
        let has_clip = program.modules.iter().any(|module| matches!(module.kind, Kind::Clip { .. }));
        has_clip.then(|| self.count("with a file"));
        let change = number(&report["change"]);
        let committed = self.session.peer.progress(change, &["committed", "rejected", "superseded", "cancelled", "rolledBack"]);
        check_commit(name, report, &committed, expected);
        // A change of nothing that runs reaches no host.
        if expected.class != "none" {
            let next = Box::new(program.clone());
            let entry = if fade_frames > 0 { Entry::Crossfade(next, fade_frames) } else { Entry::Change(next) };
            self.journal.push((number(&committed["tick"]), entry));
        }
        self.revision = report["revision"].as_str().expect("a revision").to_owned();
        self.past.push((self.revision.clone(), program.clone()));
        self.program = program;
        number(&committed["tick"])
    }

    fn cancel(&mut self, name: &str, plan: &Value, report: &Value) {
        check_same(name, plan, report);
        let change = number(&report["change"]);
        self.session.peer.expect("cancel", json!({ "change": change }));
        self.session.peer.progress(change, &["cancelled"]);
        let again = self.session.peer.call("confirm", json!({ "change": change })).expect_err("it is over");
        assert_eq!(again.name, "unknown_change", "{name}");
        self.check_that_nothing_changed(name);
        self.count("cancelled");
    }

    fn check_that_nothing_changed(&mut self, name: &str) {
        assert_eq!(revision(&self.session.runtime(SUBJECT)), self.revision, "{name}: what plays has changed");
    }

    // --------------------------------------------------------------------------------------------------- wrong edits

    fn broken(&mut self, name: &str, text: &str, line: Option<u64>) {
        for verb in ["plan", "push"] {
            let failure = self.session.peer.call(verb, self.params(text)).expect_err("a broken text is no edit");
            assert_eq!((failure.code, failure.name.as_str()), (7, "compile_failed"), "{name}: {failure:?}\n{text}");
            if let Some(line) = line {
                assert_eq!(failure.data["diagnostics"][0]["line"], line, "{name}: {failure:?}\n{text}");
            }
        }
        self.check_that_nothing_changed(name);
        self.count("broken");
    }

    /// Waits until what plays has passed its trial, so that it is what a failure goes back to.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let is_good = |session: &mut LiveSession| {
            let list = session.peer.expect("list", json!({ "runtime": SUBJECT }));
            let revisions = list["revisions"].as_array().expect("a list of revisions").iter();
            revisions.filter(|revision| revision["isCurrent"] == true).any(|revision| revision["isGood"] == true)
        };
        while !is_good(&mut self.session) {
            assert!(Instant::now() < deadline, "what plays does not pass its trial");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn failing(&mut self, program: &Program, fuse: i32) {
        self.settle();
        let text = text::of(program);
        let name = "a failing edit";
        let expected = change::between(&self.program, program);
        let plan = self.session.peer.expect("plan", self.params(&text));
        check_report(name, &plan, &expected);
        let report = self.session.peer.expect("push", self.params(&text));
        check_same(name, &plan, &report);
        let change = number(&report["change"]);
        let committed = self.session.peer.progress(change, &["committed", "rejected", "superseded", "cancelled", "rolledBack"]);
        check_commit(name, &report, &committed, &expected);
        let back = self.session.peer.progress(change, &["rolledBack"]);
        assert_eq!(back["to"].as_str(), Some(self.revision.as_str()));
        let lines = text::failing_lines(&text);
        let line = number(&back["line"]);
        assert!(lines.contains(&line), "line {line} is blamed, not one of {lines:?} of\n{text}");
        // The fuse burns one step a sample and fails in the sample after it reached 0.
        let (from, to) = (number(&committed["tick"]), number(&back["tick"]));
        assert_eq!(to - from, fuse as u64 / BLOCK_FRAMES as u64, "the failing tick: committed in {from}, rolled back in {to}, fuse {fuse}");
        self.journal.push((from, Entry::Change(Box::new(program.clone()))));
        self.journal.push((to, Entry::Change(Box::new(self.program.clone()))));
        self.check_that_nothing_changed(name);
        self.count("rolled back");
        let again = self.session.peer.call("push", self.params(&text)).expect_err("it has failed before");
        assert_eq!(again.name, "refused", "{again:?}");
    }

    /// An edit waits until time stops. Broken texts, and another edit that takes its place, come meanwhile.
    fn wait_for_a_freeze(&mut self) {
        let mut pending: Option<(u64, Value, Program)> = None;
        for _ in 0..1 + self.random.below(2) {
            let program = self.edits.unasked(&self.program);
            let params = self.params_with(&text::of(&program), &[("boundary", json!("freeze"))]);
            let report = self.session.peer.expect("push", params);
            assert_eq!((&report["state"], &report["boundary"]), (&json!("pending"), &json!("freeze")), "{report}");
            let change = number(&report["change"]);
            if let Some((earlier, ..)) = pending.replace((change, report, program)) {
                let superseded = self.session.peer.progress(earlier, &["committed", "rejected", "superseded", "cancelled"]);
                assert_eq!((&superseded["state"], &superseded["by"]), (&json!("superseded"), &json!(change)));
                self.count("superseded");
            }
            if let Edit::Broken { name, text, line } = self.edits.broken(&self.program.clone()) {
                self.broken(name, &text, line);
            }
        }
        let Some((_, report, program)) = pending else { return };
        let expected = change::between(&self.program, &program);
        let answer = self.session.peer.expect("freeze", json!({ "runtime": SUBJECT }));
        let frozen_at = number(&answer["tick"]);
        self.journal.push((frozen_at, Entry::Freeze));
        let committed_at = self.commit("an edit that waited for a freeze", &report, &expected, program);
        assert!(expected.class == "none" || committed_at == frozen_at, "it takes effect when time stops");
        let answer = self.session.peer.expect("run", json!({ "runtime": SUBJECT }));
        self.journal.push((number(&answer["tick"]), Entry::Run));
        self.count("at a freeze");
    }

    /// An edit waits for the program's pulse, which a client gives.
    fn wait_for_a_pulse(&mut self) {
        let name = "an edit that waited for a pulse";
        let program = self.edits.unasked(&self.program);
        let expected = change::between(&self.program, &program);
        let params = self.params_with(&text::of(&program), &[("boundary", json!("pulse"))]);
        let report = self.session.peer.expect("push", params);
        assert_eq!((&report["state"], &report["boundary"]), (&json!("pending"), &json!("pulse")), "{report}");
        check_report(name, &report, &expected);
        if let Edit::Broken { name, text, line } = self.edits.broken(&self.program.clone()) {
            self.broken(name, &text, line);
        }
        // The host answers this once it has made the new program ready.
        self.read();
        self.check_that_nothing_changed(name);
        self.write("mix", "beat", 0.0);
        let rose = self.write("mix", "beat", 1.0);
        let committed = self.commit(name, &report, &expected, program);
        assert_eq!(committed, rose + 1, "it takes effect in the tick after the pulse rose");
        self.count("at a pulse");
    }

    /// An edit whose old sound goes over into the new one. What is heard before has passed its trial, because the program
    /// that a failure would go back to is the one that is heard meanwhile.
    fn crossfade(&mut self) {
        self.settle();
        let name = "an edit with a crossfade";
        // Only another engine can be heard beside the one that runs.
        let (program, expected) = loop {
            let Edit::Good { program, .. } = self.edits.good(&self.program) else { continue };
            let expected = change::between(&self.program, &program);
            if matches!(expected.class, "B" | "C") {
                break (program, expected);
            }
        };
        let fade_ms = CROSSFADE_MS.start + self.random.below(CROSSFADE_MS.end - CROSSFADE_MS.start);
        let more = [("acknowledge", json!(true)), ("crossfadeMs", json!(fade_ms))];
        let report = self.session.peer.expect("push", self.params_with(&text::of(&program), &more));
        check_report(name, &report, &expected);
        let fade_frames = fade_ms * MS_FRAMES;
        let committed = self.commit_faded(name, &report, &expected, program, fade_frames);
        let over = committed + fade_frames.div_ceil(BLOCK_FRAMES as u64);
        self.session.wait_until("the crossfade to be over", |peer| {
            number(&peer.expect("get", json!({ "runtime": SUBJECT, "items": ["mix:position"] }))["tick"]) > over
        });
        self.count("crossfaded");
    }

    /// A revision with a bomb in it is on trial, and its text is saved again, with another comment or with other code: what
    /// comes back when it goes off is what played before both.
    fn save_within_a_trial(&mut self) {
        self.settle();
        let good = (self.revision.clone(), self.program.clone());
        let Edit::Failing { program: bomb, fuse } = self.edits.failing_after(&good.1.clone(), SLOW_FUSE) else { return };
        let first = self.push_and_commit("a slow bomb", &bomb);
        // Time stops meanwhile, so that the save is within the trial however long it takes.
        let frozen = number(&self.session.peer.expect("freeze", json!({ "runtime": SUBJECT }))["tick"]);
        let burns = fuse as u64 / BLOCK_FRAMES as u64;
        assert!(frozen - first < burns, "a request takes three quarters of a second");
        self.journal.push((frozen, Entry::Freeze));
        let again = if self.random.one_in(2) {
            Program { comment: bomb.comment + 1, ..bomb.clone() }
        } else {
            let count = Module::new("late", Kind::Counter { is_float: false, increment: 3, level: 0.25 });
            let mut modules = bomb.modules.clone();
            modules.push(count);
            Program { modules, ..bomb.clone() }
        };
        self.push_and_commit("a save within a trial", &again);
        let runs = number(&self.session.peer.expect("run", json!({ "runtime": SUBJECT }))["tick"]);
        self.journal.push((runs, Entry::Run));
        let back = self.session.peer.event("the bomb to go off", |event| event["progress"]["state"] == "rolledBack");
        let tick = number(&back["progress"]["tick"]);
        assert_eq!(tick - runs + frozen - first, burns, "the fuse burns on from revision to revision");
        assert_eq!(back["progress"]["to"].as_str(), Some(good.0.as_str()), "the last good revision comes back: {back}");
        self.journal.push((tick, Entry::Change(Box::new(good.1.clone()))));
        (self.revision, self.program) = good;
        self.check_that_nothing_changed("after a bomb that was saved twice");
        self.session.assert_playing(SUBJECT);
        self.count("saved within a trial");
    }

    /// Pushes a text that is known to be accepted; returns the tick in which it took effect.
    fn push_and_commit(&mut self, name: &str, program: &Program) -> u64 {
        let expected = change::between(&self.program, program);
        let report = self.session.peer.expect("push", self.params(&text::of(program)));
        let tick = self.commit(name, &report, &expected, program.clone());
        // It fails later: nobody goes back to it.
        self.past.pop();
        tick
    }

    // --------------------------------------------------------------------------------------------------------- values

    fn set(&mut self) {
        let is_oscillator = |id: &&String| matches!(self.program.module(id).map(|m| &m.kind), Some(Kind::Oscillator { .. }));
        let ids: Vec<String> = self.program.voices().map(|voice| voice.id.clone()).collect();
        let ids: Vec<&String> = ids.iter().filter(is_oscillator).filter(|id| *id != "anchor").collect();
        if ids.is_empty() {
            return;
        }
        let module = (*self.random.pick(&ids)).clone();
        let value = self.random.fraction(256, 1_024);
        self.write(&module, "level", value);
        self.count("set");
    }

    /// Writes a float of the subject; returns the tick it is written in.
    fn write(&mut self, module: &str, item: &'static str, value: f32) -> u64 {
        let values = json!([{ "item": format!("{module}:{item}"), "value": value }]);
        let tick = number(&self.session.peer.expect("set", json!({ "runtime": SUBJECT, "values": values }))["tick"]);
        self.journal.push((tick, Entry::Set { module: module.to_owned(), item, value }));
        tick
    }

    /// Stops the subject's time, mostly makes an edit meanwhile, and lets it go on.
    fn freeze(&mut self) {
        let answer = self.session.peer.expect("freeze", json!({ "runtime": SUBJECT }));
        assert_eq!((&answer["state"], &answer["committed"]), (&json!("frozen"), &Value::Null));
        self.journal.push((number(&answer["tick"]), Entry::Freeze));
        if !self.random.one_in(3) {
            if let Edit::Good { name, program } = self.edits.good(&self.program) {
                self.good(name, program);
            }
            self.read();
        }
        let answer = self.session.peer.expect("run", json!({ "runtime": SUBJECT }));
        self.journal.push((number(&answer["tick"]), Entry::Run));
        self.count("frozen");
    }

    /// Reads the first word of every item that is no pointer.
    fn read(&mut self) {
        let of_module = |module: &crate::patchwork::Module| {
            let id = module.id.clone();
            module.items().into_iter().map(move |item| (id.clone(), item))
        };
        let is_plain = |shape: Shape| matches!(shape, Shape::Int | Shape::Float);
        let items: Vec<_> = self.program.modules.iter().flat_map(of_module).filter(|(_, item)| is_plain(item.shape)).collect();
        let names: Vec<String> = items.iter().map(|(module, item)| format!("{module}:{}", item.name)).collect();
        let answer = self.session.peer.expect("get", json!({ "runtime": SUBJECT, "items": names }));
        let values = answer["values"].as_array().expect("a list of values");
        assert_eq!(values.len(), items.len());
        let words = items.into_iter().zip(values).map(|((module, item), value)| {
            let number = value["values"][0].as_f64().unwrap_or_else(|| panic!("{module}:{} is {value}", item.name));
            let word = if item.shape == Shape::Int { number as i32 as u32 } else { (number as f32).to_bits() };
            (module, item.name, word)
        });
        self.journal.push((number(&answer["tick"]), Entry::Read(words.collect())));
    }

    // ----------------------------------------------------------------------------------------------------- the guest

    /// Edits the guest into a program of another runtime type: it alone gets a new host.
    fn retype_guest(&mut self) {
        self.guest_is_worker = !self.guest_is_worker;
        let text = if self.guest_is_worker { silence().replace("AudioWorkletRuntime", "WebWorkerRuntime") } else { silence() };
        let plan = self.session.peer.expect("plan", json!({ "runtime": "guest", "text": text }));
        let report = self.session.peer.expect("push", json!({ "runtime": "guest", "text": text }));
        check_same("another runtime type", &plan, &report);
        assert_eq!(report["class"], "T");
        self.session.peer.progress(number(&report["change"]), &["committed"]);
        let hosts = self.session.host_pids();
        assert_ne!(hosts["guest"], self.hosts["guest"], "another runtime type takes another process");
        self.hosts.insert("guest".to_owned(), hosts["guest"]);
        self.count("T");
    }

    // ------------------------------------------------------------------------------------------------------ the end

    /// Ends the session and compares what was heard, what a replay of it gives, and every value that was read, with the model.
    pub fn finish(mut self, folder: &Folder) {
        self.read();
        let end_tick = self.journal.last().map_or(0, |(tick, _)| *tick) as usize;
        self.session.play_on(((FADE_BLOCKS + 40) * BLOCK_FRAMES) as u64);
        let underruns = self.session.underruns_by_runtime();
        let recording = folder.path().join("take.continuo");
        self.session.peer.expect("record", json!({ "path": playing::text(&recording) }));
        self.session.peer.expect("record", json!({}));
        let heard = self.session.end();
        println!("{end_tick} ticks, underruns: {underruns:?}, edits: {:?}", self.tally);
        let rendered = render(&self.journal, end_tick);
        compare(&heard, &rendered, underruns[SUBJECT]);
        check_bystander(&heard, underruns["bystander"]);
        let replayed = replay(folder, &recording);
        assert!(replayed.len() > rendered.len(), "{} frames were replayed of {}", replayed.len(), rendered.len());
        compare_blocks("the replay", &replayed, &rendered, 0);
    }
}

/// The subject's sound in a replay, in fresh processes.
fn replay(folder: &Folder, recording: &Path) -> Vec<f32> {
    let wav = folder.path().join("replay.wav");
    let arguments = ["replay", playing::text(recording), "--runtime", SUBJECT, "-o", playing::text(&wav)];
    let output = playing::run(folder, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_wav(&wav).iter().map(|frame| frame[0]).collect()
}

/// What the subject must have given up to a tick, by the journal of its edits.
fn render(journal: &[(u64, Entry)], end_tick: usize) -> Vec<f32> {
    let mut machine = Machine::new(&Program::base());
    let mut entries = journal.iter().peekable();
    let mut samples = Vec::with_capacity(end_tick * BLOCK_FRAMES);
    let mut is_frozen = false;
    let mut fading: Option<Fading> = None;
    let mut last = 0.0;
    for tick in 0..=end_tick {
        let was_frozen = is_frozen;
        while let Some((at, entry)) = entries.next_if(|(at, _)| *at <= tick as u64) {
            assert_eq!(*at, tick as u64, "the journal is in the order of its ticks");
            match entry {
                Entry::Change(program) => machine.change_to(program),
                Entry::Crossfade(program, frames) => {
                    fading = Some(Fading { old: machine.clone(), done: 0, frames: *frames });
                    machine.change_to(program);
                }
                Entry::Set { module, item, value } => machine.set(module, item, *value),
                Entry::Freeze => is_frozen = true,
                Entry::Run => is_frozen = false,
                Entry::Read(values) => {
                    for (module, item, word) in values {
                        let expected = machine.word(module, item);
                        assert_eq!(
                            *word,
                            expected,
                            "{module}:{item} at tick {tick}: {} {}",
                            f32::from_bits(*word),
                            f32::from_bits(expected)
                        );
                    }
                }
            }
        }
        let mut block = if is_frozen { [0.0; BLOCK_FRAMES] } else { machine.tick() };
        if let Some(fade) = fading.as_mut().filter(|fade| fade.done < fade.frames) {
            fade.mix(&mut block);
        }
        if is_frozen != was_frozen {
            join(&mut block, last);
        }
        last = block[BLOCK_FRAMES - 1];
        samples.extend(block);
    }
    samples
}

/// A crossfade under way.
struct Fading {
    old: Machine,
    done: u64,
    frames: u64,
}

impl Fading {
    /// The old program goes on beside the new one, and is heard less and less.
    fn mix(&mut self, block: &mut [f32; BLOCK_FRAMES]) {
        for (sample, before) in block.iter_mut().zip(self.old.tick()) {
            self.done += 1;
            if self.done < self.frames {
                let gain = self.done as f32 / self.frames as f32;
                *sample = *sample * gain + before * (1.0 - gain);
            }
        }
    }
}

/// Where time stops or goes on, the last sample is held and blended into what follows, within a block.
fn join(block: &mut [f32; BLOCK_FRAMES], last: f32) {
    for (frame, sample) in block.iter_mut().enumerate() {
        let gain = (frame + 1) as f32 / BLOCK_FRAMES as f32;
        *sample = *sample * gain + last * (1.0 - gain);
    }
}

/// Compares the subject with its model.
fn compare(heard: &[[f32; 2]], rendered: &[f32], underruns: u64) {
    let first_heard = heard.iter().position(|frame| frame[0] != 0.0).expect("the subject was heard");
    let first_rendered = rendered.iter().position(|sample| *sample != 0.0).expect("the model sounds");
    let start = first_heard - first_rendered;
    assert_eq!(start % BLOCK_FRAMES, 0, "ticks begin with blocks");
    let heard: Vec<f32> = heard[start..].iter().map(|frame| frame[0]).collect();
    assert!(heard.len() >= rendered.len(), "{} frames were heard of {}", heard.len(), rendered.len());
    compare_blocks(SUBJECT, &heard, rendered, underruns);
}

/// The bystander goes on by one step a sample on the right, all the time but for the end of the session.
pub fn check_bystander(heard: &[[f32; 2]], underruns: u64) {
    let heard = &heard[..heard.len().saturating_sub(FADE_BLOCKS * BLOCK_FRAMES)];
    let first = heard.iter().position(|frame| frame[1] != 0.0).expect("the bystander was heard");
    let heard: Vec<f32> = heard[first..].iter().map(|frame| frame[1]).collect();
    let expected: Vec<f32> = (1..=heard.len()).map(|n| (n & 0xF_FFFF) as f32 * RAMP_STEP).collect();
    compare_blocks("the bystander", &heard, &expected, underruns);
}

/// Compares block by block. A block that was not there in time is concealed and the one after it faded in: nothing else may
/// differ, so there is no more of that than there were blocks missing, and it is never louder than what should have been heard.
fn compare_blocks(who: &str, heard: &[f32], expected: &[f32], underruns: u64) {
    let blocks: Vec<_> = expected.chunks_exact(BLOCK_FRAMES).zip(heard.chunks_exact(BLOCK_FRAMES)).collect();
    let differs = |block: &usize| blocks[*block].0 != blocks[*block].1;
    let differing: Vec<usize> = (0..blocks.len()).filter(differs).collect();
    let mut missing = 0;
    for run in differing.chunk_by(|one, next| one + 1 == *next) {
        missing += (run.len() as u64 - 1).max(1);
        let loudest = |block: usize| blocks[block].0.iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
        let limit = loudest(run[0].saturating_sub(1)).max(run.iter().map(|block| loudest(*block)).fold(0.0, f32::max));
        assert!(
            missing <= underruns && run.iter().all(|block| blocks[*block].1.iter().all(|sample| sample.abs() <= limit)),
            "{who}: blocks {run:?} differ, with {underruns} underruns; heard {:?}, expected {:?}",
            blocks[run[0]].1,
            blocks[run[0]].0
        );
    }
}

fn check_report(name: &str, report: &Value, expected: &change::Expected) {
    assert_eq!(report["class"], expected.class, "{name}: {report}");
    assert_eq!(lost(&report["reset"]), expected.reset, "{name}: what starts from its default: {report}");
    assert_eq!(lost(&report["discarded"]), expected.discarded, "{name}: what goes: {report}");
    assert_eq!(report["reasons"].as_array().is_some_and(Vec::is_empty), expected.class == "none", "{name}: {report}");
}

/// A later report about the same edit says the same.
fn check_same(name: &str, one: &Value, other: &Value) {
    for key in
        ["runtime", "revision", "base", "class", "reasons", "kept", "moved", "reset", "discarded", "atRisk", "boundaries", "runtimeType"]
    {
        assert_eq!(one[key], other[key], "{name}: {key} is not what was announced");
    }
}

/// What a commit reports is what was announced, by the supervisor and by the host's own count.
fn check_commit(name: &str, report: &Value, committed: &Value, expected: &change::Expected) {
    assert_eq!(committed["state"], "committed", "{name}: {committed} after {report}");
    assert_eq!(committed["copied"], report["kept"], "{name}");
    let moved = report["moved"].as_array().expect("a list of moves");
    let bytes: u64 = moved.iter().map(|item| number(&item["bytes"])).sum();
    assert_eq!(committed["remapped"], json!({ "items": moved.len(), "bytes": bytes }), "{name}");
    let (announced, reset) = (lost(&report["reset"]), names(&committed["reset"]));
    assert!(reset.is_superset(&announced), "{name}: {reset:?} of {announced:?}");
    let at_risk = names(&report["atRisk"]);
    assert!(
        reset.difference(&announced).all(|item| at_risk.contains(item)),
        "{name}: {reset:?}; announced {announced:?}, at risk {at_risk:?}"
    );
    assert_eq!(names(&committed["discarded"]), lost(&report["discarded"]), "{name}");
    check_count(name, report, committed, expected, reset.len() > announced.len());
}

/// The host has counted the bytes it carried: those of every item that was announced to be kept or moved, and no others.
fn check_count(name: &str, report: &Value, committed: &Value, expected: &change::Expected, has_lost_targets: bool) {
    let of_host = |key: &str| number(&committed["carried"][key]);
    let (kept, moved, patched) = (of_host("kept"), of_host("moved"), of_host("patched"));
    let context = format!("{name}: the host carried {}; announced {report}", committed["carried"]);
    assert_eq!(patched, 4 * expected.patched.len() as u64, "{context}");
    // An array of another size may well begin where it did.
    let moves = report["moved"].as_array().expect("a list of moves").iter();
    let (in_place, elsewhere): (Vec<_>, Vec<_>) = moves.partition(|item| item["fromAddress"] == item["toAddress"]);
    let bytes = |items: Vec<&Value>| items.into_iter().map(|item| number(&item["bytes"])).sum::<u64>();
    let (announced_kept, announced_moved) = (number(&report["kept"]["bytes"]) + bytes(in_place), bytes(elsewhere));
    // Parameters, and texts of which nothing runs: the memory stays, unless it waits for a boundary with a new engine.
    if matches!(expected.class, "none" | "A") && report["boundary"] == "frame" {
        assert_eq!((kept, moved, announced_moved), (0, 0, 0), "{context}");
        return;
    }
    assert!(kept <= announced_kept && moved <= announced_moved, "{context}");
    // Addresses whose target is gone are not carried.
    let is_whole = kept + moved + patched == announced_kept + announced_moved;
    assert!(is_whole || has_lost_targets, "{context}");
}

fn lost(items: &Value) -> BTreeSet<String> {
    let items = items.as_array().expect("a list of items").iter();
    items.map(|item| item["item"].as_str().expect("an item has a name").to_owned()).collect()
}

fn names(items: &Value) -> BTreeSet<String> {
    items.as_array().expect("a list of names").iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn revision(runtime: &Value) -> String {
    runtime["revision"].as_str().unwrap_or_else(|| panic!("no revision in {runtime}")).to_owned()
}
