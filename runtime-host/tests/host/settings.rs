//! Settings and environment constants, read from a manifest as the supervisor does.

use ipc::manifest::Manifest;
use runtime_host::host::assets;
use runtime_host::registry::{self, audio, main_thread, worker};

use crate::fixture::{Assist, Folder, LEFT, config};

fn manifest(entries: &[&[&str]]) -> Manifest {
    let mut manifest = Assist::default().artifact().manifest;
    manifest.config = entries.iter().zip(20..).map(|(arguments, line)| config(arguments, line)).collect();
    manifest
}

fn warnings(entries: &[&[&str]]) -> Vec<(u32, String)> {
    registry::settings(&manifest(entries)).warnings.into_iter().map(|warning| (warning.line, warning.message)).collect()
}

#[test]
fn the_last_valid_entry_of_a_path_wins() {
    let manifest = manifest(&[
        &["audioRuntime.sampleRate", "44100"],
        &["audioRuntime.sampleRate", "96000"],
        &["audioRuntime.sampleRate", "fast"],
        &["audioRuntime.sampleRate", "0.5"],
    ]);
    let settings = registry::settings(&manifest);
    assert_eq!(settings.sample_rate_hz(&audio::TYPE), Ok(96_000));
    assert_eq!(settings.warnings.iter().map(|warning| warning.line).collect::<Vec<_>>(), [22, 23]);
    assert!(settings.warnings[0].message.contains("`fast`"));
}

#[test]
fn defaults_stand_where_nothing_is_set() {
    let settings = registry::settings(&manifest(&[]));
    assert_eq!(settings.sample_rate_hz(&audio::TYPE), Ok(48_000));
    assert_eq!(settings.sample_rate_hz(&worker::TYPE), Ok(50));
    assert_eq!(settings.sample_rate_hz(&main_thread::TYPE), Ok(60));
    assert_eq!(settings.requested_runtime(), None);
}

#[test]
fn an_impossible_sample_rate_is_an_error_with_its_line() {
    for text in ["1", "7999", "44100.5", "1e9", "1e300"] {
        let error = registry::settings(&manifest(&[&["audioRuntime.sampleRate", text]])).sample_rate_hz(&audio::TYPE).unwrap_err();
        assert_eq!(error.line, 20, "{text}");
        assert!(error.message.contains("8000") && error.message.contains("384000"), "{}", error.message);
    }
    let error = registry::settings(&manifest(&[&["workerRuntime.sampleRate", "10001"]])).sample_rate_hz(&worker::TYPE);
    assert!(error.is_err());
}

#[test]
fn unknown_paths_and_wrong_values_are_warnings() {
    let cases: [(&[&str], &str); 9] = [
        (&["audioRuntime.volume", "1"], "no setting"),
        (&["runtime"], "a path and a value"),
        (&["runtime", "a", "b"], "a path and a value"),
        (&["midi.inputs.pads.port", "1.5"], "whole number"),
        (&["midi.inputs.pads.port", "-1"], "whole number"),
        (&["midi.inputs.pads.callback", "3x"], "name of a function"),
        (&["recompileDebounceDelay", "soon"], "whole number"),
        (&["keyboard.keyCodeMemory", "assist:nothing"], "not an item"),
        (&["bin..url", "x"], "no setting"),
    ];
    for (arguments, part) in cases {
        let warnings = warnings(&[arguments]);
        assert!(matches!(&warnings[..], [(20, message)] if message.contains(part)), "{arguments:?}: {warnings:?}");
    }
}

#[test]
fn what_is_right_or_for_the_editor_is_silent() {
    let entries: &[&[&str]] = &[
        &["runtime", "AudioWorkletRuntime"],
        &["color.text.code", "#fff"],
        &["font", "ibmvga8x16"],
        &["webUI.grid", "true"],
        &["export.fileName", "song"],
        &["pulse", "assist:counter"],
        &["recompileDebounceDelay", "500"],
        &["keyboard.keyPressedMemory", "counter"],
    ];
    assert_eq!(warnings(entries), []);
}

#[test]
fn memory_references_are_qualified_names_bare_names_or_word_indices() {
    let path = "audioRuntime.audioInBufferLAddress";
    for text in ["left", "assist:left", "256"] {
        let settings = registry::settings(&manifest(&[&[path, text]]));
        let target = settings.memory(path).unwrap();
        assert_eq!((target.memory, target.byte_address, target.words), (0, LEFT, Some(128)), "{text}");
    }
    let settings = registry::settings(&manifest(&[&[path, "257"]]));
    assert_eq!(settings.memory(path).unwrap().words, None, "no item begins there");
    let settings = registry::settings(&manifest(&[&[path, "left"], &[path, "gone"]]));
    assert_eq!(settings.memory(path), None, "a name of nothing counts as missing");
}

#[test]
fn the_environment_has_the_constants_of_its_type() {
    let folder = Folder::new("environment");
    std::fs::write(folder.0.join("kick.raw"), [0; 12]).unwrap();
    let settings = registry::settings(&manifest(&[
        &["audioRuntime.sampleRate", "44100"],
        &["bin.kick.url", "kick.raw"],
        &["bin.kick.memory", "clip"],
    ]));
    let sizes = assets::sizes(&settings, &folder.0).unwrap();
    let pairs = |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>();
    assert_eq!(
        registry::environment(&audio::TYPE, &settings, &sizes),
        pairs(&[("SAMPLE_RATE", 44_100.0), ("AUDIO_BUFFER_SIZE", 128.0), ("ASSET_KICK_SIZE", 12.0)])
    );
    assert_eq!(registry::environment(&worker::TYPE, &settings, &[]), pairs(&[("SAMPLE_RATE", 50.0)]));
}

#[test]
fn a_missing_asset_is_named_with_its_line_before_anything_is_compiled() {
    let settings = registry::settings(&manifest(&[&["bin.kick.url", "gone.raw"]]));
    let refusal = assets::sizes(&settings, std::path::Path::new("/nonexistent")).unwrap_err();
    assert_eq!(refusal.line, Some(20));
    assert!(refusal.message.contains("/nonexistent/gone.raw"), "{}", refusal.message);
}
