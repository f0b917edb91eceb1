//! `prices insert`: the current price of every active coin, or of the chosen ones.

use std::collections::HashSet;
use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use futures::stream::{self, StreamExt};
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use super::output::Outcome;
use super::progress;
use super::run::{Done, Job, execute};
use crate::db::views::{self, TopCoin};
use crate::db::{Session, assets, runs};
use crate::domain::Parsed;
use crate::pipeline;
use crate::sinks::Sink;
use crate::sinks::prices::{PriceBatch, PriceSink};
use crate::sources::error::SourceError;
use crate::sources::http::Body;
use crate::sources::{Order, Request};

pub const NAME: &str = "prices insert";

/// Calls under way at once: a slow answer must not slow down a run below its rate limit.
const AHEAD: usize = 4;
/// So many failed pages in a row, and the source is down: asking on would only cost calls.
const HOPELESS: usize = 3;
/// Names told in a message; the rest is counted.
const NAMED: usize = 10;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only the N largest coins by market cap
    #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(u64).range(1..))]
    top: Option<u64>,
    /// Only these coins, by the source's ids: bitcoin,ethereum
    #[arg(long, value_name = "ID,ID…", value_delimiter = ',', value_parser = id)]
    ids: Option<Vec<String>>,
    /// Quote currencies
    #[arg(long, value_name = "CUR,CUR…", value_delimiter = ',', default_value = "usd", value_parser = currency)]
    vs: Vec<String>,
    /// Without exchange rates (none are fetched yet, so this changes nothing)
    #[arg(long, hide = true)]
    no_fx: bool,
}

fn id(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an id is empty".to_owned()),
        id => Ok(id.to_owned()),
    }
}

fn currency(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let fits = (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(name) } else { Err("a currency is 1 to 20 letters or digits, such as usd".to_owned()) }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let limit = args.top;
    let make = move |mut session: Session| {
        let run_id = session.run_id();
        let run_time = runs::started_at(session.conn(), run_id)?;
        Ok(PriceSink::new(session, run_time, limit))
    };
    let (wanted, bar) = (args.clone(), progress::bar(context));
    let for_people = context.output == super::Output::Text && !context.quiet;
    let mut outcome = execute(context, NAME, make, move |job| insert(job, wanted, bar, for_people))?;
    let report = &outcome.report;
    if report.status != "failed" {
        let summary = format!(
            "{}: {} prices: {} new, {} changed, {} unchanged, {} rejected, {} absent ({} call(s), {:.1} s)",
            report.source,
            report.rows_read,
            report.rows_written - report.rows_updated,
            report.rows_updated,
            report.rows_unchanged,
            report.rows_rejected,
            report.rows_absent,
            report.calls,
            report.seconds,
        );
        outcome.text = [summary, std::mem::take(&mut outcome.text)].join("\n").trim_end().to_owned();
    }
    Ok(outcome)
}

/// What stays in hand while currency after currency is fetched.
struct Fetch {
    job: Arc<Job<PriceSink>>,
    out: mpsc::Sender<PriceBatch>,
    bar: ProgressBar,
    problems: Vec<String>,
    cause: Option<anyhow::Error>,
    /// Failed answers since the last good one.
    failed_in_a_row: usize,
}

async fn insert(job: Arc<Job<PriceSink>>, args: Args, bar: ProgressBar, for_people: bool) -> anyhow::Result<Done> {
    let mut done = Done::default();
    let mut distinct = HashSet::new();
    for vs_currency in args.vs.iter().filter(|vs| distinct.insert(*vs)) {
        let vs: Arc<str> = Arc::from(vs_currency.as_str());
        let (out, batches) = mpsc::channel(pipeline::QUEUE);
        let mut fetch =
            Fetch { job: job.clone(), out, bar: bar.clone(), problems: Vec::new(), cause: None, failed_in_a_row: 0 };
        let pages = async {
            let result = match &args.ids {
                Some(ids) => fetch.some(&vs, ids).await,
                None => fetch.pages(&vs, args.top).await,
            };
            // Closes the channel, which ends the copying.
            let Fetch { out, problems, cause, .. } = fetch;
            drop(out);
            result.map(|whole| (whole, problems, cause))
        };
        let (fetched, copied) = tokio::join!(pages, pipeline::copy(batches, &job.sink));
        copied?;
        let (whole, problems, cause) = fetched?;
        done.problems.extend(problems);
        done.cause = done.cause.take().or(cause);
        if let Some(ids) = &args.ids {
            if whole {
                name_unknown(&job, &vs, ids, &mut done).await?;
            }
        } else if whole {
            heal(&job, &vs, args.top, &bar, &mut done).await?;
        }
    }
    bar.finish_and_clear();
    if for_people {
        done.text = top_table(&job, args.vs.first().map_or("usd", String::as_str)).await;
    }
    Ok(done)
}

