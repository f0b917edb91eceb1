//! The three schemas: made, taken back, made again, and the same everywhere.

use std::collections::BTreeSet;

use coinetl::db::migrate;
use diesel::connection::SimpleConnection;

use crate::support::test_db::{Backend, TestDb};

on_every_database!(
    migrations_go_up_and_down_and_up,
    what_the_schema_forbids_is_refused,
    every_foreign_key_and_time_range_has_an_index
);

fn migrations_go_up_and_down_and_up(db: &TestDb) {
    let first = schema(db);
    let applied = db.number("SELECT COUNT(*) FROM __diesel_schema_migrations");
    let reverted = migrate::revert_all(&mut db.open().conn).unwrap_or_else(|err| panic!("{err}"));
    assert_eq!(reverted.len() as i64, applied);
    assert_eq!(schema(db), BTreeSet::new(), "left behind by the down.sql files");
    assert_eq!(db.setup()["applied"].as_array().unwrap().len() as i64, applied);
    assert_eq!(schema(db), first);
}

#[test]
fn the_three_schemas_are_the_same() {
    let [sqlite, mysql, postgres] = [Backend::Sqlite, Backend::Mysql, Backend::Postgres].map(|backend| {
        TestDb::new(backend).map(|db| {
            db.setup();
            schema(&db)
        })
    });
    let sqlite = sqlite.expect("SQLite is always there");
    for table in [
        "runs",
        "assets",
        "prices",
        "dead_letters",
        "leases",
        "call_slots",
        "absences",
        "accounts",
        "candles",
        "crypto_metrics",
        "quote_windows",
        "fx_rates",
        "coverage",
    ] {
        assert!(sqlite.iter().any(|line| line.starts_with(&format!("table {table} "))), "{table}");
    }
    for view in ["latest_prices", "cap_top_10", "vol_top_10", "quotes_coins", "daily_prices"] {
        assert!(sqlite.iter().any(|line| line.starts_with(&format!("view {view} "))), "{view}");
    }
    // SQLite knows one size of whole numbers.
    let coarse = |schema: &BTreeSet<String>| -> BTreeSet<String> {
        schema.iter().map(|line| line.replace("whole32", "whole").replace("whole64", "whole")).collect()
    };
    for server in [&mysql, &postgres].into_iter().flatten() {
        same(&sqlite, &coarse(server));
    }
    if let (Some(mysql), Some(postgres)) = (&mysql, &postgres) {
        same(mysql, postgres);
    }
}

