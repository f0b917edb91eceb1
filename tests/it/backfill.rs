//! `candles backfill`: what comes out of the source's past, in how many calls, through storms and kills.
//! Markets stand still a day ago, since the vendors' clock decides what is over; expectations are read
//! from the sandbox by the tests themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use rand::RngExt;
use serde_json::Value;

use crate::support::relay::{Relay, ask_directly};
use crate::support::stub::{StubRequest, StubResponse};
use crate::support::test_db::{Backend, TestDb, assert_same, bits};
use crate::support::workdir::{Cmd, SandboxServer, wait_until};

on_every_database!(
    charts_become_prices_and_tell_what_is_covered,
    bars_become_candles_and_the_last_one_is_not_final,
    a_storm_costs_no_answer_twice,
    killed_backfills_are_made_up_for,
    the_wall_is_told_once_and_a_larger_plan_looks_behind_it,
    unusable_records_leave_holes_that_are_asked_for_again,
    unknown_coins_stop_nobody,
    what_was_not_reached_is_a_gap,
    one_coin_s_trouble_is_not_that_of_others,
    a_chart_takes_nobody_s_rank_away,
);

/// So many days ago.
pub fn day(ago: u64) -> NaiveDate {
    Utc::now().date_naive().checked_sub_days(Days::new(ago)).unwrap()
}

pub fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

/// A market that stands still at this time of a day.
pub fn market(ago: u64, time: &str, more: &[&str]) -> SandboxServer {
    let at = format!("{}T{time}Z", day(ago));
    SandboxServer::start(["--assets", "300", "--seed", "3", "--at", &at, "--speed", "0"].iter().chain(more))
}

pub fn relay(ago: u64, time: &str) -> Relay {
    Relay::new(market(ago, time, &[]))
}

fn backfill(timeframe: &str, from: &str, to: &str, ids: &str) -> Vec<String> {
    let words = ["candles", "backfill", "--timeframe", timeframe, "--from", from, "--to", to, "--ids", ids];
    words.map(str::to_owned).to_vec()
}