impl Fetch {
    /// Pages through all coins, or the top ones. False when pages are lacking.
    async fn pages(&mut self, vs: &Arc<str>, top: Option<u64>) -> anyhow::Result<bool> {
        let source = self.job.source().clone();
        let page_size = source.page_size() as u64;
        let order = if top.is_some() { Order::MarketCap } else { Order::Id };
        let per_page = top.map_or(page_size, |top| top.min(page_size));
        let request = |page: u64| source.price_page(order, vs, page as usize, per_page as usize);
        // The first page also tells under which name the coins are stored; only then can they
        // be counted.
        let full = |count: usize| count as u64 >= per_page;
        let first = fetch_page(self.job.clone(), request(1), vs.clone()).await.and_then(not_empty);
        // Before the page is stored: its own coins tell nothing about how many pages there are.
        let active = self.job.sink.run(count_listed).await? as u64;
        let mut ended = match self.take(first, "page 1", vs).await? {
            Taken::Page(count) => active == 0 && !full(count),
            Taken::Failed => false,
            Taken::Closed => return Ok(false),
        };
        // Nobody knows how many pages there are before the first `assets upsert`.
        let last = match (top, active) {
            (Some(top), 0) => top.div_ceil(per_page),
            (Some(top), active) => top.min(active).div_ceil(per_page),
            (None, 0) => u64::MAX,
            (None, active) => active.div_ceil(per_page),
        };
        self.bar.inc_length(last.min(100_000));
        let job = self.job.clone();
        let mut tasks = stream::iter(2..=last)
            .map(|page| {
                let fetch = fetch_page(job.clone(), request(page), vs.clone());
                async move { (page, spawn(fetch).await) }
            })
            .buffered(if last == u64::MAX { 1 } else { AHEAD });
        let mut whole = self.failed_in_a_row == 0;
        // Behind the last coin, or broken answers when a later page holds some.
        let mut empty = Vec::new();
        while !ended {
            let Some((page, result)) = tasks.next().await else { break };
            match self.take(result, &format!("page {page}"), vs).await? {
                Taken::Page(0) if active > 0 => empty.push(page),
                Taken::Page(count) => {
                    whole &= empty.is_empty();
                    self.problems.extend(empty.drain(..).map(|page| format!("page {page} of {vs} came back empty")));
                    ended = active == 0 && !full(count);
                }
                Taken::Failed => whole = false,
                Taken::Closed => return Ok(false),
            }
            if self.failed_in_a_row >= HOPELESS {
                let left = last.saturating_sub(page);
                if left > 0 && last != u64::MAX {
                    self.problems.push(format!("the {left} pages of {vs} after page {page} were not asked for"));
                }
                break;
            }
        }
        Ok(whole)
    }

    /// Asks for some coins by their ids. False when a call failed.
    async fn some(&mut self, vs: &Arc<str>, ids: &[String]) -> anyhow::Result<bool> {
        let mut distinct = HashSet::new();
        let ids: Vec<String> = ids.iter().filter(|id| distinct.insert(*id)).cloned().collect();
        self.by_ids(vs, &ids).await
    }

    async fn by_ids(&mut self, vs: &Arc<str>, ids: &[String]) -> anyhow::Result<bool> {
        let source = self.job.source().clone();
        let (mut rest, mut most, mut whole) = (ids, usize::MAX, true);
        while !rest.is_empty() {
            let (request, taken) = source.prices_of(vs, &rest[..rest.len().min(most)]);
            let result = fetch_page(self.job.clone(), request, vs.clone()).await;
            if let Err(err) = &result
                && let Some(SourceError::Refused { status: 414, .. }) = err.downcast_ref()
                && taken > 1
            {
                // Some server on the way takes shorter addresses only.
                most = taken / 2;
                continue;
            }
            match self.take(result, &format!("{taken} coins by id"), vs).await? {
                Taken::Page(_) => {}
                Taken::Failed => whole = false,
                Taken::Closed => return Ok(false),
            }
            if self.failed_in_a_row >= HOPELESS {
                return Ok(false);
            }
            rest = &rest[taken..];
        }
        Ok(whole)
    }

