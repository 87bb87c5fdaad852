//! From a request to a command: everything about a change that takes time, memory, files or can be refused happens here, on
//! the control thread, before the tick thread hears of it.

use std::path::Path;
use std::sync::Arc;

use ipc::artifact::Artifact;
use ipc::hash::ContentHash;
use ipc::limits::{MAX_DUMP_ELEMENTS, MAX_RAMPS};
use ipc::live::{Boundary, Patch, RequestId, SetItem, Swap};
use ipc::manifest::Manifest;
use ipc::message::{HostReply, Refusal};
use ipc::plan::MigrationPlan;
use ipc::segment::{SegmentRef, SessionId};
use ipc::state::{StateWriter, Write};

use super::handover::{Fade, ForLayouts, GetWork, LayoutId, PatchWork, PreparedBoundary, ResetVariant, ResetWork, SetWork, SwapWork};
use super::layouts::{Layout, Layouts, Revision};
use super::snapshot::Snapshot;
use crate::host::assets;
use crate::host::engine::{Engine, FunctionImports, LoadError, Loader};
use crate::host::items::Place;
use crate::host::migration::{Migration, write_defaults};
use crate::host::program::Program;
use crate::host::start::{initialise, nothing_to_call, plain_refusal};
use crate::registry::{self, RuntimeType};

/// What changes of one runtime are prepared with.
pub struct Workshop<'a> {
    pub loader: &'a Loader,
    pub session: &'a SessionId,
    pub runtime: &'a str,
    pub runtime_type: &'static RuntimeType,
    /// Takes what the supervisor is to hear before the answer.
    pub reply: &'a mut dyn FnMut(HostReply),
}

impl Workshop<'_> {
    /// Builds the engine of a swap and checks its plans. The new program is among `layouts` afterwards.
    pub fn swap(&mut self, request: RequestId, swap: Swap, layouts: &mut Layouts) -> Result<SwapWork, Refusal> {
        let artifact = self.read(&swap.artifact, swap.revision)?;
        let mut engine = self.loader.load_checked(&artifact, FunctionImports::Refused).map_err(|e| e.to_refusal())?;
        let settings = registry::settings(engine.manifest());
        let assets = assets::read_all(&settings, &swap.base_directory)?;
        let loaded = assets::loaded(&assets);
        let assets = match &swap.there {
            Some(plan) => assets::to_write(assets, assets_before(plan, layouts), plan, false),
            None => assets,
        };
        fill(&mut engine, &artifact, swap.there.is_some(), self.runtime_type)?;
        let state = swap.state.as_ref().map(|state| open_state(state, self.session, engine.manifest())).transpose()?;
        let binding = (self.runtime_type.bind)(self.runtime_type, &settings, &engine);
        if binding.export.is_none() {
            (self.reply)(HostReply::Log { runtime: self.runtime.to_owned(), line: nothing_to_call(self.runtime_type) });
        }
        let sizes = engine.sizes();
        let wants_snapshot = swap.trial_ticks > 0 && (swap.back.is_some() || swap.back_to_good.is_some());
        let snapshot = wants_snapshot.then(|| Snapshot::for_program(engine.manifest())).flatten();
        let there = swap.there.map(|plan| there(plan, swap.revision, &sizes, layouts)).transpose()?;
        let snapshot_sizes = snapshot.as_ref().map_or_else(|| sizes.clone(), Snapshot::sizes);
        // Where nobody goes back to it any more, the running revision is a good one, too.
        let is_known = |plan: &MigrationPlan| layouts.of_revision(plan.to).is_some();
        let to_good = swap.back_to_good.filter(is_known).map(|plan| back(plan, swap.revision, snapshot_sizes.clone(), layouts));
        let back_to_good = to_good.transpose()?;
        let back = swap.back.map(|plan| back(plan, swap.revision, snapshot_sizes, layouts)).transpose()?;
        let boundary = boundary(&swap.boundary, layouts)?;
        let layout = layouts.next_id();
        let revision = Revision { manifest: Arc::clone(engine.manifest()), image: Arc::new(artifact.image) };
        layouts.add(layout, sizes, revision);
        layouts.set_assets(layout, loaded);
        Ok(SwapWork {
            request,
            program: Box::new(Program::new(engine, binding, layout, state)),
            there: there.map(Arc::new),
            back,
            back_to_good,
            leads_past: false,
            boundary,
            trial_ticks: swap.trial_ticks,
            fade: Fade { done_frames: 0, total_frames: swap.crossfade_frames },
            snapshot,
            assets,
            failed_in_a_row: 0,
        })
    }

    /// Checks a patch. Its revision is among those of its layout afterwards.
    pub fn patch(&mut self, request: RequestId, patch: Patch, layouts: &mut Layouts) -> Result<PatchWork, Refusal> {
        let artifact = self.read(&patch.artifact, patch.revision)?;
        let settings = registry::settings(&artifact.manifest);
        let assets = assets::read_all(&settings, &patch.base_directory)?;
        let loaded = assets::loaded(&assets);
        let assets = assets::to_write(assets, assets_before(&patch.plan, layouts), &patch.plan, true);
        let (layout, sizes) = source(&patch.plan, layouts)?;
        check_revision("plan's destination", patch.plan.to, patch.revision)?;
        let wants_snapshot = patch.trial_ticks > 0 || patch.plan.reruns_init_only;
        let snapshot = wants_snapshot.then(|| Snapshot::for_program(&artifact.manifest)).flatten();
        let previous = patch.plan.from;
        let migration = Migration::prepare(patch.plan, sizes.clone(), sizes).map_err(plan_refusal)?;
        let revision = Revision { manifest: Arc::new(artifact.manifest), image: Arc::new(artifact.image) };
        layouts.add_revision(layout, revision);
        layouts.set_assets(layout, loaded);
        Ok(PatchWork {
            request,
            migration,
            revision: patch.revision,
            previous,
            trial_ticks: patch.trial_ticks,
            snapshot,
            is_untouched: false,
            assets,
            failed_in_a_row: 0,
        })
    }

    /// Copies and checks an artifact; its segment may go then.
    fn read(&mut self, segment: &SegmentRef, revision: ContentHash) -> Result<Artifact, Refusal> {
        if !segment.belongs_to(self.session) {
            return Err(plain_refusal(format!("the segment {} belongs to another session", segment.name)));
        }
        let artifact = Artifact::read(segment).map_err(|e| LoadError::from(e).to_refusal())?;
        (self.reply)(HostReply::Loaded { segment: segment.name.clone() });
        check_revision("artifact", artifact.manifest.revision, revision)?;
        Ok(artifact)
    }
}

