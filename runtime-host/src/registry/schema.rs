//! The schema of `@config` settings: which paths there are and what their values may be (LANGUAGE §20.2).
//!
//! A runtime type lists its own keys in its own folder; what concerns every type is listed here.

use super::{RuntimeType, TYPES};

/// What a setting's value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueKind {
    /// A finite number of at least this.
    NumberAtLeast(f64),
    /// A whole number of at least 0.
    Whole,
    /// Any text.
    Text,
    /// A name that a function can have.
    FunctionName,
    /// A memory item (`module:item`, or an item of the same block), or a word index.
    Memory,
}

impl ValueKind {
    /// Finishes the sentence "… must be".
    pub fn describe(self) -> String {
        match self {
            Self::NumberAtLeast(least) => format!("a number of at least {least}"),
            Self::Whole => "a whole number of at least 0".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::FunctionName => "the name of a function".to_owned(),
            Self::Memory => "a memory item (`module:item`) or a word index".to_owned(),
        }
    }
}

/// One key. In `path`, `*` stands for any one segment.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    pub path: &'static str,
    pub kind: ValueKind,
}

impl ConfigKey {
    fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('.');
        self.path
            .split('.')
            .all(|expected| segments.next().is_some_and(|found| !found.is_empty() && (expected == "*" || expected == found)))
            && segments.next().is_none()
    }
}

/// Keys of every runtime type. What is not used yet is checked all the same, so that a mistake shows when it is made.
const GENERAL: &[ConfigKey] = &[
    ConfigKey { path: "runtime", kind: ValueKind::Text },
    // Read at the end of each tick, so that it has to be high there to be seen.
    ConfigKey { path: "pulse", kind: ValueKind::Memory },
    ConfigKey { path: "recompileDebounceDelay", kind: ValueKind::Whole },
    ConfigKey { path: "bin.*.url", kind: ValueKind::Text },
    ConfigKey { path: "bin.*.memory", kind: ValueKind::Memory },
    ConfigKey { path: "bin.*.memories.*", kind: ValueKind::Memory },
    ConfigKey { path: "bin.*.offset", kind: ValueKind::Whole },
    ConfigKey { path: "bin.*.offsets.*", kind: ValueKind::Whole },
    ConfigKey { path: "keyboard.keyCodeMemory", kind: ValueKind::Memory },
    ConfigKey { path: "keyboard.keyPressedMemory", kind: ValueKind::Memory },
    ConfigKey { path: "clock.tempoMemory", kind: ValueKind::Memory },
    ConfigKey { path: "clock.runningMemory", kind: ValueKind::Memory },
    ConfigKey { path: "clock.beatMemory", kind: ValueKind::Memory },
    ConfigKey { path: "midi.inputs.*.port", kind: ValueKind::Whole },
    ConfigKey { path: "midi.inputs.*.callback", kind: ValueKind::FunctionName },
];

/// First segments of settings that concern the reference's editor only.
const EDITOR_ONLY: &[&str] = &["color", "export", "font", "webUI"];

/// Finds the key that `path` is an instance of.
pub fn find(path: &str) -> Option<ConfigKey> {
    let own = TYPES.iter().flat_map(|ty: &&RuntimeType| ty.config.iter());
    GENERAL.iter().chain(own).find(|key| key.matches(path)).copied()
}

/// Whether `path` concerns the editor only and is passed over in silence.
pub fn is_editor_only(path: &str) -> bool {
    path.split('.').next().is_some_and(|first| EDITOR_ONLY.contains(&first))
}