pub fn ask(relay: &Relay, db: &TestDb, args: &[String]) -> Cmd {
    relay.ask(db, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn coinbase(mut args: Vec<String>) -> Vec<String> {
    args.extend(["--source", "coinbase"].map(str::to_owned));
    args
}

const PRICES: &str = "SELECT a.source_id, p.vs_currency, p.observed_at, p.price, p.market_cap, p.volume_24h \
                      FROM prices p JOIN assets a ON a.id = p.asset_id ORDER BY a.source_id, p.observed_at";
const CANDLES: &str = "SELECT a.source_id, c.vs_currency, c.timeframe, c.open_time, c.open, c.high, c.low, c.close, c.volume, \
                       c.base_volume, c.market_cap, c.samples, c.origin, c.final FROM candles c JOIN assets a ON a.id = c.asset_id \
                       ORDER BY a.source_id, c.vs_currency, c.timeframe, c.open_time";
pub const COVERAGE: &str = "SELECT a.source_id, v.vs_currency, v.timeframe, v.from_time, v.to_time, v.state, v.reason FROM coverage v \
                        JOIN assets a ON a.id = v.asset_id ORDER BY a.source_id, v.vs_currency, v.timeframe, v.from_time";

fn stamp(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis).unwrap().format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn millis(date: NaiveDate) -> i64 {
    date.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_millis()
}

// ---- CoinGecko: points ----

fn charts_become_prices_and_tell_what_is_covered(db: &TestDb) {
    let relay = relay(1, "10:20:30.250");
    ask(&relay, db, &["assets".into(), "upsert".into()]).json(0);
    relay.take();
    let (from, to) = (day(101), day(1));
    let args = backfill("1h", &from.to_string(), &to.to_string(), "bitcoin,aave");
    let planned = db.coinetl(&["plan"]).args(&args).json(0);
    let result = ask(&relay, db, &args).json(0);
    // 100 days are two windows.
    assert_eq!(relay.take().len(), 4);
    assert_eq!((number(&planned, "calls_per_month"), number(&result, "calls")), (4, 4));
    assert_eq!((number(&result, "calls_left"), number(&result, "calls_planned")), (0, 4));

    let (mut expected, mut covered) = (Vec::new(), 0);
    for id in ["aave", "bitcoin"] {
        let (from, to) = (millis(from), millis(to));
        // In one piece of an hour at a time that is not the binary's.
        let mut points: BTreeMap<i64, [String; 3]> = BTreeMap::new();
        for begin in (from..to).step_by(40 * 86_400_000) {
            let (from, to) = (begin / 1000, (begin / 1000 + 40 * 86_400).min(to / 1000));
            let target =
                format!("/api/v3/coins/{id}/market_chart/range?vs_currency=usd&from={from}&to={to}&precision=full");
            let chart = ask_directly(&relay.sandbox, &target);
            for (n, name) in ["prices", "market_caps", "total_volumes"].into_iter().enumerate() {
                for point in chart[name].as_array().unwrap() {
                    let figures = points.entry(point[0].as_i64().unwrap()).or_default();
                    figures[n] = bits(point[1].as_f64().unwrap());
                }
            }
        }
        points.retain(|at, _| (from..to).contains(at));
        let hours: BTreeSet<i64> = points.keys().map(|at| at / 3_600_000).collect();
        covered += hours.len() as i64;
        expected.extend(points.into_iter().map(|(at, figures)| format!("{id} {} {}", stamp(at), figures.join(" "))));
    }
    let text = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    let keys = db.query(PRICES).into_iter().map(text).map(|row| format!("{} {}", row[0], row[2]));
    let figures = "SELECT p.price, p.market_cap, p.volume_24h FROM prices p JOIN assets a ON a.id = p.asset_id \
                   ORDER BY a.source_id, p.observed_at";
    let figures = db.doubles(figures).into_iter().map(|row| text(row).join(" "));
    let stored: Vec<String> = keys.zip(figures).map(|(key, figures)| format!("{key} {figures}")).collect();
    assert!(expected.len() > 4_000);
    assert_same(&stored, &expected);
    assert_eq!(
        (number(&result, "rows_written"), number(&result, "rows_read")),
        (stored.len() as i64, stored.len() as i64)
    );
    // Hours of which the source has no point are known to be so.
    let missing = 2 * 2_400 - covered;
    assert!(missing > 0 && number(&result, "rows_absent") == missing, "{missing}: {result}");
    let state = |state: &str| db.number(&format!("SELECT COUNT(*) FROM coverage WHERE state = '{state}'"));
    assert!(state("empty") > 0 && state("missing") + state("unreachable") == 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 0, "a chart has no bars");
    assert_eq!(db.lines("SELECT DISTINCT source FROM runs WHERE command = 'candles backfill'"), ["sandbox-coingecko"]);

    // All of it is known: no call, and no other word on it.
    let before = db.lines(COVERAGE);
    let again = ask(&relay, db, &args).json(0);
    assert_eq!((number(&again, "calls"), number(&again, "rows_read")), (0, 0));
    assert_eq!((relay.take().len(), &again["source"]), (0, &"sandbox-coingecko".into()));
    assert_same(&db.lines(COVERAGE), &before);
    // A part that was not asked for yet costs its own call alone.
    let more = backfill("1h", &day(121).to_string(), &to.to_string(), "bitcoin");
    assert_eq!(number(&ask(&relay, db, &more).json(0), "calls"), 1);
    // Days of more than three months: one call, one point a day, and the running day's last one.
    let days = backfill("1d", &day(201).to_string(), &day(0).to_string(), "ethereum");
    let result = ask(&relay, db, &days).json(0);
    // 200 days that are over, the midnight of the running one and now, which may come twice.
    let points = number(&result, "rows_written");
    assert!(number(&result, "calls") == 1 && (202..=203).contains(&points), "{result}");
    let covered = db.lines("SELECT from_time, to_time, state FROM coverage WHERE timeframe = '1d'");
    assert_eq!(covered, [format!("{} 00:00:00.000|{} 00:00:00.000|full", day(201), day(1))]);
}

/// By the world's clock: the chart of five minutes ends now.
#[test]
fn the_finest_chart_is_of_the_last_day() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let relay = Relay::new(SandboxServer::start(["--assets", "300", "--seed", "3"]));
    let hours_ago = |hours: i64| (Utc::now() - chrono::Duration::hours(hours)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let args = backfill("15m", &hours_ago(30), &hours_ago(2), "bitcoin");
    let result = ask(&relay, &db, &args).json(0);
    let calls = relay.take_answered();
    assert!(calls.len() == 1 && calls[0].contains("/coins/bitcoin/market_chart?vs_currency=usd&days=1&"), "{calls:?}");
    // Nearly 22 hours of 12 points.
    assert!((230..265).contains(&number(&result, "rows_read")), "{result}");
    let states = "SELECT state, COUNT(*) FROM coverage GROUP BY state ORDER BY state";
    assert!(db.lines(states).contains(&"unreachable|1".to_owned()), "{:?}", db.lines(states));
    assert_eq!(number(&ask(&relay, &db, &args).json(0), "calls"), 0);
}

// ---- Coinbase: bars ----

/// The candles of a product as the exchange tells them, in the form of [`CANDLES`].
fn expected_candles(
    relay: &Relay,
    base: &str,
    granularity: i64,
    name: &str,
    from: i64,
    to: i64,
    now: i64,
) -> Vec<String> {
    let mut rows = BTreeMap::new();
    for begin in (from..to).step_by(200 * granularity as usize) {
        let end = (begin + 199 * granularity).min(to - granularity);
        let target = format!("/products/{base}-USD/candles?granularity={granularity}&start={begin}&end={end}");
        for row in ask_directly(&relay.sandbox, &target).as_array().unwrap() {
            let time = row[0].as_i64().unwrap();
            let number = |at: usize| format!("{:?}", row[at].as_f64().unwrap());
            let is_final = i64::from((time + granularity) * 1000 <= now);
            let [low, high, open, close, volume] = [1, 2, 3, 4, 5].map(number);
            let at = stamp(time * 1000);
            let line =
                format!("{base}|usd|{name}|{at}|{open}|{high}|{low}|{close}|NULL|{volume}|NULL|NULL|source|{is_final}");
            rows.insert(time, line);
        }
    }
    rows.into_iter().filter(|(time, _)| (from..to).contains(time)).map(|(_, line)| line).collect()
}

fn bars_become_candles_and_the_last_one_is_not_final(db: &TestDb) {
    let relay = relay(1, "10:20:30");
    ask(&relay, db, &["assets", "upsert", "--source", "coinbase"].map(str::to_owned)).json(0);
    relay.take();
    let (from, to) = (format!("{}T00:00:00Z", day(1)), format!("{}T12:00:00Z", day(1)));
    let bases = traded(db, &relay, 3);
    let ids = bases.join(",");
    let args = coinbase(backfill("1m", &from, &to, &ids));
    let result = ask(&relay, db, &args).json(0);
    // 621 minutes, the running one included: three windows a coin.
    let calls = relay.take();
    assert_eq!((calls.len(), number(&result, "calls")), (9, 9));
    let begin = millis(day(1)) / 1000;
    let now = (begin + 10 * 3_600 + 20 * 60 + 30) * 1000;
    let expected = |relay: &Relay, now: i64, to: i64| -> Vec<String> {
        bases.iter().flat_map(|base| expected_candles(relay, base, 60, "1m", begin, to, now)).collect()
    };
    let minutes = expected(&relay, now, begin + 12 * 3_600);
    assert!((200..3 * 621).contains(&minutes.len()), "{}", minutes.len());
    assert_same(&db.lines(CANDLES), &minutes);
    let open = db.lines("SELECT DISTINCT open_time FROM candles WHERE final = FALSE");
    assert!(open.iter().all(|open| *open == format!("{} 10:20:00.000", day(1))), "{open:?}");
    // Minutes without a trade are empty, and the running one is open.
    assert_eq!(number(&result, "rows_absent"), 3 * 620 - db.number("SELECT COUNT(*) FROM candles WHERE final = TRUE"));
    let end = db.lines("SELECT DISTINCT MAX(to_time) FROM coverage GROUP BY asset_id");
    assert_eq!(end, [format!("{} 10:20:00.000", day(1))]);

    // The running minute alone is asked for again.
    let again = ask(&relay, db, &args).json(0);
    let calls = relay.take_answered();
    assert_eq!((calls.len(), number(&again, "rows_written")), (3, 0), "{again}");
    let at = format!("{}T10:20:00Z", day(1));
    // Until the first answer the binary goes by its own clock, which is a day ahead.
    assert!(calls.iter().all(|call| call.contains(&format!("granularity=60&start={at}&"))), "{calls:?}");
    assert!(calls[1..].iter().all(|call| call.ends_with(&format!("&end={at}"))), "{calls:?}");

    // Half an hour later it is over, and what was said of it is put right.
    let later = Relay::new(market(1, "10:50:10", &[]));
    let open = db.number("SELECT COUNT(*) FROM candles WHERE final = FALSE");
    let result = ask(&later, db, &args).json(0);
    assert_eq!((later.take().len(), number(&result, "rows_updated")), (3, open));
    assert_same(&db.lines(CANDLES), &expected(&later, now + 29 * 60_000 + 40_000, begin + 12 * 3_600));
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 0);
    // A bar of the source is not replaced by less, nor its coverage asked for again.
    let bounded = coinbase(backfill("1m", &from, &format!("{}T10:50:00Z", day(1)), &ids));
    assert_eq!(number(&ask(&later, db, &bounded).json(0), "calls"), 0);
}

/// Base currencies with a product against the dollar that is traded every now and then.
fn traded(db: &TestDb, relay: &Relay, count: usize) -> Vec<String> {
    let products = ask_directly(&relay.sandbox, "/products");
    let online = |product: &&Value| product["status"] == "online" && product["trading_disabled"] != true;
    let mut bases: Vec<String> = products
        .as_array()
        .unwrap()
        .iter()
        .filter(|product| product["quote_currency"] == "USD")
        .filter(online)
        .map(|product| product["base_currency"].as_str().unwrap().to_owned())
        .collect();
    bases.sort();
    assert!(bases.len() > count && db.number("SELECT COUNT(*) FROM assets") > 0);
    // The best known one is traded every minute, others less often.
    let mut chosen = vec!["BTC".to_owned()];
    chosen.extend(bases.into_iter().filter(|base| base != "BTC").take(count - 1));
    chosen.sort();
    chosen
}

// ---- storms and kills ----

/// The n-th call fails in one way or another, four times in ten.
fn storm(request: &StubRequest, n: usize) -> Option<StubResponse> {
    if !request.target.contains("/market_chart") && !request.target.contains("/candles") {
        return None;
    }
    let dice = (n as u64 + 11).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    match dice % 10 {
        0 => Some(StubResponse::new(429, "application/json", r#"{"message":"slow down"}"#).header("retry-after", "0")),
        1 => Some(StubResponse::error(500)),
        2 => Some(StubResponse::json(r#"{"prices":[[1,2],[3"#)),
        3 => Some(StubResponse::json(r#"[[1780272000,1,2,1,2,5],"#).cut_after(10)),
        _ => None,
    }
}

fn a_storm_costs_no_answer_twice(db: &TestDb) {
    let relay = Relay::with(market(1, "10:20:30", &[]), storm);
    for source in ["coingecko", "coinbase"] {
        ask(&relay, db, &["assets", "upsert", "--source", source].map(str::to_owned)).json(0);
    }
    relay.take();
    let (from, to) = (day(201).to_string(), day(1).to_string());
    let charts = backfill("6h", &from, &to, "bitcoin,ethereum,aave,cardano");
    let bars = coinbase(backfill("1h", &day(41).to_string(), &to, "BTC,ETH"));
    for (args, minimum) in [(charts, 4 * 3), (bars, 2 * 4)] {
        let mut answered = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..8 {
            let output = ask(&relay, db, &args).arg("--output").arg("json").run();
            answered.extend(relay.take_answered());
            ends.push(output.code);
            if output.code == Some(0) {
                break;
            }
            assert!(matches!(output.code, Some(3 | 75)), "{output}");
        }
        assert_eq!(ends.last(), Some(&Some(0)), "{ends:?}");
        assert_eq!(answered.len(), minimum, "{answered:?}");
        let unique: BTreeSet<&String> = answered.iter().collect();
        assert_eq!(unique.len(), minimum, "asked twice: {answered:?}");
    }
    assert_eq!(db.lines("SELECT DISTINCT state FROM coverage WHERE state IN ('missing', 'unreachable')"), [""; 0]);
    // What the storm left is what a calm day brings.
    let calm = TestDb::new(db.backend()).unwrap();
    calm.setup();
    let quiet = Relay::new(market(1, "10:20:30", &[]));
    for source in ["coingecko", "coinbase"] {
        ask(&quiet, &calm, &["assets", "upsert", "--source", source].map(str::to_owned)).json(0);
    }
    ask(&quiet, &calm, &backfill("6h", &from, &to, "bitcoin,ethereum,aave,cardano")).json(0);
    ask(&quiet, &calm, &coinbase(backfill("1h", &day(41).to_string(), &to, "BTC,ETH"))).json(0);
    for table in [PRICES, CANDLES, COVERAGE] {
        assert_same(&db.lines(table), &calm.lines(table));
    }
}

const KILLS: usize = 6;

fn killed_backfills_are_made_up_for(db: &TestDb) {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let slow = move |request: &StubRequest, _: usize| {
        if request.target.contains("/market_chart") || request.target.contains("/candles") {
            seen.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(15));
        }
        None
    };
    let relay = Relay::with(market(1, "10:20:30", &[]), slow);
    let whole = TestDb::new(db.backend()).unwrap();
    whole.setup();
    for (db, source) in [(db, "coingecko"), (db, "coinbase"), (&whole, "coingecko"), (&whole, "coinbase")] {
        ask(&relay, db, &["assets", "upsert", "--source", source].map(str::to_owned)).json(0);
    }
    let to = day(1).to_string();
    let charts = backfill("1h", &day(301).to_string(), &to, "bitcoin,ethereum,aave,cardano,monero");
    let bars = coinbase(backfill("5m", &day(8).to_string(), &to, "BTC,ETH"));
    let mut hits = 0;
    for args in [charts, bars] {
        relay.take();
        ask(&relay, &whole, &args).run().expect(0);
        let minimum = relay.take_answered().len();
        assert!(minimum > 2 * KILLS, "there are calls for all of them: {minimum}");
        for _ in 0..KILLS {
            // Within the next two calls, at any moment of one: before, in and after its answer and its batch.
            let until = asked.load(Ordering::Relaxed) + rand::rng().random_range(1..=2);
            let mut running = ask(&relay, db, &args).spawn();
            while asked.load(Ordering::Relaxed) < until && running.is_running() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..15)));
            hits += usize::from(running.is_running());
            running.kill();
            let output = running.wait();
            assert!(!output.stderr.contains("panicked"), "{output}");
            db.execute("DELETE FROM leases");
        }
        ask(&relay, db, &args).run().expect(0);
        let answered = relay.take_answered();
        // The one in flight is what a kill may lose.
        assert!(answered.len() <= minimum + KILLS, "{} calls for {minimum}: {answered:?}", answered.len());
        assert!(answered.iter().collect::<BTreeSet<_>>().len() == minimum, "{answered:?}");
    }
    assert!(hits > KILLS, "only {hits} came in time");
    for table in [PRICES, CANDLES, COVERAGE] {
        assert_same(&db.lines(table), &whole.lines(table));
    }
    assert_eq!(db.lines("SELECT DISTINCT status FROM runs WHERE status = 'running'"), [""; 0]);
}

// ---- the plan ----

/// By the world's clock, as the wall moves with it.
fn the_wall_is_told_once_and_a_larger_plan_looks_behind_it(db: &TestDb) {
    let relay = Relay::new(SandboxServer::start(["--assets", "300", "--seed", "3"]));
    ask(&relay, db, &["assets".into(), "upsert".into()]).json(0);
    relay.take();
    let (from, to) = (day(400).to_string(), day(1).to_string());
    let args = backfill("1d", &from, &to, "bitcoin,ethereum,monero");
    let output = ask(&relay, db, &args).run().expect(0);
    assert_eq!(output.stderr.matches("last 365 days").count(), 1, "{output}");
    assert!(output.stdout.contains("out of reach"), "{output}");
    assert_eq!(relay.take().len(), 3);
    let reason = "CoinGecko's free plans tell of the last 365 days only";
    let wall = db.lines("SELECT from_time, reason FROM coverage WHERE state = 'unreachable'");
    assert_eq!(wall, vec![format!("{from} 00:00:00.000|{reason}"); 3]);
    let ends = db.lines("SELECT DISTINCT to_time FROM coverage WHERE state = 'unreachable'");
    assert_eq!(ends, [format!("{} 00:00:00.000", day(364))]);
    // Never again: neither as a part of a backfill nor as a gap.
    let before = db.lines(COVERAGE);
    let again = ask(&relay, db, &args).run().expect(0);
    assert!(!again.stderr.contains("365") && !again.stdout.contains("out of reach"), "{again}");
    db.execute("DELETE FROM coverage WHERE state = 'full'");
    let repair = ["gaps", "--repair", "--output", "json"].map(str::to_owned);
    let gaps = ask(&relay, db, &repair).run().expect(0).json();
    assert_eq!((relay.take().len(), number(&gaps["summary"]["unreachable"], "intervals")), (0, 3));
    assert_eq!(gaps["gaps"][0]["state"], "unreachable");
    assert_eq!(gaps["gaps"][0]["reason"], reason);
    assert_ne!(before, db.lines(COVERAGE));

    // Somebody who pays gets bars, of as long ago as there are any.
    let args = backfill("1d", &from, &to, "bitcoin");
    let paid = ask(&relay, db, &args).env("COINETL_TIMEOUT", "20s").env("COINGECKO_PRO_API_KEY", "CG-paid");
    let result = paid.env("COINETL_CREDITS_PER_MONTH", "1000").json(0);
    let calls = relay.take_answered();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(calls.iter().all(|call| call.contains("/coins/bitcoin/ohlc/range?") && call.contains("interval=daily")));
    assert_eq!(number(&result, "rows_written"), 399);
    assert_eq!(db.lines("SELECT DISTINCT origin, final FROM candles"), ["source|1"]);
    let opens = db.lines("SELECT MIN(open_time), MAX(open_time) FROM candles");
    assert_eq!(opens, [format!("{from} 00:00:00.000|{} 00:00:00.000", day(2))]);
    let covered = "SELECT from_time, to_time, state FROM coverage v JOIN assets a ON a.id = v.asset_id \
                   WHERE a.source_id = 'bitcoin'";
    assert_eq!(db.lines(covered), [format!("{from} 00:00:00.000|{to} 00:00:00.000|full")]);
}

/// A paid plan that ends somewhere: found by one refused call, and by none from then on.
#[test]
fn what_a_plan_refuses_is_not_asked_for_piece_by_piece() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let end = millis(day(400)) / 1000;
    let relay = Relay::with(market(1, "10:20:30", &[]), move |request, _| {
        let from = request.number("from").filter(|from| (*from as i64) < end)?;
        assert!(from > 0);
        let body = r#"{"error":{"status":{"error_code":10012,"error_message":"two years are what you have"}}}"#;
        Some(StubResponse::new(401, "application/json", body))
    });
    let paid = |args: &[String]| {
        ask(&relay, &db, args).env("COINGECKO_PRO_API_KEY", "CG-paid").env("COINETL_CREDITS_PER_MONTH", "0")
    };
    paid(&["assets".into(), "upsert".into()]).json(0);
    relay.take();
    // Five windows of 180 days, from the left.
    let (from, to) = (day(801).to_string(), day(1).to_string());
    let args = backfill("1d", &from, &to, "bitcoin,ethereum");
    let result = paid(&args).json(0);
    let calls = relay.take();
    assert_eq!(calls.iter().filter(|call| call.status == Some(200)).count(), 4, "{calls:?}");
    assert_eq!((calls.len(), number(&result, "unreachable"), number(&result, "calls_left")), (5, 2 * 540, 0));
    let wall = db.lines("SELECT from_time, to_time, reason FROM coverage WHERE state = 'unreachable'");
    let reason = "the source's plan refuses it: two years are what you have";
    assert_eq!(wall, vec![format!("{from} 00:00:00.000|{} 00:00:00.000|{reason}", day(261)); 2]);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 2 * 260);
    let again = paid(&args).json(0);
    assert_eq!((relay.take().len(), number(&again, "calls")), (0, 0));
    let gaps = db.coinetl(&["gaps"]).json(0);
    assert_eq!(number(&gaps["summary"]["unreachable"], "candles"), 2 * 540);
}

#[test]
fn what_the_month_does_not_allow_is_refused_beforehand() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let relay = relay(1, "10:20:30");
    ask(&relay, &db, &["assets".into(), "upsert".into()]).json(0);
    relay.take();
    let args = backfill("1h", &day(101).to_string(), &day(1).to_string(), "bitcoin,ethereum");
    // One was spent on the list; four are needed.
    let with = |credits: &str| ask(&relay, &db, &args).env("COINETL_CREDITS_PER_MONTH", credits);
    let refused = with("4").json(75);
    assert!(
        refused["error"].as_str().unwrap().contains("4 more credit(s) are needed and 3 of 4 are left"),
        "{refused}"
    );
    assert_eq!((relay.take().len(), number(&refused, "calls_left")), (0, 4));
    with("5").json(0);
    assert_eq!(relay.take().len(), 4);
    // What is stored costs nothing any more.
    with("5").json(0);
}

