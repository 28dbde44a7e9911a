//! Objects: the bytes of one file, as one zstd stream, named by the hash of what is in it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use crate::{ObjectId, Store, StoreError, files};

/// The most uncompressed bytes in one zstd frame of an object; what a writer is given at a time.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The most compressed bytes of such a frame: zstd never adds more than this.
pub const FRAME_STORED_MAX: usize = FRAME_BYTES_MAX + FRAME_BYTES_MAX / 128 + 1024;
/// A zstd frame of no bytes (RFC 8878: magic, a single segment of size 0, one last raw block).
const EMPTY_FRAME: [u8; 9] = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00];
/// Frames of a mebibyte need no larger window; a stream that asks for more is not ours.
const WINDOW_LOG_MAX: u32 = 23;
/// How much is read, hashed and handed on at a time.
const READ_BYTES: usize = 128 << 10;

/// An object that is being written. Dropped before [`ObjectWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct ObjectWriter {
    store: Store,
    file: BufWriter<File>,
    scratch: PathBuf,
    id: ObjectId,
    size: u64,
    hasher: blake3::Hasher,
    seen: u64,
    stored: u64,
    plain: Vec<u8>,
}

impl ObjectWriter {
    /// Adds one zstd frame (or several) that holds at most [`FRAME_BYTES_MAX`] bytes. It is
    /// decompressed and hashed here, and stored as it came.
    ///
    /// # Errors
    /// It is no zstd frame, is too large, or the object grows past its announced size.
    pub fn frame(&mut self, compressed: &[u8]) -> Result<(), StoreError> {
        if compressed.len() > FRAME_STORED_MAX {
            return Err(self.reject(format!("a frame has {} bytes", compressed.len())));
        }
        self.plain.clear();
        self.plain.reserve(FRAME_BYTES_MAX);
        let plain = zstd::bulk::Decompressor::new()
            .and_then(|mut zstd| zstd.decompress_to_buffer(compressed, &mut self.plain));
        if let Err(error) = plain {
            return Err(self.reject(format!("a frame does not decompress: {error}")));
        }
        self.seen += self.plain.len() as u64;
        if self.seen > self.size {
            return Err(self.reject(format!("more came than the {} bytes announced", self.size)));
        }
        self.hasher.update(&self.plain);
        self.stored += compressed.len() as u64;
        self.file.write_all(compressed).map_err(StoreError::io("write", &self.scratch))
    }

    /// Compares size and hash with what was announced, syncs and gives the object its name.
    /// Returns its stored size.
    ///
    /// # Errors
    /// The bytes are not those announced, or the disk failed; nothing is stored then.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        if self.stored == 0 {
            // A zstd stream has at least one frame, also where it holds nothing.
            self.frame(&EMPTY_FRAME)?;
        }
        if self.seen != self.size {
            let why = format!("{} bytes came where {} were announced", self.seen, self.size);
            return Err(self.reject(why));
        }
        if *self.hasher.finalize().as_bytes() != self.id.0 {
            return Err(self.reject("what came has another hash than announced".to_owned()));
        }
        self.file.flush().map_err(StoreError::io("write", &self.scratch))?;
        self.file.get_ref().sync_all().map_err(StoreError::io("sync", &self.scratch))?;
        let path = self.store.object_path(&self.id);
        let dir = path.parent().expect("an object's path has a directory");
        files::make_dir(dir)?;
        // Another writer may have stored the same bytes meanwhile; theirs stay.
        if path.exists() {
            return fs::metadata(&path).map(|m| m.len()).map_err(StoreError::io("read", &path));
        }
        fs::rename(&self.scratch, &path).map_err(StoreError::io("rename", &path))?;
        files::sync_dir(dir)?;
        Ok(self.stored)
    }

    /// Uncompressed bytes so far.
    pub fn received(&self) -> u64 {
        self.seen
    }

    fn reject(&self, why: String) -> StoreError {
        StoreError::Rejected { name: format!("object {}", self.id), why }
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        // After a rename there is nothing there any more.
        let _ = fs::remove_file(&self.scratch);
    }
}

impl Store {
    /// The stored size of an object, if the store has it. It says nothing of its health.
    pub fn stored_size(&self, id: &ObjectId) -> Option<u64> {
        fs::metadata(self.object_path(id)).ok().map(|meta| meta.len())
    }

    /// Begins to write an object that has this hash and this many bytes.
    ///
    /// # Errors
    /// The disk failed.
    pub fn object_writer(&self, id: ObjectId, size: u64) -> Result<ObjectWriter, StoreError> {
        let scratch = files::scratch(&self.tmp());
        let file = File::create_new(&scratch).map_err(StoreError::io("make", &scratch))?;
        Ok(ObjectWriter {
            store: self.clone(),
            file: BufWriter::with_capacity(READ_BYTES, file),
            scratch,
            id,
            size,
            hasher: blake3::Hasher::new(),
            seen: 0,
            stored: 0,
            plain: Vec::new(),
        })
    }

    /// Reads an object back into `sink`, never more than `size` bytes of it, and compares size and
    /// hash. What went into the sink is only good if this returns Ok. `sink` is told each piece.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the object and what is wrong with it; an error of the sink is
    /// [`StoreError::Io`].
    pub fn read_object(
        &self,
        id: &ObjectId,
        size: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.object_path(id);
        let damaged = |why: String| StoreError::damaged(&path, why);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("the object is missing".to_owned()));
            }
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let mut zstd = zstd::stream::read::Decoder::with_buffer(BufReader::new(file))
            .map_err(StoreError::io("decompress", &path))?;
        zstd.window_log_max(WINDOW_LOG_MAX).map_err(StoreError::io("decompress", &path))?;
        let (mut hasher, mut seen) = (blake3::Hasher::new(), 0);
        let mut piece = vec![0; READ_BYTES];
        loop {
            // The decoder reports a stream that ends within a frame as an error too.
            let n = zstd
                .read(&mut piece)
                .map_err(|error| damaged(format!("it does not decompress: {error}")))?;
            if n == 0 {
                break;
            }
            seen += n as u64;
            if seen > size {
                return Err(damaged(format!("it holds more than its {size} bytes")));
            }
            hasher.update(&piece[..n]);
            sink(&piece[..n])?;
        }
        if seen != size {
            return Err(damaged(format!("it ends after {seen} of {size} bytes")));
        }
        if *hasher.finalize().as_bytes() != id.0 {
            return Err(damaged("its bytes have another hash than its name says".to_owned()));
        }
        Ok(())
    }

    /// Takes a damaged object out of the way, beside its place, so that its bytes can be stored
    /// again. Snapshots that name it are whole again once they are.
    ///
    /// # Errors
    /// The disk failed.
    pub fn set_aside(&self, id: &ObjectId) -> Result<PathBuf, StoreError> {
        let path = self.object_path(id);
        let aside = path.with_extension("damaged");
        fs::rename(&path, &aside).map_err(StoreError::io("rename", &path))?;
        Ok(aside)
    }

    /// Where an object lies.
    pub fn object_path(&self, id: &ObjectId) -> PathBuf {
        let name = id.to_string();
        self.objects().join(&name[..2]).join(format!("{name}.zst"))
    }
}
