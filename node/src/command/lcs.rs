//! LCS: the longest common subsequence of two strings.

use resp::reply::Writer;

use super::{Answer, Args, Fail, Flags, Keys, Spec};
use crate::worker::{Key, View};

pub(super) const SPECS: &[Spec] =
    &[Spec::data("string", "lcs", -3, Flags::READONLY, Keys::TWO, lcs)];

/// The most memory that one comparison takes; it is four bytes for each pair of bytes.
const TABLE_BYTES_MAX: usize = 256 << 20;

#[derive(Default)]
struct Options {
    length: bool,
    places: bool,
    with_lengths: bool,
    least: i64,
}

fn options(args: &Args<'_>) -> Result<Options, Fail> {
    let mut options = Options::default();
    let mut at = 3;
    while at < args.len() {
        match &args.at(at).to_ascii_lowercase()[..] {
            b"len" => options.length = true,
            b"idx" => options.places = true,
            b"withmatchlen" => options.with_lengths = true,
            b"minmatchlen" if at + 1 < args.len() => {
                at += 1;
                options.least = args.integer(at)?.max(0);
            }
            _ => return Err(Fail::Syntax),
        }
        at += 1;
    }
    if options.length && options.places {
        return Err(Fail::text(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(options)
}

fn text(view: &mut View<'_>, key: Key<'_>) -> Result<Vec<u8>, Fail> {
    match view.string(key) {
        Ok(found) => Ok(found.map(|text| text.to_vec()).unwrap_or_default()),
        Err(Fail::WrongType) => {
            Err(Fail::text("ERR The specified keys must contain string values"))
        }
        Err(fail) => Err(fail),
    }
}

/// Lengths of the longest common subsequences of all pairs of beginnings.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn of(a: &[u8], b: &[u8]) -> Option<Self> {
        let width = b.len() + 1;
        let cells = (a.len() + 1).checked_mul(width)?;
        if cells.checked_mul(size_of::<u32>())? > TABLE_BYTES_MAX {
            return None;
        }
        let mut table = Self { cells: vec![0; cells], width };
        for (i, x) in (1..).zip(a) {
            for (j, y) in (1..).zip(b) {
                table.cells[i * width + j] = if x == y {
                    table.at(i - 1, j - 1) + 1
                } else {
                    table.at(i - 1, j).max(table.at(i, j - 1))
                };
            }
        }
        Some(table)
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }
}

/// A run that both strings have: where it ends in each, not included, and how long it is.
struct Match {
    a_end: usize,
    b_end: usize,
    len: usize,
}

/// The runs from the end to the beginning, and the subsequence itself.
fn walk(table: &Table, a: &[u8], b: &[u8]) -> (Vec<Match>, Vec<u8>) {
    let (mut i, mut j) = (a.len(), b.len());
    let (mut runs, mut common) = (Vec::<Match>::new(), Vec::new());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            common.push(a[i - 1]);
            match runs.last_mut() {
                Some(run) if run.a_end - run.len == i && run.b_end - run.len == j => run.len += 1,
                _ => runs.push(Match { a_end: i, b_end: j, len: 1 }),
            }
            (i, j) = (i - 1, j - 1);
        } else if table.at(i - 1, j) > table.at(i, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    common.reverse();
    (runs, common)
}

fn lcs(view: &mut View<'_>, args: &Args<'_>, out: &mut Writer<'_>) -> Answer {
    let (a, b) = (text(view, args.key(1))?, text(view, args.key(2))?);
    let options = options(args)?;
    let table = Table::of(&a, &b).ok_or(Fail::text(
        "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
    ))?;
    let length = i64::from(table.at(a.len(), b.len()));
    if options.length {
        out.integer(length);
        return Ok(());
    }
    let (runs, common) = walk(&table, &a, &b);
    if !options.places {
        out.bulk(&common);
        return Ok(());
    }
    let shown = || runs.iter().filter(|run| run.len as i64 >= options.least);
    out.map(2);
    out.bulk(b"matches");
    out.array(shown().count());
    for run in shown() {
        out.array(if options.with_lengths { 3 } else { 2 });
        for end in [run.a_end, run.b_end] {
            out.array(2);
            out.integer((end - run.len) as i64);
            out.integer(end as i64 - 1);
        }
        if options.with_lengths {
            out.integer(run.len as i64);
        }
    }
    out.bulk(b"len");
    out.integer(length);
    Ok(())
}
