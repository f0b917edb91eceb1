//! The course of a fetch: one call after the other, each stored before the next is made, so that a
//! process that dies loses the one that it waits for and no other.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::series::{Order, REFUSED, Series};
use super::{Chosen, Progress, name_of};
use crate::cli::failures::Failures;
use crate::cli::run::{Done, Job};
use crate::db::{DbError, assets, calls};
use crate::domain::coverage::without;
use crate::domain::{Cost, Range, Span, Stamp, State, Timeframe};
use crate::exit::UsageError;
use crate::sinks::Sink;
use crate::sinks::history::{HistoryBatch, HistorySink, Target};
use crate::sources::SANDBOX_PREFIX;
use crate::sources::error::SourceError;
use crate::sources::history::{Ask, Found, Haul, History, Offer, sort_out};
use crate::sources::http::Body;
use crate::sources::records::ArrayError;

/// So many coins in a row of which every call failed, and the source is down: asking on would only cost calls.
const HOPELESS: usize = 3;
/// So many failed calls in a row for one coin, and the next one has its turn.
const ENOUGH: usize = 2;
/// Why something is missing until its turn comes.
const NOT_YET: &str = "not fetched yet";
/// A call that was in reach when it was planned may be out of it when it arrives.
const MARGIN_MS: i64 = 10 * 60_000;
/// What is behind a wall is written so many coins at a time.
const WALLS: usize = 500;
const NAMED: usize = 10;

struct Fetch<'a> {
    job: &'a Job<HistorySink>,
    history: &'static dyn History,
    progress: &'a Progress,
    failures: Failures,
    /// Coins of which nothing came.
    failed_in_a_row: usize,
    /// An answer or an error came, and with it most often the server's clock.
    heard: bool,
    /// What is going to be asked for, and is not recorded as that yet.
    unnoted: Vec<Series>,
    /// Everything before the moment was refused by the plan, in these words.
    refused: HashMap<Timeframe, (Stamp, String)>,
    unknown: Vec<String>,
    walls: Vec<HistoryBatch>,
    /// Candles behind the plan's wall that were not known to be there.
    unreachable: i64,
    why_unreachable: Option<String>,
}

enum Next {
    Go,
    /// The data is stored under another name than was thought: its coins are other rows.
    Renamed,
    Stop,
}

pub async fn fetch(job: Arc<Job<HistorySink>>, order: Order, progress: Progress) -> anyhow::Result<Done> {
    let source = job.source();
    let history = source.history().ok_or_else(|| UsageError(no_history(source.name())))?;
    let access = job.client().access();
    progress.start(calls::interval(access.calls_per_minute));
    let mut fetch = Fetch {
        job: &job,
        history,
        progress: &progress,
        failures: Failures::default(),
        failed_in_a_row: 0,
        heard: false,
        unnoted: Vec::new(),
        refused: HashMap::new(),
        unknown: Vec::new(),
        walls: Vec::new(),
        unreachable: 0,
        why_unreachable: None,
    };
    let mut done = Done::default();
    let ended = fetch.all(&order, &mut done).await;
    progress.finish();
    ended?;
    if !fetch.unknown.is_empty() && order.coins().ids.is_some() {
        let more = fetch.unknown.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        fetch.unknown.truncate(NAMED);
        done.problems.push(format!(
            "the source has no past of: {}{more}; ids are the source's own (see assets.source_id)",
            fetch.unknown.join(", ")
        ));
    }
    done.problems.extend(fetch.failures.sentences());
    done.cause = done.cause.take().or(fetch.failures.cause);
    done.more.insert("unreachable".into(), json!(fetch.unreachable));
    if let Some(why) = fetch.why_unreachable {
        done.text = format!("{} candles are out of reach, and not asked for again: {why}", fetch.unreachable);
    }
    Ok(done)
}

pub fn no_history(source: &str) -> String {
    format!(
        "{source} has no past for its free plans, and that of its paid ones is not read here; use --source coingecko or --source coinbase"
    )
}

