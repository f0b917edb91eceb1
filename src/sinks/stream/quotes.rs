//! Quotes into rows, running extremes and windows.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::db::DbError;
use crate::db::session::Batch;
use crate::db::stream::{self, QuoteRow, WindowKey};
use crate::domain::quote::{Extremes, Figures};
use crate::domain::quote_window::{Fold, SHORTEST, TIMEFRAMES};
use crate::domain::{Micros, Quote};

/// Pairs and sessions remembered; more are read back from the database.
const MOST_REMEMBERED: usize = 10_000;

/// Source and name.
type Pair = (Arc<str>, Arc<str>);

/// What is known of the pairs without asking the database.
#[derive(Default, Clone)]
pub struct Memory {
    /// The highest sequence of each pair.
    last: HashMap<Pair, Option<i64>>,
    /// By pair and session.
    extremes: HashMap<(Pair, Arc<str>), Extremes>,
}

impl Memory {
    /// Keeps it bounded, however many pairs and sessions come by.
    pub fn trim(&mut self) {
        if self.last.len() + self.extremes.len() > MOST_REMEMBERED {
            *self = Memory::default();
        }
    }
}

/// Stores quotes in the order in which they stand in the log.
pub fn store(batch: &mut Batch<'_>, quotes: &[&Quote], memory: &mut Memory) -> Result<(), DbError> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for quote in quotes {
        let place = *places.entry((&quote.source, &quote.pair)).or_insert(parts.len());
        if place == parts.len() {
            parts.push(Part { pair: (quote.source.clone(), quote.pair.clone()), quotes: Vec::new() });
        }
        parts[place].quotes.push(quote);
    }
    let mut rows = Vec::with_capacity(quotes.len());
    let mut windows = Vec::new();
    for part in &parts {
        part.store(batch, memory, &mut rows, &mut windows)?;
    }
    batch.tally.written += rows.len() as i64;
    batch.tally.unchanged += (quotes.len() - rows.len()) as i64;
    stream::insert_quotes(batch, &rows)?;
    stream::merge_windows(batch, &mut windows)
}

/// A pair's quotes of a batch.
struct Part<'a> {
    pair: Pair,
    quotes: Vec<&'a Quote>,
}

impl<'a> Part<'a> {
    fn store(
        &self,
        batch: &mut Batch<'_>,
        memory: &mut Memory,
        rows: &mut Vec<QuoteRow<'a>>,
        windows: &mut Vec<(WindowKey, Fold)>,
    ) -> Result<(), DbError> {
        let mut sessions: HashMap<&Arc<str>, Extremes> = HashMap::new();
        let mut shortest: HashMap<Micros, Fold> = HashMap::new();
        for quote in self.unseen(batch, memory)? {
            let figures = Figures::of(quote);
            let extremes = match sessions.entry(&quote.session) {
                Entry::Occupied(session) => session.into_mut(),
                Entry::Vacant(session) => {
                    let before = self.extremes(batch, memory, &quote.session)?;
                    session.insert(before.unwrap_or(Extremes::of(&figures)))
                }
            };
            extremes.take(&figures);
            let fold = Fold::of(quote, &figures);
            shortest.entry(quote.observed_at.floor(SHORTEST)).and_modify(|window| window.merge(&fold)).or_insert(fold);
            rows.push(QuoteRow { quote, figures, extremes: *extremes });
        }
        let (source, pair) = &self.pair;
        for (session, extremes) in sessions {
            stream::save_extremes(batch, source, pair, session, &extremes)?;
            memory.extremes.insert((self.pair.clone(), session.clone()), extremes);
        }
        for (timeframe, seconds) in TIMEFRAMES {
            let mut longer: HashMap<Micros, Fold> = HashMap::new();
            for (start, fold) in &shortest {
                let window = longer.entry(start.floor(seconds));
                window.and_modify(|window| window.merge(fold)).or_insert_with(|| fold.clone());
            }
            windows.extend(longer.into_iter().map(|(start, fold)| {
                let (source, pair, timeframe) = (source.to_string(), pair.to_string(), timeframe.to_owned());
                (WindowKey { source, pair, timeframe, start }, fold)
            }));
        }
        Ok(())
    }

    /// Those that are not stored, each once.
    fn unseen(&self, batch: &mut Batch<'_>, memory: &mut Memory) -> Result<Vec<&'a Quote>, DbError> {
        let (source, pair) = &self.pair;
        let before = match memory.last.get(&self.pair) {
            Some(last) => *last,
            None => stream::last_sequence(batch.conn, source, pair)?,
        };
        let (mut last, mut ascends) = (before, true);
        for quote in &self.quotes {
            ascends &= last.is_none_or(|last| quote.sequence > last);
            last = last.max(Some(quote.sequence));
        }
        memory.last.insert(self.pair.clone(), last);
        if ascends {
            return Ok(self.quotes.clone());
        }
        // Only what is not above all that came before can have been seen before.
        let doubtful: Vec<i64> =
            self.quotes.iter().map(|quote| quote.sequence).filter(|sequence| Some(*sequence) <= before).collect();
        let mut known: HashSet<i64> = stream::stored_sequences(batch.conn, source, pair, &doubtful)?;
        Ok(self.quotes.iter().copied().filter(|quote| known.insert(quote.sequence)).collect())
    }

    fn extremes(
        &self,
        batch: &mut Batch<'_>,
        memory: &Memory,
        session: &Arc<str>,
    ) -> Result<Option<Extremes>, DbError> {
        match memory.extremes.get(&(self.pair.clone(), session.clone())) {
            Some(known) => Ok(Some(*known)),
            None => stream::extremes(batch.conn, &self.pair.0, &self.pair.1, session),
        }
    }
}
