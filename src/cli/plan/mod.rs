//! `plan`: what a month costs, before a call is made.

mod crontab;
mod steps;
mod suggest;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::budget::{Allowance, Label, Origin, allowance};
use super::output::{Outcome, Report};
use super::run::{Vendor, read_account};
use super::{Context, Global, Output, prices, probe};
use crate::db::absences::Absences;
use crate::db::runs::Status;
use crate::db::{Connection, DbError, absences, accounts, migrate};
use crate::domain::budget::month_of;
use crate::domain::{Budget, Cost, Stamp};
use crate::exit::{Exit, UsageError};
use crate::sources::ask::COINS_IF_UNKNOWN;
use crate::sources::{Source, answers_at_once};
use crontab::Schedule;
pub use steps::NotCounted;
use steps::{Call, Work};
use suggest::Item;
pub use suggest::grouped;

pub const NAME: &str = "plan";

const MONTH_MS: i64 = 31 * 86_400_000;
/// The file that is shipped; it is what most people's crontab begins as.
const SHIPPED: &str = include_str!("../../../crontab");

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Read the schedule from this crontab [default: the one that is shipped]
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    crontab: Option<PathBuf>,
    /// How often COMMAND is run
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = interval, requires = "command")]
    every: Duration,
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
            self.every = every;
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

/// A line of the plan: something that runs now and then, and what it costs each time.
struct Line {
    text: String,
    schedule: Option<Schedule>,
    runs: i64,
    cost: Cost,
    work: Work,
}

/// One source's part of the plan.
struct Part {
    source: &'static dyn Source,
    kind: &'static str,
    coins: u64,
    coins_known: bool,
    lines: Vec<Line>,
    total: Cost,
    budget: Budget,
    origin: Origin,
    /// Credits that the rest of the running month takes.
    rest: i64,
    fits: bool,
    suggestion: Option<String>,
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
        let runs = (31 * 24 * 3600 / args.every.as_secs().max(1)).max(1) as i64;
        let entry = |call| Entry { call, place: String::new(), schedule: None, runs };
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

/// A database with this binary's schema; `None` where there is none to go by.
fn database(context: &Context) -> Option<Connection> {
    match migrate::open_current(&context.settings.database_url) {
        Ok(opened) => Some(opened.conn),
        Err(DbError::Missing { .. }) => None,
        Err(err) => {
            log::warn!("{err}; planning without what is stored");
            None
        }
    }
}

async fn part(
    context: &Context,
    source: &'static dyn Source,
    entries: Vec<Entry>,
    others: &mut Others,
    report: &mut Report,
) -> anyhow::Result<Part> {
    let settings = &context.settings;
    let vendor = Vendor::of(context, source).await?;
    // The vendor itself knows best, where it tells and nobody chose otherwise.
    if settings.credits_per_month.is_none()
        && let Some(request) = source.account(&vendor.access)
    {
        let asked = probe::ask(settings, &vendor, NAME, database(context), &request, |body| read_account(source, body));
        let asked = asked.await?;
        report.run_id = report.run_id.or(asked.run_id);
        report.calls += asked.cost.calls;
        report.credits += asked.cost.credits;
        match (asked.content, database(context)) {
            (Ok(Some(account)), Some(mut conn)) => accounts::keep(&mut conn, &asked.stored_as, &account)?,
            (Ok(_), _) => {}
            (Err(err), _) => log::warn!("the plan can't be asked for ({err}); going by what is known of it"),
        }
    }
    let label = match vendor.label {
        Label::Sandbox => Label::Sandbox,
        _ if settings.credits_per_month.is_some() => Label::Unsure,
        _ => Label::Real,
    };
    let names = vendor.label.names(source);
    let mut conn = database(context);
    let (allowed, active) = match &mut conn {
        Some(conn) => (allowance(conn, settings, source, &vendor.access, label)?, prices::count_known(conn, &names)?),
        None => (without_database(context, &vendor)?, 0),
    };
    vendor.leave().await;

    let mut lines = Vec::new();
    let (mut total, mut rest) = (Cost::default(), 0);
    for Entry { call, place, schedule, runs } in entries {
        if call.sandbox && !context.sandbox {
            others.push((place, call.text, "its data is made up and costs nothing".to_owned()));
            continue;
        }
        let cost = match call.work.cost(source, active) {
            Ok(cost) => cost,
            // Asked for in so many words, it is the answer.
            Err(NotCounted(why)) if schedule.is_none() => return Err(UsageError(why).into()),
            Err(NotCounted(why)) => {
                others.push((place, call.text, why));
                continue;
            }
        };
        let left = match &schedule {
            Some(schedule) => schedule.runs_until(allowed.now, allowed.budget.resets_at),
            None => runs * (allowed.budget.resets_at.millis() - allowed.now.millis()) / MONTH_MS,
        };
        let mut add = |text: String, schedule, runs: i64, left: i64, cost: Cost, work| {
            total += cost * runs;
            rest += cost.credits * left.min(runs);
            lines.push(Line { text, schedule, runs, cost, work });
        };
        let absent = match (&mut conn, call.work.prices()) {
            (Some(conn), Some(args)) => args.cost_of_absent(source, conn, &names, Absences::All)?,
            _ => Cost::default(),
        };
        if absent.calls > 0 {
            let text = format!("{}: coins on no page, once a day", call.text);
            let asks = if runs <= 31 { runs } else { 1 + runs / absences::ASK_AGAIN_AFTER_HOURS };
            let asks_left = (asks * left + runs - 1) / runs.max(1);
            add(text, None, asks, asks_left, absent, Work::Nothing);
        }
        add(call.text, schedule, runs, left, cost, call.work);
    }
    let budget = allowed.budget;
    let in_any_month = budget.limit.is_none_or(|limit| total.credits <= limit);
    others.sort();
    let in_this_month = budget.allows(rest);
    let mut part = Part {
        source,
        kind: vendor_kind(context, source),
        coins: if active == 0 { COINS_IF_UNKNOWN } else { active },
        coins_known: active > 0,
        lines,
        total,
        budget,
        origin: allowed.origin,
        rest,
        fits: in_any_month && in_this_month,
        suggestion: None,
    };
    part.suggestion = suggestion(&part, in_any_month);
    Ok(part)
}

fn vendor_kind(context: &Context, source: &dyn Source) -> &'static str {
    if context.sandbox { "sandbox" } else { context.settings.access(source).kind }
}

