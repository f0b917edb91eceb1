//! Prices of a vendor without quotes: asked for again and again by its ordinary call, counted and paced
//! like every other where there is a database, and sent as they come.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Args, NAME, send};
use crate::cli::output::{Outcome, Report, sentence};
use crate::cli::probe::Uncounted;
use crate::cli::run::{self, Done, Job, Vendor};
use crate::cli::{Context, stop};
use crate::config::Settings;
use crate::db::runs::{Status, Tally};
use crate::db::{Connection, DbError, Session, dead_letters, migrate};
use crate::domain::{Parsed, PricePoint, Reject, Stamp};
use crate::events::{self, About};
use crate::exit::{self, Exit};
use crate::kafka::BrokerError;
use crate::kafka::config::BrokerSettings;
use crate::kafka::producer::{Event, EventProducer};
use crate::kafka::topic;
use crate::sinks::Sink;
use crate::sources::ask;
use crate::sources::error::SourceError;
use crate::sources::http::{Body, Client, MAX_RETRIES, Patience};
use crate::sources::records::ArrayError;
use crate::sources::{Points, Request, SANDBOX_PREFIX, Source};

/// The one currency that is asked for.
const VS_CURRENCY: &str = "usd";

pub fn run(args: &Args, ids: Vec<String>, context: &Context) -> anyhow::Result<Outcome> {
    let (source, started) = (context.settings.source, Instant::now());
    for id in &ids {
        if let Some(why) = source.why_no_id(id) {
            return Err(exit::UsageError(format!("--ids {id:?} can't be asked for: {why}")).into());
        }
    }
    let broker = super::broker(context)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let entered = runtime.enter();
    let (asked, vs_currencies) = (stop::asked(), [Arc::from(VS_CURRENCY)]);
    drop(entered);
    runtime.block_on(topic::ensure(&broker, topic::Shape::default()))?;
    let producer = Arc::new(EventProducer::new(&broker)?);
    let polling = Polling { source, args: args.clone(), ids, vs_currencies, broker, producer, seen: HashSet::new() };

    match migrate::open_current(&context.settings.database_url) {
        Ok(_) => {}
        // The broker is what is asked for, and the database only counts.
        Err(err @ (DbError::Missing { .. } | DbError::SchemaOlder { .. })) => {
            log::info!("calls are not counted: {err}");
            return runtime.block_on(uncounted(polling, context, asked, started));
        }
        Err(err) => return Err(err.into()),
    }
    let estimate = {
        let (ids, vs) = (polling.ids.clone(), polling.vs_currencies.clone());
        let polls = args.polls();
        Box::new(move |_: &mut Connection, _: &[String]| Ok(ask::cost_of_ids(source, &vs, &ids) * polls))
    };
    let make = |session: Session| Ok(CountSink { session });
    run::execute_unasked(context, NAME, estimate, make, async move |mut job, _| polling.run(&mut job, asked).await)
}

impl Args {
    /// At least, before anybody knows how long it goes on.
    fn polls(&self) -> i64 {
        let polls = self.duration.map_or(1, |duration| 1 + duration.as_millis() / self.interval.as_millis().max(1));
        i64::try_from(polls).unwrap_or(i64::MAX)
    }
}

/// Where there is no database: the same, and only this process knows of it.
async fn uncounted(
    polling: Polling,
    context: &Context,
    asked: impl Future<Output = ()>,
    started: Instant,
) -> anyhow::Result<Outcome> {
    let vendor = Vendor::reach(context).await?;
    let Settings { timeout, backoff, .. } = context.settings;
    let patience = Patience { timeout, backoff, retries: MAX_RETRIES };
    let client = Client::new(vendor.source, vendor.access.clone(), Arc::new(Uncounted), patience)?;
    let mut alone = Alone { client, name: vendor.name(), tally: Tally::default(), calls: 0 };
    let result = polling.run(&mut alone, asked).await;
    let (mut report, tally) = (Report::new(NAME, &alone.name), alone.tally);
    let (status, exit, error, done) = match result {
        Ok(mut done) => {
            if tally.rejected > 0 {
                done.problems.push(format!("{} record(s) could not be used", tally.rejected));
            }
            run::judge(&Tally { rejected: 0, ..tally }, done)
        }
        Err(err) if tally.written > 0 => (Status::Partial, Exit::Partial, Some(sentence(&err)), Done::default()),
        Err(err) => (Status::Failed, exit::of(&err), Some(sentence(&err)), Done::default()),
    };
    vendor.leave().await;
    report.set_tally(&tally);
    report.calls = alone.calls + alone.client.retries();
    (report.status, report.error, report.more) = (status.name(), error, done.more);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(Outcome::new(exit, report, done.text))
}

