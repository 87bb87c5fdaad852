//! The last words of a child on its error stream, kept for `why-died`.
//!
//! A thread per child reads the stream, passes everything on to our own, and keeps the last bytes; it ends when every copy of
//! the child's end is closed. The main thread reads what is kept, and never waits for the child.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::ChildStderr;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are kept of each child: some hundred lines, with the beginning of a backtrace at worst cut off.
pub const TAIL_BYTES: usize = 8 << 10;
/// Stack in bytes of the reading thread.
const STACK_BYTES: usize = 64 << 10;

/// What a child has said last.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
}

impl Tail {
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
            let _ = std::io::stderr().write_all(said);
        }
    }

    fn add(&self, said: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(said);
        let excess = bytes.len().saturating_sub(TAIL_BYTES);
        bytes.drain(..excess);
    }

    /// What is kept, as text; what is no text is shown as such.
    pub fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = bytes.iter().copied().collect();
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
        assert_eq!(tail.bytes.lock().unwrap().len(), TAIL_BYTES);
    }
}
