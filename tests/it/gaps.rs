//! `gaps`: what is missing, why, and how it is repaired in the fewest calls.

use serde_json::{Value, json};

use crate::backfill::market;
use crate::backfill::{COVERAGE, ask, day, number, relay};
use crate::support::relay::{Relay, ask_directly};
use crate::support::stub::StubResponse;
use crate::support::test_db::{TestDb, assert_same};

on_every_database!(
    what_was_deleted_is_found_and_repaired,
    what_nobody_asked_for_is_expected_where_it_is_asked_about,
    observations_that_await_folding_are_not_asked_for_again,
    a_thousand_coins_are_looked_through,
    a_sandbox_s_answers_are_none_of_real_coins,
);

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// asset timeframe from to state
fn rows(result: &Value) -> Vec<String> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name} in {row}")).to_owned();
    let row = |row: &Value| ["asset", "timeframe", "from", "to", "state"].map(|name| text(row, name)).join(" ");
    let mut rows: Vec<String> = result["gaps"].as_array().unwrap().iter().map(row).collect();
    // By asset, not by our id of it.
    rows.sort();
    rows
}

fn what_was_deleted_is_found_and_repaired(db: &TestDb) {
    let relay = relay(1, "10:20:30");
    ask(&relay, db, &words("assets upsert --source coinbase")).json(0);
    let (from, to) = (day(61), day(1));
    let backfill = format!("candles backfill --source coinbase --timeframe 1h --ids BTC,ETH --from {from} --to {to}");
    ask(&relay, db, &words(&backfill)).json(0);
    relay.take();
    let gaps = |code: i32| db.coinetl(&["gaps", "--source", "coinbase"]).json(code);
    let whole = |asset: &str| format!("{asset} 1h {from}T00:00:00.000Z {to}T00:00:00.000Z full");
    let result = gaps(0);
    assert_eq!(rows(&result), [whole("BTC"), whole("ETH")]);
    assert_eq!(result["summary"]["full"], json!({ "intervals": 2, "candles": 2 * 60 * 24 }));
    assert_eq!((&result["status"], &result["gaps"][0]["source"]), (&"ok".into(), &"sandbox-coinbase".into()));

    // Two near ones, which one call holds, and one far away; of the other coin its last hours.
    let candles = db.lines("SELECT asset_id, open_time, close, final FROM candles ORDER BY asset_id, open_time");
    let delete = |asset: &str, from: String, to: String| {
        db.execute(&format!(
            "DELETE FROM candles WHERE asset_id = (SELECT id FROM assets WHERE source_id = '{asset}') \
             AND open_time >= '{from}' AND open_time < '{to}'"
        ));
    };
    delete("BTC", format!("{} 03:00:00.000", day(50)), format!("{} 06:00:00.000", day(50)));
    delete("BTC", format!("{} 00:00:00.000", day(44)), format!("{} 00:00:00.000", day(43)));
    delete("BTC", format!("{} 23:00:00.000", day(9)), format!("{} 00:00:00.000", day(8)));
    delete("ETH", format!("{} 20:00:00.000", day(2)), format!("{} 00:00:00.000", day(1)));
    let missing = [
        format!("BTC 1h {}T03:00:00.000Z {}T06:00:00.000Z missing", day(50), day(50)),
        format!("BTC 1h {}T00:00:00.000Z {}T00:00:00.000Z missing", day(44), day(43)),
        format!("BTC 1h {}T23:00:00.000Z {}T00:00:00.000Z missing", day(9), day(8)),
        format!("ETH 1h {}T20:00:00.000Z {}T00:00:00.000Z missing", day(2), day(1)),
    ];
    let result = gaps(3);
    assert_eq!(rows(&result), missing);
    assert_eq!(number(&result["summary"]["missing"], "candles"), 3 + 24 + 1 + 4);
    assert!(result["error"].as_str().unwrap().contains("32 candles are missing"), "{result}");
    // One that is not final is as good as missing; a final one of lesser origin is as good as there.
    db.execute(&format!(
        "UPDATE candles SET final = FALSE WHERE open_time = '{0} 23:00:00.000'; \
         UPDATE candles SET origin = 'archive' WHERE open_time = '{0} 22:00:00.000'",
        day(30)
    ));
    assert_eq!(number(&gaps(3)["summary"]["missing"], "candles"), 34);
    let text = db.coinetl(&["gaps", "--source", "coinbase"]).run().expect(3);
    assert!(text.stdout.contains("not there any more") && text.stdout.contains("34 missing"), "{text}");
    // Looked at in parts.
    let only = |more: &str| rows(&db.coinetl(&["gaps", "--source", "coinbase"]).args(words(more)).json(3));
    assert_eq!(only("--ids ETH").len(), 2);
    let whole_within = format!("ETH 1h {}T00:00:00.000Z {}T00:00:00.000Z full", day(51), day(49));
    assert_eq!(only(&format!("--from {} --to {}", day(51), day(49))), [missing[0].clone(), whole_within]);
    // From the middle of an hour on: the candles that open then or later.
    let half_past = only(&format!("--ids BTC --from {0}T04:30:00Z --to {0}T05:30:00Z", day(50)));
    assert_eq!(half_past, [format!("BTC 1h {0}T05:00:00.000Z {0}T06:00:00.000Z missing", day(50))]);

    let plan = db.coinetl(&["plan", "gaps", "--repair", "--source", "coinbase"]).json(0);
    let result = ask(&relay, db, &words("gaps --repair --source coinbase")).json(0);
    let calls = relay.take();
    // BTC: 50 and 44 days ago in one, 30 in one, 9 in another; ETH: 30, and 2.
    assert_eq!((calls.len(), number(&plan, "calls_per_month"), number(&result, "calls")), (5, 5, 5), "{calls:?}");
    assert_eq!(rows(&result), [whole("BTC"), whole("ETH")]);
    let after = db.lines("SELECT asset_id, open_time, close, final FROM candles ORDER BY asset_id, open_time");
    assert_same(&after, &candles);
    assert_eq!(number(&ask(&relay, db, &words("gaps --repair --source coinbase")).json(0), "calls"), 0);
}

