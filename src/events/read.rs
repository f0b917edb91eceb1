//! Events as they come out of a topic, from whoever wrote them: everything is checked, unknown fields
//! are left alone.

use std::collections::HashSet;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Deserialize;

use super::{About, CANDLE, OUTAGE, PRICE, QUOTE};
use crate::domain::quote::check;
use crate::domain::{Bar, Coin, Column, Figures, Micros, Outage, Quote, Stamp, Timeframe};
use crate::sources::field::Field;

const MAX_BYTES: usize = 1 << 20;
/// An event can't be later than the record that carries it, but for clocks that differ.
const SLACK_MS: i64 = 5 * 60_000;
const MAX_KEY_BYTES: usize = 64;
/// Names of sources, pairs and sessions that are kept.
const MOST_NAMES: usize = 10_000;

/// An event that can be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Price(Box<PriceEvent>),
    Candle(Box<CandleEvent>),
    Quote(Quote),
    Outage(Outage),
}

#[derive(Debug, Clone, PartialEq)]
pub struct PriceEvent {
    pub source: String,
    pub coin: Coin,
    pub vs_currency: Arc<str>,
    pub observed_at: Stamp,
    pub figures: Figures,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CandleEvent {
    pub source: String,
    pub coin: Coin,
    pub vs_currency: Arc<str>,
    pub timeframe: Timeframe,
    pub open_time: Stamp,
    pub bar: Bar,
}

/// Every field that any of the events has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    schema: Field,
    source: Field,
    asset: Field,
    symbol: Field,
    name: Field,
    vs_currency: Field,
    observed_at: Field,
    price: Field,
    volume_24h: Field,
    base_volume_24h: Field,
    market_cap: Field,
    circulating_supply: Field,
    total_supply: Field,
    market_cap_rank: Field,
    change_1h: Field,
    change_24h: Field,
    change_7d: Field,
    change_30d: Field,
    timeframe: Field,
    open_time: Field,
    open: Field,
    high: Field,
    low: Field,
    close: Field,
    volume: Field,
    base_volume: Field,
    samples: Field,
    r#final: Field,
    pair: Field,
    sequence: Field,
    bid: Field,
    ask: Field,
    session: Field,
    from_time: Field,
    to_time: Field,
    reason: Field,
}

/// A quote as nearly all are: read without an allocation. What does not fit in here is read the long
/// way, which says why.
#[derive(Deserialize)]
struct PlainQuote<'a> {
    schema: &'a str,
    source: &'a str,
    pair: &'a str,
    sequence: i64,
    observed_at: &'a str,
    bid: &'a str,
    ask: &'a str,
    #[serde(default)]
    session: Option<&'a str>,
}

/// Reads events, and keeps the names that come again and again.
#[derive(Debug, Default)]
pub struct Reader {
    names: HashSet<Arc<str>>,
    /// The day of the newest quote, counted from 1970, and its name.
    day: Option<(i64, Arc<str>)>,
}

impl Reader {
    /// Reads an event. `record_ms` is the time of the Kafka record that carried it.
    pub fn read(&mut self, payload: &[u8], record_ms: Option<i64>) -> Result<Event, String> {
        if payload.len() > MAX_BYTES {
            return Err(format!("it is {} bytes long, more than 1 MiB", payload.len()));
        }
        if let Ok(plain) = serde_json::from_slice::<PlainQuote>(payload)
            && plain.schema == QUOTE
        {
            let quote = self.plain_quote(&plain)?;
            not_later(quote.observed_at.micros() / 1000, record_ms)?;
            return Ok(Event::Quote(quote));
        }
        read(payload, record_ms)
    }

    fn plain_quote(&mut self, plain: &PlainQuote<'_>) -> Result<Quote, String> {
        let (bid, ask) = (decimal(plain.bid, "bid")?, decimal(plain.ask, "ask")?);
        check(bid, ask).map_err(|err| err.to_string())?;
        let observed_at = Micros::parse(plain.observed_at).map_err(|err| format!("observed_at is {err}"))?;
        let session = match plain.session {
            Some(session) => self.name(key_text(session, "session")?),
            None => self.day(observed_at),
        };
        let source = self.name(key_text(plain.source, "source")?);
        let pair = self.name(key_text(plain.pair, "pair")?);
        Ok(Quote { source, pair, sequence: plain.sequence, observed_at, bid, ask, session })
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        if self.names.len() >= MOST_NAMES {
            self.names.clear();
        }
        let name: Arc<str> = Arc::from(name);
        self.names.insert(name.clone());
        name
    }

