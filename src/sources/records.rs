//! Splits an answer into its records without reading it into memory.
//!
//! Each record is handed on as raw bytes and parsed alone, so that one broken record costs
//! itself and not its page, and a list of a million coins needs no more memory than one of ten.

use std::io::{self, BufRead, Read};

use serde::de::IgnoredAny;

use super::Shape;

/// Longest record accepted. Real ones are about 1 KiB.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// The member of an envelope that holds the records.
const DATA: &[u8] = b"\"data\"";

/// Why a body does not hold records.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    #[error("the answer is empty")]
    Empty,
    #[error("the answer is not a JSON array (it starts with {0:?})")]
    NotAnArray(char),
    #[error("the answer is not a JSON object (it starts with {0:?})")]
    NotAnObject(char),
    #[error("the answer ends in the middle")]
    Truncated,
    #[error("the answer goes on after its end")]
    Trailing,
    #[error("a record is longer than {MAX_RECORD_BYTES} bytes")]
    RecordTooLong,
    #[error("the answer holds more than {0} records, more than a page")]
    TooMany(usize),
    #[error("the answer is no JSON: {0}")]
    NoJson(serde_json::Error),
    #[error("could not read the answer back: {0}")]
    Io(#[from] io::Error),
}

/// Reads records one by one from an answer of a known shape.
pub struct Records<R> {
    input: R,
    shape: Shape,
    state: State,
    /// The byte that ends the records: `]` or `}`.
    end: u8,
    /// The members of an envelope but its data, as they came.
    around: Vec<u8>,
}

#[derive(PartialEq)]
enum State {
    Start,
    /// Before the first element: the end here is that of an empty container.
    First,
    Inside,
    Done,
}

impl<R: BufRead> Records<R> {
    pub fn new(input: R, shape: Shape) -> Self {
        Records { input, shape, state: State::Start, end: b']', around: Vec::new() }
    }

    /// Replaces `record` by the next one's bytes; false at the end of a whole answer.
    pub fn next_into(&mut self, record: &mut Vec<u8>) -> Result<bool, ArrayError> {
        record.clear();
        if self.state == State::Done {
            return Ok(false);
        }
        if self.state == State::Start {
            if let Shape::One(key) = &self.shape {
                let key = format!("{}:", serde_json::Value::from(key.as_str()));
                self.state = State::Done;
                return self.whole(&key, record).map(|()| true);
            }
            if !self.open()? {
                self.state = State::Done;
                return Ok(false);
            }
            self.state = State::First;
        }
        let byte = self.take_until(b",", self.end, record)?;
        let blank = record.iter().all(u8::is_ascii_whitespace);
        let empty = self.state == State::First && byte == self.end && blank;
        self.state = State::Inside;
        if byte == self.end {
            self.state = State::Done;
            match self.shape {
                Shape::Envelope => self.leave_data()?,
                _ => self.close()?,
            }
        }
        Ok(!empty)
    }

    /// Of an envelope, once it was read to its end: the object without its data.
    pub fn around(self) -> Vec<u8> {
        [b"{".as_slice(), &self.around, b"}"].concat()
    }

    /// Goes to the first record. False when an envelope has no data.
    fn open(&mut self) -> Result<bool, ArrayError> {
        let array = self.shape == Shape::Array;
        match self.skip_whitespace()? {
            Some(b'[') if array => self.end = b']',
            Some(b'{') if !array => self.end = b'}',
            Some(other) if array => return Err(ArrayError::NotAnArray(char::from(other))),
            Some(other) => return Err(ArrayError::NotAnObject(char::from(other))),
            None => return Err(ArrayError::Empty),
        }
        self.input.consume(1);
        if self.shape == Shape::Envelope { self.enter_data() } else { Ok(true) }
    }

    /// Walks an envelope's members up to the first element of its data.
    fn enter_data(&mut self) -> Result<bool, ArrayError> {
        let mut key = Vec::new();
        loop {
            key.clear();
            if self.take_until(b":,", b'}', &mut key)? != b':' {
                // `{}`, or the members are over.
                self.close()?;
                return Ok(false);
            }
            if key.trim_ascii() == DATA {
                match self.skip_whitespace()? {
                    Some(open @ (b'[' | b'{')) => {
                        self.input.consume(1);
                        self.end = if open == b'[' { b']' } else { b'}' };
                        return Ok(true);
                    }
                    // null, as good as nothing.
                    _ => {
                        let mut nothing = Vec::new();
                        if self.take_until(b",", b'}', &mut nothing)? == b'}' {
                            self.close()?;
                            return Ok(false);
                        }
                        continue;
                    }
                }
            }
            if self.keep_member(&key)? == b'}' {
                self.close()?;
                return Ok(false);
            }
        }
    }

    /// Keeps a member whose key was read; the byte behind it.
    fn keep_member(&mut self, key: &[u8]) -> Result<u8, ArrayError> {
        let mut value = Vec::new();
        let byte = self.take_until(b",", b'}', &mut value)?;
        if !self.around.is_empty() {
            self.around.push(b',');
        }
        self.around.extend_from_slice(key);
        self.around.push(b':');
        self.around.extend_from_slice(&value);
        if self.around.len() > MAX_RECORD_BYTES { Err(ArrayError::RecordTooLong) } else { Ok(byte) }
    }

    /// Walks the members behind the data.
    fn leave_data(&mut self) -> Result<(), ArrayError> {
        let mut key = Vec::new();
        let mut byte = self.take_until(b",", b'}', &mut key)?;
        while byte == b',' {
            key.clear();
            if self.take_until(b":,", b'}', &mut key)? != b':' {
                break;
            }
            byte = self.keep_member(&key)?;
        }
        self.close()
    }

