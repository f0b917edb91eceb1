//! What a part of a rollup is going to write: gathered while it folds, written in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Interval, Verdict, judge};
use crate::db::DbError;
use crate::db::candles::{self, CandleRow};
use crate::db::rollup::marks;
use crate::db::rollup::read::Reader;
use crate::db::rollup::state::{self, Pruned};
use crate::db::session::Batch;
use crate::domain::rollup::Settled;
use crate::domain::{Stamp, Timeframe};

#[derive(Default)]
pub struct Changes(Vec<(i64, Arc<str>, Timeframe, Settled<CandleRow>)>);

impl Changes {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes down what an interval came to.
    pub fn note(&mut self, interval: Interval<'_>) {
        let Interval { asset_id, vs_currency, timeframe, settled } = interval;
        self.0.push((asset_id, vs_currency.clone(), timeframe, settled));
    }

    /// Writes what is to be written, and counts it; whether longer candles are to be looked at once more.
    /// May be called again when the transaction has to be.
    pub fn write(
        &self,
        batch: &mut Batch<'_>,
        now: Stamp,
        pruned: &mut Pruned,
        reader: &Reader,
    ) -> Result<bool, DbError> {
        // Only now: what `prune` deleted before the pieces were read must be known here.
        pruned.refresh(&mut reader.borrow_mut().conn)?;
        let (mut new, mut known, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let (mut open, mut unchanged) = (BTreeSet::new(), 0);
        // Where observations are gone, longer candles are made of shorter ones: of those that are stored.
        let mut again = Vec::new();
        for (asset_id, vs_currency, timeframe, settled) in &self.0 {
            let (asset_id, timeframe) = (*asset_id, *timeframe);
            let mut verdict = judge(timeframe, settled, now, pruned.before(asset_id));
            if let Verdict::Perhaps(candle) = verdict {
                let conn = &mut reader.borrow_mut().conn;
                let denied = state::longer_knows_more(conn, asset_id, vs_currency, timeframe, candle.open_time)?;
                verdict = if denied { Verdict::Keep } else { Verdict::Write(candle) };
            }
            match (verdict, &settled.kept) {
                (Verdict::Write(candle), _) => {
                    if !candle.is_final {
                        open.insert((candle.timeframe, candle.open_time));
                    }
                    if timeframe < Timeframe::D1
                        && pruned.before(asset_id).is_some_and(|before| candle.open_time < before)
                    {
                        again.push((&**vs_currency, asset_id, candle.open_time));
                    }
                    let row = CandleRow { asset_id, vs_currency: vs_currency.clone(), candle };
                    let is_before = |before: Stamp| row.candle.open_time < before;
                    match settled.kept.is_some() && !pruned.before(asset_id).is_some_and(is_before) {
                        true => known.push(row),
                        false => new.push(row),
                    }
                }
                (Verdict::Delete, Some(row)) => gone.push(row.clone()),
                (Verdict::Keep, Some(_)) => unchanged += 1,
                (Verdict::Keep | Verdict::Delete, None) | (Verdict::Perhaps(_), _) => {}
            }
        }
        let gone = state::delete(batch, &gone)? as i64;
        // What was imported since its pieces were read may tell more.
        let mut stored = candles::upsert(batch, &mut new)?;
        stored.add(candles::upsert_folded(batch, &mut known)?);
        state::add_open(batch, &open)?;
        let (written, updated) = ((stored.new + stored.updated) as i64 + gone, stored.updated as i64 + gone);
        let unchanged = unchanged + stored.unchanged as i64;
        batch.tally.read += written + unchanged;
        batch.tally.written += written;
        batch.tally.updated += updated;
        batch.tally.unchanged += unchanged;
        let is_again = !again.is_empty();
        marks::mark(batch, again)?;
        Ok(is_again)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