    fn day(&mut self, moment: Micros) -> Arc<str> {
        let number = moment.micros().div_euclid(86_400_000_000);
        match &self.day {
            Some((known, name)) if *known == number => name.clone(),
            _ => {
                let name = self.name(&moment.day());
                self.day = Some((number, name.clone()));
                name
            }
        }
    }
}

/// Why an event is not believed that is from the future: only at the time of its record can that be told.
pub const TOO_LATE: &str = "its time is more than 5 minutes after the record's";

fn not_later(moment_ms: i64, record_ms: Option<i64>) -> Result<(), String> {
    match record_ms {
        Some(record) if moment_ms > record + SLACK_MS => Err(TOO_LATE.to_owned()),
        _ => Ok(()),
    }
}

/// Reads an event of any kind.
fn read(payload: &[u8], record_ms: Option<i64>) -> Result<Event, String> {
    let fields: Fields = serde_json::from_slice(payload).map_err(|err| format!("it is no JSON event: {err}"))?;
    let schema = text(&fields.schema, "schema")?.to_owned();
    let not_later = |moment| not_later(moment, record_ms);
    match schema.as_str() {
        PRICE => {
            let event = price(fields)?;
            not_later(event.observed_at.millis())?;
            Ok(Event::Price(Box::new(event)))
        }
        CANDLE => {
            let event = candle(fields)?;
            not_later(event.open_time.millis())?;
            Ok(Event::Candle(Box::new(event)))
        }
        QUOTE => {
            let event = quote(fields)?;
            not_later(event.observed_at.micros() / 1000)?;
            Ok(Event::Quote(event))
        }
        OUTAGE => {
            let event = outage(fields)?;
            not_later(event.to_time.micros() / 1000)?;
            Ok(Event::Outage(event))
        }
        other => Err(format!("its schema {other:?} is unknown")),
    }
}

fn text<'a>(field: &'a Field, name: &str) -> Result<&'a str, String> {
    match field {
        Field::Text(text) => Ok(text),
        Field::Absent | Field::Null => Err(format!("{name} is missing")),
        _ => Err(format!("{name} is not a text")),
    }
}

/// A text that is part of a key.
fn key<'a>(field: &'a Field, name: &str) -> Result<&'a str, String> {
    key_text(text(field, name)?, name)
}

fn key_text<'a>(text: &'a str, name: &str) -> Result<&'a str, String> {
    match text {
        "" => Err(format!("{name} is empty")),
        text if text.len() > MAX_KEY_BYTES => {
            Err(format!("{name} is {} bytes long, more than {MAX_KEY_BYTES}", text.len()))
        }
        text if text.contains('\0') => Err(format!("{name} contains the character U+0000")),
        text => Ok(text),
    }
}

fn coin(fields: &mut Fields) -> Result<Coin, String> {
    let label = |field: &mut Field, name| std::mem::take(field).label(name);
    let asset = text(&fields.asset, "asset")?.to_owned();
    let (symbol, name) = (label(&mut fields.symbol, "symbol")?, label(&mut fields.name, "name")?);
    Coin::new(asset, symbol, name).map_err(|err| err.to_string().replace("id ", "asset "))
}

fn stamp(field: &Field, name: &str) -> Result<Stamp, String> {
    field.stamp(name)?.ok_or_else(|| format!("{name} is missing"))
}

fn micros(field: &Field, name: &str) -> Result<Micros, String> {
    Micros::parse(text(field, name)?).map_err(|err| format!("{name} is {err}"))
}

fn price(mut fields: Fields) -> Result<PriceEvent, String> {
    let source = key(&fields.source, "source")?.to_owned();
    let coin = coin(&mut fields)?;
    let vs_currency = Arc::from(key(&fields.vs_currency, "vs_currency")?);
    let observed_at = stamp(&fields.observed_at, "observed_at")?;
    if fields.price == Field::Absent {
        return Err("price is missing".to_owned());
    }
    let mut figures = Figures::default();
    for (column, field) in [
        (Column::Price, &fields.price),
        (Column::Volume24h, &fields.volume_24h),
        (Column::BaseVolume24h, &fields.base_volume_24h),
        (Column::MarketCap, &fields.market_cap),
        (Column::CirculatingSupply, &fields.circulating_supply),
        (Column::TotalSupply, &fields.total_supply),
        (Column::MarketCapRank, &fields.market_cap_rank),
        (Column::Change1h, &fields.change_1h),
        (Column::Change24h, &fields.change_24h),
        (Column::Change7d, &fields.change_7d),
        (Column::Change30d, &fields.change_30d),
    ] {
        field.figure(column, &mut figures)?;
    }
    Ok(PriceEvent { source, coin, vs_currency, observed_at, figures })
}

