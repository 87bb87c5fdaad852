//! What an edit does to a running program: its class, what becomes of every memory item, and the plan by which state moves
//! from the memories of one revision to those of another (DESIGN §9).
//!
//! The supervisor makes report and plan from two manifests; the report is shown to people before anything happens, the
//! plan goes to the host, which checks it against its own memories and carries it out. Both are data: nothing here decides
//! or moves anything. Addresses and lengths are in bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::artifact::DefaultBytes;
use crate::hash::ContentHash;
use crate::manifest::{ElementType, PointeeType};

/// How deep an edit goes (DESIGN §9). Ordered: the class of an edit is the highest of all its differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeClass {
    /// Nothing that runs.
    None,
    /// Parameters: only defaults. Patched into the running memory.
    A,
    /// Structure: a new engine in the same host, state moves over.
    B,
    /// Identity: as B, and nothing happens until it is acknowledged.
    C,
    /// Type: what only a new process can give.
    T,
}

impl ChangeClass {
    /// What the class is called beside its letter.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "nothing that runs",
            Self::A => "parameters",
            Self::B => "structure",
            Self::C => "identity",
            Self::T => "type",
        }
    }

    /// Whether such an edit waits until it is acknowledged.
    pub fn needs_acknowledgement(self) -> bool {
        self == Self::C
    }
}

impl fmt::Display for ChangeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::T => "T",
        })
    }
}

/// Identity of a memory item across revisions.
///
/// A name that a module declares several times means the last declaration (LANGUAGE §6), which has the plain key. The
/// earlier ones have storage as well; they are told apart by their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateKey {
    pub module: String,
    pub item: String,
    /// Which of the shadowed declarations of this name it is, from 0; `None` for the one that the name means.
    pub shadowed: Option<u32>,
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.item)?;
        match self.shadowed {
            Some(occurrence) => write!(f, " (shadowed declaration {})", occurrence + 1),
            None => Ok(()),
        }
    }
}

/// A byte in one of a program's memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index into the memories of the revision it belongs to.
    pub memory: u32,
    pub address: u32,
}

/// What has to be equal for an item's bytes to mean the same: its element type, and whether it is an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub element: ElementType,
    pub is_array: bool,
}

impl fmt::Display for Shape {
    /// As it is declared: `int`, `float*`, `int8[]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            ElementType::Int8 => f.write_str("int8")?,
            ElementType::Int8u => f.write_str("int8u")?,
            ElementType::Int16 => f.write_str("int16")?,
            ElementType::Int16u => f.write_str("int16u")?,
            ElementType::Int32 => f.write_str("int")?,
            ElementType::Float32 => f.write_str("float")?,
            ElementType::Float64 => f.write_str("float64")?,
            ElementType::Pointer { base, depth } => {
                f.write_str(pointee_name(base))?;
                (0..depth).try_for_each(|_| f.write_str("*"))?;
            }
        }
        f.write_str(if self.is_array { "[]" } else { "" })
    }
}

fn pointee_name(base: PointeeType) -> &'static str {
    match base {
        PointeeType::Int8 => "int8",
        PointeeType::Int8u => "int8u",
        PointeeType::Int16 => "int16",
        PointeeType::Int16u => "int16u",
        PointeeType::Int => "int",
        PointeeType::Float => "float",
        PointeeType::Float64 => "float64",
    }
}

// ------------------------------------------------------------------------------------------------------- report

/// What an edit does, said before it is done. What a commit reports afterwards is this, and which of the items marked
/// [`ItemChange::may_lose_target`] did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// The highest class of all differences.
    pub class: ChangeClass,
    /// Everything that differs, the deepest class first.
    pub differences: Vec<Difference>,
    /// Every item of either revision: those of the new one in order of declaration, then the discarded ones.
    pub items: Vec<ItemChange>,
    /// What looks renamed. A hint only: state is never moved by it.
    pub renames: Vec<Rename>,
    /// The init-only modules run once after the change.
    pub reruns_init_only: bool,
}

/// How many items have which fate. `default_changed` counts across all fates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    pub kept: usize,
    pub moved: usize,
    pub grown: usize,
    pub shrunk: usize,
    pub reset: usize,
    pub new: usize,
    pub discarded: usize,
    pub default_changed: usize,
}

