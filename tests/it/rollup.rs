//! `candles rollup`: what is stored of a coin comes to the same candles, however and in whatever order it
//! came, whoever was killed on the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coinetl::db::candles::{self, CandleRow};
use coinetl::db::prices::{self, PriceRow};
use coinetl::db::{DbError, Session, runs};
use coinetl::domain::{Bar, Candle, Column, Cost, Figures, Origin, Stamp, Timeframe};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::kafka::Topic;
use crate::support::test_db::{Backend, TestDb, assert_same, loud};
use crate::support::workdir::SandboxServer;

on_every_database!(
    candles_are_what_their_pieces_come_to,
    only_what_is_marked_is_folded,
    killed_rollups_are_made_up_for,
    a_writer_at_the_same_time_loses_nothing,
    a_mark_of_a_writer_in_the_midst_of_it_is_not_taken_away,
    what_was_pruned_stays,
    a_timeframe_first_asked_for_after_a_prune_is_not_made_of_leftovers,
    a_price_that_is_restated_while_prune_looks_stays,
    a_candle_of_nothing_goes,
    a_bar_that_is_not_over_hides_no_prices,
    a_candle_becomes_final_when_its_time_is_over,
    verify_finds_what_was_tampered_with,
    batch_and_stream_come_to_the_same_candles,
    a_published_candle_leaves_what_is_folded_here_alone,
    final_candles_are_published_and_changed_ones_again,
    a_day_has_one_row_in_daily_prices,
);

const DAY: i64 = 1_779_148_800_000; // 2026-05-19T00:00:00Z
const HOUR: i64 = 3_600_000;

fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

fn rollup(db: &TestDb, args: &[&str]) -> Value {
    db.coinetl(&["candles", "rollup"]).args(args).json(0)
}

fn assets(db: &TestDb, count: i64) {
    let at = "'2026-05-19 00:00:00.000'";
    let rows: Vec<String> =
        (1..=count).map(|id| format!("({id}, 's{}', 'c{id}', 'c', 'c', TRUE, {at}, {at})", id % 2)).collect();
    db.execute(&format!("INSERT INTO assets VALUES {}", rows.join(", ")));
}

// ---- what is stored, and what it must come to ----

/// One thing that a source told.
#[derive(Debug, Clone)]
enum Told {
    Price(PriceRow),
    Bar(CandleRow),
}

fn price(asset_id: i64, vs: &str, at: i64, price: Option<f64>, cap: Option<f64>) -> Told {
    let mut figures = Figures::default();
    figures.set(Column::Price, price).unwrap();
    figures.set(Column::MarketCap, cap).unwrap();
    // Never a candle's volume.
    figures.set(Column::Volume24h, Some(1e9)).unwrap();
    let observed_at = Stamp::from_millis(at).unwrap();
    Told::Price(PriceRow { asset_id, vs_currency: vs.into(), observed_at, figures })
}

fn bar(asset_id: i64, vs: &str, timeframe: Timeframe, open: i64, origin: Origin, bar: Bar) -> Told {
    let open_time = Stamp::from_millis(open).unwrap();
    let candle = Candle { timeframe, open_time, bar, origin, is_final: true };
    Told::Bar(CandleRow { asset_id, vs_currency: vs.into(), candle })
}

/// Prices and bars of all lengths here and there, some told twice with other numbers.
fn told(dice: &mut StdRng, count: usize) -> Vec<Told> {
    let currencies: [&str; 3] = ["usd", "eur", "EUR "];
    (0..count)
        .map(|_| {
            let asset_id = dice.random_range(1..7);
            let vs = currencies[dice.random_range(0..3)];
            // Three days, one at the turn of a year, one long ago.
            let day = [DAY, DAY + 86_400_000, 1_767_139_200_000, 951_782_400_000][dice.random_range(0..4)];
            let at = day + dice.random_range(0..24 * 60) * 60_000;
            let mut number = || dice.random_range(1..1_000) as f64 / 7.0;
            let (a, b, c, d) = (number(), number(), number(), number());
            if dice.random_bool(0.7) {
                let observed = at + dice.random_range(0..2) * 30_000;
                return price(
                    asset_id,
                    vs,
                    observed,
                    dice.random_bool(0.9).then_some(a),
                    dice.random_bool(0.5).then_some(b),
                );
            }
            let timeframe = Timeframe::ALL[dice.random_range(0..6)];
            let open = timeframe.floor(Stamp::from_millis(at).unwrap()).millis();
            let origin = if dice.random_bool(0.5) { Origin::Source } else { Origin::Archive };
            let made = Bar {
                volume: dice.random_bool(0.8).then_some(c),
                base_volume: dice.random_bool(0.8).then_some(d),
                market_cap: dice.random_bool(0.3).then_some(c),
                samples: dice.random_bool(0.3).then_some(5),
                ..Bar::new(a, a.max(b), a.min(b), b).unwrap()
            };
            bar(asset_id, vs, timeframe, open, origin, made)
        })
        .collect()
}

fn session(db: &TestDb) -> Session {
    Session::begin(db.open(), "import", "archive", Duration::from_secs(20)).unwrap()
}

fn store(session: &mut Session, told: &[Told]) {
    let stored = session.batch(|batch| {
        let (mut prices, mut bars) = (Vec::new(), Vec::new());
        for told in told {
            match told {
                Told::Price(row) => prices.push(row.clone()),
                Told::Bar(row) => bars.push(row.clone()),
            }
        }
        prices::upsert(batch, &mut prices)?;
        candles::upsert(batch, &mut bars)?;
        Ok::<_, DbError>(())
    });
    stored.unwrap_or_else(|err| panic!("{err}"));
}

