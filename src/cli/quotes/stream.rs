//! Live quotes: the feed on one side, the broker on the other, a bounded queue between them.

use std::time::Instant;

use serde_json::json;
use tokio::sync::mpsc;

use super::send::{self, Item};
use super::{Args, NAME};
use crate::cli::output::{Outcome, Report, sentence};
use crate::cli::run::Vendor;
use crate::cli::{Context, stop};
use crate::db::runs::Status;
use crate::events;
use crate::exit::{self, Exit};
use crate::kafka::producer::Event;
use crate::kafka::topic;
use crate::sources::Source;
use crate::sources::coinbase::feed::{Fact, Feed, Options};

/// Events that may wait for the broker: some 4 MB. When it is full, nothing is read from the feed.
const QUEUE: usize = 10_000;

/// How the feed ended.
enum End {
    /// It came to its own end: enough quotes, or nobody takes them any more.
    Followed(anyhow::Result<()>),
    Asked,
    TimeIsUp,
}

pub fn run(
    args: &Args,
    pairs: Vec<String>,
    exchange: &'static dyn Source,
    context: &Context,
) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let broker = super::broker(context)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let asked = stop::asked();
        topic::ensure(&broker, topic::Shape::default()).await?;
        let vendor = Vendor::of(context, exchange).await?;
        let (to_broker, items) = mpsc::channel::<(String, Fact)>(QUEUE);
        let session = args.session.clone();
        let sending = send::start(&broker, items, move |(source, fact)| item(&source, &fact, session.as_deref()))?;
        let mut feed = Feed::new(Options {
            url: vendor.access.feed_url.clone(),
            pairs,
            backoff: context.settings.backoff,
            timeout: context.settings.timeout,
            count: args.count,
        });
        let end = tokio::select! {
            biased;
            () = asked => End::Asked,
            () = super::over(args.duration) => End::TimeIsUp,
            followed = feed.follow(&to_broker) => End::Followed(followed),
        };
        for fact in feed.end() {
            // A broker that failed has its own error to tell.
            if to_broker.send(fact).await.is_err() {
                break;
            }
        }
        drop(to_broker);
        let (sent, taken) = sending.finish().await;
        let name = vendor.name();
        vendor.leave().await;

        let followed = match end {
            End::Followed(result) => result,
            // Whoever asked us to stop has what came until then.
            End::Asked => Ok(()),
            End::TimeIsUp if feed.source().is_none() => Err(feed.unanswered().into()),
            End::TimeIsUp => Ok(()),
        };
        let error = match (followed, taken) {
            (_, Err(err)) => {
                let words = send::words(&err);
                Some((exit::of(&err.into()), words))
            }
            (Err(err), Ok(())) => Some((exit::of(&err), sentence(&err))),
            (Ok(()), Ok(())) => None,
        };
        let counts = feed.counts();
        let mut report = Report::new(NAME, feed.source().unwrap_or(&name));
        report.rows_written = sent as i64;
        report.rows_rejected = counts.broken as i64;
        report.rows_read = report.rows_written + report.rows_rejected;
        let exit = match &error {
            None => Exit::Ok,
            Some(_) if sent > 0 => Exit::Partial,
            Some((exit, _)) => *exit,
        };
        report.status = match exit {
            Exit::Ok => Status::Ok.name(),
            Exit::Partial => Status::Partial.name(),
            _ => Status::Failed.name(),
        };
        let unsent = counts.quotes.saturating_sub(sent);
        report.error = error.map(|(_, error)| match unsent {
            0 => error,
            lost => format!("{error}; {lost} quote(s) that came could not be sent and are lost"),
        });
        report.seconds = started.elapsed().as_secs_f64();
        for (name, number) in [
            ("outages", counts.outages),
            ("reconnects", counts.reconnects),
            ("stale", counts.stale),
            ("unsent", unsent),
        ] {
            report.more.insert(name.into(), json!(number));
        }
        report.more.insert("topic".into(), json!(broker.topic));
        report.more.insert("session".into(), json!(args.session));
        let text = match report.error {
            Some(_) => String::new(),
            None => format!(
                "{}: {sent} quotes of {} sent, {} broken message(s), {} outage(s), {} reconnect(s) ({:.1} s)",
                broker.topic, report.source, counts.broken, counts.outages, counts.reconnects, report.seconds
            ),
        };
        Ok(Outcome::new(exit, report, text))
    })
}

fn item(source: &str, fact: &Fact, session: Option<&str>) -> Item {
    let (pair, payload) = match fact {
        Fact::Quote(quote) => (&quote.pair, events::quote(source, quote, session)),
        Fact::Outage(outage) => (&outage.pair, events::outage(source, outage)),
    };
    Item { event: Event { key: events::pair_key(source, pair), payload }, counts: matches!(fact, Fact::Quote(_)) }
}
