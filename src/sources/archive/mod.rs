//! Files of history: recognised by what is in them, read as a stream in flat memory, row by row a candle,
//! an observation, or a reject with its line.
//!
//! `find` lists what is to be read, `layout` recognises it, `lines` and `cells` take it apart, `rows` and
//! `own` make domain values of it, `read` drives them. Only `find`, `zip` and `read` touch files.

pub mod cells;
pub mod find;
pub mod layout;
pub mod lines;
pub mod own;
pub mod parquet;
pub mod read;
pub mod rows;
pub mod zip;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;

pub use layout::{Layout, Recognised};
pub use read::{Chunk, Extent, Place, Runs, Start};
pub use rows::{Subject, Written};

/// A file, or a member of a zip archive, that can be read.
#[derive(Debug)]
pub struct Input {
    /// The same for every run, wherever it is started: the absolute path, and `!` and the name of a member.
    pub key: String,
    /// As the user named it.
    pub shown: String,
    /// Changes with the file.
    pub fingerprint: String,
    pub bytes: u64,
    pub written: Written,
    pub content: Content,
    pub whence: Whence,
}

#[derive(Debug)]
pub enum Content {
    Text(Recognised),
    Parquet(parquet::Kind),
}

#[derive(Debug)]
pub enum Whence {
    File(PathBuf),
    /// Can be read once: its beginning, and the rest.
    Pipe(Mutex<Option<(Vec<u8>, File)>>),
    Member {
        archive: PathBuf,
        index: usize,
    },
}

impl Content {
    pub fn name(&self) -> &'static str {
        match self {
            Content::Text(recognised) => recognised.layout.name(),
            Content::Parquet(parquet::Kind::Candles) => "coinetl-candles-parquet",
            Content::Parquet(parquet::Kind::Prices) => "coinetl-prices-parquet",
        }
    }

    /// Whether the rows name their coin.
    pub fn names_coin(&self) -> bool {
        match self {
            Content::Text(recognised) => recognised.layout.names_coin(),
            Content::Parquet(_) => true,
        }
    }

    /// Whether the rows say whose coin it is, and by which id.
    pub fn is_own(&self) -> bool {
        match self {
            Content::Text(recognised) => recognised.layout.is_own(),
            Content::Parquet(_) => true,
        }
    }
}

/// Why a file, or the rest of it, can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct FileError {
    pub file: String,
    pub why: String,
}

impl FileError {
    pub fn new(file: &str, why: impl ToString) -> FileError {
        FileError { file: file.to_owned(), why: why.to_string() }
    }
}
