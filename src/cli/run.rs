//! What every command that calls a vendor shares: database, lease, run, client, report.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::Context;
use super::output::{Outcome, Report, sentence};
use super::stop;
use crate::db::calls::{self, Turn};
use crate::db::runs::{self, Status, Tally};
use crate::db::{Absent, DbError, Session, Shared, migrate, open};
use crate::exit::{self, Exit};
use crate::gate::DbGate;
use crate::sandbox;
use crate::sinks::Sink;
use crate::sources::coingecko::CoinGecko;
use crate::sources::error::SourceError;
use crate::sources::http::{Body, Client, Patience};
use crate::sources::records::ArrayError;
use crate::sources::{Access, Request, SANDBOX_PREFIX, Source};

/// A run in progress.
pub struct Job<S> {
    pub sink: Shared<S>,
    client: Client,
    gate: Arc<DbGate>,
    label: Mutex<Label>,
    /// A limit that the user set holds for a sandbox too.
    limit_is_chosen: bool,
    wait: Duration,
}

/// The name data is stored under; sure once an answer told whether it is generated.
#[derive(Debug, Clone)]
struct Label {
    name: String,
    sure: bool,
}

/// What a command's own work comes to.
#[derive(Default)]
pub struct Done {
    /// Everything that was asked for and not stored, in words; empty when all went well.
    pub problems: Vec<String>,
    /// The error behind the first problem, which decides the exit code if nothing was stored.
    pub cause: Option<anyhow::Error>,
    pub text: String,
    pub more: Map<String, Value>,
}

/// Runs a command: `make` builds its sink around the run, `work` does the job.
pub fn execute<S, W, F>(
    context: &Context,
    command: &'static str,
    make: impl FnOnce(Session) -> Result<S, DbError>,
    work: W,
) -> anyhow::Result<Outcome>
where
    S: Sink,
    W: FnOnce(Arc<Job<S>>) -> F,
    F: Future<Output = anyhow::Result<Done>>,
{
    let started = Instant::now();
    let settings = &context.settings;
    let writer = migrate::open_current(&settings.database_url)?;
    let mut control = open(&settings.database_url, Absent::Fail)?.conn;
    runs::relax_durability(&mut control)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let sandbox = match context.sandbox {
            true => {
                Some(sandbox::start(sandbox::Options { bind: ([127, 0, 0, 1], 0).into(), ..Default::default() }).await?)
            }
            false => None,
        };
        let source: Arc<dyn Source> = Arc::new(CoinGecko);
        let (access, label) = match &sandbox {
            Some(sandbox) => (settings.sandbox(sandbox.addr()), format!("{SANDBOX_PREFIX}{}", source.name())),
            None => (settings.coingecko(), source.name().to_owned()),
        };
        let session = Session::begin(writer, command, &label, context.wait)?;
        let (run_id, lease) = (session.run_id(), session.lease().clone());
        let turn = Turn { api: api_name(&access), interval: calls::interval(access.calls_per_minute), run_id, lease };
        let gate = Arc::new(DbGate::new(Shared::new(control), turn));
        let patience = Patience { timeout: settings.timeout, backoff: settings.backoff };
        let client = Client::new(source, access, gate.clone(), patience);
        let sink = Shared::new(make(session)?);
        let label = Label { name: label, sure: context.sandbox };
        let heartbeat = tokio::spawn({
            let gate = gate.clone();
            async move { gate.keep_alive().await }
        });
        let result = match client {
            Err(err) => Err(err.into()),
            Ok(client) => {
                let job = Arc::new(Job {
                    sink: sink.clone(),
                    client,
                    gate: gate.clone(),
                    label: Mutex::new(label),
                    limit_is_chosen: settings.calls_per_minute.is_some(),
                    wait: context.wait,
                });
                tokio::select! {
                    result = work(job) => result,
                    () = stop::asked() => Err(Interrupted.into()),
                }
            }
        };
        heartbeat.abort();
        let unmade = gate.prepaid();
        let mut outcome = sink.run(move |sink| conclude(sink.session(), command, run_id, unmade, result)).await;
        outcome.report.calls = outcome.report.calls.max(gate.calls());
        outcome.report.credits = outcome.report.credits.max(gate.calls());
        outcome.report.seconds = started.elapsed().as_secs_f64();
        if let Some(sandbox) = sandbox {
            sandbox.stop().await;
        }
        anyhow::Ok(outcome)
    })
}