fn store_all(db: &TestDb, told: &[Told]) {
    let mut session = session(db);
    told.chunks(700).for_each(|part| store(&mut session, part));
    session.finish(runs::Status::Ok, None, Cost::default()).unwrap();
}

/// A piece of an interval: from, to, what was told.
type Piece = (i64, i64, Bar);

/// The rolled up candles that must be stored, worked out in the plainest way from what is stored: for
/// each interval by itself, its bars from the longest to the shortest, then its prices.
fn expected(db: &TestDb, timeframes: &[Timeframe]) -> Vec<String> {
    let at = |text: &str| Stamp::parse(&format!("{}Z", text.replace(' ', "T"))).unwrap().millis();
    let double = |cell: &Option<String>| cell.as_ref().map(|text| text.parse::<f64>().unwrap());
    type Key = (i64, String);
    let mut bars: BTreeMap<Key, Vec<(Timeframe, i64, Bar)>> = BTreeMap::new();
    let rows = db.query(
        "SELECT asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, base_volume, market_cap, \
         samples FROM candles WHERE origin <> 'rollup' ORDER BY open_time",
    );
    for row in rows {
        let text = |at: usize| row[at].clone().unwrap();
        let [open, high, low, close] = [4, 5, 6, 7].map(|at| double(&row[at]).unwrap());
        let samples = row[11].as_ref().map(|text| text.parse().unwrap());
        let [volume, base_volume, market_cap] = [8, 9, 10].map(|at| double(&row[at]));
        let bar = Bar { open, high, low, close, volume, base_volume, market_cap, samples };
        bars.entry((text(0).parse().unwrap(), text(1))).or_default().push((
            text(2).parse().unwrap(),
            at(&text(3)),
            bar,
        ));
    }
    let mut points: BTreeMap<Key, Vec<(i64, f64, Option<f64>)>> = BTreeMap::new();
    let rows = db.query(
        "SELECT asset_id, vs_currency, observed_at, price, market_cap FROM prices WHERE price IS NOT NULL \
         ORDER BY observed_at",
    );
    for row in rows {
        let text = |at: usize| row[at].clone().unwrap();
        let point = (at(&text(2)), double(&row[3]).unwrap(), double(&row[4]));
        points.entry((text(0).parse().unwrap(), text(1))).or_default().push(point);
    }
    let none = (Vec::new(), Vec::new());
    let keys: std::collections::BTreeSet<Key> = bars.keys().chain(points.keys()).cloned().collect();
    let mut lines = Vec::new();
    for key in keys {
        let (bars, points) = (bars.get(&key).unwrap_or(&none.0), points.get(&key).unwrap_or(&none.1));
        for timeframe in timeframes {
            let length = timeframe.millis();
            let mut intervals: BTreeMap<i64, Vec<Piece>> = BTreeMap::new();
            let mut longest_first: Vec<_> = bars.iter().filter(|(own, ..)| own < timeframe).collect();
            longest_first.sort_by_key(|(own, open, _)| (std::cmp::Reverse(*own), *open));
            for (own, open, bar) in longest_first {
                let pieces = intervals.entry(open / length * length).or_default();
                let (from, to) = (*open, open + own.millis());
                if pieces.iter().all(|piece| to <= piece.0 || piece.1 <= from) {
                    pieces.push((from, to, *bar));
                }
            }
            for (at, price, cap) in points {
                let pieces = intervals.entry(at / length * length).or_default();
                if pieces.iter().all(|piece| *at < piece.0 || piece.1 <= *at) {
                    pieces.push((
                        *at,
                        at + 1,
                        Bar { samples: Some(1), market_cap: *cap, ..Bar::new(*price, *price, *price, *price).unwrap() },
                    ));
                }
            }
            for (open, mut pieces) in intervals {
                if bars.iter().any(|(own, at, _)| own == timeframe && *at == open) {
                    continue;
                }
                pieces.sort_by_key(|piece| piece.0);
                let sum = |of: fn(&Bar) -> Option<f64>| {
                    let first = of(&pieces[0].2);
                    pieces[1..].iter().fold(first, |sum, piece| Some(sum? + of(&piece.2)?))
                };
                let shown = |number: Option<f64>| number.map_or("NULL".to_owned(), |number| format!("{number:?}"));
                let highest = pieces.iter().map(|piece| piece.2.high).fold(f64::MIN, f64::max);
                let lowest = pieces.iter().map(|piece| piece.2.low).fold(f64::MAX, f64::min);
                lines.push(format!(
                    "{}|{}|{timeframe}|{}|{:?}|{highest:?}|{lowest:?}|{:?}|{}|{}|{}|{}|1",
                    key.0,
                    key.1,
                    Stamp::from_millis(open).unwrap(),
                    pieces[0].2.open,
                    pieces.last().unwrap().2.close,
                    shown(sum(|bar| bar.volume)),
                    shown(sum(|bar| bar.base_volume)),
                    shown(pieces.iter().rev().find_map(|piece| piece.2.market_cap)),
                    pieces.iter().map(|piece| piece.2.samples.unwrap_or(1)).sum::<i64>(),
                ));
            }
        }
    }
    lines.sort();
    lines
}

fn rolled(db: &TestDb) -> Vec<String> {
    let mut lines = db.lines(
        "SELECT asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, base_volume, market_cap, \
         samples, final FROM candles WHERE origin = 'rollup'",
    );
    lines.sort();
    lines
}

