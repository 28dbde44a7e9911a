//! From rows to records, in the encoding of `keyspace`.
//!
//! Rows are sorted by key (and field or member) first; of two rows for one of these the later one
//! counts. What follows is in [`super::parts`].

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use csv::ByteRecord;
use keyspace::data::encode_prefix;
use keyspace::meta::{self, Body, Meta, Type};
use keyspace::score::Score;
use keyspace::{Hlc, Slot};

use super::args::{BuildArgs, Kind};
use super::parts::Rows;
use super::sort::Sorter;
use super::template::{Template, column};

/// The longest key.
const KEY_BYTES_MAX: usize = 64 << 10;

/// Which columns make the value.
enum Shape {
    String {
        value: usize,
    },
    /// One field a row.
    Field {
        field: usize,
        value: usize,
    },
    /// All fields in one row: names and columns.
    Fields(Vec<(String, usize)>),
    Zset {
        member: usize,
        score: usize,
    },
}

enum Expiry {
    Never,
    /// Seconds from the stamp on.
    Seconds(usize),
    /// Unix milliseconds.
    At(usize),
}

/// Takes rows, gives records.
pub(super) struct Encoder {
    template: Template,
    shape: Shape,
    expiry: Expiry,
    null: Vec<u8>,
    stamp: Hlc,
    rows: Sorter,
    /// What is left for sorting the records of collections.
    left: usize,
    temp: PathBuf,
    key: Vec<u8>,
    sort_key: Vec<u8>,
    value: Vec<u8>,
}

