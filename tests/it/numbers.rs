//! A double that a source sent comes back bit for bit; unknown stays unknown; the newer answer wins.

use std::sync::Arc;
use std::time::Duration;

use coinetl::db::prices::{PriceRow, Stored, upsert};
use coinetl::db::{DbError, Session, assets};
use coinetl::domain::{Coin, Column, Figures, Stamp};

use crate::support::gecko::{Gecko, Record};
use crate::support::test_db::{Backend, TestDb, bits};

on_every_database!(
    extreme_numbers_come_back_bit_for_bit,
    thousands_of_rows_in_a_batch_come_back_bit_for_bit,
    numbers_that_are_none_are_rejected_alone,
    null_stays_unknown_and_absent_leaves_what_is_stored,
    the_newer_numbers_of_the_same_moment_stay,
    times_are_cut_to_the_millisecond
);

/// The JSON names of the columns that hold a double, and the columns.
const DOUBLES: [(&str, &str); 9] = [
    ("current_price", "price"),
    ("total_volume", "volume_24h"),
    ("market_cap", "market_cap"),
    ("circulating_supply", "circulating_supply"),
    ("total_supply", "total_supply"),
    ("price_change_percentage_1h_in_currency", "change_1h"),
    ("price_change_percentage_24h_in_currency", "change_24h"),
    ("price_change_percentage_7d_in_currency", "change_7d"),
    ("price_change_percentage_30d_in_currency", "change_30d"),
];

fn columns() -> String {
    DOUBLES.map(|(_, column)| column).join(", ")
}

/// A number as JSON writes it and what it means.
const EXTREMES: &[(&str, f64)] = &[
    ("5e-324", 5e-324),
    ("2.2250738585072011e-308", 2.225073858507201e-308),
    ("2.2250738585072014e-308", f64::MIN_POSITIVE),
    ("5.8e-21", 5.8e-21),
    ("2.8461682e-17", 2.8461682e-17),
    ("4.46e-06", 4.46e-6),
    ("1.1578910401623073e+59", 1.1578910401623073e59),
    ("1.2E59", 1.2e59),
    ("1.7976931348623157e308", f64::MAX),
    ("-1.7976931348623157e308", f64::MIN),
    ("0.30000000000000004", 0.1 + 0.2),
    ("0.1", 0.1),
    ("0.3", 0.3),
    ("0.999105", 0.999105),
    ("9007199254740993", 9007199254740992.0),
    ("9007199254740993.0", 9007199254740992.0),
    ("9007199254740995", 9007199254740996.0),
    ("18446744073709551615", 18446744073709551615.0),
    ("-9223372036854775808", -9223372036854775808.0),
    ("123456789012345678901234567890", 123456789012345678901234567890.0),
    ("64039", 64039.0),
    ("0", 0.0),
    ("0.0", 0.0),
    ("0e5", 0.0),
    ("-0.0", -0.0),
    ("1e0", 1.0),
    ("100e-2", 1.0),
    ("\"0.1\"", 0.1),
    ("\"5e-324\"", 5e-324),
    ("\"64039\"", 64039.0),
    ("11909932.123456789", 11909932.12345679),
    ("-100.0", -100.0),
    ("8.41e21", 8.41e21),
    ("9.109383701528e-31", 9.109383701528e-31),
    ("2.2250738585072012e-308", f64::MIN_POSITIVE),
    ("179769313486231570000000000000000000000", 1.7976931348623157e38),
    ("7.2057594037927933e16", 72057594037927936.0),
];

/// SQLite does not keep the sign of zero, and neither does MariaDB, where even `-1e-200 * 1e-200` is 0.
fn keeps_the_sign_of_zero(db: &TestDb) -> bool {
    match db.backend() {
        Backend::Sqlite => false,
        Backend::Mysql => !db.lines("SELECT VERSION()")[0].contains("MariaDB"),
        Backend::Postgres => true,
    }
}

