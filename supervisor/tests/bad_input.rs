//! What the command line says to bad input: which file, which line, what to do, and the exit code of the one table
//! (`continuo --help`). Each test runs the real binary, most of them with real processes behind it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

const FINE: i32 = 0;
const PROGRAM: i32 = 1;
const INPUT: i32 = 2;
const ENVIRONMENT: i32 = 3;

/// A program with nothing wrong.
const GOOD: &str = "8f4e/v1\n\nentry main\nmodule counter\nint count\npush &count\npush count\npush 1\nadd\nstore\nmoduleEnd\nentryEnd\n";

/// A folder of a test's own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("continuo-cli-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn continuo(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(env!("CARGO_BIN_EXE_continuo")).args(arguments).output().unwrap())
    }

    /// The same from a shell script, where it is called `$0`.
    fn script(&self, script: &str) -> Said {
        Said::from(self.command("/bin/bash").args(["-c", script, env!("CARGO_BIN_EXE_continuo")]).output().unwrap())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", &self.0).env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("what is said is UTF-8");
        Self { code: output.status.code().expect("it is not killed"), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// Expects this exit code and each of these parts on standard error.
    #[track_caller]
    fn expect(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "exit code; it said:\n{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is missing in:\n{}", self.err);
        }
        self
    }
}

#[test]
fn a_missing_file_is_named_by_every_command() {
    let folder = Folder::new();
    let missing = folder.path("missing.8f4e");
    let (wav, wasm) = (folder.path("x.wav"), folder.path("x.wasm"));
    let commands: [&[&str]; 5] = [
        &["play", &missing],
        &["check", &missing],
        &["run", &missing],
        &["compile", &missing, "-o", &wasm],
        &["bounce", &missing, "--seconds", "1", "-o", &wav],
    ];
    for arguments in commands {
        folder.continuo(arguments).expect(INPUT, &["missing.8f4e", "no such file"]);
    }
    assert!(!Path::new(&wav).exists() && !Path::new(&wasm).exists());
}

#[test]
fn a_folder_is_not_a_program() {
    let folder = Folder::new();
    folder.continuo(&["check", &folder.path("")]).expect(INPUT, &["is a folder", "8f4e"]);
}

#[test]
fn a_binary_file_is_refused_with_the_place_that_is_no_text() {
    let folder = Folder::new();
    let file = folder.file("image.8f4e", b"8f4e/v1\n\x89PNG\xff\n");
    folder.continuo(&["check", &file]).expect(INPUT, &["image.8f4e:2", "not UTF-8", "0x89"]);
}

#[test]
fn a_file_of_fifty_megabytes_is_refused() {
    let folder = Folder::new();
    let file = folder.file("large.8f4e", vec![b'x'; 50 << 20]);
    folder.continuo(&["play", &file]).expect(INPUT, &["large.8f4e", "4 MiB"]);
}

#[test]
fn an_empty_file_and_a_wrong_header_are_diagnostics_at_the_first_line() {
    let folder = Folder::new();
    for (name, content) in [("empty.8f4e", ""), ("header.8f4e", "8f4e/v9\n"), ("spaces.8f4e", "\n\n8f4e/v1\n")] {
        let file = folder.file(name, content);
        folder.continuo(&["check", &file]).expect(PROGRAM, &[name, "8f4e/v1"]);
    }
}

#[test]
fn a_mistake_is_shown_with_file_line_code_and_excerpt() {
    let folder = Folder::new();
    let file = folder.file("typo.8f4e", GOOD.replace("push 1\n", "puhs 1\n"));
    folder.continuo(&["check", &file]).expect(PROGRAM, &["typo.8f4e:8", "syntax 11", "puhs 1"]);
}

