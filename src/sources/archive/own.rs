//! Rows of our own exports: they go back to the source and the coin that they came from, with the origin
//! they had, bit for bit.

use std::sync::Arc;

use super::cells::{Cells, moment, number, shown, whole};
use super::layout::OWN_CANDLE;
use super::rows::{Item, Row, Subject, Subjects};
use crate::domain::{Bar, Candle, Column, Figures, Origin, Stamp, Timeframe};

/// What both kinds of rows begin with.
pub struct Owner<'a> {
    pub source: &'a str,
    pub source_id: &'a str,
    pub symbol: &'a str,
    pub vs_currency: &'a str,
}

impl Owner<'_> {
    pub fn subject(&self, subjects: &mut Subjects) -> Result<Arc<Subject>, String> {
        let is_last = |last: &Subject| {
            last.own.as_ref().is_some_and(|(source, id)| source == self.source && id == self.source_id)
                && last.symbol.as_deref() == Some(self.symbol)
                && last.vs_currency.as_deref() == Some(self.vs_currency)
        };
        subjects.get(is_last, || Subject {
            own: Some((self.source.to_owned(), self.source_id.to_owned())),
            name: None,
            symbol: Some(self.symbol.to_owned()),
            vs_currency: Some(self.vs_currency.into()),
        })
    }
}

/// A candle's own columns.
pub struct OwnCandle<'a> {
    pub timeframe: &'a str,
    pub open_time: Stamp,
    pub bar: Bar,
    pub origin: &'a str,
    pub is_final: bool,
}

impl OwnCandle<'_> {
    pub fn item(self) -> Result<Item, String> {
        let timeframe: Timeframe = self.timeframe.parse().map_err(|err| format!("{err}"))?;
        let origin = Origin::ALL.into_iter().find(|origin| origin.name() == self.origin);
        let origin = origin
            .ok_or_else(|| format!("origin {} is none of rollup, archive, source", shown(self.origin.as_bytes())))?;
        let bar = self.bar.checked().map_err(|err| err.to_string())?;
        if timeframe.floor(self.open_time) != self.open_time {
            return Err(format!("{} is no time at which a candle of {timeframe} opens", self.open_time));
        }
        Ok(Item::Candle(Candle { timeframe, open_time: self.open_time, bar, origin, is_final: self.is_final }))
    }
}

fn owner(cells: &Cells<'_>, subjects: &mut Subjects, count: usize) -> Result<Arc<Subject>, String> {
    if cells.count() != count {
        return Err(format!("it has {} columns instead of {count}", cells.count()));
    }
    let [source, source_id, symbol, vs_currency] = [0, 1, 2, 3].map(|at| cells.text(at).map(Option::unwrap_or_default));
    let (source, source_id, symbol, vs_currency) = (source?, source_id?, symbol?, vs_currency?);
    Owner { source: &source, source_id: &source_id, symbol: &symbol, vs_currency: &vs_currency }.subject(subjects)
}

pub fn candle(cells: &Cells<'_>, subjects: &mut Subjects) -> Result<Row, String> {
    let subject = owner(cells, subjects, 3 + OWN_CANDLE.len())?;
    let samples = match cells.raw(13) {
        b"" => None,
        text => Some(whole(text).ok_or_else(|| format!("samples is no whole number: {}", shown(text)))?),
    };
    let (timeframe, origin) = (cells.text(4)?.unwrap_or_default(), cells.text(14)?.unwrap_or_default());
    let item = OwnCandle {
        timeframe: &timeframe,
        open_time: moment(cells.raw(5))?,
        bar: Bar {
            open: cells.needed(6, "open")?,
            high: cells.needed(7, "high")?,
            low: cells.needed(8, "low")?,
            close: cells.needed(9, "close")?,
            volume: cells.number(10, "volume")?,
            base_volume: cells.number(11, "base_volume")?,
            market_cap: cells.number(12, "market_cap")?,
            samples,
        },
        origin: &origin,
        is_final: match cells.raw(15) {
            b"true" => true,
            b"false" => false,
            text => return Err(format!("final is neither true nor false: {}", shown(text))),
        },
    };
    Ok(Row::Item(subject, item.item()?))
}

pub fn price(cells: &Cells<'_>, subjects: &mut Subjects) -> Result<Row, String> {
    let subject = owner(cells, subjects, 5 + Column::COUNT)?;
    let observed_at = moment(cells.raw(4))?;
    let mut figures = Figures::default();
    for (place, column) in Column::ALL.into_iter().enumerate() {
        let text = cells.raw(5 + place);
        let value = match text {
            b"" => None,
            text => Some(number(text).ok_or_else(|| format!("{} is no number: {}", column.name(), shown(text)))?),
        };
        figures.set(column, value).map_err(|err| err.to_string())?;
    }
    Ok(Row::Item(subject, Item::Price(observed_at, figures)))
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::super::rows::Rows;
    use super::*;
    use crate::sources::archive::Written;

    #[test]
    fn candles_come_back_as_they_were() {
        let mut rows = Rows::new(Layout::OwnCandles, Written::AT_LAST);
        let row = "coingecko,\"a \"\"b\"\",\nc\",\"\",usd,1h,2026-05-19T08:00:00.000Z,5e-324,17.0,0,1,,-0.0,1e308,3,rollup,false";
        let Row::Item(subject, Item::Candle(candle)) = rows.read(row.as_bytes()).unwrap() else { panic!() };
        assert_eq!(subject.own, Some(("coingecko".into(), "a \"b\",\nc".into())));
        assert_eq!((subject.symbol.as_deref(), subject.vs_currency.as_deref()), (Some(""), Some("usd")));
        assert_eq!((candle.origin, candle.is_final, candle.timeframe), (Origin::Rollup, false, Timeframe::H1));
        assert_eq!(candle.bar.base_volume.map(f64::to_bits), Some((-0.0_f64).to_bits()));
        assert_eq!((candle.bar.open, candle.bar.volume, candle.bar.samples), (5e-324, None, Some(3)));
        for (broken, word) in [
            (row.replace("rollup", "guess"), "origin"),
            (row.replace("1h", "2h"), "timeframe"),
            (row.replace("08:00:00", "08:10:00"), "opens"),
            (row.replace("coingecko", ""), "the source is empty"),
            (row.replace("false", "no"), "final"),
            (row.replace(",3,", ",3.5,"), "samples"),
        ] {
            let reason = rows.read(broken.as_bytes()).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn prices_carry_every_column_unknown_ones_too() {
        let mut rows = Rows::new(Layout::OwnPrices, Written::AT_LAST);
        let row = "coinbase,BTC,BTC,eur,2026-05-19T08:47:57.580Z,1.5,,,,,,7,-0.0,1e-300,,";
        let Row::Item(_, Item::Price(at, figures)) = rows.read(row.as_bytes()).unwrap() else { panic!() };
        assert_eq!(at.to_string(), "2026-05-19 08:47:57.580");
        assert_eq!(figures.carried().columns().count(), Column::COUNT);
        assert_eq!((figures.get(Column::MarketCapRank), figures.get(Column::MarketCap)), (Some(7.0), None));
        assert!(rows.read(row.replace(",7,", ",7.5,").as_bytes()).unwrap_err().contains("market_cap_rank"));
    }
}
