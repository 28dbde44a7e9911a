//! A load: table files of RocksDB that were built outside of any node, and the manifest `load.json`
//! that names them. A node takes in the part that its slots are.
//!
//! The layout is in `docs/formats.md`, "Loads". What is read here is untrusted: lengths are bounded,
//! names cannot leave the directory, and the id proves that the manifest is whole.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use keyspace::{Cf, Hlc, SlotRange, SlotSet};
use serde::{Deserialize, Serialize};
use wal::Position;

use crate::{FileName, ObjectId, StoreError, files};

/// The file that makes a directory, or a prefix of a bucket, a load.
pub const MANIFEST: &str = "load.json";
/// The format of the manifest that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// A manifest is no longer than this: it fits into a message between sidecars.
pub const MANIFEST_BYTES_MAX: u64 = 15 << 20;
/// A load has no more files than this.
pub const FILES_MAX: usize = 20_000;

/// The name of a load: a hash of what is in it, but not of how its files are laid out. The same
/// rows, stamped alike, give the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LoadId(pub u128);

impl fmt::Display for LoadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LoadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LoadId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| "no id of a load: 32 hexadecimal digits".to_owned())
    }
}

impl From<LoadId> for String {
    fn from(id: LoadId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for LoadId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Where the records of a file belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// One record a key.
    Meta,
    /// Fields and members.
    Data,
    /// Members by their scores.
    Score,
}

impl Family {
    /// All of them, in the order in which a node takes them in: a record whose key's meta record is
    /// not there yet looks like garbage.
    pub const ALL: [Self; 3] = [Self::Meta, Self::Data, Self::Score];

    /// The column family.
    pub const fn cf(self) -> Cf {
        match self {
            Self::Meta => Cf::Meta,
            Self::Data => Cf::Data,
            Self::Score => Cf::Score,
        }
    }

    /// Its name in the manifest and at the start of its files' names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Data => "data",
            Self::Score => "score",
        }
    }
}

/// One file of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LoadFile {
    /// Its name in the directory.
    pub name: FileName,
    /// Where its records belong.
    pub family: Family,
    /// The slots from its first record to its last: `0-8191`.
    pub slots: SlotSet,
    /// How many records it has.
    pub records: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The BLAKE3 hash of its bytes.
    pub blake3: ObjectId,
    /// The xxh3 hash of its records: of each the length of the key and of the value, four bytes each,
    /// little endian, then both. Two builds of the same rows differ in the files' bytes (RocksDB
    /// writes its own names into them) and agree in this.
    pub content: ContentHash,
}

/// A hash of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContentHash(pub u128);

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        LoadId(hash.0).to_string()
    }
}

impl TryFrom<String> for ContentHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(|LoadId(hash)| Self(hash))
    }
}

/// Which moment of which database a load shows; one that was built of rows has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Origin {
    /// The id of the database, 32 hexadecimal digits.
    pub database: String,
    /// What its log says up to here is in the load, and nothing of what came after.
    pub position: Position,
    /// Every key of these slots that was live there is in the load.
    pub slots: SlotSet,
}

/// `load.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Load {
    /// Its format, 1.
    pub format: u32,
    /// Its name, from all that follows but the names, sizes and hashes of files.
    pub id: LoadId,
    /// The encoding of the records: [`keyspace::meta::ENCODING`].
    pub encoding: u32,
    /// The stamp of every record and the version of every collection in it. No two loads that a
    /// node takes in may have the same.
    pub stamp: Hlc,
    /// Where it was exported from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Rows that it was built of.
    pub rows: u64,
    /// Keys in it.
    pub keys: u64,
    /// Its files: meta, data, score, each in the order of their records.
    pub files: Vec<LoadFile>,
}

impl Load {
    /// A load of these files, with the id that comes of it.
    pub fn new(stamp: Hlc, rows: u64, keys: u64, files: Vec<LoadFile>) -> Self {
        let encoding = u32::from(keyspace::meta::ENCODING);
        let (id, origin) = (LoadId(0), None);
        let mut load = Self { format: FORMAT, id, encoding, stamp, origin, rows, keys, files };
        load.id = load.content_id();
        load
    }

    /// The same load, which was exported from there and not built of rows.
    #[must_use]
    pub fn exported_from(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self.id = self.content_id();
        self
    }

    fn content_id(&self) -> LoadId {
        let mut hash = blake3::Hasher::new();
        let head = [u64::from(self.encoding), self.stamp.0, self.rows, self.keys];
        for number in head {
            hash.update(&number.to_le_bytes());
        }
        for file in &self.files {
            hash.update(file.family.name().as_bytes());
            hash.update(file.slots.to_string().as_bytes());
            hash.update(&file.records.to_le_bytes());
            hash.update(&file.content.0.to_le_bytes());
        }
        if let Some(Origin { database, position, slots }) = &self.origin {
            hash.update(format!("{database} {position} {slots}").as_bytes());
        }
        let hash = *hash.finalize().as_bytes();
        let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        LoadId(u128::from_le_bytes(*first))
    }

