//! Which layout a file has, by its first lines alone: its name tells nothing.

use std::collections::HashMap;

use super::cells::{Cells, moment, number, since_1970};
use super::lines::Form;
use crate::domain::{Column, Timeframe};

/// What a file was recognised as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Kaggle's `SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap`: a row a coin and day.
    Daily(DailyColumns),
    /// CryptoDataDownload: a banner, the newest row first, base and quote volume by the names of their columns.
    DataDownload(DownloadColumns),
    /// What exchanges answer and store: open time, prices, volume, close time, quote volume and more.
    Klines,
    /// A JSON array of arrays of open time, prices and volume.
    Bars(Timeframe),
    /// CoinGecko's `snapped_at,price,market_cap,total_volume`: observations.
    Observations(ObservedColumns),
    /// Our own export of candles.
    OwnCandles,
    /// Our own export of prices.
    OwnPrices,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DailyColumns {
    pub count: usize,
    pub name: Option<usize>,
    pub symbol: Option<usize>,
    pub date: usize,
    /// Open, high, low, close.
    pub prices: [usize; 4],
    pub volume: Option<usize>,
    pub market_cap: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadColumns {
    pub count: usize,
    pub time: usize,
    pub symbol: usize,
    /// Open, high, low, close.
    pub prices: [usize; 4],
    /// What each volume is counted in, in capitals.
    pub volumes: Vec<(String, usize)>,
    pub timeframe: Timeframe,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedColumns {
    pub count: usize,
    pub time: usize,
    pub price: usize,
    pub market_cap: Option<usize>,
    pub volume: Option<usize>,
}

/// A layout, and where its rows begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    pub layout: Layout,
    /// Lines in front of the first row.
    pub skip: u64,
}

/// Why a file can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("it is empty")]
    Empty,
    #[error("it is UTF-16; turn it into UTF-8 first: iconv -f UTF-16 -t UTF-8 FILE")]
    Utf16,
    #[error("it is compressed by {0}; unpack it first")]
    Compressed(&'static str),
    #[error("it holds exported quotes; only prices and candles can be imported")]
    Quotes,
    #[error("its layout is that of {layout}, but its timeframe can't be told: {why}")]
    Timeframe { layout: &'static str, why: String },
    #[error("its layout is none that is known ({KNOWN}); it begins with {begins}")]
    Layout { begins: String },
}

/// The known layouts, for people.
pub const KNOWN: &str = "Kaggle's SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap; CryptoDataDownload; \
                         exchange klines of 12 columns; CoinGecko's snapped_at,price,market_cap,total_volume; \
                         exports of coinetl as CSV or Parquet";

/// Columns of our own exports that tell whose row it is.
const OWN: [&str; 3] = ["source", "source_id", "symbol"];
/// Columns of our exported candles behind those.
pub const OWN_CANDLE: [&str; 13] = [
    "vs_currency",
    "timeframe",
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "base_volume",
    "market_cap",
    "samples",
    "origin",
    "final",
];
/// How many lines may stand in front of a header.
const BANNERS: usize = 3;

impl Layout {
    /// For people and programs.
    pub fn name(&self) -> &'static str {
        match self {
            Layout::Daily(_) => "kaggle",
            Layout::DataDownload(_) => "cryptodatadownload",
            Layout::Klines => "klines",
            Layout::Bars(_) => "json-bars",
            Layout::Observations(_) => "coingecko",
            Layout::OwnCandles => "coinetl-candles",
            Layout::OwnPrices => "coinetl-prices",
        }
    }

    /// Whether the rows name their coin.
    pub fn names_coin(&self) -> bool {
        !matches!(self, Layout::Klines | Layout::Bars(_) | Layout::Observations(_))
    }

    /// Whether the rows say whose coin it is, and by which id.
    pub fn is_own(&self) -> bool {
        matches!(self, Layout::OwnCandles | Layout::OwnPrices)
    }

    pub fn form(&self) -> Form {
        match self {
            // Names hold line ends at times, and only we are known to quote them.
            Layout::OwnCandles | Layout::OwnPrices => Form::Quoted,
            Layout::Bars(_) => Form::Brackets,
            _ => Form::Lines,
        }
    }
}

/// Recognises a text by its beginning, which may be cut anywhere.
pub fn recognise(head: &[u8]) -> Result<Recognised, Unknown> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    match head {
        [] => return Err(Unknown::Empty),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(Unknown::Utf16),
        [0x1f, 0x8b, ..] => return Err(Unknown::Compressed("gzip")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(Unknown::Compressed("zstd")),
        [b'B', b'Z', b'h', ..] => return Err(Unknown::Compressed("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(Unknown::Compressed("xz")),
        [0, byte, ..] | [byte, 0, ..] if byte.is_ascii_graphic() => return Err(Unknown::Utf16),
        _ => {}
    }
    if head.trim_ascii().is_empty() {
        return Err(Unknown::Empty);
    }
    if head.trim_ascii_start().starts_with(b"[") {
        return bars(head);
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut skip = 0;
    while skip < BANNERS as u64
        && let Some(line) = lines.next()
    {
        skip += 1;
        let cells = Cells::of(line);
        let names: Vec<String> = (0..cells.count().min(40)).map(|at| plain(cells.trimmed(at))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Some(layout) = by_names(&names, lines.clone())? {
            return Ok(Recognised { layout, skip });
        }
        if is_kline(&cells) {
            return Ok(Recognised { layout: Layout::Klines, skip: skip - 1 });
        }
    }
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let begins = super::cells::shown(first.trim_ascii());
    Err(Unknown::Layout { begins })
}

/// A name without what people write it with: `Unix Timestamp` and `unix_timestamp` are one.
fn plain(name: &[u8]) -> String {
    let kept = name.iter().filter(|byte| !matches!(byte, b' ' | b'_' | b'-' | b'.' | b'"'));
    kept.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// The layout that a header names, with rows behind it.
fn by_names<'a>(names: &[&str], rows: impl Iterator<Item = &'a [u8]>) -> Result<Option<Layout>, Unknown> {
    let own = |columns: &mut dyn Iterator<Item = &'static str>| {
        let columns: Vec<String> = OWN.into_iter().chain(columns).map(|name| plain(name.as_bytes())).collect();
        names == columns
    };
    if own(&mut OWN_CANDLE.into_iter()) {
        return Ok(Some(Layout::OwnCandles));
    }
    if own(&mut ["vs_currency", "observed_at"].into_iter().chain(Column::ALL.map(Column::name))) {
        return Ok(Some(Layout::OwnPrices));
    }
    if names.starts_with(&["source", "pair", "sequence"]) {
        return Err(Unknown::Quotes);
    }
    let at = |wanted: &[&str]| names.iter().position(|name| wanted.contains(name));
    if let (Some(time), Some(price)) = (at(&["snappedat"]), at(&["price"])) {
        let columns = ObservedColumns {
            count: names.len(),
            time,
            price,
            market_cap: at(&["marketcap"]),
            volume: at(&["totalvolume"]),
        };
        return Ok(Some(Layout::Observations(columns)));
    }
    let prices = [at(&["open"]), at(&["high"]), at(&["low"]), at(&["close"])];
    let [Some(open), Some(high), Some(low), Some(close)] = prices else { return Ok(None) };
    let prices = [open, high, low, close];
    if let (Some(time), Some(symbol)) = (at(&["unix", "unixtimestamp", "timestamp"]), at(&["symbol"])) {
        let volumes = names.iter().enumerate().filter_map(|(at, name)| {
            let unit = name.strip_prefix("volume").filter(|unit| !unit.is_empty())?;
            Some((unit.to_ascii_uppercase(), at))
        });
        let timeframe =
            timeframe(times(rows, time)).map_err(|why| Unknown::Timeframe { layout: "CryptoDataDownload", why })?;
        return Ok(Some(Layout::DataDownload(DownloadColumns {
            count: names.len(),
            time,
            symbol,
            prices,
            volumes: volumes.collect(),
            timeframe,
        })));
    }
    let is_klines = matches!(names.len(), 11 | 12)
        && prices == [1, 2, 3, 4]
        && matches!(names[0], "opentime" | "timestamp" | "date" | "time" | "opentimestamp")
        && names[5] == "volume"
        && names[6].starts_with("close")
        && names[7].starts_with("quote");
    if is_klines {
        return Ok(Some(Layout::Klines));
    }
    let (name, symbol) = (at(&["name"]), at(&["symbol"]));
    if let (Some(date), true) = (at(&["date"]), name.is_some() && symbol.is_some()) {
        let (volume, market_cap) = (at(&["volume"]), at(&["marketcap"]));
        let count = names.len();
        return Ok(Some(Layout::Daily(DailyColumns { count, name, symbol, date, prices, volume, market_cap })));
    }
    Ok(None)
}

/// Whether a line is a kline by its numbers: two times that are a timeframe apart around five numbers.
fn is_kline(cells: &Cells<'_>) -> bool {
    if !matches!(cells.count(), 11 | 12) {
        return false;
    }
    let numbers = (1..6).chain(7..9).all(|at| number(cells.trimmed(at)).is_some());
    let times = (moment(cells.trimmed(0)), moment(cells.trimmed(6)));
    numbers && matches!(times, (Ok(open), Ok(close)) if kline_length(close.millis() - open.millis()).is_some())
}

/// The timeframe of a kline: it is told to close a moment before the next one opens, or with it.
pub fn kline_length(millis: i64) -> Option<Timeframe> {
    Timeframe::ALL.into_iter().find(|timeframe| (0..=1000).contains(&(timeframe.millis() - millis)))
}

fn times<'a>(rows: impl Iterator<Item = &'a [u8]>, column: usize) -> Vec<i64> {
    rows.filter_map(|row| since_1970(Cells::of(row).trimmed(column))).collect()
}

/// The distance of most rows; of several that as many have, one that is a timeframe, which a cut or broken
/// number hardly makes.
fn timeframe(times: Vec<i64>) -> Result<Timeframe, String> {
    let mut distances: HashMap<i64, usize> = HashMap::new();
    for pair in times.windows(2) {
        if pair[0] != pair[1] {
            *distances.entry((pair[0] - pair[1]).abs()).or_default() += 1;
        }
    }
    let length = |millis: i64| (millis % 1000 == 0).then(|| Timeframe::of_seconds(millis / 1000)).flatten();
    let most = distances.into_iter().max_by_key(|(millis, count)| (*count, length(*millis).is_some(), -millis));
    let Some((millis, _)) = most else { return Err("it has no two rows at different times".to_owned()) };
    length(millis).ok_or_else(|| format!("its rows are {} s apart", millis as f64 / 1000.0))
}

fn bars(head: &[u8]) -> Result<Recognised, Unknown> {
    let rows = || head.split(|byte| *byte == b']').map(bar_of);
    let first = rows().next().unwrap_or_default();
    let cells = Cells::of(first);
    if cells.count() == 6 && (0..6).all(|at| number(cells.trimmed(at)).is_some()) {
        let timeframe =
            timeframe(times(rows(), 0)).map_err(|why| Unknown::Timeframe { layout: "a JSON array of bars", why })?;
        return Ok(Recognised { layout: Layout::Bars(timeframe), skip: 0 });
    }
    Err(Unknown::Layout { begins: super::cells::shown(&head[..head.len().min(60)]) })
}

/// An array's elements without its brackets and what is between two arrays.
pub fn bar_of(record: &[u8]) -> &[u8] {
    let from = record.iter().position(|byte| !matches!(byte, b'[' | b',') && !byte.is_ascii_whitespace());
    from.map_or(b"", |from| &record[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(head: &str) -> Layout {
        recognise(head.as_bytes()).unwrap_or_else(|err| panic!("{head}: {err}")).layout
    }

    fn skip(head: &str) -> u64 {
        recognise(head.as_bytes()).unwrap().skip
    }

    #[test]
    fn kaggle_with_and_without_padding() {
        let Layout::Daily(columns) = layout("SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap\n1,B") else {
            panic!()
        };
        assert_eq!((columns.prices, columns.date, columns.market_cap), ([6, 4, 5, 7], 3, Some(9)));
        let padded = "SNo , Name   , Symbol, Date               , High , Low  , Open , Close, Volume, Marketcap\n";
        assert_eq!(layout(padded), Layout::Daily(columns.clone()));
        assert_eq!(layout(&format!("\u{feff}{padded}")), Layout::Daily(columns));
    }

    #[test]
    fn cryptodatadownload_in_its_forms() {
        let old = "Timestamps are UTC timezone,https://www.CryptoDataDownload.com\r\n\
                   Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\r\n\
                   1603522800.0,2020-10-24 07-AM,BTCUSD,1,1,1,1,0.0,0.0\r\n\
                   1603522800.0,2020-10-24 08-AM,BTCUSD,1,1,1,1,0.0,0.0\r\n\
                   1603519200.0,2020-10-24 06-AM,BTCUSD,1,1,1,1,0.0,0.0\r\n";
        let Layout::DataDownload(columns) = layout(old) else { panic!() };
        assert_eq!((columns.timeframe, skip(old)), (Timeframe::H1, 2));
        assert_eq!(columns.volumes, [("BTC".to_owned(), 7), ("USD".to_owned(), 8)]);
        let new = "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount\n\
                   1646092800000,2022-03-01,BTC/USDT,1,1,1,1,0.0,0.0,5\n1646006400000,2022-02-28,BTC/USDT,1,1,1,1,0.0,0.0,5\n16";
        let Layout::DataDownload(columns) = layout(new) else { panic!() };
        assert_eq!((columns.timeframe, columns.count), (Timeframe::D1, 10));
        let lone = new.lines().take(3).collect::<Vec<_>>().join("\n");
        assert!(recognise(lone.as_bytes()).unwrap_err().to_string().contains("no two rows"));
    }

    #[test]
    fn klines_by_header_or_by_numbers() {
        let row = "1754006400000,1,2,0.5,1.5,10,1754006459999,15,3,1,1,0";
        assert_eq!((layout(row), skip(row)), (Layout::Klines, 0));
        let named = "open_time,open,high,low,close,volume,close_time,quote_volume,trade_count,taker_buy_base,taker_buy_quote,ignore\n";
        assert_eq!((layout(named), skip(named)), (Layout::Klines, 1));
        let spelled = "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,Taker buy base asset volume,Taker buy quote asset volume,Ignore\n";
        assert_eq!(layout(spelled), Layout::Klines);
        assert!(recognise(b"1754006400000,1,2,0.5,1.5,10,1754006400007,15,3,1,1,0").is_err());
        let bars = "[[1509836520000, 0.1, 0.1, 0.1, 0.1, 108.1], [1509836580000, 1, 1, 1, 1, 2], [15";
        assert_eq!(layout(bars), Layout::Bars(Timeframe::M1));
    }

    #[test]
    fn coingecko_and_our_own() {
        assert!(matches!(layout("snapped_at,price,market_cap,total_volume\n"), Layout::Observations(_)));
        let own = |columns: &[&str]| OWN.iter().chain(columns).copied().collect::<Vec<_>>().join(",");
        assert_eq!(layout(&own(&OWN_CANDLE)), Layout::OwnCandles);
        let prices: Vec<&str> =
            ["vs_currency", "observed_at"].into_iter().chain(Column::ALL.map(Column::name)).collect();
        assert_eq!(layout(&own(&prices)), Layout::OwnPrices);
        assert_eq!(recognise(b"source,pair,sequence,observed_at\n"), Err(Unknown::Quotes));
    }

    #[test]
    fn what_is_none_of_them_is_told() {
        assert_eq!(recognise(b""), Err(Unknown::Empty));
        assert_eq!(recognise(b" \n\n"), Err(Unknown::Empty));
        assert_eq!(recognise(b"\xff\xfeS\0N\0o\0"), Err(Unknown::Utf16));
        assert_eq!(recognise(b"S\0N\0o\0"), Err(Unknown::Utf16));
        assert_eq!(recognise(b"\x1f\x8b\x08"), Err(Unknown::Compressed("gzip")));
        let err = recognise(b"date,weather\n2020-01-01,fine\n").unwrap_err().to_string();
        assert!(err.contains("\"date,weather\"") && err.contains("Kaggle") && err.contains("Parquet"), "{err}");
        assert!(recognise(&[b'x'; 5000]).unwrap_err().to_string().len() < 500);
    }
}
