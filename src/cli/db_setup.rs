//! `db-setup`: the schema of this binary in the database of `DATABASE_URL`.

use std::time::Instant;

use serde_json::json;

use super::output::{Outcome, Report};
use super::{Context, import};
use crate::db::{Absent, DbError, filling, migrate, open};
use crate::exit::Exit;

const NAME: &str = "db-setup";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing; exit 1 when migrations are pending
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let url = &context.settings.database_url;
    let (applied, pending) = if args.check { (Vec::new(), pending(context)?) } else { (apply(context)?, Vec::new()) };
    let seed = match &context.settings.seed_archive {
        Some(path) if !args.check => import::seed(path, context)?,
        _ => None,
    };
    let mut report = Report::new(NAME, "");
    report.more.insert("applied".into(), json!(applied));
    report.more.insert("pending".into(), json!(pending));
    let (mut exit, mut text) = if !pending.is_empty() {
        report.status = crate::db::runs::Status::Failed.name();
        report.error = Some(format!("{} migrations are pending; run `coinetl db-setup`", pending.len()));
        (Exit::No, String::new())
    } else if applied.is_empty() {
        (Exit::Ok, format!("{url}: the schema is up to date"))
    } else {
        (Exit::Ok, format!("{url}: {} migration(s) applied: {}", applied.len(), applied.join(", ")))
    };
    if let Some(seed) = seed {
        // The counts are those of the import, which is a run of its own.
        text = [text, seed.text].join("\n");
        exit = seed.exit;
        report = Report { command: NAME.to_owned(), more: report.more, ..seed.report };
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(Outcome::new(exit, report, text))
}

fn apply(context: &Context) -> Result<Vec<String>, DbError> {
    let mut opened = open(&context.settings.database_url, Absent::Create)?;
    let applied = migrate::run_pending(&mut opened.conn)?;
    if let Err(err) = filling::heal(&mut opened.conn, import::NAME) {
        log::warn!("{}: {err}", filling::LACKING);
    }
    Ok(applied)
}

fn pending(context: &Context) -> Result<Vec<String>, DbError> {
    let url = &context.settings.database_url;
    let mut opened = match open(url, Absent::Fail) {
        // No database yet: everything is pending.
        Err(DbError::Missing { .. }) => return migrate::known(url.backend()),
        opened => opened?,
    };
    let state = migrate::state(&mut opened.conn)?;
    match state.unknown {
        Some(version) => Err(DbError::SchemaNewer { version }),
        None => Ok(state.pending),
    }
}
