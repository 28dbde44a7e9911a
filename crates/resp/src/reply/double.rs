//! Numbers with a fraction, as Redis prints them.

/// Formats doubles without allocating: integers as integers, everything else as the shortest
/// digits that read back to the same number, `inf`, `-inf` and `nan`.
#[derive(Clone, Default)]
pub struct Double {
    text: [u8; 32],
}

impl Double {
    /// A buffer for one number.
    pub const fn new() -> Self {
        Self { text: [0; 32] }
    }

    /// The number's text.
    pub fn format(&mut self, value: f64) -> &[u8] {
        // Exact below 2^53, and what Redis prints for scores that are whole.
        const WHOLE: f64 = 9_007_199_254_740_992.0;
        let length = if value.is_nan() {
            self.put(0, b"nan")
        } else if value.is_infinite() {
            self.put(0, if value > 0.0 { b"inf" } else { b"-inf" })
        } else if value == 0.0 {
            self.put(0, if value.is_sign_negative() { b"-0" } else { b"0" })
        } else if value.fract() == 0.0 && value.abs() < WHOLE {
            #[allow(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            let whole = value as i64;
            self.put(0, itoa::Buffer::new().format(whole).as_bytes())
        } else {
            let mut buffer = ryu::Buffer::new();
            let text = buffer.format_finite(value);
            match text.split_once('e') {
                None => self.put(0, text.strip_suffix(".0").unwrap_or(text).as_bytes()),
                Some((digits, exponent)) => {
                    let digits = digits.strip_suffix(".0").unwrap_or(digits);
                    let at = self.put(0, digits.as_bytes());
                    let sign: &[u8] = if exponent.starts_with('-') { b"e" } else { b"e+" };
                    let at = self.put(at, sign);
                    self.put(at, exponent.as_bytes())
                }
            }
        };
        &self.text[..length]
    }

    /// Puts text at `at`; where it ends. The longest double is 24 bytes, so it always fits.
    fn put(&mut self, at: usize, text: &[u8]) -> usize {
        let end = at + text.len();
        self.text[at..end].copy_from_slice(text);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::Double;

    #[test]
    fn doubles_print_as_redis_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (3.25, "3.25"),
            (1e300, "1e+300"),
            (1.5e-9, "1.5e-9"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-f64::MAX, "-1.7976931348623157e+308"),
            (-f64::MIN_POSITIVE, "-2.2250738585072014e-308"),
        ] {
            assert_eq!(Double::new().format(value), text.as_bytes(), "{text}");
        }
    }
}
