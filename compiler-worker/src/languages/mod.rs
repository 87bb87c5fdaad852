//! The languages programs can be written in, chosen by the header line of the text: one folder and one row of the table each.
//!
//! A language turns text into a program of the middle and describes it; everything behind that is shared. Pure computation.

pub mod caches;
pub mod lang_8f4e;

use ipc::artifact::DefaultBytes;
use ipc::diagnostic::Diagnostic;
use ipc::manifest::Manifest;
use ipc::message::CompileRequest;

use crate::middle::program::Program;
use caches::Caches;

/// What a language makes of a source text.
#[derive(Debug)]
pub struct Translated {
    pub program: Program,
    /// Complete but for its source map, which needs the emitted code.
    pub manifest: Manifest,
    /// What the memories hold after initialisation.
    pub image: Vec<DefaultBytes>,
}

/// A row of the table.
pub struct Language {
    /// Language and version, as in the manifest.
    pub id: &'static str,
    /// First line of a text in this language, without surrounding white space.
    pub header: &'static str,
    /// Checks and translates a text; at least one diagnostic if that fails, the first error first.
    pub translate: fn(&CompileRequest, Option<&Caches<'_>>) -> Result<Translated, Vec<Diagnostic>>,
}

/// Every language. The first one also takes texts without a known header, to say what is wrong with them.
pub const LANGUAGES: &[Language] = &[Language { id: lang_8f4e::ID, header: lang_8f4e::ID, translate: lang_8f4e::back::translate }];

/// The language of a text.
pub fn language_of(source: &[u8]) -> &'static Language {
    let line = source.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_headed = |language: &&Language| line.trim_ascii() == language.header.as_bytes();
    LANGUAGES.iter().find(is_headed).unwrap_or(&LANGUAGES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_line_chooses_the_language() {
        assert_eq!(language_of(b"8f4e/v1\nentry main\nentryEnd\n").id, "8f4e/v1");
        assert_eq!(language_of(b"no header at all").id, LANGUAGES[0].id);
    }
}
