//! At any moment the supervisor may die: another one is built from the last notes and from what the children say, and goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::*;
use crate::policy::adoption::{Found, Notes};
use crate::policy::runtime::Revision;

/// One noteworthy event in so many is the last of which a supervisor takes notes.
const ODDS: u64 = 150;

/// What a supervisor leaves: its notes, the texts in them, and the plans that its artifacts hold.
#[derive(Debug)]
pub struct Legacy {
    notes: Notes,
    texts: HashMap<ContentHash, Arc<str>>,
    plans: HashMap<ContentHash, Plan>,
}

impl World {
    /// Whether the supervisor is to die, and what it leaves then.
    pub fn last_notes(&mut self) -> Option<Legacy> {
        let is_possible = self.policy.is_live() && self.policy.stage == Stage::Working && !self.is_calm;
        if !is_possible || !self.random.one_in(ODDS) {
            return None;
        }
        let legacy = self.legacy();
        self.check_notes(&legacy);
        Some(legacy)
    }

    /// The supervisor is killed, and the next one takes its place.
    pub fn succeed(&mut self, legacy: Legacy) {
        // What was on its way to it, nobody hears; whoever waited has seen the connection break.
        self.pending.clear();
        self.letters.clear();
        self.coming.clear();
        let open: Vec<Ticket> = self.clients.asked.difference(&self.clients.answered).copied().collect();
        self.clients.lost.extend(open);
        for _ in 0..self.random.below(4) {
            self.play_on();
        }
        self.coming.clear();
        let Legacy { notes, texts, plans } = legacy;
        self.release_all_but(&notes);
        let (hosts, device) = self.gather(&notes);
        let next = Policy::take_back(&notes, Found { texts, plans, hosts, given_up: BTreeSet::new(), device });
        self.renumber(&notes);
        self.policy = next;
        // What is noted counts as done.
        self.is_rendering = self.policy.is_rendering();
        (self.requests, self.starts, self.settled) = Default::default();
        // It begins a journal of its own.
        self.wired.clear();
        self.logged.clear();
        self.successions += 1;
        self.step(Event::Begin);
        self.check_what_plays();
    }

    pub fn legacy(&self) -> Legacy {
        let notes = reread(&self.policy.notes(&mut |text| ContentHash::of(&[text.as_bytes()])));
        let artifacts = notes.revisions().into_iter();
        let kept: Vec<ContentHash> = artifacts
            .map(|(revision, artifact)| {
                self.promise(!self.released.contains(&artifact.name), "an artifact is noted that is gone");
                revision.hash
            })
            .collect();
        let revisions = self.revisions();
        let plans =
            revisions.iter().map(|revision| (revision.hash(), revision.plan.clone())).filter(|(hash, _)| kept.contains(hash)).collect();
        let history = self.policy.runtimes.iter().flat_map(|runtime| runtime.history.iter().map(|entry| &entry.text).chain(&runtime.last));
        let texts = self.policy.texts.iter().chain(history).chain(revisions.iter().map(|revision| &revision.text));
        let named = notes.texts();
        let texts: HashMap<ContentHash, Arc<str>> =
            texts.map(|text| (text.hash(), Arc::clone(&text.source))).filter(|(hash, _)| named.contains(&hash.to_string())).collect();
        self.promise(texts.len() == named.len(), "a text is named that nobody has");
        Legacy { notes, texts, plans }
    }

    /// Who comes when it is summoned: hosts that run something, and the device host. Everybody else is ended.
    fn gather(&mut self, notes: &Notes) -> (BTreeMap<usize, (u32, ipc::recovery::Presence)>, Option<u32>) {
        let needed = notes.hosts();
        let (mut hosts, mut device) = (BTreeMap::new(), None);
        let children: Vec<(Child, bool)> = self.alive.iter().map(|(child, is_going)| (*child, *is_going)).collect();
        for (child, is_going) in children {
            let is_away = is_going || self.fails(8);
            match child {
                Child::Host(host) if !is_away && needed.contains_key(&host.0) => {
                    if let Some(presence) = self.presence(host) {
                        hosts.insert(host.0, (1, presence));
                        continue;
                    }
                }
                Child::Device(generation) if !is_away && generation == notes.device() && self.policy.process(child).is_joined() => {
                    device = Some(1);
                    continue;
                }
                Child::Worker(_) | Child::Device(_) | Child::Host(_) => {}
            }
            self.alive.remove(&child);
        }
        if device.is_none() {
            self.gains.clear();
            self.music.device_is_gone();
        }
        (hosts, device)
    }

    /// What no note names goes with the supervisor that made it.
    fn release_all_but(&mut self, notes: &Notes) {
        let needed: BTreeSet<&str> = notes.segments().map(|segment| segment.name.as_str()).collect();
        for name in (1..=self.segments).map(|number| format!("s{number}")) {
            if !needed.contains(name.as_str()) {
                self.released.insert(name);
            } else {
                self.promise(!self.released.contains(&name), "a segment is noted that is gone");
            }
        }
    }

    /// The next supervisor numbers lives anew, in the order of the notes.
    fn renumber(&mut self, notes: &Notes) {
        self.music.renumber(notes.lives.keys().enumerate().map(|(new, old)| (RuntimeIndex(new), RuntimeIndex(*old))));
        let mut before = std::mem::take(&mut self.hosts.lives);
        let renumbered =
            notes.lives.keys().enumerate().filter_map(|(new, old)| Some((RuntimeIndex(new), before.remove(&RuntimeIndex(*old))?)));
        self.hosts.lives = renumbered.collect();
    }

