//! The middle: what every language is translated to, and where optimisation works.
//!
//! A program is [`program::Program`]: typed values, each defined once, in regions of structured control ([`function`]). Passes are in a
//! file each; [`optimise`] runs them. A pass must not change a bit of any result, of memory after a call, or of where a
//! call traps and what memory holds then. Pure computation.

pub mod bounds;
pub mod budget;
pub mod dead_code;
pub mod fold;
pub mod forward;
pub mod function;
pub mod inline;
pub mod operators;
pub mod parts;
pub mod program;
#[cfg(test)]
mod sketch;
pub mod slots;
pub mod verify;

use program::Program;

/// Makes a program fast, and bounds what one call of an export may execute (`work_budget` operations, 0 for no bound).
pub fn optimise(program: &mut Program, work_budget: u64) {
    check(program, "translation");
    inline::inline(program);
    check(program, "inlining");
    forward::forward(program);
    check(program, "forwarding");
    dead_code::remove(program);
    check(program, "removal of dead code");
    budget::apply(program, work_budget);
    check(program, "the work budget");
}

/// In builds with debug assertions: every value is defined before it is used, with the right type.
fn check(program: &Program, after: &str) {
    if cfg!(debug_assertions)
        && let Err(what) = verify::verify(program)
    {
        panic!("after {after}: {what}");
    }
}
