//! `artifact`: from a published segment to the first tick done, as a host's control thread goes that way.

use ipc::artifact::Artifact;
use ipc::segment::Session;
use runtime_host::host::engine::Loader;
use runtime_host::realtime::flush_denormals;

use crate::programs::{self, Text};
use crate::sampling::{quantile, thread_time};
use crate::table;
use crate::tick::v8_program;

/// Runs of each program.
const RUNS: usize = 25;

const NOTES: &[&str] = &[
    "Processor time, medians of 25 runs, both sides in turns. Checked: copied out of shared memory, hash compared, decoded. Ready: native code loaded,",
    "memory reserved, defaults set, assets read, bound to its runtime type. First tick: the first call, with everything cold.",
    "V8: a node that is warm compiles the same program's wasm (see `tick`), instantiates and initialises it, and ticks once. It compiles",
    "here and we do not: our worker did that before, in `compile`; what counts is how long a change keeps the host busy.",
];

pub fn print() {
    let session = Session::open().expect("there is shared memory");
    let loader = Loader::new().expect("this machine can run wasm");
    let texts: Vec<Text> = programs::examples().into_iter().chain(programs::workloads()).collect();
    let rows: Vec<Vec<String>> = texts.iter().map(|text| row(&session, &loader, text)).collect();
    let header = ["program", "segment bytes", "checked", "ready", "first tick", "together", "V8", "ours / V8"];
    table::print("artifact", NOTES, &header, &rows);
}

fn row(session: &Session, loader: &Loader, text: &Text) -> Vec<String> {
    let artifact = text.artifact();
    let segment = artifact.publish(session.id(), 1).expect("shared memory has room");
    let mut v8 = v8_program(text, &text.ready(loader, &artifact)).start();
    let mut steps: [Vec<f64>; 4] = Default::default();
    let mut baseline = Vec::new();
    let _flushed = flush_denormals();
    for _ in 0..RUNS {
        let begin = thread_time();
        let artifact = Artifact::read(segment.reference()).expect("it is undamaged");
        let checked = thread_time();
        let mut ready = text.ready(loader, &artifact);
        let is_ready = thread_time();
        ready.tick();
        let end = thread_time();
        let spans = [(begin, checked), (checked, is_ready), (is_ready, end), (begin, end)];
        for (samples, (from, to)) in steps.iter_mut().zip(spans) {
            samples.push((to - from).as_nanos() as f64);
        }
        baseline.extend(v8.as_mut().map(|v8| v8.load().as_nanos() as f64));
    }
    let [checked, ready, first, together] = steps.map(|samples| quantile(&samples, 0.5));
    let v8 = (!baseline.is_empty()).then(|| quantile(&baseline, 0.5));
    vec![
        text.name.clone(),
        segment.reference().bytes.to_string(),
        table::us(checked),
        table::us(ready),
        table::us(first),
        table::us(together),
        table::maybe(v8, table::us),
        table::maybe(v8.map(|v8| together / v8), table::ratio),
    ]
}
