//! What `godwit-node build` is told.

use std::path::PathBuf;
use std::str::FromStr;

use keyspace::{Hlc, SlotSet};
use ops::units::Size;

/// Builds a load from rows: table files that `godwit-node ingest` brings into a node
#[derive(Clone, Debug, clap::Args)]
pub struct BuildArgs {
    /// The files with the rows, of one format and with the same columns; `-` reads TSV or CSV from
    /// the standard input
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// Where to write the load; made, and must be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the rows become
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Kind,
    /// The key of a row: `%{column}` is the row's value, `%{#16}` a number from 1 to 16 that
    /// spreads keys evenly (the slot of the values in the key modulo 16, plus 1), `%%` a percent sign
    #[arg(long, value_name = "TEMPLATE")]
    pub key: String,
    /// Strings and hashes: the column of the value
    #[arg(long, value_name = "COLUMN")]
    pub value: Option<String>,
    /// Hashes of one field a row: the column of the field's name
    #[arg(long, value_name = "COLUMN", requires = "value")]
    pub field: Option<String>,
    /// Hashes of one row each: the columns that become fields of their names [default: all that are
    /// not in the key]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "field")]
    pub fields: Vec<String>,
    /// Sorted sets: the column of the member
    #[arg(long, value_name = "COLUMN")]
    pub member: Option<String>,
    /// Sorted sets: the column of the score
    #[arg(long, value_name = "COLUMN")]
    pub score: Option<String>,
    /// The column of the seconds that the row's key lives, from the load's stamp on; the greatest of
    /// a key's rows counts, and a null lives for ever
    #[arg(long, value_name = "COLUMN", conflicts_with = "expire_at")]
    pub ttl: Option<String>,
    /// The column of the Unix time in milliseconds at which the row's key expires; as `--ttl`
    #[arg(long, value_name = "COLUMN")]
    pub expire_at: Option<String>,
    /// What the rows are in [default: by the name of the first file]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// TSV and CSV: the names of the columns, for files without a first line of names
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// TSV and CSV: the text that stands for null
    #[arg(long, value_name = "TEXT", default_value = "\\N")]
    pub null: String,
    /// Memory to sort in; what does not fit is sorted in runs on disk
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub memory: Size,
    /// A file is closed, and the next one begun, at about so many bytes of records
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub file_size: Size,
    /// How the files are compressed
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    pub compression: Compression,
    /// The slots of a shard, such as `0-8191`: no file crosses the bounds of one; once for each shard
    #[arg(long, value_name = "SLOTS")]
    pub split: Vec<SlotSet>,
    /// What to do with rows that cannot be used: `stop`, or `skip:N` for up to N of them
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub bad_rows: BadRows,
    /// The stamp of the records, `MILLISECONDS.COUNTER`; give the same to build the same load again
    /// [default: now]
    #[arg(long, value_name = "STAMP", value_parser = stamp)]
    pub stamp: Option<Hlc>,
    /// Where runs are sorted on disk [default: in DIR]
    #[arg(long, value_name = "DIR")]
    pub temp: Option<PathBuf>,
}

/// What rows become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A row is a key and its value.
    String,
    /// A row is a field of a key, or a key with all of its fields.
    Hash,
    /// A row is a member of a key, and its score.
    Zset,
}

impl Kind {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::Zset => "zset",
        }
    }
}

/// What rows are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Cells between tabs; no quotes.
    Tsv,
    /// Cells between commas; RFC 4180.
    Csv,
    /// Apache Parquet, flat columns.
    Parquet,
}

impl Format {
    /// The one that a file's name says.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "tsv" | "txt" => Some(Self::Tsv),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// Quickly.
    Lz4,
    /// Well.
    Zstd,
}

/// What to do with rows that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRows {
    /// So many are skipped; one more stops the build.
    pub skip_max: u64,
}

impl FromStr for BadRows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let skip = match text {
            "stop" => Some(0),
            _ => text.strip_prefix("skip:").and_then(|count| count.parse().ok()),
        };
        skip.map(|skip_max| Self { skip_max })
            .ok_or_else(|| "write `stop`, or `skip:N` to skip up to N of them".to_owned())
    }
}

fn stamp(text: &str) -> Result<Hlc, String> {
    let (ms, counter) = text.split_once('.').unwrap_or((text, "0"));
    let stamp =
        ms.parse().ok().zip(counter.parse().ok()).map(|(ms, counter)| Hlc::new(ms, counter));
    stamp.filter(|stamp| stamp.0 != 0).ok_or_else(|| {
        "write Unix milliseconds and a counter, such as `1700000000000.40000`".to_owned()
    })
}
