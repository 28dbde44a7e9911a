//! Reading a snapshot back.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{Snapshot, Store, StoreError};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    /// Objects that were read back.
    pub objects: u64,
    /// Their bytes, uncompressed.
    pub bytes: u64,
    /// What is damaged, a sentence each; the first [`Verification::DAMAGE_MAX`] of it.
    pub damage: Vec<String>,
}

impl Verification {
    /// After this much the rest is not worth naming.
    pub const DAMAGE_MAX: usize = 1_000;

    fn found(&mut self, error: StoreError) -> Result<(), StoreError> {
        match error {
            StoreError::Damaged { .. } if self.damage.len() < Self::DAMAGE_MAX => {
                self.damage.push(error.to_string());
                Ok(())
            }
            StoreError::Damaged { .. } => Ok(()),
            other => Err(other),
        }
    }
}

impl Store {
    /// Reads every object of a snapshot back, decompresses it within its size and compares hash and
    /// size. If all are good the snapshot is marked verified, and if not an older mark is removed.
    /// `progress` is told the bytes that were read.
    ///
    /// # Errors
    /// The disk failed in another way than damage: nothing is known then.
    pub fn verify(
        &self,
        snapshot: &Snapshot,
        now: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Verification, StoreError> {
        let mut result = Verification::default();
        let mut seen = BTreeSet::new();
        for n in 0..snapshot.shards.len() {
            let manifest = match self.manifest(snapshot, n) {
                Ok(manifest) => manifest,
                Err(error) => {
                    result.found(error)?;
                    continue;
                }
            };
            for file in &manifest.files {
                if !seen.insert((file.blake3, file.size)) {
                    continue;
                }
                let read = self.read_object(&file.blake3, file.size, &mut |piece| {
                    progress(piece.len() as u64);
                    Ok(())
                });
                result.objects += 1;
                match read {
                    Ok(()) => result.bytes += file.size,
                    Err(error) => result.found(error)?,
                }
            }
        }
        self.mark(snapshot, result.damage.is_empty().then_some(now))?;
        Ok(result)
    }
}
