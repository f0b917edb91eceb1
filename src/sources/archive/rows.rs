//! Records of each layout as candles and observations. Pure: bytes in, a row or a reason out.

use std::collections::HashSet;
use std::sync::Arc;

use super::cells::{Cells, moment, shown, utf8};
use super::layout::{DailyColumns, DownloadColumns, Layout, ObservedColumns, bar_of, kline_length};
use super::own;
use crate::domain::{Bar, Candle, Coin, Column, Figures, Origin, Stamp, Timeframe};

/// More coins than these no file of ours names; they are remembered.
const MOST_SUBJECTS: usize = 100_000;
/// What MySQL keeps of a source's name and a currency.
const MAX_SHORT_BYTES: usize = 64;
/// Rows back that a doubled hour is looked for.
const DOUBLED_WITHIN: usize = 32;

/// A coin and a currency as a file names them; what it does not name is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Subject {
    /// Whose coin it is, and its id there: only our own exports say so.
    pub own: Option<(String, String)>,
    pub name: Option<String>,
    pub symbol: Option<String>,
    /// In small letters, but where it is our own.
    pub vs_currency: Option<Arc<str>>,
}

impl Subject {
    /// What a coin is called where nobody says otherwise.
    pub fn id(&self) -> Option<&str> {
        let own = self.own.as_ref().map(|(_, id)| id.as_str());
        own.or(self.name.as_deref()).or(self.symbol.as_deref())
    }

    /// Refuses what a database would refuse.
    fn check(&self) -> Result<(), String> {
        if let Some(id) = self.id() {
            Coin::new(id.to_owned(), self.symbol.clone(), self.name.clone()).map_err(|err| err.to_string())?;
        }
        let own_source = self.own.as_ref().map(|(source, _)| source.as_str());
        for (what, text) in [("the source", own_source), ("the currency", self.vs_currency.as_deref())] {
            if text.is_some_and(|text| text.is_empty() || text.len() > MAX_SHORT_BYTES || text.contains('\0')) {
                return Err(format!("{what} is empty, longer than {MAX_SHORT_BYTES} bytes, or no text"));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Candle(Candle),
    Price(Stamp, Figures),
}

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    Item(Arc<Subject>, Item),
    /// A bar that this file told a few rows before.
    Doubled,
    /// An empty line.
    Nothing,
}

/// When a file was written, as far as one may believe what says so: an interval of such a moment was not
/// over. Files that were copied or unpacked later tell a later moment, or one long ago.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub file: Option<Stamp>,
    /// What the archive says of its member.
    pub member: Option<Stamp>,
    /// When it is read: nobody knows what comes later.
    pub now: Stamp,
}

impl Written {
    /// Everything was over.
    #[cfg(test)]
    pub const AT_LAST: Written = Written { file: None, member: None, now: Stamp::LAST };

    fn was_over(self, from: Stamp, end: Stamp) -> bool {
        let is_within = |moment: Stamp| from <= moment && moment < end;
        end <= self.now && ![self.file, self.member].into_iter().flatten().any(is_within)
    }
}

/// From here on a moment of a day stands for its end.
const LAST_MINUTE_MS: i64 = 86_340_000;

/// Reads the records of one file.
pub struct Rows {
    layout: Layout,
    subjects: Subjects,
    written: Written,
    recent: [Option<(usize, Stamp)>; DOUBLED_WITHIN],
    next_recent: usize,
}

/// The coins seen so far, each kept once.
#[derive(Default)]
pub struct Subjects {
    known: HashSet<Arc<Subject>>,
    last: Option<Arc<Subject>>,
}

impl Subjects {
    /// `is_last` compares with the coin of the row before, which saves looking for it.
    pub fn get(
        &mut self,
        is_last: impl Fn(&Subject) -> bool,
        make: impl FnOnce() -> Subject,
    ) -> Result<Arc<Subject>, String> {
        if let Some(last) = &self.last
            && is_last(last)
        {
            return Ok(last.clone());
        }
        let made = make();
        let subject = match self.known.get(&made) {
            Some(known) => known.clone(),
            None if self.known.len() >= MOST_SUBJECTS => {
                return Err(format!("the file names more than {MOST_SUBJECTS} coins"));
            }
            None => {
                made.check()?;
                let fresh = Arc::new(made);
                self.known.insert(fresh.clone());
                fresh
            }
        };
        self.last = Some(subject.clone());
        Ok(subject)
    }
}

impl Rows {
    pub fn new(layout: Layout, written: Written) -> Rows {
        Rows { layout, subjects: Subjects::default(), written, recent: [None; DOUBLED_WITHIN], next_recent: 0 }
    }

