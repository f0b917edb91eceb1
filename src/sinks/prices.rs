//! Price pages into `prices`: each coin once a run and currency, however often pages repeat it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::Sink;
use crate::db::prices::{PriceRow, upsert};
use crate::db::{DbError, Session, absences, assets, dead_letters, fx, views};
use crate::domain::{Coin, Parsed, PricePoint, Rates, Stamp};

pub struct PriceSink {
    session: Session,
    /// For observations to which the source gives no time: one stamp for the whole run.
    run_time: Stamp,
    /// Take no more than so many coins a currency.
    limit: Option<u64>,
    /// Leave out coins that the source does not list as active.
    listed_only: bool,
    currencies: HashMap<Arc<str>, Seen>,
}

/// What a run saw in one currency.
#[derive(Default)]
struct Seen {
    /// Ids of the coins whose price is stored: a bit each.
    coins: RoaringTreemap,
    /// Ids of coins with a rejected record. A good one on a later page still counts, but they are
    /// not asked for again.
    rejected: RoaringTreemap,
    /// Rejected records of coins that are not in `assets`.
    strangers: HashSet<String>,
    /// Coins that had no price when last asked by id.
    absent: RoaringTreemap,
}

impl Seen {
    fn has(&self, asset_id: i64) -> bool {
        self.coins.contains(asset_id as u64) || self.rejected.contains(asset_id as u64)
    }

    fn count(&self) -> u64 {
        self.coins.union_len(&self.rejected) + self.strangers.len() as u64
    }
}

/// A page of prices in one currency.
pub struct PriceBatch {
    pub vs_currency: Arc<str>,
    pub endpoint: &'static str,
    pub parsed: Parsed<PricePoint>,
}

impl PriceSink {
    pub fn new(session: Session, run_time: Stamp, limit: Option<u64>) -> Self {
        PriceSink { session, run_time, limit, listed_only: false, currencies: HashMap::new() }
    }

    /// From now on, coins that are not stored as active are left out: an answer with everything
    /// holds what is not traded any more, too.
    pub fn take_listed_only(&mut self) {
        self.listed_only = true;
    }

    /// How many coins were seen in a currency.
    pub fn seen(&self, vs_currency: &str) -> u64 {
        self.currencies.get(vs_currency).map_or(0, Seen::count)
    }

    /// Active coins not seen yet, in the order of their ids behind `after`, and where to go on.
    /// Those that were absent within a day are left out and only counted.
    pub fn missing_after(&mut self, vs_currency: &Arc<str>, after: i64) -> Result<Missing, DbError> {
        const CHUNK: i64 = 10_000;
        let source = self.session.source().to_owned();
        let known = absences::all(self.session.conn(), &source, vs_currency)?;
        let recent: RoaringTreemap = known.iter().filter(|a| a.recent).map(|a| a.asset_id as u64).collect();
        let part = assets::active_after(self.session.conn(), &source, after, CHUNK)?;
        let empty = Seen::default();
        let seen = self.currencies.get(vs_currency).unwrap_or(&empty);
        let mut missing = Missing { ask: Vec::new(), skipped: 0, next: part.next };
        for (id, source_id) in part.coins {
            if seen.has(id) {
                continue;
            }
            if recent.contains(id as u64) {
                missing.skipped += 1;
            } else {
                missing.ask.push((id, source_id));
            }
        }
        Ok(missing)
    }

    /// Coins that were among the `top` largest when last stored and were on none of the pages: as
    /// many as the pages fell short, because other coins stood on two of them.
    pub fn missing_of_top(&mut self, vs_currency: &str, top: u64) -> Result<Vec<(i64, String)>, DbError> {
        let short = top.saturating_sub(self.seen(vs_currency)) as usize;
        if short == 0 {
            return Ok(Vec::new());
        }
        let source = self.session.source().to_owned();
        let ranked = views::ranked_up_to(self.session.conn(), &source, vs_currency, top)?;
        let seen = self.currencies.get(vs_currency);
        let unseen = ranked.into_iter().filter(|(id, _)| seen.is_none_or(|seen| !seen.has(*id)));
        Ok(unseen.take(short).collect())
    }

    /// Which of these coins have not been seen in a currency.
    pub fn unseen(&self, vs_currency: &str, ids: &[i64]) -> Vec<i64> {
        let seen = self.currencies.get(vs_currency);
        ids.iter().copied().filter(|id| seen.is_none_or(|seen| !seen.has(*id))).collect()
    }

    /// Which of these source ids have not been seen in a currency.
    pub fn unseen_ids(&mut self, vs_currency: &str, source_ids: &[String]) -> Result<Vec<String>, DbError> {
        let source = self.session.source().to_owned();
        let stored = assets::find(self.session.conn(), &source, source_ids.iter().map(String::as_str))?;
        let seen = self.currencies.get(vs_currency);
        let is_seen = |id: &String| {
            seen.is_some_and(|seen| {
                seen.strangers.contains(id) || stored.get(id).is_some_and(|asset| seen.has(asset.id))
            })
        };
        Ok(source_ids.iter().filter(|id| !is_seen(id)).cloned().collect())
    }

    /// Coins that were asked for and of which the source sent nothing.
    pub fn record_absent(&mut self, vs_currency: &str, remember: &[i64], count: i64) -> Result<(), DbError> {
        if count == 0 {
            return Ok(());
        }
        self.session.batch(|batch| {
            batch.tally.absent += count;
            absences::record(batch, vs_currency, remember)
        })
    }

