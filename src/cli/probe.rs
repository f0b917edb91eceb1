//! One call to a vendor outside of a run that stores data: counted and paced like every other, where
//! there is a database to count it in.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};

use super::budget::allowance;
use super::run::{Vendor, api_name, pace};
use crate::config::Settings;
use crate::db::calls::{self, Turn};
use crate::db::durability;
use crate::db::runs::{self, Status};
use crate::db::{Connection, Shared};
use crate::domain::Cost;
use crate::gate::DbGate;
use crate::sources::http::{Answer, Body, Client, Gate, Patience};
use crate::sources::records::ArrayError;
use crate::sources::{Request, SANDBOX_PREFIX};

/// Somebody is watching: no call is waited for longer.
const TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF: Duration = Duration::from_millis(500);
const RETRIES: u32 = 1;

/// What came of the call.
pub struct Probed<T> {
    pub content: anyhow::Result<T>,
    /// The name under which the answering source's data is stored.
    pub stored_as: String,
    pub run_id: Option<i64>,
    pub cost: Cost,
    /// From the call that was answered to its answer, without the wait for its turn.
    pub took: Duration,
}

/// Asks once, with retries where they make sense. `conn` is a database with this binary's schema.
pub async fn ask<T>(
    settings: &Settings,
    vendor: &Vendor,
    command: &str,
    conn: Option<Connection>,
    request: &Request,
    read: impl Fn(Body) -> Result<T, ArrayError>,
) -> anyhow::Result<Probed<T>> {
    let (timeout, backoff) = (settings.timeout.min(TIMEOUT), settings.backoff.min(BACKOFF));
    let patience = Patience { timeout, backoff, retries: RETRIES };
    let Some(mut conn) = conn else {
        let gate = Arc::new(Uncounted);
        let client = Client::new(vendor.source, vendor.access.clone(), gate, patience)?;
        let answer = client.fetch(request, read).await;
        let stored_as = stored_as(vendor, answer.as_ref().ok());
        let took = answer.as_ref().map_or(Duration::ZERO, |answer| answer.took);
        let content = answer.map(|answer| answer.content).map_err(Into::into);
        return Ok(Probed { content, stored_as, run_id: None, cost: Cost::default(), took });
    };
    durability::relax(&mut conn)?;
    let access = pace(&mut conn, settings, vendor)?;
    runs::bury_old(&mut conn, command)?;
    let run_id = runs::begin(&mut conn, command, &vendor.name())?;
    let interval = calls::interval(access.calls_per_minute);
    // A look is not worth breaking the month's budget for.
    let guard = allowance(&mut conn, settings, vendor.source, &access, vendor.label)?.guard;
    let (control, api) = (Shared::new(conn), api_name(&access));
    let turn = Turn { api: api.clone(), interval, run_id, lease: None, guard };
    let gate = Arc::new(DbGate::new(control.clone(), turn));
    let client = Client::new(vendor.source, access, gate.clone(), patience)?;
    let answer = client.fetch(request, read).await;
    let stored_as = stored_as(vendor, answer.as_ref().ok());
    let (status, error) = match &answer {
        Ok(_) => (Status::Ok, None),
        Err(err) => (Status::Failed, Some(err.to_string())),
    };
    let (unmade, name) = (gate.close().await, stored_as.clone());
    let has_no_pace = matches!(&answer, Ok(answer) if answer.sandbox) && settings.calls_per_minute.is_none();
    let ended = control.run(move |conn| {
        if has_no_pace && interval.is_some() {
            // Nobody has to wait for a turn at a sandbox.
            calls::forget(conn, &api)?;
        }
        runs::relabel(conn, run_id, &name)?;
        runs::count_calls(conn, run_id, unmade * -1)?;
        runs::finish(conn, run_id, status, error.as_deref())
    });
    ended.await?;
    let took = answer.as_ref().map_or(Duration::ZERO, |answer| answer.took);
    let content = answer.map(|answer| answer.content).map_err(Into::into);
    Ok(Probed { content, stored_as, run_id: Some(run_id), cost: gate.spent(), took })
}

fn stored_as<T>(vendor: &Vendor, answer: Option<&Answer<T>>) -> String {
    match answer {
        Some(Answer { sandbox: true, .. }) => format!("{SANDBOX_PREFIX}{}", vendor.source.name()),
        _ => vendor.name(),
    }
}

/// Where there is no database to count in.
pub struct Uncounted;

impl Gate for Uncounted {
    fn admit(&self, _: i64) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        async { Ok(()) }.boxed()
    }

    fn give_back(&self, _: i64) {}

    fn settle(&self, _: i64, _: i64) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        async { Ok(()) }.boxed()
    }
}