    /// Reads a manifest; in words, what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(format!("it is longer than {MANIFEST_BYTES_MAX} bytes"));
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let why = |error: serde_json::Error| format!("it is no manifest of a load: {error}");
        let Format { format } = serde_json::from_slice(bytes).map_err(why)?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, and this version reads {FORMAT}: upgrade"
            ));
        }
        let load: Self = serde_json::from_slice(bytes).map_err(why)?;
        load.check()?;
        Ok(load)
    }

    /// Reads `load.json` of a directory.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(MANIFEST);
        let Some(bytes) = files::read(&path, MANIFEST_BYTES_MAX)? else {
            return Err(StoreError::Unusable {
                path: dir.to_owned(),
                why: format!(
                    "it has no {MANIFEST}: build one with `godwit-node build`, or copy it whole"
                ),
            });
        };
        Self::parse(&bytes).map_err(|why| StoreError::damaged(&path, why))
    }

    /// As it stands in the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("names and numbers have a JSON form");
        bytes.push(b'\n');
        bytes
    }

    fn check(&self) -> Result<(), String> {
        let known = u32::from(keyspace::meta::ENCODING);
        if self.encoding != known {
            return Err(format!(
                "its records have encoding {}, and this version knows {known}: build it again",
                self.encoding
            ));
        }
        if self.files.len() > FILES_MAX {
            return Err(format!(
                "it names {} files, and {FILES_MAX} is the most",
                self.files.len()
            ));
        }
        if self.stamp == Hlc(0) {
            return Err("its stamp is 0".to_owned());
        }
        let mut names = std::collections::BTreeSet::new();
        let mut before: Option<&LoadFile> = None;
        for file in &self.files {
            let name = &file.name;
            let [range] = file.slots.ranges() else {
                return Err(format!("the slots of {name} are no single range"));
            };
            if name.as_str() == MANIFEST || !names.insert(name.as_str()) {
                return Err(format!("the file {name} is named twice"));
            }
            let last = before.filter(|before| before.family == file.family);
            let follows = before.is_none_or(|before| before.family <= file.family);
            let above = |last: &LoadFile| last.range().last <= range.first;
            if !follows || !last.is_none_or(above) {
                return Err(format!("the file {name} is out of order"));
            }
            before = Some(file);
        }
        if self.id != self.content_id() {
            return Err("its id is not that of what it names: it was changed or cut".to_owned());
        }
        Ok(())
    }

    /// The files that hold records of these slots.
    pub fn files_of<'a>(&'a self, slots: &'a SlotSet) -> impl Iterator<Item = &'a LoadFile> {
        self.files.iter().filter(|file| !file.slots.intersection(slots).is_empty())
    }
}

impl LoadFile {
    /// From the slot of its first record to that of its last.
    pub fn range(&self) -> SlotRange {
        *self.slots.ranges().first().expect("a manifest's files were checked to have one range")
    }

    /// Whether all of its records are of these slots.
    pub fn is_within(&self, slots: &SlotSet) -> bool {
        self.slots.intersection(slots) == self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, family: Family, slots: &str) -> LoadFile {
        LoadFile {
            name: name.parse().unwrap(),
            family,
            slots: slots.parse().unwrap(),
            records: 3,
            size: 100,
            blake3: ObjectId([7; 32]),
            content: ContentHash(9),
        }
    }

    fn load() -> Load {
        let files = vec![
            file("meta-000001.sst", Family::Meta, "0-100"),
            file("meta-000002.sst", Family::Meta, "100-16383"),
            file("data-000001.sst", Family::Data, "3"),
        ];
        Load::new(Hlc::new(1_700_000_000_000, 9), 5, 3, files)
    }

    #[test]
    fn a_manifest_reads_back_and_names_the_files_of_slots() {
        let load = load();
        assert_eq!(Load::parse(&load.to_bytes()), Ok(load.clone()));
        let of = |slots: &str| {
            let slots = slots.parse().unwrap();
            load.files_of(&slots).map(|f| f.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("0-2"), ["meta-000001.sst"]);
        assert_eq!(of("100"), ["meta-000001.sst", "meta-000002.sst"]);
        assert_eq!(of("3"), ["meta-000001.sst", "data-000001.sst"]);
        assert!(load.files[0].is_within(&"0-100".parse().unwrap()));
        assert!(!load.files[0].is_within(&"0-99".parse().unwrap()));
    }

    #[test]
    fn the_id_is_of_the_records_and_not_of_the_files_bytes() {
        let (first, mut again) = (load(), load());
        again.files[0].blake3 = ObjectId([8; 32]);
        again.files[0].size = 101;
        assert_eq!(Load::new(again.stamp, 5, 3, again.files.clone()).id, first.id);
        again.files[0].content = ContentHash(10);
        assert_ne!(Load::new(again.stamp, 5, 3, again.files).id, first.id);
        assert_ne!(Load::new(Hlc(1), 5, 3, load().files).id, first.id);
    }

    #[test]
    fn an_export_says_which_moment_it_shows_and_cannot_be_made_to_say_another() {
        let origin = Origin {
            database: "0".repeat(32),
            position: format!("{:032x}@42", 7).parse().unwrap(),
            slots: "0-100".parse().unwrap(),
        };
        let exported = load().exported_from(origin);
        assert_ne!(exported.id, load().id);
        assert_eq!(Load::parse(&exported.to_bytes()), Ok(exported.clone()));
        let text = String::from_utf8(exported.to_bytes()).unwrap();
        let moved = text.replace("@42", "@43");
        assert!(Load::parse(moved.as_bytes()).unwrap_err().contains("changed or cut"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let why = |change: &dyn Fn(&mut Load)| {
            let mut wrong = load();
            change(&mut wrong);
            Load::parse(&wrong.to_bytes()).unwrap_err()
        };
        assert!(why(&|l| l.format = 2).contains("upgrade"));
        assert!(why(&|l| l.encoding = 9).contains("build it again"));
        assert!(why(&|l| l.rows = 6).contains("changed or cut"));
        assert!(why(&|l| l.files[1].name = l.files[0].name.clone()).contains("named twice"));
        assert!(why(&|l| l.files.swap(0, 1)).contains("out of order"));
        assert!(why(&|l| l.files.swap(0, 2)).contains("out of order"));
        assert!(Load::parse(b"{").is_err());
        let text = String::from_utf8(load().to_bytes()).unwrap();
        assert!(Load::parse(text.replace("meta-000001.sst", "../x").as_bytes()).is_err());
    }
}
