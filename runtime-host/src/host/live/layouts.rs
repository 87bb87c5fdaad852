//! The revisions that run in this host, or may run soon: the control thread's map of them.
//!
//! A *layout* is a loaded program: code and the places of its items. A patch gives it another revision (text, defaults), a
//! swap brings another layout. Names are resolved against every layout there is, because which one runs when a request takes
//! effect is decided on the tick thread.

use std::sync::Arc;

use ipc::artifact::DefaultBytes;
use ipc::fault::Fault;
use ipc::hash::ContentHash;
use ipc::manifest::{Manifest, SourcePoint};

use super::handover::{ForLayouts, Identity, LayoutId};
use crate::host::assets::Loaded;
use crate::host::failure::Failure;

/// Names the program that a runtime starts with.
pub const FIRST_LAYOUT: LayoutId = 1;

/// What is known of a revision.
#[derive(Clone)]
pub struct Revision {
    pub manifest: Arc<Manifest>,
    /// What its memories start from.
    pub image: Arc<Vec<DefaultBytes>>,
}

impl Revision {
    pub fn hash(&self) -> ContentHash {
        self.manifest.revision
    }
}

/// A loaded program.
pub struct Layout {
    pub id: LayoutId,
    /// Sizes of its memories in bytes.
    pub sizes: Vec<u64>,
    /// What was read from files into its memories last.
    pub assets: Vec<Loaded>,
    /// The manifest that its code was loaded with.
    code: Arc<Manifest>,
    /// Oldest first.
    revisions: Vec<Revision>,
}

impl Layout {
    /// The newest manifest: all have the same items in the same places.
    pub fn manifest(&self) -> &Arc<Manifest> {
        self.revisions.last().map_or(&self.code, |revision| &revision.manifest)
    }

    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }
}

/// All layouts of a runtime, oldest first.
pub struct Layouts {
    layouts: Vec<Layout>,
    newest: LayoutId,
}

impl Layouts {
    /// The program that a runtime starts with; `sizes` are those of its memories in bytes.
    pub fn new(sizes: Vec<u64>, revision: Revision) -> Self {
        let mut layouts = Self { layouts: Vec::new(), newest: FIRST_LAYOUT };
        layouts.add(FIRST_LAYOUT, sizes, revision);
        layouts
    }

    /// Names a program that is about to be built.
    pub fn next_id(&mut self) -> LayoutId {
        self.newest += 1;
        self.newest
    }

    /// A program has been built.
    pub fn add(&mut self, id: LayoutId, sizes: Vec<u64>, revision: Revision) {
        let assets = Vec::new();
        self.layouts.push(Layout { id, sizes, assets, code: Arc::clone(&revision.manifest), revisions: vec![revision] });
    }

    /// These bytes of files are, or are about to be, in the memories of a program.
    pub fn set_assets(&mut self, id: LayoutId, assets: Vec<Loaded>) {
        if let Some(layout) = self.find_mut(id) {
            layout.assets = assets;
        }
    }

    /// A program has been freed.
    pub fn remove(&mut self, id: LayoutId) {
        self.layouts.retain(|layout| layout.id != id);
    }

    /// The newest layout that has or had this revision.
    pub fn of_revision(&self, revision: ContentHash) -> Option<&Layout> {
        self.layouts.iter().rev().find(|layout| layout.revisions.iter().any(|known| known.hash() == revision))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Layout> {
        self.layouts.iter()
    }

    /// A patch may give `layout` this revision.
    pub fn add_revision(&mut self, layout: LayoutId, revision: Revision) {
        if let Some(layout) = self.find_mut(layout) {
            layout.revisions.push(revision);
        }
    }

    /// The layout does not have this revision after all.
    pub fn remove_revision(&mut self, layout: LayoutId, revision: ContentHash) {
        if let Some(layout) = self.find_mut(layout)
            && layout.revisions.len() > 1
            && let Some(index) = layout.revisions.iter().rposition(|known| known.hash() == revision)
        {
            layout.revisions.remove(index);
        }
    }

    /// A patch has been carried out and no other is on the way: of this program's revisions, only the running one and those
    /// that may come back are of use.
    pub fn forget_all_but(&mut self, layout: LayoutId, of_use: &[ContentHash]) {
        let Some(layout) = self.find_mut(layout) else { return };
        let mut kept: Vec<Revision> = Vec::new();
        for revision in layout.revisions.drain(..).rev() {
            let is_known = kept.iter().any(|known| known.hash() == revision.hash());
            if of_use.contains(&revision.hash()) && !is_known {
                kept.push(revision);
            }
        }
        kept.reverse();
        layout.revisions = kept;
    }

    /// Prepares something for every layout.
    pub fn for_each<T>(&self, mut prepare: impl FnMut(&Layout) -> T) -> ForLayouts<T> {
        ForLayouts(self.layouts.iter().map(|layout| (layout.id, prepare(layout))).collect())
    }

    /// The fault to report for a failure of this program.
    pub fn fault(&self, program: Identity, failure: Failure, tick: u64, repeats: u64) -> Option<Fault> {
        let layout = self.layouts.iter().find(|layout| layout.id == program.layout)?;
        let revision = layout.revisions.iter().rev().find(|revision| revision.hash() == program.revision);
        let text = revision.map_or(layout.manifest(), |revision| &revision.manifest);
        Some(match failure.point.map(|point| same_point(&point, &layout.code, text)) {
            Some(None) => failure.to_fault(&layout.code, tick, repeats),
            Some(point @ Some(_)) => Failure { point, ..failure }.to_fault(text, tick, repeats),
            None => failure.to_fault(text, tick, repeats),
        })
    }

    fn find_mut(&mut self, id: LayoutId) -> Option<&mut Layout> {
        self.layouts.iter_mut().find(|layout| layout.id == id)
    }
}

/// The place in `text` that stems from the same code as `point` of `code`: a patch changes no code, but lines may have moved.
/// Offsets may differ, because the defaults are code too; the order of the points does not.
fn same_point(point: &SourcePoint, code: &Arc<Manifest>, text: &Arc<Manifest>) -> Option<SourcePoint> {
    if Arc::ptr_eq(code, text) {
        return Some(*point);
    }
    let after = code.source_map.partition_point(|known| known.wasm_offset <= point.wasm_offset);
    let is_alike = code.source_map.len() == text.source_map.len();
    after.checked_sub(1).filter(|_| is_alike).and_then(|index| text.source_map.get(index)).copied()
}

#[cfg(test)]
mod tests {
    use ipc::diagnostic::BlockName;
    use ipc::fault::FaultKind;
    use ipc::manifest::SourceBlock;

