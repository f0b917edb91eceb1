//! Cells of a record, and what is in them: texts, numbers, moments. Bytes in, values out.

use std::borrow::Cow;

use crate::domain::Stamp;

/// Cells looked at; a record with more is no record of ours.
const MOST: usize = 40;

/// Where the cells of a record begin and end.
pub struct Cells<'a> {
    record: &'a [u8],
    places: [Place; MOST],
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Place {
    from: u32,
    to: u32,
    /// In quotes, which `from` and `to` leave out.
    quoted: bool,
}

impl<'a> Cells<'a> {
    /// Splits at commas that stand in no quotes. Records are far shorter than 4 GiB.
    pub fn of(record: &'a [u8]) -> Cells<'a> {
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        let mut cells = Cells { record, places: [Place::default(); MOST], count: 0 };
        if memchr::memchr(b'"', record).is_some() {
            cells.split_quoted();
            return cells;
        }
        let mut from = 0;
        for comma in memchr::memchr_iter(b',', record) {
            cells.add(from, comma, false);
            from = comma + 1;
        }
        cells.add(from, record.len(), false);
        cells
    }

    fn split_quoted(&mut self) {
        let record = self.record;
        let mut from = 0;
        loop {
            if record.get(from) == Some(&b'"') {
                let mut at = from + 1;
                // To the quote that is not doubled.
                while at < record.len() && (record[at] != b'"' || record.get(at + 1) == Some(&b'"')) {
                    at += if record[at] == b'"' { 2 } else { 1 };
                }
                let to = at.min(record.len());
                let behind = (to + 1).min(record.len());
                let comma = memchr::memchr(b',', &record[behind..]).map(|comma| behind + comma);
                let next = comma.unwrap_or(record.len());
                // What stands between the quote and the comma makes it a text with quotes in it.
                match record[behind..next].is_empty() {
                    true => self.add(from + 1, to, true),
                    false => self.add(from, next, false),
                }
                match comma {
                    Some(comma) => from = comma + 1,
                    None => return,
                }
            } else {
                let comma = memchr::memchr(b',', &record[from..]).map(|comma| from + comma);
                self.add(from, comma.unwrap_or(record.len()), false);
                match comma {
                    Some(comma) => from = comma + 1,
                    None => return,
                }
            }
        }
    }

    fn add(&mut self, from: usize, to: usize, quoted: bool) {
        if let Some(place) = self.places.get_mut(self.count) {
            *place = Place { from: from as u32, to: to as u32, quoted };
        }
        self.count += 1;
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes of a cell as they stand, without quotes around them; nothing where there is none.
    pub fn raw(&self, at: usize) -> &'a [u8] {
        match self.places[..self.count.min(MOST)].get(at) {
            Some(place) => &self.record[place.from as usize..place.to as usize],
            None => b"",
        }
    }

    /// The bytes of a cell without blanks around them.
    pub fn trimmed(&self, at: usize) -> &'a [u8] {
        self.raw(at).trim_ascii()
    }

    /// The text of a cell with doubled quotes made one; `None` for an empty cell, which is not the same as
    /// an empty text in quotes.
    pub fn text(&self, at: usize) -> Result<Option<Cow<'a, str>>, String> {
        let raw = self.raw(at);
        let quoted = self.places.get(at).is_some_and(|place| place.quoted);
        if raw.is_empty() && !quoted {
            return Ok(None);
        }
        let text = utf8(raw)?;
        Ok(Some(match quoted && text.contains("\"\"") {
            true => Cow::Owned(text.replace("\"\"", "\"")),
            false => Cow::Borrowed(text),
        }))
    }

    /// A number that may be missing.
    pub fn number(&self, at: usize, name: &str) -> Result<Option<f64>, String> {
        match self.trimmed(at) {
            b"" => Ok(None),
            text => number(text).map(Some).ok_or_else(|| no_number(name, text)),
        }
    }

    /// A number that must be there.
    pub fn needed(&self, at: usize, name: &str) -> Result<f64, String> {
        let text = self.trimmed(at);
        number(text).ok_or_else(|| no_number(name, text))
    }
}

fn no_number(name: &str, text: &[u8]) -> String {
    match text {
        b"" => format!("{name} is empty"),
        text => format!("{name} is no number: {}", shown(text)),
    }
}

/// Bytes for an error, no longer than one likes to read.
pub fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(60)];
    format!("{:?}{}", String::from_utf8_lossy(cut), if cut.len() < bytes.len() { "…" } else { "" })
}

