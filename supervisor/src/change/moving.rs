//! Makes the plan by which state moves: what is copied, which addresses follow their targets, which defaults are patched.

use std::collections::BTreeSet;
use std::ops::Range;

use ipc::artifact::DefaultBytes;
use ipc::manifest::{Manifest, ModuleInfo};
use ipc::plan::{CopyRange, DefaultAddress, MigrationPlan, Place, Relocation, TargetRange};

use super::defaults::Image;
use super::matching::{Matching, Pair};

/// The plan with these targets. `relocates` says whether addresses are carried as such or are among the copied bytes.
pub fn make(matching: &Matching, targets: Vec<TargetRange>, relocates: bool, new_image: &Image) -> MigrationPlan {
    let mut plan = MigrationPlan {
        from: matching.old.revision,
        to: matching.new.revision,
        copies: Vec::new(),
        relocations: Vec::new(),
        targets,
        patches: Vec::new(),
        pointers: Vec::new(),
        resets: matching.pairs.iter().filter(|pair| pair.is_reset()).map(|pair| pair.new.key()).collect(),
        reruns_init_only: reruns_init_only(matching),
    };
    for pair in &matching.pairs {
        carry(&mut plan, pair, relocates);
        plan.patches.extend(pair.patched.iter().map(|range| patch(pair, range, new_image)));
    }
    plan.copies = merge_copies(plan.copies);
    plan.relocations.sort_by_key(|relocation| relocation.to);
    plan.patches = merge_patches(plan.patches);
    plan
}

// ------------------------------------------------------------------------------------------- copies, relocations

/// Adds what keeps its state: everything that both have, apart from what gets a new default.
fn carry(plan: &mut MigrationPlan, pair: &Pair, relocates: bool) {
    let kept = kept(pair);
    // The target may be no byte of anything, an empty array for one; then only the default tells that it moved.
    let has_moved_default = default_address(pair).is_some_and(|default| default.from != default.to);
    let relocates = pair.holds_addresses() && (relocates || has_moved_default);
    if relocates && !kept.is_empty() {
        let pointer = plan.pointers.len() as u32;
        plan.pointers.push(pair.new.key());
        plan.relocations.extend(kept.iter().map(|range| relocation(pair, range, pointer)));
    } else {
        plan.copies.extend(kept.iter().map(|range| copy(pair, range)));
    }
}

/// The common bytes without the patched ones.
fn kept(pair: &Pair) -> Vec<Range<u32>> {
    let starts = std::iter::once(0).chain(pair.patched.iter().map(|range| range.end));
    let ends = pair.patched.iter().map(|range| range.start).chain(std::iter::once(pair.common_bytes));
    starts.zip(ends).map(|(start, end)| start..end).filter(|range| range.start < range.end).collect()
}

fn copy(pair: &Pair, range: &Range<u32>) -> CopyRange {
    CopyRange { from: at(pair.old.place(), range.start), to: at(pair.new.place(), range.start), bytes: range.end - range.start }
}

fn relocation(pair: &Pair, range: &Range<u32>, pointer: u32) -> Relocation {
    let (from_pointee, to_pointee) = pair.pointees();
    let (from, to) = (at(pair.old.place(), range.start), at(pair.new.place(), range.start));
    Relocation { from, to, count: (range.end - range.start) / 4, from_pointee, to_pointee, default: default_address(pair), pointer }
}

fn default_address(pair: &Pair) -> Option<DefaultAddress> {
    let (from, to) = (pair.old.item.points_at.as_ref()?, pair.new.item.points_at.as_ref()?);
    (!pair.new.item.is_array).then_some(DefaultAddress { from: from.address, to: to.address })
}

fn at(place: Place, offset: u32) -> Place {
    Place { address: place.address.saturating_add(offset), ..place }
}

fn merge_copies(mut copies: Vec<CopyRange>) -> Vec<CopyRange> {
    copies.sort_by_key(|copy| copy.to);
    let mut merged: Vec<CopyRange> = Vec::with_capacity(copies.len());
    for copy in copies {
        match merged.last_mut() {
            Some(last) if at(last.from, last.bytes) == copy.from && at(last.to, last.bytes) == copy.to => last.bytes += copy.bytes,
            _ => merged.push(copy),
        }
    }
    merged
}

// ------------------------------------------------------------------------------------------------------ patches

fn patch(pair: &Pair, range: &Range<u32>, new_image: &Image) -> DefaultBytes {
    let place = at(pair.new.place(), range.start);
    DefaultBytes { memory: place.memory, address: place.address, bytes: new_image.bytes(place, range.end - range.start) }
}

fn merge_patches(mut patches: Vec<DefaultBytes>) -> Vec<DefaultBytes> {
    patches.sort_by_key(|patch| (patch.memory, patch.address));
    let mut merged: Vec<DefaultBytes> = Vec::with_capacity(patches.len());
    for patch in patches {
        match merged.last_mut() {
            Some(last) if last.memory == patch.memory && u64::from(last.address) + last.bytes.len() as u64 == u64::from(patch.address) => {
                last.bytes.extend(patch.bytes);
            }
            _ => merged.push(patch),
        }
    }
    merged
}

