//! The conformance corpus, program by program, through the command line, the worker, shared memory and a runtime host.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tests::corpus::{Probe, probes, recorded_form};
use tests::playing::{Folder, run, text};

/// Programs whose wasm the reference's own tools refuse for reasons that do not apply here: an encoding limit of its
/// emitter (names that are special in its implementation language) or of the engine it was recorded with (several memories).
const VALID_HERE: [&str; 3] = ["reserved proto names", "regions=s,d", "two regions pointer arithmetic regions=s"];

/// The one program that is wrong in the reference and right here: `#initOnly` is part of our language (LANGUAGE §24).
const ACCEPTED_HERE: &str = "initOnly";

/// Checks every probe that `is_wanted` on two threads and reports all that differ at once.
fn for_each_probe(is_wanted: impl Fn(&Probe) -> bool, check: impl Fn(&Probe, &Folder) -> Result<(), String> + Sync) {
    let probes: Vec<Probe> = probes().into_iter().filter(is_wanted).collect();
    assert!(!probes.is_empty());
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let folder = Folder::new();
            let mut failures = Vec::new();
            while let Some(probe) = probes.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(what) = check(probe, &folder) {
                    failures.push(format!("{}: {what}\n{}", probe.name, probe.source));
                }
            }
            failures
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a check does not panic")).collect()
    });
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), probes.len(), failures.join("\n---\n"));
}

/// Runs a probe for some cycles of all its entries; the memory in the corpus's form, or what was said instead.
fn memory_after(probe: &Probe, folder: &Folder, cycles: &str) -> Result<String, String> {
    let file = folder.file("probe.8f4e", &probe.source);
    let image = folder.path().join("memory.bin");
    let regions = probe.memory_regions.join(",");
    let mut arguments = vec!["run", text(&file), "--all-entries", "--cycles", cycles, "--dump-memory", text(&image), "--no-assets"];
    if !regions.is_empty() {
        arguments.extend(["--memory-regions", &regions]);
    }
    let output = run(folder, &arguments);
    if !output.status.success() {
        return Err(format!("exit {:?}: {}", output.status.code(), String::from_utf8_lossy(&output.stderr)));
    }
    let memory = std::fs::read(&image).map_err(|e| e.to_string())?;
    Ok(recorded_form(&memory, probe.required_memory_bytes.unwrap_or(0)))
}

fn same(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found}, expected {expected}")) }
}

fn is_valid(probe: &Probe) -> bool {
    probe.error.is_none() && (probe.invalid_wasm.is_none() || VALID_HERE.contains(&probe.name.as_str()))
}

#[test]
fn every_valid_program_has_the_recorded_memory_after_initialisation() {
    for_each_probe(is_valid, |probe, folder| {
        let found = memory_after(probe, folder, "0")?;
        probe.mem_init_hex.as_ref().map_or(Ok(()), |expected| same("initial memory", &found, expected))
    });
}

#[test]
fn every_valid_program_has_the_recorded_memory_after_one_cycle() {
    for_each_probe(
        |probe| is_valid(probe) && probe.trap.is_none(),
        |probe, folder| {
            let found = memory_after(probe, folder, "1")?;
            probe.mem_after_hex.as_ref().map_or(Ok(()), |expected| same("memory", &found, expected))
        },
    );
}

#[test]
fn every_program_that_traps_in_the_reference_is_reported_with_its_line() {
    for_each_probe(
        |probe| probe.trap.is_some(),
        |probe, folder| {
            let said = memory_after(probe, folder, "1").err().ok_or("it ran to its end")?;
            if said.contains("probe.8f4e:") { Ok(()) } else { Err(format!("no line is named: {said}")) }
        },
    );
}

#[test]
fn every_valid_program_compiles_to_the_recorded_size_and_exports() {
    for_each_probe(is_valid, |probe, folder| {
        let file = folder.file("probe.8f4e", &probe.source);
        let (wasm, manifest) = (folder.path().join("probe.wasm"), folder.path().join("probe.json"));
        let regions = probe.memory_regions.join(",");
        let mut arguments = vec!["compile", text(&file), "-o", text(&wasm), "--manifest", text(&manifest)];
        if !regions.is_empty() {
            arguments.extend(["--memory-regions", &regions]);
        }
        let output = run(folder, &arguments);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let manifest: Value = serde_json::from_slice(&std::fs::read(&manifest).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        if let Some(required) = probe.required_memory_bytes {
            let found = manifest["memories"][0]["requiredBytes"].as_u64();
            same("required bytes", &format!("{found:?}"), &format!("{:?}", Some(required)))?;
        }
        if let Some(exports) = &probe.exports {
            let found: Vec<&str> = manifest["exports"].as_array().into_iter().flatten().filter_map(|e| e["name"].as_str()).collect();
            same("exports", &format!("{found:?}"), &format!("{exports:?}"))?;
        }
        Ok(())
    });
}

/// The first diagnostic that `check --json` gives.
fn first_diagnostic(probe: &Probe, folder: &Folder) -> Result<Value, String> {
    let file = folder.file("probe.8f4e", &probe.source);
    let regions = probe.memory_regions.join(",");
    let mut arguments = vec!["check", text(&file), "--json"];
    if !regions.is_empty() {
        arguments.extend(["--memory-regions", &regions]);
    }
    let output = run(folder, &arguments);
    if output.status.code() != Some(1) {
        return Err(format!("exit {:?}: {}", output.status.code(), String::from_utf8_lossy(&output.stderr)));
    }
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
    report["diagnostics"].get(0).cloned().ok_or_else(|| "no diagnostic".to_owned())
}

#[test]
fn every_wrong_program_gets_the_recorded_diagnostic_first() {
    for_each_probe(
        |probe| probe.error.is_some() && probe.name != ACCEPTED_HERE,
        |probe, folder| {
            let expected = probe.error.as_ref().ok_or("no error is recorded")?;
            let found = first_diagnostic(probe, folder)?;
            same("stage", found["stage"].as_str().unwrap_or(""), &expected.stage)?;
            same("code", &found["code"].to_string(), &expected.code.to_string())?;
            // Project errors and those of the regions option have no block; the corpus records line 0 for them.
            let has_block = expected.stage != "project" && ![53, 54].contains(&expected.code);
            if let Some(line) = expected.line.filter(|_| has_block) {
                same("line in block", &found["lineInBlock"].to_string(), &line.to_string())?;
            }
            Ok(())
        },
    );
}

#[test]
fn every_program_that_the_reference_compiles_to_invalid_wasm_gets_a_diagnostic_with_a_line() {
    for_each_probe(
        |probe| probe.invalid_wasm.is_some() && !is_valid(probe),
        |probe, folder| {
            let found = first_diagnostic(probe, folder)?;
            if found["line"].as_u64().is_some() && found["code"].as_i64() >= Some(1000) { Ok(()) } else { Err(found.to_string()) }
        },
    );
}
