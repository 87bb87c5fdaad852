//! The machine that the figures belong to.

use std::fs;
use std::process::Command;

/// Prints what decides how fast anything is here.
pub fn print() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {}, {cores} cores, kernel {}", processor(), read("/proc/sys/kernel/osrelease"));
    println!("baselines: {}, {}", version("node", "no node: V8 is not measured"), version("cc", "no C compiler: C is not measured"));
    print_load("before");
}

/// Prints how busy the machine is. More than its cores: somebody else works here too, and single figures are noisy.
pub fn print_load(when: &str) {
    let load = read("/proc/loadavg");
    println!("\nload {when}: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
}

fn processor() -> String {
    let all = read("/proc/cpuinfo");
    let name = all.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn version(program: &str, otherwise: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let first = output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned));
    first.map_or_else(|| otherwise.to_owned(), |line| format!("{program} {line}"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
