//! The registers of several sketches together, and how many elements they stand for.

use super::{Damaged, HEADER, REGISTERS, RUN_BITS, dense_get, is_sparse, runs};

/// The value of every register.
pub(in crate::command) struct Registers(Vec<u8>);

impl Registers {
    pub(in crate::command) fn new() -> Self {
        Self(vec![0; REGISTERS])
    }

    /// Raises each to that of a sketch.
    pub(in crate::command) fn merge(&mut self, sketch: &[u8]) -> Result<(), Damaged> {
        if is_sparse(sketch) {
            let mut index = 0;
            for run in runs(sketch)? {
                let all = &mut self.0[index..index + run.len];
                all.iter_mut().for_each(|value| *value = run.value.max(*value));
                index += run.len;
            }
            return Ok(());
        }
        let registers = &sketch[HEADER..];
        for (index, value) in self.0.iter_mut().enumerate() {
            *value = dense_get(registers, index).max(*value);
        }
        Ok(())
    }

    /// All of them.
    pub(in crate::command) fn values(&self) -> &[u8] {
        &self.0
    }

    /// About how many elements made them: Ertl's estimator (arXiv:1702.01284), as Redis has it.
    pub(in crate::command) fn count(&self) -> u64 {
        let mut of = [0_u32; 64];
        self.0.iter().for_each(|value| of[usize::from(value & 0x3f)] += 1);
        let m = REGISTERS as f64;
        let last = RUN_BITS as usize;
        let mut z = m * tau((m - f64::from(of[last + 1])) / m);
        for count in of[1..=last].iter().rev() {
            z = (z + f64::from(*count)) * 0.5;
        }
        z += m * sigma(f64::from(of[0]) / m);
        (0.5 / std::f64::consts::LN_2 * m * m / z).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}