fn extreme_numbers_come_back_bit_for_bit(db: &TestDb) {
    let records = EXTREMES.iter().enumerate().map(|(n, (text, _))| {
        let mut members = DOUBLES.map(|(name, _)| (name, *text)).to_vec();
        members.push(("last_updated", "\"2026-09-16T09:14:20.123Z\""));
        Record::new(&format!("n-{n:03}"), &members)
    });
    let gecko = Gecko::new(records.collect());
    let read = format!("SELECT {} FROM prices ORDER BY asset_id", columns());
    let signed = keeps_the_sign_of_zero(db);
    let kept = |number: f64| if number == 0.0 && !signed { 0.0 } else { number };
    let check = || {
        let stored = db.doubles(&read);
        assert_eq!(stored.len(), EXTREMES.len());
        for (row, (text, number)) in stored.iter().zip(EXTREMES) {
            assert_eq!(row, &vec![Some(bits(kept(*number))); DOUBLES.len()], "{text}");
        }
    };
    let result = db.ask(&["prices", "insert"], &gecko.url()).json(0);
    assert_eq!(result["rows_written"], EXTREMES.len());
    check();
    // The same numbers again are the same numbers, also to the database's own comparison.
    let again = db.ask(&["prices", "insert"], &gecko.url()).json(0);
    assert_eq!((&again["rows_unchanged"], &again["rows_written"]), (&EXTREMES.len().into(), &0.into()));
    // And an update takes the same way as an insert.
    db.execute("UPDATE prices SET price = 1.5, volume_24h = NULL, market_cap = 3.25, change_1h = 7");
    let updated = db.ask(&["prices", "insert"], &gecko.url()).json(0);
    assert_eq!(updated["rows_updated"], EXTREMES.len());
    check();
}

/// Doubles of every size, made by a generator that gives the same ones each time.
struct Doubles(u64);

impl Doubles {
    fn next(&mut self) -> f64 {
        loop {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let number = f64::from_bits(self.0);
            if number.is_finite() && number != 0.0 {
                return number;
            }
        }
    }

    fn row(&mut self, asset_id: i64, at: i64) -> PriceRow {
        let mut figures = Figures::default();
        for column in Column::ALL {
            let value = match column {
                Column::MarketCapRank => asset_id as f64,
                _ => self.next(),
            };
            figures.set(column, Some(value)).unwrap();
        }
        PriceRow { asset_id, vs_currency: Arc::from("usd"), observed_at: Stamp::from_millis(at).unwrap(), figures }
    }
}