fn candle(mut fields: Fields) -> Result<CandleEvent, String> {
    let source = key(&fields.source, "source")?.to_owned();
    let coin = coin(&mut fields)?;
    let vs_currency = Arc::from(key(&fields.vs_currency, "vs_currency")?);
    let timeframe: Timeframe = key(&fields.timeframe, "timeframe")?.parse().map_err(|err| format!("{err}"))?;
    let open_time = stamp(&fields.open_time, "open_time")?;
    if fields.r#final != Field::Flag(true) {
        return Err("final is not true: only candles that are over are stored".to_owned());
    }
    let figure = |field: &Field, name: &str| match field {
        Field::Absent | Field::Null => Ok(None),
        Field::Number(number) if number.is_finite() => Ok(Some(*number)),
        _ => Err(format!("{name} is not a number")),
    };
    let needed = |field: &Field, name: &str| figure(field, name)?.ok_or_else(|| format!("{name} is missing"));
    let (open, close) = (needed(&fields.open, "open")?, needed(&fields.close, "close")?);
    let (high, low) = (needed(&fields.high, "high")?, needed(&fields.low, "low")?);
    let bar = Bar {
        open,
        high,
        low,
        close,
        volume: figure(&fields.volume, "volume")?,
        base_volume: figure(&fields.base_volume, "base_volume")?,
        market_cap: figure(&fields.market_cap, "market_cap")?,
        samples: fields.samples.whole(),
    };
    let bar = bar.checked().map_err(|err| err.to_string())?;
    Ok(CandleEvent { source, coin, vs_currency, timeframe, open_time, bar })
}

fn quote(fields: Fields) -> Result<Quote, String> {
    let (bid, ask) = (decimal(text(&fields.bid, "bid")?, "bid")?, decimal(text(&fields.ask, "ask")?, "ask")?);
    check(bid, ask).map_err(|err| err.to_string())?;
    let sequence = match &fields.sequence {
        Field::Absent | Field::Null => return Err("sequence is missing".to_owned()),
        sequence => sequence.whole().ok_or("sequence is not a whole number")?,
    };
    let observed_at = micros(&fields.observed_at, "observed_at")?;
    let session = match &fields.session {
        Field::Absent | Field::Null => observed_at.day(),
        session => key(session, "session")?.to_owned(),
    };
    Ok(Quote {
        source: Arc::from(key(&fields.source, "source")?),
        pair: Arc::from(key(&fields.pair, "pair")?),
        sequence,
        observed_at,
        bid,
        ask,
        session: Arc::from(session),
    })
}

fn decimal(text: &str, name: &str) -> Result<Decimal, String> {
    let number = text.parse::<Decimal>().or_else(|_| Decimal::from_scientific(text));
    number.map_err(|_| format!("{name} is not a decimal number: {text:?}"))
}

fn outage(fields: Fields) -> Result<Outage, String> {
    let (from_time, to_time) = (micros(&fields.from_time, "from_time")?, micros(&fields.to_time, "to_time")?);
    if from_time > to_time {
        return Err("from_time is after to_time".to_owned());
    }
    Ok(Outage {
        source: key(&fields.source, "source")?.to_owned(),
        pair: key(&fields.pair, "pair")?.to_owned(),
        from_time,
        to_time,
        reason: text(&fields.reason, "reason")?.replace('\0', "\u{fffd}"),
    })
}

