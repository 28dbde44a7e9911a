//! `client-output-buffer-limit`: `normal 0 0 0 pubsub 32mb 8mb 60`.

use super::parameter::bytes;
use crate::settings::{OutputClass, OutputLimit};

/// As CONFIG GET shows them.
pub(super) fn show(limits: [OutputLimit; 3]) -> String {
    let names = ["normal", "slave", "pubsub"];
    let one = |(name, limit): (&str, OutputLimit)| {
        format!("{name} {} {} {}", limit.hard, limit.soft, limit.seconds)
    };
    names.into_iter().zip(limits).map(one).collect::<Vec<_>>().join(" ")
}

/// What is said, the other classes as they are.
pub(super) fn read(value: &[u8], mut limits: [OutputLimit; 3]) -> Result<[OutputLimit; 3], String> {
    let words = value.split(|&b| b == b' ').filter(|word| !word.is_empty());
    let words: Vec<&[u8]> = words.collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    for words in words.chunks_exact(4) {
        let class = match &words[0].to_ascii_lowercase()[..] {
            b"normal" => OutputClass::Normal,
            b"slave" | b"replica" => OutputClass::Replica,
            b"pubsub" => OutputClass::Pubsub,
            _ => {
                return Err(
                    "Invalid client class specified in buffer limit configuration.".to_owned()
                );
            }
        };
        let number = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok());
        let bad = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        let [hard, soft] = [bytes(words[1]), bytes(words[2])].map(number);
        let seconds = number(resp::integer(words[3]));
        let (Some(hard), Some(soft), Some(seconds)) = (hard, soft, seconds) else {
            return Err(bad.to_owned());
        };
        limits[class as usize] = OutputLimit { hard, soft, seconds };
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::OutputLimits;

    #[test]
    fn limits_are_read_as_they_are_shown() {
        let default = OutputLimits::DEFAULT;
        let shown = show(default);
        assert_eq!(shown, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
        assert_eq!(read(shown.as_bytes(), default), Ok(default));
        let changed = read(b"pubsub 1mb 512k 5", default).unwrap();
        assert_eq!(changed[2], OutputLimit { hard: 1 << 20, soft: 512_000, seconds: 5 });
        assert_eq!(changed[0], default[0]);
        for bad in ["", "normal 0 0", "nope 0 0 0", "normal x 0 0", "normal 0 0 -1"] {
            assert!(read(bad.as_bytes(), default).is_err(), "{bad}");
        }
    }
}
