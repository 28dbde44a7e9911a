//! Where a value ends.

use std::io::Read;

use super::Error;
use super::source::Source;
use crate::Form;

/// Whether a form is a count and so many items.
pub(super) const fn is_counted(form: Form) -> bool {
    matches!(
        form,
        Form::List
            | Form::Set
            | Form::Hash
            | Form::Zset
            | Form::ZsetText
            | Form::ListQuicklist
            | Form::ListQuicklist2
            | Form::HashFields
    )
}

/// Passes one item of such a form.
pub(super) fn pass_item<R: Read>(source: &mut Source<R>, form: Form) -> Result<(), Error> {
    match form {
        Form::Hash => source.string()?,
        Form::HashFields => {
            source.length()?;
            source.string()?;
        }
        Form::ListQuicklist2 => drop(source.length()?),
        _ => {}
    }
    source.string()?;
    match form {
        Form::Zset => source.pass(8),
        Form::ZsetText => match source.byte()? {
            // Not a number, infinite, infinite below zero: there is no text.
            253..=255 => Ok(()),
            length => source.pass(length.into()),
        },
        _ => Ok(()),
    }
}

/// Passes a value that is no such form.
pub(super) fn pass<R: Read>(source: &mut Source<R>, form: Form) -> Result<(), Error> {
    match form {
        Form::HashListpackTimes => {
            source.pass(8)?;
            source.string()
        }
        Form::Stream1 | Form::Stream2 | Form::Stream3 => pass_stream(source, form),
        _ => source.string(),
    }
}

/// An id of a stream's entry, where it is not written as two numbers.
const ID_BYTES: u64 = 16;
const TIME_BYTES: u64 = 8;

fn pass_stream<R: Read>(source: &mut Source<R>, form: Form) -> Result<(), Error> {
    let numbers = |source: &mut Source<R>, count: usize| {
        (0..count).try_for_each(|_| source.length().map(drop))
    };
    for _ in 0..source.length()? {
        source.string()?;
        source.string()?;
    }
    // How many entries, the last id; then the first id, the greatest that was deleted, how many
    // there ever were.
    numbers(source, if form == Form::Stream1 { 3 } else { 8 })?;
    for _ in 0..source.length()? {
        source.string()?;
        numbers(source, if form == Form::Stream1 { 2 } else { 3 })?;
        for _ in 0..source.length()? {
            source.pass(ID_BYTES + TIME_BYTES)?;
            source.length()?;
        }
        for _ in 0..source.length()? {
            source.string()?;
            source.pass(if form == Form::Stream3 { 2 * TIME_BYTES } else { TIME_BYTES })?;
            for _ in 0..source.length()? {
                source.pass(ID_BYTES)?;
            }
        }
    }
    Ok(())
}

/// Passes what a module wrote: each piece says what it is.
pub(super) fn pass_module<R: Read>(source: &mut Source<R>) -> Result<(), Error> {
    loop {
        source.forget();
        match source.length()? {
            0 => return Ok(()),
            1 | 2 => drop(source.length()?),
            3 => source.pass(4)?,
            4 => source.pass(8)?,
            5 => source.string()?,
            _ => return Err(source.damaged("a piece of a module's value of no known kind")),
        }
    }
}

/// A module's name for a type: nine characters of six bits, above a version of ten.
pub(super) fn module_kind(id: u64) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let character = |place: u64| CHARACTERS[(id >> (10 + 6 * place) & 63) as usize];
    (0..9).rev().map(|place| char::from(character(place))).collect()
}
