//! Looks for a device that can be opened: the sound systems of the target in their order, each with a time limit.
//!
//! A search runs on a thread of its own and always comes to an end. The stream it returns is open, but silent, until it is
//! given the baton and started.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::follow::Wanted;
use super::stream::{self, StreamDriver, StreamLost, StreamRequest};
use super::{Refusal, SoundSystem};
use crate::device::baton::Baton;
use crate::device::clients::Clients;

/// What a search has found.
pub struct Found {
    pub driver: Option<StreamDriver>,
    /// Why the sound systems before it, or all of them, were passed over.
    pub refusals: Vec<(SoundSystem, Refusal)>,
}

/// What to look for.
pub struct Search {
    pub systems: Vec<SoundSystem>,
    pub device_name: Option<String>,
    pub wanted: Wanted,
}

/// Starts searches; remembers which sound system still hangs in an earlier one.
pub struct Searcher {
    baton: Arc<Baton>,
    clients: Clients,
    is_opening: [Arc<AtomicBool>; SoundSystem::ALL.len()],
}

impl Searcher {
    pub fn new(baton: Arc<Baton>, clients: Clients) -> Self {
        Self { baton, clients, is_opening: std::array::from_fn(|_| Arc::default()) }
    }

    /// Starts a search; its end is told to `on_found`, later losses of what it found to `on_lost`. False when no thread
    /// could be started.
    pub fn start(
        &self,
        search: Search,
        on_found: impl FnOnce(Found) + Send + 'static,
        on_lost: impl Fn(StreamLost) + Clone + Send + Sync + 'static,
    ) -> bool {
        let (baton, clients, is_opening) = (Arc::clone(&self.baton), self.clients.clone(), self.is_opening.clone());
        let job = move || on_found(run(&search, &baton, &clients, &is_opening, on_lost));
        std::thread::Builder::new().name("search".into()).spawn(job).is_ok()
    }
}

fn run(
    search: &Search,
    baton: &Arc<Baton>,
    clients: &Clients,
    is_opening: &[Arc<AtomicBool>; SoundSystem::ALL.len()],
    on_lost: impl Fn(StreamLost) + Clone + Send + Sync + 'static,
) -> Found {
    let mut refusals = Vec::new();
    for &system in &search.systems {
        let request = StreamRequest { system, device_name: search.device_name.clone(), wanted: search.wanted };
        match stream::open(request, baton, clients, &is_opening[system.index()], on_lost.clone()) {
            Ok(driver) => return Found { driver: Some(driver), refusals },
            Err(refusal) => refusals.push((system, refusal)),
        }
    }
    Found { driver: None, refusals }
}