impl Fetch<'_> {
    async fn all(&mut self, order: &Order, done: &mut Done) -> anyhow::Result<()> {
        let (job, source, access) = (self.job, self.job.source(), self.job.client().access());
        loop {
            let names = job.names();
            let (name, chosen) = job.sink.with(|sink| {
                let conn = sink.session().conn();
                let name = name_of(conn, &names)?;
                let chosen = order.choose(conn, &name)?;
                Ok::<_, DbError>((name, chosen))
            })?;
            let is_none = |chosen: &Chosen| matches!(chosen, Chosen::These(these) if these.is_empty());
            if is_none(&chosen) {
                let why =
                    format!("no ranks are stored for {name}; run `coinetl prices insert --top N` first, or use --ids");
                return Err(UsageError(why).into());
            }
            let is_all = matches!(chosen, Chosen::All) && order.wants_all();
            let (mut lister, mut coins) = (order.lister(source, access, chosen).map_err(UsageError)?, 0);
            let mut stopped = false;
            let renamed = loop {
                let now = job.client().server_now();
                let part = job.sink.with(|sink| lister.next(sink.session().conn(), &name, now))?;
                let Some(part) = part else { break false };
                coins += lister.seen();
                match self.part(&part, &name).await? {
                    Next::Go => {}
                    Next::Renamed => break true,
                    Next::Stop => {
                        done.problems.push("what comes after that was not asked for".to_owned());
                        stopped = true;
                        break false;
                    }
                }
            };
            self.write_walls().await?;
            if is_all && coins == 0 && !renamed {
                let why = format!("no coins are stored for {name}; run `coinetl assets upsert` first, or use --ids");
                return Err(UsageError(why).into());
            }
            if !renamed {
                if !stopped {
                    self.progress.complete();
                }
                return Ok(job.is_of(name).await?);
            }
        }
    }

    async fn part(&mut self, part: &[Series], name: &str) -> anyhow::Result<Next> {
        let is_noted = |series: &&Series| series.target.asset_id.is_some() && !series.unknown.is_empty();
        self.unnoted = part.iter().filter(is_noted).cloned().collect();
        self.note(name).await?;
        for series in part {
            match self.series(series, name).await? {
                Next::Go => {}
                other => return Ok(other),
            }
            if self.walls.len() >= WALLS {
                self.write_walls().await?;
            }
        }
        Ok(Next::Go)
    }

    /// Whether something may be said of coins stored under this name without an answer of the source's.
    /// Behind an address that somebody set may be a sandbox, whose troubles are none of a real coin.
    fn may_state(&self, name: &str) -> bool {
        let is_vendors = self.job.client().access().is_vendors;
        is_vendors || self.job.names().len() == 1 || name.starts_with(SANDBOX_PREFIX)
    }

    /// Records what is going to be asked for, so that a run that ends early leaves gaps that are known.
    async fn note(&mut self, name: &str) -> Result<(), DbError> {
        if !self.heard || !self.may_state(name) {
            return Ok(());
        }
        let unnoted = std::mem::take(&mut self.unnoted);
        let notes: Vec<HistoryBatch> = unnoted.into_iter().filter_map(|series| self.not_yet(series)).collect();
        if notes.is_empty() { Ok(()) } else { self.job.sink.run(move |sink| sink.write(notes)).await }
    }

    fn not_yet(&self, series: Series) -> Option<HistoryBatch> {
        let (timeframe, now) = (series.timeframe, self.job.client().server_now());
        let offer = self.history.offer(self.job.client().access(), timeframe).ok()?;
        let refused = self.refused.get(&timeframe).map_or(Stamp::FIRST, |(until, _)| *until);
        let reach = offer.first_in_reach(timeframe, now).max(refused);
        let within = Range::new(reach, offer.settled_until(timeframe, now))?;
        let haul = said(series.unknown.iter().filter_map(|range| range.and(within)), State::Missing, NOT_YET);
        (!haul.spans.is_empty()).then(|| self.batch(&series, series.target.clone(), "", haul, false))
    }

    /// Our id of a coin by the source's.
    fn id_of(&self, name: &str, source_id: &str) -> Result<Option<i64>, DbError> {
        let found = self.job.sink.with(|sink| assets::find(sink.session().conn(), name, [source_id]))?;
        Ok(found.get(source_id).map(|asset| asset.id))
    }

    /// A coin of which every call failed.
    fn in_vain(&mut self) -> Next {
        self.failed_in_a_row += 1;
        if self.failed_in_a_row >= HOPELESS { Next::Stop } else { Next::Go }
    }

    /// All windows of a coin, the newest first: where the plan ends, what is older needs no call.
    async fn series(&mut self, series: &Series, name: &str) -> anyhow::Result<Next> {
        let (job, timeframe) = (self.job, series.timeframe);
        let access = job.client().access();
        let Ok(offer) = self.history.offer(access, timeframe) else { return Ok(Next::Go) };
        let (mut asked, mut planned, mut credits): (Vec<Range>, Option<usize>, i64) = (Vec::new(), None, 0);
        let (mut failed, mut any_came) = (0, false);
        let mut target = series.target.clone();
        if target.asset_id.is_none() {
            // In another currency it may have been added just now.
            target.asset_id = self.id_of(name, &target.source_id)?;
            let added = target.asset_id.map(|_| Series { target: target.clone(), ..series.clone() });
            self.unnoted.extend(added);
        }
        loop {
            let now = job.client().server_now();
            let refused = self.refused.get(&timeframe).map(|(until, _)| *until);
            let todo = series.todo(&offer, now, &asked, refused);
            let planned = *planned.get_or_insert(todo.windows.len());
            let Some(window) = todo.windows.last().copied() else {
                self.behind_the_wall(series, name, &target, &offer, todo.unreachable);
                let rest = planned.saturating_sub(asked.len()) as i64;
                self.progress.not_needed(Cost { calls: 1, credits } * rest);
                return Ok(if failed > 0 && !any_came { self.in_vain() } else { Next::Go });
            };
            let ask = series.ask(&offer, now, window);
            let request = self.history.request(access, &ask);
            credits = request.credits;
            let cost = Cost { calls: 1, credits };
            self.note(name).await?;
            match job.fetch(&request, |body| read(self.history, body, &ask)).await {
                Ok(found) => {
                    (self.heard, self.failed_in_a_row, failed, any_came) = (true, 0, 0, true);
                    let settled = offer.settled_until(timeframe, job.client().answered_at());
                    let haul = sort_out(found, &ask, self.history.why_empty(timeframe), settled);
                    let renamed = !job.names().iter().any(|known| known == name);
                    if renamed {
                        target.asset_id = None;
                        self.unnoted.clear();
                    }
                    self.note(name).await?;
                    self.write(series, target.clone(), request.endpoint, haul, true).await?;
                    self.progress.done(cost);
                    asked.push(window);
                    if renamed {
                        return Ok(Next::Renamed);
                    }
                    if target.asset_id.is_none() {
                        target.asset_id = self.id_of(name, &target.source_id)?;
                        let unknown = series.unknown.iter().flat_map(|range| without(*range, [window])).collect();
                        let rest =
                            target.asset_id.map(|_| Series { target: target.clone(), unknown, ..series.clone() });
                        self.unnoted.extend(rest);
                    }
                }
                Err(err) => match self.heard_of(&err, &ask, &offer, name).await? {
                    Told::Unknown(why) => {
                        self.unknown.push(format!("{} in {}", ask.coin, ask.vs_currency));
                        let settled = offer.settled_until(timeframe, job.client().answered_at());
                        let over = |range: &Range| range.and(Range::new(Stamp::FIRST, settled)?);
                        let ranges = series.ranges.iter().filter_map(over);
                        let haul = said(ranges, State::Empty, &format!("the source does not know it: {why}"));
                        if target.asset_id.is_some() && self.may_state(name) {
                            self.write(series, target, request.endpoint, haul, true).await?;
                        }
                        let rest = planned.saturating_sub(asked.len()) as i64;
                        self.progress.not_needed(cost * rest);
                        return Ok(Next::Go);
                    }
                    Told::BehindTheWall => {}
                    Told::Fatal => return Err(err),
                    Told::Failed => {
                        let why = format!("could not be fetched: {err:#}");
                        let shown = |at: Stamp| at.to_string()[..16].to_owned();
                        let window_shown = format!("{} to {}", shown(window.from), shown(window.to));
                        let what = format!("{} in {} from {window_shown}", ask.coin, ask.vs_currency);
                        if target.asset_id.is_some() && self.may_state(name) {
                            // What is known beside them, and what is not over, stays as it is.
                            let settled = offer.settled_until(timeframe, job.client().server_now());
                            let over = |range: &Range| range.and(window)?.and(Range::new(Stamp::FIRST, settled)?);
                            let haul = said(series.ranges.iter().filter_map(over), State::Missing, &why);
                            self.write(series, target.clone(), request.endpoint, haul, false).await?;
                        }
                        self.failures.add(what, why);
                        self.failures.cause.get_or_insert(err);
                        self.progress.failed(cost);
                        asked.push(window);
                        failed += 1;
                        if failed >= ENOUGH {
                            self.behind_the_wall(series, name, &target, &offer, todo.unreachable);
                            self.progress.failed(cost * planned.saturating_sub(asked.len()) as i64);
                            return Ok(if any_came { Next::Go } else { self.in_vain() });
                        }
                    }
                },
            }
        }
    }

    /// What an error says, after which it is known what was not reached.
    async fn heard_of(
        &mut self,
        err: &anyhow::Error,
        ask: &Ask<'_>,
        offer: &Offer,
        name: &str,
    ) -> Result<Told, DbError> {
        let told = self.told(err, ask, offer);
        self.heard = true;
        match (self.note(name).await, &told) {
            (Err(also), Told::Fatal) => log::warn!("what was not reached could not be recorded: {also}"),
            (noted, _) => noted?,
        }
        Ok(told)
    }

    fn told(&mut self, err: &anyhow::Error, ask: &Ask<'_>, offer: &Offer) -> Told {
        let Some(err) = err.downcast_ref::<SourceError>() else { return Told::Fatal };
        match err {
            SourceError::NotFound { message, .. } if self.history.is_of_no_coin(message) => {
                Told::Unknown(message.clone())
            }
            SourceError::Plan { code, message, .. } if self.history.is_beyond_the_wall(*code) => {
                let soon = self.job.client().server_now().plus(MARGIN_MS);
                let reach = offer.first_in_reach(ask.timeframe, soon);
                // Time has passed since it was planned, or the plan reaches less far than was known.
                let just_out = offer.wall.is_some() && ask.window.from < reach && reach < ask.window.to;
                let until = if just_out { reach } else { ask.window.to };
                let message = message.clone();
                let known = self.refused.entry(ask.timeframe).or_insert((until, message));
                known.0 = known.0.max(until);
                Told::BehindTheWall
            }
            err if err.ends_the_run() => Told::Fatal,
            _ => Told::Failed,
        }
    }

    /// Notes what the plan does not reach; nobody asks for it again.
    fn behind_the_wall(&mut self, series: &Series, name: &str, target: &Target, offer: &Offer, ranges: Vec<Range>) {
        if ranges.is_empty() || target.asset_id.is_none() {
            return;
        }
        let timeframe = series.timeframe;
        // What a plan of this kind never reaches, and what this one was seen not to.
        let reach = offer.first_in_reach(timeframe, self.job.client().server_now());
        let refused = self.refused.get(&timeframe).map(|(_, message)| format!("{REFUSED}{message}"));
        let mut haul = Haul::default();
        for range in ranges {
            let parts = [
                (Range::new(range.from, range.to.min(reach)), offer.wall.map(|wall| wall.why.to_owned())),
                (Range::new(range.from.max(reach), range.to), refused.clone()),
            ];
            for (part, why) in parts {
                let Some((part, why)) = part.zip(why) else { continue };
                if self.why_unreachable.is_none() {
                    log::warn!("{why}; what is older is not asked for");
                    self.why_unreachable = Some(why.clone());
                }
                self.unreachable += part.candles(timeframe);
                haul.spans.push(Span { range: part, state: State::Unreachable, reason: Some(why) });
            }
        }
        if self.may_state(name) {
            self.walls.push(self.batch(series, target.clone(), "", haul, false));
        }
    }

    fn batch(
        &self,
        series: &Series,
        target: Target,
        endpoint: &'static str,
        haul: Haul,
        is_answer: bool,
    ) -> HistoryBatch {
        let (vs_currency, timeframe) = (series.vs_currency.clone(), series.timeframe);
        HistoryBatch { target, vs_currency, timeframe, endpoint, haul, is_answer }
    }

    async fn write(
        &self,
        series: &Series,
        target: Target,
        endpoint: &'static str,
        haul: Haul,
        is_answer: bool,
    ) -> Result<(), DbError> {
        let batch = self.batch(series, target, endpoint, haul, is_answer);
        self.job.sink.run(move |sink| sink.write(vec![batch])).await
    }

    async fn write_walls(&mut self) -> Result<(), DbError> {
        let walls = std::mem::take(&mut self.walls);
        if walls.is_empty() { Ok(()) } else { self.job.sink.run(move |sink| sink.write(walls)).await }
    }
}

/// What an error says of the coin, the plan, or the run.
enum Told {
    Unknown(String),
    BehindTheWall,
    Fatal,
    Failed,
}

/// Statements without data.
fn said(ranges: impl IntoIterator<Item = Range>, state: State, why: &str) -> Haul {
    let span = |range| Span { range, state, reason: Some(why.to_owned()) };
    Haul { spans: ranges.into_iter().map(span).collect(), ..Haul::default() }
}

/// The records of an answer, all of them.
fn read(history: &dyn History, mut body: Body, ask: &Ask<'_>) -> Result<Found, ArrayError> {
    let (mut found, mut record) = (Found::default(), Vec::new());
    let mut records = body.records()?;
    while records.next_into(&mut record)? {
        history.read(&record, ask, &mut found);
    }
    Ok(found)
}
