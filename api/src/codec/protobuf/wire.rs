//! The wire format: tags, varints, lengths. Nothing is copied or allocated while reading.

use super::super::CodecError;

type Result<T> = std::result::Result<T, CodecError>;

/// One value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong_type()),
        }
    }
    pub(super) fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| error("proto: field contains invalid UTF-8"))
    }
    pub(super) fn varint(self) -> Result<u64> {
        match self {
            Wire::Varint(number) => Ok(number),
            _ => Err(wrong_type()),
        }
    }
}

pub(super) fn error(text: &str) -> CodecError {
    CodecError::Protobuf(text.to_owned())
}

fn wrong_type() -> CodecError {
    error("proto: wrong wireType")
}

/// The fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; none at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|number| *number > 0 && *number < 1 << 29);
        let number = number.ok_or_else(|| error("proto: illegal tag"))?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(
                self.take(8)?.try_into().expect("eight bytes were taken"),
            )),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| end())?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            // Groups were never used by Kubernetes.
            _ => return Err(error("proto: illegal wireType")),
        };
        Ok(Some((number, value)))
    }

    /// The next number of a packed list; none at the end.
    pub(super) fn packed(&mut self) -> Result<Option<u64>> {
        if self.rest.is_empty() {
            Ok(None)
        } else {
            self.varint().map(Some)
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(end)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for (at, byte) in self.rest.iter().enumerate() {
            if at == 9 && *byte > 1 {
                return Err(error("proto: integer overflow"));
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(end())
    }
}

fn end() -> CodecError {
    error("unexpected EOF")
}

pub(super) fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn write_number(out: &mut Vec<u8>, field: u32, number: u64) {
    write_varint(out, u64::from(field) << 3);
    write_varint(out, number);
}

pub(super) fn write_fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    write_varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn write_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    write_varint(out, u64::from(field) << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a nested message: its content first, then its length is moved before it.
pub(super) fn nested(out: &mut Vec<u8>, field: u32, content: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    write_varint(out, u64::from(field) << 3 | 2);
    let start = out.len();
    content(out)?;
    let end = out.len();
    write_varint(out, (end - start) as u64);
    let length_bytes = out.len() - end;
    out[start..].rotate_right(length_bytes);
    Ok(())
}
