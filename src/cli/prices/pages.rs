//! Page after page, or coins by their ids: what a failed call costs, and when to stop asking.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::failures::Failures;
use crate::cli::run::Job;
use crate::db::DbError;
use crate::domain::Parsed;
use crate::sinks::Sink;
use crate::sinks::prices::{PriceBatch, PriceSink};
use crate::sources::ask::Paging;
use crate::sources::error::SourceError;
use crate::sources::http::Body;
use crate::sources::records::ArrayError;
use crate::sources::{Pair, PairByPair, Priced, Request, answers_at_once};

/// Calls under way at once: a slow answer must not slow down a run below its rate limit.
const AHEAD: usize = 4;
/// So many failed pages in a row, and the source is down: asking on would only cost calls.
const HOPELESS: usize = 3;

/// Fetches for the writer at the other end of `out`.
pub struct Fetch {
    pub job: Arc<Job<PriceSink>>,
    pub out: mpsc::Sender<PriceBatch>,
    pub bar: ProgressBar,
    pub failures: Failures,
    /// Failed answers since the last good one.
    failed_in_a_row: usize,
}

impl Fetch {
    pub fn new(job: Arc<Job<PriceSink>>, out: mpsc::Sender<PriceBatch>, bar: ProgressBar) -> Self {
        Fetch { job, out, bar, failures: Failures::default(), failed_in_a_row: 0 }
    }