    /// Hands a page on to be written; a failed one costs itself only.
    async fn take(&mut self, page: anyhow::Result<PriceBatch>, what: &str, vs: &Arc<str>) -> anyhow::Result<Taken> {
        self.bar.inc(1);
        match page {
            Ok(page) => {
                self.failed_in_a_row = 0;
                let count = page.parsed.len();
                // A writer that is gone has its own error to tell.
                Ok(if self.out.send(page).await.is_ok() { Taken::Page(count) } else { Taken::Closed })
            }
            Err(err) if err.downcast_ref::<SourceError>().is_some_and(|err| !err.ends_the_run()) => {
                self.failed_in_a_row += 1;
                self.problems.push(format!("{what} of {vs} failed: {err}"));
                self.cause.get_or_insert(err);
                Ok(Taken::Failed)
            }
            Err(err) => Err(err),
        }
    }
}

enum Taken {
    /// With so many records.
    Page(usize),
    Failed,
    Closed,
}

async fn fetch_page(job: Arc<Job<PriceSink>>, request: Request, vs: Arc<str>) -> anyhow::Result<PriceBatch> {
    let endpoint = request.endpoint;
    let source = job.source().clone();
    let read = |mut body: Body| {
        let (mut records, mut record, mut parsed) = (body.records()?, Vec::new(), Parsed::default());
        while records.next_into(&mut record)? {
            parsed.push(source.parse_price(&record, &vs));
        }
        Ok(parsed)
    };
    let parsed = job.fetch(&request, read).await?;
    Ok(PriceBatch { vs_currency: vs, endpoint, parsed })
}

/// No market is without a coin: an empty first page is a broken answer, not the end.
fn not_empty(page: PriceBatch) -> anyhow::Result<PriceBatch> {
    if page.parsed.is_empty() {
        let why = "the first page of prices is empty".to_owned();
        return Err(SourceError::Malformed { endpoint: page.endpoint.to_owned(), why }.into());
    }
    Ok(page)
}

/// On a thread of its own, and ended when nobody waits for it any more.
async fn spawn<T: Send + 'static>(work: impl Future<Output = anyhow::Result<T>> + Send + 'static) -> anyhow::Result<T> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(err)) => Err(err.into()),
        None => Err(anyhow::anyhow!("a fetch vanished")),
    }
}

/// The active coins, or 0 while no `assets upsert` came to its end: what is stored then may be a part.
fn count_listed(sink: &mut PriceSink) -> Result<i64, crate::db::DbError> {
    let source = sink.session().source().to_owned();
    if !runs::ended_well(sink.session().conn(), super::assets::NAME, &source)? {
        return Ok(0);
    }
    assets::count_active(sink.session().conn(), &source)
}

/// `--ids`: what the source does not know is named.
async fn name_unknown(job: &Arc<Job<PriceSink>>, vs: &Arc<str>, ids: &[String], done: &mut Done) -> anyhow::Result<()> {
    let (vs, ids) = (vs.clone(), ids.to_vec());
    let unknown = job
        .sink
        .run(move |sink| {
            let mut distinct = HashSet::new();
            let ids: Vec<String> = ids.into_iter().filter(|id| distinct.insert(id.clone())).collect();
            let unknown = sink.unseen_ids(&vs, &ids)?;
            sink.record_absent(&vs, &[], unknown.len() as i64)?;
            Ok::<_, crate::db::DbError>((vs, unknown))
        })
        .await?;
    let (vs, unknown) = unknown;
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().take(NAMED).map(String::as_str).collect();
        let more = unknown.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        done.problems.push(format!(
            "the source has no price in {vs} for: {}{more}; ids are the source's own (see assets.source_id)",
            names.join(", ")
        ));
    }
    Ok(())
}

/// Coins that moved from one page to another while these were fetched are asked for by id.
async fn heal(
    job: &Arc<Job<PriceSink>>,
    vs: &Arc<str>,
    top: Option<u64>,
    bar: &ProgressBar,
    done: &mut Done,
) -> anyhow::Result<()> {
    if let Some(top) = top {
        let missing = job.sink.run({
            let vs = vs.clone();
            move |sink| sink.missing_of_top(&vs, top)
        });
        let missing = missing.await?;
        if !missing.is_empty() {
            let ids: Vec<String> = missing.into_iter().map(|(_, source_id)| source_id).collect();
            ask(job, vs, &ids, bar, done).await?;
        }
        return Ok(());
    }
    let (mut after, mut pending, mut skipped) = (Some(0), Vec::new(), 0);
    while let Some(from) = after {
        let vs_currency = vs.clone();
        let missing = job.sink.run(move |sink| sink.missing_after(&vs_currency, from)).await?;
        after = missing.next;
        skipped += missing.skipped;
        pending.extend(missing.ask);
        // Whole calls only, so that none is spent on a few.
        let page_size = job.source().page_size();
        while pending.len() >= page_size || (after.is_none() && !pending.is_empty()) {
            let part: Vec<(i64, String)> = pending.drain(..page_size.min(pending.len())).collect();
            let (ids, source_ids): (Vec<i64>, Vec<String>) = part.into_iter().unzip();
            if !ask(job, vs, &source_ids, bar, done).await? {
                return Ok(());
            }
            let vs = vs.clone();
            let recorded = job.sink.run(move |sink| {
                let absent = sink.unseen(&vs, &ids);
                sink.record_absent(&vs, &absent, absent.len() as i64)
            });
            recorded.await?;
        }
    }
    let vs = vs.clone();
    job.sink.run(move |sink| sink.record_absent(&vs, &[], skipped)).await?;
    Ok(())
}

