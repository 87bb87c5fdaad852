//! Whatever the text: no panic, no endless run, and diagnostics that make sense. Mutations of the corpus with a printed seed
//! (set `CONTINUO_SEED` to repeat one), and texts built to explode.

use compiler_worker::languages::lang_8f4e::{FrontOptions, resolve};
use ipc::diagnostic::Diagnostic;
use ipc::limits::{MAX_DIAGNOSTICS, MAX_SOURCE_LINES};

const ROUNDS: usize = 6_000;

/// Pieces that change what a line means.
const PIECES: [&str; 40] = [
    " ",
    "\n",
    "\t",
    ";",
    "\"",
    "\\",
    "-",
    "- ",
    "*",
    "/",
    "^",
    "&",
    ":",
    "(",
    ")",
    "count(",
    "sizeof(*",
    "this",
    "&this",
    "f64",
    "0x",
    "1e",
    "1e308",
    "-1",
    "0",
    "4294967296",
    "é",
    "\u{1f600}",
    "\u{2028}",
    "\r",
    "#export",
    "#region 1",
    "entry ",
    "moduleEnd",
    "use t",
    "const A A",
    "shape p",
    "int[] ",
    "include ",
    "; @config a b ~midiNoteInput",
];

struct Random(u64);

impl Random {
    /// xorshift64.
    fn next(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn seed() -> u64 {
    let given = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 | 1))
}

fn corpus() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/probes.json");
    let text = std::fs::read_to_string(path).expect("the corpus is part of the repository");
    let corpus: serde_json::Value = serde_json::from_str(&text).expect("the corpus is JSON");
    let probes = corpus["probes"].as_array().expect("the corpus is a list");
    probes.iter().filter_map(|probe| probe["source"].as_str().map(str::to_owned)).collect()
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.next(bytes.len() + 1);
    match random.next(6) {
        0 => drop(bytes.splice(at..at, PIECES[random.next(PIECES.len())].bytes())),
        1 => {
            let end = (at + random.next(12)).min(bytes.len());
            bytes.drain(at..end);
        }
        2 if at < bytes.len() => bytes[at] = random.next(256) as u8,
        3 => {
            let start = random.next(other.len());
            let end = (start + random.next(60)).min(other.len());
            drop(bytes.splice(at..at, other[start..end].iter().copied()));
        }
        4 => {
            let end = (at + random.next(60)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        _ => {
            let word = PIECES[random.next(PIECES.len())];
            drop(bytes.splice(at..(at + word.len()).min(bytes.len()), word.bytes()));
        }
    }
}

fn check(diagnostics: &[Diagnostic], text: &[u8]) {
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u32 + 1;
    assert!((1..=MAX_DIAGNOSTICS).contains(&diagnostics.len()));
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty() && !diagnostic.message.contains("{}"), "{diagnostic:?}");
        assert!(diagnostic.message.len() < 8_000, "a message must stay readable");
        assert!(diagnostic.line.is_none_or(|line| (1..=lines).contains(&line)), "{diagnostic:?} in {lines} lines");
        assert!(diagnostic.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{diagnostic:?}");
    }
}

#[test]
fn mutated_programs_resolve_or_are_refused_without_panicking() {
    let seed = seed();
    println!("CONTINUO_SEED={seed}");
    let mut random = Random(seed);
    let corpus = corpus();
    let options = FrontOptions { memory_regions: vec!["s".to_owned()], environment: vec![("SAMPLE_RATE".to_owned(), 48000.0)] };
    let (mut resolved, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let mut text = corpus[random.next(corpus.len())].clone().into_bytes();
        let other = corpus[random.next(corpus.len())].clone().into_bytes();
        for _ in 0..1 + random.next(4) {
            mutate(&mut text, &other, &mut random);
        }
        match resolve(&text, &options) {
            Ok(program) => {
                resolved += 1;
                let again = resolve(&text, &options).expect("the same text resolves again");
                assert_eq!(format!("{program:?}"), format!("{again:?}"), "the result depends on the text alone");
            }
            Err(diagnostics) => {
                refused += 1;
                check(&diagnostics, &text);
            }
        }
    }
    assert!(resolved > 0 && refused > 0, "mutations must reach both outcomes: {resolved} resolved, {refused} refused");
}

fn first_code(text: &str) -> i32 {
    let diagnostics = resolve(text.as_bytes(), &FrontOptions::default()).expect_err("the program is refused");
    check(&diagnostics, text.as_bytes());
    diagnostics[0].code
}

#[test]
fn prototypes_that_are_expanded_too_often_are_refused() {
    let items: String = (0..1000).map(|item| format!("int[] i{item} 0\n")).collect();
    let modules: String = (0..1000).map(|module| format!("module m{module}\nshape p\nmoduleEnd\n")).collect();
    let text = format!("8f4e/v1\nprototype p\n{items}prototypeEnd\nentry main\n{modules}entryEnd\n");
    assert_eq!(first_code(&text), 1013);
}

#[test]
fn chains_of_namespaces_do_not_grow_with_the_square_of_their_length() {
    let blocks: String = (0..20_000).map(|n| format!("constants c{n}\nuse c{}\nconst C{n} 1\nconstantsEnd\n", n + 1)).collect();
    let text = format!("8f4e/v1\n{blocks}constants c20000\nconstantsEnd\n");
    assert_eq!(first_code(&text), 1012);
}

#[test]
fn circles_of_namespaces_are_found() {
    let blocks: String = (0..20_000).map(|n| format!("constants c{n}\nuse c{}\nconstantsEnd\n", (n + 1) % 20_000)).collect();
    assert_eq!(first_code(&format!("8f4e/v1\n{blocks}")), 69);
}

#[test]
fn the_same_include_many_times_costs_no_more_than_twice() {
    let blocks = "includes\ninclude std/memory/readInterpolated\nincludesEnd\n".repeat(30_000);
    let program = resolve(format!("8f4e/v1\n{blocks}").as_bytes(), &FrontOptions::default()).expect("collisions are found later");
    assert_eq!(program.functions.len(), 12);
}

#[test]
fn long_lines_deep_groups_and_many_modules_are_no_trouble() {
    let groups = format!("8f4e/v1\nentry main\n{}", "group g\n".repeat(100_000));
    assert_eq!(first_code(&groups), -1);
    let line = format!("8f4e/v1\nfunction f\ncall f {}\nfunctionEnd\n", "1 ".repeat(1_000_000));
    assert!(resolve(line.as_bytes(), &FrontOptions::default()).is_ok());
    let name = format!("8f4e/v1\nfunction f\n{}\nfunctionEnd\n", "x".repeat(3_000_000));
    assert_eq!(first_code(&name), 11);
    let modules: String = (0..MAX_SOURCE_LINES / 4).map(|module| format!("module m{module}\nint x {module}\nmoduleEnd\n")).collect();
    let text = format!("8f4e/v1\nentry main\n{modules}entryEnd\n");
    let program = resolve(text.as_bytes(), &FrontOptions::default()).expect("it is only large");
    assert_eq!(program.modules.len(), MAX_SOURCE_LINES / 4);
}

#[test]
fn parentheses_and_operators_without_end_are_only_names() {
    for piece in ["(", "*", "-", "^", "&", ":", "count(", "-0.", "\\"] {
        let text = format!("8f4e/v1\nfunction f\npush x{}\nfunctionEnd\n", piece.repeat(200_000));
        if let Err(diagnostics) = resolve(text.as_bytes(), &FrontOptions::default()) {
            check(&diagnostics, text.as_bytes());
        }
    }
}