/// What is stored is what it must be; said by us and by the command itself. No mark is left, and another
/// run changes nothing.
#[track_caller]
fn check(db: &TestDb, timeframes: &[Timeframe]) {
    assert_same(&rolled(db), &expected(db, timeframes));
    assert_eq!(db.number("SELECT COUNT(*) FROM rollup_pending"), 0);
    let verified = rollup(db, &["--verify"]);
    assert_eq!((number(&verified, "differing"), number(&verified, "rows_written")), (0, 0), "{verified}");
    assert_eq!(number(&rollup(db, &[]), "rows_read"), 0);
}

const SOME: [Timeframe; 4] = [Timeframe::M5, Timeframe::H1, Timeframe::H6, Timeframe::D1];

fn candles_are_what_their_pieces_come_to(db: &TestDb) {
    let seed = rand::rng().random_range(0..1_000_000);
    loud(&format!("{:?}: rollup of seed {seed}", db.backend()));
    let mut dice = StdRng::seed_from_u64(seed);
    assets(db, 8);
    // The first is folded of everything, the rest by their marks.
    let mut all = Vec::new();
    for (round, count) in [900, 500, 30, 1, 400].into_iter().enumerate() {
        let told = told(&mut dice, count);
        store_all(db, &told);
        all.extend(told);
        let result = match round {
            0 => rollup(db, &["--timeframe", "5m,1h,6h,1d,1h"]),
            _ => rollup(db, &[]),
        };
        assert!(number(&result, "rows_written") > 0 || round == 3, "{result}");
        assert_eq!(number(&result, "rows_read"), number(&result, "rows_written") + number(&result, "rows_unchanged"));
        check(db, &SOME);
    }
    let runs = "SELECT DISTINCT command, source, status FROM runs WHERE command = 'candles rollup'";
    assert_eq!(db.lines(runs), ["candles rollup|all|ok"]);
    // Folded of everything once more, nothing changes.
    let before = db
        .lines("SELECT run_id, open_time, asset_id FROM candles ORDER BY asset_id, vs_currency, timeframe, open_time");
    let again = rollup(db, &["--rebuild", "--timeframe", "5m,1h,6h,1d"]);
    assert_eq!((number(&again, "rows_written"), number(&again, "rows_read") > 0), (0, true), "{again}");
    assert_same(
        &before,
        &db.lines(
            "SELECT run_id, open_time, asset_id FROM candles ORDER BY asset_id, vs_currency, timeframe, open_time",
        ),
    );
    check(db, &SOME);
    // Another timeframe comes later, and is kept up to date, too.
    rollup(db, &["--timeframe", "15m"]);
    store_all(db, &told(&mut dice, 50));
    rollup(db, &["--timeframe", "1d"]);
    check(db, &[Timeframe::M5, Timeframe::M15, Timeframe::H1, Timeframe::H6, Timeframe::D1]);

    // Told in another order, except that of two words about the same the later one counts.
    let other = TestDb::new(db.backend()).expect("the same kind of database");
    other.setup();
    assets(&other, 8);
    let mut last: BTreeMap<String, Told> = BTreeMap::new();
    for told in all {
        let key = match &told {
            Told::Price(row) => format!("{}|{}|{}", row.asset_id, row.vs_currency, row.observed_at),
            Told::Bar(row) => {
                let Candle { timeframe, open_time, .. } = row.candle;
                format!("{}|{}|{timeframe}|{open_time}", row.asset_id, row.vs_currency)
            }
        };
        let is_worth_less = match (&told, last.get(&key)) {
            (Told::Bar(row), Some(Told::Bar(held))) => held.candle.origin > row.candle.origin,
            _ => false,
        };
        if !is_worth_less {
            last.insert(key, told);
        }
    }
    let mut shuffled: Vec<Told> = last.into_values().collect();
    shuffled.shuffle(&mut dice);
    let mut parts = shuffled.chunks(shuffled.len().div_ceil(3));
    for part in &mut parts {
        store_all(&other, part);
        rollup(&other, &["--timeframe", "5m,1h,6h,1d"]);
    }
    check(&other, &SOME);
}

fn only_what_is_marked_is_folded(db: &TestDb) {
    assets(db, 40);
    let mut all = Vec::new();
    for hour in 0..72 {
        all.extend((1..=40).map(|id| price(id, "usd", DAY + hour * HOUR + id, Some(1.0 + hour as f64), None)));
    }
    store_all(db, &all);
    rollup(db, &[]);
    // An hour of all coins is a handful of marks.
    let next: Vec<Told> = (1..=40).map(|id| price(id, "usd", DAY + 72 * HOUR + id, Some(9.0), None)).collect();
    store_all(db, &next);
    assert_eq!(db.lines("SELECT first_asset, last_asset FROM rollup_pending"), ["1|40"]);
    let result = rollup(db, &[]);
    assert_eq!((number(&result, "rows_read"), number(&result, "rows_updated")), (80, 0), "{result}");
    // So is a late price of a year ago: an hour and a day are all that is looked at.
    store_all(db, &[price(7, "usd", DAY - 365 * 24 * HOUR, Some(3.0), None)]);
    let result = rollup(db, &[]);
    assert_eq!((number(&result, "rows_read"), number(&result, "rows_written")), (2, 2), "{result}");
    // A restated one in the midst of it changes its hour, and of its day the high.
    store_all(db, &[price(7, "usd", DAY + 30 * HOUR + 7, Some(1_000.0), None)]);
    let result = rollup(db, &[]);
    assert_eq!((number(&result, "rows_read"), number(&result, "rows_updated")), (2, 2), "{result}");
    check(db, &[Timeframe::H1, Timeframe::D1]);
}

