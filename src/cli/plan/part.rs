//! One source's part of a plan: what its lines cost, what its month allows, and what would fit.

use super::crontab::Schedule;
use super::steps::{NotCounted, Work};
use super::suggest::{self, Item, grouped};
use super::{Entry, NAME, Others};
use crate::cli::budget::{Allowance, Label, Origin, allowance};
use crate::cli::output::Report;
use crate::cli::run::{Vendor, read_account};
use crate::cli::{Context, prices, probe};
use crate::db::absences::Absences;
use crate::db::{Connection, DbError, absences, accounts, migrate};
use crate::domain::budget::month_of;
use crate::domain::{Budget, Cost, Stamp};
use crate::exit::UsageError;
use crate::sources::ask::COINS_IF_UNKNOWN;
use crate::sources::{Access, Source};

const MONTH_MS: i64 = 31 * 86_400_000;

/// A line of the plan: something that runs now and then, and what it costs each time.
pub struct Line {
    pub text: String,
    pub schedule: Option<Schedule>,
    pub runs: i64,
    pub cost: Cost,
    pub work: Work,
}

/// One source's part of the plan.
pub struct Part {
    pub source: &'static dyn Source,
    pub kind: &'static str,
    pub coins: u64,
    pub coins_known: bool,
    pub lines: Vec<Line>,
    pub total: Cost,
    pub budget: Budget,
    pub origin: Origin,
    /// Credits that the rest of the running month takes.
    pub rest: i64,
    pub fits: bool,
    pub suggestion: Option<String>,
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

pub async fn part(
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
    let access = vendor.access.clone();
    vendor.leave().await;

    let mut lines = Vec::new();
    let (mut total, mut rest) = (Cost::default(), 0);
    for Entry { call, place, schedule, runs } in entries {
        if call.sandbox && !context.sandbox {
            others.push((place, call.text, "its data is made up and costs nothing".to_owned()));
            continue;
        }
        let cost = match cost_of(&call.work, source, active, conn.as_mut(), &names, &access, allowed.now)? {
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
            // Now, and so in this month.
            None if call.work.is_done_once() => runs,
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

/// What a command costs once; of the past by what is stored of it.
fn cost_of(
    work: &Work,
    source: &'static dyn Source,
    active: u64,
    conn: Option<&mut Connection>,
    names: &[String],
    access: &Access,
    now: Stamp,
) -> anyhow::Result<Result<Cost, NotCounted>> {
    let cost = match (work, conn) {
        (Work::Backfill(args), Some(conn)) => args.cost(conn, names, source, access, now),
        (Work::Backfill(args), None) => args.cost_of_nothing(source, access, COINS_IF_UNKNOWN).map_err(Into::into),
        (Work::Repair(args), Some(conn)) => args.cost(conn, names, source, access, now),
        _ => return Ok(work.cost(source, active)),
    };
    match cost {
        Ok(cost) => Ok(Ok(cost)),
        Err(err) => match err.downcast::<UsageError>() {
            Ok(err) => Ok(Err(NotCounted(format!("it would end with 2: {err}")))),
            Err(err) => Err(err),
        },
    }
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

pub fn why_not(part: &Part) -> String {
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