// ------------------------------------------------------------------------------------------------------ targets

/// What addresses can no longer mean what they meant: items that moved, items and ends of arrays that are gone.
pub fn targets(matching: &Matching) -> Vec<TargetRange> {
    let mut targets: Vec<TargetRange> = matching.pairs.iter().flat_map(paired_targets).collect();
    targets.extend(matching.removed.iter().map(|slot| TargetRange { from: slot.place(), bytes: slot.bytes(), to: None }));
    targets.retain(|target| target.bytes > 0);
    targets.sort_by_key(|target| target.from);
    let mut merged: Vec<TargetRange> = Vec::with_capacity(targets.len());
    for target in targets {
        match merged.last_mut() {
            Some(last) if continues(last, &target) => last.bytes += target.bytes,
            _ => merged.push(target),
        }
    }
    merged
}

/// A reset item is a target all the same: what pointed at it goes on pointing at it.
fn paired_targets(pair: &Pair) -> Vec<TargetRange> {
    let (from, to) = (pair.old.place(), pair.new.place());
    let both = pair.old.bytes().min(pair.new.bytes());
    let mut targets = vec![TargetRange { from: at(from, both), bytes: pair.old.bytes() - both, to: None }];
    if pair.is_moved() {
        targets.push(TargetRange { from, bytes: both, to: Some(to) });
    }
    targets
}

fn continues(last: &TargetRange, next: &TargetRange) -> bool {
    let is_same_fate = match (last.to, next.to) {
        (None, None) => true,
        (Some(to), Some(next)) => at(to, last.bytes) == next,
        (Some(_), None) | (None, Some(_)) => false,
    };
    is_same_fate && at(last.from, last.bytes) == next.from
}

/// From which memory into which bytes move that addresses may point at; into none where they are gone.
pub type Routes = BTreeSet<(u32, Option<u32>)>;

pub fn routes(targets: &[TargetRange]) -> Routes {
    targets.iter().map(|target| (target.from.memory, target.to.map(|place| place.memory))).collect()
}

/// Whether kept addresses of the item may point at something that is gone, or in a memory that they do not reach.
pub fn may_lose_target(pair: &Pair, routes: &Routes) -> bool {
    let (from, to) = pair.pointees();
    let is_loss = |(memory, into): &(u32, Option<u32>)| *memory == from && *into != Some(to);
    pair.holds_addresses() && !kept(pair).is_empty() && routes.iter().any(is_loss)
}

// ---------------------------------------------------------------------------------------------------- init-only

/// Whether the init-only modules have to run: what they are derived from changed, they did, or what they had written is
/// gone. They must not run otherwise, since they overwrite state.
pub fn reruns_init_only(matching: &Matching) -> bool {
    let (old, new) = (initialising(matching.old), initialising(matching.new));
    if new.is_empty() {
        return false;
    }
    let before: BTreeSet<_> = old.iter().map(|module| (module.id.as_str(), module.code_hash)).collect();
    let is_edited = new.iter().any(|module| !before.contains(&(module.id.as_str(), module.code_hash)));
    let has_new_default = matching.pairs.iter().any(|pair| !pair.patched.is_empty());
    is_edited || has_new_default || lost_what_they_wrote(matching, &new)
}

/// Whether an item that an init-only module may have written is reset or has elements that it never wrote.
fn lost_what_they_wrote(matching: &Matching, initialising: &[&ModuleInfo]) -> bool {
    let reached = reached(matching.new, initialising);
    let is_incomplete = |pair: &&Pair| pair.is_reset() || pair.new.item.count > pair.old.item.count;
    matching.pairs.iter().filter(is_incomplete).any(|pair| reached.contains(pair.new.module.id.as_str()))
}

/// Modules whose items the init-only modules can write: their own, and those they refer to.
fn reached<'a>(new: &'a Manifest, initialising: &[&'a ModuleInfo]) -> BTreeSet<&'a str> {
    let referenced = initialising.iter().flat_map(|module| &module.references);
    let referenced = referenced.filter_map(|index| new.modules.get(*index as usize)).map(|module| module.id.as_str());
    referenced.chain(initialising.iter().map(|module| module.id.as_str())).collect()
}

/// Modules whose state the init-only modules may overwrite after this change; none where they do not run.
pub fn rewritten<'a>(matching: &Matching<'a>) -> BTreeSet<&'a str> {
    if reruns_init_only(matching) { reached(matching.new, &initialising(matching.new)) } else { BTreeSet::new() }
}

fn initialising(manifest: &Manifest) -> Vec<&ModuleInfo> {
    manifest.modules.iter().filter(|module| module.init_only && !module.skip_execution).collect()
}