fn what_nobody_asked_for_is_expected_where_it_is_asked_about(db: &TestDb) {
    let relay = relay(1, "10:20:30");
    ask(&relay, db, &words("assets upsert --source coinbase")).json(0);
    relay.take();
    // A coin that was listed within what is looked at: its first days are not there at the source.
    let listed = db.lines("SELECT source_id FROM assets WHERE active = TRUE ORDER BY source_id");
    let first = |base: &String| {
        let from = day(3000);
        let mut first = None;
        for start in (0..10).map(|n| from.checked_add_days(chrono::Days::new(n * 299)).unwrap()) {
            let end = start.checked_add_days(chrono::Days::new(298)).unwrap();
            let target =
                format!("/products/{base}-USD/candles?granularity=86400&start={start}T00:00:00Z&end={end}T00:00:00Z");
            let answer = ask_directly(&relay.sandbox, &target);
            let times = answer.as_array().unwrap().iter().map(|row| row[0].as_i64().unwrap());
            first = first.or(times.min());
        }
        first
            .filter(|first| *first > chrono::Utc::now().timestamp() - 2_900 * 86_400)
            .map(|first| (base.clone(), first))
    };
    let (base, first) = listed.iter().take(12).find_map(first).expect("a coin that was listed later");
    let listing = chrono::DateTime::from_timestamp(first, 0).unwrap().date_naive();
    let from = listing.checked_sub_days(chrono::Days::new(20)).unwrap();
    let to = listing.checked_add_days(chrono::Days::new(10)).unwrap();
    // Without a question nothing is expected.
    assert_eq!(rows(&db.coinetl(&["gaps"]).json(0)), [""; 0]);
    let question = format!("gaps --source coinbase --timeframe 1d --from {from} --to {to} --ids {base},NOPE");
    let asked = db.coinetl(&[]).args(words(&question)).json(3);
    let iso = |date: chrono::NaiveDate| format!("{date}T00:00:00.000Z");
    assert_eq!(rows(&asked), [format!("{base} 1d {} {} missing", iso(from), iso(to))]);
    assert_eq!(asked["gaps"][0]["reason"], "it was never asked for");
    assert!(asked["error"].as_str().unwrap().contains("NOPE"), "{asked}");
    let question = question.replace(",NOPE", "");
    let repaired = ask(&relay, db, &words(&format!("{question} --repair"))).json(0);
    assert_eq!((relay.take().len(), number(&repaired, "calls")), (1, 1));
    let expected = [format!("{base} 1d {} {} empty", iso(from), iso(listing))];
    assert_eq!(rows(&repaired), expected);
    assert_eq!(repaired["gaps"][0]["reason"], "nothing was traded, or the pair was not listed yet");
    assert_eq!(number(&repaired["summary"]["full"], "candles"), 10);
    // What the source has not is known now, and nothing was made up for it.
    assert_eq!(rows(&db.coinetl(&[]).args(words(&question)).json(0)), expected);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 10);
    assert_eq!(db.lines(COVERAGE).len(), 2);
    assert_eq!(number(&ask(&relay, db, &words(&format!("{question} --repair"))).json(0), "calls"), 0);
}

