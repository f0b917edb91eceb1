//! What currencies are worth, in a run that asks for all coins.
//!
//! Asked as soon as the first page is in: a price is converted with a rate from before it, so the rates of
//! a daily run should be no younger than most of its prices.

use std::sync::Arc;

use crate::cli::failures::Failures;
use crate::cli::run::Job;
use crate::db::DbError;
use crate::domain::Rates;
use crate::sinks::Sink;
use crate::sinks::prices::PriceSink;
use crate::sources::error::SourceError;
use crate::sources::http::Body;

/// Asks once and stores the answer. The inner error is one of the call alone: it costs no price.
pub async fn insert(job: Arc<Job<PriceSink>>, currencies: Vec<Arc<str>>) -> anyhow::Result<Result<(), anyhow::Error>> {
    let source = job.source();
    let Some(request) = source.rates(&currencies) else { return Ok(Ok(())) };
    let read = |mut body: Body| {
        let (mut records, mut record) = (body.records()?, Vec::new());
        let mut told = None;
        while records.next_into(&mut record)? {
            if !matches!(told, Some(Ok(_))) {
                told = Some(source.parse_rates(&record, &currencies));
            }
        }
        Ok(told)
    };
    let endpoint = request.endpoint;
    let told = job.fetch(&request, read).await.and_then(|told| {
        let why = "no price of anything is in it".to_owned();
        told.ok_or_else(|| SourceError::Malformed { endpoint: endpoint.to_owned(), why }.into())
    });
    let rates = match told {
        Ok(Ok(rates)) => rates,
        Ok(Err(reject)) => Rates { rejected: vec![reject], ..Rates::default() },
        // A lease or a database that is gone ends the run.
        Err(err) if err.chain().any(|cause| cause.is::<DbError>()) => return Err(err),
        Err(err) => return Ok(Err(err)),
    };
    log::debug!("{} exchange rates, {} unusable", rates.rates.len(), rates.rejected.len());
    job.sink.run(move |sink| sink.write_rates(endpoint, &rates)).await?;
    Ok(Ok(()))
}

/// Puts a call that failed into words.
pub fn tell(err: anyhow::Error, failures: &mut Failures) {
    failures.add("the exchange rates".to_owned(), format!("failed: {err}"));
    failures.cause.get_or_insert(err);
}

/// Whether a run has stored anything: whatever kept all prices away keeps the rates away, too.
pub async fn are_worth_a_call(job: &Job<PriceSink>) -> bool {
    let tally = job.sink.run(|sink| sink.session().tally()).await;
    tally.written + tally.unchanged > 0
}
