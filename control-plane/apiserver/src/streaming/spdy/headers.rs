//! Header blocks: pairs of strings with lengths, compressed by one zlib stream per direction over the whole connection,
//! primed with the dictionary that the SPDY/3 draft prints in section 2.6.10.1.

use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;

/// A block after decompression. kubectl's have about 100 bytes.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024;
/// Fields of one block; kubectl sends three.
pub const FIELDS_MAX: usize = 64;

/// Lower-case names with their values, in order.
pub type Headers = Vec<(String, String)>;

/// The dictionary's words, each with its length in front …
const WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
    accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|\
    content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
    if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
    proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
    user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|\
    keep-alive|origin";
/// … and the text at its end.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug \
    Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=\
    utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::new();
    for word in WORDS.split('|') {
        push_text(&mut dictionary, word);
    }
    dictionary.extend_from_slice(TEXT.as_bytes());
    dictionary
});

fn push_text(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("headers of ours are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads blocks, in the order in which they came.
pub struct Inflater {
    zlib: Decompress,
    block: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            zlib: Decompress::new(true),
            // One byte more than allowed, so that a block that is too long shows.
            block: vec![0; BLOCK_BYTES_MAX + 1],
        }
    }
}

impl Inflater {
    pub fn read(&mut self, mut compressed: &[u8]) -> Result<Headers, SpdyError> {
        let mut filled = 0;
        while !compressed.is_empty() {
            let (taken, made) = (self.zlib.total_in(), self.zlib.total_out());
            let result = self
                .zlib
                .decompress(compressed, &mut self.block[filled..], FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - taken).map_err(|_| SpdyError::Compression)?;
            compressed = &compressed[taken..];
            filled += usize::try_from(self.zlib.total_out() - made).map_err(|_| SpdyError::Compression)?;
            if filled > BLOCK_BYTES_MAX {
                return Err(SpdyError::HeadersTooLong);
            }
            match result {
                // Without progress there never will be any.
                Ok(Status::Ok) if taken > 0 => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| SpdyError::Compression)?;
                }
                _ => return Err(SpdyError::Compression),
            }
        }
        parse(&self.block[..filled])
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, SpdyError> {
    let count = block.try_get_u32().map_err(|_| SpdyError::Headers)? as usize;
    if count > FIELDS_MAX {
        return Err(SpdyError::HeadersTooLong);
    }
    let mut text = || -> Result<String, SpdyError> {
        let length = block.try_get_u32().map_err(|_| SpdyError::Headers)? as usize;
        let bytes = block.get(..length).ok_or(SpdyError::Headers)?;
        let text = std::str::from_utf8(bytes).map_err(|_| SpdyError::Headers)?.to_owned();
        block.advance(length);
        Ok(text)
    };
    (0..count)
        .map(|_| Ok((text()?.to_ascii_lowercase(), text()?)))
        .collect()
}

/// Writes blocks.
pub struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&DICTIONARY)
            .expect("nothing has been compressed yet");
        Self(zlib)
    }
}

impl Deflater {
    pub fn write(&mut self, headers: &[(&str, &str)]) -> Bytes {
        let mut block = Vec::new();
        block.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (name, value) in headers {
            push_text(&mut block, name);
            push_text(&mut block, value);
        }
        // Room for the worst case, so that one call is enough: stored blocks, the zlib header and the flush.
        let mut out = Vec::with_capacity(block.len() + block.len() / 8 + 64);
        self.0
            .compress_vec(&block, &mut out, FlushCompress::Sync)
            .expect("a deflate stream takes any input");
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_dictionary_is_the_drafts() {
        // Adler-32 of it, which every zlib stream made with it carries.
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((DICTIONARY.len(), (b << 16) | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn a_bomb_is_refused() {
        let long = "x".repeat(BLOCK_BYTES_MAX);
        let bomb = Deflater::default().write(&[("a", &long)]);
        assert!(bomb.len() < 1000);
        assert_eq!(Inflater::default().read(&bomb).unwrap_err(), SpdyError::HeadersTooLong);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for block in [
            &[0, 0, 0, 1][..],
            &[0, 0, 0, 1, 255, 255, 255, 255],
            &[0, 0, 0, 1, 0, 0, 0, 9, 1],
            &[0, 0],
        ] {
            assert_eq!(parse(block).unwrap_err(), SpdyError::Headers, "{block:?}");
        }
        assert_eq!(parse(&[255, 255, 255, 255]).unwrap_err(), SpdyError::HeadersTooLong);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            blocks in proptest::collection::vec(proptest::collection::vec(("[a-z-]{1,20}", ".{0,60}"), 0..8), 1..5),
        ) {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            for block in blocks {
                let pairs: Vec<(&str, &str)> = block.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                prop_assert_eq!(inflater.read(&deflater.write(&pairs)).unwrap(), block);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Inflater::default().read(&bytes);
            let _ = parse(&bytes);
        }
    }
}