/// PostgreSQL's rows are put into order here, in a file where they are many; without one the server sorts.
#[test]
fn many_observations_that_lie_in_any_order_come_to_the_same_candles_with_a_file_and_without() {
    let Some(db) = TestDb::new(Backend::Postgres) else { return };
    db.setup();
    assets(&db, 590);
    // Hour after hour, each of all coins; some of them without a price.
    db.execute(
        "INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) \
         SELECT id, 'usd', TIMESTAMP '2026-05-19' + hour * INTERVAL '1 hour' + id * INTERVAL '1 second', \
         CASE WHEN id % 50 > 0 THEN 1 + (id * 7919 + hour * 31) % 1009 END, 1 \
         FROM generate_series(0, 99) hour, assets ORDER BY hour, id DESC",
    );
    let tell = |args: &[&str], folder: Option<&str>| {
        let mut rollup = db.coinetl(&["candles", "rollup", "-v"]);
        if let Some(folder) = folder {
            rollup = rollup.env("TMPDIR", folder);
        }
        rollup.args(args).run().expect(0).stderr.contains("not put into order here")
    };
    assert!(tell(&[], Some("/nonexistent")));
    let by_server = rolled(&db);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles WHERE timeframe = '1h'"), 579 * 100);
    db.execute("DELETE FROM candles");
    assert!(!tell(&["--rebuild"], None));
    assert_same(&rolled(&db), &by_server);
    assert!(tell(&["--verify"], Some("/nonexistent")));
    // A real bar of a quarter of an hour covers what lies in it: then quarters are put into order.
    let bar = Bar { volume: Some(2.0), ..Bar::new(5.0, 5.0, 5.0, 5.0).unwrap() };
    store_all(&db, &[self::bar(60, "usd", Timeframe::M15, DAY, Origin::Source, bar)]);
    rollup(&db, &[]);
    let after = rolled(&db);
    assert!(after != by_server);
    db.execute("DELETE FROM candles WHERE origin = 'rollup'");
    tell(&["--rebuild"], None);
    assert_same(&rolled(&db), &after);
}

fn killed_rollups_are_made_up_for(db: &TestDb) {
    const KILLS: usize = 8;
    assets(db, 60);
    let mut all = Vec::new();
    for id in 1..=60 {
        all.extend((0..400).map(|n| price(id, "usd", DAY + n * 17 * 60_000, Some((n * id % 97) as f64 + 0.1), None)));
    }
    all.shuffle(&mut StdRng::seed_from_u64(3));
    let (first, second) = all.split_at(18_000);
    let mut hits = 0;
    let command: &[&str] = &["candles", "rollup", "--timeframe", "15m,1h,1d"];
    for part in [first, second] {
        store_all(db, part);
        let (mut spread, mut is_done) = (0.6, false);
        for _ in 0..KILLS {
            let after = rand::rng().random_range(0.0..spread);
            // One that came to its end left nothing to do: the next has to do all of it again.
            let rebuild: &[&str] = if is_done { &["--rebuild"] } else { &[] };
            let mut running = db.coinetl(command).args(rebuild).spawn();
            std::thread::sleep(Duration::from_secs_f64(after));
            is_done = !running.is_running();
            if is_done {
                spread = f64::max(after, 0.05);
            } else {
                hits += 1;
            }
            running.kill();
            let output = running.wait();
            assert!(!output.stderr.contains("panicked"), "{output}");
            db.execute("DELETE FROM leases");
        }
        db.coinetl(command).json(0);
        check(db, &[Timeframe::M15, Timeframe::H1, Timeframe::D1]);
    }
    assert!(hits >= KILLS / 2, "only {hits} came in time");
}