impl Encoder {
    /// Finds the columns; says in a sentence which is missing.
    pub(super) fn new(
        args: &BuildArgs,
        columns: &[String],
        null: &str,
        stamp: Hlc,
        temp: &Path,
    ) -> anyhow::Result<Self> {
        let find = |name: &str| column(name, columns).map_err(anyhow::Error::msg);
        let need = |name: &Option<String>, flag: &str| match name {
            Some(name) => find(name),
            None => bail!("say which column is the {flag}: --{flag} COLUMN"),
        };
        let template = Template::parse(&args.key, columns).map_err(anyhow::Error::msg)?;
        let shape = match args.kind {
            Kind::String => Shape::String { value: need(&args.value, "value")? },
            Kind::Zset => Shape::Zset {
                member: need(&args.member, "member")?,
                score: need(&args.score, "score")?,
            },
            Kind::Hash if args.field.is_some() => Shape::Field {
                field: need(&args.field, "field")?,
                value: need(&args.value, "value")?,
            },
            Kind::Hash if !args.fields.is_empty() => {
                let found = args.fields.iter().map(|name| Ok((name.clone(), find(name)?)));
                Shape::Fields(found.collect::<anyhow::Result<_>>()?)
            }
            Kind::Hash => {
                let mut taken: Vec<usize> = template.columns().collect();
                let expiry = [&args.ttl, &args.expire_at].into_iter().flatten();
                taken.extend(expiry.filter_map(|name| find(name).ok()));
                let rest = columns.iter().enumerate().filter(|(at, _)| !taken.contains(at));
                Shape::Fields(rest.map(|(at, name)| (name.clone(), at)).collect())
            }
        };
        unused(args)?;
        let expiry = match (&args.ttl, &args.expire_at) {
            (Some(name), _) => Expiry::Seconds(find(name)?),
            (None, Some(name)) => Expiry::At(find(name)?),
            (None, None) => Expiry::Never,
        };
        let memory = args.memory.len();
        let rows = match args.kind {
            Kind::String => memory,
            Kind::Hash | Kind::Zset => memory / 2,
        };
        Ok(Self {
            template,
            shape,
            expiry,
            null: null.as_bytes().to_owned(),
            stamp,
            rows: Sorter::new(temp, "rows", rows),
            left: memory - rows,
            temp: temp.to_owned(),
            key: Vec::new(),
            sort_key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Takes one row; the inner error says why it cannot be used.
    pub(super) fn take(&mut self, row: &ByteRecord) -> anyhow::Result<Result<(), String>> {
        match self.check(row) {
            Ok(expire_ms) => {
                self.sort_in(row, expire_ms).map(Ok).context("sorting the rows on disk")
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// Makes the key and looks at all that the row needs; when it expires.
    fn check(&mut self, row: &ByteRecord) -> Result<u64, String> {
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let null = self.null.as_slice();
        if let Some(at) = self.template.columns().find(|at| cell(*at) == null) {
            return Err(format!("column {} is null, and the key is made of it", at + 1));
        }
        let needed: &[usize] = match &self.shape {
            Shape::String { value } => &[*value],
            Shape::Field { field, value } => &[*field, *value],
            Shape::Zset { member, score } => &[*member, *score],
            Shape::Fields(fields) => {
                if fields.iter().all(|(_, at)| cell(*at) == null) {
                    return Err("all of its fields are null".to_owned());
                }
                &[]
            }
        };
        if let Some(at) = needed.iter().find(|at| cell(**at) == null) {
            return Err(format!("column {} is null", at + 1));
        }
        if let Shape::Zset { score, .. } = &self.shape {
            read_score(cell(*score))?;
        }
        let expire_ms = match self.expiry {
            Expiry::Never => 0,
            Expiry::Seconds(at) | Expiry::At(at) if cell(at) == null => 0,
            Expiry::Seconds(at) => {
                let ms = read_number(cell(at))?.checked_mul(1_000);
                let ms = ms.and_then(|ms| ms.checked_add(self.stamp.ms()));
                ms.ok_or("its time to live is out of range")?
            }
            Expiry::At(at) => read_number(cell(at))?,
        };
        self.key.clear();
        self.template.render(row, &mut self.key);
        if self.key.len() > KEY_BYTES_MAX {
            return Err(format!(
                "its key has {} bytes, and {KEY_BYTES_MAX} is the most",
                self.key.len()
            ));
        }
        Ok(expire_ms)
    }

    fn sort_in(&mut self, row: &ByteRecord, expire_ms: u64) -> std::io::Result<()> {
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let slot = Slot::of_key(&self.key);
        self.sort_key.clear();
        if let Shape::String { value } = self.shape {
            meta::encode_key(slot, &self.key, &mut self.sort_key);
            self.value.clear();
            let body = Body::String(cell(value));
            Meta { stamp: self.stamp, expire_ms, body }.encode(&mut self.value);
            return self.rows.push(&self.sort_key, &[&self.value]);
        }
        // The order of data records, but for the version, which all of a load's have alike.
        encode_prefix(slot, &self.key, Hlc(0), &mut self.sort_key);
        self.sort_key.truncate(self.sort_key.len() - size_of::<Hlc>());
        let prefix = self.sort_key.len();
        let expiry = expire_ms.to_be_bytes();
        let mut push = |subkey: &[u8], value: &[u8]| {
            self.sort_key.truncate(prefix);
            self.sort_key.extend_from_slice(subkey);
            self.rows.push(&self.sort_key, &[&expiry, value])
        };
        match &self.shape {
            Shape::Field { field, value } => push(cell(*field), cell(*value)),
            Shape::Zset { member, score } => {
                let score = read_score(cell(*score)).map_err(std::io::Error::other)?;
                push(cell(*member), score.bytes())
            }
            Shape::Fields(fields) => fields
                .iter()
                .filter(|(_, at)| cell(*at) != self.null)
                .try_for_each(|(name, at)| push(name.as_bytes(), cell(*at))),
            Shape::String { .. } => Ok(()),
        }
    }

    /// All rows, to be made records of.
    pub(super) fn finish(self) -> Rows {
        let Self { shape, stamp, rows, left: memory, temp, .. } = self;
        let kind = match shape {
            Shape::String { .. } => Type::String,
            Shape::Zset { .. } => Type::Zset,
            Shape::Field { .. } | Shape::Fields(_) => Type::Hash,
        };
        Rows { kind, stamp, rows, memory, temp }
    }
}

/// A whole number that is not negative and not nothing.
fn read_number(cell: &[u8]) -> Result<u64, String> {
    let number = std::str::from_utf8(cell).ok().and_then(|text| text.trim().parse().ok());
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("its expiry `{}` is no whole number above 0", shown(cell)))
}

fn read_score(cell: &[u8]) -> Result<Score, String> {
    let number = std::str::from_utf8(cell).ok().and_then(|text| text.trim().parse().ok());
    number.and_then(Score::new).ok_or_else(|| format!("its score `{}` is no number", shown(cell)))
}

fn shown(cell: &[u8]) -> String {
    String::from_utf8_lossy(&cell[..cell.len().min(40)]).escape_debug().to_string()
}

/// A flag that says nothing for this type of key is a mistake.
fn unused(args: &BuildArgs) -> anyhow::Result<()> {
    let string = args.kind == Kind::String;
    let zset = args.kind == Kind::Zset;
    let given = [
        (
            "value",
            args.value.is_some() && (zset || (args.kind == Kind::Hash && args.field.is_none())),
        ),
        ("field", args.field.is_some() && (string || zset)),
        ("fields", !args.fields.is_empty() && (string || zset)),
        ("member", args.member.is_some() && !zset),
        ("score", args.score.is_some() && !zset),
    ];
    match given.iter().find(|(_, wrong)| *wrong) {
        Some((flag, _)) => bail!("--{flag} says nothing for --type {}", args.kind.name()),
        None => Ok(()),
    }
}