fn observations_that_await_folding_are_not_asked_for_again(db: &TestDb) {
    let relay = relay(1, "10:20:30");
    ask(&relay, db, &words("assets upsert")).json(0);
    let (from, to) = (day(11), day(1));
    ask(&relay, db, &words(&format!("candles backfill --timeframe 1d --ids bitcoin --from {from} --to {to}"))).json(0);
    relay.take();
    // Folded by nobody yet.
    db.execute("DELETE FROM candles");
    let repaired = ask(&relay, db, &words("gaps --repair")).json(3);
    assert_eq!((relay.take().len(), number(&repaired["summary"]["missing"], "candles")), (0, 10));
    assert!(repaired["gaps"][0]["reason"].as_str().unwrap().contains("candles rollup --timeframe 1d"), "{repaired}");
    // Where the prices are gone, too, they are asked for again.
    db.execute(&format!("DELETE FROM prices WHERE observed_at >= '{}' AND observed_at < '{}'", day(5), day(4)));
    let result = db.coinetl(&["gaps"]).json(3);
    let reasons: Vec<bool> = result["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["reason"].as_str().unwrap().contains("not there any more"))
        .collect();
    assert_eq!(reasons, [false, true, false]);
    let before = db.number("SELECT COUNT(*) FROM prices");
    let repaired = ask(&relay, db, &words("gaps --repair")).json(3);
    assert_eq!((relay.take().len(), number(&repaired["summary"]["missing"], "candles")), (1, 10));
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), before + number(&repaired, "rows_written"));
    assert!(number(&repaired, "rows_written") >= 20, "{repaired}");
    // Folded, they are what was expected.
    db.coinetl(&["candles", "rollup", "--timeframe", "1d"]).json(0);
    let result = db.coinetl(&["gaps"]).json(0);
    assert_eq!(rows(&result), [format!("bitcoin 1d {from}T00:00:00.000Z {to}T00:00:00.000Z full")]);
    let samples = "SELECT MIN(samples) FROM candles WHERE timeframe = '1d' AND final = TRUE";
    assert!(db.number(samples) >= 20);
}

