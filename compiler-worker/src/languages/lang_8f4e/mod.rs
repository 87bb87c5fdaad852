//! The 8f4e language (LANGUAGE.md).
//!
//! The front half turns text into a resolved [`program::Program`]: [`project`] splits the file into blocks, [`lexer`],
//! [`arguments`] and [`syntax`] read their lines, [`includes`] adds library functions, [`constants`], [`layout`],
//! [`references`] and [`defaults`] replace every compile-time form by its value. The back half checks what is on the operand
//! stack and translates into the middle representation. Errors of both are in [`error`].

pub mod error;
pub mod instruction;
pub mod program;
