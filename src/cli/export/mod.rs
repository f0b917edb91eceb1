//! `export`: what is stored, as CSV or Parquet files, as it was at one moment.

mod flow;
mod folder;
mod pipe;
mod rates;
mod request;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::output::{Outcome, Report};
use super::{Context, heartbeat, history, stop};
use crate::cli::ending::{self, Ended};
use crate::db::export::{self, Selection, Table};
use crate::db::runs::Status;
use crate::db::{Session, migrate};
use crate::domain::{Stamp, Timeframe};
use crate::exit::{Exit, UsageError};
use crate::sinks::files::folder::{Folder, MANIFEST};
use crate::sinks::files::{Format, Whole};

use pipe::Piped;

pub use folder::{Done, write};
pub use request::Request;

/// What an export of all sources is recorded under.
pub const ALL: &str = "all";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which rows
    #[arg(value_enum)]
    what: What,
    /// Form of the files
    #[arg(long, value_enum)]
    format: FileFormat,
    /// Folder for the files, made if it is not there; - writes one stream to the standard output
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only candles (or windows) of these lengths, such as 1h,1d
    #[arg(long, value_name = "TIMEFRAME,…", value_delimiter = ',')]
    timeframe: Vec<Timeframe>,
    /// Only rows of this time and later, such as 2026-05-19 or 2026-05-19T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = history::moment)]
    from: Option<Stamp>,
    /// Only rows before this time
    #[arg(long, value_name = "TIME", value_parser = history::moment)]
    to: Option<Stamp>,
    /// Only coins with these ids of their source
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    ids: Vec<String>,
    /// Only the N coins of each source that are ranked best
    #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Only rows in these currencies
    #[arg(long, value_name = "CURRENCY,…", value_delimiter = ',')]
    vs: Vec<String>,
    /// Only quotes of these pairs
    #[arg(long, value_name = "PAIR,…", value_delimiter = ',')]
    pairs: Vec<String>,
    /// A file for each UTC day, in folders that Spark, Trino and DuckDB understand
    #[arg(long, value_enum, value_name = "WHAT")]
    partition_by: Option<PartitionBy>,
    /// Only what changed since the last export into this folder, in files beside those that are there
    #[arg(long)]
    since_last: bool,
    /// Convert prices, volumes and market caps into this currency, by the rate of their time
    #[arg(long = "in", value_name = "CURRENCY")]
    in_currency: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Prices,
    Candles,
    Quotes,
    /// Quotes folded by 1m, 5m and 1h
    QuoteWindows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    Csv,
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartitionBy {
    Day,
}

