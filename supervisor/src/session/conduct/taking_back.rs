//! Taking a session back whose supervisor has died: its children are summoned, and the policy is built from what the ledger
//! and they say (DESIGN §10). Part of the main loop: see the parent module.
//!
//! Runs before the first event is handled. It waits for children, which nothing else here does: there is nothing to miss yet, and
//! whoever does not come in time is killed and taken over like any other dead child. So is everybody, if need be: as long as one
//! child lived, what the runtimes are is in their segments, and new hosts go on from there. Nobody is taken for dead before the
//! kernel says so, because two hosts must not write one lane.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use ipc::artifact::Artifact;
use ipc::channel::{Doorway, Hello, PROTOCOL_VERSION};
use ipc::crash::CrashPage;
use ipc::hash::ContentHash;
use ipc::message::{HostReply, Role};
use ipc::recovery::Presence;
use ipc::rendezvous::Summons;

use super::{Incoming, Member, Shell};
use crate::policy::adoption::{Found, Notes, RevisionNote};
use crate::policy::{Child, Event, HostIndex, Inspection, Plan, Policy, ProcessEnd};
use crate::session::connection;
use crate::session::last_words::LastWords;
use crate::session::ledger::Entries;
use crate::session::obituaries::Obituary;
use crate::session::planning::{self, Compiled};
use crate::session::process::Process;
pub use crate::session::scribe::notes;
use crate::session::scribe::{self, ChildNote, keys};
use crate::session::tail::Tail;

/// How long children have to come. They look for their summons every few milliseconds, on a thread that does nothing else; who
/// does not come on a busy machine in this time stands still.
const COME: Duration = Duration::from_secs(3);

/// How long those who have not come have to be dead, once they are killed.
const DIE: Duration = Duration::from_secs(2);

/// Who has come.
#[derive(Default)]
struct Gathering {
    /// Summoned, and not here yet.
    missing: BTreeSet<Child>,
    hosts: BTreeMap<usize, (u32, Presence)>,
    device: Option<u32>,
    /// Any child was there, and with it the names of what they share.
    was_alive: bool,
    /// Hosts that were there and did not come.
    given_up: BTreeSet<usize>,
    /// What they have said since.
    later: Vec<Event>,
}

