//! Control wires: which item follows which, and what the hosts at their ends are told. Part of the state machine: see the parent
//! module.
//!
//! A wire belongs to the session and names its ends: it outlives hosts, edits and stopped runtimes, and takes up its work when
//! both ends are there again. Whatever has happened, [`Policy::advance_wires`] compares what each host is to do with what it has
//! been told last. What a wire brings is an input like a `set`: the host takes it at a tick and tells it here, for the
//! journal; values that a dead host has told are known by their numbers when the next one tells them again.

use std::collections::VecDeque;

use ipc::limits::MAX_WIRES;
use ipc::manifest::Manifest;
use ipc::segment::SegmentRef;
use ipc::wires::{Inlet, Outlet, Taken, WireId, Wiring};
use runtime_host::host::items::{ItemError, Place};
use serde::{Deserialize, Serialize};

use super::edits::find;
use super::log::{LogEntry, Logged};
use super::program::Phase;
use super::{Action, Policy, Report, RuntimeIndex, looking};
use crate::control::protocol::{
    Answer, ControlEvent, ErrorCode, ErrorReply, RuntimeState, Unwired, Wire as WireParams, WireEnd, WireList, WireStatus,
};

/// Wires that are gone and whose last values may still be told.
const MAX_GONE: usize = 256;

/// A wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    id: WireId,
    /// Where its samples are on the board of the runtime that they come from.
    socket: u32,
    pub to: WireEnd,
    pub from: WireEnd,
}

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Wires {
    wires: Vec<Wire>,
    last: WireId,
    /// Those that are gone, with the items that they led to; the oldest first.
    gone: VecDeque<(WireId, String)>,
}

/// What a life of a runtime has for its wires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Board {
    #[default]
    None,
    Asked,
    There(SegmentRef),
    /// It could not be made, for this reason.
    Lacking(String),
}

/// How far the values of a life's wires are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Number of the next value.
    next: u64,
    /// Every value of the ticks before this one is known.
    pub to_tick: u64,
}

impl Wires {
    /// Everything that another supervisor must know.
    pub fn to_be_noted(&self) -> (Vec<Wire>, WireId) {
        (self.wires.clone(), self.last)
    }

    pub fn restore(&mut self, (wires, last): (Vec<Wire>, WireId)) {
        (self.wires, self.last) = (wires, last);
    }

    /// The item that a wire leads to, or led to.
    fn item(&self, id: WireId) -> Option<&str> {
        let present = self.wires.iter().find(|wire| wire.id == id).map(|wire| wire.to.item.as_str());
        present.or_else(|| self.gone.iter().find(|(gone, _)| *gone == id).map(|(_, item)| item.as_str()))
    }

    fn add(&mut self, to: WireEnd, from: WireEnd) -> Result<(), ErrorReply> {
        let is_free = |socket: &u32| self.wires.iter().all(|wire| wire.socket != *socket);
        let Some(socket) = (0..MAX_WIRES as u32).find(is_free) else {
            return Err(ErrorReply::new(ErrorCode::Exhausted, format!("a session has {MAX_WIRES} control wires at most; `unwire` one")));
        };
        self.last += 1;
        self.wires.push(Wire { id: self.last, socket, to, from });
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Wire {
        let wire = self.wires.remove(index);
        if self.gone.len() >= MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back((wire.id, wire.to.item.as_str().to_owned()));
        wire
    }
}

impl Policy {
    // -------------------------------------------------------------------------------------------------------- clients

    /// A wire of the session file: its ends may come later.
    pub fn preset_wire(&mut self, to: WireEnd, from: WireEnd) {
        // There is room: the file is checked for that.
        let _ = self.wires.add(to, from);
    }

