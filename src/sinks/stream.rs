//! Messages of a stream into the tables: rows, running state and offsets in one transaction.
//!
//! The offsets are the fence. A batch begins by moving each of its partitions from where this process
//! left it; one that stands elsewhere belongs to somebody else by now, and nothing of the batch stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::db::candles::{self, CandleRow};
use crate::db::prices::{PriceRow, Stored, upsert};
use crate::db::session::Batch;
use crate::db::stream::{self, QuoteRow, WindowKey};
use crate::db::{DbError, Session, assets, dead_letters};
use crate::domain::quote::{Extremes, double};
use crate::domain::quote_window::{Fold, TIMEFRAMES};
use crate::domain::{Candle, Coin, Origin, Quote};
use crate::events::{self, CandleEvent, Event, PriceEvent};

/// Pairs and sessions remembered; more are read back from the database.
const MOST_REMEMBERED: usize = 10_000;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    /// The record's own time, in milliseconds since 1970.
    pub time_ms: Option<i64>,
    pub payload: Vec<u8>,
}

pub struct StreamSink {
    pub session: Session,
    group: String,
    topic: String,
    /// Where each partition stands, as far as we know.
    offsets: HashMap<i32, i64>,
    memory: Memory,
}

type Pair = (Arc<str>, Arc<str>);
/// Source, pair and session.
type OneSession = (Arc<str>, Arc<str>, Arc<str>);

/// What is known of the pairs without asking the database.
#[derive(Default, Clone)]
struct Memory {
    /// The highest sequence of each pair.
    last: HashMap<Pair, Option<i64>>,
    extremes: HashMap<OneSession, Option<Extremes>>,
}

impl StreamSink {
    pub fn new(session: Session, group: &str, topic: &str) -> Result<Self, DbError> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let mut sink = StreamSink { session, group, topic, offsets: HashMap::new(), memory: Memory::default() };
        sink.reload()?;
        Ok(sink)
    }

    /// Forgets what was known and reads where each partition stands.
    pub fn reload(&mut self) -> Result<(), DbError> {
        self.memory = Memory::default();
        self.offsets = stream::offsets(self.session.conn(), &self.group, &self.topic)?;
        Ok(())
    }

    /// Where a partition goes on; `None` when it was never read.
    pub fn next_offset(&self, partition: i32) -> Option<i64> {
        self.offsets.get(&partition).copied()
    }

    /// Leaves out messages that can't be had any more, and records it.
    pub fn skip_to(&mut self, partition: i32, next: i64, why: &str) -> Result<(), DbError> {
        let (group, topic, from) = (&self.group, &self.topic, self.offsets.get(&partition).copied());
        self.session.batch(|batch| {
            if !stream::advance(batch.conn, group, topic, partition, from, next)? {
                return Err(DbError::Overtaken { partition });
            }
            let offset = from.unwrap_or_default();
            let letter = dead_letters::Letter { topic, partition, offset, payload: b"", error: why };
            dead_letters::record_message(batch, "kafka", &letter).map(|_| ())
        })?;
        self.offsets.insert(partition, next);
        Ok(())
    }

    /// Tries dead letters again, and deletes those that can be stored now.
    pub fn replay(&mut self, letters: &[(i64, Message)]) -> Result<(), DbError> {
        let (mut good, mut ids, mut bad) = (Vec::new(), Vec::new(), 0);
        for (id, message) in letters {
            match events::read(&message.payload, message.time_ms) {
                Ok(event) => {
                    good.push((message, Ok(event)));
                    ids.push(*id);
                }
                Err(_) => bad += 1,
            }
        }
        self.session.batch(|batch| {
            dead_letters::delete(batch, &ids)?;
            // Nothing is remembered: this is no place to be fast.
            store(batch, "", &good, &mut Memory::default())?;
            batch.tally.read += bad;
            batch.tally.rejected += bad;
            Ok(())
        })
    }

    /// Stores a batch, in the order of each partition's log. `Overtaken` when somebody else went on.
    pub fn write(&mut self, messages: &[Message]) -> Result<(), DbError> {
        let mut next: HashMap<i32, i64> = HashMap::new();
        let mut events: Vec<(&Message, Result<Event, String>)> = Vec::with_capacity(messages.len());
        for message in messages {
            let known = self.offsets.get(&message.partition).copied().unwrap_or(0);
            if message.offset < known.max(next.get(&message.partition).copied().unwrap_or(0)) {
                // Handed out twice after a rebalance.
                continue;
            }
            next.insert(message.partition, message.offset + 1);
            events.push((message, events::read(&message.payload, message.time_ms)));
        }
        if events.is_empty() {
            return Ok(());
        }
        if self.memory.last.len() + self.memory.extremes.len() > MOST_REMEMBERED {
            self.memory = Memory::default();
        }
        let (group, topic, offsets, memory) = (&self.group, &self.topic, &self.offsets, &self.memory);
        let remembered = self.session.batch(|batch| {
            for (partition, next) in &next {
                let from = offsets.get(partition).copied();
                if !stream::advance(batch.conn, group, topic, *partition, from, *next)? {
                    return Err(DbError::Overtaken { partition: *partition });
                }
            }
            let mut memory = memory.clone();
            store(batch, topic, &events, &mut memory)?;
            Ok(memory)
        })?;
        self.memory = remembered;
        self.offsets.extend(next);
        Ok(())
    }
}

