//! What calls brought of the past: candles or prices, and what is known of their intervals now, in one
//! transaction with the run's counts.

use std::sync::Arc;

use super::Sink;
use crate::db::candles::{self, CandleRow};
use crate::db::prices::{self, PriceRow};
use crate::db::session::Batch;
use crate::db::{DbError, Session, assets, coverage, dead_letters};
use crate::domain::{Coin, Timeframe};
use crate::sources::history::Haul;

pub struct HistorySink {
    session: Session,
}

/// Whose past it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Ours; `None` for a coin that is not stored yet.
    pub asset_id: Option<i64>,
    /// The source's.
    pub source_id: String,
}

/// What is known now of one coin in one currency.
pub struct HistoryBatch {
    pub target: Target,
    pub vs_currency: Arc<str>,
    pub timeframe: Timeframe,
    pub endpoint: &'static str,
    pub haul: Haul,
    /// Of an answer, and not of what is known without one.
    pub is_answer: bool,
}

impl HistorySink {
    pub fn new(session: Session) -> Self {
        HistorySink { session }
    }
}

impl Sink for HistorySink {
    type Batch = HistoryBatch;

    fn write(&mut self, batches: Vec<HistoryBatch>) -> Result<(), DbError> {
        let source = self.session.source().to_owned();
        self.session.batch(|batch| batches.iter().try_for_each(|part| store(batch, &source, part)))
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

fn store(batch: &mut Batch<'_>, source: &str, part: &HistoryBatch) -> Result<(), DbError> {
    let HistoryBatch { target, vs_currency, timeframe, endpoint, haul, is_answer } = part;
    let asset_id = asset_id(batch, source, target)?;
    let candle =
        |candle: &crate::domain::Candle| CandleRow { asset_id, vs_currency: vs_currency.clone(), candle: *candle };
    let mut bars: Vec<CandleRow> = haul.candles.iter().map(candle).collect();
    let point = |(observed_at, figures): &(_, _)| PriceRow {
        asset_id,
        vs_currency: vs_currency.clone(),
        observed_at: *observed_at,
        figures: *figures,
    };
    let mut points: Vec<PriceRow> = haul.points.iter().map(point).collect();
    let read = bars.len() + points.len() + haul.rejected.len();
    for stored in [candles::upsert(batch, &mut bars)?, prices::upsert(batch, &mut points)?] {
        batch.tally.written += (stored.new + stored.updated) as i64;
        batch.tally.updated += stored.updated as i64;
        batch.tally.unchanged += stored.unchanged as i64;
    }
    batch.tally.read += read as i64;
    batch.tally.rejected += haul.rejected.len() as i64;
    if *is_answer {
        batch.tally.absent += haul.absent(*timeframe);
    }
    dead_letters::record(batch, source, endpoint, &haul.rejected)?;
    coverage::record_all(batch, asset_id, vs_currency, *timeframe, &haul.spans)
}

/// A coin that nobody listed is added by what its caller called it.
fn asset_id(batch: &mut Batch<'_>, source: &str, target: &Target) -> Result<i64, DbError> {
    if let Some(id) = target.asset_id {
        return Ok(id);
    }
    if let Some(id) = assets::ids(batch, source, [target.source_id.as_str()])?.remove(&target.source_id) {
        return Ok(id);
    }
    let coin = Coin { source_id: target.source_id.clone(), symbol: None, name: None };
    let added = assets::insert(batch, source, &[&coin])?;
    added.first().copied().ok_or(DbError::Query { doing: "adding a coin", why: "it got no id".to_owned() })
}
