//! A stream of bytes cut into records, in a buffer that no record can make large.

use std::io::{self, ErrorKind, Read};

/// The longest record; what is longer is told and passed over.
pub const MAX_RECORD: usize = 1 << 20;
/// How much of such a record is shown.
const SHOWN: usize = 4 << 10;
const CHUNK: usize = 256 << 10;

/// What is in front of the bytes that a text begins with, at times.
const BOM: &[u8] = b"\xef\xbb\xbf";

pub struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Of the first byte in the buffer that is not handed out.
    position: u64,
    /// Lines handed out.
    line: u64,
    at_end: bool,
    form: Form,
    /// A quote was opened and not closed before this: until there, records end where lines do. Else each
    /// line of a hostile file would be looked at as often as it has lines before it.
    plain_until: u64,
    /// The beginning of a record that was too long.
    shown: Vec<u8>,
}

/// How records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// At the end of the line, whatever is in it.
    Lines,
    /// At the end of a line that is in no quotes.
    Quoted,
    /// At a closing bracket: a JSON array of arrays.
    Brackets,
}

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub bytes: &'a [u8],
    /// The number of its first line, from 1 on.
    pub line: u64,
    /// A line end stood behind it.
    pub is_ended: bool,
    pub fault: Option<Fault>,
}

/// Why a record is none; its bytes are the beginning of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the line is longer than {MAX_RECORD} bytes")]
    TooLong,
    #[error("a quote is opened in this line and never closed")]
    Unclosed,
}

/// Where a look for the end of a record stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    CellBegins,
    Plain,
    Inside,
    /// Behind a quote inside of quotes: the end of them, or the first of two.
    MaybeEnd,
}

impl<R: Read> Lines<R> {
    pub fn new(input: R, form: Form) -> Self {
        let buffer = vec![0; CHUNK];
        Lines {
            input,
            buffer,
            from: 0,
            to: 0,
            position: 0,
            line: 0,
            at_end: false,
            form,
            plain_until: 0,
            shown: Vec::new(),
        }
    }

    /// Bytes handed out: where the next record begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Lines handed out.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The next record, without what ends it.
    pub fn next_record(&mut self) -> io::Result<Option<Record<'_>>> {
        if self.position == 0 && self.from == 0 {
            while self.to < BOM.len() && self.fill()? {}
            if self.buffer[..self.to].starts_with(BOM) {
                self.from = BOM.len();
                self.position = BOM.len() as u64;
            }
        }
        let end_byte = if self.form == Form::Brackets { b']' } else { b'\n' };
        // The end of the first line, where quotes keep the record open behind it.
        let mut first_line = None;
        let (mut looked, mut quotes) = (0, Quotes::CellBegins);
        let is_quoted = self.form == Form::Quoted && self.position >= self.plain_until;
        loop {
            let rest = &self.buffer[self.from + looked..self.to];
            match memchr::memchr(end_byte, rest) {
                Some(end) => {
                    let stop = looked + end;
                    if is_quoted {
                        quotes = follow(quotes, &self.buffer[self.from + looked..self.from + stop + 1]);
                        if quotes == Quotes::Inside {
                            first_line.get_or_insert(stop);
                            looked = stop + 1;
                            if looked > MAX_RECORD {
                                return Ok(Some(self.unclosed(first_line.unwrap_or(stop), looked)));
                            }
                            continue;
                        }
                    }
                    return Ok(Some(self.take(stop, 1, None)));
                }
                None => {
                    if is_quoted {
                        quotes = follow(quotes, rest);
                    }
                    looked = self.to - self.from;
                }
            }
            if let Some(first_line) = first_line
                && (looked > MAX_RECORD || self.at_end)
            {
                return Ok(Some(self.unclosed(first_line, looked)));
            }
            if looked > MAX_RECORD {
                return self.too_long(end_byte).map(Some);
            }
            if !self.fill()? {
                if first_line.is_some() {
                    continue;
                }
                return Ok((looked > 0).then(|| self.take(looked, 0, None)));
            }
        }
    }

    fn unclosed(&mut self, first_line: usize, looked: usize) -> Record<'_> {
        self.plain_until = self.position + looked as u64;
        self.take(first_line, 1, Some(Fault::Unclosed))
    }

    /// Hands out so many bytes, and passes over the end behind them.
    fn take(&mut self, length: usize, end: usize, fault: Option<Fault>) -> Record<'_> {
        let (from, line) = (self.from, self.line + 1);
        self.from += length + end;
        self.position += (length + end) as u64;
        let bytes = &self.buffer[from..from + length];
        self.line += match self.form {
            Form::Lines => 1,
            Form::Quoted => 1 + memchr::memchr_iter(b'\n', bytes).count() as u64,
            Form::Brackets => memchr::memchr_iter(b'\n', bytes).count() as u64,
        };
        Record { bytes, line, is_ended: end > 0, fault }
    }

    /// Passes over a record that is too long without keeping it.
    fn too_long(&mut self, end_byte: u8) -> io::Result<Record<'_>> {
        self.shown = self.buffer[self.from..self.from + SHOWN].to_vec();
        let line = self.line + 1;
        let mut is_ended = false;
        loop {
            let rest = &self.buffer[self.from..self.to];
            let end = memchr::memchr(end_byte, rest);
            let passed = end.map_or(rest.len(), |end| end + 1);
            if self.form == Form::Brackets {
                self.line += memchr::memchr_iter(b'\n', &rest[..passed]).count() as u64;
            }
            self.from += passed;
            self.position += passed as u64;
            is_ended |= end.is_some();
            if is_ended || !self.fill()? {
                break;
            }
        }
        if self.form != Form::Brackets {
            self.line += 1;
        }
        Ok(Record { bytes: &self.shown, line, is_ended, fault: Some(Fault::TooLong) })
    }

    /// Reads on; false at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        if self.at_end {
            return Ok(false);
        }
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.buffer.len() {
            let grown = (2 * self.buffer.len()).min(MAX_RECORD + 2 * CHUNK);
            self.buffer.resize(grown.max(self.to + CHUNK), 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.to..]) {
                Ok(0) => {
                    self.at_end = true;
                    return Ok(false);
                }
                Ok(read) => {
                    self.to += read;
                    return Ok(true);
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }
}

