//! A JSON value of whatever type a vendor sent, and what of ours it can become.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::{Coin, Column, Figures, Reject, Stamp};

/// A JSON value of any type; numbers as the nearest double, which `float_roundtrip` makes exact.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Field {
    #[default]
    Absent,
    Null,
    Number(f64),
    Text(String),
    Flag(bool),
    /// A type that no field of ours has, by its name.
    Other(&'static str),
}

impl Field {
    /// A label. One that some answers send as a number (`42` is a symbol) is that number's text.
    pub fn label(self, name: &str) -> Result<Option<String>, String> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Text(text) => Ok(Some(text)),
            Field::Number(number) => Ok(Some(number.to_string())),
            Field::Flag(_) => Err(format!("{name} is a boolean, not a text")),
            Field::Other(kind) => Err(format!("{name} is {kind}, not a text")),
        }
    }

    /// A moment, told as RFC 3339.
    pub fn stamp(&self, name: &str) -> Result<Option<Stamp>, String> {
        match self {
            Field::Absent | Field::Null => Ok(None),
            Field::Text(text) => Stamp::parse(text).map(Some).map_err(|err| format!("{name} is {err}")),
            Field::Number(number) => Err(format!("{name} is a number ({number}), not a time")),
            Field::Flag(_) => Err(format!("{name} is a boolean, not a time")),
            Field::Other(kind) => Err(format!("{name} is {kind}, not a time")),
        }
    }

    /// Puts a number where it belongs: absent leaves what is stored, null is unknown.
    pub fn figure(&self, column: Column, figures: &mut Figures) -> Result<(), String> {
        let value = match self {
            Field::Absent => return Ok(()),
            Field::Null => None,
            Field::Number(number) => Some(*number),
            Field::Text(text) => {
                let number = text.trim().parse();
                Some(number.map_err(|_| format!("{} is not a number: {text:?}", column.name()))?)
            }
            Field::Flag(_) => return Err(format!("{} is a boolean, not a number", column.name())),
            Field::Other(kind) => return Err(format!("{} is {kind}, not a number", column.name())),
        };
        figures.set(column, value).map_err(|err| err.to_string())
    }

    /// A whole number, also where it is told as a text.
    pub fn whole(&self) -> Option<i64> {
        match self {
            Field::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            Field::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

/// A coin from its labels; the reason why not, with the id where it can still be told.
pub fn coin(id: Field, symbol: Field, name: Field) -> Result<Coin, (Option<String>, String)> {
    let source_id = id.label("id").map_err(|reason| (None, reason))?;
    let source_id = source_id.ok_or_else(|| (None, "id is missing".to_owned()))?;
    let labels = symbol.label("symbol").and_then(|symbol| Ok((symbol, name.label("name")?)));
    let (symbol, name) = labels.map_err(|reason| (Some(source_id.clone()), reason))?;
    let known = source_id.clone();
    Coin::new(source_id, symbol, name).map_err(|err| (Some(known), err.to_string()))
}

/// A record that can't be used, as it came.
pub fn reject(record: &[u8], source_id: Option<String>, reason: String) -> Reject {
    Reject { source_id, payload: String::from_utf8_lossy(record).trim().to_owned(), reason }
}

/// The id of a record that is no JSON (a bare `NaN`, a number too large): a coin that is known to be
/// broken need not be asked for again. Only where the source puts it, in the first place: an "id"
/// further on may belong to something else.
pub fn id_of_broken(record: &[u8]) -> Option<String> {
    let first = record.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let value = first.strip_prefix(b"\"id\"")?.trim_ascii_start().strip_prefix(b":")?;
    let id = serde_json::Deserializer::from_slice(value).into_iter::<Field>().next()?.ok()?;
    id.label("id").ok()?
}

/// The text member of this name in a record that is no JSON and has no objects inside.
pub fn text_of_broken(record: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, behind) = text.split_once(&format!("\"{name}\""))?;
    let value = behind.trim_ascii_start().strip_prefix(':')?;
    serde_json::Deserializer::from_str(value).into_iter::<String>().next()?.ok()
}

/// Takes a record of a map apart: its key and its value.
pub fn keyed(record: &[u8]) -> Option<(String, &[u8])> {
    let mut keys = serde_json::Deserializer::from_slice(record).into_iter::<String>();
    let key = keys.next()?.ok()?;
    let value = record[keys.byte_offset()..].trim_ascii_start().strip_prefix(b":")?;
    Some((key, value))
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
        Ok(Field::Flag(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
        Ok(Field::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
        Ok(Field::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
        Ok(Field::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Field, E> {
        Ok(Field::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_off_their_values() {
        assert_eq!(keyed(br#" "BTC-USD" : {"last":"1"}"#), Some(("BTC-USD".to_owned(), &br#" {"last":"1"}"#[..])));
        assert_eq!(keyed(br#""a\"b":1"#), Some(("a\"b".to_owned(), &b"1"[..])));
        assert_eq!(keyed(br#""Throttled""#), None);
        assert_eq!(keyed(b"{}"), None);
    }

    #[test]
    fn a_text_that_is_no_number_is_no_figure() {
        let mut figures = Figures::default();
        for text in ["", "1e999", "1,5"] {
            assert!(Field::Text(text.to_owned()).figure(Column::Price, &mut figures).is_err(), "{text:?}");
        }
        Field::Text(" 0.1 ".to_owned()).figure(Column::Price, &mut figures).unwrap();
        assert_eq!(figures.get(Column::Price), Some(0.1));
    }

    #[test]
    fn whole_numbers_come_as_numbers_or_texts() {
        let whole = |json: &str| serde_json::from_str::<Field>(json).unwrap().whole();
        assert_eq!((whole("0"), whole("\"0\""), whole("\"\""), whole("1.5")), (Some(0), Some(0), None, None));
    }
}
