//! Lines that one client has not read yet: replies, which are never lost while it is connected, and events, of which only
//! so many wait. Bytes are counted; what exceeds its limit ends the connection, not the memory.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use super::limits::{EVENT_QUEUE, MAX_UNREAD_BYTES};
use super::protocol::Topic;

/// Something that waits to be read.
#[derive(Clone, Debug)]
struct Line {
    bytes: Arc<[u8]>,
    /// The topic of an event; `None` for a reply.
    topic: Option<Topic>,
}

/// Why nothing more can be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// So many events, this one included, have not been and will not be delivered.
    Lagged { dropped: u64 },
    /// Too many bytes of replies are unread.
    Unread,
}

/// The lines one client has not read yet.
#[derive(Debug, Default)]
pub struct Output {
    lines: VecDeque<Line>,
    /// Bytes of the first line that have been written already.
    written: usize,
    unread_bytes: usize,
    events: usize,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn unread_bytes(&self) -> usize {
        self.unread_bytes
    }

    /// Queues a reply.
    pub fn reply(&mut self, bytes: Vec<u8>) -> Result<(), Overflow> {
        if self.unread_bytes + bytes.len() > MAX_UNREAD_BYTES {
            return Err(Overflow::Unread);
        }
        self.push(Line { bytes: bytes.into(), topic: None });
        Ok(())
    }

    /// Queues an event. Meters replace an unread one; other events beyond the limit make the client lag: then no event waits
    /// any more, except one that is half written.
    pub fn event(&mut self, topic: Topic, bytes: &Arc<[u8]>) -> Result<(), Overflow> {
        if topic == Topic::Meters && self.replace(topic, bytes) {
            return Ok(());
        }
        if self.events >= EVENT_QUEUE || self.unread_bytes + bytes.len() > MAX_UNREAD_BYTES {
            return Err(Overflow::Lagged { dropped: self.drop_events() + 1 });
        }
        self.push(Line { bytes: Arc::clone(bytes), topic: Some(topic) });
        Ok(())
    }

    /// Removes all events of which nothing has been written yet; returns how many.
    pub fn drop_events(&mut self) -> u64 {
        let before = self.lines.len();
        let mut is_first_half_written = self.written > 0;
        self.lines.retain(|line| std::mem::take(&mut is_first_half_written) || line.topic.is_none());
        self.unread_bytes = self.lines.iter().map(|line| line.bytes.len()).sum::<usize>() - self.written;
        self.events = self.lines.iter().filter(|line| line.topic.is_some()).count();
        (before - self.lines.len()) as u64
    }

    /// Writes as much as the client takes now. Returns whether it took anything.
    pub fn write_to(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let mut has_progress = false;
        while let Some(line) = self.lines.front() {
            let rest = line.bytes.get(self.written..).unwrap_or_default();
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    has_progress = true;
                    self.unread_bytes -= count;
                    self.written += count;
                    if self.written >= line.bytes.len() {
                        self.pop();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(has_progress)
    }

    fn push(&mut self, line: Line) {
        self.unread_bytes += line.bytes.len();
        self.events += usize::from(line.topic.is_some());
        self.lines.push_back(line);
    }

    fn pop(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.events -= usize::from(line.topic.is_some());
        }
        self.written = 0;
    }

    fn replace(&mut self, topic: Topic, bytes: &Arc<[u8]>) -> bool {
        let half_written = usize::from(self.written > 0);
        match self.lines.iter_mut().skip(half_written).find(|line| line.topic == Some(topic)) {
            Some(line) => {
                self.unread_bytes = self.unread_bytes - line.bytes.len() + bytes.len();
                line.bytes = Arc::clone(bytes);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then would block.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn a_client_that_does_not_read_lags_and_keeps_its_replies() {
        let mut output = Output::default();
        let mut stream = Narrow { room: 3, taken: Vec::new() };
        output.event(Topic::Log, &event("first\n")).unwrap();
        output.reply(b"reply\n".to_vec()).unwrap();
        output.write_to(&mut stream).unwrap();
        for _ in 1..EVENT_QUEUE {
            output.event(Topic::Log, &event("later\n")).unwrap();
        }
        let dropped = EVENT_QUEUE as u64; // All but the half-written one, and the one that did not fit.
        assert_eq!(output.event(Topic::Log, &event("last\n")), Err(Overflow::Lagged { dropped }));
        stream.room = 1_000;
        output.write_to(&mut stream).unwrap();
        assert_eq!(stream.taken, b"first\nreply\n");
        assert_eq!((output.unread_bytes(), output.events), (0, 0));
    }

    #[test]
    fn unread_meters_are_replaced_by_the_next() {
        let mut output = Output::default();
        for n in 0..10_000 {
            output.event(Topic::Meters, &event(&format!("meters {n}\n"))).unwrap();
        }
        let mut stream = Narrow { room: 1_000, taken: Vec::new() };
        output.write_to(&mut stream).unwrap();
        assert_eq!(stream.taken, b"meters 9999\n");
        assert!(output.is_empty());
    }

    #[test]
    fn a_half_written_line_is_finished_before_it_is_replaced() {
        let mut output = Output::default();
        let mut stream = Narrow { room: 4, taken: Vec::new() };
        output.event(Topic::Meters, &event("one\n-\n")).unwrap();
        output.write_to(&mut stream).unwrap();
        output.event(Topic::Meters, &event("two\n")).unwrap();
        stream.room = 100;
        output.write_to(&mut stream).unwrap();
        assert_eq!(stream.taken, b"one\n-\ntwo\n");
    }

    #[test]
    fn unread_replies_are_bounded_in_bytes() {
        let mut output = Output::default();
        let mut count = 0;
        while output.reply(vec![b'x'; 1 << 16]).is_ok() {
            count += 1;
        }
        assert_eq!(count, MAX_UNREAD_BYTES >> 16);
    }
}
