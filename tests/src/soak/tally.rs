//! What a soak has done, by kind of fault, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

/// One kind of fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    pub injected: u64,
    /// Outcomes that the fault matrix does not allow.
    pub unexpected: u64,
    /// Takeovers that nobody heard.
    pub unheard: u64,
    /// Takeovers there were.
    pub takeovers: u64,
    /// Longest gap, in blocks.
    pub worst_gap_blocks: u64,
}

/// All kinds, and what went wrong in words.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    lines: BTreeMap<String, Line>,
    pub unexpected: Vec<String>,
    /// Blocks that were listened to.
    pub blocks: u64,
    /// Sessions there were.
    pub rounds: u64,
}

impl Tally {
    pub fn line(&mut self, kind: &str) -> &mut Line {
        self.lines.entry(kind.to_owned()).or_default()
    }

    /// Something that must not be.
    pub fn complain(&mut self, kind: &str, what: String) {
        eprintln!("unexpected: {kind}: {what}");
        self.line(kind).unexpected += 1;
        self.unexpected.push(format!("{kind}: {what}"));
    }

    /// A host went on for a dead one.
    pub fn took_over(&mut self, kind: &str, gap_blocks: u64) {
        let line = self.line(kind);
        line.takeovers += 1;
        line.unheard += u64::from(gap_blocks == 0);
        line.worst_gap_blocks = line.worst_gap_blocks.max(gap_blocks);
    }

    /// Adds what another session came to.
    pub fn add(&mut self, other: Self) {
        for (kind, line) in other.lines {
            let sum = self.lines.entry(kind).or_default();
            sum.injected += line.injected;
            sum.unexpected += line.unexpected;
            sum.unheard += line.unheard;
            sum.takeovers += line.takeovers;
            sum.worst_gap_blocks = sum.worst_gap_blocks.max(line.worst_gap_blocks);
        }
        self.unexpected.extend(other.unexpected);
        self.blocks += other.blocks;
        self.rounds += other.rounds;
    }

    /// Faults and edits there were.
    pub fn injected(&self) -> u64 {
        self.lines.values().map(|line| line.injected).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | injected | unexpected outcomes | takeovers | of these unheard | worst gap (blocks) |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|")?;
        for (kind, line) in &self.lines {
            let Line { injected, unexpected, unheard, takeovers, worst_gap_blocks } = line;
            writeln!(f, "| {kind} | {injected} | {unexpected} | {takeovers} | {unheard} | {worst_gap_blocks} |")?;
        }
        let seconds = self.blocks as f64 * 128.0 / 48_000.0;
        let (injected, unexpected, rounds) = (self.injected(), self.unexpected.len(), self.rounds);
        write!(
            f,
            "\n{injected} faults and edits in {rounds} sessions, {unexpected} unexpected outcomes; {} blocks of three lanes ({seconds:.0} s) compared sample by sample",
            self.blocks
        )
    }
}
