//! The shape of the project, enforced: who may depend on whom, and what may stand where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

/// Names of workspace crates that each workspace crate depends on outside its tests.
fn arrows() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let arrows_of = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        normal.filter_map(|dependency| dependency["name"].as_str()).filter(|name| names.contains(name)).map(str::to_owned).collect()
    };
    packages.iter().map(|package| (package["name"].as_str().expect("name").to_owned(), arrows_of(package))).collect()
}

#[test]
fn every_crate_depends_on_ipc_alone_and_the_binary_on_all() {
    let arrows = arrows();
    let expected = [
        ("ipc", vec![]),
        ("compiler-worker", vec!["ipc"]),
        ("runtime-host", vec!["ipc"]),
        ("supervisor", vec!["ipc", "compiler-worker", "runtime-host"]),
        ("tests", vec!["ipc"]),
        ("fuzz", vec![]),
    ];
    assert_eq!(arrows.len(), expected.len(), "a crate was added: say here what it may depend on");
    for (name, allowed) in expected {
        for dependency in &arrows[name] {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn bincode_is_named_in_one_place_only() {
    let mut users = Vec::new();
    visit(&root(), &mut |path, text| {
        if path.extension().is_some_and(|extension| extension == "rs") && text.contains("bincode::") && !path.ends_with("architecture.rs") {
            users.push(path.strip_prefix(root()).unwrap_or(path).to_owned());
        }
    });
    assert_eq!(users, [Path::new("ipc/src/codec.rs")]);
}

#[test]
fn no_folder_is_a_drawer() {
    let mut drawers = Vec::new();
    visit(&root(), &mut |path, _| {
        let is_drawer = |part: &std::ffi::OsStr| {
            ["utils", "util", "common", "helpers", "manager", "misc"].contains(&part.to_string_lossy().trim_end_matches(".rs"))
        };
        if path.strip_prefix(root()).unwrap_or(path).iter().any(is_drawer) {
            drawers.push(path.to_owned());
        }
    });
    assert!(drawers.is_empty(), "{drawers:?}");
}

/// Calls `look` with every text file of the project.
fn visit(folder: &Path, look: &mut dyn FnMut(&Path, &str)) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).expect("a folder can be read").flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                visit(&path, look);
            }
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            look(&path, &text);
        }
    }
}