// ---- what goes wrong with single coins and records ----

fn unusable_records_leave_holes_that_are_asked_for_again(db: &TestDb) {
    let broken = Relay::new(market(1, "10:20:30", &["--fault", "garbage=1"]));
    let sound = Relay::new(market(1, "10:20:30", &[]));
    for source in ["coingecko", "coinbase"] {
        ask(&sound, db, &["assets", "upsert", "--source", source].map(str::to_owned)).json(0);
    }
    let (from, to) = (day(11).to_string(), day(1).to_string());
    let calm = TestDb::new(db.backend()).unwrap();
    calm.setup();
    for args in [backfill("1h", &from, &to, "bitcoin,aave"), coinbase(backfill("1h", &from, &to, "BTC,ETH"))] {
        let spoilt = ask(&broken, db, &args).json(3);
        let rejected = number(&spoilt, "rows_rejected");
        assert!(rejected > 0, "{spoilt}");
        let counts = number(&spoilt, "rows_written") + number(&spoilt, "rows_unchanged") + rejected;
        assert_eq!(number(&spoilt, "rows_read"), counts);
        assert!(db.number("SELECT COUNT(*) FROM dead_letters") > 0);
        assert!(db.number("SELECT COUNT(*) FROM coverage WHERE state = 'missing'") > 0);
        let healed = ask(&sound, db, &args).json(0);
        assert!(number(&healed, "calls") >= 1, "{healed}");
        assert_eq!(db.number("SELECT COUNT(*) FROM coverage WHERE state = 'missing'"), 0);
        ask(&sound, &calm, &args).json(0);
    }
    for table in [PRICES, CANDLES, COVERAGE] {
        assert_same(&db.lines(table), &calm.lines(table));
    }
}

