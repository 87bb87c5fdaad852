//! All blocks of a program, read: modules in order of execution, constants, functions with those of the library, prototypes.
//!
//! Brings the project file, the library and the line reader together, in the language's order of errors (LANGUAGE §1).

use ipc::limits::MAX_DIAGNOSTICS;
use ipc::manifest::ConfigEntry;
use rustc_hash::{FxHashMap, FxHashSet};

use super::block_cache::BlockCache;
use super::directives;
use super::error::LanguageError;
use super::includes::{self, LIBRARY};
use super::lexer;
use super::library;
use super::parsed::{BlockKind, ParsedBlock};
use super::program::{BlockId, BlockInfo, LibraryPlace};
use super::project::{BlockWord, DocumentBlock, Project};
use super::syntax::{self, SourceLines};

/// How often one include is expanded at most. A second time already is an error (its functions collide), and further ones
/// would only cost time and memory.
const MAX_EXPANSIONS: usize = 2;

/// The blocks of a program.
#[derive(Debug, Default)]
pub struct Blocks<'a> {
    /// Entry names in the language's order.
    pub entries: Vec<&'a str>,
    /// Modules in entry order, then document order, each with its index into `entries`.
    pub modules: Vec<(usize, ParsedBlock<'a>)>,
    pub constants: Vec<ParsedBlock<'a>>,
    /// In document order.
    pub functions: Vec<FunctionBlock<'a>>,
    pub prototypes: Vec<ParsedBlock<'a>>,
}

/// A function of the program.
#[derive(Clone, Debug)]
pub enum FunctionBlock<'a> {
    /// Its text is part of the file.
    Own(ParsedBlock<'a>),
    /// It is included: read and resolved already.
    Library { block: BlockId, place: LibraryPlace },
}

/// What is known of the blocks before their lines are read. It outlives errors, as diagnostics need it.
#[derive(Debug, Default)]
pub struct Outline<'a> {
    pub infos: Vec<BlockInfo>,
    pub config: Vec<ConfigEntry>,
    /// Directives in comments that are wrong. The language itself ignores comments, so these count last.
    pub directive_errors: Vec<LanguageError>,
    sources: Vec<Source<'a>>,
    /// How many functions there are, those of the library included.
    functions: usize,
}

/// Where the lines of a block are.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Document(DocumentBlock<'a>, BlockKind),
    Library(LibraryPlace),
}

impl<'a> Outline<'a> {
    /// Numbers the blocks of a project in document order and brings in library functions at the place of their block.
    pub fn new(project: &Project<'a>) -> Result<Self, LanguageError> {
        let mut outline = Self::default();
        let mut expansions: FxHashMap<usize, usize> = FxHashMap::default();
        for block in &project.blocks {
            let lines = project.lines_of(block);
            let kind = BlockKind::from_word(block.word.opener());
            outline.read_directives(block, lines, kind.map(|_| outline.sources.len()));
            match (kind, block.word) {
                (Some(kind), _) => outline.add_document(*block, kind, lines),
                (None, BlockWord::Includes) => {
                    for include in includes::requested(lines, block.line)? {
                        let count = expansions.entry(include).or_default();
                        *count += 1;
                        if *count <= MAX_EXPANSIONS {
                            outline.add_library(include);
                        }
                    }
                }
                (None, _) => {}
            }
        }
        Ok(outline)
    }

    fn read_directives(&mut self, block: &DocumentBlock<'_>, lines: &[&str], id: Option<BlockId>) {
        let opener = lines.first().copied().unwrap_or_default();
        let scan = directives::Scan { word: block.word, name: name_of(opener), block: id, line: block.line };
        scan.read(lines, &mut self.config, &mut self.directive_errors);
    }

    fn add_document(&mut self, block: DocumentBlock<'a>, kind: BlockKind, lines: &[&str]) {
        let id = name_of(lines.first().copied().unwrap_or_default()).to_owned();
        self.infos.push(BlockInfo { kind: kind.word(), id, file_line: Some(block.line), include: None });
        self.sources.push(Source::Document(block, kind));
        self.functions += usize::from(kind == BlockKind::Function);
    }

    /// Adds the functions of an include, given by its index in the library.
    fn add_library(&mut self, include: usize) {
        let family = self.functions;
        for known in library::functions(include) {
            let (kind, id) = (BlockKind::Function.word(), known.function.name.clone());
            self.infos.push(BlockInfo { kind, id, file_line: None, include: Some(LIBRARY[include].0.to_owned()) });
            self.sources.push(Source::Library(LibraryPlace { known, family }));
            self.functions += 1;
        }
    }
}

/// The second word of an opener line.
fn name_of(opener: &str) -> &str {
    // A string that does not end is an error of syntax, found when the line is read for good.
    lexer::tokens(opener, 0).map_while(Result::ok).nth(1).map_or("", |token| token.text)
}

