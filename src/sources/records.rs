//! Splits a JSON array into its elements without reading the array into memory.
//!
//! Each element is handed on as raw bytes and parsed alone, so that one broken record costs
//! itself and not its page, and a list of a million coins needs no more memory than one of ten.

use std::io::{self, BufRead};

/// Longest element accepted. Real ones are about 1 KiB.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Why a body is no JSON array of records.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    #[error("the answer is empty")]
    Empty,
    #[error("the answer is not a JSON array (it starts with {0:?})")]
    NotAnArray(char),
    #[error("the answer ends in the middle")]
    Truncated,
    #[error("the answer goes on after its end")]
    Trailing,
    #[error("a record is longer than {MAX_RECORD_BYTES} bytes")]
    RecordTooLong,
    #[error("the answer holds more than {0} records, more than a page")]
    TooMany(usize),
    #[error("could not read the answer back: {0}")]
    Io(#[from] io::Error),
}

/// Reads elements one by one from a JSON array.
pub struct Records<R> {
    input: R,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Start,
    /// Before the first element: `]` ends an empty array.
    First,
    Inside,
    Done,
}

impl<R: BufRead> Records<R> {
    pub fn new(input: R) -> Self {
        Records { input, state: State::Start }
    }

    /// Replaces `record` by the next element's bytes; false at the end of a whole array.
    pub fn next_into(&mut self, record: &mut Vec<u8>) -> Result<bool, ArrayError> {
        record.clear();
        if self.state == State::Done {
            return Ok(false);
        }
        if self.state == State::Start {
            self.open()?;
            self.state = State::First;
        }
        let mut scanner = Scanner::default();
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Err(ArrayError::Truncated);
            }
            let end = scanner.scan(chunk);
            let taken = end.map_or(chunk.len(), |(at, _)| at);
            if record.len() + taken > MAX_RECORD_BYTES {
                return Err(ArrayError::RecordTooLong);
            }
            record.extend_from_slice(&chunk[..taken]);
            let Some((at, byte)) = end else {
                let len = chunk.len();
                self.input.consume(len);
                continue;
            };
            self.input.consume(at + 1);
            let blank = record.iter().all(u8::is_ascii_whitespace);
            let empty_array = self.state == State::First && byte == b']' && blank;
            self.state = State::Inside;
            if byte == b']' {
                self.close()?;
                self.state = State::Done;
            }
            return Ok(!empty_array);
        }
    }

    fn open(&mut self) -> Result<(), ArrayError> {
        match self.skip_whitespace()? {
            Some(b'[') => {
                self.input.consume(1);
                Ok(())
            }
            Some(other) => Err(ArrayError::NotAnArray(char::from(other))),
            None => Err(ArrayError::Empty),
        }
    }

    fn close(&mut self) -> Result<(), ArrayError> {
        match self.skip_whitespace()? {
            None => Ok(()),
            Some(_) => Err(ArrayError::Trailing),
        }
    }

    fn skip_whitespace(&mut self) -> Result<Option<u8>, ArrayError> {
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            match chunk.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(at) => {
                    let byte = chunk[at];
                    self.input.consume(at);
                    return Ok(Some(byte));
                }
                None => {
                    let len = chunk.len();
                    self.input.consume(len);
                }
            }
        }
    }
}

/// Looks for the end of an element; it remembers where it is between two buffers.
#[derive(Default)]
struct Scanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// The place and byte of the `,` or `]` behind the element, if it is in this chunk.
    fn scan(&mut self, chunk: &[u8]) -> Option<(usize, u8)> {
        let mut at = 0;
        while at < chunk.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                // Half of all bytes are in strings: skip to the next one that means something.
                at += memchr::memchr2(b'"', b'\\', &chunk[at..])?;
                self.in_string = chunk[at] != b'"';
                self.escaped = self.in_string;
                at += 1;
            } else {
                at += chunk[at..].iter().position(|byte| STRUCTURE[usize::from(*byte)])?;
                match chunk[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 0 => self.depth -= 1,
                    byte @ (b',' | b']') if self.depth == 0 => return Some((at, byte)),
                    _ => {}
                }
                at += 1;
            }
        }
        None
    }
}

/// The bytes that mean something outside strings.
const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"\"{}[],";
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

/// Reads the whole array once, believing nothing before its end: the number of its elements.
pub fn count(mut records: Records<impl BufRead>) -> Result<usize, ArrayError> {
    let mut record = Vec::new();
    let mut count = 0;
    while records.next_into(&mut record)? {
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<String>, ArrayError> {
        // A buffer of three bytes makes every element cross buffer borders.
        let mut records = Records::new(io::BufReader::with_capacity(3, text.as_bytes()));
        let mut out = Vec::new();
        let mut record = Vec::new();
        while records.next_into(&mut record)? {
            out.push(String::from_utf8_lossy(&record).trim().to_owned());
        }
        assert!(!records.next_into(&mut record)?, "the end stays the end");
        Ok(out)
    }

    #[test]
    fn elements_come_out_whole() {
        assert_eq!(split("[]").unwrap(), [""; 0]);
        assert_eq!(split(" [ ] \n").unwrap(), [""; 0]);
        assert_eq!(
            split(r#"[{"a":"],[}\"\\"},{"b":[1,{"c":2}]}, 3 ]"#).unwrap(),
            [r#"{"a":"],[}\"\\"}"#, r#"{"b":[1,{"c":2}]}"#, "3"]
        );
    }

    #[test]
    fn a_broken_element_is_an_element() {
        assert_eq!(split(r#"[{"p":NaN},{"p":1}]"#).unwrap(), [r#"{"p":NaN}"#, r#"{"p":1}"#]);
        assert_eq!(split("[1,,2]").unwrap(), ["1", "", "2"]);
    }

    #[test]
    fn what_is_no_whole_array_is_told() {
        assert!(matches!(split(""), Err(ArrayError::Empty)));
        assert!(matches!(split("{}"), Err(ArrayError::NotAnArray('{'))));
        assert!(matches!(split("<html>"), Err(ArrayError::NotAnArray('<'))));
        assert!(matches!(split(r#"[{"a":1},{"b""#), Err(ArrayError::Truncated)));
        assert!(matches!(split("[1]["), Err(ArrayError::Trailing)));
    }
}
