//! A coin as one source names it.

/// Longest key that every backend can index, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// Longest label kept, in bytes: what MySQL's `TEXT` holds.
pub const MAX_LABEL_BYTES: usize = 65_535;

/// One coin at one source. `source_id` is the source's own id and the only key; symbol and name
/// are labels, `None` where the source did not tell them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    pub source_id: String,
    pub symbol: Option<String>,
    pub name: Option<String>,
}

/// Text that cannot be stored byte for byte in every database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("{field} is {bytes} bytes long, more than {limit}")]
    TooLong { field: &'static str, bytes: usize, limit: usize },
    #[error("{field} contains the character U+0000")]
    Nul { field: &'static str },
}

impl Coin {
    /// Checks that the texts survive in every database: nothing is trimmed, folded or cut.
    pub fn new(source_id: String, symbol: Option<String>, name: Option<String>) -> Result<Self, TextError> {
        if source_id.is_empty() {
            return Err(TextError::Empty { field: "id" });
        }
        check("id", &source_id, MAX_KEY_BYTES)?;
        check("symbol", symbol.as_deref().unwrap_or(""), MAX_LABEL_BYTES)?;
        check("name", name.as_deref().unwrap_or(""), MAX_LABEL_BYTES)?;
        Ok(Coin { source_id, symbol, name })
    }
}

fn check(field: &'static str, text: &str, limit: usize) -> Result<(), TextError> {
    if text.len() > limit {
        return Err(TextError::TooLong { field, bytes: text.len(), limit });
    }
    if text.contains('\0') {
        return Err(TextError::Nul { field });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_texts_are_kept_as_they_are() {
        for id in ["_", "-10", "1move token", "null", " ", "🟥🟩", "a\u{200b}"] {
            let coin = Coin::new(id.into(), Some(String::new()), Some("x \u{a0}".into())).unwrap();
            assert_eq!(coin.source_id, id);
        }
    }

    #[test]
    fn what_a_database_would_refuse_is_refused_here() {
        assert!(Coin::new(String::new(), None, None).is_err());
        assert!(Coin::new("x".repeat(256), None, None).is_err());
        assert!(Coin::new("é".repeat(128), None, None).is_err());
        assert!(Coin::new("a".into(), Some("\0".into()), None).is_err());
    }
}