    /// If everybody comes and has nothing to say that was not heard, the next supervisor knows what this one knows.
    fn check_notes(&self, legacy: &Legacy) {
        let Legacy { notes, texts, plans } = legacy;
        let (texts, hosts) = (texts.clone(), self.everybody(notes));
        let found = Found { texts, plans: plans.clone(), hosts, given_up: BTreeSet::new(), device: Some(1) };
        let hosts: Vec<usize> = found.hosts.keys().copied().collect();
        let mut next = Policy::take_back(notes, found);
        let actions = next.step(self.now_ms, Event::Begin);
        let ends = actions.iter().any(|action| matches!(action, Action::Finish(_) | Action::StopRuntime(_) | Action::StopDevice));
        self.promise(!ends, "the next supervisor ends what plays");
        self.promise(next.noted_tempo() == self.policy.noted_tempo(), "the next supervisor knows another tempo");
        let release = |action: &Action| if let Action::Release { segment } = action { Some(segment.clone()) } else { None };
        let released: Vec<String> = actions.iter().filter_map(release).collect();
        let after = next.notes(&mut |text| ContentHash::of(&[text.as_bytes()]));
        for (index, runtime) in &notes.runtimes {
            let Some((slot, program)) = self.running(*index, &hosts) else { continue };
            self.promise(
                runtime.revisions().all(|revision| plans.contains_key(&revision.hash)),
                &format!("the artifact of a revision is not kept: {:#?}, {:#?}", runtime.lasting(), program.keep),
            );
            let now = &after.runtimes[index];
            let what = format!("{} is not what it was: {:#?} and {:#?}", runtime.name, runtime.lasting(), now.lasting());
            self.promise(runtime.lasting() == now.lasting(), &what);
            let other = next.runtimes[*index].slot.map(|slot| &next.programs[slot.0]);
            let what = format!("the life of a runtime is not what it was: {program:?} and {other:?}");
            self.promise(other.is_some_and(|other| is_same_life(program, other)), &what);
            self.promise(!released.iter().any(|segment| program.keep.holds(segment)), "a segment is released that may be needed");
            let text = next.runtimes[*index].slot.map(|slot| &next.texts[slot.0].source);
            self.promise(text == Some(&self.policy.texts[slot.0].source), "another text runs");
        }
    }

    /// The life of a runtime whose host has come.
    fn running(&self, runtime: usize, hosts: &[usize]) -> Option<(RuntimeIndex, &Program)> {
        let slot = self.policy.runtimes[runtime].slot?;
        let program = &self.policy.programs[slot.0];
        let is_here = program.host.is_some_and(|host| hosts.contains(&host.0));
        (is_here && matches!(program.phase, Phase::Running | Phase::Held)).then_some((slot, program))
    }

    /// Every host that is needed, as the policy knows it.
    fn everybody(&self, notes: &Notes) -> BTreeMap<usize, (u32, ipc::recovery::Presence)> {
        let needed = notes.hosts();
        let running = self.policy.programs.iter().filter(|program| matches!(program.phase, Phase::Running | Phase::Held));
        let presence = |program: &Program| {
            let host = program.host.filter(|host| needed.contains_key(&host.0))?;
            let presence = ipc::recovery::Presence {
                runtime: program.name.clone(),
                generation: program.generation,
                revision: program.revision.as_ref()?.hash(),
                next_tick: program.ticks,
                is_frozen: self.policy.runtimes[program.runtime?].is_frozen,
                is_held: program.phase == Phase::Held,
                last_request: Some(self.policy.last_live_request),
                answers: Vec::new(),
                took_over: None,
            };
            Some((host.0, (1, presence)))
        };
        running.filter_map(presence).collect()
    }

    /// Every revision that the policy has in its hands.
    fn revisions(&self) -> Vec<Arc<Revision>> {
        let mut found = Vec::new();
        for runtime in &self.policy.runtimes {
            found.extend(runtime.current.clone());
            if let Some(trial) = &runtime.trial {
                found.extend([Arc::clone(&trial.revision), Arc::clone(&trial.base)].into_iter().chain(trial.other_base.clone()));
                found.extend(trial.later.iter().map(|later| Arc::clone(&later.revision)));
            }
            if let Some(flight) = &runtime.flight {
                found.extend(std::iter::once(Arc::clone(&flight.what.revision)).chain(flight.good.clone()));
            }
        }
        found
    }
}

fn is_same_life(before: &Program, now: &Program) -> bool {
    let is_told = before.is_lane_added;
    (&now.lane_name, &now.lane, now.generation, now.host) == (&before.lane_name, &before.lane, before.generation, before.host)
        && now.keep.to_be_noted() == before.keep.to_be_noted()
        && (!is_told || now.gain == before.gain)
}

/// As from a ledger.
fn reread(notes: &Notes) -> Notes {
    fn one<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        ipc::codec::decode(&ipc::codec::encode(value).unwrap()).unwrap()
    }
    Notes { session: one(&notes.session), reckoning: one(&notes.reckoning), lives: one(&notes.lives), runtimes: one(&notes.runtimes) }
}