impl ChangeReport {
    /// Counts the items by fate.
    pub fn counts(&self) -> ChangeCounts {
        let mut counts = ChangeCounts::default();
        for change in &self.items {
            match change.fate {
                Fate::Kept => counts.kept += 1,
                Fate::Moved => counts.moved += 1,
                Fate::Grown { .. } => counts.grown += 1,
                Fate::Shrunk { .. } => counts.shrunk += 1,
                Fate::Reset(_) => counts.reset += 1,
                Fate::New => counts.new += 1,
                Fate::Discarded => counts.discarded += 1,
            }
            counts.default_changed += usize::from(change.default_changed);
        }
        counts
    }

    /// Whether any state does not survive whole, or may not: reset, cut off, discarded, or within reach of init-only modules
    /// that run again. A session may want to acknowledge that too.
    pub fn loses_state(&self) -> bool {
        let counts = self.counts();
        counts.reset + counts.shrunk + counts.discarded > 0 || self.items.iter().any(|item| item.may_be_rewritten || item.may_be_loaded)
    }
}

/// One thing that differs between two revisions, with the class it has by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub class: ChangeClass,
    pub what: Change,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    RuntimeType {
        from: String,
        to: String,
    },
    SampleRate {
        from_hz: u32,
        to_hz: u32,
    },
    /// A constant that says how long a tick is has another value, though the runtime's rate is the same.
    TimeBase {
        constant: String,
        from: f64,
        to: f64,
    },
    /// Modules that did not feed each other now do.
    LoopCreated {
        modules: Vec<String>,
    },
    /// Modules that fed each other no longer do.
    LoopBroken {
        modules: Vec<String>,
    },
    /// A feedback loop has other members, has been split or joined with another.
    LoopChanged {
        from: Vec<Vec<String>>,
        to: Vec<Vec<String>>,
    },
    /// An item of a module that is part of a feedback loop in either revision.
    ItemInLoop {
        key: StateKey,
        edit: ItemEdit,
    },
    /// An array of this name has other elements, or the name no longer means an array.
    ArrayIdentity {
        key: StateKey,
        from: Shape,
        to: Shape,
    },
    /// An item outside feedback loops.
    Item {
        key: StateKey,
        edit: ItemEdit,
    },
    Language {
        from: String,
        to: String,
    },
    ModuleAdded {
        module: String,
    },
    ModuleRemoved {
        module: String,
    },
    ModuleCode {
        module: String,
    },
    /// It runs in another entry, at another time or not at all.
    ModuleRole {
        module: String,
    },
    /// Modules that both revisions have run in another order.
    ModuleOrder,
    EntryAdded {
        entry: String,
    },
    EntryRemoved {
        entry: String,
    },
    FunctionAdded {
        export: String,
    },
    FunctionRemoved {
        export: String,
    },
    FunctionChanged {
        export: String,
    },
    Imports,
    /// Number, names or sizes of the memories.
    Memories,
    /// Items are elsewhere, so code that names their addresses is another.
    Layout {
        moved: usize,
    },
    /// A setting of the source text that concerns the runtime.
    Setting {
        path: String,
    },
    /// The default of an item that both revisions have.
    Default {
        key: StateKey,
    },
}

/// What happened to the declaration of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemEdit {
    Added,
    Removed,
    Retyped { from: Shape, to: Shape },
    Resized { from_count: u32, to_count: u32 },
}

/// What becomes of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemChange {
    pub key: StateKey,
    pub fate: Fate,
    /// Where it was; `None` for new items.
    pub from: Option<Place>,
    /// Where it will be; `None` for discarded items.
    pub to: Option<Place>,
    /// Elements whose default differs get the new default, whatever they held.
    pub default_changed: bool,
    /// It holds addresses and is kept; elements that point at something that is gone when the change is committed go back
    /// to their default. Until then nobody knows where they will point.
    pub may_lose_target: bool,
    /// It is kept, but within reach of an init-only module that runs again and may write it. Nobody knows before whether it does.
    pub may_be_rewritten: bool,
    /// It is kept, but bytes of a file that is new, or has changed, are written over it.
    pub may_be_loaded: bool,
    /// 1-based line of its declaration, in the old text for discarded items.
    pub line: u32,
}

