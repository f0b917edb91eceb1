//! Puts rows into an order with little memory: parts that fit are sorted and put aside in a file, and all
//! parts are merged at the end. The file has no name, so nothing of it survives the process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{At, FilesError};
use crate::domain::rows::{Cell, Field, Kind, Rows};

/// Rows handed over at a time.
const ROWS_AT_ONCE: usize = 16_384;
/// Read ahead of each part.
const AHEAD: usize = 64 << 10;
const MICROS_A_DAY: i64 = 86_400_000_000;

/// A column of times.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    pub column: usize,
    pub kind: Kind,
}

impl Time {
    /// The UTC day of a row, counted from 1970.
    pub fn day(self, rows: &Rows, row: usize) -> i64 {
        let a_day = if self.kind == Kind::Millis { MICROS_A_DAY / 1000 } else { MICROS_A_DAY };
        match rows.cell(self.column, row) {
            Cell::Int(time) => time.div_euclid(a_day),
            _ => 0,
        }
    }
}

/// What rows are sorted by: the UTC day first, if there is one, then columns.
#[derive(Debug, Clone)]
pub struct Order {
    pub day: Option<Time>,
    pub columns: Vec<usize>,
}

impl Order {
    /// Adds bytes that compare as the row does: no text has a byte 0 in it.
    pub fn key(&self, rows: &Rows, row: usize, out: &mut Vec<u8>) {
        if let Some(time) = self.day {
            out.extend_from_slice(&sortable(time.day(rows, row)));
        }
        for column in &self.columns {
            match rows.cell(*column, row) {
                Cell::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    out.push(0);
                }
                Cell::Int(number) => out.extend_from_slice(&sortable(number)),
                Cell::Bool(truth) => out.push(u8::from(truth)),
                Cell::Double(number) => out.extend_from_slice(&number.to_bits().to_be_bytes()),
                Cell::Null => out.push(0),
            }
        }
    }
}

fn sortable(number: i64) -> [u8; 8] {
    ((number as u64) ^ (1 << 63)).to_be_bytes()
}