/// Who asks, and keeps the counts.
trait Asker {
    /// An answer's prices, and the name of the source that gave them.
    async fn ask(&mut self, request: &Request, vs: &[Arc<str>]) -> anyhow::Result<(String, Parsed<PricePoint>)>;

    async fn count(&mut self, step: Tally, endpoint: &'static str, rejected: Vec<Reject>) -> anyhow::Result<()>;
}

/// A run in the database.
impl Asker for Arc<Job<CountSink>> {
    async fn ask(&mut self, request: &Request, vs: &[Arc<str>]) -> anyhow::Result<(String, Parsed<PricePoint>)> {
        let source = self.source();
        let parsed = self.fetch(request, |body| read(body, |record, out| source.parse_price(record, vs, out))).await?;
        Ok((self.sink.run(|sink| sink.session.source().to_owned()).await, parsed))
    }

    async fn count(&mut self, step: Tally, endpoint: &'static str, rejected: Vec<Reject>) -> anyhow::Result<()> {
        let counted = self.sink.run(move |sink| {
            let source = sink.session.source().to_owned();
            sink.session.batch(|batch| {
                add(batch.tally, step);
                dead_letters::record(batch, &source, endpoint, &rejected)
            })
        });
        Ok(counted.await?)
    }
}

struct Alone {
    client: Client,
    name: String,
    tally: Tally,
    calls: i64,
}

impl Asker for Alone {
    async fn ask(&mut self, request: &Request, vs: &[Arc<str>]) -> anyhow::Result<(String, Parsed<PricePoint>)> {
        let source = self.client.source();
        self.calls += 1;
        let read = |body| read(body, |record, out| source.parse_price(record, vs, out));
        let answer = self.client.fetch(request, read).await?;
        if answer.sandbox {
            self.name = format!("{SANDBOX_PREFIX}{}", source.name());
        }
        Ok((self.name.clone(), answer.content))
    }

