//! `gaps`: what is missing of the past, and why; `--repair` gets what can be had.
//!
//! Rows are half-open intervals. What is whole is one row for each expected interval without a hole;
//! where there are holes, only these are listed. The summary counts candles by their state.

mod show;

use std::time::Instant;

use serde_json::json;

use super::budget::Label;
use super::candles::backfill::{access, fetch_all, summary};
use super::history::{Chosen, Coins, Order, candles_between, moment, name_of, no_history};
use super::output::{Outcome, Report};
use super::{Context, Output, prices};
use crate::db::gaps::{self, Selection};
use crate::db::runs::Status;
use crate::db::{Connection, DbError, clock, migrate};
use crate::domain::{Cost, Stamp, Timeframe};
use crate::exit::{Exit, UsageError};
use crate::sources::history::Kind;
use crate::sources::{ALL, Access, Source};
use show::Listed;

pub const NAME: &str = "gaps";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only candles of this length: 1m 5m 15m 1h 6h 1d
    #[arg(long, value_name = "LENGTH")]
    timeframe: Option<Timeframe>,
    /// From this UTC date or time on; with --timeframe, everything from there on is expected
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Stamp>,
    /// Before this date or time [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "from")]
    to: Option<Stamp>,
    #[command(flatten)]
    coins: Coins,
    /// Only these quote currencies [default: all that were asked for, or usd]
    #[arg(long, value_name = "CUR,CUR…", value_delimiter = ',', value_parser = prices::currency)]
    vs: Vec<String>,
    /// Ask the source for what is missing, in the fewest calls
    #[arg(long)]
    pub repair: bool,
}

impl Args {
    /// What to look at, under these names; none = under all.
    fn selection(&self, sources: Vec<String>, now: Stamp) -> Result<Selection, UsageError> {
        let until = self.to.unwrap_or(now);
        let within = match (self.from, self.timeframe) {
            (None, _) => None,
            (Some(from), Some(timeframe)) => Some(candles_between(timeframe, from, until)?),
            // Of every length.
            (Some(from), None) => Some(candles_between(Timeframe::M1, from, until)?),
        };
        let all_within = self.timeframe.is_some() && within.is_some();
        let mut vs_currencies = prices::distinct(&self.vs);
        if all_within && vs_currencies.is_empty() {
            vs_currencies.push("usd".to_owned());
        }
        Ok(Selection { sources, vs_currencies, timeframe: self.timeframe, within, all_within, points: Vec::new() })
    }

    fn order(&self, source: &dyn Source, access: &Access, name: &str, now: Stamp) -> Result<Order, UsageError> {
        let history = source.history().ok_or_else(|| UsageError(no_history(source.name())))?;
        if let Some(timeframe) = self.timeframe {
            let refused = |why| UsageError(format!("--timeframe {timeframe}: {why}"));
            history.offer(access, timeframe).map_err(refused)?;
        }
        self.coins.fit(source)?;
        let mut selection = self.selection(vec![name.to_owned()], now)?;
        selection.points = points(source, access);
        Ok(Order::Repair { coins: self.coins.clone(), selection })
    }

    /// What a repair costs when no call fails, by what is stored under one of these names.
    pub fn cost(
        &self,
        conn: &mut Connection,
        names: &[String],
        source: &'static dyn Source,
        access: &Access,
        now: Stamp,
    ) -> anyhow::Result<Cost> {
        let name = name_of(conn, names)?;
        let order = self.order(source, access, &name, now)?;
        Ok(order.cost(conn, &name, source, access, now)?)
    }
}