/// What becomes of an item's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Same key, same shape, same size, same place.
    Kept,
    /// As kept, but at another place.
    Moved,
    /// An array that keeps all its elements and got more.
    Grown { from_count: u32, to_count: u32 },
    /// An array that keeps its first elements.
    Shrunk { from_count: u32, to_count: u32 },
    /// Starts again from its default.
    Reset(ResetCause),
    /// Was not there before.
    New,
    /// Is not there any more.
    Discarded,
}

/// Why an item starts again from its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetCause {
    /// Its elements are of another type.
    Retyped { from: Shape, to: Shape },
    /// Same elements, but an array became a scalar or the other way round.
    Reshaped { from: Shape, to: Shape },
}

/// A module or item that is gone beside one that is new and looks the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// The module both items are in; `None` when the names are those of modules.
    pub module: Option<String>,
    pub from: String,
    pub to: String,
}

// --------------------------------------------------------------------------------------------------------- plan

/// How state gets from the memories of one revision (*from*) into those of another (*to*).
///
/// The destination holds the defaults of its revision before the plan is carried out; on the way back it holds what it held
/// at the swap. Whatever the plan does not write keeps that. So items that are new or reset need no entry, and a rollback
/// returns the items that the failed revision had dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// Revisions it leads from and to.
    pub from: ContentHash,
    pub to: ContentHash,
    /// Bytes to copy, ascending by destination, adjacent ones merged.
    pub copies: Vec<CopyRange>,
    /// Addresses to carry over, ascending by destination. Empty where nothing moved: then
    /// addresses are among `copies`.
    pub relocations: Vec<Relocation>,
    /// What addresses can no longer mean what they meant, ascending by place. An address in none of these stays as it is.
    pub targets: Vec<TargetRange>,
    /// New defaults of elements that are kept, in the *to* memories, ascending. In class A they are all there is to do.
    /// Empty on the way back.
    pub patches: Vec<DefaultBytes>,
    /// Items that `relocations` belong to.
    pub pointers: Vec<StateKey>,
    /// Items that both revisions have and that start again from their default.
    pub resets: Vec<StateKey>,
    /// Call the export `initOnly` once afterwards.
    pub reruns_init_only: bool,
}

/// Bytes that move as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRange {
    pub from: Place,
    pub to: Place,
    pub bytes: u32,
}

/// Consecutive words that hold addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    pub from: Place,
    pub to: Place,
    /// Number of words.
    pub count: u32,
    /// Memory that the addresses are of, in either revision.
    pub from_pointee: u32,
    pub to_pointee: u32,
    /// A word that still holds the default of the one revision gets that of the other: both mean the same target, also
    /// where it is no byte of an item (a module's end, the end of an aligned item).
    pub default: Option<DefaultAddress>,
    /// Index into `MigrationPlan::pointers`.
    pub pointer: u32,
}

/// One and the same target as an address of either revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultAddress {
    pub from: u32,
    pub to: u32,
}

/// Bytes of the old memories that are elsewhere or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRange {
    pub from: Place,
    pub bytes: u32,
    /// Where its first byte is now; `None` when it is gone.
    pub to: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deeper_class_is_a_greater_one() {
        let classes = [ChangeClass::None, ChangeClass::A, ChangeClass::B, ChangeClass::C, ChangeClass::T];
        assert!(classes.is_sorted());
        assert_eq!(classes.map(ChangeClass::needs_acknowledgement), [false, false, false, true, false]);
    }

    #[test]
    fn shapes_and_keys_read_as_in_a_source_text() {
        let pointers = ElementType::Pointer { base: PointeeType::Int8u, depth: 2 };
        let shape = |element, is_array| Shape { element, is_array }.to_string();
        assert_eq!(
            [shape(ElementType::Int32, false), shape(ElementType::Float64, true), shape(pointers, true)],
            ["int", "float64[]", "int8u**[]"]
        );
        let key = |shadowed| StateKey { module: "osc".to_owned(), item: "phase".to_owned(), shadowed }.to_string();
        assert_eq!([key(None), key(Some(1))], ["osc:phase", "osc:phase (shadowed declaration 2)"]);
    }
}
