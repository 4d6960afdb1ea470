//! One line of a CRI log file.

use jiff::Timestamp;

/// `2016-10-06T00:17:09.669794202Z stdout F content`; the tag is F for a whole line or its end, P for a piece of it.
pub(crate) struct Record<'a> {
    pub(crate) stamp: &'a [u8],
    pub(crate) stream: &'a [u8],
    pub(crate) partial: bool,
    pub(crate) content: &'a [u8],
}

impl<'a> Record<'a> {
    /// None for a line that is no record.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (stamp, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        if stream != b"stdout" && stream != b"stderr" {
            return None;
        }
        let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
        Some(Self {
            stamp,
            stream,
            partial,
            content: parts.next().unwrap_or_default(),
        })
    }

    pub(crate) fn time(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.stamp).ok()?.parse().ok()
    }
}