impl PriceEvent {
    /// What it was made from.
    pub fn about(&self) -> About {
        let label = |label: &Option<String>| label.clone().unwrap_or_default();
        About {
            source: self.source.clone(),
            asset: self.coin.source_id.clone(),
            symbol: label(&self.coin.symbol),
            name: label(&self.coin.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8], record_ms: Option<i64>) -> Result<Event, String> {
        let mut reader = Reader::default();
        let read = reader.read(payload, record_ms);
        assert_eq!(read, reader.read(payload, record_ms));
        read
    }

    const QUOTE: &str = r#"{"schema":"coinetl.quote.v1","source":"coinbase","pair":"BTC-USD","sequence":7,"observed_at":"2026-05-19T08:47:57.123456789Z","bid":"97123.45","ask":"97123.46","price":"1","base_volume_24h":null,"new":{}}"#;

    #[test]
    fn what_is_written_is_read() {
        let about = About { source: "s".into(), asset: "a".into(), symbol: "A".into(), name: "N".into() };
        let mut figures = Figures::default();
        Column::ALL.into_iter().for_each(|column| figures.set(column, None).unwrap());
        figures.set(Column::Price, Some(5.8e-21)).unwrap();
        let at = Stamp::from_millis(1_779_180_477_580).unwrap();
        let Ok(Event::Price(event)) = read(&super::super::price(&about, "usd", at, &figures), None) else { panic!() };
        assert_eq!((event.about(), event.observed_at, event.figures), (about.clone(), at, figures));
        let candle = Bar {
            open: 1.0,
            high: 3.0,
            low: 0.5,
            close: 2.0,
            volume: Some(1e22),
            base_volume: None,
            market_cap: None,
            samples: Some(3),
        };
        let Ok(Event::Candle(event)) = read(&super::super::candle(&about, "usd", Timeframe::H1, at, &candle), None)
        else {
            panic!()
        };
        assert_eq!((event.timeframe, &event.bar), (Timeframe::H1, &candle));
    }

    #[test]
    fn a_quote_has_its_day_for_a_session_unless_it_names_one() {
        let read = |json: &str| match read(json.as_bytes(), Some(1_779_180_477_000)) {
            Ok(Event::Quote(quote)) => quote,
            other => panic!("{other:?}"),
        };
        let quote = read(QUOTE);
        assert_eq!(
            (&*quote.session, quote.observed_at.to_string().as_str()),
            ("2026-05-19", "2026-05-19 08:47:57.123456")
        );
        assert_eq!(quote.spread().to_string(), "0.01");
        assert_eq!(&*read(&QUOTE.replace("\"new\"", "\"session\":\"mine\",\"new\"")).session, "mine");
    }

    #[test]
    fn both_ways_of_reading_a_quote_tell_the_same() {
        for json in [
            QUOTE.to_owned(),
            QUOTE.replace("\"new\"", "\"session\":\"mine\",\"new\""),
            QUOTE.replace("97123.46", "9.712346e4"),
            // Escapes and numbers told as text go the long way.
            QUOTE.replace("BTC-USD", "BTC\\u002dUSD"),
            QUOTE.replace("\"sequence\":7", "\"sequence\":\"7\""),
        ] {
            let plain = super::read(QUOTE.as_bytes(), None).unwrap();
            let Ok(Event::Quote(quote)) = read(json.as_bytes(), None) else { panic!("{json}") };
            let session = quote.session.clone();
            assert_eq!(Event::Quote(quote.clone()), super::read(json.as_bytes(), None).unwrap());
            let Event::Quote(plain) = plain else { panic!() };
            assert_eq!(Quote { session, ..plain }, quote);
        }
    }

    #[test]
    fn what_can_t_be_used_says_why() {
        for (json, why) in [
            ("not json".to_owned(), "no JSON"),
            ("[1]".to_owned(), "not a text"),
            ("{}".to_owned(), "schema is missing"),
            (QUOTE.replace("quote.v1", "quote.v9"), "unknown"),
            (QUOTE.replace("97123.45", "97123.47"), "above ask"),
            (QUOTE.replace("\"97123.45\"", "\"-1\""), "below zero"),
            (QUOTE.replace("\"97123.45\"", "97123.45"), "bid is not a text"),
            (
                QUOTE.replace("\"bid\":\"97123.45\",\"ask\":\"97123.46\"", "\"bid\":\"0\",\"ask\":\"0\""),
                "not above zero",
            ),
            (QUOTE.replace("\"sequence\":7,", ""), "sequence is missing"),
            (QUOTE.replace("2026-05-19T", "2026-05-20T"), "5 minutes after"),
            (QUOTE.replace("BTC-USD", &"x".repeat(65)), "65 bytes long"),
            (QUOTE.replace("BTC-USD", "\\u0000"), "U+0000"),
            (format!("{}{}", QUOTE, " ".repeat(1 << 20)), "more than 1 MiB"),
            // Told by the long way alone.
            (QUOTE.replace("\"sequence\":7", "\"sequence\":7.5"), "sequence is not a whole number"),
            (QUOTE.replace("\"pair\":\"BTC-USD\"", "\"pair\":\"\""), "pair is empty"),
        ] {
            let err = read(json.as_bytes(), Some(1_779_180_477_000)).unwrap_err();
            assert!(err.contains(why), "{why}: {err}");
        }
    }
}