/// Straight into the sink: whatever path the size of a batch makes a backend take.
fn thousands_of_rows_in_a_batch_come_back_bit_for_bit(db: &TestDb) {
    const MANY: i64 = 5_000;
    const AT: i64 = 1_789_550_060_123;
    let mut session = Session::begin(db.open(), "prices insert", "coingecko", Duration::ZERO).unwrap();
    let coins: Vec<Coin> = (0..MANY).map(|n| Coin::new(format!("c{n}"), None, None).unwrap()).collect();
    let coins: Vec<&Coin> = coins.iter().collect();
    let ids = session.batch(|batch| assets::insert(batch, "coingecko", &coins)).unwrap();
    let mut store = |rows: &[PriceRow]| -> Stored {
        let stored: Result<Stored, DbError> = session.batch(|batch| upsert(batch, &mut rows.to_vec()));
        stored.unwrap_or_else(|err| panic!("{err}"))
    };
    let read = || {
        let columns = Column::ALL.iter().filter(|c| **c != Column::MarketCapRank).map(|c| c.name()).collect::<Vec<_>>();
        db.doubles(&format!("SELECT {} FROM prices ORDER BY asset_id, observed_at", columns.join(", ")))
    };
    let expected = |rows: &[PriceRow]| -> Vec<Vec<Option<String>>> {
        let figures = |row: &PriceRow| {
            let columns = Column::ALL.iter().filter(|column| **column != Column::MarketCapRank);
            columns.map(|column| row.figures.get(*column).map(bits)).collect()
        };
        rows.iter().map(figures).collect()
    };
    let mut doubles = Doubles(0x9e37_79b9_7f4a_7c15);
    let mut rows: Vec<PriceRow> = ids.iter().map(|id| doubles.row(*id, AT)).collect();
    let new = |new| Stored { new, ..Stored::default() };
    assert_eq!(store(&rows), new(rows.len()));
    assert_eq!(read(), expected(&rows));
    assert_eq!(store(&rows), Stored { unchanged: rows.len(), ..Stored::default() });

    // Every second one changes by the smallest step there is; as many are new at a later moment.
    let mut changed = Vec::new();
    for row in rows.iter_mut().step_by(2) {
        let price = row.figures.get(Column::Price).unwrap();
        row.figures.set(Column::Price, Some(f64::from_bits(price.to_bits() ^ 1))).unwrap();
        changed.push(row.clone());
    }
    let later: Vec<PriceRow> = ids.iter().map(|id| doubles.row(*id, AT + 1)).collect();
    let mut mixed = rows.clone();
    mixed.extend(later.iter().cloned());
    assert_eq!(
        store(&mixed),
        Stored { new: later.len(), updated: changed.len(), unchanged: rows.len() - changed.len() }
    );
    let all: Vec<PriceRow> = rows.iter().zip(&later).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    assert_eq!(read(), expected(&all));
    assert_eq!(db.number("SELECT COUNT(*) FROM prices WHERE market_cap_rank <> asset_id"), 0);
    // A batch of a few into a span of time that is full takes another path still.
    assert_eq!(store(&all[..10]), Stored { unchanged: 10, ..Stored::default() });
    let few: Vec<PriceRow> = ids[..7].iter().map(|id| doubles.row(*id, AT + 2)).collect();
    assert_eq!(store(&few), new(7));
    let stored = db.doubles(
        "SELECT price FROM prices WHERE observed_at = (SELECT MAX(observed_at) FROM prices) ORDER BY asset_id",
    );
    let sent: Vec<_> = few.iter().map(|row| vec![row.figures.get(Column::Price).map(bits)]).collect();
    assert_eq!(stored, sent);
}

fn numbers_that_are_none_are_rejected_alone(db: &TestDb) {
    let bad = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "\"NaN\"",
        "\"inf\"",
        "\"much\"",
        "{}",
        "[1]",
        "true",
        "",
        "01",
        "1.",
        "\"\"",
    ];
    let mut records = vec![Record::usual(0)];
    for (n, text) in bad.iter().enumerate() {
        records.push(Record::new(&format!("bad-{n}"), &[("total_volume", "1"), ("current_price", text)]));
        records.push(Record::usual(n + 1));
    }
    records.push(Record::new("half-a-rank", &[("market_cap_rank", "1.5")]));
    records.push(Record::new("soon", &[("last_updated", "\"soon\"")]));
    let (sent, rejected) = (records.len(), bad.len() + 2);
    let gecko = Gecko::new(records);
    let result = db.ask(&["prices", "insert"], &gecko.url()).json(3);
    assert_eq!((&result["rows_read"], &result["rows_rejected"]), (&sent.into(), &rejected.into()));
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), (sent - rejected) as i64);
    assert_eq!(
        db.number("SELECT COUNT(*) FROM dead_letters WHERE topic = 'coins/markets' AND error <> ''"),
        rejected as i64
    );
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE payload LIKE '%\"current_price\":Infinity}'"), 1);
}

