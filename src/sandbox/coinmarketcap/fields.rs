//! `aux`: fields that appear only if they are asked for.

/// One such field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    NumMarketPairs,
    CmcRank,
    DateAdded,
    Tags,
    Platform,
    MaxSupply,
    CirculatingSupply,
    TotalSupply,
    MarketCapByTotalSupply,
    Volume24hReported,
    Volume7d,
    Volume7dReported,
    Volume30d,
    Volume30dReported,
    IsMarketCapIncludedInCalc,
    IsActive,
    IsFiat,
    FirstHistoricalData,
    LastHistoricalData,
    Status,
}

use Field::*;

const LISTINGS: [(&str, Field); 15] = [
    ("num_market_pairs", NumMarketPairs),
    ("cmc_rank", CmcRank),
    ("date_added", DateAdded),
    ("tags", Tags),
    ("platform", Platform),
    ("max_supply", MaxSupply),
    ("circulating_supply", CirculatingSupply),
    ("total_supply", TotalSupply),
    ("market_cap_by_total_supply", MarketCapByTotalSupply),
    ("volume_24h_reported", Volume24hReported),
    ("volume_7d", Volume7d),
    ("volume_7d_reported", Volume7dReported),
    ("volume_30d", Volume30d),
    ("volume_30d_reported", Volume30dReported),
    ("is_market_cap_included_in_calc", IsMarketCapIncludedInCalc),
];
const QUOTES: [(&str, Field); 2] = [("is_active", IsActive), ("is_fiat", IsFiat)];
const MAP: [(&str, Field); 5] = [
    ("platform", Platform),
    ("first_historical_data", FirstHistoricalData),
    ("last_historical_data", LastHistoricalData),
    ("is_active", IsActive),
    ("status", Status),
];

/// Which records have which fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Listings,
    Quotes,
    Map,
}

/// The fields that were asked for.
#[derive(Debug, Clone, Copy)]
pub struct Aux(u32);

impl Aux {
    /// From a comma list, or the usual ones; an unknown word comes back as the error.
    pub fn new(kind: Kind, list: Option<&str>) -> Result<Aux, &str> {
        let (fields, more): (&[_], &[_]) = match kind {
            Kind::Listings => (&LISTINGS, &[]),
            Kind::Quotes => (&LISTINGS, &QUOTES),
            Kind::Map => (&MAP, &[]),
        };
        let bit = |field: Field| 1 << field as u32;
        let Some(list) = list else {
            let usual = match kind {
                Kind::Map => &MAP[..4],
                _ => &LISTINGS[..8],
            };
            return Ok(Aux(usual.iter().chain(more).map(|(_, field)| bit(*field)).sum()));
        };
        let mut wanted = 0;
        for word in list.split(',') {
            let (_, field) = fields.iter().chain(more).find(|(name, _)| *name == word).ok_or(word)?;
            wanted |= bit(*field);
        }
        Ok(Aux(wanted))
    }

    pub fn has(self, field: Field) -> bool {
        self.0 >> field as u32 & 1 == 1
    }
}
