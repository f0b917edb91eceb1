//! What there is to read under some paths: files, folders with all that is in them, archives.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::layout::recognise;
use super::zip::MemberFault;
use super::{Content, FileError, Input, Whence, Written, parquet, zip};
use crate::domain::Stamp;

/// The beginning that a file is recognised by.
const HEAD: usize = 16 << 10;
/// Longest name that a database keeps as a key.
const MAX_KEY: usize = 255;
/// Of a moment in the eighties an archive's file date says nothing.
const FIRST_BELIEVED_MS: i64 = 1_230_768_000_000;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    pub inputs: Vec<Input>,
    /// Files that are none of ours, or broken.
    pub failed: Vec<FileError>,
}

/// A path that can't be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be read: {err}")]
pub struct NotThere {
    pub path: String,
    pub err: io::Error,
}

/// Looks at all paths. `salt` is what else decides what becomes of a file: a place in it is worth nothing
/// under another.
pub fn find(paths: &[PathBuf], salt: &str) -> Result<Found, NotThere> {
    let now = Stamp::from_datetime(chrono::Utc::now()).unwrap_or(Stamp::LAST);
    let mut finder = Finder { salt, now, found: Found::default(), keys: HashSet::new(), folders: HashSet::new() };
    for path in paths {
        let not_there = |err| NotThere { path: path.display().to_string(), err };
        let metadata = fs::metadata(path).map_err(not_there)?;
        if metadata.is_dir() {
            finder.folder(path, &metadata).map_err(not_there)?;
        } else {
            finder.file(path, &metadata, true);
        }
    }
    Ok(finder.found)
}

struct Finder<'a> {
    salt: &'a str,
    now: Stamp,
    found: Found,
    /// A file that two paths lead to is read once.
    keys: HashSet<String>,
    /// Folders that were looked into: links may lead in circles.
    folders: HashSet<(u64, u64)>,
}

impl Finder<'_> {
    fn folder(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        if !self.folders.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        entries.sort();
        for path in entries {
            if is_passed_over(&path) {
                log::debug!("{} is passed over", path.display());
                continue;
            }
            let shown = path.display().to_string();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {
                    if let Err(err) = self.folder(&path, &metadata) {
                        self.fail(&shown, err);
                    }
                }
                Ok(metadata) if metadata.is_file() => self.file(&path, &metadata, false),
                Ok(_) => log::debug!("{shown} is no file"),
                Err(err) => self.fail(&shown, err),
            }
        }
        Ok(())
    }

    fn fail(&mut self, shown: &str, why: impl ToString) {
        self.found.failed.push(FileError::new(shown, why));
    }

    fn file(&mut self, path: &Path, metadata: &Metadata, is_named: bool) {
        let shown = path.display().to_string();
        let key = key(&fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), None);
        if !self.keys.insert(key.clone()) {
            return;
        }
        if let Err(err) = self.look(path, metadata, is_named, &shown, key) {
            self.fail(&shown, err);
        }
    }

    fn look(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        is_named: bool,
        shown: &str,
        key: String,
    ) -> Result<(), String> {
        let words = |err: io::Error| err.to_string();
        let mut file = File::open(path).map_err(words)?;
        let head = beginning(&mut file).map_err(words)?;
        let can_seek = !metadata.file_type().is_fifo() && !metadata.file_type().is_char_device();
        let unseekable = || "it is a pipe, and can't be read as one; save it to a file first".to_owned();
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return if can_seek { self.archive(path, metadata, shown) } else { Err(unseekable()) };
        }
        let content = if head.starts_with(b"PAR1") {
            if !can_seek {
                return Err(unseekable());
            }
            Content::Parquet(parquet::kind(file.try_clone().map_err(words)?)?)
        } else if !is_named && head.trim_ascii_start().starts_with(b"{") {
            // A manifest or the like beside the data.
            log::debug!("{shown} is passed over");
            return Ok(());
        } else {
            Content::Text(recognise(&head).map_err(|err| err.to_string())?)
        };
        let (at, stamp) = written(metadata);
        let written = Written { file: at, member: None, now: self.now };
        let fingerprint = self.fingerprint(&[&metadata.len().to_be_bytes(), &stamp.to_be_bytes(), &head]);
        let whence = match can_seek {
            true => Whence::File(path.to_owned()),
            false => Whence::Pipe(Mutex::new(Some((head, file)))),
        };
        let shown = shown.to_owned();
        self.found.inputs.push(Input { key, shown, fingerprint, bytes: metadata.len(), written, content, whence });
        Ok(())
    }

    fn archive(&mut self, path: &Path, metadata: &Metadata, shown: &str) -> Result<(), String> {
        let mut archive = zip::open(path).map_err(|err| err.to_string())?;
        let members = zip::members(&archive).map_err(|err| err.to_string())?;
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (file, stamp) = written(metadata);
        for member in members {
            if is_passed_over(Path::new(&member.name)) {
                continue;
            }
            let shown = format!("{shown}!{}", member.name);
            let looked = match member.fault {
                Some(fault) => Err(fault.to_string()),
                None => look_into(&mut archive, member.index),
            };
            let (head, content) = match looked {
                Ok(Some(looked)) => looked,
                Ok(None) => continue,
                Err(why) => {
                    self.fail(&shown, why);
                    continue;
                }
            };
            let parts: [&[u8]; 5] = [
                &metadata.len().to_be_bytes(),
                &stamp.to_be_bytes(),
                &member.bytes.to_be_bytes(),
                &member.crc32.to_be_bytes(),
                &head,
            ];
            let fingerprint = self.fingerprint(&parts);
            let key = key(&whole, Some(&member.name));
            let at = member.written.and_then(|at| Stamp::from_datetime(at.and_utc()).ok());
            let written = Written { file, member: at.filter(|at| at.millis() >= FIRST_BELIEVED_MS), now: self.now };
            let whence = Whence::Member { archive: path.to_owned(), index: member.index };
            self.found.inputs.push(Input { key, shown, fingerprint, bytes: member.bytes, written, content, whence });
        }
        Ok(())
    }

    fn fingerprint(&self, parts: &[&[u8]]) -> String {
        digest([self.salt.as_bytes()].into_iter().chain(parts.iter().copied()))
    }
}

