//! Lengths of candles.

use std::fmt;
use std::str::FromStr;

use super::Stamp;

/// The length of a candle. All of them divide a UTC day, so a candle opens at a multiple of its
/// length since 1970, and a longer one holds whole shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timeframe {
    M1,
    M5,
    M15,
    H1,
    H6,
    D1,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timeframe {0:?} is none of 1m, 5m, 15m, 1h, 6h, 1d")]
pub struct UnknownTimeframe(pub String);

impl Timeframe {
    /// Shortest first.
    pub const ALL: [Timeframe; 6] =
        [Timeframe::M1, Timeframe::M5, Timeframe::M15, Timeframe::H1, Timeframe::H6, Timeframe::D1];

    pub fn name(self) -> &'static str {
        match self {
            Timeframe::M1 => "1m",
            Timeframe::M5 => "5m",
            Timeframe::M15 => "15m",
            Timeframe::H1 => "1h",
            Timeframe::H6 => "6h",
            Timeframe::D1 => "1d",
        }
    }

    pub fn seconds(self) -> i64 {
        match self {
            Timeframe::M1 => 60,
            Timeframe::M5 => 300,
            Timeframe::M15 => 900,
            Timeframe::H1 => 3_600,
            Timeframe::H6 => 21_600,
            Timeframe::D1 => 86_400,
        }
    }

    pub fn millis(self) -> i64 {
        self.seconds() * 1000
    }

    pub fn of_seconds(seconds: i64) -> Option<Timeframe> {
        Timeframe::ALL.into_iter().find(|timeframe| timeframe.seconds() == seconds)
    }

    /// The opening of the candle that a moment is in.
    pub fn floor(self, moment: Stamp) -> Stamp {
        moment.floor(self.millis())
    }

    /// The first opening at or after a moment.
    pub fn ceil(self, moment: Stamp) -> Stamp {
        let floor = self.floor(moment);
        if floor == moment { floor } else { floor.plus(self.millis()) }
    }

    /// The end of the candle that opens then, which is not in it.
    pub fn end(self, open_time: Stamp) -> Stamp {
        open_time.plus(self.millis())
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Timeframe {
    type Err = UnknownTimeframe;

    fn from_str(text: &str) -> Result<Self, UnknownTimeframe> {
        let named = Timeframe::ALL.into_iter().find(|timeframe| timeframe.name() == text);
        named.ok_or_else(|| UnknownTimeframe(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_ones_hold_whole_shorter_ones() {
        let moment = Stamp::parse("2026-05-19T08:47:57.580Z").unwrap();
        for pair in Timeframe::ALL.windows(2) {
            assert_eq!(pair[1].seconds() % pair[0].seconds(), 0);
            assert!(pair[1].floor(moment) <= pair[0].floor(moment));
        }
        for timeframe in Timeframe::ALL {
            assert_eq!(timeframe.name().parse(), Ok(timeframe));
            assert_eq!(timeframe.end(timeframe.floor(moment)), timeframe.ceil(moment));
            assert_eq!(timeframe.ceil(timeframe.floor(moment)), timeframe.floor(moment));
        }
        assert_eq!(Timeframe::H6.floor(moment).to_string(), "2026-05-19 06:00:00.000");
        assert!("2h".parse::<Timeframe>().is_err());
    }
}