fn null_stays_unknown_and_absent_leaves_what_is_stored(db: &TestDb) {
    const AT: (&str, &str) = ("last_updated", "\"2026-09-16T09:14:20Z\"");
    let gecko = Gecko::new(Vec::new());
    let run = |members: &[(&str, &str)]| {
        gecko.set_records(vec![Record::new("a", &[members, &[AT]].concat())]);
        db.ask(&["prices", "insert"], &gecko.url()).json(0)
    };
    let stored = || {
        db.lines(
            "SELECT price, volume_24h, base_volume_24h, market_cap, market_cap_rank, change_1h, run_id FROM prices",
        )
        .join(" ")
    };
    run(&[("current_price", "1.5"), ("total_volume", "null"), ("market_cap", "0"), ("market_cap_rank", "7")]);
    assert_eq!(stored(), "1.5|NULL|NULL|0.0|7|NULL|1");
    // Absent: left alone. Null: known to be unknown. A plain 24 h change is not a 1 h one.
    let result = run(&[("market_cap", "null"), ("total_volume", "0"), ("price_change_percentage_24h", "9")]);
    assert_eq!((&result["rows_updated"], &result["rows_written"]), (&1.into(), &1.into()));
    assert_eq!(stored(), "1.5|0.0|NULL|NULL|7|NULL|2");
    // Nothing but what is there already.
    assert_eq!(run(&[("current_price", "1.5")])["rows_unchanged"], 1);
    assert_eq!(run(&[("market_cap", "null"), ("market_cap_rank", "7.0")])["rows_unchanged"], 1);
    assert_eq!(run(&[])["rows_unchanged"], 1);
    assert_eq!(stored(), "1.5|0.0|NULL|NULL|7|NULL|2");
    // A record with a time and no figure at all is an observation of nothing known.
    gecko.set_records(vec![Record::new("b", &[AT])]);
    assert_eq!(db.ask(&["prices", "insert", "--ids", "b"], &gecko.url()).json(0)["rows_written"], 1);
    assert_eq!(db.lines("SELECT price, market_cap FROM prices ORDER BY asset_id"), ["1.5|NULL", "NULL|NULL"]);
}

fn the_newer_numbers_of_the_same_moment_stay(db: &TestDb) {
    let gecko = Gecko::usual(3);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    let mut records: Vec<Record> = (0..3).map(Record::usual).collect();
    records[1].json = records[1].json.replace("1.25", "1.2500000000000002");
    gecko.set_records(records);
    let result = db.ask(&["prices", "insert"], &gecko.url()).json(0);
    assert_eq!((&result["rows_updated"], &result["rows_unchanged"]), (&1.into(), &2.into()));
    assert_eq!(
        db.lines("SELECT price, run_id FROM prices ORDER BY asset_id"),
        ["0.25|1", "1.2500000000000002|2", "2.25|1"]
    );
}

fn times_are_cut_to_the_millisecond(db: &TestDb) {
    let times = [
        ("2026-05-19T08:47:57.5809Z", "2026-05-19 08:47:57.580"),
        ("2026-05-19T08:47:57.9999999Z", "2026-05-19 08:47:57.999"),
        ("2026-05-19T23:59:59.9999Z", "2026-05-19 23:59:59.999"),
        ("2026-05-19T10:47:57+02:00", "2026-05-19 08:47:57.000"),
        ("1970-01-01T00:00:00Z", "1970-01-01 00:00:00.000"),
        ("2026-03-29T02:30:00Z", "2026-03-29 02:30:00.000"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31 23:59:59.999"),
    ];
    let records = times.iter().enumerate().map(|(n, (sent, _))| {
        Record::new(&format!("t-{n}"), &[("current_price", "1"), ("last_updated", &format!("\"{sent}\""))])
    });
    let gecko = Gecko::new(records.collect());
    // The zone of the machine has no say in it.
    db.ask(&["prices", "insert"], &gecko.url()).env("TZ", "America/New_York").env("PGTZ", "Asia/Tokyo").json(0);
    assert_eq!(db.lines("SELECT observed_at FROM prices ORDER BY asset_id"), times.map(|(_, stored)| stored));
}
