//! What the engine costs, beside what others cost: tables with a baseline measured in the same run (`./dev bench [NAME…]`).
//!
//! One file per table. What happens in one process is called directly; whole-process figures come from the release binary that
//! lies beside this one. The sides of a comparison take turns ([`sampling`]), so that both see the same machine; the machine
//! is printed first, because absolute figures mean nothing without it. A baseline that cannot be measured here (no node, no C
//! compiler, other engines) is quoted, and says so. Nothing here asserts a time.

mod artifact;
mod c;
mod checkpoints;
mod compile;
mod generate;
mod host_rig;
mod idle;
mod machine;
mod memory;
mod midi;
mod playback;
mod processes;
mod programs;
mod recovery;
mod sampling;
mod startup;
mod swap;
mod table;
mod tick;
mod transport;
mod v8;

use std::process::ExitCode;

/// A table's name on the command line, and what prints it.
const TABLES: [(&str, fn()); 10] = [
    ("tick", tick::print),
    ("artifact", artifact::print),
    ("transport", transport::print),
    ("startup", startup::print),
    ("swap", swap::print),
    ("memory", memory::print),
    ("idle", idle::print),
    ("midi", midi::print),
    ("recovery", recovery::print),
    // The last one, because it has the allocator keep freed memory, as the worker does and hosts do not.
    ("compile", compile::print),
];

fn main() -> ExitCode {
    // Cargo adds options of its own, such as `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let names: Vec<&str> = TABLES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("there is no table `{unknown}`; there is {}", names.join(", "));
        return ExitCode::from(2);
    }
    machine::print();
    for (name, print) in TABLES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            print();
        }
    }
    machine::print_load("after");
    ExitCode::SUCCESS
}
