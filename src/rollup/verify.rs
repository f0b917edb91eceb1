//! Everything folded once more and compared with what is stored: nothing is written.

use std::cell::RefCell;
use std::collections::HashSet;

use super::{Interval, Taker, Verdict, fold_all, judge};
use crate::db::rollup::state::{Kept, Open, Pruned};
use crate::db::rollup::{marks, state};
use crate::db::{Absent, DatabaseUrl, DbError, Session, clock, open};
use crate::domain::{Candle, Stamp, Timeframe};

/// A candle that is not what it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub asset_id: i64,
    pub vs_currency: String,
    pub timeframe: Timeframe,
    pub open_time: Stamp,
    pub stored: Option<Candle>,
    pub recomputed: Option<Candle>,
}

#[derive(Debug, Default)]
pub struct Verified {
    /// Candles that were looked at.
    pub compared: i64,
    pub differing: i64,
    /// The first of those that differ.
    pub differences: Vec<Difference>,
    /// Timeframes that were not rolled up yet.
    pub unknown: Vec<Timeframe>,
}

/// Compares the candles of these timeframes, or of all that are kept up to date. What is marked, and
/// so awaits folding, is no difference.
pub fn verify(
    session: &mut Session,
    url: &DatabaseUrl,
    timeframes: Option<&[Timeframe]>,
    most: usize,
) -> Result<Verified, DbError> {
    let mut kept = state::kept(session.conn())?;
    let mut verified = Verified::default();
    if let Some(timeframes) = timeframes {
        let is_kept = |timeframe: &&Timeframe| kept.iter().any(|kept| kept.timeframe == **timeframe);
        verified.unknown = timeframes.iter().filter(|timeframe| !is_kept(timeframe)).copied().collect();
        kept.retain(|kept| timeframes.contains(&kept.timeframe));
    }
    if kept.is_empty() {
        return Ok(verified);
    }
    let timeframes: Vec<Timeframe> = kept.iter().map(|kept| kept.timeframe).collect();
    let now = clock::now(session.conn())?;
    let mut pruned = Pruned::default();
    pruned.refresh(session.conn())?;
    let open_ones = state::open(session.conn())?.into_iter().collect();
    let mut judging = Judging { session, kept, now, pruned, open: open_ones, most, verified };
    let reader = RefCell::new(open(url, Absent::Fail)?);
    fold_all(url, &reader, &timeframes, 0, &mut judging)?;
    Ok(judging.verified)
}

struct Judging<'a> {
    session: &'a mut Session,
    kept: Vec<Kept>,
    now: Stamp,
    pruned: Pruned,
    open: HashSet<Open>,
    most: usize,
    verified: Verified,
}

impl Taker for Judging<'_> {
    fn take(&mut self, interval: Interval<'_>) -> Result<(), DbError> {
        let Interval { asset_id, vs_currency, timeframe, settled } = &interval;
        let built = self.kept.iter().find(|kept| kept.timeframe == *timeframe).and_then(|kept| kept.built);
        if built.is_some_and(|built| *asset_id > built) {
            // It awaits being built.
            return Ok(());
        }
        self.verified.compared += 1;
        let mut verdict = judge(*timeframe, settled, self.now, self.pruned.before(*asset_id));
        if verdict != Verdict::Keep {
            // Others go on meanwhile.
            self.pruned.refresh(self.session.conn())?;
            verdict = judge(*timeframe, settled, self.now, self.pruned.before(*asset_id));
        }
        let recomputed = match verdict {
            Verdict::Keep => return Ok(()),
            Verdict::Perhaps(Candle { open_time, .. })
                if state::longer_knows_more(self.session.conn(), *asset_id, vs_currency, *timeframe, open_time)? =>
            {
                return Ok(());
            }
            Verdict::Write(candle) | Verdict::Perhaps(candle) => Some(candle),
            Verdict::Delete => None,
        };
        let open_time = settled.open_time;
        let stored = settled.kept.as_ref().map(|row| row.candle);
        let awaits_its_end = self.open.contains(&(*timeframe, open_time))
            && stored.map(|stored| Candle { is_final: true, ..stored }) == recomputed;
        if awaits_its_end || marks::awaits(self.session.conn(), vs_currency, *asset_id, *timeframe, open_time)? {
            return Ok(());
        }
        self.verified.differing += 1;
        if self.verified.differences.len() < self.most {
            let (asset_id, vs_currency, timeframe) = (*asset_id, vs_currency.to_string(), *timeframe);
            let difference = Difference { asset_id, vs_currency, timeframe, open_time, stored, recomputed };
            self.verified.differences.push(difference);
        }
        Ok(())
    }
}