/// Follows quotes through a piece of a record.
fn follow(mut quotes: Quotes, bytes: &[u8]) -> Quotes {
    let plain = matches!(quotes, Quotes::CellBegins | Quotes::Plain);
    if plain && memchr::memchr(b'"', bytes).is_none() {
        return match bytes.last() {
            Some(b',') => Quotes::CellBegins,
            Some(_) => Quotes::Plain,
            None => quotes,
        };
    }
    for byte in bytes {
        quotes = match (quotes, byte) {
            (Quotes::CellBegins, b'"') | (Quotes::MaybeEnd, b'"') => Quotes::Inside,
            (Quotes::Inside, b'"') => Quotes::MaybeEnd,
            (Quotes::Inside, _) => Quotes::Inside,
            (_, b',') => Quotes::CellBegins,
            _ => Quotes::Plain,
        };
    }
    quotes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, as a pipe may.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(into.len()).min(self.0.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all(text: &[u8], form: Form, drop: usize) -> Vec<(String, u64, bool, Option<Fault>)> {
        let mut lines = Lines::new(Drops(text, drop), form);
        let mut out = Vec::new();
        while let Some(record) = lines.next_record().unwrap() {
            let bytes = String::from_utf8_lossy(record.bytes).into_owned();
            out.push((bytes, record.line, record.is_ended, record.fault));
        }
        assert_eq!(lines.position(), text.len() as u64);
        out
    }

    fn line(text: &str, line: u64) -> (String, u64, bool, Option<Fault>) {
        (text.to_owned(), line, true, None)
    }

    #[test]
    fn records_are_the_same_however_the_bytes_come() {
        for drop in [1, 2, 7, 1000] {
            let text = b"\xef\xbb\xbfa,b\r\n\nc\nlast";
            let expected = [line("a,b\r", 1), line("", 2), line("c", 3), ("last".to_owned(), 4, false, None)];
            assert_eq!(all(text, Form::Lines, drop), expected);
            assert_eq!(all(b"", Form::Lines, drop), []);
            let text = b"a,\"x\n\"\"y,\n\",2\nb\"c,d\n\"\",e\n";
            let expected = [line("a,\"x\n\"\"y,\n\",2", 1), line("b\"c,d", 4), line("\"\",e", 5)];
            assert_eq!(all(text, Form::Quoted, drop), expected);
            assert_eq!(all(b"[[1,2],\n [3]]", Form::Brackets, drop)[1].0, ",\n [3");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_its_own_line_only() {
        for drop in [1, 1000] {
            let unclosed = ("\"a,1".to_owned(), 1, true, Some(Fault::Unclosed));
            assert_eq!(all(b"\"a,1\nb\nc\n", Form::Quoted, drop), [unclosed, line("b", 2), line("c", 3)]);
        }
        let text = [b"\"a,1\n".to_vec(), b"b,2\n".repeat(400_000)].concat();
        let records = all(&text, Form::Quoted, 1 << 16);
        assert_eq!((records[0].3, records.len()), (Some(Fault::Unclosed), 400_001));
        // Many of them cost no more than one: each look at a megabyte is behind the last.
        let text = b"x\",\"a\n".repeat(400_000);
        let began = std::time::Instant::now();
        assert_eq!(all(&text, Form::Quoted, 1 << 16).len(), 400_000);
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn a_line_without_an_end_costs_no_memory() {
        let long = vec![b'x'; 40 << 20];
        for form in [Form::Lines, Form::Quoted, Form::Brackets] {
            let end: &[u8] = if form == Form::Brackets { b"]" } else { b"\n" };
            let text = [b"a", end, &long, end, b"b", end].concat();
            let mut lines = Lines::new(Drops(&text, 1 << 16), form);
            let mut seen = Vec::new();
            while let Some(record) = lines.next_record().unwrap() {
                seen.push((record.bytes.len(), record.bytes[0], record.fault));
            }
            assert_eq!(seen, [(1, b'a', None), (SHOWN, b'x', Some(Fault::TooLong)), (1, b'b', None)]);
            assert_eq!(lines.position(), text.len() as u64);
            assert!(lines.buffer.len() <= MAX_RECORD + 3 * CHUNK, "{}", lines.buffer.len());
        }
    }
}
