//! Two runs of one command at once, owners that sleep, die or are told to stop, and clocks that go
//! back: one run at a time, nothing doubled, nobody waits for the dead.

use std::time::Duration;

use crate::support::gecko::{Gecko, Record, answer};
use crate::support::test_db::TestDb;
use crate::support::workdir::wait_until;
use crate::support::workdir::{Output, Running, SandboxServer};

const ASSETS: &[&str] = &["assets", "upsert"];
const PRICES: &[&str] = &["prices", "insert"];
const COINS: usize = 2_000;

on_every_database!(
    the_second_run_is_told_or_waits,
    a_signal_ends_the_run_in_order,
    different_commands_run_side_by_side,
);

/// These wait most of their time: the three databases at once.
macro_rules! on_all_databases_at_once {
    ($($behaviour:ident),+ $(,)?) => {
        mod at_once {
            use crate::support::test_db::{Backend, TestDb};
            $(
                #[test]
                fn $behaviour() {
                    std::thread::scope(|scope| {
                        for backend in [Backend::Sqlite, Backend::Mysql, Backend::Postgres] {
                            scope.spawn(move || TestDb::with(backend, super::$behaviour));
                        }
                    });
                }
            )+
        }
    };
}

on_all_databases_at_once!(
    a_dead_owner_is_taken_over_after_15_s,
    a_sleeping_owner_is_taken_over_and_refused,
    a_clock_set_back_holds_nobody_up,
);

/// A market whose pages take their time, so that a run can be met in the middle.
fn slow(delay_ms: u64) -> Gecko {
    Gecko::with((0..COINS).map(Record::usual).collect(), move |request, state| {
        let pages = request.path.ends_with("/coins/markets");
        pages.then(|| answer(request, state).delay(Duration::from_millis(delay_ms)))
    })
}

/// A run that has stored something and is not at its end.
fn owner_in_the_middle(db: &TestDb, gecko: &Gecko) -> Running {
    let before = db.number("SELECT COUNT(*) FROM prices");
    // One call at a time, so that the pages come one after the other.
    let mut running = db.ask(PRICES, &gecko.url()).spawn();
    wait_until(|| !running.is_running() || db.number("SELECT COUNT(*) FROM prices") > before);
    assert!(running.is_running(), "over already");
    running
}

fn busy(output: Output) {
    let output = output.expect(75);
    assert!(output.stderr.contains("prices insert is already running for coingecko"), "{output}");
    assert!(output.stderr.contains("--wait"), "{output}");
}

/// Each coin once, whatever happened.
fn complete(db: &TestDb) {
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), COINS as i64);
    assert_eq!(db.number("SELECT COUNT(DISTINCT asset_id) FROM prices"), COINS as i64);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), COINS as i64);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM runs WHERE status = 'running'"), 0);
}

fn the_second_run_is_told_or_waits(db: &TestDb) {
    let gecko = slow(400);
    let owner = owner_in_the_middle(db, &gecko);
    busy(db.ask(PRICES, &gecko.url()).run());
    // Another command is not in the way.
    db.ask(ASSETS, &gecko.url()).run().expect(0);
    let patient = db.ask(PRICES, &gecko.url()).args(["--wait", "30s"]).spawn();
    let owner = owner.wait().expect(0);
    let patient = patient.wait().expect(0);
    assert!(patient.stdout.contains("0 new, 0 changed, 2000 unchanged"), "{owner}\n{patient}");
    complete(db);
    let runs = "SELECT status FROM runs WHERE command = 'prices insert' ORDER BY id";
    assert_eq!(db.lines(runs), ["ok", "ok"], "a run that never was leaves no row");
}

/// Microseconds from the last sign of life to the newest run's begin, by the database's clock.
fn silence_us(db: &TestDb, heartbeat_us: i64) -> i64 {
    let text = &db.lines("SELECT started_at FROM runs ORDER BY id DESC LIMIT 1")[0];
    let begun = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.3f").expect("a time");
    begun.and_utc().timestamp_micros() - heartbeat_us
}

fn a_dead_owner_is_taken_over_after_15_s(db: &TestDb) {
    let gecko = slow(200);
    let mut owner = owner_in_the_middle(db, &gecko);
    owner.kill();
    owner.wait();
    let heartbeat = db.number("SELECT heartbeat_us FROM leases WHERE source = 'coingecko'");
    busy(db.ask(PRICES, &gecko.url()).run());
    busy(db.ask(PRICES, &gecko.url()).args(["--wait", "3s"]).run());
    db.ask(PRICES, &gecko.url()).args(["--wait", "30s"]).run().expect(0);
    let silence = silence_us(db, heartbeat);
    assert!((15_000_000..17_500_000).contains(&silence), "taken over after {silence} us");
    complete(db);
    let runs = db.lines("SELECT status, error FROM runs ORDER BY id");
    assert_eq!(runs, ["failed|the process died; a later run went on", "ok|NULL"]);
}

