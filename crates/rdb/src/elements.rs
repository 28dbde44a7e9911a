//! What is in a value, whatever its form: for a server that does not take the form, and for the parts
//! of a collection that is too big to be handed over at once.

use std::borrow::Cow;

use packed::Entries;

use crate::Form;
use crate::payload::Load;

/// A node of a list: one long element, or a listpack of several.
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

/// What is in a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// A text.
    String(Vec<u8>),
    /// Elements, in their order.
    List(Vec<Vec<u8>>),
    /// Members.
    Set(Vec<Vec<u8>>),
    /// Fields, values, and when each expires in Unix milliseconds (0: never).
    Hash(Vec<(Vec<u8>, Vec<u8>, u64)>),
    /// Members, and scores in digits that ZADD takes.
    Zset(Vec<(Vec<u8>, Vec<u8>)>),
}

/// What is in these bytes, a form and a value as [`file::Reader`](crate::file::Reader) cuts them out.
/// `None`: they make no sense, or are a stream, which no command can make as it was.
pub fn elements(body: &[u8]) -> Option<Elements> {
    let mut load = Load::bare(body);
    let form = load.form()?;
    let elements = match form {
        Form::String => Elements::String(load.string()?),
        Form::List | Form::Set | Form::Zset | Form::ZsetText | Form::Hash | Form::HashFields => {
            general(&mut load, form)?
        }
        Form::ListQuicklist | Form::ListQuicklist2 => quicklist(&mut load, form)?,
        Form::Stream1 | Form::Stream2 | Form::Stream3 => return None,
        _ => packed_form(&mut load, form)?,
    };
    load.end()?;
    Some(elements)
}

fn general(load: &mut Load<'_>, form: Form) -> Option<Elements> {
    let earliest_ms = if form == Form::HashFields { load.time()? } else { 0 };
    let count = load.length()?;
    let (mut texts, mut fields, mut members) = (Vec::new(), Vec::new(), Vec::new());
    // At least a byte for each: no count makes more work than there are bytes.
    for _ in 0..count {
        match form {
            Form::HashFields => {
                let at_ms = match load.length()? {
                    0 => 0,
                    later => earliest_ms.checked_add(later - 1)?,
                };
                fields.push((load.string()?, load.string()?, at_ms));
            }
            Form::Hash => fields.push((load.string()?, load.string()?, 0)),
            Form::Zset => members.push((load.string()?, digits(load.double()?)?)),
            Form::ZsetText => members.push((load.string()?, text_score(load)?)),
            _ => texts.push(load.string()?),
        }
    }
    Some(match form {
        Form::Hash | Form::HashFields => Elements::Hash(fields),
        Form::Zset | Form::ZsetText => Elements::Zset(members),
        Form::Set => Elements::Set(texts),
        _ => Elements::List(texts),
    })
}

/// A score in the fewest digits that come back to it.
fn digits(score: f64) -> Option<Vec<u8>> {
    let text = match score {
        _ if score.is_nan() => return None,
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        _ => format!("{score:?}"),
    };
    Some(text.into_bytes())
}

fn text_score(load: &mut Load<'_>) -> Option<Vec<u8>> {
    Some(match load.number::<1>()?[0] {
        255 => b"-inf".to_vec(),
        254 => b"inf".to_vec(),
        253 => return None,
        length => load.take(length.into())?.to_vec(),
    })
}

fn quicklist(load: &mut Load<'_>, form: Form) -> Option<Elements> {
    let count = load.length()?;
    let mut elements = Vec::new();
    for _ in 0..count {
        let kind = if form == Form::ListQuicklist2 { load.length()? } else { PACKED };
        let node = load.string()?;
        match kind {
            PLAIN => elements.push(node),
            PACKED if form == Form::ListQuicklist => {
                elements.extend(owned(packed::ziplist(&node).ok()?));
            }
            PACKED => elements.extend(owned(packed::listpack(&node).ok()?)),
            _ => return None,
        }
        if elements.len() > packed::ENTRIES_MAX {
            return None;
        }
    }
    Some(Elements::List(elements))
}

fn packed_form(load: &mut Load<'_>, form: Form) -> Option<Elements> {
    if form == Form::HashListpackTimes {
        let _earliest_ms = load.time()?;
    }
    let bytes = load.string()?;
    let entries = match form {
        Form::HashZipmap => packed::zipmap(&bytes),
        Form::SetIntset => packed::intset(&bytes),
        Form::ListZiplist | Form::ZsetZiplist | Form::HashZiplist => packed::ziplist(&bytes),
        _ => packed::listpack(&bytes),
    };
    let mut entries = owned(entries.ok()?);
    Some(match form {
        Form::ListZiplist => Elements::List(entries.collect()),
        Form::SetIntset | Form::SetListpack => Elements::Set(entries.collect()),
        Form::ZsetZiplist | Form::ZsetListpack => {
            let mut members = Vec::new();
            while let Some(member) = entries.next() {
                members.push((member, entries.next()?));
            }
            Elements::Zset(members)
        }
        _ => {
            let mut fields = Vec::new();
            while let Some(field) = entries.next() {
                let value = entries.next()?;
                let at_ms = match form {
                    Form::HashListpackTimes => {
                        std::str::from_utf8(&entries.next()?).ok()?.parse().ok()?
                    }
                    _ => 0,
                };
                fields.push((field, value, at_ms));
            }
            Elements::Hash(fields)
        }
    })
}

fn owned(entries: Entries<'_>) -> impl Iterator<Item = Vec<u8>> {
    entries.into_iter().map(Cow::into_owned)
}