/// Reads all blocks that `cache` does not know. Reports the first error of each, in the language's order.
pub fn read<'a, 't: 'a>(
    project: &Project<'a>,
    outline: &Outline<'a>,
    cache: Option<&BlockCache<'t>>,
) -> Result<Blocks<'a>, Vec<LanguageError>> {
    let entries = entry_order(&project.blocks);
    let mut reader = Reader { project, outline, cache, errors: Vec::new() };
    let prototypes = reader.read_all(BlockKind::Prototype);
    let modules = reader.read_modules(&entries);
    let constants = reader.read_all(BlockKind::Constants);
    let functions = reader.read_functions();
    match reader.errors.is_empty() {
        true => Ok(Blocks { entries, modules, constants, functions, prototypes }),
        false => Err(reader.errors),
    }
}

struct Reader<'r, 'a, 't> {
    project: &'r Project<'a>,
    outline: &'r Outline<'a>,
    cache: Option<&'r BlockCache<'t>>,
    errors: Vec<LanguageError>,
}

impl<'a, 't: 'a> Reader<'_, 'a, 't> {
    fn read_all(&mut self, kind: BlockKind) -> Vec<ParsedBlock<'a>> {
        let documents = self.outline.sources.iter().enumerate().filter_map(|(block, source)| match source {
            Source::Document(document, of) if *of == kind => Some((block, document)),
            _ => None,
        });
        documents.filter_map(|(block, document)| self.read(block, document, kind)).collect()
    }

    fn read_functions(&mut self) -> Vec<FunctionBlock<'a>> {
        let sources = self.outline.sources.iter().enumerate();
        let read = |(block, source): (BlockId, &Source<'a>)| match source {
            Source::Document(document, BlockKind::Function) => Some(FunctionBlock::Own(self.read(block, document, BlockKind::Function)?)),
            Source::Document(..) => None,
            Source::Library(place) => Some(FunctionBlock::Library { block, place: *place }),
        };
        sources.filter_map(read).collect()
    }

    fn read_modules(&mut self, entries: &[&str]) -> Vec<(usize, ParsedBlock<'a>)> {
        let positions: FxHashMap<&str, usize> = entries.iter().enumerate().map(|(position, name)| (*name, position)).collect();
        let mut modules: Vec<(usize, BlockId, &DocumentBlock<'a>)> = Vec::new();
        for (block, source) in self.outline.sources.iter().enumerate() {
            if let Source::Document(document @ DocumentBlock { entry: Some(entry), .. }, BlockKind::Module) = source {
                modules.push((positions.get(entry).copied().unwrap_or_default(), block, document));
            }
        }
        modules.sort_by_key(|(entry, ..)| *entry);
        let read = |(entry, block, document)| Some((entry, self.read(block, document, BlockKind::Module)?));
        modules.into_iter().filter_map(read).collect()
    }

    fn read(&mut self, block: BlockId, document: &DocumentBlock<'_>, kind: BlockKind) -> Option<ParsedBlock<'a>> {
        let parsed = self.parse(SourceLines { kind, block, lines: self.project.lines_of(document) });
        parsed.map_err(|error| self.keep(error)).ok()
    }

    fn parse(&self, source: SourceLines<'_, 'a>) -> Result<ParsedBlock<'a>, LanguageError> {
        match self.cache {
            Some(cache) => cache.parse(source),
            None => syntax::parse(source),
        }
    }

    fn keep(&mut self, error: LanguageError) {
        if self.errors.len() < MAX_DIAGNOSTICS {
            self.errors.push(error);
        }
    }
}

/// Entry names in the order of a JavaScript object's keys: array indices ascending, then `main`, then by first module.
fn entry_order<'a>(blocks: &[DocumentBlock<'a>]) -> Vec<&'a str> {
    let mut seen: FxHashSet<&str> = FxHashSet::default();
    let in_order = std::iter::once("main").chain(blocks.iter().filter_map(|block| block.entry));
    let mut entries: Vec<&str> = in_order.filter(|name| seen.insert(name)).collect();
    entries.sort_by_key(|name| array_index(name).unwrap_or(u64::MAX));
    entries
}

/// What JavaScript takes for an array index: a canonical number below 2³² − 1.
fn array_index(name: &str) -> Option<u64> {
    let is_canonical = name == "0" || (name.len() <= 10 && !name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
    name.parse().ok().filter(|&index| is_canonical && index < u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::languages::lang_8f4e::project;

    fn order(source: &str) -> Vec<&str> {
        entry_order(&project::parse(source.as_bytes()).expect("the file is right").blocks)
    }

    #[test]
    fn entries_come_in_the_order_of_javascript_keys() {
        let source = "8f4e/v1\nentry b\nmodule x\nmoduleEnd\nentryEnd\nentry 10\nmodule y\nmoduleEnd\nentryEnd\nentry 2\nmodule z\nmoduleEnd\nentryEnd\nentry none\nentryEnd";
        assert_eq!(order(source), ["2", "10", "main", "b"]);
        assert_eq!(order("8f4e/v1\nentry 01\nmodule x\nmoduleEnd\nentryEnd"), ["main", "01"]);
    }
}
