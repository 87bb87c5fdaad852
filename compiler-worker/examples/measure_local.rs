//! Local measurement.
#![allow(clippy::all, dead_code)]
use std::path::Path;
use std::time::Instant;
use ipc::message::{CompileGoal, CompileRequest};
#[path = "../../tests/benches/continuo/generate.rs"]
mod generate;

fn request(source: &str) -> CompileRequest {
    CompileRequest { id: 1, source: source.as_bytes().to_vec(), goal: CompileGoal::Native, memory_regions: Vec::new(), environment: Vec::new(), previous: None, work_budget: 1 << 24, generation: 1 }
}
fn texts(all: bool) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut out = Vec::new();
    let mut add = |dir: &str| {
        let mut stack = vec![root.join(dir)];
        while let Some(d) = stack.pop() {
            let mut paths: Vec<_> = std::fs::read_dir(&d).unwrap().flatten().map(|e| e.path()).collect();
            paths.sort();
            for p in paths {
                if p.is_dir() { stack.push(p); continue; }
                if p.extension().is_some_and(|e| e == "8f4e") {
                    out.push((p.file_stem().unwrap().to_string_lossy().into_owned(), String::from_utf8_lossy(&std::fs::read(&p).unwrap()).into_owned()));
                }
            }
        }
    };
    add("tests/bench");
    add("examples");
    if all { add("tests"); }
    out.push(("generated1000".into(), generate::program(1000, 28)));
    out.push(("generated4300".into(), generate::program(4300, 122)));
    out
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args[1].as_str() {
        "hash" => for (name, text) in texts(true) {
            let mut r = request(&text);
            for budget in [0, 1 << 24] {
                r.work_budget = budget;
                let a = compiler_worker::compile(&r);
                let a2 = a.as_ref().ok().map(|a| { let mut r2 = r.clone(); r2.previous = Some(a.manifest.clone().into()); format!("{:?}", compiler_worker::compile(&r2)) });
                println!("{name} {}", blake3::hash(format!("{a:?}{a2:?}").as_bytes()).to_hex());
            }
        },
        "one" => { let n: usize = args[3].parse().unwrap(); let t = texts(false).into_iter().find(|t| t.0 == args[2]).unwrap(); let r = request(&t.1); for _ in 0..n { std::hint::black_box(compiler_worker::compile(&r).unwrap()); } }
        _ => {
            let mut worst = f64::INFINITY;
            for (name, text) in texts(false) {
                let r = request(&text);
                let code = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(';')).count();
                let lines = text.lines().count();
                let mut v = Vec::new();
                let begin = Instant::now();
                while begin.elapsed().as_millis() < 400 { let s = Instant::now(); std::hint::black_box(compiler_worker::compile(&r).unwrap()); v.push(s.elapsed().as_nanos() as f64 / 1000.0); }
                v.sort_by(f64::total_cmp);
                let (low, med) = (v[v.len() / 10], v[v.len() / 2]);
                let reference = if lines >= 4300 { 96_000.0 } else { code as f64 * 10.0 };
                worst = worst.min(reference / low);
                println!("{name:16} {lines:5} {code:5}  p10 {low:8.1} us  p50 {med:8.1} us  factor(p10) {:6.2} factor(p50) {:6.2}", reference / low, reference / med);
            }
            println!("worst {worst:.2}");
        }
    }
}
