//! `import`: files of history into candles and prices, as a stream, from where a killed run left off.

mod coins;
mod copy;
mod show;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::output::{Outcome, Report};
use super::run::{self, Done};
use super::{Context, heartbeat, stop};
use crate::config::ConfigError;
use crate::db::filling;
use crate::db::import_positions::{self, Position};
use crate::db::runs::Status;
use crate::db::{Connection, DbError, Session, assets, migrate};
use crate::domain::{Coin, Cost};
use crate::exit::{Exit, UsageError};
use crate::sinks::archive::{ArchiveSink, FileKey, Target};
use crate::sources::SANDBOX_PREFIX;
use crate::sources::archive::find::{Found, find};
use crate::sources::archive::{FileError, Input};
use show::{FileReport, told};

pub const NAME: &str = "import";
/// Where rows go of which nobody says whose they are.
pub const ARCHIVE: &str = "archive";
/// Stands among the files while a new database is filled.
const SEED: &str = "COINETL_SEED_ARCHIVE";
/// Files that can't be read are told one by one up to so many.
const MOST_TOLD: usize = 10;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// CSV or Parquet files, folders with all that is in them, zip archives
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The coin's id, for files that do not name their coin; with --source that source's own id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The currency, for files that do not name it
    #[arg(long, value_name = "CURRENCY", default_value = "usd")]
    vs: String,
    /// Show what would be imported, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is asked for.
struct Request {
    paths: Vec<PathBuf>,
    /// Chosen, or `archive`.
    source: String,
    source_is_chosen: bool,
    id: Option<String>,
    vs: Arc<str>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let request = Request::of(args, context)?;
    let found = request.find()?;
    if args.dry_run {
        return request.rehearse(found, context);
    }
    let mut opened = migrate::open_current(&context.settings.database_url)?;
    let target = request.target(&found, || Ok(&mut opened.conn))?;
    let stop = Stop::listen()?;
    let session = Session::begin(opened, NAME, &request.source, context.wait)?;
    request.import(found, target, session, None, &stop, context)
}

/// Fills a database in which nothing is yet from the archive that the settings name, once. `None` where there is
/// nothing to do.
pub fn seed(path: &Path, context: &Context) -> anyhow::Result<Option<Outcome>> {
    let broken = |why: String| {
        let why = format!(
            "{}: {why}; name a file, folder or zip archive that can be imported, or leave it out",
            path.display()
        );
        ConfigError::Invalid { name: SEED, why }
    };
    let mut opened = migrate::open_current(&context.settings.database_url)?;
    if !is_due(&mut opened.conn)? {
        return Ok(None);
    }
    let request = Request {
        paths: vec![path.to_owned()],
        source: ARCHIVE.to_owned(),
        source_is_chosen: false,
        id: None,
        vs: "usd".into(),
    };
    let found = request.find().map_err(|err| broken(err.to_string()))?;
    let target = request.target(&found, || Ok(&mut opened.conn)).map_err(|err| broken(err.to_string()))?;
    let stop = Stop::listen()?;
    let mut session = Session::begin(opened, NAME, &request.source, context.wait)?;
    let begun = Position { fingerprint: String::new(), position: 0, line: 0 };
    session.batch(|batch| import_positions::set(batch, SEED, &begun))?;
    let outcome = request.import(found, target, session, Some(SEED), &stop, context)?;
    let nothing = outcome.report.rows_written + outcome.report.rows_unchanged == 0;
    match (&outcome.report.error, nothing) {
        (Some(why), true) if outcome.exit == Exit::Partial => Err(broken(why.clone()).into()),
        _ => Ok(Some(outcome)),
    }
}

/// Nothing is stored yet, or what fills the database was killed.
fn is_due(conn: &mut Connection) -> Result<bool, DbError> {
    if import_positions::all(conn)?.contains_key(SEED) {
        return Ok(true);
    }
    assets::is_any_data(conn).map(|is_any| !is_any)
}

