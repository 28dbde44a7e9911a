//! Rows of Parquet files with flat columns.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use csv::ByteRecord;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;

pub(super) struct Columnar {
    rows: RowIter<'static>,
    read: u64,
    text: Vec<u8>,
}

impl Columnar {
    /// Opens a file; the second is the names of its columns.
    pub(super) fn open(path: &Path) -> anyhow::Result<(Self, Vec<String>)> {
        let shown = || path.display().to_string();
        if path == Path::new("-") {
            bail!("a Parquet file is read from its end: give its name, not `-`");
        }
        let file = File::open(path).with_context(|| format!("opening {}", shown()))?;
        let reader = SerializedFileReader::new(file)
            .with_context(|| format!("{} is no Parquet file that can be read", shown()))?;
        let schema = reader.metadata().file_metadata().schema();
        let columns = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok((Self { rows, read: 0, text: Vec::new() }, columns))
    }

    /// The next row's number, and why it cannot be used, if it cannot.
    pub(super) fn read(
        &mut self,
        record: &mut ByteRecord,
        null: &[u8],
    ) -> anyhow::Result<Option<(u64, Option<String>)>> {
        let Some(row) = self.rows.next().transpose()? else { return Ok(None) };
        self.read += 1;
        record.clear();
        let mut wrong = None;
        for (name, field) in row.get_column_iter() {
            self.text.clear();
            match field {
                Field::Null => self.text.extend_from_slice(null),
                Field::Str(text) => self.text.extend_from_slice(text.as_bytes()),
                Field::Bytes(bytes) => self.text.extend_from_slice(bytes.data()),
                Field::Double(number) => write!(self.text, "{number}")?,
                Field::Float(number) => write!(self.text, "{number}")?,
                Field::TimestampMillis(ms) => write!(self.text, "{ms}")?,
                Field::TimestampMicros(us) => write!(self.text, "{us}")?,
                Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
                    wrong = Some(format!("its column `{name}` holds a list or a group"));
                }
                // Numbers, truth values, decimals and dates, as they print.
                other => write!(self.text, "{other}")?,
            }
            record.push_field(&self.text);
        }
        Ok(Some((self.read, wrong)))
    }
}