#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; run again to get the rest")]
struct Interrupted;

/// Whom a rate limit belongs to: the host, shared by all its paths and all who share the database.
fn api_name(access: &Access) -> String {
    match url::Url::parse(&access.base_url) {
        Ok(url) => {
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            format!("{}{port}", url.host_str().unwrap_or_default())
        }
        Err(_) => access.base_url.clone(),
    }
}

/// Ends the run in the database and puts its result into words.
fn conclude(session: &mut Session, command: &str, run_id: i64, unmade: i64, result: anyhow::Result<Done>) -> Outcome {
    let tally = session.tally();
    let (mut status, mut exit, mut error, done) = match result {
        Ok(done) => judge(&tally, done),
        Err(err) => {
            // A call finds out as well as a batch, and tells it as the cause of its own failure.
            let (status, exit) = match err.chain().find_map(|cause| cause.downcast_ref::<DbError>()) {
                // The new owner does the rest: nothing is missing in the end.
                Some(DbError::LeaseLost { .. }) => (Status::Failed, Exit::TryLater),
                _ if stored_any(&tally) => (Status::Partial, Exit::Partial),
                _ if err.is::<Interrupted>() => (Status::Failed, Exit::TryLater),
                _ => (Status::Failed, exit::of(&err)),
            };
            (status, exit, Some(sentence(&err)), Done::default())
        }
    };
    let mut report = Report::new(command, session.source());
    match session.finish(status, error.as_deref(), unmade) {
        Ok((calls, credits)) => (report.calls, report.credits) = (calls, credits),
        // The first error is the one that tells what happened.
        Err(err) if error.is_some() => log::warn!("the run could not be ended in the database: {err}"),
        Err(err) => {
            let lost = matches!(err, DbError::LeaseLost { .. });
            let err = anyhow::Error::from(err);
            (status, exit) = match stored_any(&tally) && !lost {
                true => (Status::Partial, Exit::Partial),
                false => (Status::Failed, exit::of(&err)),
            };
            error = Some(sentence(&err));
        }
    }
    report.run_id = Some(run_id);
    report.status = status.name();
    report.error = error;
    report.more = done.more;
    report.set_tally(&tally);
    Outcome { exit, report, text: done.text }
}

fn judge(tally: &Tally, mut done: Done) -> (Status, Exit, Option<String>, Done) {
    if tally.rejected > 0 {
        let many = tally.rejected;
        done.problems.push(format!("{many} record(s) could not be used; see the table dead_letters for the reasons"));
    }
    if done.problems.is_empty() {
        return (Status::Ok, Exit::Ok, None, done);
    }
    let error = Some(done.problems.join("; "));
    match (&done.cause, stored_any(tally)) {
        (Some(cause), false) => (Status::Failed, exit::of(cause), error, done),
        _ => (Status::Partial, Exit::Partial, error, done),
    }
}

fn stored_any(tally: &Tally) -> bool {
    tally.written + tally.unchanged > 0
}

impl<S: Sink> Job<S> {
    pub fn source(&self) -> &Arc<dyn Source> {
        self.client.source()
    }

    /// Fetches an answer and makes sure that it is stored under the right name: the first one
    /// tells whether the data is generated, and all others must agree.
    pub async fn fetch<T>(&self, request: &Request, read: impl Fn(Body) -> Result<T, ArrayError>) -> anyhow::Result<T> {
        let answer = self.client.fetch(request, read).await?;
        let name = match answer.sandbox {
            true => format!("{SANDBOX_PREFIX}{}", self.source().name()),
            false => self.source().name().to_owned(),
        };
        let label = self.label.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if label.sure && label.name != name {
            let endpoint = request.endpoint.to_owned();
            return Err(SourceError::OtherSource { endpoint, expected: label.name, got: name }.into());
        }
        if !label.sure {
            if label.name != name {
                let (to, wait) = (name.clone(), self.wait);
                let lease = self
                    .sink
                    .run(move |sink| sink.session().relabel(&to, wait).map(|()| sink.session().lease().clone()))
                    .await?;
                self.gate.relabel(lease, answer.sandbox && !self.limit_is_chosen).await?;
            }
            *self.label.lock().unwrap_or_else(PoisonError::into_inner) = Label { name, sure: true };
        }
        Ok(answer.content)
    }
}