fn unknown_coins_stop_nobody(db: &TestDb) {
    let relay = relay(1, "10:20:30");
    let (from, to) = (day(11).to_string(), day(1).to_string());
    // Nobody listed any coin yet: those that the source knows are added.
    let args = backfill("1h", &from, &to, "nonsense,bitcoin,Bitcoin,1move token");
    let result = ask(&relay, db, &args).json(3);
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("nonsense in usd") && error.contains("Bitcoin in usd"), "{error}");
    assert!(!error.contains("1move"), "{error}");
    assert_eq!(db.lines("SELECT source_id FROM assets ORDER BY source_id"), ["1move token", "bitcoin"]);
    assert_eq!(db.number("SELECT COUNT(DISTINCT asset_id) FROM prices"), 2);
    // A listed coin that has no pair in this currency: known, and not asked for again.
    ask(&relay, db, &["assets", "upsert", "--source", "coinbase"].map(str::to_owned)).json(0);
    relay.take();
    let mut args = coinbase(backfill("1d", &from, &to, "BTC,ETH"));
    args.extend(["--vs", "usd,gbp,jpy"].map(str::to_owned));
    let result = ask(&relay, db, &args).json(3);
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("BTC in jpy") && !error.contains("gbp") && !error.contains("usd"), "{error}");
    assert_eq!((relay.take().len(), number(&result, "rows_written")), (6, 40));
    let again = ask(&relay, db, &args).json(0);
    assert_eq!((relay.take().len(), number(&again, "calls")), (0, 0));
    let reasons = db.lines("SELECT DISTINCT reason FROM coverage WHERE vs_currency = 'jpy'");
    assert_eq!(reasons, ["the source does not know it: NotFound"]);
}

