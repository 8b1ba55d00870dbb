//! gzip, on all cores: the content is cut into pieces that are compressed on their own and make one stream.

use std::io::{self, Write};

use flate2::{Compress, Compression, Crc, FlushCompress};
use rayon::prelude::*;

/// Deflate looks back 32 KiB at most, so that hardly anything is lost where a piece begins. A constant: the
/// same content gives the same bytes on every machine.
const PIECE: usize = 1 << 20;
/// The number of pieces that are held and compressed at once.
const PIECES: usize = 8;

/// No name, no time, made by no system in particular.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compresses what is written to it into `to`. [`Self::finish`] must be called in the end.
pub(crate) struct Gzip<W> {
    to: W,
    pieces: Vec<Piece>,
    /// The number of full pieces; the next one is being filled.
    full: usize,
    sum: Crc,
    begun: bool,
}

struct Piece {
    raw: Vec<u8>,
    compressed: Vec<u8>,
    compress: Compress,
    sum: Crc,
}

impl<W: Write> Gzip<W> {
    pub(crate) fn new(to: W, level: Compression) -> Self {
        let piece = || Piece {
            raw: Vec::new(),
            compressed: Vec::new(),
            compress: Compress::new(level, false),
            sum: Crc::new(),
        };
        let pieces = (0..PIECES).map(|_| piece()).collect();
        Self { to, pieces, full: 0, sum: Crc::new(), begun: false }
    }

    /// Writes what is left, and the end of the stream.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write_pieces(true)?;
        self.to.write_all(&self.sum.sum().to_le_bytes())?;
        self.to.write_all(&self.sum.amount().to_le_bytes())?;
        Ok(self.to)
    }

    fn write_pieces(&mut self, last: bool) -> io::Result<()> {
        if !self.begun {
            self.to.write_all(&HEADER)?;
            self.begun = true;
        }
        let count = (self.full + usize::from(last)).min(PIECES);
        let pieces = &mut self.pieces[..count];
        pieces.par_iter_mut().with_max_len(1).enumerate().try_for_each(|(index, piece)| {
            let flush = if last && index + 1 == count { FlushCompress::Finish } else { FlushCompress::Sync };
            piece.compress(flush)
        })?;
        for piece in pieces {
            self.to.write_all(&piece.compressed)?;
            self.sum.combine(&piece.sum);
            piece.raw.clear();
        }
        self.full = 0;
        Ok(())
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.full == PIECES {
            self.write_pieces(false)?;
        }
        let raw = &mut self.pieces[self.full].raw;
        let count = bytes.len().min(PIECE - raw.len());
        raw.extend_from_slice(&bytes[..count]);
        self.full += usize::from(raw.len() == PIECE);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Piece {
    fn compress(&mut self, flush: FlushCompress) -> io::Result<()> {
        let Self { raw, compressed, compress, sum } = self;
        sum.reset();
        sum.update(raw);
        compress.reset();
        compressed.clear();
        loop {
            compressed.reserve(raw.len() / 2 + 1024);
            let taken = usize::try_from(compress.total_in()).unwrap_or(raw.len());
            compress.compress_vec(&raw[taken..], compressed, flush).map_err(io::Error::other)?;
            // What had room to spare is done.
            if compressed.len() < compressed.capacity() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(content: &[u8], step: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), Compression::fast());
        for bytes in content.chunks(step) {
            gzip.write_all(bytes).unwrap();
        }
        gzip.finish().unwrap()
    }

    /// A reader for one stream, not for several in a row: what is behind the first would be missed.
    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut decoder = GzDecoder::new(bytes);
        decoder.read_to_end(&mut content).unwrap();
        assert!(decoder.into_inner().is_empty());
        content
    }

    /// Bytes that compress badly, or well where `spread` is small.
    fn noise(length: usize, spread: u32) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state % spread) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_was_written_is_one_stream() {
        let all = PIECES * PIECE;
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, all - 1, all, all + 1] {
            let content = noise(length, 2);
            assert!(gunzip(&gzip(&content, 100_000)) == content, "{length}");
        }
        // What cannot be made smaller gets larger.
        let content = noise(3 << 20, 256);
        assert!(gunzip(&gzip(&content, usize::MAX)) == content);
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_they_were_written() {
        let content = noise(3 << 20, 7);
        assert!(gzip(&content, 1000) == gzip(&content, usize::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_content_comes_back(content: Vec<u8>, times in 1_usize..3000, step in 1_usize..70_000) {
            let content = content.repeat(times);
            prop_assert!(gunzip(&gzip(&content, step)) == content);
        }
    }
}
