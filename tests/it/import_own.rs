//! `import` of our own exports: rows go back to the coin they came from, with the origin they had, bit for bit.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::import::counts;
use crate::support::test_db::{Backend, TestDb, bits};

on_every_database!(
    csv_exports_come_back,
    parquet_exports_come_back,
    what_another_database_folded_stays,
    what_was_not_over_or_made_of_less_replaces_nothing,
);

const PRICE_COLUMNS: [&str; 11] = [
    "price",
    "volume_24h",
    "base_volume_24h",
    "market_cap",
    "circulating_supply",
    "total_supply",
    "market_cap_rank",
    "change_1h",
    "change_24h",
    "change_7d",
    "change_30d",
];

/// A candle as an export holds it: texts, open time in ms, doubles, samples, origin, final.
type CandleLine =
    (&'static str, &'static str, &'static str, &'static str, i64, [Option<f64>; 7], Option<i64>, &'static str, bool);

const AT: i64 = 1_779_177_600_000;

fn candles() -> Vec<CandleLine> {
    let bar = [Some(5e-324), Some(1.7976931348623157e308), Some(5e-324), Some(0.1), None, Some(-0.0), Some(0.0)];
    let plain = [Some(17.0), Some(18.5), Some(16.25), Some(17.75), Some(1.5), None, None];
    vec![
        ("coingecko", "a,\"b\"\nc ", "", "1h", AT, bar, Some(3), "rollup", false),
        ("coingecko", "a,\"b\"\nc ", "", "1d", AT, plain, None, "archive", true),
        ("sandbox-coinbase", "BTC", "₿🟥", "1m", AT + 60_000, plain, None, "source", true),
    ]
}

/// What of them is in the table. Only PostgreSQL keeps the sign of zero.
fn stored_candles(db: &TestDb) {
    let keys = "SELECT a.source, a.source_id, a.symbol, c.vs_currency, c.timeframe, c.open_time, c.samples, c.origin, c.final \
                FROM candles c JOIN assets a ON a.id = c.asset_id ORDER BY a.id, c.timeframe DESC";
    let expected = [
        "coingecko|a,\"b\"\nc ||usd|1h|2026-05-19 08:00:00.000|3|rollup|0",
        "coingecko|a,\"b\"\nc ||usd|1d|2026-05-19 00:00:00.000|NULL|archive|1",
        "sandbox-coinbase|BTC|₿🟥|usd|1m|2026-05-19 08:01:00.000|NULL|source|1",
    ];
    assert_eq!(db.lines(keys), expected);
    let doubles = "SELECT c.open, c.high, c.low, c.close, c.volume, c.base_volume, c.market_cap FROM candles c ORDER BY c.asset_id, c.timeframe DESC";
    let keeps_sign = db.backend() == Backend::Postgres;
    let hex = |value: f64| bits(if value == 0.0 && !keeps_sign { 0.0 } else { value });
    let expected: Vec<Vec<Option<String>>> =
        candles().iter().map(|line| line.5.iter().map(|value| value.map(hex)).collect()).collect();
    assert_eq!(db.doubles(doubles), expected);
    // What was folded here covers nothing of a source's past.
    let covered = "SELECT asset_id, timeframe FROM coverage ORDER BY asset_id";
    assert_eq!(db.lines(covered), ["1|1d", "2|1m"]);
}

fn time(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis).unwrap().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The day's candle opens with the day.
fn opened(line: &CandleLine) -> i64 {
    if line.3 == "1d" { line.4 / 86_400_000 * 86_400_000 } else { line.4 }
}

fn cell(text: &str) -> String {
    match text.is_empty() || text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:?}"))
}