fn store(
    batch: &mut Batch<'_>,
    topic: &str,
    events: &[(&Message, Result<Event, String>)],
    memory: &mut Memory,
) -> Result<(), DbError> {
    let (mut quotes, mut prices, mut candles) = (Vec::new(), Vec::new(), Vec::new());
    for (message, event) in events {
        batch.tally.read += 1;
        match event {
            Ok(Event::Quote(quote)) => quotes.push(quote),
            Ok(Event::Price(price)) => prices.push(&**price),
            Ok(Event::Candle(candle)) => candles.push(&**candle),
            Ok(Event::Outage(outage)) => match stream::insert_outage(batch, outage)? {
                true => batch.tally.written += 1,
                false => batch.tally.unchanged += 1,
            },
            Err(error) => {
                let (partition, offset, payload) = (message.partition, message.offset, &message.payload);
                let letter = dead_letters::Letter { topic, partition, offset, payload, error };
                dead_letters::record_message(batch, "kafka", &letter)?;
                batch.tally.rejected += 1;
            }
        }
    }
    store_quotes(batch, &quotes, memory)?;
    store_prices(batch, &prices)?;
    store_candles(batch, &candles)
}

fn store_quotes(batch: &mut Batch<'_>, quotes: &[&Quote], memory: &mut Memory) -> Result<(), DbError> {
    let mut rows: Vec<QuoteRow> = Vec::with_capacity(quotes.len());
    let mut windows: HashMap<WindowKey, Fold> = HashMap::new();
    let mut sessions = HashSet::new();
    let mut late: HashSet<(Pair, i64)> = HashSet::new();
    for quote in quotes {
        let pair = (quote.source.clone(), quote.pair.clone());
        let last = match memory.last.get(&pair) {
            Some(last) => *last,
            None => stream::last_sequence(batch.conn, &quote.source, &quote.pair)?,
        };
        // Only one that is not newer than all can have been seen before.
        let seen = last.is_some_and(|last| quote.sequence <= last)
            && (!late.insert((pair.clone(), quote.sequence))
                || rows.iter().rev().any(|row| {
                    row.quote.sequence == quote.sequence
                        && row.quote.pair == quote.pair
                        && row.quote.source == quote.source
                })
                || stream::holds(batch.conn, quote)?);
        memory.last.insert(pair, Some(last.map_or(quote.sequence, |last| last.max(quote.sequence))));
        if seen {
            batch.tally.unchanged += 1;
            continue;
        }
        let (bid, ask) = (double(quote.bid), double(quote.ask));
        let (mid, spread) = (double(quote.mid()), double(quote.spread()));
        let session = (quote.source.clone(), quote.pair.clone(), quote.session.clone());
        let before = match memory.extremes.get(&session) {
            Some(before) => *before,
            None => stream::extremes(batch.conn, &quote.source, &quote.pair, &quote.session)?,
        };
        let extremes = Extremes::take(before, bid, ask, spread);
        memory.extremes.insert(session.clone(), Some(extremes));
        sessions.insert(session);
        for (timeframe, seconds) in TIMEFRAMES {
            let (source, pair) = (quote.source.to_string(), quote.pair.to_string());
            let key = WindowKey { source, pair, timeframe, start: quote.observed_at.floor(seconds) };
            let fold = Fold::of(quote);
            windows.entry(key).and_modify(|window| window.merge(&fold)).or_insert(fold);
        }
        rows.push(QuoteRow { quote: (*quote).clone(), bid, ask, mid, spread, extremes });
    }
    stream::insert_quotes(batch, &rows)?;
    batch.tally.written += rows.len() as i64;
    for (source, pair, session) in sessions {
        let key = (source.clone(), pair.clone(), session.clone());
        if let Some(Some(extremes)) = memory.extremes.get(&key) {
            stream::save_extremes(batch, &source, &pair, &session, extremes)?;
        }
    }
    for (key, fold) in &windows {
        stream::merge_window(batch, key, fold)?;
    }
    Ok(())
}

