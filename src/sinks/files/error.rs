//! What goes wrong with files, by what a person can do about it.

use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("the folder {path} can't be written ({why}); check that it may be, or choose another with --out")]
    Folder { path: String, why: String },
    #[error("no space is left for {path}; free some and run again, nothing half written stays behind")]
    Full { path: String },
    #[error("another export writes to {path}; try again later or use --wait 5m")]
    Busy { path: String },
    #[error("{path} is not what an export left behind ({why}); move it away, or choose another folder with --out")]
    Manifest { path: String, why: String },
    #[error("no space is left behind {path}; what is there is not the whole export, free some and run again")]
    Cut { path: String },
    #[error("whoever read {path} went away; what was read is not the whole export")]
    Reader { path: String },
    #[error("{path}: {why}")]
    Io { path: String, why: String },
    #[error("{path} can't be written as Parquet: {why}")]
    Parquet { path: String, why: String },
    #[error("the thread that writes the files ended early")]
    Thread,
}

impl FilesError {
    pub fn of(path: &Path, err: &io::Error) -> FilesError {
        let path = path.display().to_string();
        match err.kind() {
            io::ErrorKind::BrokenPipe => FilesError::Reader { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FilesError::Full { path },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::NotFound => FilesError::Folder { path, why: err.to_string() },
            _ => FilesError::Io { path, why: err.to_string() },
        }
    }
}

/// Puts the file's name to a failure where it happens.
pub trait At<T> {
    fn at(self, path: &Path) -> Result<T, FilesError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, FilesError> {
        self.map_err(|err| FilesError::of(path, &err))
    }
}