impl Args {
    pub fn name(&self) -> &'static str {
        // Each has a lease of its own: prices and candles may be exported side by side.
        match self.what {
            What::Prices => "export prices",
            What::Candles => "export candles",
            What::Quotes => "export quotes",
            What::QuoteWindows => "export quote-windows",
        }
    }

    /// Whether the rows go to the standard output, and what is told of them elsewhere.
    pub fn is_piped(&self) -> bool {
        self.out.as_os_str() == "-"
    }

    fn request(&self, source: Option<String>) -> Result<Request, UsageError> {
        let table = match self.what {
            What::Prices => Table::Prices,
            What::Candles => Table::Candles,
            What::Quotes => Table::Quotes,
            What::QuoteWindows => Table::Windows,
        };
        let refuse = |option: &str| Err(UsageError(format!("{option} says nothing of {}", table.name())));
        if !table.has_timeframes() && !self.timeframe.is_empty() {
            return refuse("--timeframe");
        }
        if table.is_of_coins() && !self.pairs.is_empty() {
            return refuse("--pairs");
        }
        if !table.is_of_coins() {
            let given = [
                ("--ids", !self.ids.is_empty()),
                ("--top", self.top.is_some()),
                ("--vs", !self.vs.is_empty()),
                ("--in", self.in_currency.is_some()),
            ];
            if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
                return refuse(option);
            }
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(UsageError(format!("--from {from} is not before --to {to}")));
        }
        let sorted = |list: &[String]| {
            let mut list: Vec<String> = list.iter().map(|word| word.trim().to_owned()).collect();
            list.retain(|word| !word.is_empty());
            list.sort();
            list.dedup();
            list
        };
        let lower = |list: &[String]| sorted(&list.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>());
        let mut timeframes = self.timeframe.clone();
        timeframes.sort();
        timeframes.dedup();
        Ok(Request {
            selection: Selection {
                table,
                timeframes,
                source,
                ids: sorted(&self.ids),
                pairs: sorted(&self.pairs),
                top: self.top,
                vs: lower(&self.vs),
                from: self.from,
                to: self.to,
            },
            format: match self.format {
                FileFormat::Csv => Format::Csv,
                FileFormat::Parquet => Format::Parquet,
            },
            by_day: self.partition_by.is_some(),
            since_last: self.since_last,
            in_currency: self.in_currency.as_ref().map(|currency| currency.trim().to_lowercase()),
        })
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    // What is wrong with the options is told first.
    let mut request = args.request(None)?;
    if args.is_piped() {
        pipe::check(&request)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let (entered, flag) = (runtime.enter(), asked_to_stop.clone());
    let asked = stop::asked();
    drop(entered);
    runtime.spawn(async move {
        asked.await;
        flag.store(true, Ordering::Relaxed);
    });
    let database = &context.settings.database_url;
    let mut opened = migrate::open_current(database)?;
    let source = context.stored_source(&mut opened.conn)?;
    request.selection.source = source.clone();
    let place = if args.is_piped() { None } else { Some(Folder::open(&args.out, context.wait)?) };
    let mut session = Session::begin(opened, args.name(), source.as_deref().unwrap_or(ALL), context.wait)?;
    let mut report = Report::new(args.name(), session.source());
    report.run_id = Some(session.run_id());
    let beating = heartbeat::start(database, session.lease().clone());
    let result = session.batch(|batch| export::fence_given_up(batch.conn)).map_err(anyhow::Error::from).and_then(
        |_| match &place {
            Some(folder) => Ok(Exported::into(folder, write(database, folder, &request, &asked_to_stop)?)),
            None => Ok(Exported::through(request.dataset(), pipe::write(database, &request, &asked_to_stop)?)),
        },
    );
    drop(beating);
    let (mut ended, mut text) = (Ended::well(), String::new());
    match result {
        Ok(Exported { rows, unknown, told, text: said, without_rate }) => {
            let counted = session.batch(|batch| {
                batch.tally.read = rows as i64;
                batch.tally.written = rows as i64;
                batch.tally.absent = unknown.len() as i64;
                Ok(())
            });
            if let Err(err) = counted {
                // The rows are out all the same.
                ended = Ended { status: Status::Partial, ..Ended::failed(&err.into(), false) };
            } else if !unknown.is_empty() {
                let rest = if rows > 0 { "the others are exported" } else { "there are no others" };
                let why = format!("no coin has the id {}; {rest}", unknown.join(", "));
                ended = Ended { status: Status::Partial, exit: Exit::Partial, error: Some(why) };
            }
            report.more = told;
            if let Some(without) = without_rate {
                report.more.insert("rows_without_rate".into(), json!(without));
                if without > 0 {
                    log::warn!(
                        "{without} of {rows} rows have no amounts: no rate is stored of the 24 hours before them"
                    );
                }
            }
            text = format!("{said} ({:.1} s)", started.elapsed().as_secs_f64());
        }
        Err(err) => {
            ended = Ended::failed(&err, false);
            report.more.insert("files".into(), json!([]));
        }
    }
    let exit = ending::record(&mut session, ended, &mut report);
    report.more.insert("out".into(), json!(args.out));
    if let Some(folder) = &place {
        report.more.insert("manifest".into(), json!(folder.path().join(MANIFEST)));
    }
    report.seconds = started.elapsed().as_secs_f64();
    let text = if report.error.is_some() { String::new() } else { text };
    Ok(Outcome::new(exit, report, text))
}

/// What was exported, wherever it went.
struct Exported {
    rows: u64,
    unknown: Vec<String>,
    told: serde_json::Map<String, Value>,
    text: String,
    without_rate: Option<u64>,
}

impl Exported {
    fn into(folder: &Folder, done: Done) -> Exported {
        let Done { rows, files, dataset, unknown, without_rate } = done;
        let text = format!("{dataset}: {rows} rows in {} file(s) in {}", files.len(), folder.path().display());
        let told = [("files".to_owned(), json!(files)), ("dataset".to_owned(), json!(dataset))];
        Exported { rows, unknown, told: told.into_iter().collect(), text, without_rate }
    }

    fn through(dataset: String, piped: Piped) -> Exported {
        let Piped { rows, whole: Whole { bytes, sha256 }, unknown, without_rate } = piped;
        let text = format!("{dataset}: {rows} rows to the standard output");
        let told = [
            ("files".to_owned(), json!([])),
            ("dataset".to_owned(), json!(dataset)),
            ("bytes".to_owned(), json!(bytes)),
            ("sha256".to_owned(), json!(sha256)),
        ];
        Exported { rows, unknown, told: told.into_iter().collect(), text, without_rate }
    }
}