#[test]
fn a_source_that_is_down_is_not_asked_on_and_on() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let relay = Relay::with(market(1, "10:20:30", &[]), |request, _| {
        request.target.contains("/market_chart").then(|| StubResponse::error(503))
    });
    ask(&relay, &db, &["assets".into(), "upsert".into()]).json(0);
    relay.take();
    let words = ["candles", "backfill", "--timeframe", "1d", "--from", &day(30).to_string()].map(str::to_owned);
    let result = ask(&relay, &db, &words).json(75);
    // Three coins, five tries each.
    assert_eq!((relay.take().len(), number(&result, "rows_read")), (15, 0));
    assert!(result["error"].as_str().unwrap().contains("trouble of its own (HTTP 503)"), "{result}");
    assert!(number(&result, "calls_left") > 250, "{result}");
    // The others are known to be wanted.
    let missing = |why: &str| db.number(&format!("SELECT COUNT(*) FROM coverage WHERE state = 'missing' AND {why}"));
    assert_eq!(missing("reason LIKE 'could not be fetched%'"), 3);
    assert!(missing("reason = 'not fetched yet'") > 250);
}

#[test]
fn what_can_t_be_asked_for_is_told_before_any_call() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let relay = relay(1, "10:20:30");
    let begin = ["candles", "backfill", "--timeframe", "1d", "--from", "2026-01-01"];
    let refused = |args: &[&str], words: &[&str]| {
        let output = relay.ask(&db, args).run().expect(2);
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {output}");
        }
    };
    refused(&["candles", "backfill", "--from", "2026-01-01"], &["--timeframe"]);
    refused(&["candles", "backfill", "--timeframe", "1d"], &["--from"]);
    refused(&["candles", "backfill", "--timeframe", "2d", "--from", "2026-01-01"], &["2d", "1m, 5m, 15m"]);
    refused(&["candles", "backfill", "--timeframe", "1d", "--from", "2026-02-30"], &["2026-02-30", "--from"]);
    refused(&[&begin[..], &["--to", "soon"]].concat(), &["soon", "--to"]);
    refused(&[&begin[..], &["--to", "2026-01-01"]].concat(), &["--from 2026-01-01", "is not before"]);
    refused(&[&begin[..], &["--to", "2025-01-01T10:00:00+02:00"]].concat(), &["2025-01-01 08:00"]);
    refused(&[&begin[..], &["--top", "0"]].concat(), &["--top"]);
    refused(&[&begin[..], &["--top", "5", "--ids", "a"]].concat(), &["--top"]);
    refused(&[&begin[..], &["--ids", "a,,b"]].concat(), &["an id is empty"]);
    refused(&[&begin[..], &["--vs", "us d"]].concat(), &["us d"]);
    refused(&[&begin[..], &["--top", "5"]].concat(), &["prices insert --top"]);
    refused(&begin, &["assets upsert"]);
    refused(&[&begin[..], &["--source", "coinmarketcap"]].concat(), &["coinmarketcap has no past"]);
    refused(&[&begin[..], &["--source", "coinbase", "--top", "5"]].concat(), &["no market cap"]);
    refused(&["candles", "backfill", "--timeframe", "1m", "--from", "2026-01-01"], &["every 5 minutes", "1m"]);
    refused(&["gaps", "--to", "2026-01-01"], &["--from"]);
    refused(&["gaps", "--timeframe", "1d", "--from", "2026-01-02", "--to", "2026-01-01"], &["is not before"]);
    refused(&["gaps", "--repair", "--source", "coinmarketcap"], &["coinmarketcap has no past"]);
    assert!(relay.take().is_empty());
    let planned = db.coinetl(&["plan", "candles", "backfill", "--timeframe", "1m", "--from", "2026-01-01"]).run();
    assert!(planned.code == Some(2) && planned.stderr.contains("every 5 minutes"), "{planned}");
}