/// Maps the state segment of a program that is about to run for the first time.
pub fn open_state(segment: &SegmentRef, session: &SessionId, manifest: &Manifest) -> Result<StateWriter, Refusal> {
    if !segment.belongs_to(session) {
        return Err(plain_refusal(format!("the segment {} belongs to another session", segment.name)));
    }
    let writer = StateWriter::open(segment, manifest).map_err(|e| plain_refusal(format!("the program's state cannot be kept: {e}")))?;
    writer.touch();
    Ok(writer)
}

/// Fills the memories of a new engine: with what state is carried into, or with the full initialisation.
fn fill(engine: &mut Engine, artifact: &Artifact, is_carried: bool, runtime_type: &RuntimeType) -> Result<(), Refusal> {
    if is_carried {
        write_defaults(&artifact.image, engine).map_err(plan_refusal)?;
        engine.touch();
        Ok(())
    } else {
        initialise(engine, runtime_type)
    }
}

fn check_revision(what: &str, found: ContentHash, announced: ContentHash) -> Result<(), Refusal> {
    if found == announced {
        return Ok(());
    }
    Err(plain_refusal(format!("the {what} is of the revision {} where {} was announced", found.short(), announced.short())))
}

fn plan_refusal(error: impl std::fmt::Display) -> Refusal {
    plain_refusal(format!("the migration plan cannot be carried out: {error}"))
}

/// What was read from files into the memories that a plan starts from.
fn assets_before<'a>(plan: &MigrationPlan, layouts: &'a Layouts) -> &'a [assets::Loaded] {
    layouts.of_revision(plan.from).map_or(&[], |layout| &layout.assets)
}

/// The layout that a plan starts from, and the sizes of its memories.
fn source(plan: &MigrationPlan, layouts: &Layouts) -> Result<(LayoutId, Vec<u64>), Refusal> {
    match layouts.of_revision(plan.from) {
        Some(layout) => Ok((layout.id, layout.sizes.clone())),
        None => Err(plain_refusal(format!("the migration plan starts from the revision {}, which does not run here", plan.from.short()))),
    }
}

fn there(plan: MigrationPlan, revision: ContentHash, sizes: &[u64], layouts: &Layouts) -> Result<Migration, Refusal> {
    check_revision("plan's destination", plan.to, revision)?;
    let (_, from_sizes) = source(&plan, layouts)?;
    Migration::prepare(plan, from_sizes, sizes.to_vec()).map_err(plan_refusal)
}

fn back(plan: MigrationPlan, revision: ContentHash, from_sizes: Vec<u64>, layouts: &Layouts) -> Result<Migration, Refusal> {
    check_revision("source of the way back", plan.from, revision)?;
    let to = layouts.of_revision(plan.to).map(|layout| layout.sizes.clone());
    let to = to.ok_or_else(|| plain_refusal(format!("the way back leads to the revision {}, which does not run here", plan.to.short())))?;
    Migration::prepare(plan, from_sizes, to).map_err(plan_refusal)
}

