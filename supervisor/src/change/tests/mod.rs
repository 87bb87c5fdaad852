//! Tests of change reports and plans: a table of edit pairs, plans carried out on memories, random programs, real texts.

mod builder;
mod carrying;
mod damaged;
mod properties;
mod ram;
mod source;
mod table;
mod wording;
