//! Candles of everything that is stored, coin by coin in ascending id: for timeframes that are asked
//! for the first time, or again.
//!
//! Each transaction moves the last coin that is done, so a build goes on where it was killed. It reads
//! without a lock: what others change meanwhile is marked, and folded once more afterwards.

use std::cell::RefCell;

use super::changes::Changes;
use super::{Interval, Taker, fold_all};
use crate::db::rollup::read::Reader;
use crate::db::rollup::state::Pruned;
use crate::db::rollup::{marks, state};
use crate::db::{Absent, DatabaseUrl, DbError, Session, clock, open};
use crate::domain::{Stamp, Timeframe};

/// Candles a transaction, and observations after which one is due though there are fewer.
const CANDLES_A_BATCH: usize = 10_000;
const POINTS_A_BATCH: usize = 1_000_000;

/// From now on these timeframes are kept up to date; those that are not yet, or all of them where
/// they are asked for `again`, are to be folded of everything.
pub fn start(session: &mut Session, timeframes: &[Timeframe], again: bool) -> Result<(), DbError> {
    let kept = state::kept(session.conn())?;
    let is_kept = |timeframe: &Timeframe| kept.iter().any(|kept| kept.timeframe == *timeframe);
    let due: Vec<Timeframe> = timeframes.iter().copied().filter(|timeframe| again || !is_kept(timeframe)).collect();
    if due.is_empty() {
        return Ok(());
    }
    session.batch(|batch| {
        if kept.iter().all(|kept| due.contains(&kept.timeframe)) {
            // All that is marked is going to be read.
            marks::take_all(batch)?;
        }
        state::save(batch, &due, Some(0))
    })
}

/// Builds what is not built yet.
pub fn build(session: &mut Session, url: &DatabaseUrl) -> Result<(), DbError> {
    loop {
        let kept = state::kept(session.conn())?;
        let Some(built) = kept.iter().filter_map(|kept| kept.built).min() else { return Ok(()) };
        let timeframes: Vec<Timeframe> =
            kept.iter().filter(|kept| kept.built == Some(built)).map(|kept| kept.timeframe).collect();
        pass(session, url, &timeframes, built)?;
    }
}

fn pass(session: &mut Session, url: &DatabaseUrl, timeframes: &[Timeframe], built: i64) -> Result<(), DbError> {
    let now = clock::now(session.conn())?;
    let reader = RefCell::new(open(url, Absent::Fail)?);
    let (changes, pruned) = (Changes::default(), Pruned::default());
    let mut writer = Writer { session, reader: &reader, timeframes, now, pruned, changes, points: 0 };
    fold_all(url, &reader, timeframes, built, &mut writer)?;
    writer.flush(Some(None))
}

struct Writer<'a> {
    session: &'a mut Session,
    reader: &'a Reader,
    timeframes: &'a [Timeframe],
    now: Stamp,
    pruned: Pruned,
    changes: Changes,
    /// Read since the last transaction.
    points: usize,
}

impl Writer<'_> {
    /// Writes what there is, and how far we are if that is told.
    fn flush(&mut self, built: Option<Option<i64>>) -> Result<(), DbError> {
        let Writer { session, reader, timeframes, now, pruned, changes, .. } = self;
        session.batch(|batch| {
            // What is to be looked at once more is marked, and folded when all is built.
            let _ = changes.write(batch, *now, pruned, reader)?;
            match built {
                Some(built) => state::save(batch, timeframes, built),
                None => Ok(()),
            }
        })?;
        self.changes.clear();
        self.points = 0;
        Ok(())
    }
}

impl Taker for Writer<'_> {
    fn take(&mut self, interval: Interval<'_>) -> Result<(), DbError> {
        self.changes.note(interval);
        // A coin may have more candles than should be held: what is written of it is written again
        // should we be killed before it is done, and that changes nothing.
        if self.changes.len() >= 2 * CANDLES_A_BATCH { self.flush(None) } else { Ok(()) }
    }

    fn done(&mut self, asset_id: i64, points: usize) -> Result<(), DbError> {
        self.points += points;
        match self.changes.len() >= CANDLES_A_BATCH || self.points >= POINTS_A_BATCH {
            true => self.flush(Some(Some(asset_id))),
            false => Ok(()),
        }
    }
}
