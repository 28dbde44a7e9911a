//! A tar archive of a few small files (POSIX.1-2017, pax, "ustar Interchange Format").

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;
/// The longest name that fits without a prefix, in bytes.
const NAME_MAX: usize = 100;

/// An archive that grows file by file.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// Adds a file, which its owner may read and write; `at` is seconds since 1970. A name longer than
    /// [`NAME_MAX`] loses its end.
    pub(crate) fn add(&mut self, name: &str, content: &[u8], at: u64) {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, &name.as_bytes()[..name.len().min(NAME_MAX)]);
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", at & 0o77_777_777_777).as_bytes());
        // The sum is taken over the header with spaces where the sum will be.
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        let padding = content.len().next_multiple_of(BLOCK) - content.len();
        self.0.resize(self.0.len() + padding, 0);
    }

    /// The archive with its end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_tar_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.tar");
        let mut tar = Tar::default();
        tar.add("a/empty", b"", 0);
        tar.add("a/block", &[b'x'; BLOCK], 1_795_335_600);
        tar.add("b.txt", b"hello", 1_795_335_600);
        std::fs::write(&path, tar.finish()).unwrap();
        let read = |args: &[&str]| {
            let run = std::process::Command::new("tar").args(args).arg(&path).output().unwrap();
            assert!(run.status.success(), "{run:?}");
            String::from_utf8(run.stdout).unwrap()
        };
        assert_eq!(read(&["-tf"]), "a/empty\na/block\nb.txt\n");
        let said = std::process::Command::new("tar").arg("-xOf").arg(&path).arg("b.txt").output();
        assert_eq!(said.unwrap().stdout, b"hello");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (3 * 512 + 2 * 512 + 1024) as u64);
    }
}
