//! Keys from rows: `{person:%{#16}}_%{id}`.

use csv::ByteRecord;
use keyspace::Slot;

/// The most prefixes that keys are spread over.
const SPREAD_MAX: u16 = keyspace::SLOTS;

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Column(usize),
    /// A number from 1 to this.
    Spread(u16),
}

/// A template whose columns were found.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// What the columns of a row say, for the spread.
    values: Vec<u8>,
    spreads: bool,
}

impl Template {
    /// Reads a template for rows with these columns; in words, what is wrong with it.
    pub(super) fn parse(text: &str, columns: &[String]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                plain.push(b'%');
                rest = after;
                continue;
            }
            let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let (name, after) = inner.ok_or_else(|| {
                format!("the key `{text}` has a `%` that is neither `%{{column}}` nor `%%`")
            })?;
            rest = after;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(match name.strip_prefix('#') {
                Some(count) => Part::Spread(spread(count)?),
                None => Part::Column(column(name, columns)?),
            });
        }
        plain.extend_from_slice(rest.as_bytes());
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        if !parts.iter().any(|part| matches!(part, Part::Column(_))) {
            return Err(format!(
                "the key `{text}` names no column: every row would have that one key"
            ));
        }
        let spreads = parts.iter().any(|part| matches!(part, Part::Spread(_)));
        Ok(Self { parts, values: Vec::new(), spreads })
    }

    /// The columns in it.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(column) => Some(*column),
            _ => None,
        })
    }

    /// Appends the key of a row.
    pub(super) fn render(&mut self, row: &ByteRecord, out: &mut Vec<u8>) {
        let cell = |column: usize| row.get(column).unwrap_or_default();
        let number = |values: &[u8], count: u16| Slot::of_key(values).number() % count + 1;
        if self.spreads {
            self.values.clear();
            for part in &self.parts {
                if let Part::Column(column) = part {
                    self.values.extend_from_slice(cell(*column));
                }
            }
        }
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Column(column) => out.extend_from_slice(cell(*column)),
                Part::Spread(count) => {
                    let mut digits = itoa::Buffer::new();
                    let number = digits.format(number(&self.values, *count));
                    out.extend_from_slice(number.as_bytes());
                }
            }
        }
    }
}

fn spread(count: &str) -> Result<u16, String> {
    let parsed = count.parse().ok().filter(|count| (1..=SPREAD_MAX).contains(count));
    parsed.ok_or_else(|| format!("`%{{#{count}}}` spreads over no number from 1 to {SPREAD_MAX}"))
}

/// Which column has this name; in words, if none has.
pub(super) fn column(name: &str, columns: &[String]) -> Result<usize, String> {
    columns.iter().position(|column| column == name).ok_or_else(|| {
        let known: Vec<_> = columns.iter().take(40).map(String::as_str).collect();
        format!("there is no column `{name}`; there are: {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<String> {
        ["id", "name"].map(str::to_owned).into()
    }

    fn key(template: &str, row: &[&str]) -> String {
        let mut out = Vec::new();
        Template::parse(template, &columns()).unwrap().render(&ByteRecord::from(row), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_are_made_of_columns_and_spread_over_prefixes() {
        assert_eq!(key("{person}_%{id}", &["1", "Tom"]), "{person}_1");
        assert_eq!(key("%{name}:100%%:%{id}", &["1", "Tom"]), "Tom:100%:1");
        let mut prefixes = std::collections::BTreeSet::new();
        for id in 0..1000 {
            let id = id.to_string();
            let number = Slot::of_key(id.as_bytes()).number() % 16 + 1;
            let made = key("{person:%{#16}}_%{id}", &[&id, "Tom"]);
            assert_eq!(made, format!("{{person:{number}}}_{id}"));
            prefixes.insert(number);
        }
        assert_eq!(prefixes.into_iter().collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        let why = |text: &str| Template::parse(text, &columns()).unwrap_err();
        assert!(why("x_%{di}").contains("no column `di`; there are: id, name"));
        assert!(why("50%_%{id}").contains("neither"));
        assert!(why("%{id").contains("neither"));
        assert!(why("constant").contains("one key"));
        assert!(why("{p:%{#0}}%{id}").contains("from 1 to 16384"));
    }
}