    /// Stores what currencies are worth. They are no prices and not counted as such, but those that
    /// can't be used are.
    pub fn write_rates(&mut self, endpoint: &str, rates: &Rates) -> Result<(), DbError> {
        let (source, observed_at) = (self.session.source().to_owned(), rates.observed_at.unwrap_or(self.run_time));
        self.session.batch(|batch| {
            fx::store(batch, &source, observed_at, &rates.rates)?;
            batch.tally.read += rates.rejected.len() as i64;
            batch.tally.rejected += rates.rejected.len() as i64;
            dead_letters::record(batch, &source, endpoint, &rates.rejected)
        })
    }
}

/// A part of the coins that no page held.
pub struct Missing {
    /// Our id and the source's.
    pub ask: Vec<(i64, String)>,
    /// Known to be without a price: not asked for again today.
    pub skipped: i64,
    /// Where the next part begins; `None` when there is no more.
    pub next: Option<i64>,
}

impl Sink for PriceSink {
    type Batch = PriceBatch;

    fn write(&mut self, batches: Vec<PriceBatch>) -> Result<(), DbError> {
        let source = self.session.source().to_owned();
        for page in &batches {
            if !self.currencies.contains_key(&page.vs_currency) {
                let known = absences::all(self.session.conn(), &source, &page.vs_currency)?;
                let absent = known.iter().map(|a| a.asset_id as u64).collect();
                self.currencies.insert(page.vs_currency.clone(), Seen { absent, ..Seen::default() });
            }
        }
        let (currencies, run_time, limit, listed_only) =
            (&self.currencies, self.run_time, self.limit, self.listed_only);
        let news = self.session.batch(|batch| {
            let mut news: HashMap<Arc<str>, Seen> = HashMap::new();
            let mut rows: Vec<PriceRow> = Vec::new();
            for PriceBatch { vs_currency, endpoint, parsed } in &batches {
                let before = &currencies[vs_currency];
                let new = news.entry(vs_currency.clone()).or_default();
                let ids = asset_ids(batch, &source, parsed, listed_only)?;
                let full = |new: &Seen| limit.is_some_and(|limit| before.count() + new.count() >= limit);
                for point in &parsed.good {
                    let Some(&asset_id) = ids.get(&point.coin.source_id) else { continue };
                    if full(new) {
                        break;
                    }
                    if before.coins.contains(asset_id as u64) || !new.coins.insert(asset_id as u64) {
                        continue;
                    }
                    batch.tally.read += 1;
                    rows.push(PriceRow {
                        asset_id,
                        vs_currency: vs_currency.clone(),
                        observed_at: point.observed_at.unwrap_or(run_time),
                        figures: point.figures,
                    });
                }
                let mut rejected = Vec::new();
                for reject in &parsed.rejected {
                    if full(new) {
                        break;
                    }
                    // Without an id the record itself has to tell two apart.
                    let name = reject.source_id.as_ref().unwrap_or(&reject.payload);
                    let fresh = match ids.get(name) {
                        Some(id) => !before.has(*id) && !new.has(*id) && new.rejected.insert(*id as u64),
                        None if listed_only && reject.source_id.is_some() => false,
                        None => !before.strangers.contains(name) && new.strangers.insert(name.clone()),
                    };
                    if fresh {
                        rejected.push(reject.clone());
                    }
                }
                batch.tally.read += rejected.len() as i64;
                batch.tally.rejected += rejected.len() as i64;
                dead_letters::record(batch, &source, endpoint, &rejected)?;
            }
            let (count, started) = (rows.len(), std::time::Instant::now());
            let stored = upsert(batch, &mut rows)?;
            log::debug!("{count} prices of {} pages stored in {:?}", batches.len(), started.elapsed());
            batch.tally.written += (stored.new + stored.updated) as i64;
            batch.tally.updated += stored.updated as i64;
            batch.tally.unchanged += stored.unchanged as i64;
            for (vs_currency, new) in &news {
                let back: Vec<i64> =
                    (&currencies[vs_currency].absent & &new.coins).iter().map(|id| id as i64).collect();
                absences::clear(batch, vs_currency, &back)?;
            }
            Ok(news)
        })?;
        for (vs_currency, new) in news {
            let seen = self.currencies.entry(vs_currency).or_default();
            seen.coins |= new.coins;
            seen.rejected |= new.rejected;
            seen.strangers.extend(new.strangers);
        }
        Ok(())
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Our ids of a page's coins; coins that are not stored yet are added from the page, unless only
/// listed ones are wanted. Rejected records count only where their coin is stored.
fn asset_ids(
    batch: &mut crate::db::session::Batch<'_>,
    source: &str,
    parsed: &Parsed<PricePoint>,
    listed_only: bool,
) -> Result<HashMap<String, i64>, DbError> {
    let rejected = parsed.rejected.iter().filter_map(|reject| reject.source_id.as_deref());
    let wanted = parsed.good.iter().map(|point| point.coin.source_id.as_str()).chain(rejected);
    if listed_only {
        let stored = assets::find(batch.conn, source, wanted)?;
        return Ok(stored.into_iter().filter(|(_, asset)| asset.active).map(|(key, asset)| (key, asset.id)).collect());
    }
    let mut ids = assets::ids(batch, source, wanted)?;
    let mut fresh = HashSet::new();
    let new: Vec<&Coin> = parsed
        .good
        .iter()
        .map(|point| &point.coin)
        .filter(|coin| !ids.contains_key(&coin.source_id) && fresh.insert(coin.source_id.as_str()))
        .collect();
    let added = assets::insert(batch, source, &new)?;
    ids.extend(new.iter().map(|coin| coin.source_id.clone()).zip(added));
    Ok(ids)
}
