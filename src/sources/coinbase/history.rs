//! Candles of a product: real bars of the exchange's own trades, of every timeframe.

use crate::domain::{Bar, Stamp, Timeframe};
use crate::sources::field::{self, Field};
use crate::sources::history::{Ask, Found, History, Kind, Offer};
use crate::sources::{Access, Request, Shape};

use super::{Coinbase, get, product_path};

const CANDLES: &str = "products/{id}/candles";
/// The vendor tells of 300, counts both ends, and refuses one more.
const CANDLES_A_CALL: i64 = 299;

impl History for Coinbase {
    fn offer(&self, _access: &Access, timeframe: Timeframe) -> Result<Offer, String> {
        let window = CANDLES_A_CALL * timeframe.millis();
        Ok(Offer { kind: Kind::Bars, window, wall: None, settles: 0 })
    }

    fn request(&self, _access: &Access, ask: &Ask<'_>) -> Request {
        let Ask { coin, vs_currency, timeframe, window, .. } = ask;
        // Without both ends neither counts; the last one is that of the last candle's opening.
        let target = format!(
            "/products/{}/candles?granularity={}&start={}&end={}",
            product_path(coin, vs_currency),
            timeframe.seconds(),
            iso(window.from),
            iso(window.to.plus(-timeframe.millis()))
        );
        get(CANDLES, target, Shape::Array)
    }

    fn read(&self, record: &[u8], ask: &Ask<'_>, found: &mut Found) {
        let (time, bar) = candle(record);
        match (time, bar) {
            (Some(time), Ok(bar)) if ask.timeframe.floor(time) == time => found.bars.push((time, bar)),
            (Some(time), Ok(_)) => {
                let why = format!("{time} is no opening of a candle of {}", ask.timeframe);
                found.rejected.push((Some(time), field::reject(record, Some(ask.coin.to_owned()), why)));
            }
            (time, Ok(_)) => {
                let why = "time is missing".to_owned();
                found.rejected.push((time, field::reject(record, Some(ask.coin.to_owned()), why)));
            }
            (time, Err(why)) => {
                found.rejected.push((time, field::reject(record, Some(ask.coin.to_owned()), why)));
            }
        }
    }

    fn is_of_no_coin(&self, message: &str) -> bool {
        message == "NotFound"
    }

    fn why_empty(&self, _timeframe: Timeframe) -> &'static str {
        "nothing was traded, or the pair was not listed yet"
    }
}

fn iso(moment: Stamp) -> String {
    moment.naive().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `[time, low, high, open, close, volume]`: the opening in seconds, the volume in coins.
fn candle(record: &[u8]) -> (Option<Stamp>, Result<Bar, String>) {
    let values: Vec<Field> = match serde_json::from_slice(record) {
        Ok(values) => values,
        Err(err) => return (None, Err(err.to_string())),
    };
    let time = values.first().and_then(Field::whole).and_then(|seconds| seconds.checked_mul(1000));
    let Some(time) = time.and_then(|millis| Stamp::from_millis(millis).ok()) else {
        return (None, Err("time is no moment in whole seconds".to_owned()));
    };
    let number = |at: usize, name: &str| -> Result<f64, String> {
        match values.get(at) {
            Some(Field::Number(number)) => Ok(*number),
            Some(Field::Text(text)) => text.trim().parse().map_err(|_| format!("{name} is not a number: {text:?}")),
            Some(Field::Absent | Field::Null) | None => Err(format!("{name} is missing")),
            Some(Field::Flag(_) | Field::Other(_)) => Err(format!("{name} is not a number")),
        }
    };
    let bar = || {
        let (low, high, open, close) = (number(1, "low")?, number(2, "high")?, number(3, "open")?, number(4, "close")?);
        let bar = Bar::new(open, high, low, close).map_err(|err| err.to_string())?;
        // Without a volume it is a bar all the same: old answers had five members.
        let volume = if values.len() > 5 { Some(number(5, "volume")?) } else { None };
        Bar { base_volume: volume, ..bar }.checked().map_err(|err| err.to_string())
    };
    (Some(time), bar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Range;

    fn ask() -> Ask<'static> {
        let at = |text: &str| Stamp::parse(text).unwrap();
        let window = Range::new(at("2026-06-01T00:00:00Z"), at("2026-06-01T05:00:00Z")).unwrap();
        Ask { coin: "A B", vs_currency: "usd", timeframe: Timeframe::H1, window, reachable: Stamp::FIRST }
    }

    fn read(record: &str) -> Found {
        let mut found = Found::default();
        Coinbase.read(record.as_bytes(), &ask(), &mut found);
        found
    }

    #[test]
    fn a_window_is_asked_for_from_its_first_to_its_last_opening() {
        let request = Coinbase.request(&Access::default(), &ask());
        assert_eq!(
            request.target,
            "/products/A%20B-USD/candles?granularity=3600&start=2026-06-01T00:00:00Z&end=2026-06-01T04:00:00Z"
        );
        assert_eq!(request.credits, 0);
        let offer = Coinbase.offer(&Access::default(), Timeframe::M1).unwrap();
        assert_eq!(offer.window, 299 * 60_000);
    }

    #[test]
    fn low_comes_first_and_numbers_stay_as_they_are() {
        let found = read("[1780272000, 10106, 10120.21, 10106.01, 10120.21, 4.727521520000001]");
        let (time, bar) = found.bars[0];
        assert_eq!(time.to_string(), "2026-06-01 00:00:00.000");
        assert_eq!((bar.open, bar.high, bar.low, bar.close), (10106.01, 10120.21, 10106.0, 10120.21));
        assert_eq!((bar.base_volume, bar.volume, bar.samples), (Some(4.727521520000001), None, None));
        assert_eq!(read("[1780272000,1,2,1,2]").bars[0].1.base_volume, None);
    }

    #[test]
    fn an_unusable_candle_says_why_and_when() {
        for (record, has_time, why) in [
            ("[1780272000,1,2,1,null,5]", true, "close is missing"),
            ("[1780272000,1,0.5,1,1,5]", true, "do not lie between"),
            ("[1780272000,1,2,1,2,-1]", true, "base_volume is below zero"),
            ("[1780272000,1,2]", true, "open is missing"),
            ("[1780272060,1,2,1,2,5]", true, "no opening"),
            ("[1780272000,1,2,1,\"much\",5]", true, "close is not a number"),
            ("[\"soon\",1,2,1,2,5]", false, "time is no moment"),
            ("\"Throttled\"", false, "invalid type"),
            ("[1780272000,1,2,NaN,2,5]", false, "expected value"),
        ] {
            let found = read(record);
            let (time, reject) = &found.rejected[0];
            assert_eq!(time.is_some(), has_time, "{record}");
            assert!(reject.reason.contains(why), "{record}: {}", reject.reason);
            assert!(found.bars.is_empty() && reject.source_id.as_deref() == Some("A B"));
        }
    }
}
