//! What currencies are worth, at the end of a run that asked for all coins.

use std::sync::Arc;

use crate::cli::run::{Done, Job};
use crate::db::DbError;
use crate::domain::Rates;
use crate::sinks::Sink;
use crate::sinks::prices::PriceSink;
use crate::sources::error::SourceError;
use crate::sources::http::Body;

/// Asks once and stores the answer. A call that fails is a problem to tell and costs no price.
pub async fn insert(job: &Arc<Job<PriceSink>>, currencies: &[Arc<str>], done: &mut Done) -> anyhow::Result<()> {
    let Some(request) = job.source().rates(currencies) else { return Ok(()) };
    let tally = job.sink.run(|sink| sink.session().tally()).await;
    if tally.written + tally.unchanged == 0 {
        // Whatever kept the prices away keeps these away, too.
        return Ok(());
    }
    let source = job.source();
    let read = |mut body: Body| {
        let (mut records, mut record) = (body.records()?, Vec::new());
        let mut told = None;
        while records.next_into(&mut record)? {
            if !matches!(told, Some(Ok(_))) {
                told = Some(source.parse_rates(&record, currencies));
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
        Err(err) => {
            done.problems.push(format!("the exchange rates failed: {err}"));
            done.cause.get_or_insert(err);
            return Ok(());
        }
    };
    log::debug!("{} exchange rates, {} unusable", rates.rates.len(), rates.rejected.len());
    job.sink.run(move |sink| sink.write_rates(endpoint, &rates)).await?;
    Ok(())
}