/// A member's beginning and what it is; `None` where it is nothing to import.
fn look_into(archive: &mut zip::Archive, index: usize) -> Result<Option<(Vec<u8>, Content)>, String> {
    let mut stream = zip::stream(archive, index).map_err(|err| err.to_string())?;
    let head = beginning(&mut stream).map_err(|err| err.to_string())?;
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Err(MemberFault::Nested.to_string());
    }
    if head.starts_with(b"PAR1") {
        return Err(MemberFault::Parquet.to_string());
    }
    if head.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let recognised = recognise(&head).map_err(|err| err.to_string())?;
    Ok(Some((head, Content::Text(recognised))))
}

/// What lies beside data: hidden files, halves of files, papers.
fn is_passed_over(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let beside = ["md", "pdf", "html", "png", "jpg", "svg", "py", "ipynb", "sha256", "tmp", "part"];
    let of_macos = path.components().any(|part| part.as_os_str() == "__MACOSX");
    name.starts_with(b".") || of_macos || beside.iter().any(|beside| extension == *beside)
}

fn beginning(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    input.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// When a file was written: as a moment one may believe, and as it stands there.
fn written(metadata: &Metadata) -> (Option<Stamp>, i64) {
    let nanos = metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec());
    let millis = nanos.div_euclid(1_000_000);
    (Stamp::from_millis(millis).ok().filter(|_| millis >= FIRST_BELIEVED_MS), nanos)
}

/// A name that every database keeps as a key. One that is too long, or no text, gets a digest for its beginning.
fn key(path: &Path, member: Option<&str>) -> String {
    let bytes = path.as_os_str().as_bytes();
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let is_text = text.len() == bytes.len();
    if let Some(member) = member {
        text = format!("{text}!{member}");
    }
    if is_text && text.len() <= MAX_KEY {
        return text;
    }
    let digest = digest([bytes, member.unwrap_or_default().as_bytes()].into_iter());
    let tail = text.ceil_char_boundary(text.len().saturating_sub(MAX_KEY - digest.len() - 3));
    format!("{digest}…{}", &text[tail..])
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fit_and_stay_apart() {
        let long = |end: &str| key(Path::new(&format!("/{}/{end}", "é".repeat(200))), Some("m.csv"));
        assert!(long("a").len() <= MAX_KEY && long("a") != long("b") && long("a").ends_with("/a!m.csv"));
        assert_eq!(key(Path::new("/a/b.zip"), Some("c.csv")), "/a/b.zip!c.csv");
        let broken = |bytes: &[u8]| key(Path::new(std::ffi::OsStr::from_bytes(bytes)), None);
        assert_ne!(broken(b"/\xff"), broken(b"/\xfe"));
    }
}