#[test]
fn check_as_json_is_one_object_with_file_and_diagnostics() {
    let folder = Folder::new();
    let file = folder.file("typo.8f4e", GOOD.replace("push 1\n", "puhs 1\n"));
    let said = folder.continuo(&["check", &file, "--json"]);
    let report: Value = serde_json::from_str(&said.expect(PROGRAM, &[]).out).unwrap();
    assert_eq!(report["file"], file);
    let first = &report["diagnostics"][0];
    assert_eq!((&first["stage"], &first["code"], &first["line"]), (&"syntax".into(), &11.into(), &8.into()));
    assert_eq!((&first["lineInBlock"], &first["instruction"]), (&4.into(), &"puhs".into()));
    for key in ["column", "length", "block", "message", "hint", "include"] {
        assert!(first.get(key).is_some(), "{key} is missing");
    }
}

#[test]
fn check_as_json_is_valid_json_whatever_is_wrong() {
    let folder = Folder::new();
    let good = folder.file("good.8f4e", GOOD);
    let binary = folder.file("binary.8f4e", b"\xff");
    for (file, code) in [(good, FINE), (binary, INPUT), (folder.path("missing"), INPUT)] {
        let said = folder.continuo(&["check", &file, "--json"]);
        let report: Value = serde_json::from_str(&said.expect(code, &[]).out).unwrap();
        assert_eq!(report["diagnostics"].as_array().map(Vec::len), Some(0));
        assert_eq!(report.get("error").is_some(), code != FINE);
    }
}

#[test]
fn lines_that_end_as_on_windows_are_a_diagnostic_that_says_how_to_convert_them() {
    let folder = Folder::new();
    let file = folder.file("windows.8f4e", GOOD.replace('\n', "\r\n"));
    folder.continuo(&["check", &file]).expect(PROGRAM, &["windows.8f4e:1", "CRLF", "help"]);
}

#[test]
fn an_impossible_sample_rate_is_refused_with_its_line() {
    let folder = Folder::new();
    let program = GOOD.replace("int count\n", "int count\n; @config runtime AudioWorkletRuntime\n; @config audioRuntime.sampleRate 7\n");
    let file = folder.file("slow.8f4e", program);
    let arguments = ["play", &file, "--device", "null", "--seconds", "1"];
    folder.continuo(&arguments).expect(PROGRAM, &["slow.8f4e:7", "sample rate"]);
}

#[test]
fn an_unknown_runtime_type_falls_back_with_its_line_in_the_log() {
    let folder = Folder::new();
    let file = folder.file("quantum.8f4e", GOOD.replace("int count\n", "int count\n; @config runtime QuantumRuntime\n"));
    let said = folder.continuo(&["play", &file, "--device", "null", "--seconds", "0.1"]);
    said.expect(FINE, &["Requesting runtime: QuantumRuntime", "Unknown runtime QuantumRuntime, falling back to default: audio"]);
}

#[test]
fn a_missing_asset_is_refused_with_path_and_line() {
    let folder = Folder::new();
    let program = GOOD.replace("int count\n", "int count\n; @config bin.kick.url kick.raw\n; @config bin.kick.memory counter:count\n");
    let file = folder.file("assets.8f4e", program);
    folder.continuo(&["play", &file, "--device", "null", "--seconds", "1"]).expect(PROGRAM, &["assets.8f4e:6", "kick.raw"]);
    folder.continuo(&["run", &file, "--no-assets"]).expect(FINE, &[]);
}

#[test]
fn an_unknown_item_or_entry_of_a_run_is_named() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    folder.continuo(&["run", &file, "--dump", "counter:cuont"]).expect(PROGRAM, &["cuont"]);
    folder.continuo(&["run", &file, "--entry", "mian"]).expect(PROGRAM, &["mian"]);
    folder.continuo(&["run", &file, "--set", "nobody:x=1"]).expect(PROGRAM, &["nobody"]);
}

