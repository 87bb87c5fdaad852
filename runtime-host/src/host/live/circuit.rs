//! Control wires on the control thread: which segments and items the ends of a runtime's wires are, and what of its tape the
//! supervisor is told.
//!
//! Owned by the [desk](super::desk). Maps the runtime's own board for writing, and those of others for reading only. Items are
//! found anew in every program that may run, so that an edit which moves, removes or brings an item back binds it anew.

use std::collections::HashMap;
use std::sync::Arc;

use ipc::manifest::Manifest;
use ipc::message::HostReply;
use ipc::segment::SessionId;
use ipc::wires::{Board, Inlet, Panel, WireId, Wiring};

use super::layouts::Layouts;
use super::stage::ReadPlace;
use super::wires::{InletWork, Misfits, OutletWork, WiringWork};
use crate::host::items::Place;

/// See the module's documentation.
#[derive(Default)]
pub struct Circuit {
    wiring: Wiring,
    board: Option<Arc<Board>>,
    /// Boards of others, by their names.
    panels: HashMap<String, Arc<Panel>>,
    /// What was not taken of each wire, and whether it has been told.
    misfits: HashMap<WireId, (Arc<Misfits>, bool)>,
    /// The tick up to which the tape has been told.
    told_ticks: u64,
}

impl Circuit {
    /// Takes on another wiring. Returns what of it cannot be, in words.
    pub fn connect(&mut self, wiring: Wiring, session: &SessionId) -> Vec<String> {
        let mut problems = Vec::new();
        let wanted = wiring.board.as_ref();
        if self.board.as_ref().map(|board| board.name()) != wanted.map(|board| board.name.as_str()) {
            self.board = wanted.filter(|board| board.belongs_to(session)).and_then(|board| {
                Board::open(board).map_err(|error| problems.push(format!("its control wires carry nothing: {error}"))).ok().map(Arc::new)
            });
        }
        self.panels.retain(|name, _| wiring.inlets.iter().any(|inlet| inlet.board.name == *name));
        for inlet in wiring.inlets.iter().filter(|inlet| inlet.board.belongs_to(session)) {
            if !self.panels.contains_key(&inlet.board.name) {
                match Panel::open(&inlet.board) {
                    Ok(panel) => drop(self.panels.insert(inlet.board.name.clone(), Arc::new(panel))),
                    Err(error) => problems.push(format!("the control wire to `{}` brings nothing: {error}", inlet.item)),
                }
            }
        }
        self.misfits.retain(|wire, _| wiring.inlets.iter().any(|inlet| inlet.wire == *wire));
        self.wiring = wiring;
        problems
    }

    /// Whether there is anything to be done for the programs that may run.
    pub fn is_connected(&self) -> bool {
        self.board.is_some()
    }

    /// Finds the items in every program that may run.
    pub fn work(&mut self, layouts: &Layouts) -> WiringWork {
        let find = |item: &str| layouts.for_each(|layout| place(layout.manifest(), item));
        let outlets = self.wiring.outlets.iter();
        let outlets = outlets.map(|outlet| OutletWork { wire: outlet.wire, socket: outlet.socket, places: find(&outlet.item) });
        let (panels, misfits) = (&self.panels, &mut self.misfits);
        let inlet = |inlet: &Inlet| {
            let panel = Arc::clone(panels.get(&inlet.board.name)?);
            let misfits = Arc::clone(&misfits.entry(inlet.wire).or_default().0);
            Some(InletWork { wire: inlet.wire, socket: inlet.socket, panel, places: find(&inlet.item), misfits })
        };
        WiringWork { board: self.board.clone(), outlets: outlets.collect(), inlets: self.wiring.inlets.iter().filter_map(inlet).collect() }
    }

    /// Takes what belongs to ticks from `tick` on off the tape: they are executed again.
    pub fn rewind(&self, tick: u64) {
        if let Some(board) = &self.board {
            board.rewind(tick);
        }
    }

    /// Tells what has been taken in the ticks before `ticks`, all of which are complete. That nothing has been is told when
    /// `is_due`.
    pub fn report(&mut self, runtime: &str, manifest: Option<&Manifest>, ticks: u64, is_due: bool, reply: &mut dyn FnMut(HostReply)) {
        let Some(board) = self.board.as_ref().filter(|_| ticks > self.told_ticks) else { return };
        let (first, values) = board.untold(ticks);
        if values.is_empty() && !is_due {
            return;
        }
        let end = first + values.len() as u64;
        self.told_ticks = ticks;
        reply(HostReply::Wired { first, values, to_tick: ticks });
        board.tell(end);
        for inlet in &self.wiring.inlets {
            let Some((misfits, is_told)) = self.misfits.get_mut(&inlet.wire).filter(|(_, is_told)| !is_told) else { continue };
            let Some(value) = misfits.newest() else { continue };
            *is_told = true;
            let line = format!(
                "The control wire to `{}` brings what it cannot take, and it keeps its value: {}",
                inlet.item,
                why(manifest, &inlet.item, value)
            );
            reply(HostReply::Log { runtime: runtime.to_owned(), line });
        }
    }
}

/// The one element that an item is; `None` in a program that lacks it.
fn place(manifest: &Manifest, item: &str) -> Option<ReadPlace> {
    Place::find(manifest, item).ok().filter(|place| place.count == 1).as_ref().map(ReadPlace::of)
}

/// Why a value is not taken.
fn why(manifest: Option<&Manifest>, item: &str, value: f64) -> String {
    let place = manifest.and_then(|manifest| Place::find(manifest, item).ok()).filter(|_| value.is_finite());
    let error = place.and_then(|place| place.encode(value).err());
    error.map_or_else(|| format!("{value} is not a finite number"), |error| error.to_string())
}