fn a_writer_at_the_same_time_loses_nothing(db: &TestDb) {
    const ROLLUPS: usize = 12;
    assets(db, 30);
    let enough = AtomicBool::new(false);
    let batches = std::thread::scope(|scope| {
        let enough = &enough;
        let write = move |writer: usize| {
            let mut dice = StdRng::seed_from_u64(writer as u64);
            let command = ["prices insert", "import"][writer];
            let mut session = Session::begin(db.open(), command, "s", Duration::ZERO).unwrap();
            let mut batches = 0;
            while !enough.load(Ordering::Relaxed) {
                // Both in the same hours, so that they meet the same marks again and again.
                let told: Vec<Told> = (0..25)
                    .map(|_| {
                        let at = DAY + dice.random_range(0..3) * HOUR + dice.random_range(0..600) * 6_000;
                        let number = f64::from(dice.random_range(1..99));
                        price(dice.random_range(1..31), "usd", at, Some(number), None)
                    })
                    .collect();
                store(&mut session, &told);
                batches += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            session.finish(runs::Status::Ok, None, Cost::default()).unwrap();
            batches
        };
        let writers = [0, 1].map(|writer| scope.spawn(move || write(writer)));
        let rollups: Vec<i64> = (0..ROLLUPS).map(|_| number(&rollup(db, &[]), "rows_written")).collect();
        enough.store(true, Ordering::Relaxed);
        assert!(rollups.iter().filter(|written| **written > 0).count() > ROLLUPS / 2, "{rollups:?}");
        writers.map(|writer| writer.join().unwrap())
    });
    assert!(batches.iter().sum::<usize>() > ROLLUPS, "{batches:?}");
    rollup(db, &[]);
    check(db, &[Timeframe::H1, Timeframe::D1]);
}

fn a_mark_of_a_writer_in_the_midst_of_it_is_not_taken_away(db: &TestDb) {
    assets(db, 1);
    rollup(db, &[]);
    store_all(db, &[price(1, "usd", DAY + 1, Some(1.0), None)]);
    // The hour is marked already when this one marks it, and before it is done somebody wants to fold.
    let mut session = session(db);
    let mut running = None;
    let stored = session.batch(|batch| {
        let Told::Price(row) = price(1, "usd", DAY + 2, Some(9.0), None) else { unreachable!() };
        prices::upsert(batch, &mut vec![row])?;
        running.get_or_insert_with(|| db.coinetl(&["candles", "rollup"]).spawn());
        std::thread::sleep(Duration::from_millis(1_200));
        Ok(())
    });
    stored.unwrap_or_else(|err| panic!("{err}"));
    running.unwrap().wait().expect(0);
    rollup(db, &[]);
    check(db, &[Timeframe::H1, Timeframe::D1]);
    assert_eq!(db.lines("SELECT DISTINCT close, samples FROM candles"), ["9.0|2"]);
}

fn what_was_pruned_stays(db: &TestDb) {
    assets(db, 2);
    let old = |hour: i64, minute: i64| DAY - 100 * 24 * HOUR + hour * HOUR + minute * 60_000;
    let mut all = Vec::new();
    for id in 1..=2 {
        for hour in 0..48 {
            all.extend((0..3).map(|n| price(id, "usd", old(hour, n * 20), Some((hour * 3 + n + id) as f64), None)));
        }
        all.push(price(id, "usd", DAY, Some(1.0), None));
    }
    store_all(db, &all);
    rollup(db, &[]);
    let before = rolled(db);
    // Of one source only: the cutoff is cut to the day.
    for source in [&["--source", "s1"][..], &[]] {
        let pruned = db.coinetl(&["prune", "--older-than", "20d", "--what", "prices"]).args(source).json(0);
        assert_eq!(number(&pruned, "rows_written"), 48 * 3, "{pruned}");
    }
    let recorded = db.lines("SELECT source, before_time FROM pruned ORDER BY source");
    assert_eq!(recorded.len(), 2);
    assert!(recorded.iter().all(|line| line.ends_with("00:00:00.000")), "{recorded:?}");
    // No way of folding takes away what can't be folded again.
    for args in [&[][..], &["--rebuild"], &["--verify"]] {
        assert_eq!(number(&rollup(db, args), "rows_written"), 0, "{args:?}");
        assert_same(&rolled(db), &before);
    }
    // Late data of that time is stored, and is less than what the candles were made of.
    store_all(db, &[price(1, "usd", old(5, 1), Some(500.0), None), price(1, "usd", old(60, 1), Some(7.0), None)]);
    let result = rollup(db, &[]);
    // The hour that had no candle has one now, and its day.
    assert_eq!(number(&result, "rows_written"), 2, "{result}");
    let kept: Vec<String> = rolled(db).into_iter().filter(|line| before.contains(line)).collect();
    assert_same(&kept, &before);
    // More than they were made of is believed: the history was told once more.
    store_all(db, &all);
    store_all(db, &[price(1, "usd", old(5, 1), Some(500.0), None)]);
    rollup(db, &[]);
    check(db, &[Timeframe::H1, Timeframe::D1]);
}

fn a_timeframe_first_asked_for_after_a_prune_is_not_made_of_leftovers(db: &TestDb) {
    assets(db, 2);
    let old = |hour: i64, minute: i64| DAY - 100 * 24 * HOUR + hour * HOUR + minute * 60_000;
    let mut all = vec![price(1, "usd", DAY, Some(1.0), None)];
    // Hour 40 has none.
    for hour in (0..48).filter(|hour| *hour != 40) {
        all.extend((0..3).map(|n| price(1, "usd", old(hour, n * 20), Some((hour * 3 + n) as f64), Some(n as f64))));
    }
    // The newest of this coin stays when the others of its hour go.
    all.extend((0..3).map(|n| price(2, "usd", old(30, n * 4), Some(n as f64), None)));
    store_all(db, &all);
    rollup(db, &["--timeframe", "1h"]);
    let known = expected(db, &[Timeframe::H1, Timeframe::H6, Timeframe::D1]);
    let new = expected(db, &[Timeframe::M15]).into_iter().filter(|line| line.contains("2026-05-19"));
    let pruned = db.coinetl(&["prune", "--older-than", "20d", "--what", "prices"]).json(0);
    assert_eq!(number(&pruned, "rows_written"), 47 * 3 + 2, "{pruned}");
    let timeframes = ["--timeframe", "15m,1h,6h,1d"];
    rollup(db, &timeframes);
    // Days are folded of hours; of shorter intervals nobody knows what they were.
    let mut right: Vec<String> = known.into_iter().chain(new).collect();
    right.sort();
    assert_same(&rolled(db), &right);
    // What comes late for such an interval is not all of it; where there was nothing it is.
    store_all(db, &[price(1, "usd", old(5, 1), Some(500.0), None), price(1, "usd", old(40, 1), Some(7.0), None)]);
    let result = rollup(db, &timeframes);
    assert_eq!(number(&result, "rows_written"), 3, "{result}");
    let late: Vec<String> = rolled(db).into_iter().filter(|line| !right.contains(line)).collect();
    let of = |timeframe: &str, hour: &str| {
        late.iter().any(|line| line.starts_with(&format!("1|usd|{timeframe}|")) && line.contains(hour))
    };
    // What the other hours came to is still known to the longer ones.
    assert!(late.len() == 3 && of("1h", " 16:00:00") && of("6h", " 12:00:00") && of("1d", " 00:00:00"), "{late:?}");
    for args in [&timeframes[..], &["--rebuild", "--timeframe", "15m,1h,6h,1d"], &["--verify"]] {
        assert_eq!(number(&rollup(db, args), "rows_written"), 0, "{args:?}");
    }
}

fn a_price_that_is_restated_while_prune_looks_stays(db: &TestDb) {
    assets(db, 1);
    let old = DAY - 100 * 24 * HOUR;
    let told = |at: i64, of: f64| price(1, "usd", at, Some(of), None);
    store_all(db, &[told(old, 1.0), told(old + 60_000, 2.0), told(DAY, 3.0)]);
    rollup(db, &[]);
    let mut session = session(db);
    let mut running = None;
    let stored = session.batch(|batch| {
        let Told::Price(row) = told(old, 500.0) else { unreachable!() };
        prices::upsert(batch, &mut vec![row])?;
        running.get_or_insert_with(|| db.coinetl(&["prune", "--older-than", "20d", "--what", "prices"]).spawn());
        std::thread::sleep(Duration::from_millis(1_500));
        Ok(())
    });
    stored.unwrap_or_else(|err| panic!("{err}"));
    let output = running.unwrap().wait().expect(0);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 3, "{output}");
    session.finish(runs::Status::Ok, None, Cost::default()).unwrap();
    rollup(db, &[]);
    check(db, &[Timeframe::H1, Timeframe::D1]);
}

