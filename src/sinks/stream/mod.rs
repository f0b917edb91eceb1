//! Messages of a stream into the tables: rows, running state and offsets in one transaction.
//!
//! The offsets are the fence. A batch begins by moving each of its partitions from where this process
//! left it; one that stands elsewhere belongs to somebody else by now, and nothing of the batch stays.

mod fault;
mod quotes;

use std::collections::{HashMap, HashSet};

use crate::db::candles::{self, CandleRow};
use crate::db::prices::{PriceRow, Stored, upsert};
use crate::db::session::Batch;
use crate::db::stream::{self, Place, Stream};
use crate::db::{DbError, Session, assets, dead_letters};
use crate::domain::{Candle, Coin, Origin};
use crate::events::{self, CandleEvent, Event, PriceEvent};
pub use fault::fault;
use quotes::Memory;

/// A message as it was read.
#[derive(Debug, Clone)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    /// The record's own time, in milliseconds since 1970.
    pub time_ms: Option<i64>,
    pub event: Result<Event, Unusable>,
}

/// A message that is no event: as it came, and why not.
#[derive(Debug, Clone)]
pub struct Unusable {
    pub payload: Vec<u8>,
    pub error: String,
}

impl Message {
    pub fn read(
        reader: &mut events::Reader,
        partition: i32,
        offset: i64,
        time_ms: Option<i64>,
        payload: &[u8],
    ) -> Self {
        let event = reader.read(payload, time_ms).map_err(|error| Unusable { payload: payload.to_vec(), error });
        Message { partition, offset, time_ms, event }
    }
}

pub struct StreamSink {
    pub session: Session,
    group: String,
    topic: String,
    /// The id of the topic that is read; `None` where the broker tells none.
    topic_id: Option<String>,
    /// Where each partition stands, as far as we know.
    offsets: HashMap<i32, Place>,
    memory: Memory,
}