#[test]
fn the_past_of_all_coins_or_the_largest() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let relay = relay(1, "10:20:30");
    ask(&relay, &db, &["assets".into(), "upsert".into()]).json(0);
    ask(&relay, &db, &["prices", "insert"].map(str::to_owned)).json(0);
    relay.take();
    let (from, to) = (day(6).to_string(), day(1).to_string());
    let words = ["candles", "backfill", "--timeframe", "1d", "--from", &from, "--to", &to];
    let top = relay.ask(&db, &[&words[..], &["--top", "5"]].concat()).json(0);
    assert_eq!((number(&top, "calls"), relay.take().len()), (5, 5));
    let ranked =
        "SELECT COUNT(*) FROM coverage v JOIN latest_prices l ON l.asset_id = v.asset_id WHERE l.market_cap_rank <= 5";
    assert_eq!(db.number(ranked), 5);
    let plan = db.coinetl(&[&["plan"], &words[..]].concat()).json(0);
    let all = relay.ask(&db, &words).arg("-v").json(0);
    assert_eq!((number(&all, "calls"), number(&plan, "calls_per_month")), (295, 295));
    assert_eq!(relay.take().len(), 295);
    assert_eq!(db.number("SELECT COUNT(DISTINCT asset_id) FROM coverage"), 300);
    // Coins without a market have no past, and that is known.
    assert!(db.number("SELECT COUNT(*) FROM coverage WHERE state = 'empty'") > 0);
    assert_eq!(number(&relay.ask(&db, &words).json(0), "calls"), 0);
}

