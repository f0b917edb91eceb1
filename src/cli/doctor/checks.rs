//! The checks, in the order in which one needs the other.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::budget::{Label, Origin, allowance};
use super::super::output::{Report, sentence};
use super::super::plan::grouped;
use super::super::run::{Vendor, read_account};
use super::super::{Context, probe};
use super::{Check, NAME};
use crate::config::Settings;
use crate::db::health::{self, LastRun};
use crate::db::{Absent, Connection, DatabaseUrl, DbError, accounts, clock, migrate, open};
use crate::exit::{self, Exit};
use crate::gate::OverBudget;
use crate::kafka::topic;

/// Clocks that are further apart than this make stamps that people wonder about.
const CLOCK_SLACK_MS: i64 = 5_000;
/// With less than this a day's snapshots may fill the disk.
const FREE_BYTES: u64 = 1 << 30;
/// SQLite reads through the file to tell the sizes of its tables.
const LARGEST_SIZED: u64 = 2 << 30;
const TABLES_SHOWN: usize = 4;
/// Prices are meant to come hourly or daily.
const STALE_AFTER: i64 = 26 * 3_600;

pub fn all(context: &Context, report: &mut Report) -> anyhow::Result<Vec<Check>> {
    let settings = &context.settings;
    let mut checks = vec![of_settings(context)];
    let (database, conn) = of_database(settings);
    checks.push(database);
    let conn = match conn {
        None => None,
        Some(mut conn) => {
            let (schema, fits) = of_schema(&mut conn);
            checks.push(schema);
            if fits {
                checks.push(of_writing(&mut conn));
                checks.push(of_clock(&mut conn));
            }
            fits.then_some(conn)
        }
    };
    checks.push(of_broker(settings));
    checks.extend(of_source(context, conn.is_some(), report)?);
    let mut conn = conn;
    checks.push(of_disk(settings, conn.as_mut()));
    if let Some(conn) = &mut conn {
        checks.extend(of_runs(conn));
    }
    Ok(checks)
}

fn of_settings(context: &Context) -> Check {
    let settings = &context.settings;
    let file = match &settings.dot_env {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
        None => "no .env in this folder".to_owned(),
    };
    let access = settings.access(settings.source);
    let text = format!(
        "{file}; database {}; source {} ({}), {} calls a minute",
        settings.database_url,
        settings.source.name(),
        if context.sandbox { "sandbox" } else { access.kind },
        if access.calls_per_minute == 0 { "any number of".to_owned() } else { access.calls_per_minute.to_string() }
    );
    match &settings.dot_env {
        Some(path) if is_open_to_others(path) => {
            let remedy = format!("keys and passwords are in it: chmod 600 {}", path.display());
            Check::warning("settings", format!("{text}; other users can read the .env file"), remedy)
        }
        _ => Check::tick("settings", text),
    }
}

fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

/// The remedy of a database error is the end of its sentence.
fn failed(name: &'static str, err: &DbError) -> Check {
    Check::failed(name, exit_of(err), &err.to_string())
}

fn exit_of(err: &DbError) -> Exit {
    exit::of_database(err)
}

fn of_database(settings: &Settings) -> (Check, Option<Connection>) {
    let started = Instant::now();
    let answered = open(&settings.database_url, Absent::Fail).and_then(|mut opened| {
        let version = health::version(&mut opened.conn)?;
        Ok((opened.conn, version))
    });
    match answered {
        Ok((conn, version)) => {
            let text = format!(
                "{} answers in {:.0} ms: {version}",
                settings.database_url,
                started.elapsed().as_secs_f64() * 1e3
            );
            (Check::tick("database", text), Some(conn))
        }
        Err(err) => (failed("database", &err), None),
    }
}

fn of_schema(conn: &mut Connection) -> (Check, bool) {
    match migrate::state(conn) {
        Ok(migrate::State { unknown: Some(version), .. }) => {
            (failed("schema", &DbError::SchemaNewer { version }), false)
        }
        Ok(state) if !state.pending.is_empty() => {
            (failed("schema", &DbError::SchemaOlder { pending: state.pending.len() }), false)
        }
        Ok(state) => (Check::tick("schema", format!("{} migrations, none pending", state.applied.len())), true),
        Err(err) => (failed("schema", &err), false),
    }
}

