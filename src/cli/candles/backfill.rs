//! `candles backfill`: the past from the source, in the fewest calls, resumable at any point.

use crate::cli::history::{
    Chosen, Coins, Order, Progress, Wanted, candles_between, currencies, fetch, moment, name_of, no_history,
};
use crate::cli::output::{Outcome, Report};
use crate::cli::run::execute;
use crate::cli::{Context, prices};
use crate::config::Settings;
use crate::db::runs::Status;
use crate::db::{Connection, DbError};
use crate::domain::{Cost, Stamp, Timeframe};
use crate::exit::UsageError;
use crate::sinks::history::HistorySink;
use crate::sources::ask::COINS_IF_UNKNOWN;
use crate::sources::{Access, Source};

pub const NAME: &str = "candles backfill";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Length of the candles: 1m 5m 15m 1h 6h 1d
    #[arg(long, value_name = "LENGTH")]
    timeframe: Timeframe,
    /// The first candle opens at or after this UTC date or time: 2026-01-31 or 2026-01-31T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Stamp,
    /// The last candle opens before this [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Stamp>,
    #[command(flatten)]
    coins: Coins,
    /// Quote currencies
    #[arg(long, value_name = "CUR,CUR…", value_delimiter = ',', default_value = "usd", value_parser = prices::currency)]
    vs: Vec<String>,
}

impl Args {
    /// Refuses what the source can't do, before anything is asked for.
    fn order(&self, source: &dyn Source, access: &Access) -> Result<Order, UsageError> {
        let history = source.history().ok_or_else(|| UsageError(no_history(source.name())))?;
        let refused = |why| UsageError(format!("--timeframe {}: {why}", self.timeframe));
        history.offer(access, self.timeframe).map_err(refused)?;
        self.coins.fit(source)?;
        let now = Stamp::from_datetime(chrono::Utc::now()).unwrap_or(Stamp::LAST);
        let range = candles_between(self.timeframe, self.from, self.to.unwrap_or(now))?;
        let wanted = Wanted { timeframe: self.timeframe, range, vs_currencies: currencies(&self.vs) };
        Ok(Order::Backfill { coins: self.coins.clone(), wanted })
    }

    /// What it costs when no call fails, by what is stored under one of these names.
    pub fn cost(
        &self,
        conn: &mut Connection,
        names: &[String],
        source: &'static dyn Source,
        access: &Access,
        now: Stamp,
    ) -> anyhow::Result<Cost> {
        let order = self.order(source, access)?;
        let name = name_of(conn, names)?;
        let active = prices::count_known(conn, names)?;
        match order.choose(conn, &name)? {
            Chosen::All if active == 0 => Ok(self.cost_of_nothing(source, access, COINS_IF_UNKNOWN)?),
            // No ranks yet.
            Chosen::These(these) if these.is_empty() => Ok(self.cost_of_nothing(source, access, active)?),
            _ => Ok(order.cost(conn, &name, source, access, now)?),
        }
    }

    /// What it costs where nothing is stored, for so many coins.
    pub fn cost_of_nothing(&self, source: &dyn Source, access: &Access, coins: u64) -> Result<Cost, UsageError> {
        let now = Stamp::from_datetime(chrono::Utc::now()).unwrap_or(Stamp::LAST);
        let order = self.order(source, access)?;
        let coins = match (&self.coins.ids, self.coins.top) {
            (Some(ids), _) => prices::distinct(ids).len() as u64,
            (None, Some(top)) if coins > 0 => top.min(coins),
            (None, Some(top)) => top,
            (None, None) => coins,
        };
        Ok(order.cost_of_one(source, access, now) * i64::try_from(coins).unwrap_or(i64::MAX))
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let (source, settings) = (context.settings.source, &context.settings);
    let order = args.order(source, &access(context, settings))?;
    let mut outcome = fetch_all(context, NAME, order)?;
    let summary = summary(&outcome.report);
    outcome.text = [summary, std::mem::take(&mut outcome.text)].join("\n").trim().to_owned();
    Ok(outcome)
}

/// What a fetch came to, in a line; nothing where it failed.
pub fn summary(report: &Report) -> String {
    if report.status == Status::Failed.name() {
        return String::new();
    }
    format!(
        "{}: {} records of the past: {} new, {} changed, {} unchanged, {} rejected; {} candles that the source has not ({} call(s), {:.1} s)",
        report.source,
        report.rows_read,
        report.rows_written - report.rows_updated,
        report.rows_updated,
        report.rows_unchanged,
        report.rows_rejected,
        report.rows_absent,
        report.calls,
        report.seconds,
    )
}

/// How the source will be asked, as far as is known before it is.
pub fn access(context: &Context, settings: &Settings) -> Access {
    match context.sandbox {
        true => Access { kind: "sandbox", ..Access::default() },
        false => settings.access(settings.source),
    }
}

/// Fetches what is ordered, as one run of a command.
pub fn fetch_all(context: &Context, command: &'static str, order: Order) -> anyhow::Result<Outcome> {
    let source = context.settings.source;
    let progress = Progress::new(context);
    let estimate = {
        let (order, progress, access) = (order.clone(), progress.clone(), access(context, &context.settings));
        Box::new(move |conn: &mut Connection, names: &[String]| {
            let name = name_of(conn, names)?;
            let now = Stamp::from_datetime(chrono::Utc::now()).unwrap_or(Stamp::LAST);
            let cost = order.cost(conn, &name, source, &access, now)?;
            progress.plan(cost);
            Ok::<_, DbError>(cost)
        })
    };
    let make = |session| Ok(HistorySink::new(session));
    let work = {
        let progress = progress.clone();
        move |job| fetch(job, order, progress)
    };
    let mut outcome = execute(context, command, estimate, make, work)?;
    outcome.report.more.extend(progress.result());
    Ok(outcome)
}
