//! The keyboard, with a terminal of the kernel's (a pseudo-terminal) and real processes: keys reach programs, and the terminal
//! is as it was before after every way out.

#[path = "live/fixture.rs"]
#[allow(dead_code, reason = "used by several tests, each of which needs a part")]
mod fixture;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use fixture::{PATIENCE, Session, left_channel, program};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Its left channel is louder while a key is held, by the key's code.
fn keys() -> String {
    let module =
        "module keys\n; @config keyboard.keyCodeMemory code\n; @config keyboard.keyPressedMemory keys:down\nint code\nint down\nmoduleEnd";
    let text = program("push &gain\npush *held\ncastToFloat\npush 0.25\nmul\npush 0.5\nadd\nstore", module);
    text.replace("int unused", "int* held &keys:down")
}

/// A session that is played from a terminal, and the terminal's other end.
struct Played {
    session: Session,
    keyboard: File,
    /// The session's side, kept open to look at its mode.
    terminal: OwnedFd,
    /// What the session has written to the terminal.
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Played {
    fn new(text: &str) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let stdin = slave.try_clone().unwrap();
        let session = Session::play_with(text, |command| {
            command.stdin(stdin);
            // SAFETY: both calls are async-signal-safe and touch nothing of the parent: the child becomes the leader of a session
            // of its own, whose terminal is its standard input.
            unsafe {
                command.pre_exec(|| {
                    nix::unistd::setsid()?;
                    nix::errno::Errno::result(nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0))?;
                    Ok(())
                });
            }
        });
        let keyboard = File::from(master);
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut screen, to) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0u8; 256];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { session, keyboard, terminal: slave, shown }
    }

    /// Plays until keys are listened to.
    fn listening() -> Self {
        let mut played = Self::new(&keys());
        played.session.wait_for("keyboard");
        played.session.wait_for("sounding");
        played.wait_until("the terminal is in its mode", |played| !played.is_as_before() && played.has_shown(b"\x1b[?u"));
        played
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether the terminal shows what is typed and hands it over line by line, as it did in the beginning.
    fn is_as_before(&self) -> bool {
        let mode = tcgetattr(self.terminal.as_fd()).unwrap();
        mode.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    fn has_shown(&self, bytes: &[u8]) -> bool {
        self.shown.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut is_true: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_true(self) {
            assert!(Instant::now() < deadline, "it never happens: {what}");
            std::thread::yield_now();
        }
    }

    /// The code, and whether a key is held, as the program has them.
    fn heard(&mut self) -> (i64, i64) {
        let answer = self.session.call("get", json!({ "runtime": "song", "items": ["keys:code", "keys:down"] }));
        let value = |index: usize| answer["values"][index]["values"][0].as_i64().unwrap();
        (value(0), value(1))
    }

    #[track_caller]
    fn wait_for_keys(&mut self, expected: (i64, i64)) {
        self.wait_until(&format!("the program hears {expected:?}"), |played| played.heard() == expected);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.session.pid().cast_signed())
    }

    /// The session is gone, and the terminal is as it was, focus events and key releases included.
    #[track_caller]
    fn is_given_back(&mut self) {
        self.wait_until("the keys are as before", |played| played.has_shown(b"\x1b[<u\x1b[?1004l"));
        self.wait_until("the mode is as before", |played| played.is_as_before());
    }
}

#[test]
fn a_tap_on_a_plain_terminal_is_a_key_that_ends_by_itself() {
    let mut played = Played::listening();
    played.press("a");
    played.wait_for_keys((4, 0));
    played.press("\x1b[A");
    played.wait_for_keys((82, 0));
    played.press("\x1b");
    played.wait_for_keys((41, 0));
    played.press("\u{e4}");
    played.wait_for_keys((0, 0));
    played.session.end();
}

#[test]
fn a_terminal_that_tells_releases_holds_keys() {
    let mut played = Played::listening();
    played.press("\x1b[?15u\x1b[97u");
    played.wait_for_keys((4, 1));
    played.press("\x1b[98u");
    played.wait_for_keys((5, 1));
    played.press("\x1b[98;1:3u");
    played.wait_for_keys((4, 1));
    played.press("\x1b[O");
    played.wait_for_keys((4, 0));
    played.session.end();
}

