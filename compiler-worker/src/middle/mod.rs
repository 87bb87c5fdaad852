//! The middle: what every language is translated to, and where optimisation works.

pub mod function;
pub mod operators;
pub mod program;