fn of_writing(conn: &mut Connection) -> Check {
    match health::check_write(conn) {
        Ok(()) => Check::tick("writing", "rows may be written"),
        Err(err) => failed("writing", &err),
    }
}

fn of_clock(conn: &mut Connection) -> Check {
    let theirs = match clock::now(conn) {
        Ok(now) => now.millis(),
        Err(err) => return failed("clock", &err),
    };
    let apart = (theirs - chrono::Utc::now().timestamp_millis()).abs();
    if apart <= CLOCK_SLACK_MS {
        return Check::tick("clock", "this machine and the database agree on the time");
    }
    let text = format!("this machine's clock and the database's are {} s apart", apart / 1000);
    Check::warning("clock", text, "switch time synchronisation on, on both (timedatectl set-ntp true)")
}

fn of_broker(settings: &Settings) -> Check {
    let Some(broker) = &settings.broker else {
        return Check::skipped("broker", "none is set (KAFKA_BOOTSTRAP_SERVERS)");
    };
    match topic::look(broker) {
        Ok(Some(partitions)) => Check::tick(
            "broker",
            format!("{} answers; the topic {} has {partitions} partition(s)", broker.servers, broker.topic),
        ),
        Ok(None) => Check::tick(
            "broker",
            format!("{} answers; the topic {} is not there yet: publish makes it", broker.servers, broker.topic),
        ),
        Err(err) => {
            let text = err.to_string();
            Check::failed("broker", exit::of(&err.into()), &text)
        }
    }
}

/// One call, which also tells the plan where the vendor tells it.
fn of_source(context: &Context, with_database: bool, report: &mut Report) -> anyhow::Result<Vec<Check>> {
    let settings = &context.settings;
    let again = || {
        with_database.then(|| migrate::open_current(&settings.database_url).ok()).flatten().map(|opened| opened.conn)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let vendor = Vendor::reach(context).await?;
        let request = vendor.source.probe(&vendor.access);
        let asked = probe::ask(settings, &vendor, NAME, again(), &request, |body| {
            // An answer to the end, whatever is in it.
            read_account(vendor.source, body)
        });
        let asked = match asked.await {
            Ok(asked) => asked,
            Err(err) => return Ok(vec![Check::failed("source", exit::of(&err), &sentence(&err))]),
        };
        report.run_id = asked.run_id;
        report.calls = asked.cost.calls;
        report.credits = asked.cost.credits;
        let account = match asked.content {
            Ok(account) => account,
            Err(err) if err.chain().any(|cause| cause.is::<OverBudget>()) => {
                let remedy = "wait for it, or use a larger plan; `coinetl plan` shows what a month costs";
                return Ok(vec![Check::warning("source", format!("not asked: {}", sentence(&err)), remedy)]);
            }
            Err(err) => return Ok(vec![Check::failed("source", exit::of(&err), &sentence(&err))]),
        };
        let sandbox = if asked.stored_as.starts_with("sandbox-") { ", a sandbox with made-up data" } else { "" };
        let text = format!("{} answers in {:.0} ms{sandbox}", vendor.access.base_url, asked.took.as_secs_f64() * 1e3);
        let mut checks = vec![Check::tick("source", text)];
        if let Some(mut conn) = again() {
            if let Some(account) = account {
                accounts::keep(&mut conn, &asked.stored_as, &account)?;
            }
            let label = match sandbox {
                "" => Label::Real,
                _ => Label::Sandbox,
            };
            checks.push(of_budget(&mut conn, settings, &vendor, label)?);
        }
        vendor.leave().await;
        anyhow::Ok(checks)
    })
}

fn of_budget(conn: &mut Connection, settings: &Settings, vendor: &Vendor, label: Label) -> Result<Check, DbError> {
    let allowed = allowance(conn, settings, vendor.source, &vendor.access, label)?;
    let (used, resets) = (allowed.budget.used, &allowed.budget.resets_at.to_string()[..16]);
    let Some(limit) = allowed.budget.limit else {
        return Ok(Check::tick("budget", format!("{} credits used this month; no limit is known", grouped(used))));
    };
    let text = format!(
        "{} of {} credits used this month ({}), which ends {resets} UTC",
        grouped(used),
        grouped(limit),
        allowed.origin
    );
    Ok(match used.saturating_mul(10) {
        _ if used >= limit => {
            let remedy = match allowed.origin {
                Origin::Setting => "wait for it, or raise COINETL_CREDITS_PER_MONTH",
                _ => "wait for it, or use a larger plan; `coinetl plan` shows what a month costs",
            };
            Check::warning("budget", text, remedy)
        }
        tenfold if tenfold >= limit.saturating_mul(9) => {
            Check::warning("budget", text, "`coinetl plan` shows what fits")
        }
        _ => Check::tick("budget", text),
    })
}