impl Shell<'_> {
    /// Takes the children back that are there, and builds the policy that goes on with them. False if none was.
    pub(super) fn take_back(&mut self, notes: &Notes, entries: &Entries, incoming: &Receiver<Incoming>) -> bool {
        self.obituaries.inherit(scribe::deaths(entries));
        let Gathering { hosts, device, was_alive, given_up, later, .. } = self.gather(notes, entries, incoming);
        if !was_alive {
            self.children.clear();
            self.session.names.retain(|_| false);
            return false;
        }
        for segment in notes.segments() {
            // One that is gone is missed by the host that needs it, and named there.
            let _ = self.segments.adopt(segment);
        }
        let texts = entries.all::<String>(keys::TEXT).into_iter();
        let texts = texts.map(|(_, text)| (ContentHash::of(&[text.as_bytes()]), Arc::from(text))).collect();
        self.policy = Policy::take_back(notes, Found { texts, plans: self.plans(notes), hosts, given_up, device });
        let needed: BTreeSet<&str> = notes.segments().map(|segment| segment.name.as_str()).collect();
        let pages: BTreeSet<String> = self.children.values().map(|member| member.page.name().to_owned()).collect();
        self.session.names.retain(|name| needed.contains(name) || pages.contains(name));
        self.pending.extend(later);
        true
    }

    /// Summons the children that are needed, ends the others, and waits.
    fn gather(&mut self, notes: &Notes, entries: &Entries, incoming: &Receiver<Incoming>) -> Gathering {
        let mut gathering = Gathering::default();
        let hosts = notes.hosts();
        for (_, note) in entries.all::<ChildNote>(keys::CHILD) {
            let child = note.child();
            let Some(process) = Process::adopt(note.pid, note.started_ticks) else {
                self.mourn(&note);
                continue;
            };
            gathering.was_alive = true;
            let is_needed = match child {
                Child::Host(HostIndex(host)) => hosts.contains_key(&host),
                Child::Device(generation) => generation == notes.device(),
                // The next one is as good.
                Child::Worker(_) => false,
            };
            if is_needed && self.summon(child, &note, &process) {
                gathering.missing.insert(child);
            } else {
                process.kill();
                self.scribe.ended(note.pid);
            }
        }
        self.await_all(&mut gathering, incoming, COME);
        for child in &gathering.missing {
            if let Some(member) = self.children.get(child) {
                member.process.kill();
            }
            if let Child::Host(HostIndex(host)) = child {
                gathering.given_up.insert(*host);
            }
        }
        self.await_all(&mut gathering, incoming, DIE);
        gathering
    }

    /// A child has died while there was no supervisor. What it left is still in its page.
    fn mourn(&mut self, note: &ChildNote) {
        self.scribe.ended(note.pid);
        let record = CrashPage::adopt(&note.page).map(|page| page.read()).unwrap_or_default();
        let role = note.child().role();
        // A worker ends when nobody is there to compile for.
        if role != Role::CompilerWorker || record.signal.is_some() || record.panic.is_some() {
            let (pid, end, tail) = (note.pid, ProcessEnd::UNKNOWN, Tail::default());
            self.obituaries.add(Obituary { role, pid, end, killed_for: None, record, tail });
        }
    }

    /// Opens a doorway for a child and tells it. False if that cannot be done.
    fn summon(&mut self, child: Child, note: &ChildNote, process: &Process) -> bool {
        let page = CrashPage::adopt(&note.page).or_else(|_| CrashPage::create(self.session.id()));
        let (Ok(page), Ok(doorway)) = (page, Doorway::open()) else { return false };
        let name = doorway.name().to_owned();
        let hello = Hello { protocol: PROTOCOL_VERSION, build: crate::role::BUILD.to_owned(), role: child.role() };
        let watched = connection::watch(child, process, self.sender.clone())
            .and_then(|()| connection::meet(child, doorway, hello, self.sender.clone()));
        let summons = Summons::Come { doorway: name.clone(), supervisor: std::process::id() };
        let told = watched.and_then(|()| summons.leave(self.session.directory.path(), note.pid));
        if told.is_ok() {
            let (process, last_words) = (process.clone(), LastWords::default());
            self.children.insert(child, Member { process, page, doorway: Some(name), outbox: None, last_words });
        }
        told.is_ok()
    }

    fn await_all(&mut self, gathering: &mut Gathering, incoming: &Receiver<Incoming>, patience: Duration) {
        let until = Instant::now() + patience;
        while !gathering.missing.is_empty() {
            let Ok(next) = incoming.recv_timeout(until.saturating_duration_since(Instant::now())) else { return };
            match next {
                Incoming::Joined { child, outbox } => self.come_in(gathering, child, outbox),
                Incoming::Event(event) => self.hear(gathering, event),
                Incoming::Noted(entry) => self.log(&entry),
                Incoming::Heard(_) => {} // Nothing has been heard before the session goes on.
                Incoming::Called => {}   // The queue of calls is looked into when the session goes on.
            }
        }
    }

    fn come_in(&mut self, gathering: &mut Gathering, child: Child, outbox: connection::Outbox) {
        let Some(member) = self.children.get_mut(&child) else { return };
        member.outbox = Some(outbox);
        member.doorway = None;
        if let Child::Device(_) = child {
            gathering.device = Some(member.process.pid);
            gathering.missing.remove(&child);
        }
    }

    fn hear(&mut self, gathering: &mut Gathering, event: Event) {
        match event {
            Event::HostSaid { host, reply: HostReply::Present(presence) } => {
                let Some(member) = self.children.get(&Child::Host(host)) else { return };
                gathering.hosts.insert(host.0, (member.process.pid, *presence));
                gathering.missing.remove(&Child::Host(host));
            }
            Event::Died { child, end, .. } if gathering.missing.remove(&child) => {
                let Some(Member { process, page, doorway, .. }) = self.children.remove(&child) else { return };
                let is_given_up = matches!(child, Child::Host(HostIndex(host)) if gathering.given_up.contains(&host));
                let killed_for = is_given_up.then(|| format!("it stood still: it did not come back within {} s", COME.as_secs()));
                let (role, pid, record, tail) = (child.role(), process.pid, page.read(), process.tail);
                self.obituaries.add(Obituary { role, pid, end, killed_for, record, tail });
                self.scribe.ended(pid);
                doorway.iter().for_each(|doorway| Doorway::shut(doorway));
            }
            // It cannot be talked to; that it is dead the kernel will say.
            Event::NotJoined { child, .. } | Event::ChannelClosed { child } | Event::ChannelBroken { child, .. }
                if gathering.missing.contains(&child) =>
            {
                if let Some(member) = self.children.get(&child) {
                    member.process.kill();
                }
            }
            other => gathering.later.push(other),
        }
    }

    /// Plans of all revisions whose artifacts are still there.
    fn plans(&self, notes: &Notes) -> HashMap<ContentHash, Plan> {
        let plan = |revision: &RevisionNote, artifact| {
            let compiled = Compiled { settings: revision.settings.as_ref(), is_settled: true };
            match planning::plan(Artifact::read(artifact).ok()?, &revision.text.base_directory, &compiled, self.default_type()) {
                Inspection::Playable(plan) => Some((revision.hash, plan)),
                Inspection::Runnable | Inspection::NeedsSettings(_) | Inspection::Unplayable { .. } => None,
                Inspection::Delivered | Inspection::NotDelivered { .. } | Inspection::Damaged { .. } => None,
            }
        };
        notes.revisions().into_iter().filter_map(|(revision, artifact)| plan(revision, artifact)).collect()
    }
}