#[test]
fn a_command_line_that_cannot_be_meant_is_refused() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    let wrong: [&[&str]; 8] = [
        &[],
        &["sing"],
        &["play"],
        &["play", &file, "--seconds", "-1"],
        &["play", &file, "--lead", "0"],
        &["run", &file, "--capture", "counter:count"],
        &["run", &file, "--set", "count"],
        &["bounce", &file, "--seconds", "1"],
    ];
    for arguments in wrong {
        folder.continuo(arguments).expect(INPUT, &["--help"]);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_starts() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    folder.continuo(&["compile", &file, "-o", "/nowhere/x.wasm"]).expect(INPUT, &["/nowhere"]);
    folder.continuo(&["bounce", &file, "--seconds", "1", "-o", &folder.path("no/x.wav")]).expect(INPUT, &["does not exist"]);
    folder.continuo(&["compile", &file, "-o", &file]).expect(INPUT, &["overwritten"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), GOOD);
}

#[test]
fn two_outputs_of_one_name_are_refused_before_one_destroys_the_other() {
    let folder = Folder::new();
    let (file, same) = (folder.file("good.8f4e", GOOD), folder.path("same"));
    folder.continuo(&["compile", &file, "-o", &same, "--manifest", &same]).expect(INPUT, &["same", "file of its own"]);
    let run = ["run", &file, "--capture", "counter:count", "--out", &same, "--dump-memory"];
    folder.continuo(&[&run[..], &[&same]].concat()).expect(INPUT, &["same", "file of its own"]);
    assert!(!Path::new(&same).exists());
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    for command in [
        format!("run {file}"),
        format!("run {file} --json"),
        format!("check {file} --json"),
        "devices --json".to_owned(),
        "doctor --json".to_owned(),
        format!("play {file} --json --device null --seconds 0.1"),
        "--help".to_owned(),
    ] {
        let said = folder.script(&format!("\"$0\" {command} >/dev/full"));
        said.expect(ENVIRONMENT, &["standard output", "No space left"]);
        assert_eq!(said.err.matches("standard output").count(), 1, "{command} says it once:\n{}", said.err);
    }
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    for command in [format!("run {file}"), format!("check {file} --json"), "--help".to_owned()] {
        // The reader is gone before the command begins.
        let script = format!("exec 3> >(exec true); wait $!; \"$0\" {command} >&3");
        let said = folder.script(&script);
        assert_eq!(said.expect(FINE, &[]).err, "", "{command}");
    }
}

#[test]
fn a_machine_that_lacks_something_is_not_the_programs_fault() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    let play = format!("exec \"$0\" play {file} --device null --seconds 0.1");
    folder.script(&format!("ulimit -n 16; {play}")).expect(ENVIRONMENT, &["could not be started"]);
    folder.script(&format!("ulimit -v 2000000; {play}")).expect(ENVIRONMENT, &["cannot be reserved", "ulimit -v"]);
    folder.script(&format!("ulimit -v 2000000; exec \"$0\" run {file}")).expect(ENVIRONMENT, &["cannot be reserved", "ulimit -v"]);
}

#[test]
fn a_fraction_is_refused_where_a_whole_number_is_wanted() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    folder.continuo(&["run", &file, "--set", "counter:count=5.5"]).expect(PROGRAM, &["5.5", "not a whole number", "counter:count"]);
}

#[test]
fn a_negative_number_is_told_its_range() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    folder.continuo(&["play", &file, "--seconds", "-1"]).expect(INPUT, &["more than 0 and at most 86400"]);
    folder.continuo(&["bounce", &file, "--seconds", "-0.5", "-o", &folder.path("x")]).expect(INPUT, &["more than 0"]);
    folder.continuo(&["play", &file, "--lead", "-1"]).expect(INPUT, &["1..="]);
}

#[test]
fn a_run_shows_all_scalars_or_what_it_is_asked_for() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    assert_eq!(folder.continuo(&["run", &file, "--cycles", "3"]).expect(FINE, &[]).out, "counter:count = 3\n");
    let said = folder.continuo(&["run", &file, "--cycles", "2", "--set", "count=40", "--json", "--dump", "count"]);
    let report: Value = serde_json::from_str(&said.expect(FINE, &[]).out).unwrap();
    assert_eq!(report["items"]["counter:count"], 42);
}

