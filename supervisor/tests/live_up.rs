//! Sessions of their own: `continuo up`, its session file, the commands that talk to it, and who owns a name.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Longest time a test waits for anything; no test measures time.
const PATIENCE: Duration = Duration::from_secs(60);

const PROGRAM: &str = "8f4e/v1

entry main
module m
; @config runtime AudioWorkletRuntime
; @config audioRuntime.audioOutBufferLAddress m:left
float[] left 128
int count
float level 0.25
push &count
push count
push 1
add
store
moduleEnd
entryEnd

function buffer
#export
call main
functionEnd
";

struct Up {
    process: Child,
    folder: tempfile::TempDir,
}

impl Up {
    /// Starts a session as a service manager would, and waits until it says that it is ready.
    fn start(session: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("SESSION.toml"), session).unwrap();
        std::fs::write(folder.path().join("song.8f4e"), PROGRAM).unwrap();
        let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = continuo(folder.path(), &["up", "--device", "null"]);
        command.arg(folder.path().join("SESSION.toml")).env("NOTIFY_SOCKET", folder.path().join("notify"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = [0u8; 64];
        let length = manager.recv(&mut said).expect("it says that it is ready");
        assert_eq!(&said[..length], b"READY=1");
        Self { process, folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        continuo(self.folder.path(), arguments).output().unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn continuo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_continuo"));
    command.args(arguments).env("XDG_RUNTIME_DIR", folder).stdin(Stdio::null());
    command
}

#[test]
fn a_session_does_what_its_file_and_its_clients_say() {
    let mut up = Up::start("name = \"gig\"\nlead = 24\n\n[[runtime]]\nname = \"song\"\nfile = \"song.8f4e\"\ngain = 0.5\n");
    let pushed = up.json(&["push", "two", &up.path("song.8f4e"), "--wait", "--json", "--session", "gig"]);
    assert_eq!((pushed["class"].as_str(), pushed["state"].as_str()), (Some("load"), Some("committed")));
    let status = up.json(&["status", "--json", "--session", "gig"]);
    assert_eq!(status["session"], "gig");
    assert_eq!((status["runtimes"][0]["runtime"].as_str(), status["runtimes"][0]["mix"]["gain"].as_f64()), (Some("song"), Some(0.5)));
    let got = up.json(&["get", "two", "m:level", "--json", "--session", "gig"]);
    assert_eq!(got["values"][0]["values"], serde_json::json!([0.25]));
    let unknown = up.run(&["get", "two", "m:lever", "--session", "gig"]);
    assert_eq!(unknown.status.code(), Some(2));
    let second = up.run(&["up", "--session", "gig"]);
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("already runs"), "{second:?}");
    assert!(up.run(&["shutdown", "--session", "gig"]).status.success());
    assert_eq!(up.process.wait().unwrap().code(), Some(0));
    let gone = up.run(&["ping", "--session", "gig"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("continuo up"), "it says what to do: {gone:?}");
}

#[test]
fn a_session_that_may_lose_nothing_asks_before_any_loss() {
    let up = Up::start("acknowledge = \"any-loss\"\n\n[[runtime]]\nname = \"song\"\nfile = \"song.8f4e\"\n");
    std::fs::write(up.path("less.8f4e"), PROGRAM.replace("float level 0.25\n", "")).unwrap();
    // The file's program may still be on its way; an edit waits for it.
    let refused = up.run(&["push", "song", &up.path("less.8f4e")]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("m:level") && said.contains("continuo confirm"), "{said}");
}

#[test]
fn a_session_file_with_a_mistake_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("SESSION.toml");
    std::fs::write(&file, "name = \"gig\"\nlaed = 3\n").unwrap();
    let output = continuo(folder.path(), &["up"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SESSION.toml:2"), "{output:?}");
}
