//! Numbers as C's `printf` writes them with `%.Ng`.

use std::fmt::Write;

/// Appends a finite number, with at most so many significant digits.
pub(super) fn general(out: &mut Vec<u8>, value: f64, precision: usize) {
    let precision = precision.max(1);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{value:.*e}", precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        out.extend_from_slice(trimmed(digits).as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
    } else {
        let after_point = (precision as i32 - 1 - exponent).max(0) as usize;
        out.extend_from_slice(trimmed(&format!("{value:.after_point$}")).as_bytes());
    }
}

/// Without the zeros at the end of a fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn numbers_are_those_of_printf() {
        for (value, precision, text) in [
            (0.0, 14, "0"),
            (100.0, 14, "100"),
            (0.1, 14, "0.1"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1e14, 14, "1e+14"),
            (99_999_999_999_999.0, 14, "99999999999999"),
            (123_456_789_012_345.0, 14, "1.2345678901234e+14"),
            (1e-5, 14, "1e-05"),
            (0.0001, 14, "0.0001"),
            (-2.5, 14, "-2.5"),
            (1e300, 14, "1e+300"),
            (3.3, 17, "3.2999999999999998"),
            (12345.678, 3, "1.23e+04"),
        ] {
            let mut out = Vec::new();
            general(&mut out, value, precision);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}