/// What the settings alone allow.
fn without_database(context: &Context, vendor: &Vendor) -> anyhow::Result<Allowance> {
    let now = Stamp::from_datetime(chrono::Utc::now())?;
    let usual = i64::try_from(vendor.access.credits_per_month).unwrap_or(i64::MAX);
    let (limit, origin) = match context.settings.credits_per_month {
        Some(limit) => (i64::try_from(limit).unwrap_or(i64::MAX), Origin::Setting),
        None => (usual, Origin::Usual(vendor.access.kind)),
    };
    let budget = Budget { limit: (limit > 0).then_some(limit), used: 0, resets_at: month_of(now).1 };
    Ok(Allowance { budget, guard: None, origin, now, told: None })
}

fn suggestion(part: &Part, in_any_month: bool) -> Option<String> {
    let limit = part.budget.limit.filter(|_| !part.fits)?;
    if in_any_month {
        let left = part.budget.left().unwrap_or_default();
        return Some(format!(
            "a whole month fits, but {} of this one's {} credits are used and the rest of it takes {} of the {} that are \
             left; it fits again from {} UTC on",
            grouped(part.budget.used),
            grouped(limit),
            grouped(part.rest),
            grouped(left),
            &part.budget.resets_at.to_string()[..16]
        ));
    }
    let items: Vec<Item> = part
        .lines
        .iter()
        .map(|line| Item {
            name: line.text.clone(),
            runs: line.runs,
            cost: line.cost,
            minute: line.schedule.as_ref().and_then(|schedule| schedule.minute().map(str::to_owned)),
        })
        .collect();
    let rarer = suggest::schedule(&items, limit);
    let smaller = smaller_top(part, limit);
    match (rarer, smaller) {
        (Some(rarer), Some(smaller)) => Some(format!("{rarer}; or {smaller}")),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => {
            Some(format!("no schedule of these lines fits {} credits: a larger plan is needed", grouped(limit)))
        }
    }
}

/// The same schedule with fewer coins.
fn smaller_top(part: &Part, limit: i64) -> Option<String> {
    let dearest = part.lines.iter().max_by_key(|line| line.cost.credits * line.runs)?;
    let others = part.total.credits - dearest.cost.credits * dearest.runs;
    let args = dearest.work.prices().filter(|_| part.source.why_no_top().is_none())?;
    let with = |top| args.with_top(top).map(|args| dearest.work.with_prices(args));
    with(1)?;
    let credits = |top| {
        let cost = with(top).and_then(|work| work.cost(part.source, part.coins).ok())?;
        Some(others + cost.credits * dearest.runs)
    };
    let top = suggest::largest_top(part.coins, |top| credits(top).is_some_and(|credits| credits <= limit))?;
    Some(format!(
        "as often as now with --top {top}, which makes {} of {} credits",
        grouped(credits(top)?),
        grouped(limit)
    ))
}