/// Six hours of which the source told when a few minutes were over, and prices before, in and after them.
fn a_bar_that_is_not_over_hides_no_prices(db: &TestDb) {
    assets(db, 1);
    for hour in 0..24 {
        let at = format!("2026-05-19 {hour:02}:30:00.000");
        db.execute(&format!(
            "INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) VALUES (1, 'usd', '{at}', {}, 1)",
            hour + 1
        ));
    }
    let bar = |close: f64, is_final: &str| {
        db.execute(&format!(
            "INSERT INTO candles VALUES (1, 'usd', '6h', '2026-05-19 18:00:00.000', 90, 90, 80, {close}, NULL, NULL, NULL, NULL, \
             'source', {is_final}, 1)"
        ));
    };
    let daily = || db.lines("SELECT open, high, low, close, final FROM candles WHERE timeframe = '1d'");
    bar(85.0, "FALSE");
    rollup(db, &[]);
    assert_eq!(daily(), ["1.0|24.0|1.0|24.0|1"]);
    // Told once more, whole, it is what its hours come to.
    db.execute("DELETE FROM candles WHERE timeframe = '6h'");
    bar(86.0, "TRUE");
    rollup(db, &["--rebuild"]);
    assert_eq!(daily(), ["1.0|90.0|1.0|86.0|1"]);
}

fn a_candle_of_nothing_goes(db: &TestDb) {
    assets(db, 3);
    store_all(db, &[price(1, "usd", DAY, Some(1.0), None), price(2, "usd", DAY, Some(1.0), None)]);
    rollup(db, &[]);
    assert_eq!(rolled(db).len(), 4);
    // The source takes a price back.
    store_all(db, &[price(1, "usd", DAY, None, None)]);
    let result = rollup(db, &[]);
    assert_eq!((number(&result, "rows_updated"), rolled(db).len()), (2, 2), "{result}");
    // Rows that somebody deleted are found by folding everything.
    db.execute("DELETE FROM prices WHERE asset_id = 2");
    db.coinetl(&["candles", "rollup", "--verify"]).json(1);
    assert_eq!(number(&rollup(db, &["--rebuild"]), "rows_updated"), 2);
    check(db, &[Timeframe::H1, Timeframe::D1]);
}

fn a_candle_becomes_final_when_its_time_is_over(db: &TestDb) {
    assets(db, 2);
    let now = chrono::Utc::now().timestamp_millis();
    store_all(db, &[price(1, "usd", now, Some(2.0), None), price(1, "usd", DAY, Some(1.0), None)]);
    rollup(db, &[]);
    let finals = |db: &TestDb| db.lines("SELECT final, COUNT(*) FROM candles GROUP BY final ORDER BY final");
    assert_eq!(
        (finals(db), db.number("SELECT COUNT(*) FROM rollup_open")),
        (vec!["0|2".to_owned(), "1|2".to_owned()], 2)
    );
    assert_eq!(number(&rollup(db, &["--verify"]), "differing"), 0);
    assert_eq!(number(&rollup(db, &[]), "rows_read"), 0);
    // As if the candles of that day had been folded while it went on.
    db.execute(
        "UPDATE candles SET final = FALSE WHERE open_time = '2026-05-19 00:00:00.000'; \
         INSERT INTO rollup_open (timeframe, open_time) VALUES ('1h', '2026-05-19 00:00:00.000'), ('1d', '2026-05-19 00:00:00.000')",
    );
    assert_eq!(number(&rollup(db, &["--verify"]), "differing"), 0);
    let result = rollup(db, &[]);
    assert_eq!((number(&result, "rows_updated"), number(&result, "rows_read")), (2, 2), "{result}");
    assert_eq!(
        (finals(db), db.number("SELECT COUNT(*) FROM rollup_open")),
        (vec!["0|2".to_owned(), "1|2".to_owned()], 2)
    );
    let run = number(&result, "run_id");
    assert_eq!(db.number(&format!("SELECT COUNT(*) FROM candles WHERE final = TRUE AND run_id = {run}")), 2);
    // One whose time is not over is not final, whatever somebody wrote.
    db.execute("UPDATE candles SET final = TRUE");
    let output = db.coinetl(&["candles", "rollup", "--verify"]).json(1);
    assert_eq!(number(&output, "differing"), 2, "{output}");
}

