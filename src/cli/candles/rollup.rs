//! `candles rollup`: stored prices and finer candles into candles, only what changed since last time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::ending::{self, Ended};
use crate::cli::output::{Outcome, Report};
use crate::cli::{Context, heartbeat};
use crate::db::rollup::state;
use crate::db::runs::Status;
use crate::db::{DatabaseUrl, DbError, Session, clock, migrate};
use crate::domain::{Candle, Cost, Timeframe};
use crate::exit::Exit;
use crate::rollup::verify::{Difference, Verified, verify};
use crate::rollup::{build, marked};

pub const NAME: &str = "candles rollup";
/// Everything that is stored: a mark does not tell of which source it is.
const ALL: &str = "all";
/// Differences that are listed; all are counted.
const LISTED: usize = 100;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Candles of these lengths from now on: every later rollup keeps them up to date, too [default: 1h,1d]
    #[arg(long, value_name = "TIMEFRAME,…", value_delimiter = ',')]
    timeframe: Vec<Timeframe>,
    /// Fold these timeframes of everything that is stored once more
    #[arg(long)]
    rebuild: bool,
    /// Change nothing: fold everything once more and list the candles that differ; exit code 1 if any do
    #[arg(long, conflicts_with = "rebuild")]
    verify: bool,
}

impl Args {
    fn timeframes(&self) -> Vec<Timeframe> {
        let mut timeframes = match self.timeframe.is_empty() {
            true => vec![Timeframe::H1, Timeframe::D1],
            false => self.timeframe.clone(),
        };
        timeframes.sort();
        timeframes.dedup();
        timeframes
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let url = &context.settings.database_url;
    let opened = migrate::open_current(url)?;
    let mut session = Session::begin(opened, NAME, ALL, context.wait)?;
    let mut report = Report::new(NAME, session.source());
    report.run_id = Some(session.run_id());
    // A database may sort for longer than a lease lives.
    let heartbeat = heartbeat::start(url, session.lease().clone());
    let result = match args.verify {
        true => {
            let chosen = (!args.timeframe.is_empty()).then(|| args.timeframes());
            verify(&mut session, url, chosen.as_deref(), LISTED).and_then(|verified| {
                // What was compared and found right is what was read and left.
                session.batch(|batch| {
                    batch.tally.read += verified.compared;
                    batch.tally.unchanged += verified.compared;
                    Ok(())
                })?;
                Ok(Some(verified))
            })
        }
        false => roll_up(&mut session, url, &args.timeframes(), args.rebuild).map(|()| None),
    };
    drop(heartbeat);
    let tally = session.tally();
    let mut text = String::new();
    let ended = match result {
        Ok(Some(verified)) => {
            text = tell(&mut session, &verified, &mut report)?;
            match verified.differing {
                0 => Ended::well(),
                many => {
                    let error = Some(format!("{many} candle(s) are not what they should be"));
                    Ended { status: Status::Failed, exit: Exit::No, error }
                }
            }
        }
        Ok(None) => Ended::well(),
        Err(err) => Ended::failed(&err.into(), tally.written > 0),
    };
    let exit = ending::record(&mut session, ended, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    if !args.verify && report.error.is_none() {
        let new = tally.written - tally.updated;
        text = format!(
            "{new} candles new, {} changed, {} unchanged ({:.1} s)",
            tally.updated, tally.unchanged, report.seconds
        );
    }
    Ok(Outcome::new(exit, report, text))
}

/// Brings candles of these lengths up to date, as a run of its own, for a command that goes on with them.
pub fn bring_up_to_date(url: &DatabaseUrl, timeframes: &[Timeframe], wait: Duration) -> Result<(), DbError> {
    let mut session = Session::begin(migrate::open_current(url)?, NAME, ALL, wait)?;
    let heartbeat = heartbeat::start(url, session.lease().clone());
    let result = roll_up(&mut session, url, timeframes, false);
    drop(heartbeat);
    let error = result.as_ref().err().map(DbError::to_string);
    let status = match (&error, session.tally().written) {
        (None, _) => Status::Ok,
        (Some(_), 0) => Status::Failed,
        (Some(_), _) => Status::Partial,
    };
    let finished = session.finish(status, error.as_deref(), Cost::default());
    result.and(finished.map(|_| ()))
}

fn roll_up(session: &mut Session, url: &DatabaseUrl, timeframes: &[Timeframe], rebuild: bool) -> Result<(), DbError> {
    build::start(session, timeframes, rebuild)?;
    build::build(session, url)?;
    marked::fold_marked(session, url)?;
    // What was folded while it was open, and is over by now, is what it will stay.
    let now = clock::now(session.conn())?;
    for open in state::open(session.conn())? {
        if open.0.end(open.1) > now {
            continue;
        }
        session.batch(|batch| {
            let made = state::close(batch, open)? as i64;
            batch.tally.read += made;
            batch.tally.written += made;
            batch.tally.updated += made;
            Ok(())
        })?;
    }
    Ok(())
}

/// The result of `--verify` for people, and into the report for programs.
fn tell(session: &mut Session, verified: &Verified, report: &mut Report) -> Result<String, DbError> {
    let mut lines = Vec::new();
    let mut listed = Vec::new();
    for difference in &verified.differences {
        let (source, asset) = state::coin(session.conn(), difference.asset_id)?;
        let Difference { vs_currency, timeframe, open_time, stored, recomputed, .. } = difference;
        let [stored_text, recomputed_text] =
            [stored, recomputed].map(|candle| candle.as_ref().map_or("none".into(), show));
        lines
            .push(format!("{source}:{asset} {vs_currency} {timeframe} {open_time}: {stored_text} → {recomputed_text}"));
        listed.push(json!({
            "source": source, "asset": asset, "vs_currency": vs_currency, "timeframe": timeframe.name(),
            "open_time": open_time.to_string(), "stored": stored.as_ref().map(as_json),
            "recomputed": recomputed.as_ref().map(as_json),
        }));
    }
    let not_listed = verified.differing - listed.len() as i64;
    if not_listed > 0 {
        lines.push(format!("… and {not_listed} more"));
    }
    for timeframe in &verified.unknown {
        lines.push(format!("{timeframe} was not rolled up yet: there is nothing to compare"));
    }
    lines.push(format!("{} candles compared, {} differ", verified.compared, verified.differing));
    report.more.insert("differing".into(), json!(verified.differing));
    report.more.insert("differences".into(), Value::Array(listed));
    Ok(lines.join("\n"))
}

fn show(candle: &Candle) -> String {
    let bar = &candle.bar;
    let maybe = |number: Option<f64>| number.map_or("-".to_owned(), |number| number.to_string());
    format!(
        "open {} high {} low {} close {} volume {} base {} cap {} samples {}{}",
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        maybe(bar.volume),
        maybe(bar.base_volume),
        maybe(bar.market_cap),
        bar.samples.unwrap_or_default(),
        if candle.is_final { "" } else { " (open)" }
    )
}

fn as_json(candle: &Candle) -> Value {
    let bar = &candle.bar;
    json!({
        "open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close, "volume": bar.volume,
        "base_volume": bar.base_volume, "market_cap": bar.market_cap, "samples": bar.samples, "final": candle.is_final,
    })
}
