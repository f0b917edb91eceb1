//! One observation of a coin in one quote currency.

use std::sync::Arc;

use super::{Coin, Stamp};

/// The figures of a price, in the order of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Column {
    /// In `vs_currency` per coin.
    Price,
    /// Traded in the last 24 hours, in `vs_currency`.
    Volume24h,
    /// Traded in the last 24 hours, in coins.
    BaseVolume24h,
    /// In `vs_currency`.
    MarketCap,
    /// In coins.
    CirculatingSupply,
    /// In coins.
    TotalSupply,
    /// 1 is the largest; a whole number.
    MarketCapRank,
    /// Percent: 1.5 is 1.5 %.
    Change1h,
    Change24h,
    Change7d,
    Change30d,
}

impl Column {
    pub const COUNT: usize = 11;
    pub const ALL: [Column; Column::COUNT] = [
        Column::Price,
        Column::Volume24h,
        Column::BaseVolume24h,
        Column::MarketCap,
        Column::CirculatingSupply,
        Column::TotalSupply,
        Column::MarketCapRank,
        Column::Change1h,
        Column::Change24h,
        Column::Change7d,
        Column::Change30d,
    ];

    /// The column's name in the table `prices`.
    pub const fn name(self) -> &'static str {
        match self {
            Column::Price => "price",
            Column::Volume24h => "volume_24h",
            Column::BaseVolume24h => "base_volume_24h",
            Column::MarketCap => "market_cap",
            Column::CirculatingSupply => "circulating_supply",
            Column::TotalSupply => "total_supply",
            Column::MarketCapRank => "market_cap_rank",
            Column::Change1h => "change_1h",
            Column::Change24h => "change_24h",
            Column::Change7d => "change_7d",
            Column::Change30d => "change_30d",
        }
    }
}

/// Which columns an answer carried at all. A column it did not carry leaves what is stored; a
/// column it carried as null means "unknown" and is stored as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Carried(u16);

impl Carried {
    pub fn has(self, column: Column) -> bool {
        self.0 & (1 << column as usize) != 0
    }

    pub fn add(&mut self, column: Column) {
        self.0 |= 1 << column as usize;
    }

    pub fn columns(self) -> impl Iterator<Item = Column> {
        Column::ALL.into_iter().filter(move |column| self.has(*column))
    }
}

/// The numbers of one observation: finite doubles, `None` for unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    values: [Option<f64>; Column::COUNT],
    carried: Carried,
}

/// A number that no column may hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FigureError {
    #[error("{} is not a finite number", .0.name())]
    NotFinite(Column),
    #[error("{} is not a whole number from 0 to 2147483647: {}", .0.name(), .1)]
    NotARank(Column, f64),
}

impl Figures {
    /// Records what an answer carried for a column. The caller's number is kept bit for bit.
    pub fn set(&mut self, column: Column, value: Option<f64>) -> Result<(), FigureError> {
        if let Some(number) = value {
            if !number.is_finite() {
                return Err(FigureError::NotFinite(column));
            }
            let whole = number.fract() == 0.0 && (0.0..=f64::from(i32::MAX)).contains(&number);
            if column == Column::MarketCapRank && !whole {
                return Err(FigureError::NotARank(column, number));
            }
        }
        self.values[column as usize] = value;
        self.carried.add(column);
        Ok(())
    }

    pub fn get(&self, column: Column) -> Option<f64> {
        self.values[column as usize]
    }

    pub fn carried(&self) -> Carried {
        self.carried
    }
}

/// What a source said about one coin in one currency.
#[derive(Debug, Clone, PartialEq)]
pub struct PricePoint {
    pub coin: Coin,
    pub vs_currency: Arc<str>,
    /// The source's own time of the observation; `None` where it gives none.
    pub observed_at: Option<Stamp>,
    pub figures: Figures,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_numbers_get_in() {
        let mut figures = Figures::default();
        assert!(figures.set(Column::Price, Some(f64::NAN)).is_err());
        assert!(figures.set(Column::Price, Some(f64::INFINITY)).is_err());
        assert!(figures.set(Column::MarketCapRank, Some(1.5)).is_err());
        assert!(!figures.carried().has(Column::Price));
        figures.set(Column::Price, Some(5.8e-21)).unwrap();
        figures.set(Column::MarketCap, None).unwrap();
        assert_eq!(figures.carried().columns().collect::<Vec<_>>(), [Column::Price, Column::MarketCap]);
    }

    #[test]
    fn columns_stand_in_their_own_places() {
        for (place, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(place, column as usize);
        }
    }
}
