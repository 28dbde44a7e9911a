//! Rows of cells between tabs: no quotes, so that a row ends where its line does. Lines end as a CSV
//! reader takes them, with `\n`, `\r` or both; empty ones are no rows.

use std::io::{self, Read};

use csv::ByteRecord;

use super::ROW_BYTES_MAX;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;
/// What some programs begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Tabs {
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    /// What was read and is no row yet.
    from: usize,
    to: usize,
    /// The line that begins there, from 1.
    line: u64,
    /// There is no more to read.
    ended: bool,
    begun: bool,
}

impl Tabs {
    pub(super) fn new(input: Box<dyn Read>) -> Self {
        let buffer = vec![0; BUFFER];
        Self { input, buffer, from: 0, to: 0, line: 1, ended: false, begun: false }
    }

    /// Reads the next row; its line.
    pub(super) fn read(&mut self, record: &mut ByteRecord) -> io::Result<Option<u64>> {
        record.clear();
        if !std::mem::replace(&mut self.begun, true) {
            while self.to < BYTE_ORDER_MARK.len() && self.fill()? {}
            if self.buffer[..self.to].starts_with(BYTE_ORDER_MARK) {
                self.from = BYTE_ORDER_MARK.len();
            }
        }
        let mut looked = 0;
        loop {
            if looked == 0 {
                self.pass_ends();
            }
            let rest = &self.buffer[self.from..self.to];
            let end = memchr::memchr2(b'\n', b'\r', &rest[looked..]).map(|at| looked + at);
            if let Some(end) = end.or((self.ended && !rest.is_empty()).then_some(rest.len())) {
                let mut cells = &rest[..end];
                while let Some(at) = memchr::memchr(b'\t', cells) {
                    record.push_field(&cells[..at]);
                    cells = &cells[at + 1..];
                }
                record.push_field(cells);
                self.from += end;
                return Ok(Some(self.line));
            }
            looked = rest.len();
            if !self.fill()? && looked == 0 {
                return Ok(None);
            }
        }
    }

    /// Passes the ends of lines.
    fn pass_ends(&mut self) {
        while let Some(byte @ (b'\n' | b'\r')) = self.buffer[self.from..self.to].first() {
            self.line += u64::from(*byte == b'\n');
            self.from += 1;
        }
    }

    /// Reads more; false: there was no more.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        if self.to > ROW_BYTES_MAX {
            return Err(io::Error::other(format!("a row of more than {ROW_BYTES_MAX} bytes")));
        }
        if self.to == self.buffer.len() {
            self.buffer.resize(self.to * 2, 0);
        }
        let got = self.input.read(&mut self.buffer[self.to..])?;
        self.to += got;
        self.ended = got == 0;
        Ok(got > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow(Vec<u8>, usize);

    impl Read for Slow {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buf.len());
            buf[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    /// What the csv crate makes of it.
    fn wanted(text: &[u8]) -> Vec<(u64, Vec<Vec<u8>>)> {
        let mut builder = csv::ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(b'\t').quoting(false);
        let mut reader = builder.from_reader(text);
        let rows = reader.byte_records().map(|row| {
            let row = row.unwrap();
            (row.position().unwrap().line(), row.iter().map(<[u8]>::to_vec).collect())
        });
        rows.collect()
    }

    #[test]
    fn rows_are_those_of_a_csv_reader_without_quotes() {
        for text in [
            "",
            "\n",
            "a",
            "a\tb\n",
            "a\tb",
            "\ta\t\n\n\r\nb\r\nc\rd\n",
            "\t",
            "\"a\tb\"\n",
            "\u{feff}id\tname\n1\tTom\n",
            "\u{feff}",
            "x\n\n\n\ty\n",
        ] {
            for step in [1, 2, 3, 1000] {
                let mut tabs = Tabs::new(Box::new(Slow(text.as_bytes().to_vec(), step)));
                let (mut record, mut found) = (ByteRecord::new(), Vec::new());
                while let Some(line) = tabs.read(&mut record).unwrap() {
                    found.push((line, record.iter().map(<[u8]>::to_vec).collect()));
                }
                let rows = |rows: &[(u64, Vec<Vec<u8>>)]| -> Vec<Vec<Vec<u8>>> {
                    rows.iter().map(|(_, cells)| cells.clone()).collect()
                };
                assert_eq!(rows(&found), rows(&wanted(text.as_bytes())), "{text:?} by {step}");
            }
        }
        let mut tabs = Tabs::new(Box::new(Slow(b"a\n\nb\n".to_vec(), 100)));
        let mut record = ByteRecord::new();
        assert_eq!(tabs.read(&mut record).unwrap(), Some(1));
        assert_eq!(tabs.read(&mut record).unwrap(), Some(3));
    }
}