#[test]
fn a_capture_has_the_items_bytes_after_every_cycle() {
    let folder = Folder::new();
    let (file, out) = (folder.file("good.8f4e", GOOD), folder.path("captured"));
    folder.continuo(&["run", &file, "--cycles", "3", "--capture", "counter:count", "--out", &out]).expect(FINE, &[]);
    let expected: Vec<u8> = [1i32, 2, 3].into_iter().flat_map(i32::to_le_bytes).collect();
    assert_eq!(std::fs::read(&out).unwrap(), expected);
}

#[test]
fn a_fault_in_a_run_is_shown_with_its_line() {
    let folder = Folder::new();
    let body = "int zero\npush 1\npush zero\nensureNonZero 1\npush zero\nand\npush 1\nor\npush 1\nsub\ndrop\ndrop\n";
    let sound = folder.file("sound.8f4e", GOOD.replace("int count\n", &format!("int count\n{body}")));
    folder.continuo(&["check", &sound]).expect(FINE, &[]);
    // The smallest integer divided by -1 is the one division that the compiler cannot refuse.
    let body = "int smallest 0x80000000\npush smallest\npush -1\ndiv\ndrop\n";
    let file = folder.file("fault.8f4e", GOOD.replace("int count\n", &format!("int count\n{body}")));
    folder.continuo(&["run", &file]).expect(PROGRAM, &["fault.8f4e:9", "divided by -1"]);
}

#[test]
fn descriptors_that_are_closed_at_the_start_do_no_harm() {
    let folder = Folder::new();
    let file = folder.file("good.8f4e", GOOD);
    let script = format!("exec {} run {file} --cycles 3 >{} <&- 2>&-", env!("CARGO_BIN_EXE_continuo"), folder.path("out"));
    let status = Command::new("/bin/sh").args(["-c", &script]).env("XDG_RUNTIME_DIR", &folder.0).status().unwrap();
    assert_eq!(status.code(), Some(FINE));
    assert_eq!(std::fs::read_to_string(folder.path("out")).unwrap(), "counter:count = 3\n");
}

#[test]
fn errors_of_commands_that_are_to_answer_in_json_are_json_also_without_a_session() {
    let folder = Folder::new();
    let commands: [(&[&str], &str); 3] = [
        (&["status", "--session", "nobody", "--json"], "no_session"),
        (&["get", "a:b", "m:x", "--json"], "invalid_params"),
        (&["tape", "stop", "--json"], "no_session"),
    ];
    for (arguments, name) in commands {
        let said = folder.continuo(arguments);
        said.expect(INPUT, &[]);
        let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{arguments:?}: {}{}", said.out, said.err));
        assert_eq!(answer["error"]["data"]["name"], name, "{answer}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty() && said.err.is_empty(), "{}", said.err);
    }
}

#[test]
fn numbers_that_are_none_are_told_what_they_may_be() {
    let folder = Folder::new();
    let commands: [(&[&str], &str); 5] = [
        (&["tempo", "nan"], "10 to 999 beats a minute"),
        (&["tempo", "-3"], "10 to 999 beats a minute"),
        (&["gain", "a", "nan"], "a linear gain from 0 to 8"),
        (&["gain", "a", "-1"], "a linear gain from 0 to 8"),
        (&["tempo", "--beat", "inf"], "beats from the beginning"),
    ];
    for (arguments, part) in commands {
        folder.continuo(arguments).expect(INPUT, &[part]);
    }
    let file = folder.file("a.8f4e", GOOD);
    folder.continuo(&["play", &file, "--midi-in", "loop:9"]).expect(INPUT, &["loop:9", "loop:1 to loop:4"]);
    folder.continuo(&["play", &file, "--route", "a:a", "--route", "a:a:only"]).expect(INPUT, &["from `a` to `a` already"]);
}
