//! What every command that calls a vendor shares: database, lease, run, client, report.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Context;
use super::budget::{Allowance, Label, allowance};
use super::output::{Outcome, Report, sentence};
use super::stop;
use crate::config::Settings;
use crate::db::calls::{self, Turn};
use crate::db::durability;
use crate::db::runs::{Status, Tally};
use crate::db::{Absent, Connection, DbError, Session, Shared, accounts, migrate, open};
use crate::domain::{Account, Cost};
use crate::exit::{self, Exit};
use crate::gate::{DbGate, Free, OverBudget};
use crate::sandbox;
use crate::sinks::Sink;
use crate::sources::error::SourceError;
use crate::sources::http::{Answer, Body, Client, MAX_RETRIES, Patience};
use crate::sources::records::ArrayError;
use crate::sources::{Access, Request, SANDBOX_PREFIX, Source};

/// A run in progress.
pub struct Job<S> {
    pub sink: Shared<S>,
    client: Client,
    gate: Arc<DbGate>,
    label: Mutex<Stored>,
    /// Limits that the user set hold for a sandbox too.
    free_if_sandbox: Free,
    wait: Duration,
}

/// The name data is stored under; sure once an answer told whether it is generated.
#[derive(Debug, Clone)]
struct Stored {
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

/// How a vendor is reached: itself, or the sandbox inside this process.
pub struct Vendor {
    pub source: &'static dyn Source,
    pub access: Access,
    pub label: Label,
    sandbox: Option<sandbox::Sandbox>,
}

impl Vendor {
    pub async fn reach(context: &Context) -> anyhow::Result<Vendor> {
        Vendor::of(context, context.settings.source).await
    }

    pub async fn of(context: &Context, source: &'static dyn Source) -> anyhow::Result<Vendor> {
        if !context.sandbox {
            let access = context.settings.access(source);
            return Ok(Vendor { source, access, label: Label::Unsure, sandbox: None });
        }
        let options = sandbox::Options { bind: ([127, 0, 0, 1], 0).into(), ..Default::default() };
        let sandbox = sandbox::start(options).await?;
        let access = context.settings.sandbox(source, sandbox.addr());
        Ok(Vendor { source, access, label: Label::Sandbox, sandbox: Some(sandbox) })
    }

    /// The name that data is most probably stored under.
    pub fn name(&self) -> String {
        self.label.names(self.source).remove(0)
    }

    pub async fn leave(self) {
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
    }
}

/// What a run is going to cost, from what is stored under one of these names.
pub type Estimate = dyn Fn(&mut Connection, &[String]) -> Result<Cost, DbError> + Send + Sync;

/// Runs a command: `make` builds its sink around the run, `work` does the job. A signal ends it where
/// it is, and it is not done then.
pub fn execute<S, W, F>(
    context: &Context,
    command: &'static str,
    estimate: Box<Estimate>,
    make: impl FnOnce(Session) -> Result<S, DbError>,
    work: W,
) -> anyhow::Result<Outcome>
where
    S: Sink,
    W: FnOnce(Arc<Job<S>>) -> F,
    F: Future<Output = anyhow::Result<Done>>,
{
    execute_unasked(context, command, estimate, make, async |job, asked| {
        tokio::select! {
            result = work(job) => result,
            () = asked => Err(Interrupted.into()),
        }
    })
}

/// Resolves when somebody asks the process to stop.
pub type Asked = Pin<Box<dyn Future<Output = ()>>>;

/// The same for work that itself heeds signals.
pub fn execute_unasked<S, W>(
    context: &Context,
    command: &'static str,
    estimate: Box<Estimate>,
    make: impl FnOnce(Session) -> Result<S, DbError>,
    work: W,
) -> anyhow::Result<Outcome>
where
    S: Sink,
    W: AsyncFnOnce(Arc<Job<S>>, Asked) -> anyhow::Result<Done>,
{
    let started = Instant::now();
    let settings = &context.settings;
    let writer = migrate::open_current(&settings.database_url)?;
    let mut control = open(&settings.database_url, Absent::Fail)?.conn;
    durability::relax(&mut control)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let vendor = Vendor::reach(context).await?;
        let access = pace(&mut control, settings, &vendor)?;
        let session = Session::begin(writer, command, &vendor.name(), context.wait)?;
        let (run_id, lease) = (session.run_id(), session.lease().clone());
        let interval = calls::interval(access.calls_per_minute);
        let turn = Turn { api: api_name(&access), interval, run_id, lease: Some(lease), guard: None };
        let gate = Arc::new(DbGate::new(Shared::new(control), turn));
        let patience = Patience { timeout: settings.timeout, backoff: settings.backoff, retries: MAX_RETRIES };
        let client = Client::new(vendor.source, access, gate.clone(), patience);
        let sink = Shared::new(make(session)?);
        let label = Stored { name: vendor.name(), sure: vendor.label == Label::Sandbox };
        let heartbeat = tokio::spawn({
            let gate = gate.clone();
            async move { gate.keep_alive().await }
        });
        let (result, retries) = match client {
            Err(err) => (Err(err.into()), 0),
            Ok(client) => {
                let free_if_sandbox = Free {
                    of_pace: settings.calls_per_minute.is_none(),
                    of_budget: settings.credits_per_month.is_none(),
                };
                let job = Arc::new(Job {
                    sink: sink.clone(),
                    client,
                    gate: gate.clone(),
                    label: Mutex::new(label),
                    free_if_sandbox,
                    wait: context.wait,
                });
                let mut asked: Asked = Box::pin(stop::asked());
                let kept = tokio::select! {
                    kept = job.keep_within_budget(settings, vendor.label, &estimate) => kept,
                    () = &mut asked => Err(Interrupted.into()),
                };
                let result = match kept {
                    Ok(()) => work(job.clone(), asked).await,
                    Err(err) => Err(err),
                };
                (result, job.client.retries())
            }
        };
        heartbeat.abort();
        let unmade = gate.close().await;
        let mut outcome = sink.run(move |sink| conclude(sink.session(), command, run_id, unmade, result)).await;
        let spent = gate.spent();
        outcome.report.calls = outcome.report.calls.max(spent.calls);
        outcome.report.credits = outcome.report.credits.max(spent.credits);
        outcome.report.more.insert("retries".into(), json!(retries));
        outcome.report.seconds = started.elapsed().as_secs_f64();
        vendor.leave().await;
        anyhow::Ok(outcome)
    })
}

