//! `plan`: what a month costs, before a call is made.

mod crontab;
mod part;
mod show;
mod steps;
mod suggest;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::output::{Outcome, Report};
use super::{Context, Global, Output};
use crate::db::runs::Status;
use crate::exit::{Exit, UsageError};
use crate::sources::Source;
use crontab::Schedule;
use part::{part, why_not};
use show::{as_json, as_text};
use steps::Call;
pub use steps::NotCounted;
pub use suggest::grouped;

pub const NAME: &str = "plan";

/// The file that is shipped; it is what most people's crontab begins as.
const SHIPPED: &str = include_str!("../../../crontab");

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Read the schedule from this crontab [default: the one that is shipped]
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    crontab: Option<PathBuf>,
    /// How often COMMAND is run [default: 1h; a backfill or a repair once]
    #[arg(long, value_name = "DURATION", value_parser = interval, requires = "command")]
    every: Option<Duration>,
    /// A command of coinetl, such as: prices insert --top 1000
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

impl Args {
    /// The global options of the planned command; an error where there is none, or none of ours.
    pub fn planned(&self) -> Result<Global, NotCounted> {
        if self.command.is_empty() {
            return Err(NotCounted("there is no command".to_owned()));
        }
        steps::parse(&self.command).map(|(cli, _)| cli.global)
    }

    /// `--every` behind the command is meant for the plan, too.
    pub fn take_every(&mut self) {
        let Some(at) = self.command.iter().position(|word| word == "--every" || word.starts_with("--every=")) else {
            return;
        };
        let (value, words) = match self.command[at].split_once('=') {
            Some((_, value)) => (Some(value.to_owned()), 1),
            None => (self.command.get(at + 1).cloned(), 2),
        };
        if let Some(Ok(every)) = value.map(|text| interval(&text)) {
            self.every = Some(every);
            self.command.drain(at..at + words);
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(every) if every >= Duration::from_secs(60) => Ok(every),
        _ => Err("a duration from 1m up, such as 1h or 30m".to_owned()),
    }
}

/// Something that runs now and then.
struct Entry {
    call: Call,
    /// Named in messages: `line 12`, or nothing for the command line's own.
    place: String,
    schedule: Option<Schedule>,
    runs: i64,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let (entries, mut others) = entries(args)?;
    let first = context.settings.source;
    let mut sources: Vec<&'static dyn Source> = Vec::new();
    if !context.source_is_chosen {
        for entry in &entries {
            let source = entry.call.source.unwrap_or(first);
            if !sources.iter().any(|known| known.name() == source.name()) {
                sources.push(source);
            }
        }
    }
    // Ours in front, where it has a line.
    sources.sort_by_key(|source| source.name() != first.name());
    if sources.is_empty() {
        sources.push(first);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::new(NAME, sources[0].name());
    let mut parts = Vec::new();
    let mut rest = Vec::new();
    for entry in entries {
        let source = entry.call.source.unwrap_or(first);
        if sources.iter().any(|known| known.name() == source.name()) {
            rest.push(entry);
        } else {
            others.push((entry.place, entry.call.text, format!("it is of {}", source.name())));
        }
    }
    for source in sources {
        let (mine, others_of): (Vec<Entry>, Vec<Entry>) =
            rest.into_iter().partition(|entry| entry.call.source.unwrap_or(first).name() == source.name());
        rest = others_of;
        parts.push(runtime.block_on(part(context, source, mine, &mut others, &mut report))?);
    }
    let fits = parts.iter().all(|part| part.fits);
    report.more.extend(as_json(&parts[0], &parts[1..], &others, fits));
    report.seconds = started.elapsed().as_secs_f64();
    let text = if context.output == Output::Text { as_text(&parts, &others) } else { String::new() };
    let exit = if fits {
        Exit::Ok
    } else {
        report.status = Status::Failed.name();
        let broken = parts.iter().filter(|part| !part.fits).map(why_not);
        report.error = Some(broken.collect::<Vec<_>>().join("; "));
        Exit::No
    };
    Ok(Outcome::new(exit, report, text))
}

/// What is planned, and the lines that are not counted: place, text, reason.
type Others = Vec<(String, String, String)>;

fn entries(args: &Args) -> anyhow::Result<(Vec<Entry>, Others)> {
    if !args.command.is_empty() {
        let mut words = args.command.clone();
        if steps::parse(&words).is_ok() && !words[0].ends_with("coinetl") && !words[0].ends_with("pipeline.sh") {
            words.insert(0, "coinetl".to_owned());
        }
        let calls = steps::calls(&shell_words::join(without_our_options(&words)), &[]);
        let calls: Result<Vec<Call>, NotCounted> = match calls.is_empty() {
            true => steps::parse(&words).map(|_| Vec::new()),
            false => calls.into_iter().collect(),
        };
        let calls = calls.map_err(|NotCounted(why)| UsageError(format!("that command can't be planned: {why}")))?;
        let runs = |every: Duration| (31 * 24 * 3600 / every.as_secs().max(1)).max(1) as i64;
        let entry = |call: Call| {
            let runs = match args.every {
                Some(every) => runs(every),
                None if call.work.is_done_once() => 1,
                None => runs(Duration::from_secs(3600)),
            };
            Entry { call, place: String::new(), schedule: None, runs }
        };
        return Ok((calls.into_iter().map(entry).collect(), Vec::new()));
    }
    let (name, text) = match &args.crontab {
        Some(path) => (path.display().to_string(), read_file(path)?),
        None => ("the shipped crontab".to_owned(), SHIPPED.to_owned()),
    };
    let jobs = crontab::read(&text).map_err(|err| UsageError(format!("{name}: {err}")))?;
    let (mut entries, mut others) = (Vec::new(), Vec::new());
    for job in jobs {
        let place = format!("line {}", job.line);
        let calls = steps::calls(&job.command, &job.environment);
        if calls.is_empty() {
            others.push((place.clone(), job.command.clone(), "it does not call coinetl".to_owned()));
        }
        for call in calls {
            match call {
                Ok(call) => {
                    let runs = job.schedule.runs_per_month();
                    let schedule = Some(job.schedule.clone());
                    entries.push(Entry { call, place: place.clone(), schedule, runs });
                }
                Err(NotCounted(why)) => {
                    log::warn!("{place} of {name} is not counted: {why}");
                    others.push((place.clone(), job.command.clone(), why));
                }
            }
        }
    }
    Ok((entries, others))
}

/// How the plan itself is shown is no part of what is planned.
fn without_our_options(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--output" | "--log-format" => {
                rest.next();
            }
            "-q" | "--quiet" | "-v" | "-vv" | "--verbose" => {}
            word if word.starts_with("--output=") || word.starts_with("--log-format=") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

fn read_file(path: &Path) -> Result<String, UsageError> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin())
            .map_err(|err| UsageError(format!("the crontab on standard input can't be read: {err}")));
    }
    std::fs::read_to_string(path).map_err(|err| {
        UsageError(format!("{} can't be read: {err}; write crontab -l >FILE to get yours", path.display()))
    })
}
