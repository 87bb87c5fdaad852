//! A decoder with what is needed to fuzz it, and the run over its inputs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::coverage::Coverage;
use crate::mutation::Material;
use crate::random::Random;
use crate::trial::{Bench, Cost};

/// Seed where none is given: the same commit tries the same inputs everywhere.
const USUAL_SEED: u64 = 8;
/// Prefix of the files that hold what an earlier run found worth keeping.
const KEPT: &str = "reaching";
/// How often a timed run says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A decoder to be fuzzed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name on the command line: that of its test.
    pub name: &'static str,
    /// Inputs to begin with, beside those in `corpus/TARGET`. They are tried as they are, too.
    pub seeds: Vec<Vec<u8>>,
    /// Words of the format, put in here and there.
    pub words: &'static [&'static str],
    /// Longer inputs are cut.
    pub max_bytes: usize,
    /// Inputs in a plain test run.
    pub cases: u64,
    /// Processor time that one input may take.
    pub cpu: Duration,
    /// Bytes that the decoder may hold at once, and as many again for each byte of the input.
    pub bytes: u64,
    pub bytes_per_byte: u64,
}

/// What a run is to do; from the environment.
struct Order {
    seed: u64,
    seconds: Option<u64>,
    input: Option<PathBuf>,
}

impl Order {
    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("CONTINUO_SEED").unwrap_or(USUAL_SEED);
        Self { seed, seconds: number("FUZZ_SECONDS"), input: std::env::var_os("FUZZ_INPUT").map(PathBuf::from) }
    }
}

impl Target {
    /// Gives `check` one input after the other. Panics with the seed and the file of the input when one fails.
    pub fn run(&self, mut check: impl FnMut(&[u8])) {
        let order = Order::from_environment();
        let cost = Cost { cpu: self.cpu, bytes: self.bytes, bytes_per_byte: self.bytes_per_byte };
        let bench = Bench::new(self.name, cost).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let mut run = Run { target: self, bench, coverage: Coverage::default(), corpus: Vec::new(), cases: 0, seed: order.seed };
        if let Some(path) = order.input {
            let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            return run.try_input(&input, &mut check);
        }
        // The first input pays for what is set up once.
        check(self.seeds.first().map_or(&[], Vec::as_slice));
        run.corpus = [self.seeds.clone(), kept_in_the_project(self.name)].concat();
        for seed in run.corpus.clone() {
            run.try_input(&seed, &mut check);
        }
        match order.seconds {
            None => run.count(self.cases, &mut check),
            Some(seconds) => run.last(Duration::from_secs(seconds), &mut check),
        }
        println!("{}: {} inputs, seed {}, nothing found", self.name, run.cases, order.seed);
    }
}

/// Inputs that failed once or are worth trying every time: the files in `corpus/TARGET`.
fn kept_in_the_project(name: &str) -> Vec<Vec<u8>> {
    files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name), "")
}

/// What is in the files of a folder whose names begin with `prefix`, in the order of their names.
fn files_in(folder: &Path, prefix: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_wanted = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_wanted).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// A run under way.
struct Run<'a> {
    target: &'a Target,
    bench: Bench,
    coverage: Coverage,
    corpus: Vec<Vec<u8>>,
    cases: u64,
    seed: u64,
}

impl Run<'_> {
    fn count(&mut self, cases: u64, check: &mut impl FnMut(&[u8])) {
        let mut random = Random::new(self.seed);
        for _ in 0..cases {
            let input = self.mutation(&mut random);
            self.try_input(&input, check);
        }
    }

    /// Runs until the time is over; what reaches something new joins the corpus.
    fn last(&mut self, duration: Duration, check: &mut impl FnMut(&[u8])) {
        let mut random = Random::new(self.seed);
        self.load_kept(check);
        if !Coverage::is_counted() {
            println!("{}: this build counts no branches; `./dev fuzz` makes one that does", self.target.name);
        }
        self.coverage.take();
        let (start, mut reported) = (Instant::now(), Instant::now());
        while start.elapsed() < duration {
            let input = self.mutation(&mut random);
            self.try_input(&input, check);
            if self.coverage.take() {
                let _ = self.bench.keep(KEPT, &input);
                self.corpus.push(input);
            }
            if reported.elapsed() > REPORT_EVERY {
                self.report();
                reported = Instant::now();
            }
        }
        self.report();
    }

    fn report(&self) {
        let (name, branches) = (self.target.name, self.coverage.branches());
        println!("{name}: {} inputs, {} in the corpus, {branches} branches", self.cases, self.corpus.len());
    }

    /// Goes on with what earlier runs have kept.
    fn load_kept(&mut self, check: &mut impl FnMut(&[u8])) {
        for input in files_in(self.bench.folder(), KEPT) {
            self.try_input(&input, check);
            self.corpus.push(input);
        }
    }

    fn mutation(&self, random: &mut Random) -> Vec<u8> {
        Material { corpus: &self.corpus, words: self.target.words, max_bytes: self.target.max_bytes }.mutation(random)
    }

    fn try_input(&mut self, input: &[u8], check: &mut impl FnMut(&[u8])) {
        self.cases += 1;
        if let Err(complaint) = self.bench.try_input(input, check) {
            panic!("{}, input {} of the seed CONTINUO_SEED={}: {complaint}", self.target.name, self.cases, self.seed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &'static str) -> Target {
        Target {
            name,
            seeds: vec![b"four".to_vec()],
            words: &[],
            max_bytes: 16,
            cases: 2_000,
            cpu: Duration::from_secs(5),
            bytes: 1 << 20,
            bytes_per_byte: 0,
        }
    }

    fn complaint(name: &'static str, check: impl FnMut(&[u8])) -> String {
        let target = target(name);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target.run(check)));
        *panicked.expect_err("nothing was found").downcast::<String>().expect("a text")
    }

    #[test]
    fn an_input_that_panics_is_found_and_kept() {
        let said = complaint("self-test-panic", |input| assert!(input.first() != Some(&b'g'), "as planned"));
        assert!(said.contains("it panics") && said.contains("CONTINUO_SEED="), "{said}");
        let path = said.split("FUZZ_INPUT=").nth(1).expect("the input's file");
        assert_eq!(std::fs::read(path).expect("it was kept").first(), Some(&b'g'));
    }

    #[test]
    fn an_input_that_makes_a_decoder_hold_too_much_is_found() {
        let said = complaint("self-test-memory", |input| {
            let bytes = if input.len() > 8 { 2 << 20 } else { 64 };
            drop(std::hint::black_box(vec![1u8; bytes]));
        });
        assert!(said.contains("bytes is the limit") || said.contains("is the limit"), "{said}");
    }

    #[test]
    fn a_decoder_that_never_fails_is_tried_as_often_as_was_said() {
        let mut calls = 0;
        target("self-test-fine").run(|_| calls += 1);
        assert_eq!(calls, 2_000 + 2);
    }
}
