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
    /// Where a service manager would listen.
    manager: UnixDatagram,
}

impl Up {
    /// Starts a session as a service manager would, and waits until it says that it is ready.
    fn start(session: &str) -> Self {
        let up = Self::start_watched(session, None);
        assert_eq!(up.hears(), "READY=1");
        up
    }

    /// The same, without waiting; the manager wants to hear from it within so many microseconds, again and again.
    fn start_watched(session: &str, watchdog_us: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("SESSION.toml"), session).unwrap();
        std::fs::write(folder.path().join("song.8f4e"), PROGRAM).unwrap();
        let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = continuo(folder.path(), &["up", "--device", "null"]);
        command.arg(folder.path().join("SESSION.toml")).env("NOTIFY_SOCKET", folder.path().join("notify"));
        command.envs(watchdog_us.map(|us| ("WATCHDOG_USEC", us)));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, folder, manager }
    }

    /// The next thing that the service manager is told.
    fn hears(&self) -> String {
        let mut said = [0u8; 64];
        let length = self.manager.recv(&mut said).expect("the service manager is told something");
        String::from_utf8_lossy(&said[..length]).into_owned()
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
    assert_eq!(second.status.code(), Some(2), "{second:?}");
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

#[test]
fn a_service_manager_hears_that_the_session_is_ready_alive_and_stopping() {
    let mut up = Up::start_watched("name = \"gig\"\n\n[[runtime]]\nname = \"song\"\nfile = \"song.8f4e\"\n", Some("100000"));
    let said: Vec<String> = std::iter::repeat_with(|| up.hears()).take(8).collect();
    assert_eq!(said.iter().filter(|said| *said == "READY=1").count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|said| *said == "WATCHDOG=1").count(), 7, "{said:?}");
    assert!(up.run(&["shutdown", "--session", "gig"]).status.success());
    let last = std::iter::repeat_with(|| up.hears()).find(|said| said != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(up.process.wait().unwrap().code(), Some(0));
}

#[test]
fn without_a_watchdog_the_service_manager_only_hears_of_start_and_end() {
    let mut up = Up::start("name = \"gig\"\n\n[[runtime]]\nname = \"song\"\nfile = \"song.8f4e\"\n");
    assert!(up.run(&["shutdown", "--session", "gig"]).status.success());
    assert_eq!(up.hears(), "STOPPING=1");
    assert_eq!(up.process.wait().unwrap().code(), Some(0));
}

#[test]
fn an_error_as_json_is_one_object_on_the_output_and_its_kind_the_exit_status() {
    let up = Up::start("name = \"gig\"\nacknowledge = \"any-loss\"\n\n[[runtime]]\nname = \"song\"\nfile = \"song.8f4e\"\n");
    std::fs::write(up.path("wrong.8f4e"), PROGRAM.replace("push count", "puhs count")).unwrap();
    std::fs::write(up.path("less.8f4e"), PROGRAM.replace("float level 0.25\n", "")).unwrap();
    let (wrong, less) = (up.path("wrong.8f4e"), up.path("less.8f4e"));
    let errors: [(&[&str], &str, i32); 9] = [
        (&["push", "song", &wrong], "compile_failed", 1),
        (&["plan", "song", &wrong], "compile_failed", 1),
        (&["push", "song", &less], "needs_ack", 1),
        (&["push", "song", &up.path("nowhere.8f4e")], "file_failed", 2),
        (&["get", "song", "m:lever"], "unknown_item", 2),
        (&["solo", "sing"], "unknown_runtime", 2),
        (&["confirm", "4711"], "unknown_change", 2),
        (&["rollback", "song", "0123456789abcdef"], "unknown_revision", 2),
        (&["push", "song", &less, "--boundary", "pulse", "--acknowledge"], "unknown_boundary", 2),
    ];
    for (arguments, name, status) in errors {
        let output = up.run(&[arguments, &["--json", "--session", "gig"]].concat());
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {output:?}"));
        assert_eq!((said["error"]["data"]["name"].as_str(), output.status.code()), (Some(name), Some(status)), "{arguments:?}: {said}");
        assert!(said["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
        assert_eq!(said.as_object().map(serde_json::Map::len), Some(1), "{said}");
        assert!(output.stderr.is_empty(), "{arguments:?}: an error is told once: {output:?}");
    }
}

#[test]
fn of_two_wires_of_a_session_file_that_lead_to_one_item_one_is_live_and_the_other_says_why_not() {
    let runtimes = ["song", "two"].map(|name| format!("[[runtime]]\nname = \"{name}\"\nfile = \"song.8f4e\"\n")).concat();
    let wires = "[wires]\n\"song.level\" = \"two.m:level\"\n\"song.m:level\" = \"two.m:level\"\n\"two.level\" = \"two.m:level\"\n";
    let up = Up::start(&format!("name = \"gig\"\nlead = 24\n{runtimes}{wires}"));
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let listed = up.json(&["wires", "--json", "--session", "gig"])["wires"].clone();
        let why = |to: &str| {
            let (runtime, item) = to.split_once('.').unwrap();
            let is_it = |wire: &&serde_json::Value| wire["to"] == serde_json::json!({ "runtime": runtime, "item": item });
            let wire = listed.as_array().unwrap().iter().find(is_it).expect("it is listed");
            wire["waitsBecause"].as_str().unwrap_or_default().to_owned()
        };
        let (first, second, third) = (why("song.level"), why("song.m:level"), why("two.level"));
        if second.is_empty() && first.contains("`song.m:level` is the same item") && third.contains("cannot follow itself") {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{listed}");
        std::thread::yield_now();
    }
}