    /// Takes bytes up to one of `stops` or the closing `end` outside strings and brackets, which is
    /// consumed and returned.
    fn take_until(&mut self, stops: &[u8], end: u8, taken: &mut Vec<u8>) -> Result<u8, ArrayError> {
        let mut scanner = Scanner::default();
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Err(ArrayError::Truncated);
            }
            let found = scanner.scan(chunk, stops, end);
            let len = found.map_or(chunk.len(), |(at, _)| at);
            if taken.len() + len > MAX_RECORD_BYTES {
                return Err(ArrayError::RecordTooLong);
            }
            taken.extend_from_slice(&chunk[..len]);
            match found {
                Some((at, byte)) => {
                    self.input.consume(at + 1);
                    return Ok(byte);
                }
                None => self.input.consume(len),
            }
        }
    }

    /// The whole answer as one record behind its key.
    fn whole(&mut self, key: &str, record: &mut Vec<u8>) -> Result<(), ArrayError> {
        record.extend_from_slice(key.as_bytes());
        Read::by_ref(&mut self.input).take(MAX_RECORD_BYTES as u64 + 1).read_to_end(record)?;
        if record.len() > MAX_RECORD_BYTES {
            return Err(ArrayError::RecordTooLong);
        }
        match serde_json::from_slice::<IgnoredAny>(&record[key.len()..]) {
            Ok(_) => Ok(()),
            Err(_) if record.len() == key.len() => Err(ArrayError::Empty),
            Err(err) if err.is_eof() => Err(ArrayError::Truncated),
            Err(err) => Err(ArrayError::NoJson(err)),
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
    /// The place and byte of the first stop or end outside strings and brackets, if it is in this chunk.
    fn scan(&mut self, chunk: &[u8], stops: &[u8], end: u8) -> Option<(usize, u8)> {
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
                    byte if self.depth == 0 && (byte == end || stops.contains(&byte)) => return Some((at, byte)),
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
    let bytes = b"\"{}[],:";
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

/// Reads the whole answer once, believing nothing before its end: the number of its records.
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
        split_as(Shape::Array, text).map(|(records, _)| records)
    }

    fn split_as(shape: Shape, text: &str) -> Result<(Vec<String>, String), ArrayError> {
        // A buffer of three bytes makes every element cross buffer borders.
        let mut records = Records::new(io::BufReader::with_capacity(3, text.as_bytes()), shape);
        let mut out = Vec::new();
        let mut record = Vec::new();
        while records.next_into(&mut record)? {
            out.push(String::from_utf8_lossy(&record).trim().to_owned());
        }
        assert!(!records.next_into(&mut record)?, "the end stays the end");
        Ok((out, String::from_utf8(records.around()).unwrap()))
    }

    #[test]
    fn members_of_a_map_come_with_their_keys() {
        let (records, _) = split_as(Shape::Map, r#" { "BTC-USD": {"a":[1,2]}, "x,y" :null } "#).unwrap();
        assert_eq!(records, [r#""BTC-USD": {"a":[1,2]}"#, r#""x,y" :null"#]);
        assert_eq!(split_as(Shape::Map, "{}").unwrap().0, [""; 0]);
        assert!(matches!(split_as(Shape::Map, "[]"), Err(ArrayError::NotAnObject('['))));
        assert!(matches!(split_as(Shape::Map, r#"{"a":{"b":1}"#), Err(ArrayError::Truncated)));
    }

    #[test]
    fn an_envelope_gives_its_data_and_what_is_around_it() {
        let check = |text: &str, records: &[&str], around: &str| {
            let (found, rest) = split_as(Shape::Envelope, text).unwrap();
            assert_eq!(
                (found, rest.replace(char::is_whitespace, "")),
                (records.iter().map(|r| r.to_string()).collect(), around.to_owned()),
                "{text}"
            );
        };
        check(r#"{"status":{"e":"}"},"data":[{"a":1},2]}"#, &[r#"{"a":1}"#, "2"], r#"{"status":{"e":"}"}}"#);
        check(r#"{"data":[1], "status": {"data":[5]} , "x":"data"} "#, &["1"], r#"{"status":{"data":[5]},"x":"data"}"#);
        check(r#"{"status":1,"data":{"1":{"id":1},"2":[]}}"#, &[r#""1":{"id":1}"#, r#""2":[]"#], r#"{"status":1}"#);
        check(r#"{"status":1,"data":[]}"#, &[], r#"{"status":1}"#);
        check(r#"{"data":null,"status":1}"#, &[], r#"{"status":1}"#);
        check(r#"{"status":1}"#, &[], r#"{"status":1}"#);
        check("{}", &[], "{}");
        for cut in
            [r#"{"status":1,"data":[1"#, r#"{"status":1,"data":[1]"#, r#"{"status":1,"#, r#"{"data":[1],"status":{"#]
        {
            assert!(matches!(split_as(Shape::Envelope, cut), Err(ArrayError::Truncated)), "{cut}");
        }
        assert!(matches!(split_as(Shape::Envelope, r#"{"data":[1]}x"#), Err(ArrayError::Trailing)));
    }

    #[test]
    fn a_whole_answer_is_one_record_under_its_key() {
        let one = |text: &str| split_as(Shape::One("BTC-\"USD".to_owned()), text).map(|(records, _)| records);
        assert_eq!(one(r#" {"last":"1"} "#).unwrap(), [r#""BTC-\"USD": {"last":"1"}"#]);
        assert!(matches!(one(r#"{"last""#), Err(ArrayError::Truncated)));
        assert!(matches!(one("<html>"), Err(ArrayError::NoJson(_))));
        assert!(matches!(one(""), Err(ArrayError::Empty)));
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
