//! Fuzz targets: one for each decoder of data that another process, a file or a user made (FAULTS rows 21, 22, 24, 29).
//!
//! Each is a test with a fixed number of cases; `./dev fuzz TARGET` runs one for as long as one likes. What the supervisor decodes
//! alone (control lines, session files, recordings) has its targets there, in `supervisor/src/fuzz_targets.rs`.

mod artifact;
mod lanes;
mod layouts;
mod messages;
mod plans;
mod programs;
mod segments;
mod source_text;
mod state;

/// Counts what decoders allocate.
#[global_allocator]
static ALLOCATOR: fuzz::Tally = fuzz::Tally;
