//! The last words of a child on its error stream, kept for `why-died`.
//!
//! A thread per child reads the stream, passes everything on to our own, and keeps the last bytes; it ends when every copy of
//! the child's end is closed. The main thread reads what is kept, and never waits for the child.

use std::collections::VecDeque;
use std::io::Read;
use std::process::ChildStderr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::render;

/// Bytes that are kept of each child: some hundred lines, with the beginning of a backtrace at worst cut off.
pub const TAIL_BYTES: usize = 8 << 10;
/// Stack in bytes of the reading thread.
const STACK_BYTES: usize = 64 << 10;

/// What a child has said last.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    last: VecDeque<u8>,
    /// Bytes that it has said in all.
    total: u64,
}

impl Tail {
    /// What was kept of a child that another supervisor has listened to.
    pub fn of(text: &str) -> Self {
        let tail = Self::default();
        tail.add(text.as_bytes());
        tail
    }

    /// Starts to follow a child's error stream. If no thread can be had nothing is kept, and the child writes into nothing.
    pub fn follow(stream: ChildStderr) -> Self {
        let tail = Self::default();
        let kept = tail.clone();
        let reader = move || kept.read_all(stream);
        let _ = std::thread::Builder::new().name("stderr".to_owned()).stack_size(STACK_BYTES).spawn(reader);
        tail
    }

    fn read_all(&self, mut stream: impl Read) {
        let mut chunk = [0u8; 4096];
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            let said = &chunk[..length];
            self.add(said);
            // Nobody may be reading what we say; that is no reason to stop listening.
            render::pass_on(said);
        }
    }

    fn add(&self, bytes: &[u8]) {
        let mut said = self.said();
        said.total += bytes.len() as u64;
        said.last.extend(bytes);
        let excess = said.last.len().saturating_sub(TAIL_BYTES);
        said.last.drain(..excess);
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes it has said so far.
    pub fn total(&self) -> u64 {
        self.said().total
    }

    /// What is kept, as text; what is no text is shown as such.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.said().last.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more() {
        let tail = Tail::default();
        tail.read_all(&b"first\n"[..]);
        assert_eq!(tail.text(), "first\n");
        tail.add(&vec![b'x'; TAIL_BYTES]);
        tail.add(b"last\xff");
        assert!(tail.text().ends_with("xlast\u{fffd}"));
        assert_eq!(tail.said().last.len(), TAIL_BYTES);
        assert_eq!(tail.total(), 6 + TAIL_BYTES as u64 + 5);
    }
}