fn csv_exports_come_back(db: &TestDb) {
    let mut text = "source,source_id,symbol,vs_currency,timeframe,open_time,open,high,low,close,volume,base_volume,market_cap,samples,origin,final\n".to_owned();
    for line in candles() {
        let (source, id, symbol, timeframe, _, figures, samples, origin, last) = line;
        let figures: Vec<String> = figures.into_iter().map(number).collect();
        let samples = samples.map_or(String::new(), |samples| samples.to_string());
        text += &format!(
            "{source},{},{},usd,{timeframe},{},{},{samples},{origin},{last}\n",
            cell(id),
            cell(symbol),
            time(opened(&line)),
            figures.join(",")
        );
    }
    db.workdir().write("candles.csv", &text);
    assert_eq!(counts(&db.coinetl(&["import", "candles.csv"]).json(0)), [3, 3, 0, 0, 0]);
    stored_candles(db);
    assert_eq!(counts(&db.coinetl(&["import", "candles.csv"]).json(0)), [3, 0, 0, 3, 0]);
    // Every row says whose it is: nobody else can.
    let told = db.coinetl(&["import", "candles.csv", "--source", "coinbase", "--id", "X"]).run().expect(0);
    assert!(told.stderr.contains("do not count for it"), "{told}");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 2);
    // A file that was cut ends in no whole line, though it looks like one.
    db.workdir().write("cut.csv", &text[..text.len() - 1]);
    let cut = db.coinetl(&["import", "cut.csv"]).run().expect(3);
    assert_eq!(
        db.lines("SELECT error FROM dead_letters"),
        ["line 6: the file is cut: its last line has no end"],
        "{cut}"
    );

    // Columns that are NULL are known to be so.
    let known = "INSERT INTO prices (asset_id, vs_currency, observed_at, price, market_cap, run_id) VALUES (2, 'eur', '2026-05-19 08:47:57.580', 1, 2, 1)";
    db.execute(known);
    let head = format!("source,source_id,symbol,vs_currency,observed_at,{}\n", PRICE_COLUMNS.join(","));
    let row =
        "sandbox-coinbase,BTC,₿🟥,eur,2026-05-19T08:47:57.580Z,5.8e-21,,0,,1e23,,7,-99.99999999999999,1e-300,,5e-324\n";
    db.workdir().write("prices.csv", &(head + row));
    assert_eq!(counts(&db.coinetl(&["import", "prices.csv"]).json(0)), [1, 1, 1, 0, 0]);
    let stored = format!("SELECT {} FROM prices", PRICE_COLUMNS.join(", "));
    assert_eq!(db.lines(&stored), ["5.8e-21|NULL|0.0|NULL|1e23|NULL|7|-99.99999999999999|1e-300|NULL|5e-324"]);
    assert_eq!(counts(&db.coinetl(&["import", "prices.csv"]).json(0)), [1, 0, 0, 1, 0]);
}

