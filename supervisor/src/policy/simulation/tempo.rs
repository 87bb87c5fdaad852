//! Musical time in the simulated session: clients and the clock that comes in set it, hosts and the device host are told of it.
//! What hosts know is kept here as real hosts keep it: a value that took effect outlives the host that it took effect in.

use std::collections::{BTreeMap, BTreeSet};

use ipc::live::SetItem;
use ipc::tempo::Tempo;

use super::*;
use crate::control::protocol::{Tempo as TempoParams, Transport, Verb};
use crate::control::{Call, ClientId, Ticket};
use crate::policy::{TempoItems, TempoSetup};

/// The items in which programs of the simulation are told.
const TEMPO_ITEM: &str = "a:level";
const RUNNING_ITEM: &str = "b:level";

/// What is known of musical time outside of the policy.
pub struct Music {
    pub dice: Random,
    /// How the session is set up; `None`: nobody cares for musical time in it.
    setup: Option<TempoSetup>,
    /// What the device host that is there was told last.
    device: Option<Tempo>,
    /// What each life was told last, by item.
    programs: BTreeMap<RuntimeIndex, BTreeMap<String, f64>>,
    /// Lives of which somebody said that they had begun before they had: they could not be told what they were told then.
    deaf: BTreeSet<RuntimeIndex>,
    /// Changes of it.
    pub changes: u64,
    /// How often it was looked whether a program or the device host knows it.
    looks: u64,
    /// How fast it has gone, and whether it ran.
    truths: BTreeSet<(u64, bool)>,
}

impl Music {
    pub fn new(seed: u64) -> Self {
        let mut dice = Random(seed.rotate_left(32) ^ 0x7e3a);
        let setup =
            (seed % 4 == 1).then(|| TempoSetup { follows_clock: dice.one_in(2), sends_clock: dice.one_in(2), ..TempoSetup::default() });
        Self { dice, setup, device: None, programs: BTreeMap::new(), deaf: BTreeSet::new(), changes: 0, looks: 0, truths: BTreeSet::new() }
    }

    /// Whether anybody cares.
    pub fn plays(&self) -> bool {
        self.setup.is_some()
    }

    /// A life begins, or goes on with all of its items as they are in its text.
    pub fn forget(&mut self, runtime: RuntimeIndex) {
        self.programs.remove(&runtime);
    }

    /// A life begins of which it was said before that it had.
    pub fn had_not_begun(&mut self, runtime: RuntimeIndex) {
        self.deaf.insert(runtime);
    }

    /// Values have taken effect.
    pub fn take(&mut self, runtime: RuntimeIndex, values: &[SetItem]) {
        let known = self.programs.entry(runtime).or_default();
        known.extend(values.iter().map(|set| (set.item.clone(), set.value)));
    }

    /// There is another device host, or none.
    pub fn device_is_gone(&mut self) {
        self.device = None;
    }

    /// The device host is told.
    pub fn tell_device(&mut self, tempo: Tempo) {
        self.device = Some(tempo);
    }

    /// The next supervisor numbers lives anew.
    pub fn renumber(&mut self, lives: impl Iterator<Item = (RuntimeIndex, RuntimeIndex)>) {
        let (mut before, deaf) = (std::mem::take(&mut self.programs), std::mem::take(&mut self.deaf));
        for (new, old) in lives {
            self.programs.extend(before.remove(&old).map(|known| (new, known)));
            self.deaf.extend(deaf.contains(&old).then_some(new));
        }
    }
}

impl World {
    /// Says how fast the session goes when it begins.
    pub fn set_up_music(&mut self) {
        if let Some(setup) = self.music.setup {
            self.policy.set_up_tempo(setup);
        }
    }

    /// A plan as its program would have it where musical time matters: some want to know all of it, some a part, some nothing.
    pub fn with_tempo(&self, plan: Plan, code: u64) -> Plan {
        let items = |tempo: bool| TempoItems {
            tempo: tempo.then(|| TEMPO_ITEM.to_owned()),
            running: Some(RUNNING_ITEM.to_owned()),
            ..TempoItems::default()
        };
        let tempo = match code {
            _ if !self.music.plays() => None,
            0 => Some(Box::new(items(true))),
            1 => Some(Box::new(items(false))),
            _ => None,
        };
        Plan { tempo, ..plan }
    }