impl Request {
    fn of(args: &Args, context: &Context) -> Result<Request, UsageError> {
        let name = context.settings.source.name();
        let source = match (context.sandbox, context.source_is_chosen) {
            (true, _) => format!("{SANDBOX_PREFIX}{name}"),
            (false, true) => name.to_owned(),
            (false, false) => ARCHIVE.to_owned(),
        };
        let vs = args.vs.trim().to_ascii_lowercase();
        if vs.is_empty() || vs.len() > 64 || vs.contains(['\0', ',']) {
            return Err(UsageError(format!("--vs {:?} is no currency", args.vs)));
        }
        if let Some(id) = &args.id {
            let coin = Coin::new(id.clone(), None, None);
            coin.map_err(|err| UsageError(format!("--id can't be stored: {err}")))?;
        }
        Ok(Request {
            paths: args.paths.clone(),
            source,
            source_is_chosen: context.sandbox || context.source_is_chosen,
            id: args.id.clone(),
            vs: vs.into(),
        })
    }

    /// The files, once it is sure that the arguments are enough for them.
    fn find(&self) -> Result<Found, UsageError> {
        let salt = format!("{}\n{:?}\n{}", self.source, self.id, self.vs);
        let found = find(&self.paths, &salt).map_err(|err| UsageError(err.to_string()))?;
        if found.inputs.is_empty() && found.failed.is_empty() {
            let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
            return Err(UsageError(format!("there is nothing to import in {}", paths.join(", "))));
        }
        let nameless = found.inputs.iter().find(|input| !input.content.names_coin());
        match (nameless, &self.id) {
            (Some(input), None) => Err(UsageError(format!(
                "{} does not say which coin it is of; name it by --id, such as --id BTC",
                input.shown
            ))),
            _ => Ok(found),
        }
    }

