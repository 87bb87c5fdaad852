//! Builds manifests and images from a short description, laid out as LANGUAGE §7 says.

use std::collections::BTreeMap;

use ipc::artifact::DefaultBytes;
use ipc::hash::ContentHash;
use ipc::manifest::{ConfigEntry, ElementType, EntryInfo, ExportInfo, Item, Manifest, MemoryInfo, ModuleInfo, PointeeType, PointsAt};

use crate::change::{Context, Revision, RuntimeFacts};

/// Frame rate of an unedited program in tests.
pub const RATE_HZ: u32 = 48_000;

/// Both revisions under the same runtime.
pub const SAME_RUNTIME: Context = Context { old: AUDIO, new: AUDIO };
pub const AUDIO: RuntimeFacts = RuntimeFacts { runtime_type: "audio", sample_rate_hz: RATE_HZ };

pub const INT: ElementType = ElementType::Int32;
pub const FLOAT: ElementType = ElementType::Float32;
pub const POINTER: ElementType = ElementType::Pointer { base: PointeeType::Float, depth: 1 };

/// What an item starts from.
#[derive(Clone, Debug, PartialEq)]
pub enum Default {
    Zero,
    /// Bytes of its first elements.
    Bytes(Vec<u8>),
    /// Address of an item, or of a module where the item is empty, plus an offset.
    Address(String, String, u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ItemText {
    pub name: String,
    pub element: ElementType,
    pub is_array: bool,
    pub count: u32,
    pub default: Default,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModuleText {
    pub id: String,
    pub entry: String,
    pub memory: u32,
    pub code: String,
    /// Modules that its code refers to.
    pub references: Vec<String>,
    pub items: Vec<ItemText>,
    pub init_only: bool,
    pub skip_execution: bool,
}

/// A program's description. Cheap to clone, so that an edit is a clone and a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    pub modules: Vec<ModuleText>,
    pub regions: Vec<String>,
    pub functions: BTreeMap<String, String>,
    pub config: Vec<ConfigEntry>,
    pub environment: Vec<(String, f64)>,
    /// Lines above the first module.
    pub comment_lines: u32,
    /// Words left free before each module.
    pub gap_words: u32,
}

/// A compiled [`Text`].
#[derive(Clone, Debug)]
pub struct Built {
    pub manifest: Manifest,
    pub image: Vec<DefaultBytes>,
}

impl Built {
    pub fn revision(&self) -> Revision<'_> {
        Revision { manifest: &self.manifest, image: &self.image }
    }

    pub fn item(&self, module: &str, item: &str) -> &Item {
        self.manifest.item(module, item).unwrap().1
    }
}

pub fn text() -> Text {
    Text {
        modules: Vec::new(),
        regions: Vec::new(),
        functions: BTreeMap::new(),
        config: Vec::new(),
        environment: Vec::new(),
        comment_lines: 0,
        gap_words: 0,
    }
}

impl Text {
    /// Appends a module; the calls that follow describe it.
    pub fn module(mut self, id: &str) -> Self {
        self.modules.push(ModuleText {
            id: id.to_owned(),
            entry: "main".to_owned(),
            memory: 0,
            code: format!("code of {id}"),
            references: Vec::new(),
            items: Vec::new(),
            init_only: false,
            skip_execution: false,
        });
        self
    }

    pub fn last(&mut self) -> &mut ModuleText {
        self.modules.last_mut().unwrap()
    }

    pub fn scalar(mut self, name: &str, element: ElementType, default: Default) -> Self {
        self.last().items.push(ItemText { name: name.to_owned(), element, is_array: false, count: 1, default });
        self
    }

    pub fn int(self, name: &str, value: i32) -> Self {
        self.scalar(name, INT, bytes(&value.to_le_bytes()))
    }

    pub fn float(self, name: &str, value: f32) -> Self {
        self.scalar(name, FLOAT, bytes(&value.to_le_bytes()))
    }

    pub fn pointer(self, name: &str, module: &str, item: &str) -> Self {
        self.scalar(name, POINTER, Default::Address(module.to_owned(), item.to_owned(), 0))
    }

    pub fn array(mut self, name: &str, element: ElementType, count: u32, default: Default) -> Self {
        self.last().items.push(ItemText { name: name.to_owned(), element, is_array: true, count, default });
        self
    }

