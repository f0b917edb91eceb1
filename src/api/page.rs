//! One envelope for all lists, and cursors that only fit the list they came from.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::error::{ApiError, bad};
use super::query::Query;
use crate::domain::Stamp;

/// Rows where a request does not say how many, and at most.
pub const USUAL_LIMIT: i64 = 100;
pub const HIGHEST_LIMIT: i64 = 1_000;

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// `cursor` of the next page; null on the last one.
    #[schema(required)]
    pub next: Option<String>,
    /// The newest time in the data; null where there is none.
    #[schema(required, format = DateTime)]
    pub as_of: Option<String>,
    /// Where the data came from.
    pub sources: Vec<String>,
    /// Whether nothing of it can change any more but by a correction.
    #[serde(rename = "final")]
    pub is_final: bool,
}

impl<T> Page<T> {
    /// A page that the next run may change.
    pub fn new(data: Vec<T>, next: Option<String>, as_of: Option<Stamp>, sources: Vec<String>) -> Page<T> {
        Page { data, next, as_of: as_of.map(Stamp::rfc3339), sources, is_final: false }
    }
}

/// Which page of a list.
#[derive(Debug, Clone)]
pub struct Paging {
    pub limit: i64,
    cursor: Option<String>,
    /// The list: its path and filters.
    list: String,
}

impl Paging {
    /// `list` names the path and everything but `limit` and `cursor`.
    pub fn read(query: &Query, list: String) -> Result<Paging, ApiError> {
        let limit = query.number("limit", 1, HIGHEST_LIMIT)?.unwrap_or(USUAL_LIMIT);
        Ok(Paging { limit, cursor: query.get("cursor").map(str::to_owned), list })
    }

    /// The key behind which the page begins.
    pub fn after<K>(&self, read: impl Fn(&str) -> Option<K>) -> Result<Option<K>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let key = unhex(cursor).and_then(|bytes| {
            let (seal, key) = bytes.split_first_chunk::<8>()?;
            let key = std::str::from_utf8(key).ok()?;
            (u64::from_le_bytes(*seal) == self.seal(key)).then(|| read(key)).flatten()
        });
        match key {
            Some(key) => Ok(Some(key)),
            None => {
                let why = "it is not the `next` of an answer to this question; keep the other parameters the same, \
                           or leave it out to begin with the first page";
                Err(bad("cursor", why))
            }
        }
    }

    /// Cuts what was read, one row more than a page, to a page; and the cursor of the next.
    pub fn cut<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> String) -> Option<String> {
        let is_more = rows.len() as i64 > self.limit;
        rows.truncate(self.limit as usize);
        rows.last().filter(|_| is_more).map(|last| self.cursor(&key(last)))
    }

    pub fn cursor(&self, key: &str) -> String {
        let seal = self.seal(key).to_le_bytes();
        seal.iter().chain(key.as_bytes()).map(|byte| format!("{byte:02x}")).collect()
    }

    fn seal(&self, key: &str) -> u64 {
        xxh3_64(format!("{}\n{key}", self.list).as_bytes())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect())
}

/// A time as the key of a cursor.
pub fn time_key(text: &str) -> Option<Stamp> {
    Stamp::of_text(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_its_own_list_only() {
        let paging = |list: &str, cursor: Option<String>| Paging { limit: 2, cursor, list: list.to_owned() };
        let mut rows = vec![1, 2, 3];
        let next = paging("a", None).cut(&mut rows, ToString::to_string);
        assert_eq!(rows, [1, 2]);
        let number = |text: &str| text.parse::<i64>().ok();
        assert_eq!(paging("a", next.clone()).after(number).unwrap(), Some(2));
        assert!(paging("b", next.clone()).after(number).is_err());
        let mut rows = vec![1, 2];
        assert_eq!(paging("a", None).cut(&mut rows, ToString::to_string), None);
        for odd in ["", "00", "zz", "é", &format!("{}0", next.clone().unwrap()), &next.unwrap()[2..]] {
            assert!(paging("a", Some(odd.to_owned())).after(number).is_err(), "{odd}");
        }
    }
}