    /// Reads a record; the reason where it can't be used.
    pub fn read(&mut self, record: &[u8]) -> Result<Row, String> {
        let record = match self.layout {
            Layout::Bars(_) => bar_of(record),
            _ => record,
        };
        if record.trim_ascii().is_empty() {
            return Ok(Row::Nothing);
        }
        let cells = Cells::of(record);
        match &self.layout {
            Layout::Daily(columns) => daily(&cells, columns, &mut self.subjects, self.written),
            Layout::DataDownload(columns) => {
                let row = download(&cells, columns, &mut self.subjects, self.written)?;
                Ok(self.once(row))
            }
            Layout::Klines => kline(&cells, &mut self.subjects, self.written),
            Layout::Bars(timeframe) => bar(&cells, *timeframe, &mut self.subjects, self.written),
            Layout::Observations(columns) => observation(&cells, columns, &mut self.subjects),
            Layout::OwnCandles => own::candle(&cells, &mut self.subjects),
            Layout::OwnPrices => own::price(&cells, &mut self.subjects),
        }
    }

    /// Where clocks are set back, an hour is told twice; the first row of it counts, however rows are
    /// parted into batches.
    fn once(&mut self, row: Row) -> Row {
        let Row::Item(subject, Item::Candle(candle)) = &row else { return row };
        let key = (Arc::as_ptr(subject) as usize, candle.open_time);
        if self.recent.contains(&Some(key)) {
            return Row::Doubled;
        }
        self.recent[self.next_recent] = Some(key);
        self.next_recent = (self.next_recent + 1) % DOUBLED_WITHIN;
        row
    }
}

fn counted(cells: &Cells<'_>, count: usize) -> Result<(), String> {
    match cells.count() == count {
        true => Ok(()),
        false => Err(format!("it has {} columns instead of {count}", cells.count())),
    }
}

fn prices(cells: &Cells<'_>, [open, high, low, close]: [usize; 4]) -> Result<Bar, String> {
    Ok(Bar {
        open: cells.needed(open, "open")?,
        high: cells.needed(high, "high")?,
        low: cells.needed(low, "low")?,
        close: cells.needed(close, "close")?,
        volume: None,
        base_volume: None,
        market_cap: None,
        samples: None,
    })
}

/// The candle of somebody else's bar.
fn candle(timeframe: Timeframe, open_time: Stamp, bar: Bar, written: Written) -> Result<Item, String> {
    let bar = bar.checked().map_err(|err| err.to_string())?;
    let end = timeframe.end(open_time);
    let is_final = written.was_over(open_time, end);
    Ok(Item::Candle(Candle { timeframe, open_time, bar, origin: Origin::Archive, is_final }))
}

fn aligned(timeframe: Timeframe, open_time: Stamp) -> Result<Stamp, String> {
    match timeframe.floor(open_time) == open_time {
        true => Ok(open_time),
        false => Err(format!("{open_time} is no time at which a candle of {timeframe} opens")),
    }
}

fn daily(cells: &Cells<'_>, columns: &DailyColumns, subjects: &mut Subjects, written: Written) -> Result<Row, String> {
    counted(cells, columns.count)?;
    let told = |at: Option<usize>| at.map_or(Ok(""), |at| utf8(cells.trimmed(at)));
    let (name, symbol) = (told(columns.name)?, told(columns.symbol)?);
    if name.is_empty() && symbol.is_empty() {
        return Err("it names no coin".to_owned());
    }
    let open_time = day(moment(cells.trimmed(columns.date))?)?;
    let mut bar = prices(cells, columns.prices)?;
    let figure = |at: Option<usize>, name: &str| at.map_or(Ok(None), |at| cells.number(at, name));
    bar.volume = figure(columns.volume, "volume")?;
    bar.market_cap = figure(columns.market_cap, "market cap")?;
    let item = candle(Timeframe::D1, open_time, bar, written)?;
    let is_last = |last: &Subject| {
        last.name.as_deref().unwrap_or_default() == name && last.symbol.as_deref().unwrap_or_default() == symbol
    };
    let some = |text: &str| (!text.is_empty()).then(|| unquoted(text));
    let subject = subjects.get(is_last, || Subject { name: some(name), symbol: some(symbol), ..Subject::default() })?;
    Ok(Row::Item(subject, item))
}

/// The day of a row that tells of a whole one: as a date, at its beginning, or in its last minute.
fn day(moment: Stamp) -> Result<Stamp, String> {
    let day = Timeframe::D1.floor(moment);
    match moment.millis() - day.millis() {
        0 | LAST_MINUTE_MS.. => Ok(day),
        _ => Err(format!("{moment} is within a day, and a row of this layout is of a whole one: 00:00 or 23:59")),
    }
}

/// A name with the doubled quotes of its cell made one.
fn unquoted(text: &str) -> String {
    text.replace("\"\"", "\"")
}

fn download(
    cells: &Cells<'_>,
    columns: &DownloadColumns,
    subjects: &mut Subjects,
    written: Written,
) -> Result<Row, String> {
    counted(cells, columns.count)?;
    // The epoch, whatever the text beside it says: that was local time once.
    let open_time = aligned(columns.timeframe, moment(cells.trimmed(columns.time))?)?;
    let text = utf8(cells.trimmed(columns.symbol))?;
    let (base, quote) =
        pair(text, columns).ok_or_else(|| format!("{} is no pair of a coin and a currency", shown(text.as_bytes())))?;
    let volume = |unit: &str| match columns.volumes.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((name, at)) => cells.number(*at, &format!("volume {name}")),
        None => Ok(None),
    };
    let mut bar = prices(cells, columns.prices)?;
    (bar.base_volume, bar.volume) = (volume(base)?, volume(quote)?);
    let item = candle(columns.timeframe, open_time, bar, written)?;
    let is_last = |last: &Subject| {
        last.symbol.as_deref() == Some(base)
            && last.vs_currency.as_deref().is_some_and(|currency| currency.eq_ignore_ascii_case(quote))
    };
    let subject = subjects.get(is_last, || Subject {
        symbol: Some(base.to_owned()),
        vs_currency: Some(quote.to_ascii_lowercase().into()),
        ..Subject::default()
    })?;
    Ok(Row::Item(subject, item))
}