/// A database of before keeps its rows, and whoever has it open goes by the new words.
#[test]
fn sqlite_s_checks_are_said_anew() {
    const DOWN: &str = include_str!("../../migrations/sqlite/2026-11-27-000000_checks/down.sql");
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let new_words = "SELECT COUNT(*) FROM sqlite_master WHERE sql LIKE '%origin = ''source'' OR%' OR sql LIKE '%state = ''full'' OR%'";
    db.execute(DOWN);
    db.execute("DELETE FROM __diesel_schema_migrations WHERE version = '20261127000000'");
    assert_eq!(db.number(new_words), 0);
    const T: &str = "'2026-01-02 03:04:05.006'";
    db.execute(&format!("INSERT INTO assets VALUES (1, 's', 'a', 'a', 'a', TRUE, {T}, {T})"));
    let candle = |timeframe: &str, origin: &str| {
        format!(
            "INSERT INTO candles VALUES (1, 'usd', '{timeframe}', {T}, 1, 1, 1, 1, 1, 1, 1, 1, '{origin}', TRUE, 1)"
        )
    };
    let mut other = db.open().conn;
    other.batch_execute(&candle("1d", "archive")).unwrap();
    assert_eq!(db.setup()["applied"].as_array().unwrap().len(), 1);
    assert_eq!(db.number(new_words), 2);
    other.batch_execute(&candle("1h", "rollup")).unwrap();
    assert!(other.batch_execute(&candle("6h", "odd")).is_err());
    assert_eq!(db.lines("SELECT timeframe FROM candles"), ["1d", "1h"]);
    assert_eq!(db.lines("PRAGMA integrity_check"), ["ok"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM sqlite_master WHERE name = 'changed'"), 0);
}

fn same(one: &BTreeSet<String>, other: &BTreeSet<String>) {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(one == other, "only here:\n  {}\nonly there:\n  {}", only(one, other), only(other, one));
}

fn what_the_schema_forbids_is_refused(db: &TestDb) {
    const T: &str = "'2026-01-02 03:04:05.006'";
    db.execute(&format!("INSERT INTO runs (id, command, source, started_at, status) VALUES (1, 'c', 's', {T}, 'ok')"));
    db.execute(&format!("INSERT INTO assets VALUES (1, 's', 'a', 'a', 'a', TRUE, {T}, {T})"));
    let price = |asset: i64, run: i64| {
        format!("INSERT INTO prices (asset_id, vs_currency, observed_at, run_id) VALUES ({asset}, 'usd', {T}, {run})")
    };
    db.execute(&price(1, 1));
    let candle = |origin: &str| {
        format!("INSERT INTO candles VALUES (1, 'usd', '1d', {T}, 1, 1, 1, 1, 1, 1, 1, 1, '{origin}', TRUE, 1)")
    };
    db.execute(&candle("archive"));
    for forbidden in [
        format!("INSERT INTO runs (command, source, started_at, status) VALUES ('c', 's', {T}, 'odd')"),
        format!("INSERT INTO assets VALUES (2, 's', 'a', 'b', 'b', TRUE, {T}, {T})"),
        price(1, 1),
        price(9, 1),
        "DELETE FROM assets WHERE id = 1".to_owned(),
        format!(
            "INSERT INTO dead_letters (run_id, source, topic, payload, error, received_at) VALUES (9, 's', 't', 'p', 'e', {T})"
        ),
        "INSERT INTO absences VALUES (9, 'usd', 0)".to_owned(),
        candle("odd"),
        format!("INSERT INTO coverage VALUES (1, 'usd', '1d', {T}, {T}, 'odd', NULL, 1)"),
    ] {
        // SQLite checks foreign keys only where a connection asks for it.
        let strict = if db.backend() == Backend::Sqlite { "PRAGMA foreign_keys = ON; " } else { "" };
        assert!(db.try_execute(&format!("{strict}{forbidden}")).is_err(), "{forbidden}");
    }
}

fn every_foreign_key_and_time_range_has_an_index(db: &TestDb) {
    let schema = schema(db);
    let indexed: Vec<(&str, &str)> = schema
        .iter()
        .filter_map(|line| {
            let (kind, rest) = line.split_once(' ')?;
            let (table, rest) = rest.split_once(' ')?;
            let columns = rest.split_once('(')?.1.split_once(')')?.0;
            (kind == "index" || kind == "unique" || kind == "primary").then_some((table, columns))
        })
        .collect();
    let has = |table: &str, column: &str| {
        indexed
            .iter()
            .any(|(of, columns)| *of == table && (*columns == column || columns.starts_with(&format!("{column},"))))
    };
    let mut keys = 0;
    for line in schema.iter().filter(|line| line.starts_with("foreign ")) {
        let mut words = line.split(' ').skip(1);
        let (table, column) = (words.next().unwrap(), words.next().unwrap().trim_matches(['(', ')']));
        assert!(has(table, column), "{line}: no index");
        keys += 1;
    }
    assert_eq!(keys, 6);
    for (table, column) in
        [("prices", "observed_at"), ("prices", "run_id"), ("runs", "started_at"), ("candles", "run_id")]
    {
        assert!(has(table, column), "{table}.{column}");
    }
}

/// Everything about a schema that should be the same in all three, one fact a line:
///
/// ```text
/// table prices 3 price double null default=-
/// primary prices (asset_id,vs_currency,observed_at)
/// unique assets (source,source_id)
/// index prices prices_by_run (run_id)
/// foreign prices (run_id) -> runs(id)
/// view latest_prices 1 vs_currency
/// ```
fn schema(db: &TestDb) -> BTreeSet<String> {
    match db.backend() {
        Backend::Sqlite => sqlite(db),
        Backend::Mysql => mysql(db),
        Backend::Postgres => postgres(db),
    }
}

fn column(table: &str, place: i64, name: &str, kind: &str, null: bool, default: Option<&str>) -> String {
    let null = if null { "null" } else { "filled" };
    format!("table {table} {place} {name} {kind} {null} default={}", default.unwrap_or("-"))
}

fn sqlite(db: &TestDb) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    let tables = db.query(
        "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' \
         AND name NOT LIKE '\\_\\_diesel%' ESCAPE '\\'",
    );
    for row in tables {
        let (of, table) = (row[0].clone().unwrap(), row[1].clone().unwrap());
        let mut primary = Vec::new();
        for column_row in
            db.query(&format!("SELECT cid, name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{table}')"))
        {
            let text = |at: usize| column_row[at].clone().unwrap_or_default();
            let place: i64 = text(0).parse::<i64>().unwrap() + 1;
            let name = text(1);
            if of == "view" {
                facts.insert(format!("view {table} {place} {name}"));
                continue;
            }
            let kind = match text(2).as_str() {
                "INTEGER" => "whole",
                "REAL" => "double",
                "BOOLEAN" => "truth",
                // Quotes are told to the microsecond.
                "TEXT" if table == "crypto_metrics" && name.ends_with("_at") => "time6",
                "TEXT" if name.ends_with("_start") || (name.ends_with("_time") && table.starts_with("quote_")) => {
                    "time6"
                }
                "TEXT" if name.ends_with("_at") || name.ends_with("_time") || ["moment", "hour"].contains(&&*name) => {
                    "time"
                }
                "TEXT" => "text",
                other => panic!("{table}.{name} is {other}"),
            };
            facts.insert(column(&table, place, &name, kind, text(3) == "0", column_row[4].as_deref()));
            if text(5) != "0" {
                primary.push((text(5).parse::<i64>().unwrap(), name));
            }
        }
        if of == "view" {
            continue;
        }
        primary.sort();
        let primary: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
        facts.insert(format!("primary {table} ({})", primary.join(",")));
        for index in db.query(&format!("SELECT name, \"unique\", origin FROM pragma_index_list('{table}')")) {
            let (name, unique, origin) =
                (index[0].clone().unwrap(), index[1].as_deref() == Some("1"), index[2].clone().unwrap());
            let columns = db.lines(&format!("SELECT name FROM pragma_index_info('{name}') ORDER BY seqno")).join(",");
            match (origin.as_str(), unique) {
                ("pk", _) => continue,
                (_, true) => facts.insert(format!("unique {table} ({columns})")),
                (_, false) => facts.insert(format!("index {table} {name} ({columns})")),
            };
        }
        for key in db.lines(&format!("SELECT '(' || \"from\" || ') -> ' || \"table\" || '(' || \"to\" || ')' FROM pragma_foreign_key_list('{table}')")) {
            facts.insert(format!("foreign {table} {key}"));
        }
    }
    facts
}

fn mysql(db: &TestDb) -> BTreeSet<String> {
    let columns = "SELECT t.table_type, c.table_name, CAST(c.ordinal_position AS SIGNED), c.column_name, c.column_type, c.is_nullable, c.column_default \
         FROM information_schema.columns c \
         JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
         WHERE c.table_schema = DATABASE() AND c.table_name <> '__diesel_schema_migrations'";
    let kind = |of: &str, name: &str| match of.split('(').next().unwrap_or_default() {
        "bigint" => "whole64",
        "int" => "whole32",
        "double" => "double",
        "tinyint" => "truth",
        "datetime" if of == "datetime(3)" => "time",
        "datetime" if of == "datetime(6)" => "time6",
        "varchar" | "text" | "mediumtext" => "text",
        other => panic!("{name} is {other}"),
    };
    // MySQL makes an index for a foreign key by itself; those that we have not named are not ours.
    let keys = "SELECT table_name, index_name, CAST(non_unique AS SIGNED), GROUP_CONCAT(column_name ORDER BY seq_in_index) \
         FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name <> '__diesel_schema_migrations' \
         GROUP BY table_name, index_name, non_unique";
    let foreign = "SELECT CONCAT(table_name, ' (', column_name, ') -> ', referenced_table_name, '(', referenced_column_name, ')') \
         FROM information_schema.key_column_usage \
         WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL";
    collect(db, columns, kind, keys, foreign)
}

fn postgres(db: &TestDb) -> BTreeSet<String> {
    let columns = "SELECT t.table_type, c.table_name, c.ordinal_position, c.column_name, \
         c.data_type || COALESCE('(' || c.datetime_precision || ')', ''), c.is_nullable, c.column_default \
         FROM information_schema.columns c \
         JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
         WHERE c.table_schema = 'public' AND c.table_name <> '__diesel_schema_migrations'";
    let kind = |of: &str, name: &str| match of {
        "bigint" => "whole64",
        "integer" => "whole32",
        "double precision" => "double",
        "boolean" => "truth",
        "timestamp without time zone(3)" => "time",
        "timestamp without time zone(6)" => "time6",
        "text" => "text",
        other => panic!("{name} is {other}"),
    };
    let keys = "SELECT t.relname, CASE WHEN x.indisprimary THEN 'PRIMARY' ELSE i.relname END, \
         CASE WHEN x.indisunique THEN 0 ELSE 1 END, \
         (SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(x.indkey) WITH ORDINALITY k(attnum, n) \
          JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid \
         JOIN pg_namespace n ON n.oid = t.relnamespace \
         WHERE n.nspname = 'public' AND t.relname <> '__diesel_schema_migrations'";
    let foreign = "SELECT c.conrelid::regclass::text || ' (' || a.attname || ') -> ' || c.confrelid::regclass::text || '(' || b.attname || ')' \
         FROM pg_constraint c \
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] \
         JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = c.confkey[1] \
         WHERE c.contype = 'f'";
    collect(db, columns, kind, keys, foreign)
}

fn collect(
    db: &TestDb,
    columns: &str,
    kind: impl Fn(&str, &str) -> &'static str,
    keys: &str,
    foreign: &str,
) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for row in db.query(columns) {
        let text = |at: usize| row[at].clone().unwrap_or_default();
        let (table, place, name) = (text(1), text(2).parse().unwrap(), text(3));
        if text(0) == "VIEW" {
            facts.insert(format!("view {table} {place} {name}"));
            continue;
        }
        let kind = kind(&text(4), &format!("{table}.{name}"));
        // MariaDB writes the default NULL out.
        let default = row[6].as_deref().filter(|default| *default != "NULL");
        facts.insert(column(&table, place, &name, kind, text(5) == "YES", default));
    }
    for row in db.query(keys) {
        let text = |at: usize| row[at].clone().unwrap_or_default();
        let (table, name, unique, columns) = (text(0), text(1), text(2) == "0", text(3));
        facts.insert(match (name.as_str(), unique) {
            ("PRIMARY", _) => format!("primary {table} ({columns})"),
            (_, true) => format!("unique {table} ({columns})"),
            (_, false) => format!("index {table} {name} ({columns})"),
        });
    }
    facts.extend(db.lines(foreign).into_iter().map(|key| format!("foreign {key}")));
    facts
}
