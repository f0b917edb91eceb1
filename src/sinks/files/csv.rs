//! CSV by RFC 4180, lines ended by LF: an empty cell is NULL, an empty text is `""`, times are RFC 3339 in
//! UTC, doubles the shortest text that reads back as the same bits.

use std::io::Write;

use super::error::{At, FilesError};
use super::out::{Out, Whole};
use crate::domain::rows::{Cell, Field, Kind, Rows};
use crate::domain::{Micros, Stamp};

/// Bytes gathered before they are written.
const BUFFER: usize = 64 << 10;

pub struct CsvFile {
    out: Out,
    fields: Vec<Field>,
    line: Vec<u8>,
}

impl CsvFile {
    /// Begins a file with the line of names.
    pub fn begin(out: Out, fields: &[Field]) -> CsvFile {
        let mut line = Vec::with_capacity(BUFFER + 4096);
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        line.extend_from_slice(names.join(",").as_bytes());
        line.push(b'\n');
        CsvFile { out, fields: fields.to_vec(), line }
    }

    pub fn write(&mut self, rows: &Rows) -> Result<(), FilesError> {
        for row in 0..rows.len() {
            for (column, field) in self.fields.iter().enumerate() {
                if column > 0 {
                    self.line.push(b',');
                }
                write_cell(&mut self.line, field.kind, rows.cell(column, row));
            }
            self.line.push(b'\n');
            if self.line.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub fn end(mut self) -> Result<Whole, FilesError> {
        self.flush()?;
        self.out.end()
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        let path = self.out.path().to_owned();
        self.out.write_all(&self.line).at(&path)?;
        self.line.clear();
        Ok(())
    }
}

fn write_cell(out: &mut Vec<u8>, kind: Kind, cell: Cell<'_>) {
    match (kind, cell) {
        (_, Cell::Null) => {}
        (_, Cell::Text(text)) => write_text(out, text),
        (_, Cell::Double(number)) => out.extend_from_slice(ryu::Buffer::new().format(number).as_bytes()),
        (_, Cell::Bool(truth)) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
        (Kind::Millis, Cell::Int(millis)) => match Stamp::from_millis(millis) {
            Ok(stamp) => write_time(out, stamp.text().as_str()),
            Err(_) => write_number(out, millis),
        },
        (Kind::Micros, Cell::Int(micros)) => match Micros::from_micros(micros) {
            Ok(moment) => write_time(out, &moment.to_string()),
            Err(_) => write_number(out, micros),
        },
        (_, Cell::Int(number)) => write_number(out, number),
    }
}

fn write_number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// `2026-05-19 08:47:57.580` as RFC 3339.
fn write_time(out: &mut Vec<u8>, text: &str) {
    let at = out.len();
    out.extend_from_slice(text.as_bytes());
    out[at + 10] = b'T';
    out.push(b'Z');
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if !bytes.is_empty() && !bytes.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        out.extend_from_slice(bytes);
        return;
    }
    out.push(b'"');
    for byte in bytes {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_written_as_they_are_read_back() {
        let check = |kind, cell, expected: &str| {
            let mut out = Vec::new();
            write_cell(&mut out, kind, cell);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(Kind::Text, Cell::Null, "");
        check(Kind::Text, Cell::Text(""), "\"\"");
        check(Kind::Text, Cell::Text("plain ₿"), "plain ₿");
        check(Kind::Text, Cell::Text("a,b"), "\"a,b\"");
        check(Kind::Text, Cell::Text("say \"hi\"\n"), "\"say \"\"hi\"\"\n\"");
        check(Kind::Millis, Cell::Int(1_779_180_477_580), "2026-05-19T08:47:57.580Z");
        check(Kind::Micros, Cell::Int(1_779_180_477_580_001), "2026-05-19T08:47:57.580001Z");
        check(Kind::Int, Cell::Int(-7), "-7");
        check(Kind::Bool, Cell::Bool(true), "true");
        for number in [-0.0, 0.1 + 0.2, 5e-324, 1e59, 17.0, -1.5e300, f64::MAX] {
            let mut out = Vec::new();
            write_cell(&mut out, Kind::Double, Cell::Double(number));
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits(), "{text}");
        }
    }
}