    /// Somebody says how fast the session goes: a client, or the clock that is followed; neither always makes sense.
    pub fn set_tempo(&mut self) {
        let before = self.policy.noted_tempo().1;
        let bpm = 60.0 + self.music.dice.below(100) as f64;
        if self.music.dice.one_in(2) {
            let (block, is_running) = (self.music.dice.below(1_000_000), self.music.dice.one_in(2));
            let (bpm, clocks) = if self.music.dice.one_in(8) { (f64::NAN, -1.0) } else { (bpm, self.music.dice.below(1_000) as f64) };
            let tempo = Tempo { block, bpm, is_running, clocks };
            let Child::Device(generation) = self.policy.device() else { return };
            if self.music.dice.one_in(4) {
                self.step(Event::DeviceSaid { generation, reply: DeviceReply::ClockLost });
                self.promise(self.policy.noted_tempo().1 == before, "a clock that is lost changes how the session goes");
            }
            self.step(Event::DeviceSaid { generation, reply: DeviceReply::Tempo(tempo) });
            let is_followed = self.music.setup.is_some_and(|setup| setup.follows_clock);
            let now = self.policy.noted_tempo().1;
            self.promise(now == before || now == tempo && is_followed && tempo.is_sound(), "a clock that is not followed is believed");
        } else {
            let transports = [None, Some(Transport::Start), Some(Transport::Stop), Some(Transport::Continue)];
            let transport = transports[self.music.dice.below(4) as usize];
            let params = TempoParams { bpm: self.music.dice.one_in(2).then_some(bpm), transport, beat: None };
            let ticket = Ticket(self.clients.asked.len() as u64 + 1);
            self.clients.asked.insert(ticket);
            self.step(Event::Call { call: Box::new(Call { ticket, client: ClientId(1), verb: Verb::Tempo(params) }), text: None });
        }
        let now = self.policy.noted_tempo().1;
        self.music.truths.insert((now.bpm.to_bits(), now.is_running));
        if now != before {
            self.music.changes += 1;
        }
    }

    /// A host is told: nothing but what was true of the session at some time, older things before newer ones.
    pub fn is_told_tempo(&mut self, runtime: RuntimeIndex, values: &[SetItem]) {
        let now = self.policy.noted_tempo().1;
        self.music.truths.insert((now.bpm.to_bits(), now.is_running));
        for set in values {
            let was_true = self.music.truths.iter().any(|(bpm, is_running)| match set.item.as_str() {
                TEMPO_ITEM => *bpm == set.value.to_bits(),
                RUNNING_ITEM => f64::from(u8::from(*is_running)) == set.value,
                // Somebody sets something else.
                _ => true,
            });
            self.promise(was_true, &format!("{runtime:?} is told what was never true: {values:?}"));
        }
    }

    /// Who wants to know of musical time, and is there to be told, knows the newest.
    pub fn check_music(&mut self) {
        if !self.music.plays() || self.policy.stage != Stage::Working || !self.policy.is_live() {
            return;
        }
        let mut looks = 0;
        let now = self.policy.noted_tempo().1;
        if self.music.setup.is_some_and(|setup| setup.sends_clock) && self.policy.device == Device::Open {
            looks += 1;
            self.promise(self.music.device == Some(now), &format!("the clock goes out as {:?}, not {now:?}", self.music.device));
        }
        for (runtime, life) in &self.hosts.lives {
            let program = &self.policy.programs[runtime.0];
            let Some(named) = program.runtime.filter(|named| self.policy.runtimes[*named].slot == Some(*runtime)) else { continue };
            let current = self.policy.runtimes[named].current.as_ref();
            let Some(items) = current.and_then(|current| current.plan.tempo.as_ref()) else { continue };
            let is_there = self.alive.get(&Child::Host(life.host)).is_some_and(|is_going| !is_going)
                && self.is_heard(life.host)
                && !self.music.deaf.contains(runtime);
            if program.phase != Phase::Running || program.host != Some(life.host) || !is_there {
                continue;
            }
            let known = self.music.programs.get(runtime);
            for (item, value) in [(&items.tempo, now.bpm), (&items.running, f64::from(u8::from(now.is_running)))] {
                let Some(item) = item else { continue };
                looks += 1;
                let is_known = known.and_then(|known| known.get(item)) == Some(&value);
                self.promise(is_known, &format!("{runtime:?} does not know {now:?} in {item}: {known:?}"));
            }
        }
        self.music.looks += looks;
    }
}

#[test]
fn whatever_happens_every_program_and_the_clock_that_goes_out_know_the_newest_tempo() {
    let (first, wanted) = (number("CONTINUO_SEED"), number("CONTINUO_SIMULATION").unwrap_or(TEMPO_EVENTS));
    let (mut events, mut sessions, mut changes, mut looks, mut successions) = (0, 0, 0, 0, 0);
    while events < wanted {
        // The seeds of sessions in which musical time matters.
        let mut world = World::new(first.unwrap_or(1) + 4 * sessions);
        world.run();
        (events, sessions) = (events + world.events, sessions + 1);
        (changes, looks) = (changes + world.music.changes, looks + world.music.looks);
        successions += world.successions;
        if first.is_some() && number("CONTINUO_SIMULATION").is_none() {
            return;
        }
    }
    println!(
        "{events} events in {sessions} sessions, {changes} changes of the tempo, looked at {looks} times, {successions} deaths of supervisors"
    );
    assert!(changes > events / 200 && looks > events / 20 && successions > events / 2_000, "it changes seldom");
}