fn of_disk(settings: &Settings, conn: Option<&mut Connection>) -> Check {
    let (mut parts, mut low) = (Vec::new(), None);
    let mut size = 0;
    if let DatabaseUrl::Sqlite(path) = &settings.database_url {
        let of_file = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        size = of_file(path) + of_file(&path.with_added_extension("-wal"));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match free_bytes(folder) {
            Ok(free) => {
                parts.push(format!("{} free", bytes(free)));
                low = (free < FREE_BYTES).then_some(free);
            }
            Err(err) => {
                let text = format!("{}: the free space can't be told ({err})", folder.display());
                return Check::cross("disk", Exit::Config, text, "check that the folder exists");
            }
        }
    }
    if size > LARGEST_SIZED {
        parts.push(format!("the file has {}", bytes(size)));
    } else if let Some(conn) = conn {
        match health::table_sizes(conn) {
            Ok(tables) => {
                let total: i64 = tables.iter().map(|table| table.bytes).sum();
                let shown = tables.iter().take(TABLES_SHOWN);
                let shown: Vec<String> =
                    shown.map(|table| format!("{} {}", table.name, bytes(table.bytes.unsigned_abs()))).collect();
                parts.push(format!("tables {} ({}, …)", bytes(total.unsigned_abs()), shown.join(", ")));
            }
            Err(err) => return failed("disk", &err),
        }
    }
    if parts.is_empty() {
        return Check::skipped("disk", "nothing to measure before the database is there");
    }
    let text = parts.join("; ");
    match low {
        Some(_) => Check::warning(
            "disk",
            text,
            "make room: all coins hourly take about 60 MB a day in SQLite; `coinetl prune` deletes what is folded into candles",
        ),
        None => Check::tick("disk", text),
    }
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and the call fills the struct when it returns 0.
    let stat = unsafe {
        if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        stat.assume_init()
    };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// 1536 → 1.5 KiB.
fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

fn of_runs(conn: &mut Connection) -> Vec<Check> {
    let runs = match health::last_runs(conn) {
        Ok(runs) => runs,
        Err(err) => return vec![failed("runs", &err)],
    };
    if runs.is_empty() {
        return vec![Check::skipped("runs", "none yet: scripts/pipeline.sh makes the first")];
    }
    runs.iter().map(of_run).collect()
}

fn of_run(run: &LastRun) -> Check {
    let age = humantime::format_duration(Duration::from_secs(run.age.unsigned_abs())).to_string();
    // Two units tell enough.
    let age = age.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let text = format!(
        "{} of {}: {}, {age} ago, {} rows written",
        run.command,
        run.source,
        run.status,
        grouped(run.rows_written)
    );
    let why = run.error.clone().unwrap_or_default();
    // The end of its sentence is what can be done about it.
    let (why, remedy) = match why.rsplit_once("; ") {
        Some((why, remedy)) => (why.to_owned(), remedy.to_owned()),
        None => (why, format!("run it by hand and look at what it says: coinetl -v {}", run.command)),
    };
    match run.status.as_str() {
        "running" if !run.alive => {
            let remedy = "its process is gone, and the next run goes on; if that happens often, look for what kills it";
            Check::cross("runs", Exit::No, format!("{text}; nobody is at it any more"), remedy)
        }
        "ok" if run.command == "prices insert" && run.age > STALE_AFTER => {
            let remedy =
                "is the crontab line still there, and does its log say anything? crontab -l; journalctl -u cron";
            Check::cross("runs", Exit::No, format!("{text}; that is long ago"), remedy)
        }
        "failed" => Check::cross("runs", Exit::No, format!("{text}: {why}"), remedy),
        "partial" => Check::warning("runs", format!("{text}: {why}"), remedy),
        _ => Check::tick("runs", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!((bytes(1), bytes(1_536), bytes(3 << 30)), ("1 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/no/such/folder")).is_err());
    }
}