    /// Where the rows go. The database is asked only where names are to be matched.
    fn target<'a>(
        &self,
        found: &Found,
        conn: impl FnOnce() -> Result<&'a mut Connection, DbError>,
    ) -> anyhow::Result<Target> {
        let named: Vec<&Input> =
            found.inputs.iter().filter(|input| input.content.names_coin() && !input.content.is_own()).collect();
        let mut known = None;
        if !named.is_empty() && (self.source_is_chosen || self.id.is_some()) {
            let subjects = coins::named_in(&named)?;
            match &self.id {
                Some(id) => coins::insist_on_one(&subjects, id)?,
                None => known = Some(coins::matching(conn()?, &self.source, &subjects)?),
            }
        }
        if let Some(input) = found.inputs.iter().find(|input| input.content.is_own())
            && (self.source_is_chosen || self.id.is_some())
        {
            log::warn!("{} says itself whose each row is: --source and --id do not count for it", input.shown);
        }
        Ok(Target {
            source: self.source.clone(),
            id: self.id.clone(),
            known,
            vs_currency: self.vs.clone(),
            namesakes: HashMap::new(),
        })
    }

    /// Reads everything and writes nothing.
    fn rehearse(&self, found: Found, context: &Context) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let mut opened = None;
        let target = self.target(&found, || {
            let opened = opened.insert(migrate::open_current(&context.settings.database_url)?);
            Ok(&mut opened.conn)
        })?;
        let Found { inputs, failed } = found;
        let bar = show::bar(context, &inputs);
        let mut reports: Vec<FileReport> = Vec::new();
        copy::read_only(&inputs, |report| reports.push(report), &bar);
        bar.finish_and_clear();
        let mut report = Report::new(NAME, &self.source);
        report.rows_rejected = reports.iter().map(|report| report.rejected as i64).sum();
        report.rows_read = reports.iter().map(|report| (report.rows + report.doubled + report.rejected) as i64).sum();
        // The table is as it was.
        report.rows_unchanged = report.rows_read - report.rows_rejected;
        let problems = problems(&failed, &reports, report.rows_rejected);
        let listed = show::list(&inputs, &reports, &failed, &target);
        report.more.insert("dry_run".into(), json!(true));
        report.more.insert("files".into(), listed.json);
        report.seconds = started.elapsed().as_secs_f64();
        let exit = if problems.is_empty() { Exit::Ok } else { Exit::Partial };
        if !problems.is_empty() {
            report.status = Status::Partial.name();
            report.error = Some(problems.join("; "));
        }
        Ok(Outcome::new(exit, report, listed.text))
    }

    /// `begun_as`: what was written down in `import_positions` until this is done.
    fn import(
        &self,
        found: Found,
        target: Target,
        session: Session,
        begun_as: Option<&str>,
        stop: &Stop,
        context: &Context,
    ) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let Found { inputs, failed } = found;
        let inputs = Arc::new(inputs);
        let keys =
            inputs.iter().map(|input| FileKey { key: input.key.clone(), fingerprint: input.fingerprint.clone() });
        let run_id = session.run_id();
        let mut sink = ArchiveSink::new(session, target, keys.collect());
        let beating = heartbeat::start(&context.settings.database_url, sink.session.lease().clone());
        let bar = show::bar(context, &inputs);
        let mut reports = Vec::new();
        let result = match sink.prepare() {
            Ok(()) => copy::copy(&inputs, &mut sink, &stop.asked, |report| reports.push(report), &bar),
            Err(err) => Err(err.into()),
        };
        bar.finish_and_clear();
        // Also of what was stored until it failed; what is stored is right without it.
        let lacking = |err: DbError| log::warn!("{}: {err}", filling::LACKING);
        let is_settled = sink.settle().map_err(lacking).unwrap_or(true);
        let result = result.and_then(|()| {
            if let Some(key) = begun_as {
                sink.session.batch(|batch| import_positions::clear(batch, key))?;
            }
            Ok(())
        });
        let listed = show::list(&inputs, &reports, &failed, sink.target());
        let done = result.map(|()| Done {
            problems: problems(&failed, &reports, 0),
            cause: None,
            text: String::new(),
            more: [("files".to_owned(), listed.json)].into_iter().collect(),
        });
        let mut outcome = run::conclude(&mut sink.session, NAME, run_id, Cost::default(), done);
        drop(beating);
        // The other import may have ended in this moment, and left it to us.
        if !is_settled && let Err(err) = filling::heal(sink.session.conn(), NAME) {
            lacking(err);
        }
        outcome.report.seconds = started.elapsed().as_secs_f64();
        if outcome.report.error.is_none() || outcome.exit == Exit::Partial {
            outcome.text = told(&outcome.report, inputs.len());
        }
        Ok(outcome)
    }
}

/// Set when somebody asks the process to stop.
struct Stop {
    asked: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

impl Stop {
    /// Before the lease is taken: whoever is asked to stop gives it back.
    fn listen() -> std::io::Result<Stop> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let asked = Arc::new(AtomicBool::new(false));
        let (entered, flag) = (runtime.enter(), asked.clone());
        let signal = stop::asked();
        drop(entered);
        runtime.spawn(async move {
            signal.await;
            flag.store(true, Ordering::Relaxed);
        });
        Ok(Stop { asked, _runtime: runtime })
    }
}

/// What could not be read, in words.
fn problems(failed: &[FileError], reports: &[FileReport], rejected: i64) -> Vec<String> {
    let broken = reports.iter().filter_map(|report| report.error.as_ref());
    let mut words: Vec<String> = failed.iter().chain(broken).map(FileError::to_string).collect();
    if words.len() > MOST_TOLD {
        let more = words.len() - MOST_TOLD;
        words.truncate(MOST_TOLD);
        words.push(format!("and {more} more files that can't be read"));
    }
    if rejected > 0 {
        words.push(format!("{rejected} row(s) could not be used"));
    }
    words
}
