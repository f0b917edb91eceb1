//! `kill -9` at any moment, run it again, and every table but `runs` is that of an undisturbed run.

use std::time::Duration;

use rand::RngExt;

use crate::support::test_db::{TestDb, assert_same};
use crate::support::workdir::SandboxServer;

const KILLS: usize = 8;
/// The other vendors go the same way from the wire on.
const KILLS_OF_OTHERS: usize = 3;

on_every_database!(
    killed_runs_leave_nothing_lost_and_nothing_doubled,
    killed_runs_of_coinmarketcap_are_made_up_for,
    killed_runs_of_coinbase_are_made_up_for,
);

/// Everything but run ids and our own stamps: of coins without a time of their own each run is an
/// observation.
const TABLES: [&str; 5] = [
    "SELECT id, source, source_id, symbol, name, active FROM assets ORDER BY id",
    "SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, \
     total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d FROM prices \
     WHERE observed_at < '2026-06-02 00:00:00.000' \
     ORDER BY asset_id, vs_currency, observed_at",
    "SELECT source, currency, observed_at, per_usd FROM fx_rates ORDER BY source, currency, observed_at",
    "SELECT source, topic, partition_id, offset_id, payload, error FROM dead_letters ORDER BY id",
    "SELECT asset_id, vs_currency FROM absences ORDER BY asset_id, vs_currency",
];

fn killed_runs_leave_nothing_lost_and_nothing_doubled(db: &TestDb) {
    killed(db, "coingecko", KILLS);
}

fn killed_runs_of_coinmarketcap_are_made_up_for(db: &TestDb) {
    killed(db, "coinmarketcap", KILLS_OF_OTHERS);
}

fn killed_runs_of_coinbase_are_made_up_for(db: &TestDb) {
    killed(db, "coinbase", KILLS_OF_OTHERS);
    // Each run is an observation of its own here, a killed one too if it came so far: all say the same.
    let differing = "SELECT COUNT(*) FROM (SELECT asset_id, vs_currency FROM prices \
                     GROUP BY asset_id, vs_currency HAVING MIN(price) <> MAX(price)) d";
    assert_eq!(db.number(differing), 0);
    let coins = "SELECT COUNT(*) FROM (SELECT DISTINCT asset_id, vs_currency FROM prices) d";
    let newest = "SELECT COUNT(*) FROM prices WHERE run_id = (SELECT MAX(id) FROM runs)";
    assert!(db.number(coins) > 300 && db.number(newest) == db.number(coins));
}

fn killed(db: &TestDb, source: &str, kills: usize) {
    let market = ["--assets", "4000", "--at", "2026-06-01T00:00:00Z", "--speed", "0"];
    let sandbox = SandboxServer::start(market);
    let host = format!("http://{}", sandbox.address());
    let ask = |db: &TestDb, args: &[&str]| {
        let cmd = db.ask(args, &sandbox.url()).args(["--source", source]);
        cmd.env("COINMARKETCAP_API_URL", &host).env("COINBASE_API_URL", &host)
    };
    let whole = TestDb::new(db.backend()).expect("the same kind of database");
    whole.setup();
    let mut moments = Vec::new();
    let mut hits = 0;
    for args in [&["assets", "upsert"][..], &["prices", "insert", "--vs", "usd,eur"]] {
        let undisturbed = ask(&whole, args).run().expect(0).seconds;
        let mut spread = undisturbed;
        for _ in 0..kills {
            let after = rand::rng().random_range(0.0..spread);
            moments.push(format!("{} after {after:.3} s", args[0]));
            let mut running = ask(db, args).spawn();
            std::thread::sleep(Duration::from_secs_f64(after));
            if running.is_running() {
                hits += 1;
            } else {
                // Faster this time: the next blow comes earlier.
                spread = spread.min(after).max(0.05);
            }
            running.kill();
            let output = running.wait();
            assert!(!output.stderr.contains("panicked"), "{output}");
            // Nobody here needs to wait 15 s: that the dead are taken over in time is shown elsewhere.
            db.execute("DELETE FROM leases");
        }
        ask(db, args).run().expect(0);
    }
    assert!(hits >= kills / 2, "only {hits} of {moments:?} came in time");
    for sql in TABLES {
        let (killed, undisturbed) = (db.lines(sql), whole.lines(sql));
        if killed != undisturbed {
            eprintln!("killed: {moments:?}");
        }
        assert_same(&killed, &undisturbed);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
    assert_eq!(db.lines("SELECT DISTINCT status FROM runs WHERE status = 'running'"), [""; 0]);
}
