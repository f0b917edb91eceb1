//! What is asked for: of which source, in which currency, searched, sorted and paged how, and its address.

use serde::Deserialize;

use super::super::address::Address;

/// More is no name of a coin.
pub const LONGEST_SEARCH: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Query {
    source: Option<String>,
    currency: Option<String>,
    sort: Option<String>,
    dir: Option<String>,
    q: Option<String>,
    page: Option<String>,
    /// `coins` = the table alone.
    part: Option<String>,
}

/// What a column sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Rank,
    Name,
    Symbol,
    Price,
    Hour,
    Day,
    Week,
    Month,
    Volume,
    Cap,
}

impl Column {
    pub const ALL: [Column; 10] = [
        Column::Rank,
        Column::Name,
        Column::Symbol,
        Column::Price,
        Column::Hour,
        Column::Day,
        Column::Week,
        Column::Month,
        Column::Volume,
        Column::Cap,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Column::Rank => "rank",
            Column::Name => "name",
            Column::Symbol => "symbol",
            Column::Price => "price",
            Column::Hour => "1h",
            Column::Day => "24h",
            Column::Week => "7d",
            Column::Month => "30d",
            Column::Volume => "volume",
            Column::Cap => "cap",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Column::Rank => "#",
            Column::Name => "Coin",
            Column::Symbol => "Symbol",
            Column::Price => "Price",
            Column::Hour => "1h",
            Column::Day => "24h",
            Column::Week => "7d",
            Column::Month => "30d",
            Column::Volume => "Volume 24h",
            Column::Cap => "Market cap",
        }
    }

    /// The class of its cells, which tells what a narrow screen leaves out.
    pub fn class(self) -> &'static str {
        match self {
            Column::Rank => "rank",
            Column::Name | Column::Symbol => "coin",
            Column::Price => "num price",
            Column::Hour => "num c1h",
            Column::Day => "num c24h",
            Column::Week => "num c7d",
            Column::Month => "num c30d",
            Column::Volume => "num vol",
            Column::Cap => "num cap",
        }
    }

    /// Small ranks and early letters first, large amounts first.
    pub fn is_rising(self) -> bool {
        matches!(self, Column::Rank | Column::Name | Column::Symbol)
    }
}

/// What is asked for, in one spelling.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub source: Option<String>,
    pub currency: Option<String>,
    pub sort: Option<Column>,
    pub rising: Option<bool>,
    pub search: String,
    /// From 1.
    pub page: usize,
    pub is_part: bool,
}

impl Wanted {
    pub fn of(query: Query) -> Wanted {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let sort = given(query.sort).and_then(|word| Column::ALL.into_iter().find(|column| column.word() == word));
        let rising = match query.dir.as_deref() {
            Some("asc") => Some(true),
            Some("desc") => Some(false),
            _ => None,
        };
        let mut search = query.q.unwrap_or_default().trim().to_owned();
        search.truncate(search.floor_char_boundary(LONGEST_SEARCH));
        Wanted {
            source: given(query.source),
            currency: given(query.currency).map(|currency| currency.to_lowercase()),
            sort,
            rising: rising.filter(|_| sort.is_some()),
            search,
            page: query.page.and_then(|page| page.parse().ok()).unwrap_or(1).max(1),
            is_part: query.part.as_deref() == Some("coins"),
        }
    }

    pub fn address(&self) -> Address {
        Address::new("/")
            .maybe("source", self.source.as_deref())
            .maybe("currency", self.currency.as_deref())
            .maybe("sort", self.sort.map(Column::word))
            .maybe("dir", self.rising.map(|rising| if rising { "asc" } else { "desc" }))
            .maybe("q", Some(self.search.as_str()).filter(|search| !search.is_empty()))
            .maybe("page", Some(self.page).filter(|page| *page > 1))
    }
}
