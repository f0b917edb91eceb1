//! Drives the price sink for `scripts/bench`: makes rows from a fixed seed, stores them as
//! `prices insert` does, writes the same rows as files for the databases' own loaders, and reads
//! a table back to compare every value of it with the row it was made from.
//!
//! Not a benchmark by itself: the loaders run in between, and the script holds the clock for both.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coinetl::db::prices::{PriceRow, Stored, upsert};
use coinetl::db::{Absent, AnyConnection, Backend, DatabaseUrl, Session, assets, migrate, open};
use coinetl::domain::{Coin, Column, Cost, Figures, Stamp};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text, Timestamp};

const USAGE: &str = "\
usage: price_sink prepare URL COINS                     schema and coins
       price_sink write   FILE NULL COINS ROWS PASS     rows as tab-separated text
       price_sink store   URL GROUP COINS ROWS PASS     rows through the price sink; prints seconds and counts
       price_sink check   URL COINS ROWS PASS           reads the table back and compares every value
PASS 1 and 2 hold the same keys with other numbers. Run it by way of scripts/bench.";

/// Runs begin at 1 in a new database: the coins' run, then one for each pass.
const RUN_OF_COINS: i64 = 1;
const FIRST_SNAPSHOT_MS: i64 = 1_788_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const SEED: u64 = 0x00C0_1E71;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["prepare", url, coins] => prepare(url, coins.parse()?),
        ["write", file, null, coins, rows, pass] => write(file, null, &Market::new(coins, rows, pass)?),
        ["store", url, group, coins, rows, pass] => store(url, group.parse()?, &Market::new(coins, rows, pass)?),
        ["check", url, coins, rows, pass] => check(url, &Market::new(coins, rows, pass)?),
        // `cargo bench` comes by with arguments of its own.
        _ => {
            println!("{USAGE}");
            Ok(())
        }
    }
}

/// Snapshot after snapshot of the same coins, an hour apart, in the order of their ids.
struct Market {
    coins: usize,
    rows: usize,
    pass: i64,
    vs_currency: Arc<str>,
}

impl Market {
    fn new(coins: &str, rows: &str, pass: &str) -> Result<Self, Box<dyn Error>> {
        Ok(Market { coins: coins.parse()?, rows: rows.parse()?, pass: pass.parse()?, vs_currency: "usd".into() })
    }

    fn run_id(&self) -> i64 {
        RUN_OF_COINS + self.pass
    }

    fn rows(&self) -> impl Iterator<Item = PriceRow> {
        (0..self.rows).map(|n| self.row(n / self.coins, n % self.coins))
    }

    /// In the shape of CoinGecko's answers with full precision: prices over 25 powers of ten,
    /// whole market caps, percentages of 16 digits, a few percent unknown.
    fn row(&self, snapshot: usize, coin: usize) -> PriceRow {
        let mut of_coin = Dice(SEED ^ (coin as u64) << 20);
        let mut of_row = Dice(of_coin.next() ^ (snapshot as u64) << 3 ^ self.pass as u64);
        // Keys are the same in both passes, so they must not know the pass.
        let late_ms = Dice(of_coin.next() ^ snapshot as u64).next() % 300_000;
        let observed_at = FIRST_SNAPSHOT_MS + snapshot as i64 * HOUR_MS - late_ms as i64;

        let moved = 1.0 + (of_row.unit() - 0.5) / 10.0;
        let price = 10f64.powf(of_coin.unit() * 12.0 - 8.0) * moved;
        let supply = digits(10f64.powf(of_coin.unit() * 7.0 + 5.0), 15);
        let volume = digits(10f64.powf(of_coin.unit() * 9.0) * moved, 9);
        let listed = of_coin.unit() < 0.6;
        let mut percent = |width: f64| (of_row.unit() < 0.97).then(|| (of_row.unit() - 0.5) * width);
        let changes = [percent(4.0), percent(20.0), percent(60.0), percent(150.0)];
        let values = [
            (Column::Price, Some(price)),
            (Column::Volume24h, Some(volume)),
            (Column::MarketCap, Some(if listed { (price * supply).round() } else { 0.0 })),
            (Column::CirculatingSupply, Some(if listed { supply } else { 0.0 })),
            (Column::TotalSupply, (of_coin.unit() < 0.9).then_some(supply)),
            (Column::MarketCapRank, listed.then_some((coin + 1) as f64)),
            (Column::Change1h, changes[0]),
            (Column::Change24h, changes[1]),
            (Column::Change7d, changes[2]),
            (Column::Change30d, changes[3]),
        ];
        let mut figures = Figures::default();
        for (column, value) in values {
            figures.set(column, value).expect("generated figures are finite");
        }
        PriceRow {
            asset_id: coin as i64 + 1,
            vs_currency: self.vs_currency.clone(),
            observed_at: Stamp::from_millis(observed_at).expect("generated times are in range"),
            figures,
        }
    }
}

