//! How much loss an operator accepts.

use std::str::FromStr;

use ops::units::Span;

/// What may be missing on the new side, of all shards together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// What was acknowledged in this time, at the most.
    Time(Span),
    /// So many writes, where the end of each log is known; none with 0.
    Writes(u64),
    /// Whatever it is.
    Any,
}

impl Accept {
    /// Nothing may be missing.
    pub const NOTHING: Self = Self::Writes(0);
}

impl FromStr for Accept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "any" {
            return Ok(Self::Any);
        }
        let writes = text.strip_suffix("writes").or_else(|| text.strip_suffix("write"));
        if let Some(Ok(count)) = writes.map(|number| number.trim().parse()) {
            return Ok(Self::Writes(count));
        }
        text.parse().map(Self::Time).map_err(|_| {
            format!("`{text}` is no loss: write a time such as `3s`, a number such as `1000 writes`, or `any`")
        })
    }
}

impl std::fmt::Display for Accept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(span) => span.fmt(f),
            Self::Writes(count) => write!(f, "{count} writes"),
            Self::Any => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_reads_as_it_prints() {
        for (text, is) in [
            ("any", Accept::Any),
            ("3s", Accept::Time(Span::secs(3))),
            ("1000 writes", Accept::Writes(1000)),
        ] {
            assert_eq!(text.parse(), Ok(is));
            assert_eq!(is.to_string(), text);
        }
        for none in ["1000", "", "-1 writes", "writes", "everything"] {
            assert!(none.parse::<Accept>().unwrap_err().contains("1000 writes"), "{none}");
        }
    }
}
