//! What is in a segment: frames, of which none is used before all were checked.

use wal::frame::FrameRef;
use wal::segment::{self, SegmentHeader, Tail};

use super::{ArchiveName, Segment};

/// The frames of a segment that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// Checks that these bytes are that segment of that archive.
    ///
    /// # Errors
    /// In words.
    pub fn check(
        archive: &ArchiveName,
        segment: &Segment,
        bytes: &'a [u8],
    ) -> Result<Self, String> {
        let name = segment.name(archive);
        let wrong = |why: &str| format!("{name} is damaged: {why}");
        let scan = segment::scan(bytes).map_err(|why| wrong(&why.to_string()))?;
        if scan.tail != Tail::Clean {
            return Err(wrong(&format!("its frames do not read to the end: {:?}", scan.tail)));
        }
        let header = archive.segment_header(segment);
        if scan.header != header || scan.end() != segment.end || scan.chain() != segment.chain {
            return Err(wrong("it is another segment than its record says"));
        }
        Ok(Self(&bytes[header.encoded_len()..]))
    }

    /// Checks that, and that each frame unpacks.
    ///
    /// # Errors
    /// In words.
    pub fn check_all(
        archive: &ArchiveName,
        segment: &Segment,
        bytes: &'a [u8],
    ) -> Result<(), String> {
        let mut scratch = Vec::new();
        Self::check(archive, segment, bytes)?
            .try_for_each(|frame| frame.decode(&mut scratch).map(drop))
            .map_err(|why| why.to_string())
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameRef<'a>;

    fn next(&mut self) -> Option<FrameRef<'a>> {
        // They were all read once.
        let (frame, len) = FrameRef::parse(self.0).ok().flatten()?;
        self.0 = &self.0[len..];
        Some(frame)
    }
}

impl ArchiveName {
    /// What a segment of this archive begins with.
    pub fn segment_header(&self, segment: &Segment) -> SegmentHeader {
        SegmentHeader {
            service: SegmentHeader::service_of(self.service()),
            source: self.shard(),
            start: segment.start,
            chain: segment.chain_before,
        }
    }
}