/// splitmix64: the same rows on every machine, without a dependency.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number of so many significant digits, as a source that rounds would send it.
fn digits(value: f64, count: usize) -> f64 {
    format!("{value:.*e}", count - 1).parse().unwrap_or(value)
}

fn session(url: &str, command: &str) -> Result<Session, Box<dyn Error>> {
    let opened = open(&DatabaseUrl::parse(url)?, Absent::Fail)?;
    Ok(Session::begin(opened, command, "bench", Duration::ZERO)?)
}

fn finish(mut session: Session) -> Outcome {
    session.finish(coinetl::db::runs::Status::Ok, None, Cost::default())?;
    Ok(())
}

fn prepare(url: &str, coins: usize) -> Outcome {
    migrate::run_pending(&mut open(&DatabaseUrl::parse(url)?, Absent::Create)?.conn)?;
    let mut session = session(url, "assets upsert")?;
    let made = (1..=coins).map(|n| Coin::new(format!("coin-{n:06}"), Some(format!("c{n}")), Some(format!("Coin {n}"))));
    let made = made.collect::<Result<Vec<Coin>, _>>()?;
    let ids = session.batch(|batch| assets::insert(batch, "bench", &made.iter().collect::<Vec<_>>()))?;
    if ids.first() != Some(&1) || ids.len() != coins {
        return Err("the database was not empty".into());
    }
    finish(session)
}

fn write(file: &str, null: &str, market: &Market) -> Outcome {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(file)?);
    let mut line = String::new();
    let mut number = ryu::Buffer::new();
    for row in market.rows() {
        line.clear();
        write!(line, "{}\t{}\t{}", row.asset_id, row.vs_currency, row.observed_at)?;
        for column in Column::ALL {
            line.push('\t');
            match row.figures.get(column) {
                None => line.push_str(null),
                Some(rank) if column == Column::MarketCapRank => write!(line, "{rank}")?,
                Some(value) => line.push_str(number.format_finite(value)),
            }
        }
        writeln!(out, "{line}\t{}", market.run_id())?;
    }
    out.flush()?;
    Ok(())
}

fn store(url: &str, group: usize, market: &Market) -> Outcome {
    let rows: Vec<PriceRow> = market.rows().collect();
    let mut groups: Vec<Vec<PriceRow>> = rows.chunks(group).map(<[PriceRow]>::to_vec).collect();
    drop(rows);
    let started = Instant::now();
    let mut session = session(url, "prices insert")?;
    if session.run_id() != market.run_id() {
        return Err(format!("this is run {}, not {}", session.run_id(), market.run_id()).into());
    }
    let mut sum = Stored::default();
    for group in &mut groups {
        let stored = session.batch(|batch| {
            let count = group.len() as i64;
            let stored = upsert(batch, group)?;
            batch.tally.read += count;
            batch.tally.written += (stored.new + stored.updated) as i64;
            batch.tally.updated += stored.updated as i64;
            batch.tally.unchanged += stored.unchanged as i64;
            Ok(stored)
        })?;
        sum.new += stored.new;
        sum.updated += stored.updated;
        sum.unchanged += stored.unchanged;
    }
    // Closing counts: it is where SQLite brings the last of its log into the file.
    finish(session)?;
    let seconds = started.elapsed().as_secs_f64();
    let Stored { new, updated, unchanged } = sum;
    println!("{{\"seconds\": {seconds:.4}, \"new\": {new}, \"updated\": {updated}, \"unchanged\": {unchanged}}}");
    Ok(())
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Double>)]
    price: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    base_volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    circulating_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    total_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Integer>)]
    market_cap_rank: Option<i32>,
    #[diesel(sql_type = Nullable<Double>)]
    change_1h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_7d: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_30d: Option<f64>,
    #[diesel(sql_type = BigInt)]
    run_id: i64,
}