    async fn count(&mut self, step: Tally, endpoint: &'static str, rejected: Vec<Reject>) -> anyhow::Result<()> {
        add(&mut self.tally, step);
        for Reject { source_id, reason, .. } in rejected {
            log::warn!("{endpoint}: {} can't be used: {reason}", source_id.unwrap_or_default());
        }
        Ok(())
    }
}

fn add(tally: &mut Tally, step: Tally) {
    tally.read += step.written + step.rejected;
    tally.written += step.written;
    tally.rejected += step.rejected;
    tally.absent += step.absent;
}

fn read(mut body: Body, parse: impl Fn(&[u8], Points<'_>)) -> Result<Parsed<PricePoint>, ArrayError> {
    let (mut records, mut record, mut parsed) = (body.records()?, Vec::new(), Parsed::default());
    while records.next_into(&mut record)? {
        parse(&record, &mut |_, point| parsed.push(point));
    }
    Ok(parsed)
}

/// Nothing is stored but the run's counts and what could not be used.
struct CountSink {
    session: Session,
}

impl Sink for CountSink {
    type Batch = ();

    fn write(&mut self, _: Vec<()>) -> Result<(), DbError> {
        Ok(())
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

struct Polling {
    source: &'static dyn Source,
    args: Args,
    ids: Vec<String>,
    vs_currencies: [Arc<str>; 1],
    broker: BrokerSettings,
    producer: Arc<EventProducer>,
    /// Ids that a price came of.
    seen: HashSet<String>,
}

impl Polling {
    async fn run(mut self, asker: &mut impl Asker, asked: impl Future<Output = ()>) -> anyhow::Result<Done> {
        let (mut asked, mut over) = (pin!(asked), pin!(super::over(self.args.duration)));
        let (mut done, mut next) = (Done::default(), Instant::now());
        let (mut sent, mut polls, mut failed) = (0, 0_u64, 0_u64);
        'polling: loop {
            // Answers on their way when it has to end are not waited for; what came of them is sent whole.
            let (mut from, mut whole) = (0, true);
            while from < self.ids.len() {
                let (request, taken) = self.source.prices_of(&self.vs_currencies, &self.ids[from..]);
                from += taken.max(1);
                let answer = tokio::select! {
                    biased;
                    () = &mut asked => break 'polling,
                    () = &mut over => break 'polling,
                    answer = asker.ask(&request, &self.vs_currencies) => answer,
                };
                match answer {
                    Ok((name, parsed)) => {
                        let left = self.args.count.map(|count| count - sent);
                        let (events, rejected) = self.events(&name, parsed, left)?;
                        let step =
                            Tally { written: events.len() as i64, rejected: rejected.len() as i64, ..Tally::default() };
                        if let Err(err) = self.send(events).await {
                            done.problems.push(send::words(&err));
                            done.cause = Some(err.into());
                            break 'polling;
                        }
                        sent += step.written.unsigned_abs();
                        asker.count(step, request.endpoint, rejected).await?;
                        if self.args.count.is_some_and(|count| sent >= count) {
                            polls += 1;
                            break 'polling;
                        }
                    }
                    Err(err) if polls == 0 || ends_the_run(&err) => return Err(err),
                    Err(err) => {
                        log::warn!("{}; the next try is due in {}", sentence(&err), self.pause());
                        done.cause.get_or_insert(err);
                        whole = false;
                        break;
                    }
                }
            }
            polls += 1;
            failed += u64::from(!whole);
            next = (next + self.args.interval).max(Instant::now());
            tokio::select! {
                biased;
                () = &mut asked => break,
                () = &mut over => break,
                () = sleep_until(next) => {}
            }
        }
        if failed > 0 {
            done.problems.push(format!("{failed} of {polls} polls failed"));
        }
        let absent: Vec<&str> = self.ids.iter().filter(|id| !self.seen.contains(*id)).map(String::as_str).collect();
        // What was never asked for to the end is not absent.
        if polls > failed && !absent.is_empty() && self.args.count.is_none_or(|count| sent < count) {
            let (vs, ids) = (VS_CURRENCY, absent.join(", "));
            done.problems.push(format!(
                "the source has no price in {vs} for: {ids}; ids are the source's own (see assets.source_id)"
            ));
            asker.count(Tally { absent: absent.len() as i64, ..Tally::default() }, "", Vec::new()).await?;
        }
        done.text = format!("{}: {sent} prices sent, {polls} poll(s), {failed} failed", self.broker.topic);
        for (name, value) in
            [("topic", json!(self.broker.topic)), ("polls", json!(polls)), ("failed_polls", json!(failed))]
        {
            done.more.insert(name.to_owned(), value);
        }
        Ok(done)
    }

    fn pause(&self) -> String {
        humantime::format_duration(self.args.interval).to_string()
    }

    /// At most `left` of them, where there is a limit.
    fn events(
        &mut self,
        source: &str,
        parsed: Parsed<PricePoint>,
        left: Option<u64>,
    ) -> anyhow::Result<(Vec<Event>, Vec<Reject>)> {
        // For prices without a time of their own: one stamp for the whole answer.
        let now = Stamp::from_datetime(chrono::Utc::now())?;
        let mut events = Vec::with_capacity(parsed.good.len());
        for point in parsed.good {
            if left.is_some_and(|left| events.len() as u64 >= left) {
                break;
            }
            let coin = point.coin;
            let about = About {
                source: source.to_owned(),
                asset: coin.source_id,
                symbol: coin.symbol.unwrap_or_default(),
                name: coin.name.unwrap_or_default(),
            };
            let payload = events::price(&about, &point.vs_currency, point.observed_at.unwrap_or(now), &point.figures);
            events.push(Event { key: about.key(), payload });
            self.seen.insert(about.asset);
        }
        Ok((events, parsed.rejected))
    }

    async fn send(&self, events: Vec<Event>) -> Result<(), BrokerError> {
        let producer = self.producer.clone();
        match tokio::task::spawn_blocking(move || producer.send(&events)).await {
            Ok(result) => result,
            Err(err) => std::panic::resume_unwind(err.into_panic()),
        }
    }
}

/// Whether no later poll would go better.
fn ends_the_run(err: &anyhow::Error) -> bool {
    err.downcast_ref::<SourceError>().is_none_or(SourceError::ends_the_run)
}
