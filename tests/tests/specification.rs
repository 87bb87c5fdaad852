//! The specification and the fault campaign, enforced: every test they name exists.

use std::collections::BTreeSet;
use std::path::Path;

/// Names of all test functions in the Rust files below `folder`.
fn test_names(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !entry.file_name().to_string_lossy().starts_with('.') {
            test_names(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let tests = lines.windows(4).filter(|window| window[0] == "#[test]");
            let functions = tests.flat_map(|window| window[1..].iter()).filter_map(|line| line.strip_prefix("fn "));
            names.extend(functions.filter_map(|line| line.split_once('(')).map(|(name, _)| name.to_owned()));
        }
    }
}

/// Names in a page of the project that look like tests, and are none.
fn missing(page: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace");
    let text = std::fs::read_to_string(root.join(page)).expect("the page is there");
    let mut names = BTreeSet::new();
    test_names(root, &mut names);
    let named = text.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains(' '));
    named.filter(|name| !names.contains(*name) && !TARGETS.contains(name)).map(str::to_owned).collect()
}

/// Fuzz targets, which are tests by other names.
const TARGETS: [&str; 3] = ["migration_plans", "source_text", "control_frames"];

#[test]
fn every_test_that_the_specification_names_exists() {
    assert_eq!(missing("SPECIFICATION.md"), Vec::<String>::new(), "named there, but there is no such test");
}

#[test]
fn every_test_that_the_fault_campaign_names_exists() {
    assert_eq!(missing("FAULTS-CAMPAIGN.md"), Vec::<String>::new(), "named there, but there is no such test");
}