impl StreamSink {
    pub fn new(session: Session, group: &str, topic: &str) -> Result<Self, DbError> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let mut sink =
            StreamSink { session, group, topic, topic_id: None, offsets: HashMap::new(), memory: Memory::default() };
        sink.reload()?;
        Ok(sink)
    }

    /// Forgets what was known and reads where each partition stands.
    pub fn reload(&mut self) -> Result<(), DbError> {
        self.memory = Memory::default();
        let stream = Stream { group: &self.group, topic: &self.topic };
        self.offsets = stream::offsets(self.session.conn(), stream)?;
        Ok(())
    }

    /// Where a partition goes on; `None` when it was never read.
    pub fn next_offset(&self, partition: i32) -> Option<i64> {
        self.offsets.get(&partition).map(|place| place.next_offset)
    }

    /// The topic that is read from now on; where nobody tells its id, it is taken for the one we know.
    pub fn reads(&mut self, topic_id: Option<String>) {
        let known = || self.offsets.values().find_map(|place| place.topic_id.clone());
        self.topic_id = topic_id.or_else(known);
    }

    /// Whether what we know of a partition is of another topic of that name than the one with this id.
    pub fn is_of_another(&self, partition: i32, topic_id: Option<&str>) -> bool {
        let known = self.offsets.get(&partition).and_then(|place| place.topic_id.as_deref());
        known.is_some_and(|known| topic_id.is_some_and(|told| told != known))
    }

    /// The id of the topic that is read.
    pub fn topic_id(&self) -> Option<&str> {
        self.topic_id.as_deref()
    }

    /// Leaves out messages that can't be had any more, and records it.
    pub fn skip_to(&mut self, partition: i32, next: i64, why: &str) -> Result<(), DbError> {
        let (stream, from) = (Stream { group: &self.group, topic: &self.topic }, self.offsets.get(&partition));
        let to = Place { next_offset: next, topic_id: self.topic_id.clone() };
        // The same may happen again, with the same numbers: the ids tell one time from the other.
        let why = match (from.and_then(|from| from.topic_id.as_deref()), to.topic_id.as_deref()) {
            (Some(old), Some(new)) if old != new => {
                format!("{why} (the new one's id is {new}, the old one's was {old})")
            }
            _ => why.to_owned(),
        };
        self.session.batch(|batch| {
            if !stream::advance(batch.conn, stream, partition, from, &to)? {
                return Err(DbError::Overtaken { partition });
            }
            let offset = from.map_or(0, |place| place.next_offset);
            let letter = dead_letters::Letter { topic: stream.topic, partition, offset, payload: b"", error: &why };
            dead_letters::record_message(batch, &letter).map(|_| ())
        })?;
        self.offsets.insert(partition, to);
        Ok(())
    }

    /// Tries dead letters again, and deletes those that can be stored now.
    pub fn replay(&mut self, letters: &[(i64, Message)]) -> Result<(), DbError> {
        let works = |(_, message): &&(i64, Message)| message.event.is_ok();
        let ids: Vec<i64> = letters.iter().filter(works).map(|(id, _)| *id).collect();
        let good: Vec<&Message> = letters.iter().filter(works).map(|(_, message)| message).collect();
        let bad = (letters.len() - good.len()) as i64;
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
        let mut next: HashMap<i32, Place> = HashMap::new();
        let mut news: Vec<&Message> = Vec::with_capacity(messages.len());
        for message in messages {
            let known = next.get(&message.partition).or_else(|| self.offsets.get(&message.partition));
            if known.is_some_and(|known| message.offset < known.next_offset) {
                // Handed out twice after a rebalance.
                continue;
            }
            let place = Place { next_offset: message.offset + 1, topic_id: self.topic_id.clone() };
            next.insert(message.partition, place);
            news.push(message);
        }
        if news.is_empty() {
            return Ok(());
        }
        self.memory.trim();
        let (stream, offsets, memory) =
            (Stream { group: &self.group, topic: &self.topic }, &self.offsets, &self.memory);
        let remembered = self.session.batch(|batch| {
            for (partition, next) in &next {
                if !stream::advance(batch.conn, stream, *partition, offsets.get(partition), next)? {
                    return Err(DbError::Overtaken { partition: *partition });
                }
            }
            let mut memory = memory.clone();
            store(batch, stream.topic, &news, &mut memory)?;
            fault("inside-transaction");
            Ok(memory)
        })?;
        self.memory = remembered;
        self.offsets.extend(next);
        Ok(())
    }
}

fn store(batch: &mut Batch<'_>, topic: &str, messages: &[&Message], memory: &mut Memory) -> Result<(), DbError> {
    let (mut quotes, mut prices, mut candles) = (Vec::with_capacity(messages.len()), Vec::new(), Vec::new());
    batch.tally.read += messages.len() as i64;
    for message in messages {
        match &message.event {
            Ok(Event::Quote(quote)) => quotes.push(quote),
            Ok(Event::Price(price)) => prices.push(&**price),
            Ok(Event::Candle(candle)) => candles.push(&**candle),
            Ok(Event::Outage(outage)) => match stream::insert_outage(batch, outage)? {
                true => batch.tally.written += 1,
                false => batch.tally.unchanged += 1,
            },
            Err(Unusable { payload, error }) => {
                let (partition, offset) = (message.partition, message.offset);
                let letter = dead_letters::Letter { topic, partition, offset, payload, error };
                dead_letters::record_message(batch, &letter)?;
                batch.tally.rejected += 1;
            }
        }
    }
    quotes::store(batch, &quotes, memory)?;
    store_prices(batch, &prices)?;
    store_candles(batch, &candles)
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
    let rows = candle_events.iter().map(|event| CandleRow {
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
    });
    // One that tells of how many pieces it is made is somebody's fold. What is folded of our own prices is
    // ours to say: theirs would stay for good, and take no price that comes later.
    let (mut folds, mut rows): (Vec<_>, Vec<_>) = rows.partition(|row| row.candle.bar.samples.is_some());
    let mut ours = candles::folded_here(batch, &folds)?.into_iter();
    folds.retain(|_| !ours.next().unwrap_or_default());
    rows.append(&mut folds);
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