    /// Pages through all coins, or the top ones. False when pages are lacking. With the first page,
    /// exchange rates of `rates` are asked for, and taken out of it.
    pub async fn pages(
        &mut self,
        vs: &[Arc<str>],
        top: Option<u64>,
        rates: &mut Option<Vec<Arc<str>>>,
    ) -> anyhow::Result<bool> {
        let (job, source) = (self.job.clone(), self.job.source());
        // The first page also tells under which name the coins are stored; only then can they
        // be counted.
        let mut first = Paging::new(source, top, 0).request(source, vs, 1);
        // What it may cost is known by the coins that are stored, whatever their name turns out to be.
        let known = job.known_coins(super::count_listed).await?;
        first.credits = first.credits.min(Paging::new(source, top, known).request(source, vs, 1).credits);
        let first = fetch_page(job.clone(), first, vs.to_vec()).await.and_then(not_empty);
        // Before the page is stored: its own coins tell nothing about how many pages there are.
        let active = job.sink.run(count_listed).await? as u64;
        if answers_at_once(source) && active > 0 {
            job.sink.run(|sink| sink.take_listed_only()).await;
        }
        if let Err(err) = &first
            && let Some(instead) = self.instead_of(err)
        {
            return self.pair_by_pair(instead, vs, None).await;
        }
        let paging = Paging::new(source, top, active);
        let full = |count: usize| count as u64 >= paging.size();
        let mut ended = match self.take(first, "page 1", vs).await? {
            Taken::Page(count) => active == 0 && !full(count),
            Taken::Failed => false,
            Taken::Closed => return Ok(false),
        };
        let mut beside = JoinSet::new();
        if self.failed_in_a_row == 0
            && let Some(currencies) = rates.take()
        {
            beside.spawn(super::rates::insert(job.clone(), currencies));
        }
        // Nobody knows how many pages there are before the first `assets upsert`.
        let last = paging.last().unwrap_or(u64::MAX);
        self.bar.inc_length(last.min(100_000));
        let mut tasks = stream::iter(2..=last)
            .map(|page| {
                let fetch = fetch_page(job.clone(), paging.request(source, vs, page), vs.to_vec());
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
                        self.failures.add(format!("page {page} of {}", listed(vs)), "came back empty".to_owned());
                    }
                    ended = active == 0 && !full(count);
                }
                Taken::Failed => whole = false,
                Taken::Closed => return Ok(false),
            }
            if self.failed_in_a_row >= HOPELESS {
                let left = last.saturating_sub(page);
                if left > 0 && last != u64::MAX {
                    let what = format!("the {left} pages of {} after page {page}", listed(vs));
                    self.failures.add(what, "were not asked for".to_owned());
                }
                break;
            }
        }
        drop(tasks);
        while let Some(asked) = beside.join_next().await {
            if let Err(err) = asked?? {
                super::rates::tell(err, &mut self.failures);
            }
        }
        Ok(whole)
    }

    /// Asks for some coins by their ids. False when a call failed.
    pub async fn by_ids(&mut self, vs: &[Arc<str>], ids: &[String]) -> anyhow::Result<bool> {
        let source = self.job.source();
        let (mut rest, mut most, mut whole) = (ids, usize::MAX, true);
        while !rest.is_empty() {
            let (request, taken) = source.prices_of(vs, &rest[..rest.len().min(most)]);
            let mut result = fetch_page(self.job.clone(), request, vs.to_vec()).await;
            if let Err(err) = &result
                && let Some(SourceError::Refused { status: 414, .. }) = err.downcast_ref()
                && taken > 1
            {
                // Some server on the way takes shorter addresses only.
                most = taken / 2;
                continue;
            }
            if let Err(err) = &result
                && let Some(instead) = self.instead_of(err)
            {
                return self.pair_by_pair(instead, vs, Some(ids)).await;
            }
            if let Ok(page) = &mut result
                && answers_at_once(source)
            {
                page.keep_only(ids);
            }
            match self.take(result, &format!("{taken} coins by id"), vs).await? {
                Taken::Page(_) => {}
                Taken::Failed => whole = false,
                Taken::Closed => return Ok(false),
            }
            rest = &rest[taken..];
            if self.failed_in_a_row >= HOPELESS && !rest.is_empty() {
                let what = format!("{} more coins of {}", rest.len(), listed(vs));
                self.failures.add(what, "were not asked for".to_owned());
                return Ok(false);
            }
        }
        Ok(whole)
    }

    /// Another way to the same prices, when the one call for all of them seems to be gone for good.
    fn instead_of(&self, err: &anyhow::Error) -> Option<&'static dyn PairByPair> {
        let instead = self.job.source().pair_by_pair()?;
        let gone = matches!(
            err.downcast_ref(),
            Some(
                SourceError::NotFound { .. }
                    | SourceError::Refused { .. }
                    | SourceError::Blocked { .. }
                    | SourceError::TooLarge { .. }
            )
        );
        if gone {
            log::warn!("{err}; asking for each pair by itself instead");
        }
        gone.then_some(instead)
    }

    /// Asks for each pair of the coin list by itself. False when a call failed.
    async fn pair_by_pair(
        &mut self,
        instead: &'static dyn PairByPair,
        vs: &[Arc<str>],
        ids: Option<&[String]>,
    ) -> anyhow::Result<bool> {
        let pairs = self.pairs(instead, vs, ids).await?;
        self.bar.inc_length(pairs.len() as u64);
        let job = self.job.clone();
        let count = pairs.len();
        let mut tasks = stream::iter(pairs)
            .map(|pair| {
                let fetch = fetch_page(job.clone(), instead.price_of(&pair), vs.to_vec());
                async move { (pair, spawn(fetch).await) }
            })
            .buffered(AHEAD);
        let (mut whole, mut asked) = (true, 0);
        while let Some((pair, result)) = tasks.next().await {
            asked += 1;
            let unknown = |err: &anyhow::Error| {
                matches!(err.downcast_ref(), Some(SourceError::NotFound { .. } | SourceError::Refused { .. }))
            };
            let what = format!("{}-{}", pair.base, pair.vs_currency);
            match result {
                // Taken from the list since it was read: as good as absent from it.
                Err(err) if unknown(&err) && self.failed_in_a_row + 1 < HOPELESS => self.failed_in_a_row += 1,
                result => match self.take(result, &what, vs).await? {
                    Taken::Page(_) => {}
                    Taken::Failed => whole = false,
                    Taken::Closed => return Ok(false),
                },
            }
            if self.failed_in_a_row >= HOPELESS && asked < count {
                self.failures.add(format!("{} more pairs", count - asked), "were not asked for".to_owned());
                return Ok(false);
            }
        }
        Ok(whole)
    }

    /// The traded pairs in these currencies, of all coins or of some.
    async fn pairs(
        &self,
        instead: &'static dyn PairByPair,
        vs: &[Arc<str>],
        ids: Option<&[String]>,
    ) -> anyhow::Result<Vec<Pair>> {
        let read = |mut body: Body| {
            let (mut records, mut record, mut pairs) = (body.records()?, Vec::new(), Vec::new());
            while records.next_into(&mut record)? {
                pairs.extend(instead.pair(&record));
            }
            Ok(pairs)
        };
        let mut pairs: Vec<Pair> = self.job.fetch(&self.job.source().asset_list(), read).await?;
        pairs.retain(|pair| {
            vs.iter().any(|vs| **vs == *pair.vs_currency) && ids.is_none_or(|ids| ids.contains(&pair.base))
        });
        Ok(pairs)
    }

    /// Hands a page on to be written; a failed one costs itself only.
    async fn take(&mut self, page: anyhow::Result<PricePage>, what: &str, vs: &[Arc<str>]) -> anyhow::Result<Taken> {
        self.bar.inc(1);
        match page {
            Ok(PricePage { endpoint, priced }) => {
                self.failed_in_a_row = 0;
                for (vs_currency, parsed) in vs.iter().zip(priced.by_currency) {
                    let batch = PriceBatch { vs_currency: vs_currency.clone(), endpoint, parsed };
                    if self.out.send(batch).await.is_err() {
                        // A writer that is gone has its own error to tell.
                        return Ok(Taken::Closed);
                    }
                }
                Ok(Taken::Page(priced.records))
            }
            Err(err) if err.downcast_ref::<SourceError>().is_some_and(|err| !err.ends_the_run()) => {
                // What the source refuses once, such as an unknown currency, it refuses each time.
                let refused = matches!(err.downcast_ref(), Some(SourceError::Refused { .. }));
                self.failed_in_a_row += if refused { HOPELESS } else { 1 };
                self.failures.add(format!("{what} of {}", listed(vs)), format!("failed: {err}"));
                self.failures.cause.get_or_insert(err);
                Ok(Taken::Failed)
            }
            Err(err) => Err(err),
        }
    }
}

