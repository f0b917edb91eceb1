//! Charts: what is read for them, on each database, and the files that `plot` makes of it.

use std::collections::BTreeMap;

use coinetl::db::series::{self, Figure};
use coinetl::domain::{Range, Stamp, Timeframe};
use coinetl::plot::{Point, Stick};
use resvg::usvg::roxmltree::Document;
use serde_json::Value;

use crate::support::test_db::TestDb;

on_every_database!(what_is_read_for_a_chart_is_bounded_and_keeps_the_extremes, what_is_stored_becomes_pictures);
on_every_database!(only_sqlite: what_cannot_be_drawn_is_told);

/// 2026-05-19T00:00:00Z
const START: i64 = 1_779_148_800_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn stamp(millis: i64) -> Stamp {
    Stamp::from_millis(millis).unwrap()
}

fn range(from: i64, to: i64) -> Range {
    Range::new(stamp(from), stamp(to)).unwrap()
}

fn insert(db: &TestDb, into: &str, rows: impl IntoIterator<Item = String>) {
    let rows: Vec<String> = rows.into_iter().collect();
    for rows in rows.chunks(2_000) {
        db.execute(&format!("INSERT INTO {into} VALUES {}", rows.join(",")));
    }
}

/// A price every minute, and two that nothing near them is like.
fn price(n: i64) -> f64 {
    match n {
        2_345 => 1e6,
        2_347 => 1e-6,
        _ => 97_000.0 + (n as f64 / 50.0).sin() * 500.0,
    }
}

const PRICES: i64 = 6_000;
const CANDLES: i64 = 3_000;
const QUOTES: i64 = 3_000;

fn stick(n: i64) -> Stick {
    let (open, close) = (price(n), price(n + 1));
    Stick {
        open_time: START + n * MINUTE,
        open,
        high: open.max(close) + 1.0,
        low: open.min(close) - 1e-7,
        close,
        volume: Some(f64::from(u8::try_from(n % 7).unwrap())),
        is_final: n + 1 < CANDLES,
    }
}

fn fill(db: &TestDb) {
    let at = "'2026-05-19 00:00:00.000'";
    let coin = |(id, source, source_id, name): &(i64, &str, &str, &str)| {
        format!("({id}, '{source}', '{source_id}', '{source_id}', '{name}', TRUE, {at}, {at})")
    };
    let coins = [
        (1, "coingecko", "bitcoin", "Bitcoin"),
        (2, "coingecko", "dust", "<Dust> & \"Co\""),
        (3, "coingecko", "joke", "Joke"),
        (4, "archive", "bitcoin", "Bitcoin"),
    ];
    insert(db, "assets", coins.iter().map(coin));
    let columns =
        "prices (asset_id, vs_currency, observed_at, price, market_cap, market_cap_rank, circulating_supply, run_id)";
    let minutes = (0..PRICES).map(|n| {
        let at = stamp(START + n * MINUTE);
        format!("(1, 'usd', '{at}', {:?}, 1.9e12, 1, 19000000, 1)", price(n))
    });
    insert(db, columns, minutes);
    let dust = (0..100).map(|n| {
        let at = stamp(START + 3 * DAY + n * HOUR / 4);
        format!("(2, 'usd', '{at}', {:?}, 1e11, 2, NULL, 1)", 1e-12 * (100 + n) as f64)
    });
    insert(db, columns, dust);
    // Nobody ranks what its makers tell.
    insert(db, columns, [format!("(3, 'usd', '{}', 1, 1.2e59, NULL, NULL, 1)", stamp(START))]);
    let columns = "candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, market_cap, origin, final, run_id)";
    let candle = |asset: i64, timeframe: Timeframe, stick: &Stick, cap: &str| {
        let Stick { open_time, open, high, low, close, volume, is_final } = stick;
        let volume = volume.map_or("NULL".to_owned(), |volume| format!("{volume:?}"));
        format!(
            "({asset}, 'usd', '{timeframe}', '{}', {open:?}, {high:?}, {low:?}, {close:?}, {volume}, {cap}, 'source', {}, 1)",
            stamp(*open_time),
            if *is_final { "TRUE" } else { "FALSE" }
        )
    };
    insert(db, columns, (0..CANDLES).map(|n| candle(1, Timeframe::M1, &stick(n), "NULL")));
    let hourly = |n: i64| Stick { open_time: START + n * HOUR, ..stick(n) };
    insert(db, columns, (0..72).map(|n| candle(1, Timeframe::H1, &hourly(n), "NULL")));
    let daily = |n: i64| Stick { open_time: START + n * DAY, is_final: true, ..stick(n) };
    insert(db, columns, (0..3).map(|n| candle(1, Timeframe::D1, &daily(n), "300")));
    insert(db, columns, (0..3).map(|n| candle(2, Timeframe::D1, &daily(n), "100")));
    insert(db, columns, (0..3).map(|n| candle(4, Timeframe::D1, &daily(n), "1e30")));
    let quotes = (0..QUOTES).map(|n| {
        let (at, mid) = (stamp(START + n * 1_000), price(n));
        format!(
            "('coinbase', 'BTC-USD', {n}, '{at}000', {:?}, {:?}, {mid:?}, 1e-7, 1, 1, 1, 's')",
            mid - 5e-8,
            mid + 5e-8
        )
    });
    insert(db, "crypto_metrics", quotes);
    insert(db, "quote_sessions", ["('coinbase', 'BTC-USD', 's', 1, 1, 1)".to_owned()]);
    let windows = (0..300).map(|n| {
        let at = stamp(START + n * MINUTE);
        format!("('coinbase', 'BTC-USD', '1m', '{at}000', 60, 10, 12, 9, 11, 1, 1, 0.5, {n})")
    });
    insert(db, "quote_windows", windows);
    let outage = (stamp(START + 10 * MINUTE), stamp(START + 12 * MINUTE));
    insert(
        db,
        "quote_outages",
        [format!("('coinbase', 'BTC-USD', '{}', '{}', 'connection lost')", outage.0, outage.1)],
    );
}

fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
}

fn what_is_read_for_a_chart_is_bounded_and_keeps_the_extremes(db: &TestDb) {
    fill(db);
    let conn = &mut db.open().conn;
    let all = range(START, START + 30 * DAY);

    // As they are where they are few, folded where they are many.
    let some = range(START + 10 * MINUTE, START + 20 * MINUTE);
    let ten = series::prices(conn, 1, "usd", Figure::Price, some, 10).unwrap();
    let point = |n: i64| Point { at: START + n * MINUTE, value: price(n) };
    assert_eq!(ten, (10..20).map(point).collect::<Vec<_>>());
    let few = series::prices(conn, 1, "usd", Figure::Price, all, 400).unwrap();
    assert!((100..=400).contains(&few.len()), "{}", few.len());
    assert_eq!((few.first(), few.last()), (Some(&point(0)), Some(&point(PRICES - 1))));
    assert_eq!(extremes(few.iter().map(|point| point.value)), (1e-6, 1e6));
    assert!(few.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let spike = few.iter().find(|point| point.value == 1e6).unwrap();
    assert!((spike.at - START - 2_345 * MINUTE).abs() < PRICES / 100 * MINUTE);
    let supply = series::prices(conn, 1, "usd", Figure::CirculatingSupply, some, 100).unwrap();
    assert_eq!(supply[0].value, 19_000_000.0);
    assert_eq!(series::prices(conn, 2, "eur", Figure::Price, all, 100).unwrap(), []);
    assert_eq!(series::newest_price(conn, 2, "usd").unwrap(), Some(stamp(START + 3 * DAY + 99 * HOUR / 4)));
    // Before what was observed, what candles tell.
    let line = series::line(conn, 2, "usd", all, 1_000, Stamp::LAST).unwrap();
    assert_eq!((line.len(), line[0].at), (2 + 100, START + DAY));

    // Several candles as one, from midnight on.
    let whole = series::candles(conn, 1, "usd", Timeframe::M1, all, 5_000).unwrap();
    assert_eq!((whole.length_ms, &whole.sticks), (MINUTE, &(0..CANDLES).map(stick).collect()));
    let folded = series::candles(conn, 1, "usd", Timeframe::M1, all, 100).unwrap();
    assert!(folded.sticks.len() <= 101 && folded.sticks.len() > 50, "{}", folded.sticks.len());
    let mut expected: BTreeMap<i64, Stick> = BTreeMap::new();
    for one in (0..CANDLES).map(stick) {
        let open_time = one.open_time.div_euclid(folded.length_ms) * folded.length_ms;
        let into = expected.entry(open_time).or_insert(Stick { open_time, volume: Some(0.0), is_final: true, ..one });
        (into.high, into.low, into.close) = (into.high.max(one.high), into.low.min(one.low), one.close);
        into.volume = into.volume.zip(one.volume).map(|(sum, volume)| sum + volume);
        into.is_final &= one.is_final;
    }
    assert_eq!(folded.sticks, expected.into_values().collect::<Vec<_>>());
    assert_eq!(series::newest_candle(conn, 1, "usd", Timeframe::H1).unwrap(), Some(stamp(START + 71 * HOUR)));
    // Closes of the shortest candles that are not too many.
    let closes = series::closes(conn, 1, "usd", range(START, START + 3 * DAY), 100, Stamp::LAST).unwrap();
    assert_eq!((closes.length_ms, closes.points.len()), (Some(HOUR), 72));
    assert_eq!(closes.points[0], Point { at: START + HOUR, value: stick(0).close });
    // One that is not over tells nothing of what is to come.
    let now = START + 2 * DAY + HOUR;
    let line = series::line(conn, 4, "usd", all, 1_000, stamp(now)).unwrap();
    assert_eq!(line.iter().map(|point| point.at).collect::<Vec<_>>(), [START + DAY, START + 2 * DAY, now]);

    // Quotes, those of hours by their windows.
    let hour = range(START, START + HOUR);
    let quotes = series::quotes(conn, "coinbase", "BTC-USD", hour, 5_000).unwrap();
    assert_eq!((quotes.len(), quotes[7].mid, quotes[7].at), (3_000, price(7), START + 7_000));
    let few = series::quotes(conn, "coinbase", "BTC-USD", hour, 200).unwrap();
    assert!((50..=202).contains(&few.len()), "{}", few.len());
    assert_eq!(extremes(few.iter().map(|quote| quote.mid)), (1e-6, 1e6));
    let windows = series::quotes(conn, "coinbase", "BTC-USD", range(START, START + 5 * HOUR), 1_000).unwrap();
    assert_eq!((windows.len(), windows[0].mid, windows[1].mid, windows[1].spread), (600, 9.0, 12.0, 0.0));
    assert!(windows[0].bid.is_nan());
    assert_eq!(series::outages(conn, "coinbase", "BTC-USD", hour).unwrap()[0].1, "connection lost");
    assert_eq!(series::pairs(conn, None).unwrap(), [("coinbase".to_owned(), "BTC-USD".to_owned())]);
    assert_eq!(series::newest_quote(conn, "coinbase", "BTC-USD").unwrap(), Some(stamp(START + (QUOTES - 1) * 1_000)));

    // The last days of a table's coins: of candles, else of prices.
    let until = stamp(START + 4 * DAY);
    let sparks = series::sparks(conn, &[1, 2, 3, 99], "usd", until).unwrap();
    let mut found: Vec<i64> = sparks.keys().copied().collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
    let known = |id: i64| sparks[&id].iter().copied().filter(|value| value.is_finite()).collect::<Vec<_>>();
    assert_eq!((sparks[&1].len(), known(1).len(), known(1)[0]), (42, 18, stick(3).close));
    assert_eq!((known(2).len(), known(2)[0]), (6, 1e-12 * 115.0));

    // Shares: what has no rank is no part of the whole.
    let shares = series::shares(conn, "coingecko", "usd", 1).unwrap();
    assert_eq!((shares.slices.len(), shares.slices[0].value, shares.rest), (1, 1.9e12, 1e11));
    let share = series::dominance(conn, "coingecko", 1, "usd", range(START, START + 40 * DAY)).unwrap();
    assert_eq!(share.iter().map(|point| point.value).collect::<Vec<_>>(), [75.0; 2]);
}

/// The picture in a file, read as XML.
#[track_caller]
fn picture(db: &TestDb, name: &str) -> String {
    let svg = std::fs::read_to_string(db.workdir().file(name)).unwrap();
    let document = Document::parse(&svg).unwrap_or_else(|err| panic!("{name}: {err}"));
    assert_eq!(document.root_element().attribute("role"), Some("img"));
    svg
}

/// The words on a picture.
fn words(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let text = document.descendants().filter(|node| node.has_tag_name("text") || node.has_tag_name("tspan"));
    text.filter_map(|node| node.text().map(str::to_owned)).collect()
}

fn what_is_stored_becomes_pictures(db: &TestDb) {
    fill(db);
    let plot = |line: &str, code: i32| -> Value {
        let args: Vec<&str> = ["plot"].into_iter().chain(line.split(' ')).collect();
        db.coinetl(&args).json(code)
    };
    let has = |svg: &str, word: &str| assert!(words(svg).iter().any(|text| text == word), "{word}: {:?}", words(svg));

    let told = plot("prices --ids bitcoin,dust --log --out two.svg --tz Europe/Berlin", 0);
    assert_eq!(
        (&told["command"], &told["source"], &told["status"]),
        (&"plot prices".into(), &"coingecko".into(), &"ok".into())
    );
    assert_eq!(told["bytes"].as_u64().unwrap(), db.workdir().file("two.svg").metadata().unwrap().len());
    let svg = picture(db, "two.svg");
    for word in ["Bitcoin and <Dust> & \"Co\"", "Bitcoin", "1e-10", "USD"] {
        has(&svg, word);
    }
    assert!(svg.contains("data-scale=\"log\"") && svg.contains("data-zone=\"Europe/Berlin\""));
    // Far fewer bytes than points, and the highest of them is there.
    assert!(svg.len() < 120_000, "{}", svg.len());
    assert!(svg.contains("highest 1 M"), "{svg}");

    let told = plot("prices --top 1 --show change --out change.png --size 400x300 --scale 1 --theme dark", 0);
    let png = std::fs::read(db.workdir().file("change.png")).unwrap();
    assert_eq!((&png[..8], &png[16..24]), (&b"\x89PNG\r\n\x1a\n"[..], &[0, 0, 1, 144, 0, 0, 1, 44][..]));
    assert!(told["points"].as_u64().unwrap() > 1_000);

    plot("candles --ids bitcoin --timeframe 1m --from 2026-05-19 --to 2026-05-19T02:00:00Z --out c.svg", 0);
    let svg = picture(db, "c.svg");
    has(&svg, "Bitcoin (BITCOIN)");
    has(&svg, "Vol");
    assert!(!words(&svg).contains(&"not over yet".to_owned()));
    plot("candles --ids bitcoin --timeframe 1m --out newest.svg", 0);
    has(&picture(db, "newest.svg"), "not over yet");

    let told = plot("quotes --out q.svg", 0);
    assert_eq!(told["source"], "coinbase");
    let svg = picture(db, "q.svg");
    for word in ["BTC-USD", "bid", "ask", "mid", "spread", "no quotes", "Spread"] {
        has(&svg, word);
    }
    plot("prices --show share --out share.svg", 0);
    let svg = picture(db, "share.svg");
    has(&svg, "95.0 %");
    assert!(!words(&svg).contains(&"Joke".to_owned()));

    // What is known of an imported file is its candles.
    plot("prices --source archive --ids bitcoin --out archive.svg", 0);
    has(&picture(db, "archive.svg"), "archive · price in USD · 2026-04-22 – 2026-05-22 · UTC");

    // Into a currency by the rate of the time: none, then one.
    let told = plot("prices --ids bitcoin --in eur --out eur.svg", 1);
    assert!(told["error"].as_str().unwrap().contains("no rate from usd into eur"), "{told}");
    let rates = (0..5).map(|day| format!("('coingecko', 'eur', '{}', 0.5)", stamp(START + day * DAY)));
    insert(db, "fx_rates", rates);
    let told = plot("candles --ids bitcoin --in eur --timeframe 1h --out eur.svg", 0);
    assert_eq!(told["points"], 72);
    let svg = picture(db, "eur.svg");
    has(&svg, "EUR");
    assert!(svg.contains("data-o=\"48500 "), "{svg}");

    let told = plot("prices --ids bitcoin,nobody --out some.svg", 3);
    assert!(told["error"].as_str().unwrap().contains("nobody") && told["rows_absent"] == 1, "{told}");
    picture(db, "some.svg");
}

fn what_cannot_be_drawn_is_told(db: &TestDb) {
    fill(db);
    let refused = |line: &str, code: i32, why: &str| {
        let args: Vec<&str> = ["plot"].into_iter().chain(line.split(' ')).collect();
        let output = db.coinetl(&args).run().expect(code);
        assert!(output.stderr.contains(why), "{why}: {output}");
        assert_eq!(output.stdout, "");
    };
    refused("prices --out a.svg", 2, "--ids bitcoin,ethereum");
    refused("prices --ids bitcoin --out a.gif", 2, ".svg or .png");
    refused("prices --ids bitcoin --timeframe 1h --out a.svg", 2, "--timeframe says nothing of `plot prices`");
    refused("prices --ids bitcoin --from 2026-05-20 --to 2026-05-19 --out a.svg", 2, "is not before");
    refused("prices --ids bitcoin --tz Berlin --out a.svg", 2, "Europe/Berlin");
    refused("prices --ids bitcoin --size 5x5 --out a.svg", 2, "960x540");
    refused("candles --ids bitcoin,dust --out a.svg", 2, "plot prices");
    refused("prices --ids nobody --out a.svg", 1, "no coin of coingecko has the id nobody");
    refused("prices --ids bitcoin --vs eur --out a.svg", 1, "coinetl prices insert");
    refused("prices --ids bitcoin --from 2020-01-01 --to 2020-02-01 --out a.svg", 1, "--from and --to");
    refused("candles --ids joke --out a.svg", 1, "coinetl candles rollup");
    refused("quotes --pairs ETH-USD --out a.svg", 1, "pairs: BTC-USD");
    refused("prices --source nobody --ids bitcoin --out a.svg", 2, "nothing is stored under it");
    refused("prices --ids bitcoin --out no/such/folder/a.svg", 78, "choose another with --out");
    // Nothing half written is left.
    std::fs::create_dir(db.workdir().file("taken.svg")).unwrap();
    let taken = db.coinetl(&["plot", "prices", "--ids", "bitcoin", "--out", "taken.svg"]).run();
    assert_ne!(taken.code, Some(0), "{taken}");
    let mut names: Vec<String> = std::fs::read_dir(db.workdir().path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("it.db"))
        .collect();
    names.sort();
    assert_eq!(names, ["taken.svg"]);
    // What an axis has no place for is named.
    let at = |n: i64| stamp(START + n * HOUR);
    db.execute(&format!(
        "INSERT INTO assets VALUES (5, 'coingecko', 'zero', 'z', 'Zero', TRUE, '{0}', '{0}'), \
         (6, 'coingecko', 'half', 'h', 'Half', TRUE, '{0}', '{0}')",
        at(0)
    ));
    let rows = [(5, 0, "0"), (5, 1, "0"), (6, 0, "0"), (6, 1, "2")];
    let rows = rows.map(|(id, n, price)| format!("({id}, 'usd', '{}', {price}, 1)", at(n)));
    insert(db, "prices (asset_id, vs_currency, observed_at, price, run_id)", rows);
    refused("prices --ids zero --log --out a.svg", 1, "zero left out: --log has no place for zero");
    refused("prices --ids zero --show change --out a.svg", 1, "zero left out: all its prices are zero");
    let told = db.coinetl(&["plot", "prices", "--ids", "zero,half", "--log", "--out", "half.svg"]).json(0);
    assert_eq!(told["points"], 1, "{told}");
    let notes = told["notes"].to_string();
    assert!(notes.contains("zero left out") && notes.contains("1 of 2 points of half left out"), "{notes}");
    let told = db.coinetl(&["plot", "prices", "--ids", "half", "--show", "change", "--out", "half.svg"]).json(0);
    assert_eq!((&told["points"], &told["notes"]), (&2.into(), &serde_json::json!([])));
    // A hostile name is only a name.
    db.coinetl(&["plot", "prices", "--ids", "dust", "--out", "dust.svg"]).run().expect(0);
    let svg = picture(db, "dust.svg");
    assert!(!svg.contains("<Dust>") && words(&svg).iter().any(|word| word.starts_with("<Dust> & \"Co\"")), "{svg}");
}
