//! Zip archives: members as streams, and what is refused before it costs memory or disk.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use chrono::{NaiveDate, NaiveDateTime};
use zip::{CompressionMethod, ZipArchive};

/// More members no archive of history has.
const MAX_MEMBERS: u64 = 10_000;
/// Names, comments and the like of all members.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// Text of history becomes three to ten times smaller; what becomes so much smaller is made to fill disks.
const MAX_RATIO: u64 = 200;
/// So little is read whatever its ratio.
const SMALL: u64 = 1 << 20;
/// The largest member, unpacked.
const MAX_MEMBER_BYTES: u64 = 256 << 30;

/// Why an archive is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the zip archive has {0} members, more than {MAX_MEMBERS}")]
    TooManyMembers(u64),
    #[error("the zip archive's list of members is {0} bytes long, more than {MAX_DIRECTORY_BYTES}")]
    LargeDirectory(u64),
    #[error("the zip archive has a member outside of its folder: {0:?}; nothing of it is read")]
    Escapes(String),
    #[error("members of the zip archive lie over each other; nothing of it is read")]
    Overlaps,
    #[error("the zip archive is cut off or broken ({0})")]
    Broken(String),
}

/// Why a member is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberFault {
    #[error("it is encrypted; unpack it first")]
    Encrypted,
    #[error("it is an archive in an archive; unpack it first")]
    Nested,
    #[error("it is Parquet in an archive, which can't be read as a stream; unpack it first")]
    Parquet,
    #[error("it becomes more than {MAX_RATIO} times larger when unpacked; if it is what you want, unpack it first")]
    Dense,
    #[error("it is larger than {MAX_MEMBER_BYTES} bytes when unpacked; unpack it first")]
    Large,
    #[error("it is compressed by {0}, which is not known here; unpack it first")]
    Method(String),
    #[error("it is a link")]
    Link,
}

pub type Archive = ZipArchive<BufReader<File>>;

/// A member by what the archive says of it.
#[derive(Debug)]
pub struct Member {
    pub index: usize,
    pub name: String,
    /// Unpacked.
    pub bytes: u64,
    pub crc32: u32,
    /// When it was written, by a clock whose time zone nobody tells.
    pub written: Option<NaiveDateTime>,
    pub fault: Option<MemberFault>,
}

pub fn open(path: &Path) -> Result<Archive, Refused> {
    let broken = |err: &dyn std::fmt::Display| Refused::Broken(err.to_string());
    let mut file = File::open(path).map_err(|err| broken(&err))?;
    let (members, directory) = declared(&mut file).map_err(|err| broken(&err))?;
    if members > MAX_MEMBERS {
        return Err(Refused::TooManyMembers(members));
    }
    if directory > MAX_DIRECTORY_BYTES {
        return Err(Refused::LargeDirectory(directory));
    }
    file.rewind().map_err(|err| broken(&err))?;
    let mut archive = ZipArchive::new(BufReader::with_capacity(64 << 10, file)).map_err(|err| broken(&err))?;
    if archive.has_overlapping_files().map_err(|err| broken(&err))? {
        return Err(Refused::Overlaps);
    }
    Ok(archive)
}