/// The pace of the plan: what the vendor told of it, unless a setting says otherwise.
pub fn pace(conn: &mut Connection, settings: &Settings, vendor: &Vendor) -> Result<Access, DbError> {
    let mut access = vendor.access.clone();
    if settings.calls_per_minute.is_none() && access.key.is_some() {
        let told = accounts::find(conn, &vendor.name())?.and_then(|told| told.account.calls_per_minute);
        if let Some(told) = told.and_then(|calls| u32::try_from(calls).ok()).filter(|calls| *calls > 0) {
            access.calls_per_minute = told;
        }
    }
    Ok(access)
}

#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; run again to get the rest")]
pub struct Interrupted;

/// Whom a rate limit belongs to: the host, shared by all its paths and all who share the database.
pub fn api_name(access: &Access) -> String {
    match url::Url::parse(&access.base_url) {
        Ok(url) => {
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            format!("{}{port}", url.host_str().unwrap_or_default())
        }
        Err(_) => access.base_url.clone(),
    }
}

/// Ends the run in the database and puts its result into words.
pub fn conclude(
    session: &mut Session,
    command: &str,
    run_id: i64,
    unmade: Cost,
    result: anyhow::Result<Done>,
) -> Outcome {
    let tally = session.tally();
    let mut busy = false;
    let (mut status, mut exit, mut error, done) = match result {
        Ok(done) => judge(&tally, done),
        Err(err) => {
            // A call finds out as well as a batch, and tells it as the cause of its own failure.
            let of_database = err.chain().find_map(|cause| cause.downcast_ref::<DbError>());
            busy = matches!(of_database, Some(DbError::LeaseHeld { .. } | DbError::LeaseLost { .. }));
            let (status, exit) = match of_database {
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
        Ok(spent) => (report.calls, report.credits) = (spent.calls, spent.credits),
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
    Outcome { exit, report, text: done.text, busy }
}

/// Ended well, in part, or not at all.
pub fn judge(tally: &Tally, mut done: Done) -> (Status, Exit, Option<String>, Done) {
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
    pub fn source(&self) -> &'static dyn Source {
        self.client.source()
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// No answer told whose data it is: the run is of what it looked at.
    pub async fn is_of(&self, name: String) -> Result<(), DbError> {
        if self.stored().sure {
            return Ok(());
        }
        let wait = self.wait;
        match self.sink.run(move |sink| sink.session().relabel(&name, wait)).await {
            // Another run is at it; this one has nothing more to write.
            Err(DbError::LeaseHeld { .. }) => Ok(()),
            other => other,
        }
    }

    /// The names that data may be stored under: one as soon as an answer told.
    pub fn names(&self) -> Vec<String> {
        let stored = self.stored();
        if stored.sure { vec![stored.name] } else { Label::Unsure.names(self.source()) }
    }

    /// Refuses the run before its first call when the month's budget does not allow it, and holds
    /// each call against what is left.
    async fn keep_within_budget(&self, settings: &Settings, label: Label, estimate: &Estimate) -> anyhow::Result<()> {
        let (mut allowed, cost) = self.weigh(settings, label, estimate)?;
        let mut over = OverBudget::check(&allowed.budget, cost.credits);
        // A limit that nobody chose may have become another: ask before refusing, and once a day.
        let ask = (over.is_some() && !allowed.is_fresh()) || allowed.is_old();
        if settings.credits_per_month.is_none() && ask && self.ask_account().await? {
            let cost;
            (allowed, cost) = self.weigh(settings, self.surely(label), estimate)?;
            over = OverBudget::check(&allowed.budget, cost.credits);
        }
        match over {
            Some(over) => Err(over.into()),
            None => {
                self.gate.keep_within(allowed.guard);
                Ok(())
            }
        }
    }

    /// Coins stored under the names that this run's may get, as `count` counts them.
    pub async fn known_coins(
        &self,
        count: fn(&mut Connection, &[String]) -> Result<u64, DbError>,
    ) -> Result<u64, DbError> {
        let stored = self.stored();
        let names = if stored.sure { vec![stored.name] } else { Label::Unsure.names(self.source()) };
        self.sink.run(move |sink| count(sink.session().conn(), &names)).await
    }

    fn weigh(&self, settings: &Settings, label: Label, estimate: &Estimate) -> Result<(Allowance, Cost), DbError> {
        let (source, access) = (self.source(), self.client.access());
        self.sink.with(|sink| {
            let conn = sink.session().conn();
            let allowed = allowance(conn, settings, source, access, label)?;
            Ok((allowed, estimate(conn, &label.names(source))?))
        })
    }

    /// What an answer made of a label.
    fn surely(&self, label: Label) -> Label {
        let stored = self.stored();
        match stored.sure {
            true if stored.name.starts_with(SANDBOX_PREFIX) => Label::Sandbox,
            true => Label::Real,
            false => label,
        }
    }

    fn stored(&self) -> Stored {
        self.label.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the vendor for the plan behind the key and keeps the answer. False when it tells none.
    async fn ask_account(&self) -> anyhow::Result<bool> {
        let source = self.source();
        let Some(request) = source.account(self.client.access()) else { return Ok(false) };
        let told = self.fetch(&request, |body| read_account(source, body)).await;
        let name = self.stored().name;
        match told {
            Ok(Some(account)) => {
                let kept = self
                    .sink
                    .run(move |sink| sink.session().batch(|batch| accounts::keep(batch.conn, &name, &account)));
                kept.await?;
                Ok(true)
            }
            Ok(None) => Ok(false),
            // A key that is refused here is refused everywhere; an endpoint that is not there is not.
            Err(err) if is_fatal(&err) => Err(err),
            Err(err) => {
                log::warn!("the plan can't be asked for ({err}); going by what is known of it");
                self.sink.run(move |sink| sink.session().batch(|batch| accounts::renew(batch.conn, &name))).await?;
                Ok(false)
            }
        }
    }

    /// Fetches an answer and makes sure that it is stored under the right name: the first one
    /// tells whether the data is generated, and all others must agree.
    pub async fn fetch<T>(&self, request: &Request, read: impl Fn(Body) -> Result<T, ArrayError>) -> anyhow::Result<T> {
        let Answer { content, sandbox, .. } = self.client.fetch(request, read).await?;
        let name = match sandbox {
            true => format!("{SANDBOX_PREFIX}{}", self.source().name()),
            false => self.source().name().to_owned(),
        };
        let stored = self.stored();
        if stored.sure && stored.name != name {
            let (endpoint, setting) = (request.endpoint.to_owned(), self.client.access().url_setting);
            return Err(SourceError::OtherSource { endpoint, expected: stored.name, got: name, setting }.into());
        }
        if !stored.sure {
            if stored.name != name {
                let (to, wait) = (name.clone(), self.wait);
                let lease = self
                    .sink
                    .run(move |sink| sink.session().relabel(&to, wait).map(|()| sink.session().lease().clone()))
                    .await?;
                self.gate.relabel(lease, self.free_if_sandbox).await?;
            }
            *self.label.lock().unwrap_or_else(PoisonError::into_inner) = Stored { name, sure: true };
        }
        Ok(content)
    }
}

/// Whether an answer about the plan tells that no other call would go better.
fn is_fatal(err: &anyhow::Error) -> bool {
    let Some(err) = err.downcast_ref::<SourceError>() else { return true };
    let of_this_call = matches!(err, SourceError::NotFound { .. } | SourceError::Plan { .. });
    err.ends_the_run() && !of_this_call
}

/// The plan in a vendor's answer.
pub fn read_account(source: &dyn Source, mut body: Body) -> Result<Option<Account>, ArrayError> {
    let (mut records, mut record) = (body.records()?, Vec::new());
    let found = records.next_into(&mut record)?;
    Ok(source.parse_account(&record).filter(|_| found))
}