#[test]
fn keys_are_recorded_with_their_ticks_and_replay_to_the_same_samples() {
    let mut played = Played::listening();
    let path = played.session.path("take.continuo").display().to_string();
    played.session.call("record", json!({ "path": path }));
    played.press("\x1b[?15u\x1b[97u");
    played.wait_for_keys((4, 1));
    played.press("\x1b[98u\x1b[97;1:3u");
    played.wait_for_keys((5, 1));
    played.press("\x1b[98;1:3u");
    played.wait_for_keys((5, 0));
    (0..12).for_each(|_| drop(played.session.wait_for("meter")));
    played.session.call("record", json!({}));
    let live = played.session.finish();
    let recording = std::fs::read_to_string(&path).unwrap();
    let sets = recording.lines().filter(|line| line.contains("keys:down") && line.contains("\"set\"")).count();
    assert!(sets >= 3, "{sets} in {recording}");
    let wav = played.session.path("again.wav");
    played.session.run(&["replay", &path, "-o", wav.to_str().unwrap()]);
    let again = left_channel(&wav);
    let start = |samples: &[f32]| samples.iter().position(|sample| *sample != 0.0).unwrap();
    let (live, again) = (&live[start(&live)..], &again[start(&again)..]);
    let count = again.len().min(live.len()).saturating_sub(4_800);
    assert!(count > 10_000, "enough was played to compare: {count}");
    assert_eq!((0..count).find(|&i| live[i] != again[i]), None);
}

#[test]
fn a_key_that_is_held_while_its_host_dies_is_held_and_released_in_the_next_one() {
    let mut played = Played::listening();
    played.press("\x1b[?15u\x1b[97u");
    played.wait_for_keys((4, 1));
    let host = played.session.call("status", json!({}))["runtimes"][0]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(host as i32), Signal::SIGKILL).unwrap();
    played.press("\x1b[98u");
    played.wait_until("another host has it", |played| {
        let pid = played.session.call("status", json!({}))["runtimes"][0]["pid"].clone();
        pid != Value::Null && pid != json!(host)
    });
    played.wait_for_keys((5, 1));
    played.press("\x1b[98;1:3u\x1b[97;1:3u");
    played.wait_for_keys((4, 0));
    played.session.end();
}

#[test]
fn a_program_without_keys_leaves_the_terminal_alone_until_an_edit_asks_for_them() {
    let mut played = Played::new(&program("", ""));
    played.session.wait_for("sounding");
    assert!(played.is_as_before() && played.shown.lock().unwrap().is_empty());
    played.session.call("push", json!({ "runtime": "song", "text": keys(), "answer": "committed", "acknowledge": true }));
    played.session.wait_for("keyboard");
    played.press("b");
    played.wait_for_keys((5, 0));
    played.session.call("shutdown", json!({}));
    played.is_given_back();
}

#[test]
fn every_signal_that_can_be_caught_gives_the_terminal_back() {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGUSR1];
    for signal in signals {
        let mut played = Played::listening();
        kill(played.pid(), signal).unwrap();
        played.is_given_back();
        let status = played.session.wait();
        let is_graceful = matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP);
        // It ends of the signal that it was sent, and nothing hides which.
        let expected = if is_graceful { (Some(0), None) } else { (None, Some(signal as i32)) };
        assert_eq!((status.code(), status.signal()), expected, "{signal}");
    }
}

#[test]
fn ctrl_c_ends_the_session_whether_the_terminal_makes_a_signal_of_it_or_not() {
    for key in ["\x03", "\x1b[?15u\x1b[99;5u"] {
        let mut played = Played::listening();
        played.press(key);
        played.is_given_back();
        assert_eq!(played.session.wait().code(), Some(0), "{key:?}");
    }
}

#[test]
fn a_suspended_session_has_given_the_terminal_back_and_takes_it_again() {
    let mut played = Played::listening();
    kill(played.pid(), Signal::SIGTSTP).unwrap();
    played.is_given_back();
    let stat = format!("/proc/{}/stat", played.pid());
    played.wait_until("it is stopped", |_| std::fs::read_to_string(&stat).unwrap().contains(") T "));
    assert!(played.is_as_before());
    kill(played.pid(), Signal::SIGCONT).unwrap();
    played.wait_until("it goes on", |played| !played.is_as_before());
    played.press("c");
    played.wait_for_keys((6, 0));
    played.session.end();
}