    pub(super) fn wire(&mut self, asked: &WireParams, actions: &mut Vec<Action>) -> Result<Answer, ErrorReply> {
        let to = self.check_end(&asked.to, "params.to")?;
        let from = self.check_end(&asked.from, "params.from")?;
        if asked.to.runtime == asked.from.runtime && asked.to.item == asked.from.item
            || to.is_some() && self.is_same(&asked.to, &asked.from)
        {
            let message = format!("`{}` cannot follow itself; name the item that it is to follow", asked.to);
            return Err(ErrorReply::new(ErrorCode::InvalidParams, message).in_field("params.from"));
        }
        let named = |end: &WireEnd, place: Option<Place>| WireEnd {
            item: place.and_then(|place| crate::control::protocol::ItemName::new(place.name).ok()).unwrap_or_else(|| end.item.clone()),
            ..end.clone()
        };
        // Like an assignment: a newer one takes the place of the older one.
        if let Some(index) = self.wire_to(&asked.to) {
            self.wires.remove(index);
        }
        self.wires.add(named(&asked.to, to), named(&asked.from, from))?;
        for program in self.programs.iter_mut().filter(|program| matches!(program.board, Board::Lacking(_))) {
            // Shared memory may have room by now.
            program.board = Board::None;
        }
        let status = self
            .wires
            .wires
            .last()
            .map(|wire| self.wire_status(wire))
            .ok_or_else(|| ErrorReply::new(ErrorCode::Internal, "the wire has not been kept"))?;
        actions.push(Action::Tell(Report::Control(Box::new(ControlEvent::Wired {
            runtime: status.to.runtime.clone(),
            to: status.to.clone(),
            from: status.from.clone(),
        }))));
        Ok(Answer::Wire(status))
    }

    pub(super) fn unwire(&mut self, to: &WireEnd, actions: &mut Vec<Action>) -> Result<Answer, ErrorReply> {
        let Some(index) = self.wire_to(to) else {
            let known = self.wires.wires.iter().map(|wire| wire.to.to_string()).collect();
            let message = format!("no control wire leads to `{to}`");
            return Err(ErrorReply::new(ErrorCode::UnknownItem, message).in_field("params.to").with_known(known));
        };
        let Wire { to, from, .. } = self.wires.remove(index);
        let runtime = to.runtime.clone();
        actions.push(Action::Tell(Report::Control(Box::new(ControlEvent::Unwired { runtime, to: to.clone() }))));
        Ok(Answer::Unwire(Unwired { to, from }))
    }

    pub(super) fn wire_list(&self) -> WireList {
        WireList { wires: self.wire_statuses() }
    }

    pub(super) fn wire_statuses(&self) -> Vec<WireStatus> {
        self.wires.wires.iter().map(|wire| self.wire_status(wire)).collect()
    }

    /// An item that follows another one is not set: the wire would write over it at once.
    pub(super) fn check_unwired<'a>(&self, runtime: &str, items: impl Iterator<Item = &'a str>) -> Result<(), ErrorReply> {
        let Some(manifest) = self.manifest_of(runtime).filter(|_| !self.wires.wires.is_empty()) else { return Ok(()) };
        for (index, item) in items.enumerate() {
            let Ok(place) = Place::find(manifest, item) else { continue };
            let is_it =
                |wire: &&Wire| wire.to.runtime.as_str() == runtime && place_of(manifest, &wire.to).is_ok_and(|to| is_one(&to, &place));
            if let Some(wire) = self.wires.wires.iter().find(is_it) {
                let message = format!("`{item}` follows `{}` by a control wire; `unwire {}` first", wire.from, wire.to);
                return Err(ErrorReply::new(ErrorCode::WrongState, message).in_field(format!("params.values[{index}]")));
            }
        }
        Ok(())
    }

    /// The wire that leads to this item, under whatever name.
    fn wire_to(&self, end: &WireEnd) -> Option<usize> {
        self.wires.wires.iter().position(|wire| wire.to == *end || self.is_same(&wire.to, end))
    }

    /// Whether two names are of one item that there is.
    fn is_same(&self, one: &WireEnd, other: &WireEnd) -> bool {
        let may_be_same = one.runtime == other.runtime && plain_name(one) == plain_name(other);
        let Some(manifest) = self.manifest_of(one.runtime.as_str()).filter(|_| may_be_same) else { return false };
        match (place_of(manifest, one), place_of(manifest, other)) {
            (Ok(one), Ok(other)) => is_one(&one, &other),
            (Ok(_) | Err(_), _) => false,
        }
    }

    /// What runs under this name.
    fn manifest_of(&self, runtime: &str) -> Option<&Manifest> {
        let runtime = find(&self.runtimes, runtime)?;
        self.runtimes[runtime].current.as_ref().map(|current| &current.plan.content.manifest)
    }

