//! The back half of the language: what is on the operand stack, and its translation into the middle (LANGUAGE §11, §13–§15).
//!
//! Order of errors (LANGUAGE §1): names of all modules, then of all functions ([`names`]); operand stacks of all functions, then of all
//! modules ([`stack`]); memory access in pure functions; and last what only WebAssembly forbids ([`build`]). Within a stage the
//! first error of each body is reported. [`translate`] puts the bodies together. Pure computation.

pub mod build;
mod calls;
pub mod code;
mod control;
pub mod facts;
mod maps;
mod memory;
pub mod names;
pub mod scope;
pub mod stack;
pub mod translate;

use std::borrow::Cow;

use self::code::Code;
use self::scope::Scope;
use super::error::LanguageError;
use super::functions::{Functions, Signature};
use super::program::{BlockId, LibraryPlace, Line, Module, Program};

/// Iterations of a loop that states no cap (LANGUAGE §15.4).
const DEFAULT_LOOP_CAP: u32 = 1000;

/// A body with its surroundings: that of a module or of a function.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    pub block: BlockId,
    pub lines: &'a [Line],
    /// The module whose body it is; else it is a function's.
    pub module: Option<&'a Module>,
    /// The function whose body it is.
    pub signature: Option<&'a Signature>,
    /// Set for a function of the library, which is known to be right.
    pub library: Option<LibraryPlace>,
    /// Memory may be accessed.
    pub is_impure: bool,
    pub loop_cap: u32,
}

impl<'a> Body<'a> {
    fn scope(&self) -> Scope<'a> {
        match (self.module, self.signature) {
            (Some(module), _) => Scope::of_module(module),
            (None, Some(signature)) => Scope::of_function(signature),
            (None, None) => unreachable!("a body is a module's or a function's"),
        }
    }
}

/// Stack code of every body. Parallel to the program's functions and modules; imported functions have none.
#[derive(Debug)]
pub struct Bodies {
    pub functions: Vec<Option<Cow<'static, Code>>>,
    pub modules: Vec<Code>,
}

/// The body of every function that has one, and of every module.
fn bodies<'a>(program: &'a Program, functions: &'a Functions) -> (Vec<Option<Body<'a>>>, Vec<Body<'a>>) {
    let of_functions = program.functions.iter().zip(&functions.signatures).map(|(function, signature)| {
        signature.import.is_none().then(|| Body {
            block: function.block,
            lines: &function.body,
            module: None,
            signature: Some(signature),
            library: function.library,
            is_impure: function.is_impure,
            loop_cap: function.loop_cap.unwrap_or(DEFAULT_LOOP_CAP),
        })
    });
    let of_modules = program.modules.iter().map(|module| Body {
        block: module.block,
        lines: &module.body,
        module: Some(module),
        signature: None,
        library: None,
        is_impure: true,
        loop_cap: module.loop_cap.unwrap_or(DEFAULT_LOOP_CAP),
    });
    (of_functions.collect(), of_modules.collect())
}

/// Analyses every body. On errors: those of the first stage that has some.
pub fn analyse(program: &Program, functions: &Functions) -> Result<Bodies, Vec<LanguageError>> {
    let (of_functions, of_modules) = bodies(program, functions);
    let own_functions = of_functions.iter().flatten().filter(|body| body.library.is_none());
    let in_name_order = of_modules.iter().chain(own_functions);
    let unknown: Vec<LanguageError> = in_name_order.filter_map(|body| names::check(program, functions, body).err()).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }

    let mut errors = Vec::new();
    let mut impure = Vec::new();
    let mut analysed = |body: &Body<'_>| match stack::analyse(program, functions, body) {
        Ok(analysed) => {
            impure.extend(analysed.impure);
            analysed.code
        }
        Err(error) => {
            errors.push(error);
            Code::default()
        }
    };
    let functions = of_functions.iter().map(|body| match body.as_ref()? {
        Body { library: Some(place), .. } => Some(Cow::Borrowed(&place.known.code)),
        body => Some(Cow::Owned(analysed(body))),
    });
    let functions = functions.collect();
    let modules = of_modules.iter().map(&mut analysed).collect();
    errors.extend(if errors.is_empty() { impure } else { Vec::new() });
    if errors.is_empty() { Ok(Bodies { functions, modules }) } else { Err(errors) }
}
