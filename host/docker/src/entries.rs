//! The entries of a tar, by their true names.
//!
//! Not those of the crate `tar`: it takes the end of a line for the end of a field, and so another name for one with a line
//! break in it; and it takes an archive that is cut off between two entries for a whole one.

use std::io::{self, Read};

use rustix::fs::Timespec;
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Names are at most 4096 bytes; other fields are as good as never there.
const FIELDS: u64 = 1 << 20;

/// Reads a tar entry by entry.
pub(crate) struct Entries<R> {
    from: R,
    /// Bytes of the content of the last entry that are not read yet.
    left: u64,
    /// Bytes after that, up to the next block.
    padding: u64,
}

/// What stands before the content of an entry.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) kind: EntryType,
    pub(crate) path: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) modified: Timespec,
}

/// What an extended header says of the next entry.
#[derive(Default)]
struct Fields {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<Timespec>,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0 }
    }

    /// The next entry; content of the last that was not read is skipped.
    ///
    /// # Errors
    /// It cannot be read, is no tar, or is cut off.
    pub(crate) fn next(&mut self) -> io::Result<Option<Head>> {
        let mut fields = Fields::default();
        loop {
            self.skip()?;
            let mut block = [0; BLOCK];
            self.from.read_exact(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                io::copy(&mut self.from, &mut io::sink())?;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check(header, &block)?;
            let size = fields.size.filter(|_| is_entry(header)).map_or_else(|| header.size(), Ok)?;
            self.left = size;
            self.padding = size.next_multiple_of(BLOCK as u64) - size;
            match header.entry_type() {
                EntryType::XHeader => fields.read(&self.field()?)?,
                EntryType::XGlobalHeader => {}
                EntryType::GNULongName => fields.path = Some(until_nul(self.field()?)),
                EntryType::GNULongLink => fields.target = Some(until_nul(self.field()?)),
                kind => {
                    let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
                    let target = || header.link_name_bytes().unwrap_or_default().into_owned();
                    return Ok(Some(Head {
                        kind,
                        path: fields.path.unwrap_or_else(|| header.path_bytes().into_owned()),
                        target: fields.target.unwrap_or_else(target),
                        mode: header.mode()?,
                        modified: fields.modified.unwrap_or(Timespec { tv_sec: seconds, tv_nsec: 0 }),
                    }));
                }
            }
        }
    }

    fn field(&mut self) -> io::Result<Vec<u8>> {
        if self.left > FIELDS {
            return Err(broken("has a header of more than 1 MiB"));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        if skipped < rest { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// The content of the entry that was read last.
impl<R: Read> Read for Entries<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.len());
        let got = self.from.read(&mut to[..most])?;
        if got == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

impl Fields {
    /// Each is its own length, a name and a value: `17 path=some/file\n`.
    fn read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let not_well = || broken("has an extended header that is not well-formed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|&byte| byte == b' ').ok_or_else(not_well)?;
            let length: usize = number(&bytes[..space]).ok_or_else(not_well)?;
            let field = bytes.get(space + 1..length).and_then(|field| field.strip_suffix(b"\n"));
            let field = field.ok_or_else(not_well)?;
            let equals = field.iter().position(|&byte| byte == b'=').ok_or_else(not_well)?;
            let (name, value) = (&field[..equals], &field[equals + 1..]);
            match name {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(not_well)?),
                b"mtime" => self.modified = time(value),
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

fn is_entry(header: &Header) -> bool {
    use EntryType::{GNULongLink, GNULongName, XGlobalHeader, XHeader};
    !matches!(header.entry_type(), XHeader | XGlobalHeader | GNULongName | GNULongLink)
}

fn check(header: &Header, block: &[u8; BLOCK]) -> io::Result<()> {
    // The sum is taken as if its own field were spaces.
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    if header.cksum().ok() == Some(expected) { Ok(()) } else { Err(broken("is no tar")) }
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn time(value: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9.9}").parse().ok()?;
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: nanos })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut entries = Entries::new(tar);
        let mut names = Vec::new();
        while let Some(head) = entries.next()? {
            let mut content = Vec::new();
            entries.read_to_end(&mut content)?;
            names.push([&head.path[..], b": ", &content].concat());
        }
        Ok(names)
    }

    fn sample() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let long = "long".repeat(50);
        for name in ["a", &long] {
            let mut header = Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, &b"abc"[..]).unwrap();
        }
        let extended = [("path", &b"x\n\xff=y"[..])];
        tar.append_pax_extensions(extended).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        tar.append_data(&mut header, "other", &b""[..]).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn names_of_any_bytes_and_length_are_read() {
        let long = format!("{}: abc", "long".repeat(50));
        assert_eq!(names(&sample()).unwrap(), [&b"a: abc"[..], long.as_bytes(), b"x\n\xff=y: "]);
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_is_none() {
        let whole = sample();
        let end = whole.len() - 2 * BLOCK;
        for length in (0..=end).step_by(64) {
            assert!(names(&whole[..length]).is_err(), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(at in 0_usize..3000, bytes in proptest::collection::vec(0_u8.., 1..20)) {
            let mut tar = sample();
            let at = at.min(tar.len() - bytes.len());
            tar[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = names(&tar);
        }
    }
}
