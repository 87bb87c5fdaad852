//! From the middle to a WebAssembly binary with a source map (DESIGN §4; LANGUAGE §16).
//!
//! [`placement`] decides which values stay on WebAssembly's operand stack, [`body`] writes a function, [`module`] the sections around it,
//! [`validation`] checks what came out. Output depends on nothing but the program: no clock, no hash order, no addresses.

pub mod body;
pub mod module;
pub mod placement;
pub mod validation;
