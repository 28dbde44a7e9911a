//! Streams for servers that are older than their bytes.

use crate::Form;
use crate::payload::Load;

/// An id of an entry, where it is not written as two numbers.
const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

/// A stream as of Redis 7.2 (a form and a value) as Redis 7.0 takes it: without the times at which
/// consumers last got something, which it does not know. `None`: it is none, or makes no sense.
pub fn as_of_7_0(body: &[u8]) -> Option<Vec<u8>> {
    let mut load = Load::bare(body);
    if load.form()? != Form::Stream3 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len());
    out.push(Form::Stream2 as u8);
    let mut copied = 1;
    for _ in 0..load.length()? {
        load.string()?;
        load.string()?;
    }
    // How many entries, the last id, the first, the greatest that was deleted, how many ever.
    numbers(&mut load, 8)?;
    for _ in 0..load.length()? {
        load.string()?;
        numbers(&mut load, 3)?;
        for _ in 0..load.length()? {
            load.take(ID_BYTES + TIME_BYTES)?;
            load.length()?;
        }
        for _ in 0..load.length()? {
            load.string()?;
            load.take(TIME_BYTES)?;
            out.extend_from_slice(body.get(copied..body.len() - load.left())?);
            load.take(TIME_BYTES)?;
            copied = body.len() - load.left();
            for _ in 0..load.length()? {
                load.take(ID_BYTES)?;
            }
        }
    }
    load.end()?;
    out.extend_from_slice(body.get(copied..)?);
    Some(out)
}

fn numbers(load: &mut Load<'_>, count: usize) -> Option<()> {
    (0..count).try_for_each(|_| load.length().map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Dump;

    /// A stream with a group of two consumers, with or without the times.
    fn stream(form: Form) -> Vec<u8> {
        let mut dump = Dump::new(form);
        dump.length(1);
        dump.string(&[1; ID_BYTES]);
        dump.string(b"a listpack");
        (0..8).for_each(|number| dump.length(number));
        dump.length(1);
        dump.string(b"group");
        (0..3).for_each(|number| dump.length(number));
        dump.length(1);
        dump.bytes(&[2; ID_BYTES + TIME_BYTES]);
        dump.length(1);
        dump.length(2);
        for (name, pending) in [("ann", 1), ("bob", 0)] {
            dump.string(name.as_bytes());
            dump.time(1000);
            if form == Form::Stream3 {
                dump.time(2000);
            }
            dump.length(pending);
            (0..pending).for_each(|_| dump.bytes(&[2; ID_BYTES]));
        }
        dump.into_bytes()
    }

    #[test]
    fn only_what_an_older_server_does_not_know_is_left_out() {
        let new = stream(Form::Stream3);
        assert_eq!(as_of_7_0(&new), Some(stream(Form::Stream2)));
        assert_eq!(as_of_7_0(&stream(Form::Stream2)), None);
        for end in 0..new.len() {
            assert_eq!(as_of_7_0(&new[..end]), None, "cut at {end}");
        }
    }
}