/// Candles come without the observations they were folded of, as after a prune or in another database: a rollup does not
/// take that for candles of nothing, and goes on with them.
fn what_another_database_folded_stays(db: &TestDb) {
    let day = AT / 86_400_000 * 86_400_000;
    let mut text = "source,source_id,symbol,vs_currency,timeframe,open_time,open,high,low,close,volume,base_volume,market_cap,samples,origin,final\n".to_owned();
    let mut candle = |timeframe: &str, at: i64, open: i64, samples: i64, is_final: bool| {
        let close = open + 1;
        text += &format!(
            "coingecko,x,x,usd,{timeframe},{},{open},{close},{open},{close},,,,{samples},rollup,{is_final}\n",
            time(at)
        );
    };
    candle("1d", day, 1, 72, true);
    candle("1d", day + 86_400_000, 25, 6, false);
    for hour in 0..26 {
        candle("1h", day + hour * 3_600_000, hour + 1, 3, true);
    }
    db.workdir().write("candles.csv", &text);
    let kept = "SELECT source, before_time FROM pruned";
    assert_eq!(counts(&db.coinetl(&["import", "candles.csv"]).json(0)), [28, 28, 0, 0, 0]);
    assert_eq!(db.lines(kept), ["coingecko|2026-05-21 00:00:00.000"]);
    // What is stored already is folded here as before.
    db.execute("DELETE FROM pruned");
    assert_eq!(counts(&db.coinetl(&["import", "candles.csv"]).json(0)), [28, 0, 0, 28, 0]);
    assert_eq!(db.number("SELECT COUNT(*) FROM pruned"), 0);
    db.execute("DELETE FROM candles");
    db.execute("DELETE FROM rollup_open");
    assert_eq!(counts(&db.coinetl(&["import", "candles.csv"]).json(0)), [28, 28, 0, 0, 0]);
    let stored =
        || db.lines("SELECT timeframe, open_time, open, close, samples FROM candles ORDER BY timeframe, open_time");
    let imported = stored();
    // The day that is over by now is made final, and that is all.
    for (args, written) in [(&[][..], 1), (&["--verify"], 0), (&["--rebuild"], 0)] {
        let told = db.coinetl(&["candles", "rollup"]).args(args).json(0);
        assert_eq!(told["rows_written"], written, "{told}");
    }
    assert_eq!(stored(), imported);
    // An unfinished day goes on: two hours from there, three from here.
    let mut prices = format!("source,source_id,symbol,vs_currency,observed_at,{}\n", PRICE_COLUMNS.join(","));
    for hour in 26..29 {
        prices += &format!("coingecko,x,x,usd,{},{}.5,,,,,,,,,,\n", time(day + hour * 3_600_000), hour + 1);
    }
    db.workdir().write("prices.csv", &prices);
    db.coinetl(&["import", "prices.csv"]).run().expect(0);
    db.coinetl(&["candles", "rollup"]).run().expect(0);
    let now = stored();
    assert_eq!(now[0], imported[0]);
    let last_day = |lines: &[String]| lines[1].split('|').skip(2).map(str::to_owned).collect::<Vec<_>>().join("|");
    assert_eq!((&*last_day(&imported), &*last_day(&now)), ("25.0|26.0|6", "25.0|29.5|9"));
    assert_eq!(now.len(), imported.len() + 3);
    let verified = db.coinetl(&["candles", "rollup", "--verify"]).json(0);
    assert_eq!(verified["rows_written"], 0, "{verified}");
    assert_eq!(db.number("SELECT COUNT(*) FROM candles WHERE final = FALSE"), 0, "the day is over by now");
}

/// An export of when a day was not over, or of fewer observations, changes nothing of what is known by now, alone or
/// together with the newer one.
fn what_was_not_over_or_made_of_less_replaces_nothing(db: &TestDb) {
    crate::export::asset(db, 1, "coingecko", "x", "x");
    let candles = |folded: (i64, &str, f64), real: (&str, f64)| {
        let at = "'2026-05-19 00:00:00.000'";
        db.execute("DELETE FROM candles");
        for (timeframe, samples, origin, is_final, close) in [
            ("1d", folded.0.to_string(), "rollup", folded.1, folded.2),
            ("1h", "NULL".to_owned(), "source", real.0, real.1),
        ] {
            db.execute(&format!(
                "INSERT INTO candles VALUES (1, 'usd', '{timeframe}', {at}, 1, 9, 1, {close}, NULL, NULL, NULL, {samples}, \
                 '{origin}', {is_final}, 1)"
            ));
        }
    };
    let stored = || db.lines("SELECT timeframe, close, samples, final FROM candles ORDER BY timeframe");
    let states = [
        ((10, "FALSE", 2.0), ("FALSE", 2.5)),
        ((12, "TRUE", 3.0), ("TRUE", 3.5)),
        // Restated, of as many.
        ((12, "TRUE", 4.0), ("TRUE", 4.5)),
        ((24, "TRUE", 5.0), ("TRUE", 5.5)),
    ];
    let mut exports = Vec::new();
    for (n, (folded, real)) in states.into_iter().enumerate() {
        candles(folded, real);
        let out = format!("out{n}");
        db.coinetl(&["export", "candles", "--format", "csv", "--out", &out]).run().expect(0);
        exports.push((format!("{out}/candles.csv"), stored()));
    }
    let import = |n: usize| db.coinetl(&["import", &exports[n].0]).json(0);
    // From the newest back to the first: the folds of fewer change nothing, and what is not over does not.
    assert_eq!(counts(&import(1)), [2, 1, 1, 1, 0], "another real bar of that time");
    assert_eq!(stored(), ["1d|5.0|24|1", "1h|3.5|NULL|1"]);
    assert_eq!(counts(&import(0)), [2, 0, 0, 2, 0]);
    assert_eq!(stored(), ["1d|5.0|24|1", "1h|3.5|NULL|1"]);
    // And on again.
    let (folded, real) = states[0];
    candles(folded, real);
    for n in [1, 2, 3] {
        assert_eq!(counts(&import(n)), [2, 2, 2, 0, 0]);
        assert_eq!(stored(), exports[n].1);
    }
    // In one run, in whatever order.
    for files in [[3, 0, 2], [0, 3, 2], [2, 0, 3]] {
        db.execute("DELETE FROM candles");
        let files = files.map(|n: usize| exports[n].0.as_str());
        db.coinetl(&["import"]).args(files).run().expect(0);
        assert_eq!(stored()[0], "1d|5.0|24|1", "{files:?}");
        assert!(stored()[1].ends_with("|NULL|1"), "{files:?}");
    }
    // Whoever told it.
    db.execute("UPDATE candles SET origin = 'archive', final = FALSE, close = 7");
    db.coinetl(&["export", "candles", "--format", "csv", "--out", "part"]).run().expect(0);
    candles((24, "TRUE", 5.0), ("TRUE", 5.5));
    assert_eq!(counts(&db.coinetl(&["import", "part/candles.csv"]).json(0)), [2, 0, 0, 2, 0]);
}