fn a_sleeping_owner_is_taken_over_and_refused(db: &TestDb) {
    let gecko = slow(250);
    let owner = owner_in_the_middle(db, &gecko);
    // Not in the middle of a transaction: whoever sleeps there holds the row, and SQLite's lock, itself.
    std::thread::sleep(Duration::from_millis(60));
    owner.signal("STOP");
    let heartbeat = db.number("SELECT heartbeat_us FROM leases WHERE source = 'coingecko'");
    let heir = db.ask(PRICES, &gecko.url()).args(["--wait", "40s"]).run().expect(0);
    let silence = silence_us(db, heartbeat);
    assert!((15_000_000..32_000_000).contains(&silence), "taken over after {silence} us\n{heir}");
    let content = "SELECT asset_id, vs_currency, observed_at, price, run_id FROM prices ORDER BY asset_id";
    let before = db.lines(content);
    owner.signal("CONT");
    let output = owner.wait().expect(75);
    assert!(output.stderr.contains("another process took over prices insert"), "{output}");
    assert_eq!(db.lines(content), before, "what the sleeper had in hand is refused");
    complete(db);
    let runs = db.lines("SELECT status, error FROM runs ORDER BY id");
    assert_eq!(runs, ["failed|the process died; a later run went on", "ok|NULL"]);
}

fn a_clock_set_back_holds_nobody_up(db: &TestDb) {
    const HOUR_US: i64 = 3_600_000_000;
    let gecko = slow(10);
    let mut owner = owner_in_the_middle(db, &slow(400));
    // A live owner's next sign of life comes by the new clock.
    db.execute(&format!("UPDATE leases SET heartbeat_us = heartbeat_us + {HOUR_US}"));
    busy(db.ask(PRICES, &gecko.url()).run());
    db.execute(&format!("UPDATE leases SET heartbeat_us = heartbeat_us + {HOUR_US}"));
    owner.kill();
    owner.wait();
    db.execute(&format!("UPDATE leases SET heartbeat_us = heartbeat_us + {HOUR_US}"));
    let output = db.ask(PRICES, &gecko.url()).run().expect(0);
    assert!((3.5..12.0).contains(&output.seconds), "a dead owner from the future\n{output}");
    complete(db);
    // A call slot from the future costs an interval, not an hour.
    let paced = || db.ask(ASSETS, &gecko.url()).env("COINETL_CALLS_PER_MINUTE", "60").run().expect(0);
    paced();
    db.execute(&format!("UPDATE call_slots SET last_call_us = last_call_us + {HOUR_US}"));
    let output = paced();
    assert!(output.seconds < 5.0, "{output}");
    assert!(paced().seconds < 4.0);
}

fn a_signal_ends_the_run_in_order(db: &TestDb) {
    let runs = "SELECT command, status, error FROM runs ORDER BY id DESC LIMIT 1";
    for signal in ["TERM", "INT"] {
        let gecko = slow(300);
        let owner = owner_in_the_middle(db, &gecko);
        owner.signal(signal);
        let output = owner.wait().expect(3);
        assert!(output.seconds < 10.0, "{output}");
        assert_eq!(db.lines(runs), ["prices insert|partial|stopped by a signal; run again to get the rest"]);
        assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
        assert!(db.number("SELECT rows_written FROM runs ORDER BY id DESC LIMIT 1") > 0);
        db.execute("DELETE FROM prices");
    }
    // Before anything came.
    let gecko = slow(3_000);
    let owner = db.ask(PRICES, &gecko.url()).args(["--output", "json"]).spawn();
    wait_until(|| !gecko.stub.requests().is_empty());
    owner.signal("TERM");
    let output = owner.wait().expect(75);
    assert_eq!((&output.json()["status"], &output.json()["calls"]), (&"failed".into(), &1.into()), "{output}");
    assert_eq!(db.number("SELECT calls FROM runs ORDER BY id DESC LIMIT 1"), 1);
    assert_eq!(db.lines(runs), ["prices insert|failed|stopped by a signal; run again to get the rest"]);
    db.ask(PRICES, &slow(0).url()).run().expect(0);
    complete(db);
}

/// Both meet coins that are not stored yet, and both want to add them.
fn different_commands_run_side_by_side(db: &TestDb) {
    let sandbox = SandboxServer::start(["--assets", "3000", "--at", "2026-06-01T00:00:00Z", "--speed", "0"]);
    for round in 0..4 {
        for table in ["prices", "absences", "assets"] {
            db.execute(&format!("DELETE FROM {table}"));
        }
        let both = [PRICES, ASSETS].map(|args| {
            // Not always the same one first.
            std::thread::sleep(Duration::from_millis(20 * round));
            db.ask(args, &sandbox.url()).spawn()
        });
        for running in both {
            running.wait().expect(0);
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 3_000);
        assert_eq!(db.number("SELECT MAX(id) FROM assets"), 3_000);
        assert_eq!(db.number("SELECT COUNT(*) FROM runs WHERE status <> 'ok'"), 0);
    }
}
