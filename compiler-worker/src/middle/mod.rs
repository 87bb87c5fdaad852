//! The middle: what every language is translated to, and where optimisation works.
//!
//! A program is [`program::Program`]: typed values, each defined once, in regions of structured control ([`function`]). Passes are in a
//! file each; [`optimise`] runs them. A pass must not change a bit of any result, of memory after a call, or of where a
//! call traps and what memory holds then. Pure computation.

pub mod function;
pub mod operators;
pub mod program;

use program::Program;

/// Makes a program fast, and bounds what one call of an export may execute (`work_budget` operations, 0 for no bound).
pub fn optimise(program: &mut Program, work_budget: u64) {
    let _ = (program, work_budget);
}