fn listed(vs: &[Arc<str>]) -> String {
    vs.join(", ")
}

/// A price answer on its way to be written.
struct PricePage {
    endpoint: &'static str,
    priced: Priced,
}

impl PricePage {
    /// Leaves out coins that nobody asked for.
    fn keep_only(&mut self, ids: &[String]) {
        let ids: HashSet<&str> = ids.iter().map(String::as_str).collect();
        for parsed in &mut self.priced.by_currency {
            parsed.good.retain(|point| ids.contains(point.coin.source_id.as_str()));
            parsed.rejected.retain(|reject| reject.source_id.as_deref().is_some_and(|id| ids.contains(id)));
        }
    }
}

enum Taken {
    /// With so many records.
    Page(usize),
    Failed,
    Closed,
}

async fn fetch_page(job: Arc<Job<PriceSink>>, request: Request, vs: Vec<Arc<str>>) -> anyhow::Result<PricePage> {
    let endpoint = request.endpoint;
    let source = job.source();
    let read = |mut body: Body| {
        let (mut records, mut record) = (body.records()?, Vec::new());
        let mut priced = Priced { records: 0, by_currency: vec![Parsed::default(); vs.len()] };
        while records.next_into(&mut record)? {
            if priced.records == source.page_size() {
                return Err(ArrayError::TooMany(source.page_size()));
            }
            priced.records += 1;
            source.parse_price(&record, &vs, &mut |at, point| priced.by_currency[at].push(point));
        }
        Ok(priced)
    };
    let priced = job.fetch(&request, read).await?;
    Ok(PricePage { endpoint, priced })
}

/// No market is without a coin: an empty first page is a broken answer, not the end.
fn not_empty(page: PricePage) -> anyhow::Result<PricePage> {
    if page.priced.records == 0 {
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

/// The coins that the source lists, or 0 while nobody knows.
fn count_listed(sink: &mut PriceSink) -> Result<i64, DbError> {
    let source = sink.session().source().to_owned();
    Ok(super::count_listed(sink.session().conn(), &[source])? as i64)
}
