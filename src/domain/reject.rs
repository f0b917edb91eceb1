//! A record that cannot be used, and the reason: it goes to `dead_letters`, alone.

/// One unusable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The source's id of the coin, where the record still tells it.
    pub source_id: Option<String>,
    /// The record as it was received.
    pub payload: String,
    pub reason: String,
}

/// A part of an answer after parsing: what can be stored, and what cannot.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    pub good: Vec<T>,
    pub rejected: Vec<Reject>,
}

impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Parsed { good: Vec::new(), rejected: Vec::new() }
    }
}

impl<T> Parsed<T> {
    pub fn push(&mut self, record: Result<T, Reject>) {
        match record {
            Ok(good) => self.good.push(good),
            Err(reject) => self.rejected.push(reject),
        }
    }

    pub fn len(&self) -> usize {
        self.good.len() + self.rejected.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