/// Coin and currency of `BTC/USD`, or of `BTCUSD` where the volumes are told in BTC and in USD.
fn pair<'a>(text: &'a str, columns: &DownloadColumns) -> Option<(&'a str, &'a str)> {
    let parts = text.split_once(['/', '-', '_']);
    let named = || {
        columns.volumes.iter().find_map(|(unit, _)| {
            let (base, quote) = text.split_at_checked(text.len().checked_sub(unit.len())?)?;
            let base_is_told = columns.volumes.iter().any(|(other, _)| other.eq_ignore_ascii_case(base));
            (quote.eq_ignore_ascii_case(unit) && base_is_told).then_some((base, quote))
        })
    };
    parts.or_else(named).filter(|(base, quote)| !base.is_empty() && !quote.is_empty())
}

fn kline(cells: &Cells<'_>, subjects: &mut Subjects, written: Written) -> Result<Row, String> {
    if cells.count() != 11 {
        counted(cells, 12)?;
    }
    let (open_time, close_time) = (moment(cells.trimmed(0))?, moment(cells.trimmed(6))?);
    let timeframe = kline_length(close_time.millis() - open_time.millis())
        .ok_or_else(|| format!("from {open_time} to {close_time} is none of the timeframes"))?;
    let open_time = aligned(timeframe, open_time)?;
    let mut bar = prices(cells, [1, 2, 3, 4])?;
    (bar.base_volume, bar.volume) = (cells.number(5, "volume")?, cells.number(7, "quote volume")?);
    let item = candle(timeframe, open_time, bar, written)?;
    Ok(Row::Item(subjects.get(|_| true, Subject::default)?, item))
}