    /// Whether an end can be one; where its program runs, its place.
    fn check_end(&self, end: &WireEnd, field: &str) -> Result<Option<Place>, ErrorReply> {
        self.runtime(&end.runtime).map_err(|error| error.in_field(format!("{field}.runtime")))?;
        let Some(manifest) = self.manifest_of(end.runtime.as_str()) else { return Ok(None) };
        place_of(manifest, end).map(Some).map_err(|why| {
            let (code, known) = match &why {
                ItemError::NeedsIndex { .. } | ItemError::Malformed(_) | ItemError::NoElement { .. } => {
                    (ErrorCode::InvalidParams, Vec::new())
                }
                _ => (ErrorCode::UnknownItem, looking::similar_items(manifest, end.item.as_str())),
            };
            ErrorReply::new(code, format!("`{}`: {}", end.runtime, in_words(&why))).in_field(format!("{field}.item")).with_known(known)
        })
    }

    fn wire_status(&self, wire: &Wire) -> WireStatus {
        let why = self.hindrance(&wire.from).or_else(|| self.hindrance(&wire.to)).or_else(|| self.overruled(wire));
        WireStatus { to: wire.to.clone(), from: wire.from.clone(), is_live: why.is_none(), waits_because: why }
    }

    /// Why nothing goes through an end, if nothing does.
    fn hindrance(&self, end: &WireEnd) -> Option<String> {
        let name = &end.runtime;
        let Some(runtime) = find(&self.runtimes, name.as_str()) else { return Some(format!("there is no runtime `{name}`")) };
        match self.state_of(runtime) {
            RuntimeState::Starting => return Some(format!("`{name}` is starting")),
            RuntimeState::Stopped => return Some(format!("`{name}` does not run")),
            RuntimeState::Held => return Some(format!("`{name}` is held")),
            RuntimeState::Running | RuntimeState::Frozen | RuntimeState::Late | RuntimeState::Stuck => {}
            RuntimeState::Recovering | RuntimeState::WaitingForDevice => {}
        }
        let slot = self.runtimes[runtime].slot?;
        if let Board::Lacking(why) = &self.programs[slot.0].board {
            return Some(why.clone());
        }
        let manifest = self.manifest_of(name.as_str())?;
        place_of(manifest, end).err().map(|why| match why {
            ItemError::NoModule { .. } | ItemError::NoItem { .. } => format!("`{name}` has no `{}`", end.item.as_str()),
            other => format!("`{name}`: {}", in_words(&other)),
        })
    }

    /// Why a wire has no effect although both ends are there. A client's `wire` is refused then, or takes the place of another one;
    /// what a session file or an edit names in two ways is one item only once its program is there.
    fn overruled(&self, wire: &Wire) -> Option<String> {
        if self.is_same(&wire.to, &wire.from) {
            return Some(format!("`{}` cannot follow itself", wire.to));
        }
        let is_newer = |other: &&Wire| other.id > wire.id && self.is_same(&wire.to, &other.to);
        let newer = self.wires.wires.iter().rev().find(is_newer)?;
        Some(format!("`{}` is the same item, and follows `{}`", newer.to, newer.from))
    }

    // ---------------------------------------------------------------------------------------------------------- hosts

    /// Tells every host what it has to do with wires, where it has been told something else.
    pub(super) fn advance_wires(&mut self, actions: &mut Vec<Action>) {
        if !self.is_live() || self.wires.last == 0 {
            return;
        }
        for runtime in 0..self.runtimes.len() {
            let Some(slot) = self.live_slot(runtime) else { continue };
            let name = &self.runtimes[runtime].name;
            let is_end = |wire: &Wire| [&wire.to, &wire.from].iter().any(|end| end.runtime.as_str() == name);
            if self.programs[slot.0].board == Board::None && self.wires.wires.iter().any(is_end) {
                self.programs[slot.0].board = Board::Asked;
                actions.push(Action::CreateBoard(slot));
            }
        }
        for runtime in 0..self.runtimes.len() {
            let Some(slot) = self.live_slot(runtime) else { continue };
            let wiring = self.wiring(slot);
            let program = &mut self.programs[slot.0];
            let is_running = matches!(program.phase, Phase::Running | Phase::Held);
            if let Some(host) = program.host.filter(|_| is_running && program.wiring != wiring) {
                program.wiring = wiring.clone();
                actions.push(Action::Wire { host, wiring });
            }
        }
    }

