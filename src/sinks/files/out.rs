//! Where bytes go, their checksum growing with them: a file on its way, which has a temporary name beside
//! its place, or the standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::error::{At, FilesError};

const PREFIX: &str = ".coinetl-";
const SUFFIX: &str = ".tmp";
const BUFFER: usize = 256 << 10;
/// What errors call it.
const STDOUT: &str = "the standard output";
/// How soon a stop is seen while nobody reads.
const POLL_MS: i32 = 200;

/// Whether a file is one that an export left on its way.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// The temporary name of a path.
pub fn of(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{PREFIX}{name}{SUFFIX}"))
}

pub struct Out {
    path: PathBuf,
    out: BufWriter<Summed>,
}

/// What a whole file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub bytes: u64,
    pub sha256: String,
}

enum Target {
    File(File),
    Stdout { file: File, stop: Arc<AtomicBool> },
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::File(file) => file.write(bytes),
            Target::Stdout { file, stop } => {
                while !is_ready(file)? {
                    if stop.load(Ordering::Relaxed) {
                        return Err(io::Error::other("asked to stop"));
                    }
                }
                // A pipe that is ready takes this much without waiting for its reader.
                file.write(&bytes[..bytes.len().min(libc::PIPE_BUF)])
            }
        }
    }
}

/// Waits a while for a reader that is behind.
fn is_ready(file: &File) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    match unsafe { libc::poll(&mut asked, 1, POLL_MS) } {
        -1 => match io::Error::last_os_error() {
            err if err.kind() == io::ErrorKind::Interrupted => Ok(false),
            err => Err(err),
        },
        0 => Ok(false),
        // A reader that is gone is told by the write.
        _ => Ok(true),
    }
}

struct Summed {
    target: Target,
    sum: Sha256,
    bytes: u64,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither a file nor standard output taken as one keeps anything back.
        Ok(())
    }
}

impl Out {
    /// Begins the file that is to be at `path`.
    pub fn temporary(path: &Path) -> Result<Out, FilesError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(of(path)).at(path)?;
        Ok(Out::new(path, Target::File(file)))
    }

    /// The standard output, whatever is behind it. A reader that takes nothing can't keep it from ending
    /// with an error once `stop` is set.
    pub fn stdout(stop: Arc<AtomicBool>) -> Result<Out, FilesError> {
        let path = Path::new(STDOUT);
        let file = io::stdout().as_fd().try_clone_to_owned().at(path)?;
        Ok(Out::new(path, Target::Stdout { file: file.into(), stop }))
    }

    fn new(path: &Path, target: Target) -> Out {
        let out = BufWriter::with_capacity(BUFFER, Summed { target, sum: Sha256::new(), bytes: 0 });
        Out { path: path.to_owned(), out }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is left, and flushes a file to the disk. It keeps its temporary name.
    pub fn end(self) -> Result<Whole, FilesError> {
        let path = self.path;
        let Summed { target, sum, bytes } = self.out.into_inner().map_err(|err| FilesError::of(&path, err.error()))?;
        if let Target::File(file) = target {
            file.sync_all().at(&path)?;
        }
        let sha256 = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Whole { bytes, sha256 })
    }
}

impl Write for Out {
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