fn bar(cells: &Cells<'_>, timeframe: Timeframe, subjects: &mut Subjects, written: Written) -> Result<Row, String> {
    counted(cells, 6)?;
    let open_time = aligned(timeframe, moment(cells.trimmed(0))?)?;
    let mut bar = prices(cells, [1, 2, 3, 4])?;
    bar.base_volume = cells.number(5, "volume")?;
    let item = candle(timeframe, open_time, bar, written)?;
    Ok(Row::Item(subjects.get(|_| true, Subject::default)?, item))
}

fn observation(cells: &Cells<'_>, columns: &ObservedColumns, subjects: &mut Subjects) -> Result<Row, String> {
    counted(cells, columns.count)?;
    let observed_at = moment(cells.trimmed(columns.time))?;
    let mut figures = Figures::default();
    let mut set = |column, value| figures.set(column, value).map_err(|err| err.to_string());
    set(Column::Price, Some(cells.needed(columns.price, "price")?))?;
    if let Some(at) = columns.market_cap {
        set(Column::MarketCap, cells.number(at, "market cap")?)?;
    }
    if let Some(at) = columns.volume {
        set(Column::Volume24h, cells.number(at, "total volume")?)?;
    }
    Ok(Row::Item(subjects.get(|_| true, Subject::default)?, Item::Price(observed_at, figures)))
}

#[cfg(test)]
mod tests {
    use super::super::layout::recognise;
    use super::*;

    fn read(text: &str) -> Vec<Result<Row, String>> {
        let recognised = recognise(text.as_bytes()).unwrap();
        let mut rows = Rows::new(recognised.layout, Written::AT_LAST);
        text.lines().skip(recognised.skip as usize).map(|line| rows.read(line.as_bytes())).collect()
    }

