//! Rows of text: cells between tabs or commas.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail};
use csv::{ByteRecord, Reader, ReaderBuilder};

use super::ROW_BYTES_MAX;
use super::tabs::Tabs;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

pub(super) enum Delimited {
    Tabs(Tabs),
    Commas {
        reader: Box<Reader<Bounded>>,
        /// Bytes read since the row began.
        since: Rc<Cell<usize>>,
    },
}

impl Delimited {
    pub(super) fn open(path: &Path, tabs: bool) -> anyhow::Result<Self> {
        let input: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).with_context(|| format!("opening {}", path.display()))?)
        };
        if tabs {
            return Ok(Self::Tabs(Tabs::new(input)));
        }
        let since = Rc::new(Cell::new(0));
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true).buffer_capacity(BUFFER);
        let reader = builder.from_reader(Bounded { input, since: since.clone() });
        Ok(Self::Commas { reader: Box::new(reader), since })
    }

    /// The names of the columns, in the first row.
    pub(super) fn header(&mut self) -> anyhow::Result<Vec<String>> {
        let mut record = ByteRecord::new();
        if self.read(&mut record)?.is_none() {
            bail!("it is empty: its first line must name the columns, or --columns");
        }
        let name = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
        Ok(record.iter().map(name).collect())
    }

    /// The next row's line.
    pub(super) fn read(&mut self, record: &mut ByteRecord) -> anyhow::Result<Option<u64>> {
        let (reader, since) = match self {
            Self::Tabs(tabs) => return Ok(tabs.read(record)?),
            Self::Commas { reader, since } => (reader, since),
        };
        since.set(0);
        if !reader.read_byte_record(record)? {
            return Ok(None);
        }
        // Of the row itself; the reader is past what its cells hold by now.
        Ok(Some(record.position().map_or(0, csv::Position::line)))
    }
}

/// An open quote would have the reader take the rest of a file for one cell.
pub(super) struct Bounded {
    input: Box<dyn Read>,
    since: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > ROW_BYTES_MAX + BUFFER {
            return Err(io::Error::other(format!(
                "a row of more than {ROW_BYTES_MAX} bytes: is a quote left open?"
            )));
        }
        let got = self.input.read(buf)?;
        self.since.set(self.since.get() + got);
        Ok(got)
    }
}