/// Stopped while it waits for its second answer.
fn what_was_not_reached_is_a_gap(db: &TestDb) {
    let slow = Arc::new(AtomicBool::new(true));
    let (calls, is_slow) = (AtomicUsize::new(0), slow.clone());
    let relay = Relay::with(market(1, "10:20:30", &[]), move |request, _| {
        if request.target.contains("/market_chart") && is_slow.load(Ordering::SeqCst) {
            let hangs = calls.fetch_add(1, Ordering::SeqCst) % 2 == 1;
            return hangs.then(|| StubResponse::error(500).delay(Duration::from_secs(20)));
        }
        None
    });
    let (from, to) = (day(101).to_string(), day(1).to_string());
    let stop = |ids: &str, calls: usize, how: &str| {
        let running = ask(&relay, db, &backfill("1h", &from, &to, ids)).spawn();
        wait_until(|| {
            relay.stub.requests().iter().filter(|call| call.target.contains("/market_chart")).count() == calls
        });
        running.signal(how);
        running.wait();
        db.execute("DELETE FROM leases");
    };
    let known = "SELECT a.source_id, v.state, v.reason FROM coverage v JOIN assets a ON a.id = v.asset_id \
                 WHERE v.state = 'missing' ORDER BY a.source_id";
    // Two windows a coin; of one that nobody listed.
    stop("bitcoin,aave", 2, "TERM");
    assert_eq!(db.lines(known), ["bitcoin|missing|not fetched yet"]);
    ask(&relay, db, &["assets".into(), "upsert".into()]).json(0);
    stop("bitcoin,ethereum,aave", 4, "KILL");
    assert_eq!(db.lines(known), ["aave|missing|not fetched yet", "ethereum|missing|not fetched yet"]);
    slow.store(false, Ordering::SeqCst);
    let gaps = db.coinetl(&["gaps", "--source", "coingecko", "--ids", "aave,ethereum"]).json(3);
    assert_eq!(number(&gaps["summary"]["missing"], "candles"), 2 * 100 * 24);
    relay.take();
    let repaired = ask(&relay, db, &["gaps".into(), "--repair".into()]).json(3);
    assert_eq!((number(&repaired, "calls"), relay.take_answered().len()), (4, 4));
    let error = repaired["error"].as_str().unwrap();
    assert!(error.contains("see the reasons"), "only folding is left: {repaired}");
    assert_eq!(db.lines(known), [""; 0]);
}