    /// What a host that runs this life has to do with wires.
    pub(super) fn wiring(&self, slot: RuntimeIndex) -> Wiring {
        let program = &self.programs[slot.0];
        let Board::There(board) = &program.board else { return Wiring::default() };
        let name = program.name.as_str();
        let outlets = self.wires.wires.iter().filter(|wire| wire.from.runtime.as_str() == name && self.overruled(wire).is_none());
        let outlets = outlets.map(|wire| Outlet { wire: wire.id, socket: wire.socket, item: wire.from.item.as_str().to_owned() });
        let inlet = |wire: &Wire| {
            let source = find(&self.runtimes, wire.from.runtime.as_str())?;
            let Board::There(board) = &self.programs[self.runtimes[source].slot?.0].board else { return None };
            Some(Inlet { wire: wire.id, item: wire.to.item.as_str().to_owned(), board: board.clone(), socket: wire.socket })
        };
        let inlets = self.wires.wires.iter().filter(|wire| wire.to.runtime.as_str() == name && self.overruled(wire).is_none());
        let inlets = inlets.filter_map(inlet);
        Wiring { board: Some(board.clone()), outlets: outlets.collect(), inlets: inlets.collect() }
    }

    pub(super) fn board_created(&mut self, slot: RuntimeIndex, board: SegmentRef, actions: &mut Vec<Action>) {
        match self.programs.get_mut(slot.0) {
            Some(program) if program.board == Board::Asked && !program.phase.is_over() => program.board = Board::There(board),
            // It has come to its end meanwhile.
            Some(_) | None => actions.push(Action::Release { segment: board.name }),
        }
    }

    pub(super) fn board_not_created(&mut self, slot: RuntimeIndex, reason: String) {
        if let Some(program) = self.programs.get_mut(slot.0).filter(|program| program.board == Board::Asked) {
            program.board = Board::Lacking(reason);
        }
    }

    /// A host tells what its wires have brought.
    pub(super) fn wires_said(&mut self, slot: RuntimeIndex, first: u64, values: &[Taken], to_tick: u64, actions: &mut Vec<Action>) {
        let Some(program) = self.programs.get_mut(slot.0) else { return };
        let known = program.heard.map_or(first, |heard| heard.next);
        let heard_to = program.heard.map_or(0, |heard| heard.to_tick);
        program.heard = Some(Heard { next: known.max(first.saturating_add(values.len() as u64)), to_tick: heard_to.max(to_tick) });
        if first > known {
            let line = format!("{} values of control wires are unknown: a replay would not be what was played", first - known);
            actions.push(Action::Tell(Report::Log { runtime: slot, line }));
        }
        let is_news = usize::try_from(known.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut items: Vec<String> = Vec::new();
        let mut logged = Vec::new();
        for taken in values.iter().skip(is_news) {
            let Some(item) = self.wires.item(taken.wire) else { continue };
            let index = items.iter().position(|known| known == item).unwrap_or_else(|| {
                items.push(item.to_owned());
                items.len() - 1
            });
            logged.push((taken.tick, index, taken.bits));
        }
        if !logged.is_empty() {
            actions.push(Action::Log(LogEntry { life: slot.0, tick: to_tick, what: Logged::Wired { items, values: logged } }));
        }
    }
}

/// What an item is called without its module and its place in an array: two names of one item have that in common.
fn plain_name(end: &WireEnd) -> &str {
    let item = end.item.as_str();
    let item = item.rsplit_once(':').map_or(item, |(_, item)| item);
    item.split_once('[').map_or(item, |(item, _)| item)
}

/// The one element that an end is.
fn place_of(manifest: &Manifest, end: &WireEnd) -> Result<Place, ItemError> {
    let place = Place::find(manifest, end.item.as_str())?;
    match place.count {
        1 => Ok(place),
        count => Err(ItemError::NeedsIndex { name: place.name, count }),
    }
}

fn is_one(one: &Place, other: &Place) -> bool {
    (one.memory, one.byte_address) == (other.memory, other.byte_address)
}

fn in_words(error: &ItemError) -> String {
    match error {
        ItemError::NeedsIndex { name, count } => {
            format!("`{name}` has {count} elements, and a control wire carries one, such as `{name}[0]`")
        }
        other => other.to_string(),
    }
}
