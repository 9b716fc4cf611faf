//! The end of what a command writes: as much as is kept, however much it writes.

/// The last bytes of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    bytes_max: usize,
    total: usize,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, total: 0 }
    }

    /// Adds what was written next; memory stays within twice the bound.
    pub(super) fn push(&mut self, written: &[u8]) {
        self.total += written.len();
        let written = &written[written.len().saturating_sub(self.bytes_max)..];
        self.bytes.extend_from_slice(written);
        if self.bytes.len() > 2 * self.bytes_max {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.bytes_max);
        self.bytes.drain(..surplus);
    }

    /// Returns the text; what is not UTF-8 is replaced, and what was left out is told.
    ///
    /// **Source**: Consul's words.
    pub(super) fn into_text(mut self) -> String {
        self.cut();
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        match self.total > self.bytes_max {
            true => format!("Captured {} of {} bytes\n...\n{text}", self.bytes.len(), self.total),
            false => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_the_rest_counted() {
        let mut tail = Tail::new(4);
        for part in ["ab", "cd", "", "efghij", "k"] {
            tail.push(part.as_bytes());
            assert!(tail.bytes.len() <= 8);
        }
        assert_eq!(tail.into_text(), "Captured 4 of 11 bytes\n...\nhijk");
        let mut short = Tail::new(4);
        short.push(b"abcd");
        assert_eq!(short.into_text(), "abcd");
    }
}