    use super::*;

    fn revision(name: &str, opener: u32, points: &[(u32, u32)]) -> Revision {
        let point = |(wasm_offset, line_in_block): &(u32, u32)| SourcePoint {
            wasm_offset: *wasm_offset,
            block: 0,
            line_in_block: *line_in_block,
            is_budget: false,
        };
        let name_of_block = BlockName { kind: "module".into(), id: "m".into() };
        let manifest = Manifest {
            language: "8f4e/v1".into(),
            revision: ContentHash::of(&[name.as_bytes()]),
            memories: Vec::new(),
            modules: Vec::new(),
            entries: Vec::new(),
            exports: Vec::new(),
            imports: Vec::new(),
            config: Vec::new(),
            environment: Vec::new(),
            source_map: points.iter().map(point).collect(),
            blocks: vec![SourceBlock { name: name_of_block, line: Some(opener), include: None }],
        };
        Revision { manifest: Arc::new(manifest), image: Arc::default() }
    }

    fn hash(name: &str) -> ContentHash {
        ContentHash::of(&[name.as_bytes()])
    }

    fn names(layouts: &Layouts, layout: LayoutId) -> Vec<ContentHash> {
        let found = layouts.iter().find(|known| known.id == layout).unwrap();
        found.revisions().iter().map(Revision::hash).collect()
    }

    #[test]
    fn a_fault_of_a_patched_program_names_the_line_of_the_newer_text() {
        let code = revision("code", 10, &[(100, 1), (120, 2), (140, 5)]);
        // A comment was added above and inside the block, and a default is a byte longer.
        let text = revision("text", 12, &[(101, 1), (121, 3), (141, 6)]);
        let mut layouts = Layouts::new(Vec::new(), code.clone());
        layouts.add_revision(FIRST_LAYOUT, text);
        let failure = Failure { kind: FaultKind::OutOfBounds, point: Some(code.manifest.source_map[1]) };
        let line = |name: &str| {
            let program = Identity { layout: FIRST_LAYOUT, revision: hash(name) };
            layouts.fault(program, failure, 7, 0).unwrap().line
        };
        assert_eq!((line("code"), line("text")), (Some(12), Some(15)));
    }

    #[test]
    fn the_newest_program_of_a_revision_is_found_and_freed_ones_are_not() {
        let mut layouts = Layouts::new(vec![1], revision("a", 1, &[]));
        let second = layouts.next_id();
        layouts.add(second, vec![2], revision("b", 1, &[]));
        let third = layouts.next_id();
        layouts.add(third, vec![3], revision("a", 1, &[]));
        assert_eq!(layouts.of_revision(hash("a")).map(|layout| layout.id), Some(third));
        layouts.remove(third);
        assert_eq!(layouts.of_revision(hash("a")).map(|layout| layout.id), Some(FIRST_LAYOUT));
        layouts.remove(FIRST_LAYOUT);
        assert!(layouts.of_revision(hash("a")).is_none());
    }

    #[test]
    fn a_value_that_is_turned_to_and_fro_leaves_two_revisions_behind() {
        let mut layouts = Layouts::new(Vec::new(), revision("a", 1, &[]));
        for turn in 0..100 {
            let (now, before) = if turn % 2 == 0 { ("b", "a") } else { ("a", "b") };
            layouts.add_revision(FIRST_LAYOUT, revision(now, 1, &[]));
            layouts.forget_all_but(FIRST_LAYOUT, &[hash(before), hash(now)]);
            assert_eq!(names(&layouts, FIRST_LAYOUT), [hash(before), hash(now)]);
        }
        layouts.remove_revision(FIRST_LAYOUT, hash("a"));
        assert_eq!(names(&layouts, FIRST_LAYOUT), [hash("b")]);
    }
}