fn why_not(part: &Part) -> String {
    let suggestion = part.suggestion.clone().unwrap_or_default();
    let limit = part.budget.limit.unwrap_or_default();
    match part.total.credits > limit {
        true => format!(
            "{}: {} credits a month do not fit {} ({}): {suggestion}",
            part.source.name(),
            grouped(part.total.credits),
            grouped(limit),
            part.origin
        ),
        false => format!("{}: {suggestion}", part.source.name()),
    }
}

fn as_json(first: &Part, more: &[Part], others: &Others, fits: bool) -> serde_json::Map<String, Value> {
    let mut all = part_json(first);
    all.insert("fits".to_owned(), json!(fits));
    let named = |part: &Part| {
        let mut map = part_json(part);
        map.insert("source".to_owned(), json!(part.source.name()));
        Value::Object(map)
    };
    let more: Vec<Value> = more.iter().map(named).collect();
    all.insert("other_sources".to_owned(), json!(more));
    let others: Vec<Value> =
        others.iter().map(|(place, text, why)| json!({ "place": place, "command": text, "reason": why })).collect();
    all.insert("not_counted".to_owned(), json!(others));
    all
}

fn part_json(part: &Part) -> serde_json::Map<String, Value> {
    let items: Vec<Value> = part
        .lines
        .iter()
        .map(|line| {
            let month = line.cost * line.runs;
            json!({
                "command": line.text,
                "schedule": line.schedule.as_ref().map(|schedule| &schedule.text),
                "runs_per_month": line.runs,
                "calls_per_run": line.cost.calls,
                "credits_per_run": line.cost.credits,
                "calls_per_month": month.calls,
                "credits_per_month": month.credits,
            })
        })
        .collect();
    let value = json!({
        "items": items,
        "assets": part.coins,
        "assets_known": part.coins_known,
        "calls_per_month": part.total.calls,
        "credits_per_month": part.total.credits,
        "used_this_month": part.budget.used,
        "rest_of_month": part.rest,
        "budget": part.budget.limit,
        "budget_from": part.origin.to_string(),
        "resets_at": part.budget.resets_at.to_string(),
        "fits": part.fits,
        "suggestion": part.suggestion,
    });
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

fn as_text(parts: &[Part], others: &Others) -> String {
    let mut out = Vec::new();
    for part in parts {
        let coins = match part.coins_known {
            _ if answers_at_once(part.source) => String::new(),
            true => format!(", {} active coins", grouped(part.coins as i64)),
            false => format!(", {} coins assumed because none are stored", grouped(part.coins as i64)),
        };
        out.push(format!("{} ({}){coins}; a month of 31 days:", part.source.name(), part.kind));
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["when", "command", "runs", "calls a run", "calls", "credits"]);
        for line in &part.lines {
            let month = line.cost * line.runs;
            let when = line.schedule.as_ref().map_or("-", |schedule| schedule.text.as_str());
            let numbers = [line.runs, line.cost.calls, month.calls, month.credits].map(grouped);
            table.add_row([vec![when.to_owned(), line.text.clone()], numbers.to_vec()].concat());
        }
        table.add_row(["", "together", "", "", &grouped(part.total.calls), &grouped(part.total.credits)]);
        for column in 2..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        out.push(table.to_string());
        out.push(match part.budget.limit {
            None => {
                format!("no limit is known ({}); {} credits used this month", part.origin, grouped(part.budget.used))
            }
            Some(limit) => format!(
                "{}: {} of {} credits a month ({}); {} used this month, which ends {} UTC",
                if part.fits { "it fits" } else { "it does not fit" },
                grouped(part.total.credits),
                grouped(limit),
                part.origin,
                grouped(part.budget.used),
                &part.budget.resets_at.to_string()[..16]
            ),
        });
        out.push(String::new());
    }
    if !others.is_empty() {
        out.push("Not counted:".to_owned());
        out.extend(others.iter().map(|(place, text, why)| format!("  {place}: {text}: {why}")));
    }
    out.join("\n").trim_end().to_owned()
}
