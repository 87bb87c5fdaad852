//! Bytes from one client, cut into lines. Holds at most one line and what came with its end.

use super::limits::{MAX_LINE_BYTES, READ_CHUNK_BYTES};

/// Capacity above which the buffer of an idle client is given back.
const KEPT_CAPACITY_BYTES: usize = READ_CHUNK_BYTES;

/// The line is longer than [`MAX_LINE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// What a client has sent and nobody has handled yet.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// Where the first line begins.
    start: usize,
    /// Up to where there is no newline since `start`.
    searched: usize,
    /// Where the first line ends, once that is known.
    end: Option<usize>,
}

impl Input {
    /// Adds what was read. Only to be called while there is no whole line.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.end = self.end.map(|end| end - self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
        self.search()
    }

    /// Whether a whole line is there.
    pub fn has_line(&self) -> bool {
        self.end.is_some()
    }

    /// The first whole line, without its newline.
    pub fn line(&self) -> Option<&[u8]> {
        self.end.and_then(|end| self.bytes.get(self.start..end))
    }

    /// Removes the first whole line.
    pub fn next_line(&mut self) -> Result<(), LineTooLong> {
        if let Some(end) = self.end.take() {
            self.start = end + 1;
            self.searched = self.start;
            if self.start >= self.bytes.len() {
                self.clear();
            }
        }
        self.search()
    }

    fn clear(&mut self) {
        (self.start, self.searched) = (0, 0);
        if self.bytes.capacity() > KEPT_CAPACITY_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }

    fn search(&mut self) -> Result<(), LineTooLong> {
        if self.end.is_none() {
            let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
            match unsearched.iter().position(|&byte| byte == b'\n') {
                Some(position) => self.end = Some(self.searched + position),
                None => self.searched = self.bytes.len(),
            }
        }
        let line_bytes = self.end.unwrap_or(self.bytes.len()) - self.start;
        if line_bytes > MAX_LINE_BYTES { Err(LineTooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &mut Input) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Some(line) = input.line() {
            lines.push(line.to_vec());
            input.next_line().unwrap();
        }
        lines
    }

    #[test]
    fn lines_come_out_however_they_are_cut() {
        let text: Vec<u8> = (0..200).flat_map(|n| format!("{}\n", "x".repeat(n % 17)).into_bytes()).collect();
        for chunk in [1, 2, 3, 16, 17, 1_000, text.len()] {
            let mut input = Input::default();
            let mut found = Vec::new();
            for part in text.chunks(chunk) {
                input.push(part).unwrap();
                found.extend(lines(&mut input));
            }
            assert_eq!(found.len(), 200, "in chunks of {chunk}");
            assert!(found.iter().enumerate().all(|(n, line)| line.len() == n % 17), "in chunks of {chunk}");
        }
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let mut input = Input::default();
        input.push(&vec![b'x'; MAX_LINE_BYTES]).unwrap();
        input.push(b"\n").unwrap();
        assert_eq!(input.line().map(<[u8]>::len), Some(MAX_LINE_BYTES));
        input.next_line().unwrap();
        assert!(input.bytes.capacity() <= KEPT_CAPACITY_BYTES, "a long line's memory is given back");
        let mut input = Input::default();
        input.push(&vec![b'x'; MAX_LINE_BYTES]).unwrap();
        assert_eq!(input.push(b"x"), Err(LineTooLong));
    }
}
