//! Exchange rates: one call with the prices of all coins, and amounts converted by what it told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coinetl::db::fx::{self, Conversion, Series};
use coinetl::db::{Connection, Session};
use coinetl::domain::{Rate, Stamp};
use serde_json::{Value, json};

use crate::support::gecko::{Gecko, Record};
use crate::support::recordings::recordings;
use crate::support::stub::{StubRequest, StubResponse};
use crate::support::test_db::{TestDb, assert_same, bits};
use crate::support::workdir::{SandboxServer, wait_until};

on_every_database!(
    a_run_of_all_coins_stores_the_rates_of_one_call,
    a_call_that_fails_costs_no_price,
    rates_are_asked_for_while_pages_are,
    a_rate_that_cant_be_used_is_kept_and_costs_itself,
    killed_at_the_rates_all_are_there_in_the_end,
    the_sandbox_serves_a_rate_for_each_of_its_currencies,
    the_rate_of_a_moment_is_the_newest_of_the_day_before_it,
    amounts_are_converted_by_way_of_the_dollar,
    recorded_answers_are_understood
);

const INSERT: &[&str] = &["prices", "insert"];
const PATH: &str = "/api/v3/simple/price";
const ALL: &str = "SELECT source, currency, observed_at, per_usd FROM fx_rates ORDER BY source, currency, observed_at";

fn asked(gecko: &Gecko) -> Vec<StubRequest> {
    gecko.take_calls().into_iter().filter(|call| call.path == PATH).collect()
}

/// A market of 30 coins that answers the call for rates like this.
fn answering(rates: impl Fn() -> StubResponse + Send + Sync + 'static) -> Gecko {
    let records = (0..30).map(Record::usual).collect();
    Gecko::with(records, move |request, _| (request.path == PATH).then(&rates))
}