    fn candle_of(row: &Result<Row, String>) -> (Subject, Candle) {
        match row {
            Ok(Row::Item(subject, Item::Candle(candle))) => (Subject::clone(subject), *candle),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kaggle_says_high_first_and_means_the_day() {
        let head = "SNo , Name   , Symbol, Date               , High , Low  , Open , Close, Volume, Marketcap\n";
        let rows = read(&format!(
            "{head}1   , Bitcoin, BTC   , 2013-04-29 23:59:59, 147.5, 134.0, 134.4, 144.5, 0.0   , 1603768864.5\n\
             2,Bitcoin,BTC,2013-04-30,1,2,1,1,0,0\n3,Bitcoin,BTC,2013-04-31,1,1,1,1,0,0\n4,Bitcoin,BTC\n\n\
             5,Bitcoin,BTC,2013-05-02,9,1,NaN,2,,\n6,Bitcoin,BTC,2013-05-02,9,1,3,2,,\n"
        ));
        let (subject, candle) = candle_of(&rows[0]);
        assert_eq!((subject.name.as_deref(), subject.symbol.as_deref()), (Some("Bitcoin"), Some("BTC")));
        assert_eq!(
            (candle.open_time.to_string().as_str(), candle.timeframe),
            ("2013-04-29 00:00:00.000", Timeframe::D1)
        );
        let bar = candle.bar;
        assert_eq!((bar.open, bar.high, bar.low, bar.close), (134.4, 147.5, 134.0, 144.5));
        assert_eq!((bar.volume, bar.market_cap, bar.base_volume), (Some(0.0), Some(1603768864.5), None));
        assert!(candle.is_final && candle.origin == Origin::Archive);
        let reasons: Vec<&str> = rows.iter().filter_map(|row| row.as_ref().err()).map(String::as_str).collect();
        for (reason, word) in reasons.iter().zip(["lie between", "no time", "3 columns", "open is no number"]) {
            assert!(reason.contains(word), "{reason}");
        }
        assert_eq!((reasons.len(), &rows[4]), (4, &Ok(Row::Nothing)));
        assert_eq!(candle_of(&rows[6]).1.bar.volume, None);
    }

    #[test]
    fn cryptodatadownload_goes_by_the_epoch_and_the_names_of_the_volumes() {
        let rows = read(
            "banner\nunix,date,symbol,open,high,low,close,Volume USD,Volume BTC\n\
             1603522800,2020-10-24 03-AM,BTC/USD,1,2,0.5,1.5,30,20\n1603522800,2020-10-24 07-AM,BTC/USD,1,2,0.5,1.5,30,20\n\
             1603519200000,x,BTCUSD,1,2,0.5,1.5,30,20\n1603515601,x,BTC/USD,1,2,0.5,1.5,30,20\n1603512000,x,XYZ,1,2,0.5,1.5,30,20\n",
        );
        let (subject, candle) = candle_of(&rows[0]);
        assert_eq!((subject.symbol.as_deref(), subject.vs_currency.as_deref()), (Some("BTC"), Some("usd")));
        assert_eq!((candle.bar.volume, candle.bar.base_volume), (Some(30.0), Some(20.0)));
        assert_eq!(
            (candle.open_time.to_string().as_str(), candle.timeframe),
            ("2020-10-24 07:00:00.000", Timeframe::H1)
        );
        assert_eq!(rows[1], Ok(Row::Doubled));
        let (same, earlier) = candle_of(&rows[2]);
        assert_eq!((same, earlier.open_time.to_string().as_str()), (subject, "2020-10-24 06:00:00.000"));
        assert!(rows[3].as_ref().unwrap_err().contains("opens") && rows[4].as_ref().unwrap_err().contains("no pair"));
    }

    #[test]
    fn klines_tell_their_length_themselves() {
        let rows = read(
            "1754006400000,1,2,0.5,1.5,10,1754006459999,15,3,1,1,0\n1754006400000000,1,2,0.5,1.5,10,1754009999999999,15,3,1,1,0\n\
             2025-08-01 00:00:00+00:00,1,2,0.5,1.5,10,2025-08-01 23:59:59.999000+00:00,15,3,1,1,0\n\
             1754006400000,1,2,0.5,1.5,10,1754006460500,15,3,1,1,0\n1754006401000,1,2,0.5,1.5,10,1754006460999,15,3,1,1,0\n",
        );
        let lengths: Vec<&str> = rows[..3].iter().map(|row| candle_of(row).1.timeframe.name()).collect();
        assert_eq!(lengths, ["1m", "1h", "1d"]);
        let bar = candle_of(&rows[0]).1.bar;
        assert_eq!((bar.base_volume, bar.volume, bar.samples), (Some(10.0), Some(15.0), None));
        assert!(
            rows[3].as_ref().unwrap_err().contains("timeframes") && rows[4].as_ref().unwrap_err().contains("opens")
        );
    }

    #[test]
    fn coingecko_s_file_holds_observations() {
        let rows = read(
            "snapped_at,price,market_cap,total_volume\n2013-04-28 00:00:00 UTC,135.3,1500517590.0,\nx,1,1,1\n2013-04-29 00:00:00 UTC,,1,1\n",
        );
        let Ok(Row::Item(_, Item::Price(at, figures))) = &rows[0] else { panic!() };
        assert_eq!(at.to_string(), "2013-04-28 00:00:00.000");
        assert_eq!((figures.get(Column::Price), figures.get(Column::Volume24h)), (Some(135.3), None));
        assert!(rows[1].is_err() && rows[2].as_ref().unwrap_err().contains("price is empty"));
    }

    #[test]
    fn an_interval_that_was_not_over_is_open() {
        let at = |text: &str| Stamp::parse(text).unwrap();
        let (file, member, now) = (at("2021-07-06T12:00:00Z"), at("2021-07-04T12:00:00Z"), at("2021-07-09T12:00:00Z"));
        let recognised = recognise(b"SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap\n").unwrap();
        let mut rows = Rows::new(recognised.layout, Written { file: Some(file), member: Some(member), now });
        let days = ["2021-07-04", "2021-07-05", "2021-07-06", "2021-07-07", "2021-07-08", "2021-07-09", "2021-07-10"];
        let is_final = days.map(|day| candle_of(&rows.read(format!("1,B,B,{day},1,1,1,1,1,1").as_bytes())).1.is_final);
        assert_eq!(is_final, [false, true, false, true, true, false, false]);
    }
}
