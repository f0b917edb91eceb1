//! Page after page, or coins by their ids: what a failed call costs, and when to stop asking.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::assets;
use crate::cli::run::Job;
use crate::db::{self, DbError, runs};
use crate::domain::Parsed;
use crate::sinks::Sink;
use crate::sinks::prices::{PriceBatch, PriceSink};
use crate::sources::error::SourceError;
use crate::sources::http::Body;
use crate::sources::records::ArrayError;
use crate::sources::{Order, Request};

/// Calls under way at once: a slow answer must not slow down a run below its rate limit.
const AHEAD: usize = 4;
/// So many failed pages in a row, and the source is down: asking on would only cost calls.
const HOPELESS: usize = 3;
/// Failed pages named with their reason; the others are counted.
const NAMED: usize = 10;

/// Fetches for the writer at the other end of `out`.
pub struct Fetch {
    pub job: Arc<Job<PriceSink>>,
    pub out: mpsc::Sender<PriceBatch>,
    pub bar: ProgressBar,
    pub failures: Failures,
    /// Failed answers since the last good one.
    failed_in_a_row: usize,
}

/// What was asked for and did not come.
#[derive(Default)]
pub struct Failures {
    /// What failed, and why; the same reason once.
    reasons: Vec<(Vec<String>, String)>,
    /// The first error.
    pub cause: Option<anyhow::Error>,
}

impl Failures {
    fn add(&mut self, what: String, why: String) {
        match self.reasons.iter_mut().find(|(_, known)| *known == why) {
            Some((many, _)) => many.push(what),
            None => self.reasons.push((vec![what], why)),
        }
    }

    /// A sentence for each reason.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        self.reasons.iter().map(|(what, why)| {
            let (named, more) = what.split_at(what.len().min(NAMED));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            format!("{}{more} {why}", named.join(", "))
        })
    }
}

impl Fetch {
    pub fn new(job: Arc<Job<PriceSink>>, out: mpsc::Sender<PriceBatch>, bar: ProgressBar) -> Self {
        Fetch { job, out, bar, failures: Failures::default(), failed_in_a_row: 0 }
    }

    /// Pages through all coins, or the top ones. False when pages are lacking.
    pub async fn pages(&mut self, vs: &Arc<str>, top: Option<u64>) -> anyhow::Result<bool> {
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
        ended |= self.failed_in_a_row >= HOPELESS;
        // Behind the last coin, or broken answers when a later page holds some.
        let mut empty = Vec::new();
        while !ended {
            let Some((page, result)) = tasks.next().await else { break };
            match self.take(result, &format!("page {page}"), vs).await? {
                Taken::Page(0) if active > 0 => empty.push(page),
                Taken::Page(count) => {
                    whole &= empty.is_empty();
                    for page in empty.drain(..) {
                        self.failures.add(format!("page {page} of {vs}"), "came back empty".to_owned());
                    }
                    ended = active == 0 && !full(count);
                }
                Taken::Failed => whole = false,
                Taken::Closed => return Ok(false),
            }
            if self.failed_in_a_row >= HOPELESS {
                let left = last.saturating_sub(page);
                if left > 0 && last != u64::MAX {
                    let what = format!("the {left} pages of {vs} after page {page}");
                    self.failures.add(what, "were not asked for".to_owned());
                }
                break;
            }
        }
        Ok(whole)
    }

    /// Asks for some coins by their ids. False when a call failed.
    pub async fn by_ids(&mut self, vs: &Arc<str>, ids: &[String]) -> anyhow::Result<bool> {
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
            rest = &rest[taken..];
            if self.failed_in_a_row >= HOPELESS && !rest.is_empty() {
                self.failures.add(format!("{} more coins of {vs}", rest.len()), "were not asked for".to_owned());
                return Ok(false);
            }
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
                // What the source refuses once, such as an unknown currency, it refuses each time.
                let refused = matches!(err.downcast_ref(), Some(SourceError::Refused { .. }));
                self.failed_in_a_row += if refused { HOPELESS } else { 1 };
                self.failures.add(format!("{what} of {vs}"), format!("failed: {err}"));
                self.failures.cause.get_or_insert(err);
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
            if parsed.len() == source.page_size() {
                return Err(ArrayError::TooMany(source.page_size()));
            }
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
fn count_listed(sink: &mut PriceSink) -> Result<i64, DbError> {
    let source = sink.session().source().to_owned();
    if !runs::ended_well(sink.session().conn(), assets::NAME, &source)? {
        return Ok(0);
    }
    db::assets::count_active(sink.session().conn(), &source)
}