/// False when a call failed: what it left out is not absent.
async fn ask(
    job: &Arc<Job<PriceSink>>,
    vs: &Arc<str>,
    ids: &[String],
    bar: &ProgressBar,
    done: &mut Done,
) -> anyhow::Result<bool> {
    let (out, batches) = mpsc::channel(pipeline::QUEUE);
    let mut fetch =
        Fetch { job: job.clone(), out, bar: bar.clone(), problems: Vec::new(), cause: None, failed_in_a_row: 0 };
    let asking = async {
        let whole = fetch.by_ids(vs, ids).await;
        let Fetch { out, problems, cause, .. } = fetch;
        drop(out);
        whole.map(|whole| (whole, problems, cause))
    };
    let (asked, copied) = tokio::join!(asking, pipeline::copy(batches, &job.sink));
    copied?;
    let (whole, problems, cause) = asked?;
    done.problems.extend(problems);
    done.cause = done.cause.take().or(cause);
    Ok(whole)
}

/// The largest coins as they stand now; a result that cannot be read costs only this table.
async fn top_table(job: &Arc<Job<PriceSink>>, vs: &str) -> String {
    let currency = vs.to_owned();
    let rows = job.sink.run(move |sink| {
        let source = sink.session().source().to_owned();
        views::cap_top_10(sink.session().conn(), &source, &currency)
    });
    match rows.await {
        Ok(rows) if !rows.is_empty() => render(&rows, vs),
        Ok(_) => String::new(),
        Err(err) => {
            log::warn!("the table of the largest coins can't be shown: {err}");
            String::new()
        }
    }
}

fn render(rows: &[TopCoin], vs: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let in_vs = |name: &str| format!("{name} ({vs})");
    table.set_header([
        "#",
        "coin",
        "name",
        &in_vs("price"),
        "24h %",
        &in_vs("market cap"),
        &in_vs("24h volume"),
        "as of (UTC)",
    ]);
    for row in rows {
        let number = |value: Option<f64>, decimals: usize| value.map_or("-".to_owned(), |v| grouped(v, decimals));
        table.add_row([
            row.place.to_string(),
            row.symbol.to_uppercase(),
            row.name.clone(),
            row.price.map_or("-".to_owned(), price),
            number(row.change_24h, 2),
            number(row.market_cap, 0),
            number(row.volume_24h, 0),
            row.observed_at.get(..19).unwrap_or(&row.observed_at).to_owned(),
        ]);
    }
    for column in [0, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Two decimals from 1 up, four significant digits below.
fn price(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1.0 || magnitude == 0.0 {
        return grouped(value, 2);
    }
    let decimals = 3 - magnitude.log10().floor() as i32;
    if decimals > 15 { format!("{value:.3e}") } else { format!("{value:.*}", decimals.max(0) as usize) }
}

/// 1234567.8 → 1,234,567.80; astronomical numbers in exponent form.
fn grouped(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e18 {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if fraction.is_empty() { out } else { format!("{out}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1234567.891, 2), "1,234,567.89");
        assert_eq!(grouped(-999.5, 1), "-999.5");
        assert_eq!(grouped(1.2e59, 0), "1.200e59");
        assert_eq!(price(64039.0), "64,039.00");
        assert_eq!(price(0.000012345), "0.00001234");
        assert_eq!(price(5.8e-21), "5.800e-21");
    }

    #[test]
    fn currencies_and_ids_are_checked() {
        assert_eq!(currency(" USD").unwrap(), "usd");
        assert!(currency("us d").is_err());
        assert_eq!(id(" 1move token ").unwrap(), "1move token");
        assert!(id(" ").is_err());
    }
}
