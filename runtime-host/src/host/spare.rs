//! What a spare host keeps ready: the engines of programs that it may have to go on with (DESIGN §10).
//!
//! Owned by the control thread. Each program is loaded, its memories are there, and the process has had its first trap, so
//! that a takeover only has to fill the memories and go.

use std::sync::Arc;

use ipc::artifact::{Artifact, DefaultBytes};
use ipc::hash::ContentHash;
use ipc::message::Refusal;
use ipc::recovery::Prepare;
use ipc::segment::SegmentRef;

use super::engine::{Engine, FunctionImports, LoadError, Loader};
use super::live::layouts::Revision;
use super::start::{find_type, plain_refusal, rehearse};

/// Programs that one spare keeps ready: some for each of as many runtimes as a session mixes.
const MAX_KEPT: usize = 4 * ipc::limits::MAX_LANES;

/// A loaded program whose memories are still empty.
pub struct Loaded {
    pub engine: Engine,
    pub image: Vec<DefaultBytes>,
}

impl Loaded {
    /// Copies and checks an artifact, and loads it.
    pub fn load(loader: &Loader, artifact: &SegmentRef, revision: ContentHash) -> Result<Self, Refusal> {
        Self::of(loader, Artifact::read(artifact).map_err(|e| LoadError::from(e).to_refusal())?, revision)
    }

    fn of(loader: &Loader, artifact: Artifact, revision: ContentHash) -> Result<Self, Refusal> {
        let found = artifact.manifest.revision;
        if found != revision {
            let message = format!("the artifact is of the revision {} where {} was announced", found.short(), revision.short());
            return Err(plain_refusal(message));
        }
        let engine = loader.load_checked(&artifact, FunctionImports::Refused).map_err(|e| e.to_refusal())?;
        Ok(Self { engine, image: artifact.image })
    }

    /// What the control thread is to know of it.
    pub fn revision(&self) -> Revision {
        Revision { manifest: Arc::clone(self.engine.manifest()), image: Arc::new(self.image.clone()) }
    }
}

struct Kept {
    runtime: String,
    revision: ContentHash,
    loaded: Loaded,
}

/// All programs that are kept ready.
#[derive(Default)]
pub struct Spare {
    kept: Vec<Kept>,
}

impl Spare {
    /// Loads a program and keeps it, unless it is kept already.
    pub fn keep(&mut self, loader: &Loader, prepare: &Prepare) -> Result<(), Refusal> {
        find_type(&prepare.runtime_type)?;
        if self.find(&prepare.runtime, prepare.revision).is_some() {
            return Ok(());
        }
        if self.kept.len() >= MAX_KEPT {
            return Err(plain_refusal(format!("{MAX_KEPT} programs are kept ready already")));
        }
        let artifact = Artifact::read(&prepare.artifact).map_err(|e| LoadError::from(e).to_refusal())?;
        rehearse(&artifact);
        let mut loaded = Loaded::of(loader, artifact, prepare.revision)?;
        loaded.engine.touch();
        self.kept.push(Kept { runtime: prepare.runtime.clone(), revision: prepare.revision, loaded });
        Ok(())
    }

    /// Drops what is kept of a runtime, except these revisions.
    pub fn forget(&mut self, runtime: &str, except: &[ContentHash]) {
        self.kept.retain(|kept| kept.runtime != runtime || except.contains(&kept.revision));
    }

    /// Hands a program out that is kept.
    pub fn take(&mut self, runtime: &str, revision: ContentHash) -> Option<Loaded> {
        self.find(runtime, revision).map(|index| self.kept.swap_remove(index).loaded)
    }

    fn find(&self, runtime: &str, revision: ContentHash) -> Option<usize> {
        self.kept.iter().position(|kept| kept.runtime == runtime && kept.revision == revision)
    }
}