/// Real coins have holes, and behind the address is a sandbox.
fn a_sandbox_s_answers_are_none_of_real_coins(db: &TestDb) {
    let (from, to) = (format!("{} 00:00:00.000", day(30)), format!("{} 00:00:00.000", day(1)));
    for (id, coin) in [(1, "bitcoin"), (2, "ethereum"), (3, "aave")] {
        let columns = "id, source, source_id, symbol, name, active, first_seen_at, updated_at";
        db.execute(&format!(
            "INSERT INTO assets ({columns}) VALUES ({id}, 'coingecko', '{coin}', '', '', TRUE, '{from}', '{from}')"
        ));
        let columns = "asset_id, vs_currency, timeframe, from_time, to_time, state, reason, run_id";
        db.execute(&format!(
            "INSERT INTO coverage ({columns}) VALUES ({id}, 'usd', '1d', '{from}', '{to}', 'missing', 'real', 1)"
        ));
    }
    let real = "SELECT v.asset_id, v.from_time, v.to_time, v.state, v.reason FROM coverage v \
                JOIN assets a ON a.id = v.asset_id WHERE a.source = 'coingecko' ORDER BY v.asset_id, v.from_time";
    let before = db.lines(real);
    let none_of_theirs = || {
        assert_same(&db.lines(real), &before);
        let rows = "SELECT COUNT(*) FROM prices p JOIN assets a ON a.id = p.asset_id WHERE a.source = 'coingecko'";
        assert_eq!(db.number(rows), 0);
    };
    // Before any answer told whose data it is, nothing is said of a real coin.
    let unknown = Relay::with(market(1, "10:20:30", &[]), |request, _| {
        let body = r#"{"error":"coin not found"}"#;
        request.target.contains("/market_chart").then(|| StubResponse::new(404, "application/json", body))
    });
    ask(&unknown, db, &words("gaps --repair")).run();
    let down = Relay::with(market(1, "10:20:30", &[]), |request, _| {
        request.target.contains("/market_chart").then(|| StubResponse::error(503))
    });
    ask(&down, db, &words("gaps --repair")).run();
    none_of_theirs();
    let sandbox = relay(1, "10:20:30");
    let result = ask(&sandbox, db, &words("gaps --repair")).json(3);
    assert_eq!((sandbox.take().len(), &result["source"]), (1, &"sandbox-coingecko".into()), "{result}");
    none_of_theirs();
}

fn a_thousand_coins_are_looked_through(db: &TestDb) {
    let (coins, days) = (1_050, 30);
    let stamp = |n: i64| format!("{} 00:00:00.000", day(100 - n as u64));
    let mut assets = Vec::new();
    for id in 1..=coins {
        assets.push(format!("({id}, 'archive', 'c{id}', '', '', TRUE, '{0}', '{0}')", stamp(0)));
    }
    let columns = "id, source, source_id, symbol, name, active, first_seen_at, updated_at";
    db.execute(&format!("INSERT INTO assets ({columns}) VALUES {}", assets.join(",")));
    for ids in (1..=coins).collect::<Vec<_>>().chunks(150) {
        let (mut candles, mut covered) = (Vec::new(), Vec::new());
        for id in ids {
            covered.push(format!("({id}, 'usd', '1d', '{}', '{}', 'full', NULL, 1)", stamp(0), stamp(days)));
            for n in (0..days).filter(|n| !(id % 500 == 0 && (10..12).contains(n))) {
                candles.push(format!("({id}, 'usd', '1d', '{}', 1, 1, 1, 1, 'archive', TRUE, 1)", stamp(n)));
            }
        }
        let columns = "asset_id, vs_currency, timeframe, from_time, to_time, state, reason, run_id";
        db.execute(&format!("INSERT INTO coverage ({columns}) VALUES {}", covered.join(",")));
        let columns = "asset_id, vs_currency, timeframe, open_time, open, high, low, close, origin, final, run_id";
        db.execute(&format!("INSERT INTO candles ({columns}) VALUES {}", candles.join(",")));
    }
    let result = db.coinetl(&["gaps"]).json(3);
    let (from, to) = (day(90), day(88));
    let holes: Vec<String> = rows(&result).into_iter().filter(|row| !row.ends_with("full")).collect();
    let hole = |id: i64| format!("c{id} 1d {from}T00:00:00.000Z {to}T00:00:00.000Z missing");
    assert_eq!(holes, [hole(1_000), hole(500)]);
    assert_eq!(result["summary"]["full"], json!({ "intervals": coins - 2, "candles": coins * days - 4 }));
    // A source that nobody can ask is not asked.
    let other = db.coinetl(&["gaps", "--source", "coinbase"]).json(0);
    assert_eq!(rows(&other), [""; 0]);
}