fn store_prices(batch: &mut Batch<'_>, prices: &[&PriceEvent]) -> Result<(), DbError> {
    let ids = asset_ids(batch, prices.iter().map(|price| (price.source.as_str(), &price.coin)))?;
    let mut rows: Vec<PriceRow> = prices
        .iter()
        .map(|price| PriceRow {
            asset_id: ids[&(price.source.as_str(), price.coin.source_id.as_str())],
            vs_currency: price.vs_currency.clone(),
            observed_at: price.observed_at,
            figures: price.figures,
        })
        .collect();
    let stored = upsert(batch, &mut rows)?;
    count(batch, prices.len(), stored);
    Ok(())
}

fn store_candles(batch: &mut Batch<'_>, candle_events: &[&CandleEvent]) -> Result<(), DbError> {
    let ids = asset_ids(batch, candle_events.iter().map(|candle| (candle.source.as_str(), &candle.coin)))?;
    let mut rows: Vec<CandleRow> = candle_events
        .iter()
        .map(|event| CandleRow {
            asset_id: ids[&(event.source.as_str(), event.coin.source_id.as_str())],
            vs_currency: event.vs_currency.clone(),
            candle: Candle {
                timeframe: event.timeframe,
                open_time: event.open_time,
                bar: event.bar,
                // The event does not tell: one that this database had from its source stays.
                origin: Origin::Archive,
                is_final: true,
            },
        })
        .collect();
    let stored = candles::upsert(batch, &mut rows)?;
    count(batch, candle_events.len(), stored);
    Ok(())
}

/// Adds what became of rows to the run's counts. Of two with one key in a batch the later is stored.
fn count(batch: &mut Batch<'_>, events: usize, stored: Stored) {
    batch.tally.written += (stored.new + stored.updated) as i64;
    batch.tally.updated += stored.updated as i64;
    batch.tally.unchanged += (events - stored.new - stored.updated) as i64;
}

/// Our ids of coins, by source and the source's id; coins that are not stored yet are added.
fn asset_ids<'a>(
    batch: &mut Batch<'_>,
    coins: impl Iterator<Item = (&'a str, &'a Coin)>,
) -> Result<HashMap<(&'a str, &'a str), i64>, DbError> {
    let mut by_source: HashMap<&str, Vec<&Coin>> = HashMap::new();
    for (source, coin) in coins {
        by_source.entry(source).or_default().push(coin);
    }
    let mut sources: Vec<_> = by_source.into_iter().collect();
    sources.sort_by_key(|(source, _)| *source);
    let mut ids = HashMap::new();
    for (source, coins) in sources {
        let known = assets::ids(batch, source, coins.iter().map(|coin| coin.source_id.as_str()))?;
        let mut fresh = HashSet::new();
        let new: Vec<&Coin> = coins
            .iter()
            .copied()
            .filter(|coin| !known.contains_key(&coin.source_id) && fresh.insert(coin.source_id.as_str()))
            .collect();
        let added = assets::insert(batch, source, &new)?;
        for coin in &coins {
            if let Some(id) = known.get(&coin.source_id) {
                ids.insert((source, coin.source_id.as_str()), *id);
            }
        }
        ids.extend(new.iter().map(|coin| (source, coin.source_id.as_str())).zip(added));
    }
    Ok(ids)
}
