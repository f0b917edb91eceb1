//! The views, on rows made by hand.

use crate::support::test_db::TestDb;

on_every_database!(
    latest_prices_has_the_newest_of_each_coin_and_currency,
    the_largest_ten_of_each_source_and_currency,
    fewer_than_ten_and_ties_and_unknowns
);

const T: &str = "'2026-01-02 03:04:05.006'";

fn asset(db: &TestDb, id: i64, source: &str, active: bool) {
    let sql =
        format!("INSERT INTO assets VALUES ({id}, '{source}', 'id-{id}', 's{id}', 'Name {id}', {active}, {T}, {T})");
    db.execute(&sql);
}

fn run(db: &TestDb) {
    db.execute(&format!("INSERT INTO runs (id, command, source, started_at, status) VALUES (1, 'c', 's', {T}, 'ok')"));
}

fn price(db: &TestDb, asset: i64, vs: &str, at: &str, cap: &str, volume: &str) {
    db.execute(&format!(
        "INSERT INTO prices (asset_id, vs_currency, observed_at, price, market_cap, volume_24h, run_id) \
         VALUES ({asset}, '{vs}', '{at}', {asset}.5, {cap}, {volume}, 1)"
    ));
}

fn latest_prices_has_the_newest_of_each_coin_and_currency(db: &TestDb) {
    run(db);
    asset(db, 1, "coingecko", true);
    asset(db, 2, "coingecko", false);
    asset(db, 3, "sandbox-coingecko", true);
    asset(db, 4, "coingecko", true);
    for (asset, vs, at, cap) in [
        (1, "usd", "2026-01-01 00:00:00.001", "1"),
        (1, "usd", "2026-01-01 00:00:00.003", "3"),
        (1, "usd", "2026-01-01 00:00:00.002", "2"),
        (1, "eur", "2025-12-31 23:59:59.999", "4"),
        (1, "btc", "2026-01-03 00:00:00.000", "5"),
        (2, "usd", "2020-01-01 00:00:00.000", "6"),
        (3, "usd", "2026-01-01 00:00:00.000", "NULL"),
    ] {
        price(db, asset, vs, at, cap, "0");
    }
    assert_eq!(
        db.lines(
            "SELECT source, source_id, symbol, name, active, vs_currency, observed_at, market_cap FROM latest_prices \
             ORDER BY asset_id, vs_currency"
        ),
        [
            "coingecko|id-1|s1|Name 1|1|btc|2026-01-03 00:00:00.000|5.0",
            "coingecko|id-1|s1|Name 1|1|eur|2025-12-31 23:59:59.999|4.0",
            "coingecko|id-1|s1|Name 1|1|usd|2026-01-01 00:00:00.003|3.0",
            "coingecko|id-2|s2|Name 2|0|usd|2020-01-01 00:00:00.000|6.0",
            "sandbox-coingecko|id-3|s3|Name 3|1|usd|2026-01-01 00:00:00.000|NULL",
        ]
    );
    // All columns of prices, bit for bit.
    db.execute("UPDATE prices SET price = 5e-324, base_volume_24h = 1.2e59, circulating_supply = 0.1, total_supply = 7, market_cap_rank = 9, change_1h = -1.5, change_24h = 2.5, change_7d = 3.5, change_30d = 4.5 WHERE asset_id = 3");
    assert_eq!(
        db.lines(
            "SELECT asset_id, price, volume_24h, base_volume_24h, circulating_supply, total_supply, market_cap_rank, \
             change_1h, change_24h, change_7d, change_30d, run_id FROM latest_prices WHERE asset_id = 3"
        ),
        ["3|5e-324|0.0|1.2e59|0.1|7.0|9|-1.5|2.5|3.5|4.5|1"]
    );
}

fn the_largest_ten_of_each_source_and_currency(db: &TestDb) {
    run(db);
    // Twelve of each source; the caps fall with the id and the volumes rise with it.
    for id in 1..=24 {
        asset(db, id, if id <= 12 { "coingecko" } else { "sandbox-coingecko" }, id != 2 && id != 11);
        let (cap, volume) = (format!("{}e3", 100 - id), format!("{}", 1000 + id));
        // An older one that would win if it counted.
        price(db, id, "usd", "2026-01-01 00:00:00.000", "1e30", "1e30");
        price(db, id, "usd", "2026-01-02 00:00:00.000", &cap, &volume);
        price(db, id, "eur", "2026-01-02 00:00:00.000", &volume, &cap);
    }
    let top = |view: &str, source: &str, vs: &str| {
        db.lines(&format!(
            "SELECT position, asset_id FROM {view} WHERE source = '{source}' AND vs_currency = '{vs}' ORDER BY position"
        ))
    };
    let expected = |ids: Vec<i64>| -> Vec<String> {
        ids.into_iter().take(10).enumerate().map(|(at, id)| format!("{}|{id}", at + 1)).collect()
    };
    let active = |range: std::ops::RangeInclusive<i64>| range.filter(|id| *id != 2 && *id != 11);
    for (source, range) in [("coingecko", 1..=12), ("sandbox-coingecko", 13..=24)] {
        let falling = expected(active(range.clone()).collect());
        let rising = expected(active(range).rev().collect());
        assert_eq!(top("cap_top_10", source, "usd"), falling);
        assert_eq!(top("vol_top_10", source, "usd"), rising);
        assert_eq!(top("cap_top_10", source, "eur"), rising);
        assert_eq!(top("vol_top_10", source, "eur"), falling);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM cap_top_10"), 40);
    assert_eq!(
        db.lines("SELECT source_id, symbol, name, price, market_cap, observed_at FROM cap_top_10 WHERE asset_id = 3 AND vs_currency = 'usd'"),
        ["id-3|s3|Name 3|3.5|97000.0|2026-01-02 00:00:00.000"]
    );
}

fn fewer_than_ten_and_ties_and_unknowns(db: &TestDb) {
    assert_eq!(db.number("SELECT COUNT(*) FROM cap_top_10"), 0);
    run(db);
    for (id, cap, volume) in [(1, "5", "NULL"), (2, "NULL", "0"), (3, "5", "1.2e59"), (4, "0", "5e-324"), (5, "5", "0")]
    {
        asset(db, id, "coingecko", true);
        price(db, id, "usd", "2026-01-02 00:00:00.000", cap, volume);
    }
    // Equals stand in the order of their ids, unknown is not the smallest but no place at all.
    assert_eq!(db.lines("SELECT position, asset_id FROM cap_top_10 ORDER BY position"), ["1|1", "2|3", "3|5", "4|4"]);
    assert_eq!(db.lines("SELECT position, asset_id FROM vol_top_10 ORDER BY position"), ["1|3", "2|4", "3|2", "4|5"]);
}
