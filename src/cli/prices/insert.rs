//! The course of a run: pages first, exchange rates beside them, then what they left out.

use std::pin::pin;
use std::sync::Arc;

use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::Args;
use super::pages::Fetch;
use super::rates;
use super::table::top_table;
use crate::cli::failures::Failures;
use crate::cli::run::{Done, Job};
use crate::db::DbError;
use crate::pipeline;
use crate::sinks::prices::PriceSink;
use crate::sources::answers_at_once;
use crate::sources::ask::Choice;

/// Names told in a message; the rest is counted.
const NAMED: usize = 10;

pub async fn insert(job: Arc<Job<PriceSink>>, args: Args, bar: ProgressBar, for_people: bool) -> anyhow::Result<Done> {
    let mut done = Done::default();
    let currencies = args.currencies();
    // Those that are still to be asked for.
    let mut rates = args.wants_rates().then(|| currencies.clone());
    for group in currencies.chunks(job.source().currencies_per_call()) {
        match args.choice() {
            Choice::Ids(ids) => {
                if copied(&job, &bar, &mut done, async |fetch| fetch.by_ids(group, &ids).await).await? {
                    for vs in group {
                        name_unknown(&job, vs, ids.clone(), &mut done).await?;
                    }
                }
            }
            Choice::All | Choice::Top(_) => {
                if copied(&job, &bar, &mut done, async |fetch| fetch.pages(group, args.top, &mut rates).await).await? {
                    for vs in group {
                        heal(&job, vs, args.top, &bar, &mut done).await?;
                    }
                }
            }
        }
    }
    if let Some(currencies) = rates
        && rates::are_worth_a_call(&job).await
        && let Err(err) = rates::insert(job.clone(), currencies).await?
    {
        let mut failures = Failures::default();
        rates::tell(err, &mut failures);
        done.problems.extend(failures.sentences());
        done.cause = done.cause.take().or(failures.cause);
    }
    bar.finish_and_clear();
    if for_people {
        done.text = top_table(&job, args.vs.first().map_or("usd", String::as_str)).await;
    }
    Ok(done)
}

/// Fetches, and copies to the database at the same time. False when something that was asked for
/// did not come.
async fn copied(
    job: &Arc<Job<PriceSink>>,
    bar: &ProgressBar,
    done: &mut Done,
    work: impl AsyncFnOnce(&mut Fetch) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let (out, batches) = mpsc::channel(pipeline::QUEUE);
    let mut fetch = Fetch::new(job.clone(), out, bar.clone());
    let fetching = async {
        let whole = work(&mut fetch).await;
        // Closes the channel, which ends the copying.
        let Fetch { out, failures, .. } = fetch;
        drop(out);
        whole.map(|whole| (whole, failures))
    };
    let mut fetching = pin!(fetching);
    let mut copying = pin!(pipeline::copy(batches, &job.sink));
    let (whole, failures) = tokio::select! {
        biased;
        copied = &mut copying => {
            // A writer that failed ends the fetching: its own error is the one to tell.
            copied?;
            fetching.await?
        }
        fetched = &mut fetching => {
            copying.await?;
            fetched?
        }
    };
    done.problems.extend(failures.sentences());
    done.cause = done.cause.take().or(failures.cause);
    Ok(whole)
}

/// `--ids`: what the source does not know is named.
async fn name_unknown(
    job: &Arc<Job<PriceSink>>,
    vs: &Arc<str>,
    ids: Vec<String>,
    done: &mut Done,
) -> anyhow::Result<()> {
    let currency = vs.clone();
    let looked_up = job.sink.run(move |sink| {
        let unknown = sink.unseen_ids(&currency, &ids)?;
        sink.record_absent(&currency, &[], unknown.len() as i64)?;
        Ok::<_, DbError>(unknown)
    });
    let unknown = looked_up.await?;
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
            let (ids, source_ids): (Vec<i64>, Vec<String>) = missing.into_iter().unzip();
            if copied(job, bar, done, async |fetch| fetch.by_ids(std::slice::from_ref(vs), &source_ids).await).await? {
                let vs = vs.clone();
                let recorded = job.sink.run(move |sink| {
                    let absent = sink.unseen(&vs, &ids).len() as i64;
                    sink.record_absent(&vs, &[], absent)
                });
                recorded.await?;
            }
        }
        return Ok(());
    }
    let at_once = answers_at_once(job.source());
    let (mut after, mut pending, mut skipped) = (Some(0), Vec::new(), 0);
    while let Some(from) = after {
        let vs_currency = vs.clone();
        let missing = job.sink.run(move |sink| sink.missing_after(&vs_currency, from)).await?;
        after = missing.next;
        skipped += missing.skipped;
        if at_once {
            // What the one answer lacks is nowhere else.
            skipped += missing.ask.len() as i64;
            continue;
        }
        pending.extend(missing.ask);
        // Whole calls only, so that none is spent on a few.
        let page_size = job.source().page_size();
        while pending.len() >= page_size || (after.is_none() && !pending.is_empty()) {
            let part: Vec<(i64, String)> = pending.drain(..page_size.min(pending.len())).collect();
            let (ids, source_ids): (Vec<i64>, Vec<String>) = part.into_iter().unzip();
            if !copied(job, bar, done, async |fetch| fetch.by_ids(std::slice::from_ref(vs), &source_ids).await).await? {
                // What a failed call left out is not absent.
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
