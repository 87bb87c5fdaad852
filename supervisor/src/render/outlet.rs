//! A stream that is written by a thread of its own, for who must not wait for its reader: a terminal that is stopped, a pipe that
//! nobody empties.
//!
//! What is said goes into a queue with bounds. While that is full what comes is left out and counted; once the reader goes on,
//! it is told how much, in its place. Of the live line only the newest text waits. Writing may take for ever, which holds up
//! nobody but this thread; [`Outlet::close`] gives it a moment at the end.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pieces that may wait for a reader: more than a minute of a session's events.
const MAX_WAITING: usize = 1_024;

/// Bytes that may wait, unless it is a single piece that is larger.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Stack in bytes of the writing thread.
const STACK_BYTES: usize = 256 << 10;

/// Where an outlet leads to. Its methods may block.
pub trait Mouth: Send + 'static {
    /// Writes what was said.
    fn write(&mut self, said: &[u8]);

    /// Shows this as the live line; `None` takes it away.
    fn show(&mut self, line: Option<&str>) {
        let _ = line;
    }

    /// What is said in place of so many lines that were left out.
    fn left_out(&self, lines: u64) -> String;
}

/// The end that others speak into. It never waits for a reader.
pub struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Lines that were left out after what waits.
    left_out: u64,
    /// The live line, where it is to change.
    picture: Option<Option<String>>,
    is_writing: bool,
}

/// What the thread does next.
enum Work {
    Write(Vec<u8>),
    TellLeftOut(u64),
    Show(Option<String>),
}

impl State {
    /// Takes something in, or counts it. Once something was left out nothing is taken in before that could be told: a reader who is
    /// a little too slow is not told of every other line.
    fn put(&mut self, said: Vec<u8>) {
        let fits = self.waiting.len() < MAX_WAITING && self.waiting_bytes + said.len() <= MAX_WAITING_BYTES;
        if self.left_out == 0 && (fits || self.waiting.is_empty()) {
            self.waiting_bytes += said.len();
            self.waiting.push_back(said);
        } else {
            self.left_out += said.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }

    fn next(&mut self) -> Option<Work> {
        if let Some(said) = self.waiting.pop_front() {
            self.waiting_bytes -= said.len();
            return Some(Work::Write(said));
        }
        if self.left_out > 0 {
            return Some(Work::TellLeftOut(std::mem::take(&mut self.left_out)));
        }
        self.picture.take().map(Work::Show)
    }

    fn is_silent(&self) -> bool {
        !self.is_writing && self.waiting.is_empty() && self.left_out == 0 && self.picture.is_none()
    }
}

impl Outlet {
    /// Starts the thread that writes.
    pub fn start(name: &str, mouth: impl Mouth) -> io::Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || writer.run(mouth))?;
        Ok(Self { shared })
    }

    /// Says something: whole lines, as a rule.
    pub fn say(&self, said: Vec<u8>) {
        self.shared.state().put(said);
        self.shared.changed.notify_all();
    }

    /// Shows this as the live line; `None` takes it away.
    pub fn show(&self, line: Option<String>) {
        self.shared.state().picture = Some(line);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, but no longer than `patience`.
    pub fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state();
        while !state.is_silent() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut mouth: impl Mouth) {
        loop {
            match self.next() {
                Work::Write(said) => mouth.write(&said),
                Work::TellLeftOut(lines) => {
                    let told = mouth.left_out(lines);
                    mouth.write(told.as_bytes());
                }
                Work::Show(line) => mouth.show(line.as_deref()),
            }
        }
    }

    fn next(&self) -> Work {
        let mut state = self.state();
        state.is_writing = false;
        loop {
            if let Some(work) = state.next() {
                state.is_writing = true;
                return work;
            }
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes one piece whenever it is let.
    struct Reader {
        let_go: Receiver<()>,
        read: Sender<String>,
    }

    impl Mouth for Reader {
        fn write(&mut self, said: &[u8]) {
            let _ = self.let_go.recv();
            let _ = self.read.send(String::from_utf8_lossy(said).into_owned());
        }

        fn show(&mut self, line: Option<&str>) {
            let _ = self.read.send(format!("shown: {line:?}"));
        }

        fn left_out(&self, lines: u64) -> String {
            format!("{lines} left out\n")
        }
    }

    fn outlet() -> (Outlet, Sender<()>, Receiver<String>) {
        let (go, let_go) = channel();
        let (read, said) = channel();
        (Outlet::start("outlet", Reader { let_go, read }).unwrap(), go, said)
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number}\n").into_bytes()
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_has_missed() {
        let (outlet, go, said) = outlet();
        for number in 0..10_000 {
            outlet.say(line(number));
        }
        outlet.close(Duration::ZERO);
        // The reader goes on for good.
        drop(go);
        outlet.close(Duration::from_secs(60));
        outlet.say(line(10_000));
        outlet.close(Duration::from_secs(60));
        let said: Vec<String> = said.try_iter().collect();
        let kept = said.len() - 2;
        assert!((MAX_WAITING..=MAX_WAITING + 1).contains(&kept), "{kept}");
        assert!(said.iter().take(kept).enumerate().all(|(number, said)| *said == format!("{number}\n")), "in order");
        assert_eq!(said[kept..], [format!("{} left out\n", 10_000 - kept), "10000\n".to_owned()]);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too_but_a_single_line_may_be_as_long_as_it_is() {
        let (outlet, go, said) = outlet();
        let long = |byte: u8| [vec![byte; MAX_WAITING_BYTES], b"\n".to_vec()].concat();
        for byte in b"abcd" {
            outlet.say(long(*byte));
        }
        drop(go);
        outlet.close(Duration::from_secs(60));
        let said: Vec<String> = said.try_iter().collect();
        let whole = said.iter().filter(|said| said.len() > MAX_WAITING_BYTES).count();
        assert!((1..=2).contains(&whole), "{whole} of them");
        assert_eq!(said.last().map(String::as_str), Some(&*format!("{} left out\n", 4 - whole)));
    }

    #[test]
    fn of_the_live_line_only_the_newest_is_shown() {
        let (outlet, go, said) = outlet();
        outlet.say(line(1));
        for number in 0..1_000 {
            outlet.show(Some(number.to_string()));
        }
        drop(go);
        outlet.close(Duration::from_secs(60));
        assert_eq!(said.try_iter().collect::<Vec<_>>(), ["1\n", "shown: Some(\"999\")"]);
    }
}
