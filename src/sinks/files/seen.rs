//! What was exported already of rows that may still change, or of a table that does not tell who changed
//! them: the keys in order and, where a row can change, a checksum of it. Compared with the rows of now,
//! which come in the same order, in one pass.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{At, FilesError};
use super::out::{Out, Whole};
use super::sort::{self, Order};
use crate::domain::rows::{Field, Rows};

/// Bytes of a checksum.
const SUM: usize = 16;

type Sum = [u8; SUM];

/// Which rows are remembered.
pub enum Remember {
    /// Those of these runs.
    Runs(BTreeSet<i64>),
    All,
}

/// Takes rows in order, and leaves those that are new.
pub struct Seen {
    order: Order,
    remember: Remember,
    /// Whether a row can change under its key.
    changes: bool,
    old: Option<Reader>,
    new: Option<Writer>,
    key: Vec<u8>,
    bytes: Vec<u8>,
}

impl Seen {
    pub fn begin(
        order: Order,
        remember: Remember,
        changes: bool,
        old: Option<&Path>,
        new: Out,
    ) -> Result<Seen, FilesError> {
        let old = old.map(|path| Reader::open(path, changes)).transpose()?;
        let new = Some(Writer { out: new, last: Vec::new(), rows: 0 });
        Ok(Seen { order, remember, changes, old, new, key: Vec::new(), bytes: Vec::new() })
    }

    /// The rows that were not exported as they are now.
    pub fn only_new(&mut self, rows: Rows, fields: &[Field]) -> Result<Rows, FilesError> {
        let nothing_to_remember = matches!(&self.remember, Remember::Runs(runs) if runs.is_empty());
        if self.old.is_none() && nothing_to_remember {
            return Ok(rows);
        }
        let mut left: Option<Rows> = None;
        for row in 0..rows.len() {
            let is_remembered = match &self.remember {
                Remember::All => true,
                Remember::Runs(runs) => runs.contains(&rows.runs[row]),
            };
            self.key.clear();
            self.order.key(&rows, row, &mut self.key);
            let known = match &mut self.old {
                Some(old) => old.find(&self.key)?,
                None => None,
            };
            let mut sum = Sum::default();
            if self.changes && (is_remembered || known.is_some()) {
                self.bytes.clear();
                sort::encode(&rows, row, &mut self.bytes);
                // Without the run, which stands in front: the same numbers are the same row.
                sum.copy_from_slice(&Sha256::digest(&self.bytes[8..])[..SUM]);
            }
            if let (true, Some(new)) = (is_remembered, &mut self.new) {
                new.add(&self.key, self.changes.then_some(&sum))?;
            }
            let is_new = known != Some(sum);
            match (&mut left, is_new) {
                (Some(left), true) => left.append(&rows, row),
                (Some(_), false) | (None, true) => {}
                // The first that is left out.
                (None, false) => {
                    let mut before = Rows::new(fields);
                    (0..row).for_each(|row| before.append(&rows, row));
                    left = Some(before);
                }
            }
        }
        Ok(left.unwrap_or(rows))
    }

    /// Ends the new list: how many rows are in it.
    pub fn end(mut self) -> Result<(u64, Whole), FilesError> {
        match self.new.take() {
            Some(new) => Ok((new.rows, new.out.end()?)),
            None => Err(FilesError::Thread),
        }
    }
}

/// Keys share their beginnings with the one before.
struct Writer {
    out: Out,
    last: Vec<u8>,
    rows: u64,
}

impl Writer {
    fn add(&mut self, key: &[u8], sum: Option<&Sum>) -> Result<(), FilesError> {
        let shared = self.last.iter().zip(key).take(255).take_while(|(a, b)| a == b).count();
        let rest = &key[shared..];
        let path = self.out.path().to_owned();
        let mut write = |bytes: &[u8]| self.out.write_all(bytes).at(&path);
        write(&[shared as u8])?;
        write(&(rest.len() as u16).to_le_bytes())?;
        write(rest)?;
        if let Some(sum) = sum {
            write(sum)?;
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        self.rows += 1;
        Ok(())
    }
}

struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    changes: bool,
    key: Vec<u8>,
    sum: Sum,
    done: bool,
}

impl Reader {
    fn open(path: &Path, changes: bool) -> Result<Reader, FilesError> {
        let file = BufReader::with_capacity(256 << 10, File::open(path).at(path)?);
        let mut reader =
            Reader { path: path.to_owned(), file, changes, key: Vec::new(), sum: Sum::default(), done: false };
        reader.step()?;
        Ok(reader)
    }

    /// What is remembered of a key. Keys are asked for in order.
    fn find(&mut self, key: &[u8]) -> Result<Option<Sum>, FilesError> {
        while !self.done && *self.key < *key {
            self.step()?;
        }
        Ok((!self.done && self.key == key).then_some(self.sum))
    }

    fn step(&mut self) -> Result<(), FilesError> {
        let mut shared = [0];
        match self.file.read_exact(&mut shared) {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
                self.done = true;
                return Ok(());
            }
            read => read.at(&self.path)?,
        }
        let mut length = [0; 2];
        self.file.read_exact(&mut length).at(&self.path)?;
        self.key.truncate(shared[0] as usize);
        let at = self.key.len();
        self.key.resize(at + u16::from_le_bytes(length) as usize, 0);
        self.file.read_exact(&mut self.key[at..]).at(&self.path)?;
        if self.changes {
            self.file.read_exact(&mut self.sum).at(&self.path)?;
        }
        Ok(())
    }
}
