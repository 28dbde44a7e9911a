//! HyperLogLog sketches, byte for byte as Redis keeps them in strings (Redis: hyperloglog.c): a
//! header of 16 bytes, then 16384 registers, either dense, six bits each, or sparse, as runs:
//!
//! | first byte | run |
//! |---|---|
//! | `00xxxxxx` | x + 1 registers are zero |
//! | `01xxxxxx yyyyyyyy` | xy + 1 registers are zero |
//! | `1vvvvvxx` | x + 1 registers are v + 1 |

mod registers;

pub(super) use registers::Registers;

/// How many registers there are; 14 bits of an element's hash say which is its own.
pub(super) const REGISTERS: usize = 1 << 14;
/// The bits of the hash that are looked at for a run of zeros.
const RUN_BITS: u32 = 64 - 14;
const HEADER: usize = 16;
const DENSE_BYTES: usize = HEADER + REGISTERS * 6 / 8;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// The greatest value that a sparse run can have.
const SPARSE_VALUE_MAX: u8 = 32;

/// A sketch whose runs do not make up 16384 registers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// Whether bytes can be a sketch, as far as their header and length say.
pub(super) fn is_sketch(bytes: &[u8]) -> bool {
    let encoding = bytes.get(4).copied();
    let fits = encoding == Some(SPARSE) || encoding == Some(DENSE) && bytes.len() == DENSE_BYTES;
    bytes.len() >= HEADER && bytes.starts_with(b"HYLL") && fits
}

/// Whether a sketch is sparse.
pub(super) fn is_sparse(sketch: &[u8]) -> bool {
    sketch[4] == SPARSE
}

/// The count that is kept in the header, while it is right.
pub(super) fn kept_count(sketch: &[u8]) -> Option<u64> {
    let kept = u64::from_le_bytes(*sketch[8..HEADER].first_chunk()?);
    (kept >> 63 == 0).then_some(kept)
}

/// Registers one after the other that have one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) value: u8,
    pub(super) len: usize,
    /// Bytes that spell it.
    bytes: usize,
}

/// As PFDEBUG DECODE shows it.
impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.value, self.bytes) {
            (0, 1) => write!(f, "z:{}", self.len),
            (0, _) => write!(f, "Z:{}", self.len),
            (value, _) => write!(f, "v:{value},{}", self.len),
        }
    }
}

/// The run that begins these bytes, if there is one.
fn run(bytes: &[u8]) -> Option<Run> {
    let first = *bytes.first()?;
    Some(match first >> 6 {
        0 => Run { value: 0, len: usize::from(first & 0x3f) + 1, bytes: 1 },
        1 => {
            let len = usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(1)?);
            Run { value: 0, len: len + 1, bytes: 2 }
        }
        _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
    })
}

/// The runs of a sparse sketch, which make up all registers or are damaged.
pub(super) fn runs(sketch: &[u8]) -> Result<Vec<Run>, Damaged> {
    let (mut rest, mut found, mut total) = (&sketch[HEADER..], Vec::new(), 0);
    while !rest.is_empty() {
        let next = run(rest).ok_or(Damaged)?;
        total += next.len;
        if total > REGISTERS {
            return Err(Damaged);
        }
        found.push(next);
        rest = &rest[next.bytes..];
    }
    if total == REGISTERS { Ok(found) } else { Err(Damaged) }
}

/// Appends zeros or a value below 33, `len` registers.
fn spell(value: u8, len: usize, out: &mut Vec<u8>) {
    match (value, len - 1) {
        (0, less @ 0..64) => out.push(less as u8),
        (0, less) => out.extend_from_slice(&[0x40 | (less >> 8) as u8, less as u8]),
        (value, less) => out.push(0x80 | (value - 1) << 2 | less as u8),
    }
}

/// Which register an element has, and the value that it asks of it.
pub(super) fn place(element: &[u8]) -> (usize, u8) {
    const SEED: u64 = 0xadc8_3b19;
    let hash = murmur(element, SEED);
    let run = (hash >> 14 | 1 << RUN_BITS).trailing_zeros() + 1;
    (hash as usize & (REGISTERS - 1), run as u8)
}

/// MurmurHash2, 64 bits, by Austin Appleby.
fn murmur(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

fn dense_get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    let two = u16::from(registers[byte])
        | registers.get(byte + 1).map_or(0, |next| u16::from(*next) << 8);
    (two >> shift) as u8 & 0x3f
}

fn dense_set(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    let (mask, bits) = (0x3f_u16 << shift, u16::from(value) << shift);
    registers[byte] = registers[byte] & !(mask as u8) | bits as u8;
    if shift > 2 {
        let next = &mut registers[byte + 1];
        *next = *next & !((mask >> 8) as u8) | (bits >> 8) as u8;
    }
}

/// A sketch that can be changed.
pub(super) struct Sketch(Vec<u8>);

impl Sketch {
    /// Of nothing: one run of zeros.
    pub(super) fn new() -> Self {
        let mut bytes = b"HYLL".to_vec();
        bytes.push(SPARSE);
        bytes.resize(HEADER, 0);
        spell(0, REGISTERS, &mut bytes);
        Self(bytes)
    }

