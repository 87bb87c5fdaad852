//! The cases. [`stage::Show`] plays a script, with or without somebody who kills.

mod script;
mod show;

mod kills;
mod odds;
mod refusals;
mod timers;
mod wires;