/// Adds a row's values as bytes.
pub fn encode(rows: &Rows, row: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&rows.runs[row].to_le_bytes());
    for column in 0..rows.columns.len() {
        match rows.cell(column, row) {
            Cell::Null => out.push(0),
            Cell::Text(text) => {
                out.push(1);
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Cell::Int(number) => {
                out.push(2);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Cell::Double(number) => {
                out.push(3);
                out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Cell::Bool(truth) => out.push(4 + u8::from(truth)),
        }
    }
}

/// The reverse of [`encode`]; `None` for bytes that are no row.
fn decode(mut bytes: &[u8], rows: &mut Rows) -> Option<()> {
    fn eight(bytes: &mut &[u8]) -> Option<[u8; 8]> {
        let (eight, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        Some(*eight)
    }
    let run_id = i64::from_le_bytes(eight(&mut bytes)?);
    for column in 0..rows.columns.len() {
        let (tag, rest) = bytes.split_first()?;
        bytes = rest;
        let cell = match tag {
            0 => Cell::Null,
            1 => {
                let (length, rest) = bytes.split_first_chunk::<4>()?;
                let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                bytes = rest;
                Cell::Text(std::str::from_utf8(text).ok()?)
            }
            2 => Cell::Int(i64::from_le_bytes(eight(&mut bytes)?)),
            3 => Cell::Double(f64::from_bits(u64::from_le_bytes(eight(&mut bytes)?))),
            4 => Cell::Bool(false),
            5 => Cell::Bool(true),
            _ => return None,
        };
        rows.push(column, cell).then_some(())?;
    }
    rows.end_row(run_id);
    Some(())
}

pub struct Sorter {
    fields: Vec<Field>,
    order: Order,
    folder: PathBuf,
    limit: usize,
    /// Keys and rows, one behind the other.
    bytes: Vec<u8>,
    /// Where each begins, the length of its key, and where it ends.
    places: Vec<(usize, u32, usize)>,
    aside: Option<(BufWriter<File>, u64)>,
    /// Where each part begins and ends in the file.
    parts: Vec<(u64, u64)>,
}

impl Sorter {
    /// Keeps at most about `limit` bytes in memory, and the rest in `folder`.
    pub fn new(fields: &[Field], order: Order, folder: &Path, limit: usize) -> Sorter {
        Sorter {
            fields: fields.to_vec(),
            order,
            folder: folder.to_owned(),
            limit,
            bytes: Vec::new(),
            places: Vec::new(),
            aside: None,
            parts: Vec::new(),
        }
    }

    pub fn push(&mut self, rows: &Rows) -> Result<(), FilesError> {
        for row in 0..rows.len() {
            let begin = self.bytes.len();
            self.order.key(rows, row, &mut self.bytes);
            let key = (self.bytes.len() - begin) as u32;
            encode(rows, row, &mut self.bytes);
            self.places.push((begin, key, self.bytes.len()));
            if self.bytes.len() + self.places.len() * size_of::<(usize, u32, usize)>() >= self.limit {
                self.put_aside()?;
            }
        }
        Ok(())
    }

    /// Hands over all rows in order; ends early when no more are wanted.
    pub fn finish(mut self, take: &mut dyn FnMut(Rows) -> Result<bool, FilesError>) -> Result<(), FilesError> {
        let folder = self.folder.clone();
        let mut out = Rows::new(&self.fields);
        let mut hand = |bytes: &[u8], fields: &[Field], last: bool| -> Result<bool, FilesError> {
            if !bytes.is_empty() {
                decode(bytes, &mut out).ok_or_else(|| broken(&folder))?;
            }
            if out.len() < ROWS_AT_ONCE && !last || out.is_empty() {
                return Ok(true);
            }
            take(std::mem::replace(&mut out, Rows::new(fields)))
        };
        if self.parts.is_empty() {
            self.sort();
            for (begin, key, end) in &self.places {
                if !hand(&self.bytes[begin + *key as usize..*end], &self.fields, false)? {
                    return Ok(());
                }
            }
            return hand(&[], &self.fields, true).map(|_| ());
        }
        self.put_aside()?;
        let Some((file, _)) = self.aside.take() else { return Ok(()) };
        let file = file.into_inner().map_err(|err| FilesError::of(&self.folder, err.error()))?;
        (self.bytes, self.places) = (Vec::new(), Vec::new());
        let mut parts: Vec<Part<'_>> = self.parts.iter().map(|(from, to)| Part::new(&file, *from, *to)).collect();
        let mut heap = BinaryHeap::new();
        for (at, part) in parts.iter_mut().enumerate() {
            if let Some(key) = part.next().at(&self.folder)? {
                heap.push(Reverse((key, at)));
            }
        }
        while let Some(Reverse((_, at))) = heap.pop() {
            if !hand(&parts[at].row, &self.fields, false)? {
                return Ok(());
            }
            if let Some(key) = parts[at].next().at(&self.folder)? {
                heap.push(Reverse((key, at)));
            }
        }
        hand(&[], &self.fields, true).map(|_| ())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |(begin, key, _): &(usize, u32, usize)| &bytes[*begin..begin + *key as usize];
        // Rows mostly come in stretches that are in order already, which this sort makes use of.
        self.places.sort_by(|a, b| key(a).cmp(key(b)));
    }

    fn put_aside(&mut self) -> Result<(), FilesError> {
        if self.places.is_empty() {
            return Ok(());
        }
        self.sort();
        if self.aside.is_none() {
            let file = tempfile::tempfile_in(&self.folder).at(&self.folder)?;
            self.aside = Some((BufWriter::with_capacity(256 << 10, file), 0));
        }
        let Some((file, at)) = &mut self.aside else { return Ok(()) };
        let from = *at;
        for (begin, key, end) in &self.places {
            let row = (end - begin) as u32;
            let written = file
                .write_all(&key.to_le_bytes())
                .and_then(|()| file.write_all(&row.to_le_bytes()))
                .and_then(|()| file.write_all(&self.bytes[*begin..*end]));
            written.at(&self.folder)?;
            *at += 8 + u64::from(row);
        }
        file.flush().at(&self.folder)?;
        self.parts.push((from, *at));
        self.bytes.clear();
        self.places.clear();
        Ok(())
    }
}

fn broken(folder: &Path) -> FilesError {
    FilesError::Io { path: folder.display().to_string(), why: "what was put aside can't be read back".to_owned() }
}

/// A part that was put aside, from row to row.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    ahead: Vec<u8>,
    used: usize,
    row: Vec<u8>,
}

impl<'a> Part<'a> {
    fn new(file: &'a File, at: u64, end: u64) -> Part<'a> {
        Part { file, at, end, ahead: Vec::new(), used: 0, row: Vec::new() }
    }

    /// Goes on to the next row, and gives its key.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; 8];
        if !self.read(&mut head)? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = head;
        let (key, whole) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
        let rest = whole.checked_sub(key).ok_or(io::ErrorKind::InvalidData)?;
        let mut key = vec![0; key];
        let mut row = std::mem::take(&mut self.row);
        row.resize(rest, 0);
        if !self.read(&mut key)? || !self.read(&mut row)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.row = row;
        Ok(Some(key))
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < out.len() {
            if self.used == self.ahead.len() {
                let wanted = AHEAD.min((self.end - self.at) as usize);
                if wanted == 0 {
                    return Ok(false);
                }
                self.ahead.resize(wanted, 0);
                self.file.read_exact_at(&mut self.ahead, self.at)?;
                self.at += wanted as u64;
                self.used = 0;
            }
            let part = (out.len() - filled).min(self.ahead.len() - self.used);
            out[filled..filled + part].copy_from_slice(&self.ahead[self.used..self.used + part]);
            filled += part;
            self.used += part;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limit: usize, day: bool) {
        let fields = [Field::new("a", Kind::Text), Field::new("t", Kind::Millis), Field::nullable("n", Kind::Double)];
        let time = Time { column: 1, kind: Kind::Millis };
        let order = Order { day: day.then_some(time), columns: vec![0, 1] };
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(&fields, order, folder.path(), limit);
        let mut expected = Vec::new();
        for batch in 0..20_i64 {
            let mut rows = Rows::new(&fields);
            for n in 0..1_000_i64 {
                let (name, at) =
                    (["b", "", "a\u{1}", "ä", "a"][(n % 5) as usize], (n * 7_919 + batch) % 400 * 1_000_000 - 5);
                assert!(rows.push(0, Cell::Text(name)) && rows.push(1, Cell::Int(at)));
                assert!(rows.push(2, if n % 3 == 0 { Cell::Null } else { Cell::Double(-0.0) }));
                rows.end_row(batch);
                expected.push((if day { at.div_euclid(86_400_000) } else { 0 }, name.to_owned(), at));
            }
            sorter.push(&rows).unwrap();
        }
        expected.sort();
        let mut got = Vec::new();
        let mut nulls = 0;
        let mut take = |rows: Rows| {
            for row in 0..rows.len() {
                let (Cell::Text(name), Cell::Int(at)) = (rows.cell(0, row), rows.cell(1, row)) else { panic!() };
                got.push((if day { at.div_euclid(86_400_000) } else { 0 }, name.to_owned(), at));
                nulls += usize::from(rows.cell(2, row) == Cell::Null);
            }
            Ok(true)
        };
        sorter.finish(&mut take).unwrap();
        assert_eq!(nulls, 20 * 334);
        assert_eq!(got, expected);
    }

    #[test]
    fn rows_come_back_in_order_from_memory_and_from_parts() {
        check(usize::MAX, false);
        check(usize::MAX, true);
        check(100_000, false);
        check(100_000, true);
    }
}