fn a_run_of_all_coins_stores_the_rates_of_one_call(db: &TestDb) {
    let gecko = answering(|| {
        let told = r#"{"bitcoin":{"eur":54181.123456789,"usd":62999.5,"btc":1.0,"clam":6.1e-7,"jpy":null,
                       "usd_24h_vol":5,"zzz":3,"last_updated_at":1789550040}}"#;
        StubResponse::json(told)
    });
    let result = db.ask(INSERT, &gecko.url()).args(["--vs", "usd,clam"]).json(0);
    // Rates are no prices: the counts are those of the coins.
    assert_eq!((&result["rows_read"], &result["rows_written"], &result["calls"]), (&60.into(), &60.into(), &3.into()));
    let calls = asked(&gecko);
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert_eq!((call.param("ids"), call.param("precision")), (Some("bitcoin"), Some("full")));
    assert_eq!(call.param("include_last_updated_at"), Some("true"));
    let currencies: Vec<&str> = call.param("vs_currencies").unwrap().split(',').collect();
    // What prices are asked in is asked for, known to us or not.
    assert_eq!(currencies.len(), 64);
    assert!(["usd", "eur", "sats", "clam"].iter().all(|code| currencies.contains(code)));
    let stored = || db.lines("SELECT source, currency, observed_at FROM fx_rates ORDER BY currency");
    let expected = ["btc", "clam", "eur", "usd"].map(|code| format!("coingecko|{code}|2026-09-16 09:14:00.000"));
    assert_eq!(stored(), expected);
    let rates = db.doubles("SELECT per_usd FROM fx_rates ORDER BY currency").concat();
    let expected = [1.0 / 62_999.5, 6.1e-7 / 62_999.5, 54_181.123456789 / 62_999.5, 1.0];
    assert_eq!(rates, expected.map(|rate| Some(bits(rate))));

    // Told again, nothing changes; of other numbers for the same moment, the newer ones stay.
    let before = db.lines(ALL);
    db.ask(INSERT, &gecko.url()).args(["--vs", "usd,clam"]).json(0);
    assert_eq!(db.lines(ALL), before);
    let corrected = answering(|| StubResponse::json(r#"{"bitcoin":{"eur":3,"usd":2,"last_updated_at":1789550040}}"#));
    db.ask(INSERT, &corrected.url()).json(0);
    assert_eq!(db.lines("SELECT per_usd FROM fx_rates WHERE currency = 'eur'"), ["1.5"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM fx_rates"), 4);

    // Not with some of the coins, and not when it is not wanted.
    gecko.take_calls();
    for args in [&["--top", "5"][..], &["--ids", "coin-00001"], &["--no-fx"], &["--no-fx", "--vs", "eur"]] {
        let result = db.ask(INSERT, &gecko.url()).args(args).json(0);
        assert_eq!((asked(&gecko).len(), &result["calls"]), (0, &1.into()), "{args:?}");
    }
    // Without a time of its own it is the run's.
    let untimed = answering(|| StubResponse::json(r#"{"bitcoin":{"eur":3,"usd":2}}"#));
    let run_id = db.ask(INSERT, &untimed.url()).json(0)["run_id"].as_i64().unwrap();
    let ours =
        format!("SELECT COUNT(*) FROM fx_rates f JOIN runs r ON r.started_at = f.observed_at WHERE r.id = {run_id}");
    assert_eq!(db.number(&ours), 2);
}

/// Those of a daily run should be from before most of its prices, which are converted with them.
fn rates_are_asked_for_while_pages_are(db: &TestDb) {
    let gecko = Gecko::usual(2_600);
    let paths = |gecko: &Gecko| gecko.take_calls().into_iter().map(|call| call.path).collect::<Vec<_>>();
    db.ask(INSERT, &gecko.url()).json(0);
    let calls = paths(&gecko);
    let place = calls.iter().position(|path| path == PATH).unwrap();
    assert!((1..=5).contains(&place) && calls.len() >= 12, "{calls:?}");
    // Where the first page fails, they come when others came.
    let failing = Gecko::with((0..600).map(Record::usual).collect(), |request, _| {
        (request.number("page") == Some(1)).then(|| StubResponse::error(500))
    });
    db.ask(&["assets", "upsert"], &Gecko::usual(600).url()).arg("--allow-shrink").json(0);
    db.execute("DELETE FROM fx_rates");
    let result = db.ask(INSERT, &failing.url()).json(3);
    assert!(!result["error"].as_str().unwrap().contains("exchange rates"), "{result}");
    assert_eq!((db.number("SELECT COUNT(*) FROM fx_rates"), asked(&failing).len()), (4, 1));
}

fn a_call_that_fails_costs_no_price(db: &TestDb) {
    type Answering = fn() -> StubResponse;
    let answers: [(&str, Answering); 7] = [
        ("HTTP 500", || StubResponse::error(500)),
        ("HTTP 401", || StubResponse::new(401, "application/json", r#"{"error":"no"}"#)),
        ("has no simple/price", || StubResponse::new(404, "application/json", r#"{"error":"Incorrect path."}"#)),
        ("no price of anything is in it", || StubResponse::json("{}")),
        ("not JSON", || StubResponse::new(200, "text/html", "<html>")),
        ("slow down", || StubResponse::json(r#"{"status":{"error_code":429,"error_message":"slow down"}}"#)),
        ("ends in the middle", || StubResponse::json(r#"{"bitcoin":{"usd":1"#)),
    ];
    for (reason, answer) in answers {
        db.execute("DELETE FROM prices");
        let gecko = answering(answer);
        let result = db.ask(INSERT, &gecko.url()).json(3);
        assert_eq!((&result["status"], &result["rows_written"]), (&"partial".into(), &30.into()), "{reason}");
        let error = result["error"].as_str().unwrap();
        assert!(error.starts_with("the exchange rates failed: ") && error.contains(reason), "{reason}: {error}");
        assert_eq!(result["calls"], gecko.take_calls().len());
        assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 30);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM fx_rates"), 0);
    // Where no price came, none is asked for.
    let down = Gecko::with(Vec::new(), |request, _| (request.path != PATH).then(|| StubResponse::error(500)));
    db.ask(INSERT, &down.url()).json(75);
    assert_eq!(asked(&down).len(), 0);
    // The budget that the prices used up is told, and they stay: one page, and two tries of the rates.
    db.ask(&["assets", "upsert"], &Gecko::usual(30).url()).json(0);
    let dear = answering(|| StubResponse::error(503));
    let used: i64 = db.lines("SELECT credits FROM runs").iter().map(|credits| credits.parse::<i64>().unwrap()).sum();
    let result = db.ask(INSERT, &dear.url()).env("COINETL_CREDITS_PER_MONTH", (used + 3).to_string());
    let result = result.json(3);
    assert_eq!((&result["rows_unchanged"], &result["calls"]), (&30.into(), &3.into()));
    assert!(result["error"].as_str().unwrap().contains("budget is spent"), "{result}");
    // The next run has them.
    db.ask(INSERT, &Gecko::usual(30).url()).json(0);
    assert_eq!(db.number("SELECT COUNT(*) FROM fx_rates"), 4);
}

fn a_rate_that_cant_be_used_is_kept_and_costs_itself(db: &TestDb) {
    let told = r#"{"bitcoin":{"usd":62999,"eur":"NaN","gbp":0,"aud":90000,"last_updated_at":1789550040}}"#;
    let gecko = answering(move || StubResponse::json(told));
    for _ in 0..2 {
        let result = db.ask(INSERT, &gecko.url()).json(3);
        assert_eq!((&result["rows_read"], &result["rows_rejected"]), (&32.into(), &2.into()));
        assert_eq!(db.lines("SELECT currency FROM fx_rates ORDER BY currency"), ["aud", "usd"]);
        let letters = db.query("SELECT topic, error, payload FROM dead_letters ORDER BY error");
        assert_eq!(letters.len(), 2);
        for (letter, code) in letters.iter().zip(["eur", "gbp"]) {
            assert_eq!(letter[0].as_deref(), Some("simple/price"));
            assert!(letter[1].as_deref().unwrap().starts_with(&format!("the rate of {code}: ")), "{letter:?}");
            assert_eq!(letter[2].as_deref(), Some(&told[1..told.len() - 1]));
        }
    }
    // Without the dollar there is nothing to hold the others against.
    db.execute("DELETE FROM dead_letters");
    for (body, reason) in [
        (r#"{"bitcoin":{}}"#, "no price in usd"),
        (r#"{"bitcoin":{"eur":1}}"#, "no price in usd"),
        (r#"{"ethereum":{"usd":1}}"#, "not bitcoin"),
        (r#"{"bitcoin":{"usd":NaN}}"#, "expected value"),
    ] {
        db.execute("DELETE FROM fx_rates; DELETE FROM dead_letters");
        let result = db.ask(INSERT, &answering(move || StubResponse::json(body)).url()).json(3);
        assert_eq!((&result["rows_unchanged"], &result["rows_rejected"]), (&30.into(), &1.into()));
        assert!(db.lines("SELECT error FROM dead_letters")[0].contains(reason), "{body}");
        assert_eq!(db.number("SELECT COUNT(*) FROM fx_rates"), 0);
    }
}

/// Killed while it waits for the rates, and at moments after they came.
fn killed_at_the_rates_all_are_there_in_the_end(db: &TestDb) {
    let whole = TestDb::new(db.backend()).unwrap();
    whole.setup();
    let gecko = Gecko::usual(300);
    whole.ask(INSERT, &gecko.url()).json(0);
    let (expected, prices) = (whole.lines(ALL), "SELECT asset_id, observed_at, price FROM prices ORDER BY asset_id");
    assert_eq!(expected.len(), 4);

    let delay = std::sync::Arc::new(AtomicU64::new(300));
    let waiting = {
        let delay = delay.clone();
        let records = (0..300).map(Record::usual).collect();
        Gecko::with(records, move |request, _| {
            let wait = Duration::from_millis(delay.load(Ordering::SeqCst));
            let told =
                r#"{"bitcoin":{"usd":64000,"eur":56000.5,"btc":1.0,"sats":100000000.0,"last_updated_at":1789550040}}"#;
            (request.path == PATH).then(|| StubResponse::json(told).delay(wait))
        })
    };
    for (held_back, after) in [(300, 0), (0, 0), (0, 1), (0, 2), (0, 4), (0, 8), (0, 16)] {
        db.execute("DELETE FROM fx_rates; DELETE FROM leases");
        delay.store(held_back, Ordering::SeqCst);
        waiting.take_calls();
        let mut running = db.ask(INSERT, &waiting.url()).spawn();
        wait_until(|| waiting.stub.requests().iter().any(|call| call.path == PATH) || !running.is_running());
        std::thread::sleep(Duration::from_millis(after));
        running.kill();
        running.wait();
        // All of the answer or nothing.
        let stored = db.number("SELECT COUNT(*) FROM fx_rates");
        assert!(stored == 0 || (stored == 4 && held_back == 0), "{stored} after {after} ms");
    }
    db.execute("DELETE FROM leases");
    db.ask(INSERT, &gecko.url()).json(0);
    assert_same(&db.lines(ALL), &expected);
    assert_same(&db.lines(prices), &whole.lines(prices));
}

fn get(url: &str) -> Value {
    use std::io::{Read, Write};
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: it/1\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|err| panic!("{url}: {err} in {answer}"))
}

fn the_sandbox_serves_a_rate_for_each_of_its_currencies(db: &TestDb) {
    let sandbox = SandboxServer::start(["--assets", "300", "--at", "2026-09-16T09:14:20Z", "--speed", "0"]);
    let known = get(&format!("{}/simple/supported_vs_currencies", sandbox.url()));
    let mut known: Vec<&str> = known.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    known.sort_unstable();
    db.ask(INSERT, &sandbox.url()).json(0);
    assert_eq!(db.lines("SELECT currency FROM fx_rates WHERE source = 'sandbox-coingecko' ORDER BY currency"), known);
    let target = format!("{}/simple/price?ids=bitcoin&vs_currencies={}", sandbox.url(), known.join(","));
    let told = &get(&format!("{target}&include_last_updated_at=true&precision=full"))["bitcoin"];
    let price = |code: &str| told[code].as_f64().unwrap_or_else(|| panic!("{code} in {told}"));
    let rates: Vec<_> = known.iter().map(|code| Some(bits(price(code) / price("usd")))).collect();
    assert_eq!(db.doubles("SELECT per_usd FROM fx_rates ORDER BY currency").concat(), rates);
    let at = Stamp::from_millis(told["last_updated_at"].as_i64().unwrap() * 1_000).unwrap();
    assert_eq!(db.lines("SELECT DISTINCT observed_at FROM fx_rates"), [at.to_string()]);
    // In the process it is the same.
    db.ask(INSERT, "http://127.0.0.1:9/api/v3").args(["--sandbox", "--no-fx"]).json(0);
    assert_eq!(db.number("SELECT COUNT(*) FROM fx_rates"), 63);
    db.ask(INSERT, "http://127.0.0.1:9/api/v3").arg("--sandbox").json(0);
    assert_eq!(db.number("SELECT COUNT(*) FROM fx_rates"), 126);
    for source in ["coinmarketcap", "coinbase"] {
        db.ask(INSERT, "http://127.0.0.1:9/api/v3").args(["--sandbox", "--source", source]).json(0);
    }
    assert_eq!(db.lines("SELECT DISTINCT source FROM fx_rates"), ["sandbox-coingecko"]);
}

fn stamp(text: &str) -> Stamp {
    Stamp::parse(text).unwrap()
}

/// The library's connection, with these rates (currency, time, per dollar) of `coingecko`.
fn with_rates(db: &TestDb, rates: &[(&str, &str, f64)]) -> Session {
    let mut session = Session::begin(db.open(), "test", "coingecko", Duration::ZERO).unwrap();
    for (currency, at, per_usd) in rates {
        let rate = Rate { currency: (*currency).into(), per_usd: *per_usd };
        session.batch(|batch| fx::store(batch, "coingecko", stamp(at), std::slice::from_ref(&rate))).unwrap();
    }
    session
}

fn the_rate_of_a_moment_is_the_newest_of_the_day_before_it(db: &TestDb) {
    let rates = [
        ("eur", "2026-05-01T00:00:00Z", 0.5),
        ("eur", "2026-05-01T12:00:00.001Z", 0.75),
        ("eur", "2026-05-29T00:00:00Z", 5.8e-21),
        ("EUR", "2026-05-01T00:00:00Z", 7.0),
    ];
    let mut session = with_rates(db, &rates);
    let conn = session.conn();
    let (from, to) = (stamp("2026-04-30T00:00:00Z"), stamp("2026-06-01T00:00:00Z"));
    let series = Series::load(conn, "coingecko", "eur", from, to).unwrap();
    let mut conversion = Conversion::new("coingecko", "eur");
    for (time, expected) in [
        ("2026-04-30T23:59:59.999Z", None),
        ("2026-05-01T00:00:00Z", Some(0.5)),
        ("2026-05-01T12:00:00Z", Some(0.5)),
        ("2026-05-01T12:00:00.001Z", Some(0.75)),
        ("2026-05-02T12:00:00.001Z", Some(0.75)),
        ("2026-05-02T12:00:00.002Z", None),
        ("2026-05-29T23:59:59Z", Some(5.8e-21)),
        ("2026-05-30T00:00:00.001Z", None),
    ] {
        let time_stamp = stamp(time);
        assert_eq!(fx::rate_at(conn, "coingecko", "eur", time_stamp).unwrap(), expected, "{time}");
        assert_eq!(series.at(time_stamp), expected, "{time}");
        let factor = conversion.factor(conn, "usd", time_stamp).unwrap();
        assert_eq!(factor.map(|factor| (factor.times, factor.over)), expected.map(|rate| (rate, 1.0)), "{time}");
    }
    let noon = stamp("2026-05-01T12:00:00Z");
    assert_eq!(fx::rate_at(conn, "coinbase", "eur", noon).unwrap(), None);
    assert_eq!(fx::rate_at(conn, "coingecko", "gbp", noon).unwrap(), None);
    assert_eq!(fx::rate_at(conn, "coinbase", "usd", noon).unwrap(), Some(1.0));
    assert!(fx::rate_at(conn, "coingecko", "eur", Stamp::from_millis(0).unwrap()).unwrap().is_none());
}

fn amounts_are_converted_by_way_of_the_dollar(db: &TestDb) {
    // Hourly rates of two years, and of a third currency a single one.
    let began = stamp("2024-03-01T00:00:00Z");
    let mut session = with_rates(db, &[("chf", "2024-03-01T00:30:00Z", 0.9)]);
    let rate_of = |hour: i64| 0.8 + (hour % 1_000) as f64 / 10_000.0;
    for first in (0..2 * 365 * 24).step_by(500) {
        session
            .batch(|batch| {
                for hour in first..first + 500 {
                    let rate = Rate { currency: "eur".into(), per_usd: rate_of(hour) };
                    fx::store(batch, "coingecko", began.plus(hour * 3_600_000), &[rate])?;
                }
                Ok(())
            })
            .unwrap();
    }
    let conn: &mut Connection = session.conn();
    let mut conversion = Conversion::new("coingecko", "eur");
    // Rows in the order of their times, every minute of them, over the borders of what is read at once.
    for minute in 0..3 * 31 * 24 * 60 {
        let time = began.plus(minute * 60_000 + 59_999);
        let factor = conversion.factor(conn, "usd", time).unwrap().expect("a rate");
        assert_eq!(factor.apply(100.0), Some(100.0 * rate_of(minute / 60)));
    }
    let mut factor = |to: &mut Conversion, from: &str, time: Stamp| to.factor(conn, from, time).unwrap();
    let time = began.plus(3_600_000);
    assert_eq!(factor(&mut conversion, "eur", time.plus(-99_999_999)).unwrap().apply(5.8e-21), Some(5.8e-21));
    let crossed = factor(&mut conversion, "chf", time).unwrap();
    assert_eq!(crossed.apply(9.0), Some(9.0 * rate_of(1) / 0.9));
    let to_usd = factor(&mut Conversion::new("coingecko", "usd"), "chf", time).unwrap();
    assert_eq!(to_usd.apply(0.9), Some(1.0));
    // Both rates are needed.
    assert_eq!(factor(&mut conversion, "chf", time.plus(24 * 3_600_000)), None);
    assert_eq!(factor(&mut conversion, "gbp", time), None);
    assert_eq!(factor(&mut Conversion::new("coinmarketcap", "eur"), "usd", time), None);
    // In any order, too: far apart, back and forth, more often than anything is kept.
    for n in 0..600 {
        let hour = (n * 7_919) % (2 * 365 * 24);
        let found = factor(&mut conversion, "usd", began.plus(hour * 3_600_000)).unwrap();
        assert_eq!(found.times, rate_of(hour));
    }
}

fn recorded_answers_are_understood(db: &TestDb) {
    let Some(folder) = recordings("coingecko") else { return };
    let body: Mutex<Vec<u8>> = Mutex::default();
    let body = std::sync::Arc::new(body);
    let gecko = {
        let body = body.clone();
        answering(move || StubResponse::json(body.lock().unwrap().clone()))
    };
    // Recorded for other currencies than we ask for, so what they lack is without a rate.
    for (file, code, rates) in [
        ("simple_price_3coins_2026-07-09.json", 0, json!(["usd|1.0"])),
        ("simple_price_space_in_ids_2021-05-15.json", 0, json!(["usd|1.0"])),
        ("simple_price_bitcoin_eth_2021-08-13.json", 3, json!([])),
        ("simple_price_unknown_vs_currency_2021-05-15.json", 3, json!([])),
    ] {
        db.execute("DELETE FROM fx_rates");
        *body.lock().unwrap() = std::fs::read(folder.join("simple_price").join(file)).unwrap();
        db.ask(INSERT, &gecko.url()).json(code);
        assert_eq!(json!(db.lines("SELECT currency, per_usd FROM fx_rates")), rates, "{file}");
    }
    // Recorded refusals cost no price either.
    for file in ["http429_rate_limit_keyless_2026.json", "http422_missing_parameter_vs_currency.json"] {
        *body.lock().unwrap() = std::fs::read(folder.join("errors").join(file)).unwrap();
        let result = db.ask(INSERT, &gecko.url()).json(3);
        assert_eq!(result["rows_unchanged"], 30, "{file}");
        assert!(result["error"].as_str().unwrap().starts_with("the exchange rates failed"), "{result}");
    }
}
