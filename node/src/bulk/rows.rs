//! Rows of TSV, CSV and Parquet files, one after the other.

mod delimited;
mod parquet;
mod tabs;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use csv::ByteRecord;

use super::args::{BuildArgs, Format};
use delimited::Delimited;
use parquet::Columnar;

/// The longest row, in bytes.
pub(super) const ROW_BYTES_MAX: usize = 64 << 20;

/// Rows of all files.
pub(super) struct Rows {
    inputs: std::vec::IntoIter<PathBuf>,
    format: Format,
    /// The names of the columns, as given or as the first file says.
    columns: Vec<String>,
    named: bool,
    null: String,
    open: Option<(String, Source)>,
    record: ByteRecord,
}

enum Source {
    Delimited(Box<Delimited>),
    Parquet(Box<Columnar>),
}

/// One row, and where it stands.
pub(super) struct Row<'a> {
    /// Its cells.
    pub(super) cells: &'a ByteRecord,
    /// Its file.
    pub(super) file: &'a str,
    /// Its line, or its number in a Parquet file; from 1.
    pub(super) line: u64,
    /// Why it cannot be used, if that is known already.
    pub(super) wrong: Option<String>,
}

impl Rows {
    /// Opens the first file, for the names of the columns.
    pub(super) fn open(args: &BuildArgs) -> anyhow::Result<Self> {
        let first = args.inputs.first().context("no input")?;
        let format = match args.format.or_else(|| Format::of(first)) {
            Some(format) => format,
            None => bail!(
                "{}: its name says neither TSV nor CSV nor Parquet; say --format",
                first.display()
            ),
        };
        if format == Format::Parquet && !args.columns.is_empty() {
            bail!("a Parquet file names its columns: leave --columns out");
        }
        let mut rows = Self {
            inputs: args.inputs.clone().into_iter(),
            format,
            columns: args.columns.clone(),
            named: !args.columns.is_empty(),
            null: args.null.clone(),
            open: None,
            record: ByteRecord::new(),
        };
        rows.next_file()?;
        Ok(rows)
    }

    /// The names of the columns.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Opens the next file; false where there is none.
    fn next_file(&mut self) -> anyhow::Result<bool> {
        let Some(path) = self.inputs.next() else {
            self.open = None;
            return Ok(false);
        };
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let (source, columns) = match self.format {
            Format::Parquet => {
                let (source, columns) = Columnar::open(&path)?;
                (Source::Parquet(Box::new(source)), columns)
            }
            Format::Csv | Format::Tsv => {
                let tabs = self.format == Format::Tsv;
                let mut source = Delimited::open(&path, tabs)?;
                let columns = if self.named { self.columns.clone() } else { source.header()? };
                (Source::Delimited(Box::new(source)), columns)
            }
        };
        if self.columns.is_empty() {
            self.columns = columns;
        } else if self.columns != columns {
            bail!(
                "{name}: its columns are {columns:?}, those of the files before are {:?}",
                self.columns
            );
        }
        self.open = Some((name, source));
        Ok(true)
    }

    /// The next row.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Row<'_>>> {
        loop {
            let Some((name, source)) = &mut self.open else { return Ok(None) };
            let read = match source {
                Source::Delimited(source) => {
                    source.read(&mut self.record).map(|line| line.map(|line| (line, None)))
                }
                Source::Parquet(source) => source.read(&mut self.record, self.null.as_bytes()),
            };
            let read = read.with_context(|| format!("reading {name}"))?;
            if let Some((line, mut wrong)) = read {
                let (found, wanted) = (self.record.len(), self.columns.len());
                if wrong.is_none() && found != wanted {
                    wrong = Some(format!("it has {found} cells, and there are {wanted} columns"));
                }
                // The borrow checker does not follow a loop that returns what it borrowed.
                let file = self.open.as_ref().map_or("", |(name, _)| name.as_str());
                return Ok(Some(Row { cells: &self.record, file, line, wrong }));
            }
            self.next_file()?;
        }
    }

    /// Whether a cell is null.
    pub(super) fn null(&self) -> &str {
        &self.null
    }
}
