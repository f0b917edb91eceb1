//! Parameters, each read and checked by its name: what is wrong is told with the name and the remedy. What nobody
//! knows is refused too: a misspelt filter that is passed over would answer another question than was asked.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::{ApiError, bad};
use crate::domain::{Stamp, Timeframe};

/// Longest value, in bytes: as long as a list of many ids.
const LONGEST: usize = 8_192;
/// Longest name of anything, in bytes: a longer one can't be stored.
const LONGEST_NAME: usize = 255;
/// The parameter of what is wrong with the query as a whole.
const QUERY: &str = "query";

/// What an endpoint is asked.
pub trait Ask: Sized + Send {
    /// All parameters there are.
    const NAMES: &'static [&'static str];
    fn read(query: &Query) -> Result<Self, ApiError>;
}

/// The checked question of a request.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: Ask> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::parse(parts.uri.query().unwrap_or_default(), T::NAMES)?;
        T::read(&query).map(Asked)
    }
}

/// The parameters of a request, each known and there once.
#[derive(Debug)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    pub fn parse(text: &str, names: &'static [&'static str]) -> Result<Query, ApiError> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = unescaped(name).ok_or_else(|| bad(QUERY, "a name in it is not UTF-8"))?;
            let Some(name) = names.iter().find(|known| **known == name) else {
                let known = if names.is_empty() {
                    "it takes none".to_owned()
                } else {
                    format!("there are {}", names.join(", "))
                };
                return Err(bad(QUERY, format!("there is no parameter {:?}; {known}", short(&name))));
            };
            let value = unescaped(value).ok_or_else(|| bad(name, "it is not UTF-8"))?;
            if value.is_empty() {
                return Err(bad(name, "it is empty; leave it out for the default"));
            }
            if value.len() > LONGEST {
                return Err(bad(name, format!("it is {} bytes long, more than {LONGEST}", value.len())));
            }
            if value.contains('\0') {
                return Err(bad(name, "it contains the character U+0000, which nothing here does"));
            }
            if pairs.iter().any(|(known, _)| known == name) {
                return Err(bad(name, "it is there twice; give it once"));
            }
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    pub fn get(&self, name: &'static str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A name of something.
    pub fn name(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        self.get(name).map(|value| checked_name(name, value)).transpose()
    }

    /// A code such as `usd`, in lower case.
    pub fn currency(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if value.len() > 32 || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(bad(name, format!("{:?} is no currency; give a code such as usd", short(value))));
        }
        Ok(Some(value.to_ascii_lowercase()))
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, name: &'static str, words: &[(&'static str, T)]) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(bad(name, format!("{:?} is none of {}", short(value), words.join(", "))))
            }
        }
    }

    pub fn timeframe(&self, name: &'static str) -> Result<Option<Timeframe>, ApiError> {
        self.word(name, &Timeframe::ALL.map(|timeframe| (timeframe.name(), timeframe)))
    }

    pub fn descending(&self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.word(name, &[("asc", false), ("desc", true)])
    }

    /// A whole number.
    pub fn number(&self, name: &'static str, from: i64, to: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let digits = value.strip_prefix('-').unwrap_or(value);
        let number = value.parse::<i64>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        match number.filter(|number| (from..=to).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(bad(name, format!("{:?} is no whole number from {from} to {to}", short(value)))),
        }
    }

    /// The beginning of a UTC day; `Some(None)` for one before or behind all that can be stored.
    pub fn day(&self, name: &'static str) -> Result<Option<Option<Stamp>>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match day(value) {
            Some(day) => {
                Ok(Some(Stamp::from_millis(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()).ok()))
            }
            None => Err(bad(name, format!("{:?} is no day; give one such as 2021-11-09", short(value)))),
        }
    }

    /// A moment: RFC 3339, or a day for its beginning. One before 1970 is 1970, where nothing is before.
    pub fn moment(&self, name: &'static str) -> Result<Option<Stamp>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let millis = match day(value) {
            Some(day) => Some(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()),
            // `+` in a query is a space.
            None => chrono::DateTime::parse_from_rfc3339(&value.replace(' ', "+")).ok().map(|at| at.timestamp_millis()),
        };
        match millis {
            Some(millis) => Ok(Some(Stamp::FIRST.plus(millis))),
            None => {
                let why = "is no time; give one such as 2021-11-09T00:00:00Z, or a day such as 2021-11-09";
                Err(bad(name, format!("{:?} {why}", short(value))))
            }
        }
    }
}

pub fn checked_name(parameter: &'static str, value: &str) -> Result<String, ApiError> {
    if value.len() > LONGEST_NAME {
        return Err(bad(parameter, format!("a name of {} bytes is longer than any ({LONGEST_NAME})", value.len())));
    }
    Ok(value.to_owned())
}

/// `2021-11-09`, or without zeros.
fn day(text: &str) -> Option<chrono::NaiveDate> {
    let mut parts = text.split('-');
    let mut number = |longest: usize, shortest: usize| {
        let part = parts.next()?;
        let fits = (shortest..=longest).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| fits)
    };
    let (year, month, day) = (number(4, 4)?, number(2, 1)?, number(2, 1)?);
    match parts.next() {
        None => chrono::NaiveDate::from_ymd_opt(year as i32, month, day),
        Some(_) => None,
    }
}

/// Of a value that is repeated to whoever sent it.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `%20` and `+` as what they stand for; `None` where that is not UTF-8.
fn unescaped(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16)).map(|digit| digit as u8);
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["id", "date", "limit"];

    fn why(query: &str) -> String {
        Query::parse(query, NAMES).unwrap_err().to_string()
    }

    #[test]
    fn a_query_is_taken_apart_and_what_is_wrong_is_named() {
        let query = Query::parse("id=a%2Cb+c%26d&date=2021-11-9&&limit=007", NAMES).unwrap();
        assert_eq!(query.get("id"), Some("a,b c&d"));
        assert_eq!(query.number("limit", 1, 10).unwrap(), Some(7));
        assert_eq!(query.day("date").unwrap().unwrap().unwrap().to_string(), "2021-11-09 00:00:00.000");
        assert_eq!(why("ID=1"), "query: there is no parameter \"ID\"; there are id, date, limit");
        assert_eq!(why("id=1&id=2"), "id: it is there twice; give it once");
        assert_eq!(why("id="), "id: it is empty; leave it out for the default");
        assert!(why("id=%00").contains("U+0000") && why("id=%ff").contains("not UTF-8"));
        assert!(why(&format!("id={}", "x".repeat(9_000))).contains("9000 bytes long"));
    }

    #[test]
    fn days_and_numbers_are_what_they_look_like() {
        for (text, is) in [
            ("2021-11-9", true),
            ("2021-1-09", true),
            ("1900-1-1", true),
            ("2200-12-31", true),
            ("0000-01-01", true),
            ("2021-02-29", false),
            ("2021-13-1", false),
            ("21-1-1", false),
            ("2021-1-1-1", false),
            ("2021-+1-1", false),
            ("2021-1", false),
            ("12021-1-1", false),
            ("2021-001-1", false),
            ("today", false),
            ("2021-١-1", false),
        ] {
            assert_eq!(day(text).is_some(), is, "{text}");
        }
        for number in ["0", "11", "1e1", "NaN", "+1", "99999999999999999999", " 1", "-1", "--1"] {
            let query = Query(vec![("limit", number.to_owned())]);
            assert!(query.number("limit", 1, 10).is_err(), "{number}");
        }
    }
}