/// The timeframes that a source has as points, under both of its names.
fn points(source: &dyn Source, access: &Access) -> Vec<(String, Timeframe)> {
    let Some(history) = source.history() else { return Vec::new() };
    let is_points =
        |timeframe: &Timeframe| history.offer(access, *timeframe).is_ok_and(|offer| offer.kind == Kind::Points);
    let names = Label::Unsure.names(source);
    let of = |timeframe: Timeframe| names.iter().map(move |name| (name.clone(), timeframe)).collect::<Vec<_>>();
    Timeframe::ALL.into_iter().filter(is_points).flat_map(of).collect()
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let source = context.settings.source;
    let mut conn = migrate::open_current(&context.settings.database_url)?.conn;
    let now = clock::now(&mut conn)?;
    let label = if context.sandbox { Label::Sandbox } else { Label::Unsure };
    let names = label.names(source);
    let other = match context.other_source() {
        Some(_) => context.stored_source(&mut conn)?,
        None => None,
    };
    let is_vendor = other.is_none();
    let name = match other {
        Some(other) => other,
        None => name_of(&mut conn, &names)?,
    };
    let repaired = match args.repair {
        true => {
            let order = args.order(source, &access(context, &context.settings), &name, now)?;
            Some(fetch_all(context, NAME, order)?)
        }
        false => None,
    };
    // Behind an address may be a sandbox, whose name the answers told.
    let name = repaired.as_ref().map(|outcome| outcome.report.source.clone()).unwrap_or(name);
    let of_one = args.repair || context.sandbox || context.source_is_chosen || args.from.is_some() || named(args);
    let sources = if of_one { vec![name.clone()] } else { Vec::new() };
    let mut selection = args.selection(sources, clock::now(&mut conn)?)?;
    for source in ALL {
        selection.points.extend(points(source, &context.settings.access(source)));
    }
    if args.coins.top.is_some() && is_vendor {
        args.coins.fit(source)?;
    }
    let Some(listed) = list(&mut conn, args, &selection, &name, context.output == Output::Json)? else {
        return Err(UsageError(format!(
            "--top: no ranks are stored for {name}; run `coinetl prices insert --top N` first, or use --ids"
        ))
        .into());
    };
    let mut outcome = repaired.unwrap_or_else(|| {
        let shown = if of_one { name.as_str() } else { "all" };
        Outcome::new(Exit::Ok, Report::new(NAME, shown), String::new())
    });
    outcome.report.seconds = started.elapsed().as_secs_f64();
    if outcome.report.status == Status::Failed.name() {
        return Ok(outcome);
    }
    if context.output == Output::Text && !context.quiet {
        let fetched = if args.repair { summary(&outcome.report) } else { String::new() };
        let mut parts = vec![fetched, std::mem::take(&mut outcome.text), listed.text()];
        parts.retain(|part| !part.is_empty());
        outcome.text = parts.join("\n");
    }
    let (unknown, missing) = (listed.unknown.clone(), listed.missing());
    outcome.report.more.insert("summary".into(), listed.summary());
    outcome.report.more.insert("gaps".into(), json!(listed.rows));
    let mut problems: Vec<String> = outcome.report.error.take().into_iter().collect();
    if !unknown.is_empty() && !args.repair {
        problems.push(format!("not stored under {name}: {}; ids are the source's own", unknown.join(", ")));
    }
    if missing > 0 {
        let remedy = match (args.repair, is_vendor) {
            (true, _) => "see the reasons",
            (false, true) => "`coinetl gaps --repair` asks for what can be had",
            (false, false) => "there is nobody to ask for them",
        };
        problems.push(format!("{missing} candles are missing; {remedy}"));
    }
    if !problems.is_empty() {
        (outcome.exit, outcome.report.status) = (Exit::Partial, Status::Partial.name());
        outcome.report.error = Some(problems.join("; "));
    }
    Ok(outcome)
}

/// Coins of a source were named.
fn named(args: &Args) -> bool {
    args.coins.ids.is_some() || args.coins.top.is_some()
}

/// `None` where the largest coins are asked for and none has a rank.
fn list(
    conn: &mut Connection,
    args: &Args,
    selection: &Selection,
    name: &str,
    keeps_rows: bool,
) -> Result<Option<Listed>, DbError> {
    let ranked_by = selection.vs_currencies.first().map_or("usd", String::as_str);
    let chosen = args.coins.choose(conn, name, ranked_by)?;
    if args.coins.top.is_some() && matches!(&chosen, Chosen::These(coins) if coins.is_empty()) {
        return Ok(None);
    }
    let mut listed = Listed::new(keeps_rows);
    let ids: Option<Vec<i64>> = match &chosen {
        Chosen::All => None,
        Chosen::These(targets) => {
            let unknown = targets.iter().filter(|target| target.asset_id.is_none());
            listed.unknown = unknown.map(|target| target.source_id.clone()).collect();
            Some(targets.iter().filter_map(|target| target.asset_id).collect())
        }
    };
    let now = clock::now(conn)?;
    let mut after = Some(0);
    while let Some(from) = after {
        let part = gaps::next_part(conn, selection, ids.as_deref(), from, now)?;
        after = part.next;
        part.found.iter().for_each(|found| listed.add(found));
    }
    Ok(Some(listed))
}