fn verify_finds_what_was_tampered_with(db: &TestDb) {
    assets(db, 8);
    let mut dice = StdRng::seed_from_u64(8);
    store_all(db, &told(&mut dice, 400));
    // Before the first rollup, everything awaits folding.
    assert_eq!(number(&rollup(db, &["--verify"]), "differing"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles WHERE origin = 'rollup'"), 0);
    store_all(db, &[price(3, "usd", DAY + HOUR, Some(4.5), None)]);
    rollup(db, &[]);
    let key = "asset_id = 3 AND vs_currency = 'usd' AND timeframe = '1d' AND open_time = '2026-05-19 00:00:00.000'";
    let bars = "UPDATE candles SET volume = 12345 WHERE origin <> 'rollup' AND timeframe = '1d'";
    db.execute(bars);
    assert_eq!(number(&rollup(db, &["--verify"]), "differing"), 0, "real bars are not judged");
    for tamper in [
        format!("UPDATE candles SET high = high + 1 WHERE {key}"),
        format!("UPDATE candles SET volume = 1 WHERE {key} AND volume IS NULL"),
        format!("UPDATE candles SET samples = samples + 1 WHERE {key}"),
        format!("UPDATE candles SET final = FALSE WHERE {key}"),
        format!("DELETE FROM candles WHERE {key}"),
    ] {
        if db.number(&format!("SELECT COUNT(*) FROM candles WHERE {key} AND origin = 'rollup'")) == 0 {
            panic!("{key} is no rolled up candle");
        }
        db.execute(&tamper);
        let output = db.coinetl(&["candles", "rollup", "--verify", "--output", "json"]).run().expect(1);
        let result = output.json();
        assert_eq!((number(&result, "differing"), &result["status"]), (1, &"failed".into()), "{tamper}: {result}");
        let difference = &result["differences"][0];
        assert_eq!((&difference["asset"], &difference["timeframe"]), (&"c3".into(), &"1d".into()), "{difference}");
        assert!(output.stderr.contains("1 candle(s)"), "{output}");
        let shown = db.coinetl(&["candles", "rollup", "--verify"]).run().expect(1).stdout;
        assert!(shown.contains("s1:c3 usd 1d 2026-05-19 00:00:00.000: ") && shown.contains(" → "), "{shown}");
        assert_eq!(
            number(&db.coinetl(&["candles", "rollup", "--verify", "--timeframe", "1h"]).json(0), "differing"),
            0
        );
        // What is marked is no difference: it is going to be put right.
        db.execute("INSERT INTO rollup_pending VALUES ('2026-05-19 07:00:00.000', 'usd', 2, 4)");
        assert_eq!(number(&rollup(db, &["--verify"]), "differing"), 0);
        assert!(number(&rollup(db, &[]), "rows_written") <= 1);
        assert_eq!(number(&rollup(db, &["--verify"]), "differing"), 0, "{tamper}");
    }
    db.coinetl(&["candles", "rollup", "--verify", "--rebuild"]).run().expect(2);
    db.coinetl(&["candles", "rollup", "--timeframe", "2h"]).run().expect(2);
}

/// Candles by the source's own names, for databases that gave out other ids.
fn by_name(db: &TestDb) -> Vec<String> {
    let mut lines = db.lines(
        "SELECT a.source, a.source_id, c.vs_currency, c.timeframe, c.open_time, c.open, c.high, c.low, c.close, c.volume, \
         c.base_volume, c.market_cap, c.samples, c.origin FROM candles c JOIN assets a ON a.id = c.asset_id",
    );
    lines.sort();
    lines
}

fn batch_and_stream_come_to_the_same_candles(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let batch = TestDb::new(Backend::Sqlite).unwrap();
    batch.setup();
    for at in ["2026-05-19T08:47:57Z", "2026-05-19T09:12:00Z", "2026-05-20T00:00:30Z"] {
        let sandbox = SandboxServer::start(["--assets", "300", "--at", at, "--speed", "0"]);
        batch.ask(&["assets", "upsert"], &sandbox.url()).json(0);
        batch.ask(&["prices", "insert", "--vs", "usd,eur"], &sandbox.url()).json(0);
        topic.on(batch.coinetl(&["publish", "--what", "prices"])).json(0);
        // One of them folds as it goes, the other at the end.
        rollup(&batch, &["--timeframe", "5m,1h,1d"]);
    }
    let consume = topic.on(db.coinetl(&["consume", "--until-end"])).env("KAFKA_GROUP", format!("group-{}", topic.name));
    consume.json(0);
    rollup(db, &["--timeframe", "5m,1h,1d"]);
    let candles = by_name(db);
    assert!(candles.len() > 1_000, "{}", candles.len());
    assert_same(&candles, &by_name(&batch));
}

fn a_published_candle_leaves_what_is_folded_here_alone(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let batch = TestDb::new(Backend::Sqlite).unwrap();
    batch.setup();
    assets(&batch, 2);
    assets(db, 2);
    // Both coins here, with more of the first, which is not folded yet at one day and is at the other.
    let next = DAY + 24 * HOUR;
    store_all(&batch, &[DAY, next].map(|at| price(1, "usd", at, Some(2.0), None)));
    store_all(&batch, &[price(2, "usd", DAY, Some(7.0), None)]);
    rollup(&batch, &["--timeframe", "1h,1d"]);
    store_all(db, &[price(1, "usd", DAY + 1, Some(9.0), None)]);
    rollup(db, &["--timeframe", "1h,1d"]);
    store_all(db, &[price(1, "usd", next + 1, Some(9.0), None)]);
    let publish = |db: &TestDb, what: &str| {
        number(&topic.on(db.coinetl(&["publish", "--what", what])).json(0), "rows_written");
    };
    let consume = |db: &TestDb| {
        let cmd = topic.on(db.coinetl(&["consume", "--until-end"]));
        let told = cmd.env("KAFKA_GROUP", format!("group-{}", topic.name)).json(0);
        (number(&told, "rows_written"), number(&told, "rows_unchanged"))
    };
    publish(&batch, "candles");
    // The second coin's are all that is known of it here.
    assert_eq!(consume(db), (2, 4));
    rollup(db, &[]);
    rollup(db, &["--verify"]);
    let candles = |db: &TestDb, of: &str| {
        db.lines(&format!(
            "SELECT timeframe, high, samples, origin FROM candles WHERE {of} ORDER BY timeframe, open_time"
        ))
    };
    let ours = ["1d|9.0|1|rollup", "1d|9.0|1|rollup", "1h|9.0|1|rollup", "1h|9.0|1|rollup"];
    assert_eq!(candles(db, "asset_id = 1"), ours);
    assert_eq!(candles(db, "asset_id = 2"), ["1d|7.0|1|archive", "1h|7.0|1|archive"]);
    // Prices that come later are folded, beside those that were here.
    publish(&batch, "prices");
    consume(db);
    rollup(db, &[]);
    rollup(db, &["--verify"]);
    assert_eq!(candles(db, "asset_id = 1"), ours.map(|line| line.replace("|1|", "|2|")));
    // What comes back to whom it is from changes nothing.
    let before = candles(&batch, "TRUE");
    assert_eq!(consume(&batch).0, 0);
    assert_eq!(candles(&batch, "TRUE"), before);
    assert!(before.iter().all(|line| line.ends_with("rollup")), "{before:?}");
}

fn final_candles_are_published_and_changed_ones_again(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    assets(db, 2);
    let now = chrono::Utc::now().timestamp_millis();
    store_all(db, &[price(1, "usd", DAY, Some(1.0), None), price(1, "usd", now, Some(2.0), None)]);
    rollup(db, &[]);
    let publish = || number(&topic.on(db.coinetl(&["publish", "--what", "candles"])).json(0), "rows_written");
    let closes = || -> Vec<String> {
        let of = |event: &Value| format!("{} {} {}", event["timeframe"], event["open_time"], event["close"]);
        topic.read().iter().map(|sent| of(&sent.event)).collect()
    };
    // Not those whose time is not over.
    assert_eq!((publish(), publish()), (2, 0));
    let first = closes();
    assert!(first.iter().all(|line| line.contains("2026-05-19T00:00:00.000Z\" 1")), "{first:?}");
    // A later price of that day closes hour and day anew.
    store_all(db, &[price(1, "usd", DAY + 1, Some(5.0), None)]);
    rollup(db, &[]);
    assert_eq!((publish(), publish()), (2, 0));
    let second = closes();
    assert!(second[2..].iter().all(|line| line.contains("2026-05-19T00:00:00.000Z\" 5")), "{second:?}");
    // Turned final, they are sent: as if they had been folded while their time went on.
    db.execute(
        "UPDATE candles SET final = FALSE WHERE open_time = '2026-05-19 00:00:00.000'; \
         INSERT INTO rollup_open (timeframe, open_time) VALUES ('1h', '2026-05-19 00:00:00.000')",
    );
    rollup(db, &[]);
    assert_eq!((publish(), topic.read().len()), (1, 5));
}

fn a_day_has_one_row_in_daily_prices(db: &TestDb) {
    assets(db, 4);
    let told = |id: i64, hour: i64, number: Option<f64>, volume: Option<f64>, cap: Option<f64>| {
        let Told::Price(mut row) = price(id, "usd", DAY + hour * HOUR, number, cap) else { unreachable!() };
        row.figures.set(Column::Volume24h, volume).unwrap();
        Told::Price(row)
    };
    let rows = || {
        db.lines(
            "SELECT source, source_id, symbol, name, vs_currency, CONCAT('', day), close, volume_24h, market_cap \
             FROM daily_prices ORDER BY asset_id, vs_currency, day",
        )
    };
    store_all(
        db,
        &[
            told(1, 1, Some(1.0), Some(10.0), Some(100.0)),
            told(1, 23, Some(2.0), Some(20.0), None),
            told(1, 24, Some(3.0), None, None),
            told(2, 1, None, Some(5.0), None),
        ],
    );
    let expected = ["s1|c1|c|c|usd|2026-05-19|2.0|20.0|100.0", "s1|c1|c|c|usd|2026-05-20|3.0|NULL|NULL"];
    // Before anything is rolled up, and after.
    assert_eq!(rows(), expected);
    rollup(db, &[]);
    assert_eq!(rows(), expected);
    // A day that no rollup has seen, and a real bar with nothing beside it.
    store_all(db, &[told(1, 48, Some(4.0), Some(40.0), Some(400.0)), told(3, 5, Some(7.0), None, None)]);
    let made = Bar { market_cap: Some(9.0), ..Bar::new(5.0, 6.0, 5.0, 5.5).unwrap() };
    store_all(db, &[bar(4, "eur", Timeframe::D1, DAY - 24 * HOUR, Origin::Archive, made)]);
    let more = [
        expected[0],
        expected[1],
        "s1|c1|c|c|usd|2026-05-21|4.0|40.0|400.0",
        "s1|c3|c|c|usd|2026-05-19|7.0|NULL|NULL",
        "s0|c4|c|c|eur|2026-05-18|5.5|NULL|9.0",
    ];
    assert_eq!(rows(), more);
    rollup(db, &[]);
    assert_eq!(rows(), more);
    let one = "SELECT close FROM daily_prices WHERE source_id = 'c1' AND day = '2026-05-20'";
    assert_eq!(db.lines(one), ["3.0"]);
}
