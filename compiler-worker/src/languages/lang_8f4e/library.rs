//! The standard library as the passes know it: read, resolved, checked and analysed once in a process (LANGUAGE §19).
//!
//! Functions of the library refer to nothing but functions of the same text, so that what the passes find out about them does
//! not depend on the program that includes them. Each text goes the way of a program that holds nothing else, when it is first
//! asked for. A program takes over the results; what depends on the program are numbers, and where the code of a function ends up.

use std::sync::OnceLock;

use super::FrontOptions;
use super::analysis;
use super::analysis::code::{Code, StackOp};
use super::analysis::translate::translate;
use super::blocks::{Blocks, FunctionBlock};
use super::functions::{Functions, Signature};
use super::hashes::{self, LibraryHash};
use super::includes::{self, LIBRARY};
use super::parsed::BlockKind;
use super::program::{Function, Program};
use super::syntax::{self, SourceLines};
use crate::middle;

/// A function of the library.
#[derive(Debug)]
pub struct LibraryFunction {
    /// Resolved; its block is that of no program.
    pub function: Function,
    pub signature: Signature,
    /// Stack code. Functions it calls are numbered within the same text.
    pub code: Code,
    /// Its translation, unless that depends on the program: on what it calls or on the sizes of memories.
    pub translated: Option<middle::function::Function>,
    /// Fingerprint of its own lines.
    pub hash: LibraryHash,
}

/// The functions of each text of [`LIBRARY`].
static FUNCTIONS: [OnceLock<Vec<LibraryFunction>>; LIBRARY.len()] = [const { OnceLock::new() }; LIBRARY.len()];

/// The functions of an include, by its index in [`LIBRARY`].
pub fn functions(include: usize) -> &'static [LibraryFunction] {
    FUNCTIONS[include].get_or_init(|| resolve(include))
}

fn resolve(include: usize) -> Vec<LibraryFunction> {
    let program = program(include);
    let right = "the library is right: tests compile all of it";
    let functions = Functions::of(&program).expect(right);
    let bodies = analysis::analyse(&program, &functions).expect(right);
    let mut translated = translate(&program, &functions, &bodies).expect(right).functions;
    // The dispatchers come first.
    let translated = translated.split_off(translated.len() - program.functions.len());
    let hashes = hashes::of_functions(&program);
    let all = program.functions.into_iter().zip(functions.signatures).zip(bodies.functions).zip(translated).zip(hashes);
    let all = all.map(|((((function, signature), code), translated), hash)| {
        let code = code.expect(right).into_owned();
        let translated = is_self_contained(&code).then_some(translated);
        LibraryFunction { function, signature: signature.into_owned(), code, translated, hash: hash.into() }
    });
    all.collect()
}

fn is_self_contained(code: &Code) -> bool {
    !code.steps.iter().any(|step| matches!(step.op, StackOp::Call { .. } | StackOp::ClampMemory { .. }))
}

/// A program that holds the functions of one text.
fn program(include: usize) -> Program {
    let (id, text) = LIBRARY[include];
    let family = includes::functions(id, text);
    let read = family.iter().map(|function| {
        let source = SourceLines { kind: BlockKind::Function, block: 0, lines: &function.lines };
        let mut parsed = syntax::parse(source).unwrap_or_else(|error| panic!("{id}: {error}"));
        includes::adopt(&mut parsed, function, &family);
        FunctionBlock::Own(parsed)
    });
    let blocks = Blocks { functions: read.collect(), ..Blocks::default() };
    super::resolve_read(blocks, &FrontOptions::default(), None).unwrap_or_else(|errors| panic!("{id}: {errors:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::languages::lang_8f4e::analysis::code::Callee;
    use crate::middle::inline::{SMALL_OPS, size_of};

    fn all() -> impl Iterator<Item = &'static LibraryFunction> {
        (0..LIBRARY.len()).flat_map(functions)
    }

    #[test]
    fn every_function_of_the_library_is_right_by_itself() {
        assert!(all().count() >= LIBRARY.len());
        for known in all() {
            assert!(known.function.exports.is_empty() && known.function.imports.is_empty(), "{}", known.function.name);
            assert!(known.code.steps.iter().all(|step| !matches!(step.op, StackOp::Call { callee: Callee::Entry(_), .. })));
        }
    }

    /// Functions that no program calls are left out before inlining counts calls. That makes no difference to the others as long as
    /// all of the library is inlined however often it is called.
    #[test]
    fn every_function_of_the_library_is_inlined_wherever_it_is_called() {
        for include in 0..LIBRARY.len() {
            let program = program(include);
            let functions = Functions::of(&program).expect("the library is right");
            let bodies = analysis::analyse(&program, &functions).expect("the library is right");
            let translated = translate(&program, &functions, &bodies).expect("the library is right");
            let sizes: Vec<usize> =
                translated.functions.iter().map(|function| size_of(&function.body) + function.locals.len() * 2).collect();
            // Callees inside the same text come on top, at most once each level; none has more than one level.
            let largest_callee = |function: &crate::middle::function::Function| {
                let mut all = 0;
                crate::middle::inline::for_each_callee(&function.body, &mut |callee| {
                    all += translated.defined(callee).map_or(0, |callee| sizes[callee]);
                });
                all
            };
            for (function, size) in translated.functions.iter().zip(&sizes) {
                let inlined = size + largest_callee(function);
                assert!(inlined <= SMALL_OPS, "{}: {inlined} operations", function.name);
            }
        }
    }
}
