//! A file on its way: it has a temporary name beside its place, and its checksum grows with it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{At, FilesError};

const PREFIX: &str = ".coinetl-";
const SUFFIX: &str = ".tmp";
const BUFFER: usize = 256 << 10;

/// Whether a file is one that an export left on its way.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// The temporary name of a path.
pub fn of(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{PREFIX}{name}{SUFFIX}"))
}

pub struct Temporary {
    path: PathBuf,
    out: BufWriter<Summed>,
}

/// What a whole file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub bytes: u64,
    pub sha256: String,
}

struct Summed {
    file: File,
    sum: Sha256,
    bytes: u64,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Temporary {
    /// Begins the file that is to be at `path`.
    pub fn begin(path: &Path) -> Result<Temporary, FilesError> {
        let temporary = of(path);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary).at(path)?;
        let out = BufWriter::with_capacity(BUFFER, Summed { file, sum: Sha256::new(), bytes: 0 });
        Ok(Temporary { path: path.to_owned(), out })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes it to the disk. It keeps its temporary name.
    pub fn end(self) -> Result<Whole, FilesError> {
        let path = self.path;
        let Summed { file, sum, bytes } = self.out.into_inner().map_err(|err| FilesError::of(&path, err.error()))?;
        file.sync_all().at(&path)?;
        let sha256 = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Whole { bytes, sha256 })
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
