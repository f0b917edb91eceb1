//! `assets upsert`: the source's coin list into the table `assets`.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;

use super::Context;
use super::output::Outcome;
use super::run::{Done, Job, execute};
use crate::db::{Connection, DbError, Session, assets};
use crate::domain::Parsed;
use crate::pipeline;
use crate::sinks::Sink;
use crate::sinks::assets::{AssetBatch, AssetSink};
use crate::sources::error::SourceError;
use crate::sources::http::Body;
use crate::sources::{Request, Source, ask, records};

pub const NAME: &str = "assets upsert";

/// Coins parsed and written at a time.
const BATCH: usize = 5_000;
/// A list that lacks a larger share of the active coins is taken for a broken answer.
const LARGEST_LOSS: f64 = 0.1;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Deactivate vanished coins even if the list lacks more than a tenth of the active ones
    #[arg(long)]
    allow_shrink: bool,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let allow_shrink = args.allow_shrink;
    let cost = ask::cost_of_assets(context.settings.source);
    let estimate = Box::new(move |_: &mut Connection, _: &[String]| Ok(cost));
    let mut outcome = execute(context, NAME, estimate, make, move |job| upsert(job, allow_shrink))?;
    let report = &outcome.report;
    outcome.text = match report.status {
        "failed" => String::new(),
        _ => format!(
            "{}: {} coins listed: {} new, {} changed, {} unchanged, {} vanished, {} rejected ({} call(s), {:.1} s)",
            report.source,
            report.rows_read,
            report.rows_written - report.rows_updated,
            report.rows_updated,
            report.rows_unchanged,
            report.more.get("deactivated").and_then(serde_json::Value::as_u64).unwrap_or(0),
            report.rows_rejected,
            report.calls,
            report.seconds,
        ),
    };
    Ok(outcome)
}

fn make(session: Session) -> Result<AssetSink, DbError> {
    Ok(AssetSink::new(session))
}

async fn upsert(job: Arc<Job<AssetSink>>, allow_shrink: bool) -> anyhow::Result<Done> {
    let request = job.source().asset_list();
    let endpoint = request.endpoint;
    // The whole list is counted before a coin of it is believed; it is parsed on the way to the database.
    let counted = |mut body: Body| {
        let count = records::count(body.records()?)?;
        Ok((body, count))
    };
    let (body, count) = job.fetch(&request, counted).await?;
    let active = job
        .sink
        .run(|sink| {
            let source = sink.session().source().to_owned();
            assets::count_active(sink.session().conn(), &source)
        })
        .await?;
    if count == 0 && active == 0 {
        let why = "the coin list is empty".to_owned();
        return Err(SourceError::Malformed { endpoint: endpoint.to_owned(), why }.into());
    }
    let (out, batches) = mpsc::channel(2);
    let parser = tokio::task::spawn_blocking({
        let source = job.source();
        move || parse(body, source, &request, &out)
    });
    pipeline::copy(batches, &job.sink).await?;
    parser.await.map_err(anyhow::Error::from)??;
    let lacking = job.sink.run(AssetSink::count_unlisted).await?;
    let mut done = Done::default();
    done.more.insert("deactivated".into(), json!(0));
    let shrunk = lacking as f64 > active as f64 * LARGEST_LOSS && !allow_shrink;
    if shrunk || count == 0 {
        let remedy = match count {
            0 => "run again later".to_owned(),
            _ => "if the source really shrank, run `coinetl assets upsert --allow-shrink`".to_owned(),
        };
        done.problems.push(format!(
            "the list of {count} coins lacks {lacking} of {active} active ones: taken for a broken answer, no coin was \
             deactivated; {remedy}"
        ));
        return Ok(done);
    }
    let vanished = job.sink.run(AssetSink::deactivate_unlisted).await?;
    done.more.insert("deactivated".into(), json!(vanished));
    Ok(done)
}

/// Reads the list piece by piece: a list of a million coins takes no more memory than a short one.
fn parse(
    mut body: Body,
    source: &dyn Source,
    request: &Request,
    out: &mpsc::Sender<AssetBatch>,
) -> Result<(), SourceError> {
    let endpoint = request.endpoint;
    let malformed = |err| SourceError::malformed(endpoint, err);
    let mut records = body.records().map_err(malformed)?;
    let mut record = Vec::new();
    let mut parsed = Parsed::default();
    loop {
        let more = records.next_into(&mut record).map_err(malformed)?;
        if more && let Some(coin) = source.parse_asset(&record).transpose() {
            parsed.push(coin);
        }
        if parsed.len() >= BATCH || (!more && !parsed.is_empty()) {
            let batch = AssetBatch { endpoint, parsed: std::mem::take(&mut parsed) };
            if out.blocking_send(batch).is_err() {
                // The writer failed and says why.
                return Ok(());
            }
        }
        if !more {
            return Ok(());
        }
    }
}