impl Found {
    fn figures(&self) -> [Option<f64>; Column::COUNT] {
        [
            self.price,
            self.volume_24h,
            self.base_volume_24h,
            self.market_cap,
            self.circulating_supply,
            self.total_supply,
            self.market_cap_rank.map(f64::from),
            self.change_1h,
            self.change_24h,
            self.change_7d,
            self.change_30d,
        ]
    }
}

/// Fails on any row that is missing, doubled or other than the one it was made from. Doubles that
/// are off by their last bit are counted and let pass: the sqlite3 shell reads decimals that way.
fn check(url: &str, market: &Market) -> Outcome {
    const COINS_AT_ONCE: usize = 500;
    let mut conn = open(&DatabaseUrl::parse(url)?, Absent::Fail)?.conn;
    let (mut count, mut off) = (0, 0);
    for from in (0..market.coins).step_by(COINS_AT_ONCE) {
        let coins = from..(from + COINS_AT_ONCE).min(market.coins);
        let mut expected: Vec<PriceRow> = (0..market.rows.div_ceil(market.coins))
            .flat_map(|snapshot| coins.clone().map(move |coin| (snapshot, coin)))
            .filter(|(snapshot, coin)| snapshot * market.coins + coin < market.rows)
            .map(|(snapshot, coin)| market.row(snapshot, coin))
            .collect();
        expected.sort_by_key(|row| (row.asset_id, row.observed_at));
        let found = read(&mut conn, coins.start as i64 + 1, coins.end as i64)?;
        if found.len() != expected.len() {
            return Err(format!("{} rows of coins {coins:?} instead of {}", found.len(), expected.len()).into());
        }
        for (found, expected) in found.iter().zip(&expected) {
            off += compare(found, expected, market.run_id())?;
        }
        count += found.len();
    }
    println!("{{\"rows\": {count}, \"last_bit_off\": {off}}}");
    Ok(())
}

fn read(conn: &mut AnyConnection, from: i64, to: i64) -> Result<Vec<Found>, Box<dyn Error>> {
    // The shell stores an empty text where it should store NULL.
    let figure = |column: &Column| match conn.backend() {
        Backend::Sqlite => format!("NULLIF({0}, '') AS {0}", column.name()),
        Backend::Mysql | Backend::Postgres => column.name().to_owned(),
    };
    let figures: Vec<String> = Column::ALL.iter().map(figure).collect();
    let text = format!(
        "SELECT asset_id, vs_currency, observed_at, {}, run_id FROM prices \
         WHERE asset_id BETWEEN {from} AND {to} ORDER BY asset_id, vs_currency, observed_at",
        figures.join(", ")
    );
    Ok(diesel::sql_query(text).load(conn)?)
}

fn compare(found: &Found, expected: &PriceRow, run_id: i64) -> Result<usize, Box<dyn Error>> {
    let key = (expected.asset_id, &*expected.vs_currency, expected.observed_at.naive(), run_id);
    if (found.asset_id, found.vs_currency.as_str(), found.observed_at, found.run_id) != key {
        return Err(format!("a row of run {} instead of {key:?}", found.run_id).into());
    }
    let mut off = 0;
    for (column, found) in Column::ALL.into_iter().zip(found.figures()) {
        let expected = expected.figures.get(column);
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        match (bits(found), bits(expected)) {
            (found, expected) if found == expected => {}
            (Some(found), Some(expected)) if found.abs_diff(expected) == 1 => off += 1,
            _ => return Err(format!("{} of {key:?} is {found:?}, not {expected:?}", column.name()).into()),
        }
    }
    Ok(off)
}
