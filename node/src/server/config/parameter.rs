//! What CONFIG knows of a parameter: how it is shown, checked, and changed.

use std::sync::{Mutex, PoisonError};

use super::super::session::Shared;
use super::fixed::{self, Fixed};
use super::limits;
use super::percentiles::{self, Percentiles};
use super::texts::{self, Text};
use crate::acl::Changed;
use crate::command::encoding::{THRESHOLDS, Threshold};
use crate::settings::{NUMBERS, Number, OUTPUT_LIMITS, OutputLimits, SWITCHES, Switch};

/// A change that was checked and can be made; what it means for connections.
pub(super) type Change = Box<dyn FnOnce(&Shared) -> Result<Changed, String>>;

/// Parameters that are neither numbers nor yes or no.
#[derive(Default)]
pub(in crate::server) struct Parameters {
    /// The password of `default`, as it was said last; empty where none was.
    password: Mutex<Vec<u8>>,
    /// Which percentiles INFO latencystats shows.
    pub(in crate::server) percentiles: Percentiles,
}

impl Parameters {
    fn password(&self) -> Vec<u8> {
        self.password.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows this as the password of `default`.
    pub(in crate::server) fn show_password(&self, password: &[u8]) {
        *self.password.lock().unwrap_or_else(PoisonError::into_inner) = password.to_vec();
    }
}

/// A parameter.
#[derive(Clone, Copy)]
pub(super) enum Parameter {
    Number(&'static Number),
    Switch(&'static Switch),
    /// A threshold of OBJECT ENCODING.
    Threshold(&'static Threshold),
    OutputLimits,
    Percentiles,
    Password,
    /// What others keep.
    Text(&'static Text),
    Fixed(&'static Fixed),
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Parameter> {
    let numbers = NUMBERS.into_iter().map(Parameter::Number);
    let switches = SWITCHES.into_iter().map(Parameter::Switch);
    let thresholds = THRESHOLDS.into_iter().map(Parameter::Threshold);
    let others = [Parameter::OutputLimits, Parameter::Percentiles, Parameter::Password];
    let texts = texts::ALL.iter().map(Parameter::Text);
    let fixed = fixed::ALL.iter().map(Parameter::Fixed);
    numbers.chain(switches).chain(thresholds).chain(others).chain(texts).chain(fixed)
}

/// The one of this name, in either case.
pub(super) fn named(name: &[u8]) -> Option<Parameter> {
    all().find(|one| one.names().any(|known| name.eq_ignore_ascii_case(known.as_bytes())))
}

/// No connection is concerned.
pub(super) fn change(change: impl FnOnce(&Shared) + 'static) -> Change {
    Box::new(move |shared| {
        change(shared);
        Ok(Changed::default())
    })
}

impl Parameter {
    /// Redis's names for it.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let (name, old_name) = match self {
            Self::Number(number) => (number.name, number.old_name),
            Self::Switch(switch) => (switch.name, None),
            Self::Threshold(threshold) => (threshold.name, threshold.old_name),
            Self::OutputLimits => ("client-output-buffer-limit", None),
            Self::Percentiles => ("latency-tracking-info-percentiles", None),
            Self::Password => ("requirepass", None),
            Self::Text(text) => (text.name, None),
            Self::Fixed(fixed) => (fixed.name, None),
        };
        std::iter::once(name).chain(old_name)
    }

    /// Whether both are the same.
    pub(super) fn is(self, other: &Self) -> bool {
        self.names().next() == other.names().next()
    }

    /// What it is.
    pub(super) fn get(self, shared: &Shared) -> Vec<u8> {
        match self {
            Self::Number(number) => number.get().to_string().into_bytes(),
            Self::Switch(switch) => switch.words[usize::from(switch.get())].as_bytes().to_vec(),
            Self::Threshold(threshold) => threshold.get().to_string().into_bytes(),
            Self::OutputLimits => limits::show(OUTPUT_LIMITS.all()).into_bytes(),
            Self::Percentiles => shared.parameters.percentiles.show().into_bytes(),
            Self::Password => shared.parameters.password(),
            Self::Text(text) => (text.get)(shared).into_bytes(),
            Self::Fixed(fixed) => (fixed.get)(shared).into_bytes(),
        }
    }

    /// Whether CONFIG REWRITE keeps it: it is not what it is at first, and kept nowhere else.
    pub(super) fn is_kept(self, shared: &Shared) -> bool {
        match self {
            Self::Number(number) => number.get() != number.default(),
            Self::Switch(switch) => switch.get() != switch.default(),
            Self::Threshold(threshold) => threshold.get() != threshold.default(),
            Self::OutputLimits => OUTPUT_LIMITS.all() != OutputLimits::DEFAULT,
            Self::Percentiles => shared.parameters.percentiles.show() != percentiles::DEFAULT,
            Self::Text(text) => (text.get)(shared) != text.default,
            // With the users.
            Self::Password | Self::Fixed(_) => false,
        }
    }

    /// A change to this value; why not, in Redis's words.
    pub(super) fn read(self, shared: &Shared, value: &[u8]) -> Result<Change, String> {
        const NO_INTEGER: &str = "argument couldn't be parsed into an integer";
        Ok(match self {
            Self::Number(number) => {
                let read = if number.in_bytes { bytes(value) } else { resp::integer(value) };
                let why =
                    if number.in_bytes { "argument must be a memory value" } else { NO_INTEGER };
                let value = read.ok_or(why)?;
                let (min, max) = number.bounds();
                if !(min..=max).contains(&value) {
                    return Err(format!("argument must be between {min} and {max} inclusive"));
                }
                change(move |_| number.set(value))
            }
            Self::Switch(switch) => {
                let is = |word: &&str| value.eq_ignore_ascii_case(word.as_bytes());
                let value = switch.words.iter().position(is).ok_or_else(|| match switch.words {
                    ["no", "yes"] => "argument must be 'yes' or 'no'".to_owned(),
                    words => {
                        let words = words.join(", ");
                        format!("argument(s) must be one of the following: {words}")
                    }
                })?;
                change(move |_| switch.set(value == 1))
            }
            Self::Threshold(threshold) => {
                let value = resp::integer(value).ok_or(NO_INTEGER)?;
                change(move |_| threshold.set(value))
            }
            Self::OutputLimits => {
                let limits = limits::read(value, OUTPUT_LIMITS.all())?;
                change(move |_| OUTPUT_LIMITS.set(limits))
            }
            Self::Percentiles => {
                let percentiles = percentiles::read(value)?;
                change(move |shared| shared.parameters.percentiles.set(percentiles))
            }
            Self::Password => password(value.to_vec()),
            Self::Text(text) => (text.read)(value)?,
            Self::Fixed(fixed) if (fixed.get)(shared).as_bytes() == value => change(|_| ()),
            Self::Fixed(_) => return Err("can't set immutable config".to_owned()),
        })
    }
}

/// `requirepass`: the password of `default`, kept with the users.
fn password(password: Vec<u8>) -> Change {
    Box::new(move |shared| {
        let rule = [b">", &password[..]].concat();
        let rules: [&[u8]; 2] =
            if password.is_empty() { [b"resetpass", b"nopass"] } else { [b"resetpass", &rule] };
        let changed = shared.users.set(b"default", rules.into_iter());
        let changed = changed.map_err(|why| why.to_string())?;
        shared.parameters.show_password(&password);
        Ok(changed)
    })
}

/// A size as Redis reads it: `1024`, `1k` (1000), `1kb` (1024), and so on.
pub(super) fn bytes(text: &[u8]) -> Option<i64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = resp::integer(&text[..digits])?;
    let unit = match &text[digits..].to_ascii_lowercase()[..] {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_redis() {
        for (text, value) in [("0", 0), ("12", 12), ("1k", 1000), ("1KB", 1024), ("2mb", 2 << 20)] {
            assert_eq!(bytes(text.as_bytes()), Some(value), "{text}");
        }
        for bad in ["", "-1", "mb", "1x", "99999999999gb"] {
            assert_eq!(bytes(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names: Vec<_> = all().flat_map(Parameter::names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
