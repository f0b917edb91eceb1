//! `prune`: old observations that live on in candles are deleted, never anything else.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::json;

use super::Context;
use super::output::{Outcome, Report};
use crate::cli::ending::{self, Ended};
use crate::db::prune::{self, What};
use crate::db::{DbError, Session, clock, migrate};
use crate::domain::{Stamp, Timeframe};
use crate::exit::UsageError;

pub const NAME: &str = "prune";
/// What a run for all sources is recorded under.
const ALL: &str = "all";
/// Coins whose prices are looked through in one transaction: others want to write, too.
const ASSETS_A_BATCH: i64 = 20;
/// Quotes of so much time are looked through in one transaction.
const QUOTES_A_BATCH_MS: i64 = 3_600_000;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only observations at least this old, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Which observations
    #[arg(long, value_name = "WHAT,…", value_enum, value_delimiter = ',', default_value = "prices,quotes")]
    what: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    Prices,
    Quotes,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut kinds = args.what.clone();
    kinds.sort();
    kinds.dedup();
    let mut opened = migrate::open_current(&context.settings.database_url)?;
    let source = context.stored_source(&mut opened.conn)?;
    let source = source.as_deref();
    // Whole days: what is folded of a day is either all there or all gone.
    let cutoff = Timeframe::D1.floor(cutoff(clock::now(&mut opened.conn)?, args.older_than)?);
    prune::read_at_one_moment(&mut opened.conn)?;
    let mut session = Session::begin(opened, NAME, source.unwrap_or(ALL), context.wait)?;
    let mut report = Report::new(NAME, session.source());
    report.run_id = Some(session.run_id());
    let result = kinds.iter().try_for_each(|kind| {
        let what = match kind {
            Kind::Prices => What::Prices,
            Kind::Quotes => What::Quotes,
        };
        delete(&mut session, what, source, cutoff)
    });
    let mut building = Vec::new();
    let result = result.and_then(|()| {
        if kinds.contains(&Kind::Prices) {
            building = prune::building(session.conn())?;
        }
        Ok(())
    });
    let tally = session.tally();
    let ended = Ended::of(&result.map_err(anyhow::Error::from), &session);
    let exit = ending::record(&mut session, ended, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    report.more.insert("older_than".into(), json!(cutoff.to_string()));
    let kept = match tally.unchanged {
        0 => String::new(),
        kept => format!("; {kept} more are kept: no final candle or window holds them yet, or they are the newest"),
    };
    let building: Vec<&str> = building.into_iter().map(Timeframe::name).collect();
    report.more.insert("awaits_rollup".into(), json!(building));
    let kept = match building.is_empty() {
        true => kept,
        false => format!(
            "{kept}; prices stay until `coinetl candles rollup` has made all candles of {}",
            building.join(", ")
        ),
    };
    let text = format!("{} observations before {cutoff} UTC deleted{kept} ({:.1} s)", tally.written, report.seconds);
    let text = if report.error.is_some() { String::new() } else { text };
    Ok(Outcome::new(exit, report, text))
}

fn cutoff(now: Stamp, age: Duration) -> Result<Stamp, UsageError> {
    let millis = i64::try_from(age.as_millis()).ok().and_then(|age| now.millis().checked_sub(age));
    millis
        .and_then(|millis| Stamp::from_millis(millis).ok())
        .ok_or_else(|| UsageError("--older-than goes back before 1970: there is nothing as old as that".to_owned()))
}

fn delete(session: &mut Session, what: What, source: Option<&str>, cutoff: Stamp) -> Result<(), DbError> {
    let count = |batch: &mut crate::db::session::Batch<'_>, deleted: usize| {
        batch.tally.read += deleted as i64;
        batch.tally.written += deleted as i64;
    };
    match what {
        What::Quotes => {
            let mut from = prune::first_quote(session.conn(), source, None, cutoff)?;
            while let Some(first) = from {
                let end = Stamp::from_millis(first.millis() + QUOTES_A_BATCH_MS).map_or(cutoff, |end| end.min(cutoff));
                session.batch(|batch| {
                    let deleted = prune::quotes(batch, source, first, end)?;
                    count(batch, deleted);
                    Ok(())
                })?;
                from = prune::first_quote(session.conn(), source, Some(end), cutoff)?;
            }
        }
        What::Prices => {
            let highest = prune::highest_asset(session.conn())?;
            let mut first = 1;
            while first <= highest {
                let last = first + ASSETS_A_BATCH - 1;
                session.batch(|batch| {
                    let deleted = prune::prices(batch, source, first, last, cutoff)?;
                    count(batch, deleted);
                    Ok(())
                })?;
                first = last + 1;
            }
        }
    }
    let kept = prune::count_older(session.conn(), what, source, cutoff)?;
    session.batch(|batch| {
        batch.tally.read += kept;
        batch.tally.unchanged += kept;
        Ok(())
    })
}