fn boundary(boundary: &Boundary, layouts: &Layouts) -> Result<PreparedBoundary, Refusal> {
    match boundary {
        Boundary::Frame => Ok(PreparedBoundary::Frame),
        Boundary::Freeze => Ok(PreparedBoundary::Freeze),
        Boundary::Pulse { item } => {
            let mut first_error = None;
            let places =
                layouts.for_each(|layout| Place::find(layout.manifest(), item).map_err(|e| first_error.get_or_insert(e).clone()).ok());
            match first_error {
                Some(error) if places.0.iter().all(|(_, place)| place.is_none()) => Err(plain_refusal(error.to_string())),
                Some(_) | None => Ok(PreparedBoundary::Pulse(places)),
            }
        }
    }
}

/// Prepares a reset of whichever revision runs then.
pub fn reset(layouts: &Layouts, base_directory: &Path) -> Result<ResetWork, Refusal> {
    let revisions = layouts.iter().flat_map(|layout| layout.revisions().iter().map(move |revision| (layout, revision)));
    let variants = revisions.map(|(layout, revision)| reset_variant(layout, revision, base_directory)).collect::<Result<_, Refusal>>()?;
    Ok(ResetWork { variants })
}

fn reset_variant(layout: &Layout, revision: &Revision, base_directory: &Path) -> Result<ResetVariant, Refusal> {
    let manifest: &Manifest = &revision.manifest;
    let assets = assets::read_all(&registry::settings(manifest), base_directory)?;
    let runs_modules = manifest.has_export(crate::host::engine::INIT_ONLY);
    let snapshot = runs_modules.then(|| Snapshot::for_program(manifest)).flatten();
    Ok(ResetVariant { layout: layout.id, revision: revision.hash(), image: Arc::clone(&revision.image), assets, snapshot })
}

/// Resolves what is to be written in every program that may be running then. Refused when none of them has it.
pub fn set(layouts: &Layouts, items: Vec<SetItem>, ramp_ticks: u32) -> Result<SetWork, Refusal> {
    if ramp_ticks > 1 && items.len() > MAX_RAMPS {
        return Err(plain_refusal(format!("{} values cannot be on a ramp at a time, the limit is {MAX_RAMPS}", items.len())));
    }
    let writes = layouts.for_each(|layout| items.iter().map(|item| write(layout.manifest(), item)).collect());
    Ok(SetWork { steps: ramp_ticks.max(1), writes: some(writes)?, items })
}

fn write(manifest: &Manifest, item: &SetItem) -> Result<Write, Refusal> {
    let place = Place::find(manifest, &item.item).map_err(|e| plain_refusal(e.to_string()))?;
    let bytes = place.encode(item.value).map_err(|e| plain_refusal(e.to_string()))?;
    Ok(Write { memory: place.memory, address: place.byte_address, element: place.element, bytes })
}

/// Resolves what is to be read in every program that may be running then. Refused when none of them has it.
pub fn get(layouts: &Layouts, items: Vec<String>) -> Result<GetWork, Refusal> {
    let places = some(layouts.for_each(|layout| find_all(layout.manifest(), &items)))?;
    let bytes = |places: &Vec<Place>| places.iter().map(|place| place.count as usize * place.element.bytes() as usize).sum::<usize>();
    let largest = places.0.iter().filter_map(|(_, places)| places.as_ref().ok()).map(bytes).max().unwrap_or(0);
    Ok(GetWork { places, buffer: vec![0; largest], layout: 0, items })
}

fn find_all(manifest: &Manifest, items: &[String]) -> Result<Vec<Place>, Refusal> {
    let places = items.iter().map(|item| Place::find(manifest, item)).collect::<Result<Vec<_>, _>>();
    let places = places.map_err(|e| plain_refusal(e.to_string()))?;
    let elements: u64 = places.iter().map(|place| u64::from(place.count)).sum();
    if elements > MAX_DUMP_ELEMENTS {
        let message =
            format!("the items have {elements} elements, more than the {MAX_DUMP_ELEMENTS} that are read at a time; name some elements");
        return Err(plain_refusal(message));
    }
    Ok(places)
}

/// What at least one program has; else why the newest has not.
fn some<T>(prepared: ForLayouts<Result<T, Refusal>>) -> Result<ForLayouts<Result<T, Refusal>>, Refusal> {
    if prepared.0.iter().any(|(_, variant)| variant.is_ok()) {
        return Ok(prepared);
    }
    let error = prepared.0.into_iter().rev().find_map(|(_, variant)| variant.err());
    Err(error.unwrap_or_else(|| plain_refusal("no program runs in this host".to_owned())))
}