fn one_coin_s_trouble_is_not_that_of_others(db: &TestDb) {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = failing.clone();
    let relay = Relay::with(market(1, "10:20:30", &[]), move |request, _| {
        let bad = request.target.contains("/coins/bitcoin/market_chart") && fails.load(Ordering::SeqCst);
        bad.then(|| StubResponse::error(500))
    });
    ask(&relay, db, &["assets".into(), "upsert".into()]).json(0);
    ask(&relay, db, &backfill("1h", &day(40).to_string(), &day(30).to_string(), "bitcoin")).json(0);
    relay.take();
    failing.store(true, Ordering::SeqCst);
    let before = db.lines(COVERAGE);
    let args = backfill("1h", &day(341).to_string(), &day(1).to_string(), "bitcoin,ethereum");
    let result = ask(&relay, db, &args).json(3);
    let calls = relay.take();
    // Two windows in five tries each, and all of the other's.
    assert_eq!(calls.iter().filter(|call| call.status.is_none()).count(), 10);
    assert_eq!(calls.iter().filter(|call| call.status == Some(200)).count(), 4, "{calls:?}");
    assert_eq!(number(&result, "calls_left"), 4, "{result}");
    // What was known of the failed windows is known still.
    let after = db.lines(COVERAGE);
    assert!(before.iter().all(|line| after.contains(line)), "{before:?} {after:?}");
    let reasons = "SELECT DISTINCT v.state FROM coverage v JOIN assets a ON a.id = v.asset_id WHERE a.source_id = 'ethereum' \
                   AND v.state = 'missing'";
    assert_eq!(db.lines(reasons), [""; 0]);
    failing.store(false, Ordering::SeqCst);
    ask(&relay, db, &args).json(0);
    assert_eq!(db.number("SELECT COUNT(*) FROM coverage WHERE state = 'missing'"), 0);
}

fn a_chart_takes_nobody_s_rank_away(db: &TestDb) {
    let snapshot = relay(1, "10:20:30");
    ask(&snapshot, db, &["prices", "insert", "--top", "20"].map(str::to_owned)).json(0);
    let later = relay(1, "12:20:30");
    let words = ["candles", "backfill", "--timeframe", "1h", "--from", &day(2).to_string(), "--top", "3"];
    ask(&later, db, &words.map(str::to_owned)).json(0);
    assert_eq!(db.number("SELECT COUNT(*) FROM latest_prices WHERE market_cap_rank IS NULL"), 3);
    later.take();
    let words = words.map(|word| if word == "1h" { "1d" } else { word });
    let result = ask(&later, db, &words.map(str::to_owned)).json(0);
    assert_eq!((later.take().len(), number(&result, "calls")), (3, 3));
    let gaps = db.coinetl(&["gaps", "--source", "coingecko", "--top", "3"]).json(3);
    let coins = |rows: &Value| -> BTreeSet<String> {
        rows.as_array().unwrap().iter().map(|row| row["asset"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(coins(&gaps["gaps"]).len(), 3);
    let out = db.workdir().file("out");
    db.coinetl(&["export", "prices", "--format", "csv", "--top", "3", "--out"]).arg(&out).run().expect(0);
    let exported = std::fs::read_to_string(out.join("prices.csv")).unwrap();
    let ids = exported.lines().skip(1).map(|line| line.split(',').nth(1).unwrap());
    assert_eq!(ids.collect::<BTreeSet<_>>(), coins(&gaps["gaps"]).iter().map(String::as_str).collect());
    // Where nobody has a rank, nothing is looked at, and that is an error.
    let output = db.coinetl(&["gaps", "--source", "coingecko", "--vs", "eur", "--top", "3"]).run().expect(2);
    assert!(output.stderr.contains("no ranks are stored"), "{output}");
}