/// How many members the archive says it has, and how many bytes their list takes. It stands at the end.
fn declared(file: &mut File) -> io::Result<(u64, u64)> {
    const END: usize = 22;
    const MAX_COMMENT: usize = 65_535;
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub((END + MAX_COMMENT) as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(length - from).read_to_end(&mut tail)?;
    let cut = || io::Error::other("its end is not there");
    let at = memchr::memmem::rfind(&tail, b"PK\x05\x06").filter(|at| tail.len() - at >= END).ok_or_else(cut)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (members, directory) = (number(&tail[at + 10..at + 12]), number(&tail[at + 12..at + 16]));
    if members < 0xffff && directory < 0xffff_ffff {
        return Ok((members, directory));
    }
    // The larger form has its numbers elsewhere.
    let locator = (from + at as u64).checked_sub(20);
    let Some(locator) = locator else { return Ok((members, directory)) };
    let mut bytes = [0; 20];
    file.seek(SeekFrom::Start(locator))?;
    file.read_exact(&mut bytes)?;
    if !bytes.starts_with(b"PK\x06\x07") {
        return Ok((members, directory));
    }
    let mut end = [0; 56];
    file.seek(SeekFrom::Start(number(&bytes[8..16])))?;
    file.read_exact(&mut end)?;
    match end.starts_with(b"PK\x06\x06") {
        true => Ok((number(&end[32..40]), number(&end[40..48]))),
        false => Err(cut()),
    }
}

/// The files of an archive, sorted by name.
pub fn members(archive: &Archive) -> Result<Vec<Member>, Refused> {
    let mut members = Vec::new();
    let broken = |err: zip::result::ZipError| Refused::Broken(err.to_string());
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        if escapes(&name) {
            return Err(Refused::Escapes(name));
        }
        if entry.is_dir() {
            continue;
        }
        let (bytes, packed) = (entry.size(), entry.compressed_size());
        let fault = if entry.encrypted() {
            Some(MemberFault::Encrypted)
        } else if entry.is_symlink() {
            Some(MemberFault::Link)
        } else if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            Some(MemberFault::Method(entry.compression().to_string()))
        } else if bytes > MAX_MEMBER_BYTES {
            Some(MemberFault::Large)
        } else if bytes > allowed(packed) {
            Some(MemberFault::Dense)
        } else {
            None
        };
        members.push(Member {
            index,
            name,
            bytes,
            crc32: entry.crc32(),
            written: entry.last_modified().and_then(moment),
            fault,
        });
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

fn moment(at: zip::DateTime) -> Option<NaiveDateTime> {
    let date = NaiveDate::from_ymd_opt(at.year().into(), at.month().into(), at.day().into())?;
    date.and_hms_opt(at.hour().into(), at.minute().into(), at.second().into())
}

/// How large a member of so many bytes may become.
fn allowed(packed: u64) -> u64 {
    packed.saturating_mul(MAX_RATIO).clamp(SMALL, MAX_MEMBER_BYTES)
}

/// Whether a member's name leads out of the folder that it would be unpacked in.
fn escapes(name: &str) -> bool {
    let is_absolute = name.starts_with(['/', '\\']) || name.as_bytes().get(1) == Some(&b':');
    is_absolute || name.contains('\0') || name.split(['/', '\\']).any(|part| part == "..")
}

/// A member as a stream that ends with an error where it becomes larger than it may, or than it says.
pub fn stream(archive: &mut Archive, index: usize) -> io::Result<impl Read + '_> {
    let member = archive.by_index(index).map_err(io::Error::other)?;
    let left = allowed(member.compressed_size()).min(member.size());
    Ok(Capped { input: member, left })
}

/// Reads a member to its end and keeps nothing: whether it is whole, by its checksum, and as large as it says.
pub fn check(archive: &mut Archive, index: usize) -> io::Result<()> {
    let mut stream = stream(archive, index)?;
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

struct Capped<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other("it becomes larger than the archive says when unpacked")),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_known() {
        for name in ["../a.csv", "a/../../b", "/etc/passwd", "\\\\host\\a", "C:\\a", "a\\..\\b", "a\0"] {
            assert!(escapes(name), "{name}");
        }
        for name in ["a.csv", "a/b..csv", "a/..b/c", "..csv"] {
            assert!(!escapes(name), "{name}");
        }
    }

    #[test]
    fn a_stream_ends_where_it_may_not_go_on() {
        let mut capped = Capped { input: io::repeat(b'x'), left: 10 };
        assert_eq!(capped.read(&mut [0; 10]).unwrap(), 10);
        assert!(capped.read(&mut [0; 1]).unwrap_err().to_string().contains("larger"));
        assert_eq!((allowed(10), allowed(1 << 20), allowed(u64::MAX)), (SMALL, 200 << 20, MAX_MEMBER_BYTES));
    }
}