pub fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|err| format!("it is not UTF-8 (byte {})", err.valid_up_to() + 1))
}

/// A finite decimal number, read to the nearest double.
pub fn number(text: &[u8]) -> Option<f64> {
    // The standard parser knows `inf` and `nan`, too.
    if !matches!(text.last(), Some(b'0'..=b'9' | b'.')) {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// A whole number.
pub fn whole(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// 1973-03-03: below it numbers of seconds and of milliseconds can't be told apart, and nothing was traded.
const FIRST_NUMBER_MS: i64 = 100_000_000_000;

/// A moment, as a text or as a number since 1970. Fractions below the millisecond are cut.
pub fn moment(text: &[u8]) -> Result<Stamp, String> {
    let millis = match text.get(4) {
        Some(b'-') => calendar(text),
        _ => since_1970(text).filter(|millis| *millis >= FIRST_NUMBER_MS),
    };
    let millis = millis.ok_or_else(|| match text {
        b"" => "the time is empty".to_owned(),
        // Dates without hyphens, days of a spreadsheet, years.
        text if since_1970(text).is_some() => {
            format!("{} is no time: as a number since 1970 it is before 1973; write dates as 2020-01-31", shown(text))
        }
        text => format!("this is no time: {}", shown(text)),
    })?;
    Stamp::from_millis(millis).map_err(|err| format!("{}: {err}", shown(text)))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size: from 1973 to
/// 5138 no number of one is one of another in that time.
pub fn since_1970(text: &[u8]) -> Option<i64> {
    let (digits, fraction) = match memchr::memchr(b'.', text) {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    if digits.is_empty() || digits.len() > 19 || !digits.iter().chain(fraction).all(u8::is_ascii_digit) {
        // Such as 1.6035228e+09, as some tools write large numbers.
        let whole = number(text).filter(|value| value.fract() == 0.0 && (0.0..9e15).contains(value))?;
        return Some(in_millis(whole as i64, b""));
    }
    let whole =
        digits.iter().try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))?;
    Some(in_millis(whole, fraction))
}

fn in_millis(whole: i64, fraction: &[u8]) -> i64 {
    if whole < 100_000_000_000 {
        let place = |at: usize| fraction.get(at).map_or(0, |digit| i64::from(digit - b'0'));
        whole * 1000 + place(0) * 100 + place(1) * 10 + place(2)
    } else if whole < 100_000_000_000_000 {
        whole
    } else if whole < 100_000_000_000_000_000 {
        whole / 1000
    } else {
        whole / 1_000_000
    }
}

/// `2013-04-29`, `2013-04-29 23:59:59`, `2025-08-01T00:00:59.999000+00:00`, `2013-04-28 00:00:00 UTC`, in
/// milliseconds since 1970. Without a zone it is UTC.
fn calendar(text: &[u8]) -> Option<i64> {
    let two = |at: usize| {
        let pair = text.get(at..at + 2)?;
        pair.iter().all(u8::is_ascii_digit).then(|| i64::from(pair[0] - b'0') * 10 + i64::from(pair[1] - b'0'))
    };
    if *text.get(4)? != b'-' || *text.get(7)? != b'-' {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let mut millis = days(year, month, day)? * 86_400_000;
    let mut rest = &text[10..];
    if rest.is_empty() {
        return Some(millis);
    }
    if !matches!(rest[0], b' ' | b'T') || *text.get(13)? != b':' {
        return None;
    }
    let (hour, minute) = (two(11)?, two(14)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    millis += hour * 3_600_000 + minute * 60_000;
    rest = &text[16..];
    if rest.first() == Some(&b':') {
        let second = two(17)?;
        // A leap second is the last moment of its minute.
        if second > 60 {
            return None;
        }
        millis += second.min(59) * 1000;
        rest = &text[19..];
        if rest.first() == Some(&b'.') {
            let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let place = |at: usize| if at < digits { i64::from(rest[1 + at] - b'0') } else { 0 };
            millis += place(0) * 100 + place(1) * 10 + place(2);
            if digits == 0 {
                return None;
            }
            rest = &rest[1 + digits..];
        }
    }
    Some(millis - zone(rest.trim_ascii_start())?)
}

/// How far a zone is ahead of UTC, in milliseconds.
fn zone(text: &[u8]) -> Option<i64> {
    let digit = |at: usize| text.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| i64::from(byte - b'0'));
    match text {
        b"" | b"Z" | b"z" | b"UTC" | b"utc" | b"GMT" => Some(0),
        [sign @ (b'+' | b'-'), ..] => {
            let colon = usize::from(text.get(3) == Some(&b':'));
            let minutes = (digit(1)? * 10 + digit(2)?) * 60 + digit(3 + colon)? * 10 + digit(4 + colon)?;
            let whole = text.len() == 5 + colon && minutes < 24 * 60;
            whole.then_some(if *sign == b'-' { -minutes } else { minutes } * 60_000)
        }
        _ => None,
    }
}

/// Days since 1970 of a date in the Gregorian calendar; `None` where there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Howard Hinnant's `days_from_civil`, for years from 1 on.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(record: &str) -> Vec<Option<String>> {
        let cells = Cells::of(record.as_bytes());
        (0..cells.count()).map(|at| cells.text(at).unwrap().map(Cow::into_owned)).collect()
    }

    #[test]
    fn quotes_are_taken_off_and_empty_is_not_an_empty_text() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(texts("a,,\"\",b\r"), [some("a"), None, some(""), some("b")]);
        assert_eq!(texts("\"x,\"\"y\"\"\nz\",2,\"\"\"\""), [some("x,\"y\"\nz"), some("2"), some("\"")]);
        assert_eq!(texts("a\"b,\"c\"d,e"), [some("a\"b"), some("\"c\"d"), some("e")]);
        assert_eq!(texts(""), [None]);
        assert_eq!(texts("\"open"), [some("open")]);
        assert_eq!(Cells::of(&b",".repeat(99)).count(), 100);
        assert_eq!(Cells::of(&b",".repeat(99)).raw(70), b"");
    }

    #[test]
    fn numbers_are_exact_and_never_infinite() {
        for (text, value) in
            [("1", 1.0), ("-0.0", -0.0), ("5e-324", 5e-324), ("8.547439938411117e-05", 8.547439938411117e-05)]
        {
            assert_eq!(number(text.as_bytes()).map(f64::to_bits), Some(f64::to_bits(value)), "{text}");
        }
        for text in ["", "nan", "inf", "-Infinity", "1e999", "1,5", "0x1", "1 2", "١"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Cells::of(b" 1.5 ,x").number(0, "a"), Ok(Some(1.5)));
        assert!(Cells::of(b" 1.5 ,x").number(1, "open").unwrap_err().contains("open is no number: \"x\""));
    }

    #[test]
    fn moments_are_read_in_every_form_that_files_hold() {
        let check = |text: &str, expected: &str| {
            assert_eq!(moment(text.as_bytes()).unwrap().to_string(), expected, "{text}");
        };
        check("2013-04-29", "2013-04-29 00:00:00.000");
        check("2013-04-29 23:59:59", "2013-04-29 23:59:59.000");
        check("2013-04-28 00:00:00 UTC", "2013-04-28 00:00:00.000");
        check("2025-08-01 00:00:59.999000+00:00", "2025-08-01 00:00:59.999");
        check("2026-05-19T08:47:57.580Z", "2026-05-19 08:47:57.580");
        check("2026-05-19T10:47:57+0200", "2026-05-19 08:47:57.000");
        check("2026-05-19 08:47", "2026-05-19 08:47:00.000");
        check("1603522800.0", "2020-10-24 07:00:00.000");
        check("1603522800", "2020-10-24 07:00:00.000");
        check("1.6035228e+09", "2020-10-24 07:00:00.000");
        check("1603522800123", "2020-10-24 07:00:00.123");
        check("1603522800123456", "2020-10-24 07:00:00.123");
        check("1603522800123456789", "2020-10-24 07:00:00.123");
        for text in [
            "",
            "2013-02-30",
            "2013-13-01",
            "yesterday",
            "2013-04-29 25:00:00",
            "1969-12-31",
            "-1",
            "0001-01-01",
            "2013-04-29 10:00:00 CET",
            "2020-10-24 07-AM",
            "99999999999999999999",
            "20200101",
            "43831",
            "2020",
            "0",
            "2013-04-29x",
            "2026-05-19 08:47:57.",
        ] {
            assert!(moment(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for day in (0..200_000).step_by(7) {
            let stamp = Stamp::from_millis(day * 86_400_000).unwrap();
            assert_eq!(moment(&stamp.text().as_str().as_bytes()[..10]), Ok(stamp));
        }
    }
}