/// A column's values, as the writer takes them.
enum Values<'a> {
    Texts(Vec<&'a str>),
    Doubles(Vec<Option<f64>>),
    Wholes(Vec<Option<i64>>),
    Truths(Vec<bool>),
}

/// Writes rows in groups of two, zstd, as an export does.
fn write(path: &Path, schema: &str, columns: &[Values<'_>], rows: usize) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for from in (0..rows).step_by(2) {
        let to = (from + 2).min(rows);
        let mut group = writer.next_row_group().unwrap();
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            match (column.untyped(), values) {
                (ColumnWriter::ByteArrayColumnWriter(writer), Values::Texts(values)) => {
                    let texts: Vec<ByteArray> = values[from..to].iter().map(|text| ByteArray::from(*text)).collect();
                    writer.write_batch(&texts, None, None).unwrap();
                }
                (ColumnWriter::DoubleColumnWriter(writer), Values::Doubles(values)) => {
                    let levels: Vec<i16> = values[from..to].iter().map(|value| value.is_some().into()).collect();
                    let values: Vec<f64> = values[from..to].iter().copied().flatten().collect();
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }
                (ColumnWriter::Int64ColumnWriter(writer), Values::Wholes(values)) => {
                    let levels: Vec<i16> = values[from..to].iter().map(|value| value.is_some().into()).collect();
                    let values: Vec<i64> = values[from..to].iter().copied().flatten().collect();
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }
                (ColumnWriter::BoolColumnWriter(writer), Values::Truths(values)) => {
                    writer.write_batch(&values[from..to], None, None).unwrap();
                }
                _ => panic!("a column of another type"),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn parquet_exports_come_back(db: &TestDb) {
    let lines = candles();
    let figure = |at: usize| Values::Doubles(lines.iter().map(|line| line.5[at]).collect());
    let mut columns = vec![
        Values::Texts(lines.iter().map(|line| line.0).collect()),
        Values::Texts(lines.iter().map(|line| line.1).collect()),
        Values::Texts(lines.iter().map(|line| line.2).collect()),
        Values::Texts(lines.iter().map(|_| "usd").collect()),
        Values::Texts(lines.iter().map(|line| line.3).collect()),
        Values::Wholes(lines.iter().map(|line| Some(opened(line))).collect()),
    ];
    columns.extend((0..7).map(figure));
    columns.push(Values::Wholes(lines.iter().map(|line| line.6).collect()));
    columns.push(Values::Texts(lines.iter().map(|line| line.7).collect()));
    columns.push(Values::Truths(lines.iter().map(|line| line.8).collect()));
    // Needed columns may be declared either way.
    let schema = "message candles { REQUIRED BYTE_ARRAY source (UTF8); REQUIRED BYTE_ARRAY source_id (UTF8); \
                  REQUIRED BYTE_ARRAY symbol (UTF8); REQUIRED BYTE_ARRAY vs_currency (UTF8); REQUIRED BYTE_ARRAY timeframe (UTF8); \
                  REQUIRED INT64 open_time (TIMESTAMP(MILLIS,true)); REQUIRED DOUBLE open; REQUIRED DOUBLE high; REQUIRED DOUBLE low; \
                  REQUIRED DOUBLE close; OPTIONAL DOUBLE volume; OPTIONAL DOUBLE base_volume; OPTIONAL DOUBLE market_cap; \
                  OPTIONAL INT64 samples; REQUIRED BYTE_ARRAY origin (UTF8); REQUIRED BOOLEAN final; }";
    write(&db.workdir().file("candles.bin"), schema, &columns, lines.len());
    let result = db.coinetl(&["import", "candles.bin"]).json(0);
    assert_eq!(counts(&result), [3, 3, 0, 0, 0], "{result}");
    assert_eq!(result["files"][0]["layout"], "coinetl-candles-parquet");
    stored_candles(db);
    assert_eq!(counts(&db.coinetl(&["import", "candles.bin"]).json(0)), [3, 0, 0, 3, 0]);

    let prices: [[Option<f64>; 11]; 3] = [
        [
            Some(5.8e-21),
            None,
            Some(0.0),
            None,
            Some(1e23),
            None,
            Some(7.0),
            Some(-99.5),
            Some(1e-300),
            None,
            Some(5e-324),
        ],
        [None; 11],
        [Some(2.0), Some(1.0), None, Some(1.2e59), None, None, None, None, None, Some(-0.5), None],
    ];
    let mut columns = vec![
        Values::Texts(vec!["coinmarketcap"; 3]),
        Values::Texts(vec!["1", "2", "3"]),
        Values::Texts(vec!["a", "b", "b"]),
        Values::Texts(vec!["usd"; 3]),
        Values::Wholes(vec![Some(AT), Some(AT + 1), Some(AT + 999)]),
    ];
    for at in 0..11 {
        columns.push(match at {
            6 => Values::Wholes(prices.iter().map(|row| row[at].map(|rank| rank as i64)).collect()),
            _ => Values::Doubles(prices.iter().map(|row| row[at]).collect()),
        });
    }
    let figures: String = PRICE_COLUMNS
        .iter()
        .map(|name| format!("OPTIONAL {} {name}; ", if *name == "market_cap_rank" { "INT64" } else { "DOUBLE" }))
        .collect();
    let schema = format!(
        "message prices {{ REQUIRED BYTE_ARRAY source (UTF8); REQUIRED BYTE_ARRAY source_id (UTF8); REQUIRED BYTE_ARRAY symbol (UTF8); \
         REQUIRED BYTE_ARRAY vs_currency (UTF8); REQUIRED INT64 observed_at (TIMESTAMP(MILLIS,true)); {figures} }}"
    );
    write(&db.workdir().file("prices.parquet"), &schema, &columns, 3);
    assert_eq!(counts(&db.coinetl(&["import", "prices.parquet"]).json(0)), [3, 3, 0, 0, 0]);
    let stored = format!("SELECT observed_at, {} FROM prices ORDER BY observed_at", PRICE_COLUMNS.join(", "));
    let expected = [
        "2026-05-19 08:00:00.000|5.8e-21|NULL|0.0|NULL|1e23|NULL|7|-99.5|1e-300|NULL|5e-324",
        "2026-05-19 08:00:00.001|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
        "2026-05-19 08:00:00.999|2.0|1.0|NULL|1.2e59|NULL|NULL|NULL|NULL|NULL|-0.5|NULL",
    ];
    assert_eq!(db.lines(&stored), expected);
    // Cut, it is told.
    let whole = std::fs::read(db.workdir().file("prices.parquet")).unwrap();
    std::fs::write(db.workdir().file("cut.parquet"), &whole[..whole.len() - 9]).unwrap();
    db.coinetl(&["import", "cut.parquet"]).run().expect(3);
}
