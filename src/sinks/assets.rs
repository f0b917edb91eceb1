//! The source's coin list into `assets`: added, renamed, returned, vanished.

use roaring::RoaringTreemap;

use super::Sink;
use crate::db::{DbError, Session, assets, dead_letters};
use crate::domain::{Coin, Parsed};

/// Rows read or changed in one go when vanished coins are looked for.
const CHUNK: i64 = 10_000;

pub struct AssetSink {
    session: Session,
    /// Ids of all coins in the list so far: a bit each.
    listed: RoaringTreemap,
}

/// A part of the coin list.
pub struct AssetBatch {
    pub endpoint: &'static str,
    pub parsed: Parsed<Coin>,
}

impl AssetSink {
    pub fn new(session: Session) -> Self {
        AssetSink { session, listed: RoaringTreemap::new() }
    }

    /// How many active coins the list did not hold.
    pub fn count_unlisted(&mut self) -> Result<u64, DbError> {
        self.each_unlisted(|_, _| Ok(()))
    }

    /// Makes every active coin that the list did not hold inactive, and says how many those were.
    pub fn deactivate_unlisted(&mut self) -> Result<u64, DbError> {
        self.each_unlisted(|session, gone| session.batch(|batch| assets::deactivate(batch, gone)))
    }

    /// Walks the active coins that the list did not hold, part by part, and counts them.
    fn each_unlisted(
        &mut self,
        mut treat: impl FnMut(&mut Session, &[i64]) -> Result<(), DbError>,
    ) -> Result<u64, DbError> {
        let source = self.session.source().to_owned();
        let (mut after, mut count) = (Some(0), 0);
        while let Some(from) = after {
            let part = assets::active_after(self.session.conn(), &source, from, CHUNK)?;
            after = part.next;
            let ids = part.coins.iter().map(|(id, _)| *id);
            let unlisted: Vec<i64> = ids.filter(|id| !self.listed.contains(*id as u64)).collect();
            if !unlisted.is_empty() {
                treat(&mut self.session, &unlisted)?;
                count += unlisted.len() as u64;
            }
        }
        Ok(count)
    }
}

impl Sink for AssetSink {
    type Batch = AssetBatch;

    fn write(&mut self, batches: Vec<AssetBatch>) -> Result<(), DbError> {
        let source = self.session.source().to_owned();
        let listed = &self.listed;
        let ids = self.session.batch(|batch| {
            let mut ids = RoaringTreemap::new();
            for AssetBatch { endpoint, parsed } in &batches {
                let known_ids = parsed.rejected.iter().filter_map(|reject| reject.source_id.as_deref());
                let wanted = parsed.good.iter().map(|coin| coin.source_id.as_str()).chain(known_ids);
                let stored = assets::find(batch.conn, &source, wanted)?;
                let mut new: Vec<&Coin> = Vec::new();
                let mut new_keys = std::collections::HashSet::new();
                for coin in &parsed.good {
                    let Some(asset) = stored.get(&coin.source_id) else {
                        if new_keys.insert(coin.source_id.as_str()) {
                            new.push(coin);
                        }
                        continue;
                    };
                    let id = asset.id as u64;
                    if listed.contains(id) || !ids.insert(id) {
                        continue;
                    }
                    batch.tally.read += 1;
                    let told = |label: &Option<String>, stored: &str| label.as_deref().is_none_or(|l| l == stored);
                    if asset.active && told(&coin.symbol, &asset.symbol) && told(&coin.name, &asset.name) {
                        batch.tally.unchanged += 1;
                    } else {
                        assets::update(batch, asset.id, coin)?;
                        batch.tally.updated += 1;
                        batch.tally.written += 1;
                    }
                }
                let added = assets::insert(batch, &source, &new)?;
                batch.tally.read += added.len() as i64;
                batch.tally.written += added.len() as i64;
                ids.extend(added.iter().map(|id| *id as u64));
                // A coin whose record is broken is still listed: it must not be deactivated.
                for reject in &parsed.rejected {
                    let asset = reject.source_id.as_deref().and_then(|id| stored.get(id));
                    ids.extend(asset.map(|asset| asset.id as u64));
                }
                batch.tally.read += parsed.rejected.len() as i64;
                batch.tally.rejected += parsed.rejected.len() as i64;
                dead_letters::record(batch, &source, endpoint, &parsed.rejected)?;
            }
            Ok(ids)
        })?;
        self.listed |= ids;
        Ok(())
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}