    pub fn refers_to(mut self, modules: &[&str]) -> Self {
        self.last().references = modules.iter().map(|id| (*id).to_owned()).collect();
        self
    }

    pub fn init_only(mut self) -> Self {
        self.last().init_only = true;
        self
    }

    pub fn in_region(mut self, memory: u32) -> Self {
        self.last().memory = memory;
        self
    }

    /// The same program after `edit`.
    pub fn edited(&self, edit: impl FnOnce(&mut Self)) -> Self {
        let mut text = self.clone();
        edit(&mut text);
        text
    }

    pub fn find(&mut self, module: &str) -> &mut ModuleText {
        self.modules.iter_mut().find(|other| other.id == module).unwrap()
    }

    /// The last declaration of a name.
    pub fn find_item(&mut self, module: &str, item: &str) -> &mut ItemText {
        self.find(module).items.iter_mut().rev().find(|other| other.name == item).unwrap()
    }

    pub fn build(&self) -> Built {
        Layout::of(self).describe(self)
    }
}

/// A default of these bytes; all zero is none.
pub fn bytes(bytes: &[u8]) -> Default {
    if bytes.iter().all(|byte| *byte == 0) { Default::Zero } else { Default::Bytes(bytes.to_vec()) }
}

pub fn floats(values: &[f32]) -> Default {
    Default::Bytes(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Where a module is.
#[derive(Clone, std::default::Default)]
struct ModulePlace {
    byte_address: u32,
    words: u32,
    /// Address and words of each item.
    items: Vec<(u32, u32)>,
}

/// Where everything is.
struct Layout {
    /// In the order of the text.
    modules: Vec<ModulePlace>,
    /// Bytes in use in each memory.
    required: Vec<u32>,
}

impl Layout {
    fn of(text: &Text) -> Self {
        let mut cursors = vec![1; text.regions.len() + 1];
        let mut order: Vec<usize> = (0..text.modules.len()).collect();
        order.sort_by_key(|index| &text.modules[*index].id);
        let mut modules = vec![<ModulePlace as std::default::Default>::default(); text.modules.len()];
        for index in order {
            let module = &text.modules[index];
            let cursor = &mut cursors[module.memory as usize];
            *cursor += text.gap_words;
            let start = *cursor;
            let items = module.items.iter().map(|item| place(item, cursor)).collect();
            modules[index] = ModulePlace { byte_address: start * 4, words: *cursor - start, items };
        }
        Self { modules, required: cursors.into_iter().map(|cursor| cursor * 4).collect() }
    }

    fn describe(&self, text: &Text) -> Built {
        let index_of = |id: &str| text.modules.iter().position(|module| module.id == id);
        let image = self.image(text);
        let modules = text.modules.iter().enumerate().map(|(index, module)| {
            let defaults = module.items.iter().filter_map(|item| match &item.default {
                Default::Address(module, ..) => index_of(module),
                Default::Zero | Default::Bytes(_) => None,
            });
            let mut references: Vec<u32> = module
                .references
                .iter()
                .filter_map(|id| index_of(id))
                .chain(defaults)
                .filter(|other| *other != index)
                .map(|other| other as u32)
                .collect();
            references.sort_unstable();
            references.dedup();
            ModuleInfo {
                id: module.id.clone(),
                entry: module.entry.clone(),
                memory: module.memory,
                byte_address: self.modules[index].byte_address,
                words: self.modules[index].words,
                skip_execution: module.skip_execution,
                init_only: module.init_only,
                code_hash: ContentHash::of(&[module.code.as_bytes()]),
                references,
                line: text.comment_lines + 1,
                items: (0..module.items.len()).map(|item| self.item(text, index, item, &image)).collect(),
            }
        });
        let modules: Vec<ModuleInfo> = modules.collect();
        let manifest = Manifest {
            language: "test/v1".to_owned(),
            revision: ContentHash::of(&[format!("{text:?}").as_bytes()]),
            memories: self.memories(text),
            entries: entries(&modules),
            exports: exports(text, &modules),
            modules,
            imports: Vec::new(),
            config: text.config.clone(),
            environment: text.environment.clone(),
            source_map: Vec::new(),
            blocks: Vec::new(),
        };
        Built { manifest, image }
    }

    fn memories(&self, text: &Text) -> Vec<MemoryInfo> {
        let names = std::iter::once("memory").chain(text.regions.iter().map(String::as_str));
        let describe = |(name, required): (&str, &u32)| MemoryInfo {
            name: name.to_owned(),
            required_bytes: u64::from(*required),
            pages: u64::from(*required).div_ceil(65_536).max(1),
        };
        names.zip(&self.required).map(describe).collect()
    }

    /// Initial bytes of every item that has a default.
    fn image(&self, text: &Text) -> Vec<DefaultBytes> {
        let mut image = Vec::new();
        for (index, module) in text.modules.iter().enumerate() {
            for (item, (address, _)) in module.items.iter().zip(&self.modules[index].items) {
                let bytes = match &item.default {
                    Default::Zero => continue,
                    Default::Bytes(bytes) => bytes.clone(),
                    Default::Address(..) => self.target(text, &item.default).1.to_le_bytes().to_vec(),
                };
                image.push(DefaultBytes { memory: module.memory, address: *address, bytes });
            }
        }
        image.sort_by_key(|part| (part.memory, part.address));
        image
    }

    /// Memory and address that a default means.
    fn target(&self, text: &Text, default: &Default) -> (u32, u32) {
        let Default::Address(module, item, offset) = default else { return (0, 0) };
        let index = text.modules.iter().position(|other| other.id == *module).unwrap();
        let position = text.modules[index].items.iter().rposition(|other| other.name == *item);
        let address = position.map_or(self.modules[index].byte_address, |position| self.modules[index].items[position].0);
        (text.modules[index].memory, address + offset)
    }

    fn item(&self, text: &Text, module: usize, item: usize, image: &[DefaultBytes]) -> Item {
        let described = &text.modules[module].items[item];
        let (byte_address, words) = self.modules[module].items[item];
        let points_at = match &described.default {
            Default::Address(target, name, _) if !described.is_array => {
                let (memory, address) = self.target(text, &described.default);
                Some(PointsAt { memory, address, module: Some(target.clone()), item: (!name.is_empty()).then(|| name.clone()) })
            }
            _ => None,
        };
        let place = (text.modules[module].memory, byte_address);
        let initial = image.iter().find(|part| (part.memory, part.address) == place).map_or(&[][..], |part| &part.bytes);
        let hash = ContentHash::of(&[initial]);
        Item {
            name: described.name.clone(),
            element: described.element,
            is_array: described.is_array,
            count: described.count,
            byte_address,
            words,
            default_fingerprint: u64::from_le_bytes(hash.0[..8].try_into().unwrap()),
            initial_bytes: initial.len() as u32,
            points_at,
            line: text.comment_lines + 2 + item as u32,
        }
    }
}

/// Address and words of one item (LANGUAGE §7); moves the cursor, which counts words.
fn place(item: &ItemText, cursor: &mut u32) -> (u32, u32) {
    let start = *cursor;
    if item.element.bytes() == 8 {
        *cursor = cursor.next_multiple_of(2);
    }
    let address = *cursor * 4;
    *cursor += (item.count * item.element.bytes()).div_ceil(4);
    (address, *cursor - start)
}

fn entries(modules: &[ModuleInfo]) -> Vec<EntryInfo> {
    let mut entries: Vec<EntryInfo> = Vec::new();
    for (index, module) in (0..).zip(modules).filter(|(_, module)| !module.init_only && !module.skip_execution) {
        match entries.iter_mut().find(|entry| entry.name == module.entry) {
            Some(entry) => entry.steps.push(index),
            None => entries.push(EntryInfo { name: module.entry.clone(), steps: vec![index] }),
        }
    }
    entries
}

fn exports(text: &Text, modules: &[ModuleInfo]) -> Vec<ExportInfo> {
    let export = |name: &str, code: &str| ExportInfo {
        name: name.to_owned(),
        code_hash: ContentHash::of(&[code.as_bytes()]),
        params: Vec::new(),
        results: Vec::new(),
    };
    // The worker hashes what initialises as well; that must not count.
    let all = format!("{:?}", text.modules);
    let mut exports = vec![export("initDefaults", &all)];
    exports.extend(entries(modules).iter().map(|entry| export(&entry.name, &format!("{:?}", entry.steps))));
    exports.extend(modules.iter().any(|module| module.init_only).then(|| export("initOnly", &all)));
    exports.extend(text.functions.iter().map(|(name, code)| export(name, code)));
    exports
}