    /// Of bytes that [`is_sketch`].
    pub(super) const fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The count in the header is not right any more.
    pub(super) fn forget_count(&mut self) {
        self.0[HEADER - 1] |= 0x80;
    }

    pub(super) fn make_dense(&mut self) -> Result<(), Damaged> {
        if !is_sparse(&self.0) {
            return Ok(());
        }
        let runs = runs(&self.0)?;
        let mut dense = self.0[..HEADER].to_vec();
        dense[4] = DENSE;
        dense.resize(DENSE_BYTES, 0);
        let mut index = 0;
        for run in runs {
            if run.value > 0 {
                let all = index..index + run.len;
                all.for_each(|index| dense_set(&mut dense[HEADER..], index, run.value));
            }
            index += run.len;
        }
        self.0 = dense;
        Ok(())
    }

    /// Raises a register. Whether it was lower. A sparse sketch that would be longer than `bytes_max`
    /// becomes dense.
    pub(super) fn raise(
        &mut self,
        index: usize,
        value: u8,
        bytes_max: usize,
    ) -> Result<bool, Damaged> {
        if is_sparse(&self.0) {
            if value <= SPARSE_VALUE_MAX
                && let Some(raised) = self.raise_sparse(index, value, bytes_max)?
            {
                return Ok(raised);
            }
            self.make_dense()?;
        }
        let registers = &mut self.0[HEADER..];
        let raised = value > dense_get(registers, index);
        if raised {
            dense_set(registers, index, value);
        }
        Ok(raised)
    }

    /// `None`: there is no room for it.
    fn raise_sparse(
        &mut self,
        index: usize,
        value: u8,
        bytes_max: usize,
    ) -> Result<Option<bool>, Damaged> {
        // The run that the register is in, and the one before it.
        let (mut at, mut first, mut before) = (HEADER, 0, HEADER);
        let old = loop {
            let next = run(&self.0[at..]).ok_or(Damaged)?;
            if index < first + next.len {
                break next;
            }
            (before, at, first) = (at, at + next.bytes, first + next.len);
        };
        if old.value >= value {
            return Ok(Some(false));
        }
        let mut new = Vec::with_capacity(5);
        if index > first {
            spell(old.value, index - first, &mut new);
        }
        spell(value, 1, &mut new);
        let last = first + old.len - 1;
        if index < last {
            spell(old.value, last - index, &mut new);
        }
        let longer = self.0.len() + new.len() - old.bytes;
        if new.len() > old.bytes && longer > bytes_max {
            return Ok(None);
        }
        self.0.splice(at..at + old.bytes, new);
        self.merge_runs(before);
        self.forget_count();
        Ok(Some(true))
    }

    /// Makes one run of neighbours of one value, in the few runs from here on that can have become
    /// such.
    fn merge_runs(&mut self, mut at: usize) {
        const LOOKED_AT: usize = 5;
        for _ in 0..LOOKED_AT {
            let Some(this) = run(&self.0[at.min(self.0.len())..]) else { return };
            let next = run(&self.0[at + this.bytes..]);
            let merged = next.filter(|next| {
                this.value > 0 && this.value == next.value && this.len + next.len <= 4
            });
            match merged {
                Some(next) => {
                    let mut new = Vec::with_capacity(1);
                    spell(this.value, this.len + next.len, &mut new);
                    self.0.splice(at..at + 2, new);
                }
                None => at += this.bytes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registers(sketch: &Sketch) -> Vec<u8> {
        let mut all = Registers::new();
        all.merge(sketch.bytes()).unwrap();
        all.values().to_vec()
    }

    #[test]
    fn a_sketch_of_nothing_is_redis_own() {
        assert_eq!(Sketch::new().bytes(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
    }

    proptest! {
        #[test]
        fn sparse_and_dense_hold_the_same(
            raised in prop::collection::vec((0..REGISTERS, 1u8..=40), 0..300),
            bytes_max in prop::sample::select(vec![30usize, 300, 3000]),
        ) {
            let (mut sparse, mut dense) = (Sketch::new(), Sketch::new());
            dense.make_dense().unwrap();
            let mut plain = vec![0; REGISTERS];
            for (index, value) in raised {
                // Neighbours too, so that runs are merged and split.
                let index = index % 2048;
                let rises = value > plain[index];
                prop_assert_eq!(sparse.raise(index, value, bytes_max), Ok(rises));
                prop_assert_eq!(dense.raise(index, value, bytes_max), Ok(rises));
                plain[index] = plain[index].max(value);
            }
            prop_assert_eq!(registers(&sparse), plain.clone());
            prop_assert_eq!(registers(&dense), plain);
            prop_assert!(is_sketch(sparse.bytes()) && is_sketch(dense.bytes()));
        }

        #[test]
        fn damage_is_found_and_never_panics(
            runs in prop::collection::vec(any::<u8>(), 0..60), index in 0..REGISTERS, value in 1u8..=51,
        ) {
            let bytes = [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0", &runs[..]].concat();
            prop_assert!(is_sketch(&bytes));
            let whole = Registers::new().merge(&bytes).is_ok();
            let mut sketch = Sketch::of(bytes);
            if sketch.raise(index, value, 3000).is_ok() {
                prop_assert_eq!(Registers::new().merge(sketch.bytes()).is_ok(), whole);
            }
        }
    }
}
