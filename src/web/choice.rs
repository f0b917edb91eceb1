//! Whose coins, and in which currency: what a page was asked for, or what is meant.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use maud::{Markup, html};
use serde::de::DeserializeOwned;

use super::error::PageError;
use super::format;
use crate::api::{ApiError, State};
use crate::db::dashboard::market::{Latest, Market};
use crate::db::dashboard::rates::{self, Rates};
use crate::db::{Connection, fx};
use crate::domain::Stamp;
use crate::domain::rate::{Factor, USD};
use crate::sources::whose_rates;

/// The query of a page. What a page does not know it passes over: addresses are shared and typed by hand.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(err) => {
                let err = ApiError::BadParameter { parameter: "query", why: err.body_text() };
                Err(err.into())
            }
        }
    }
}

/// What a page shows.
pub struct Choice {
    pub source: String,
    pub currency: String,
    /// Whose exchange rates hold.
    pub rates_of: String,
    /// What else there is.
    pub sources: Vec<Arc<str>>,
    pub currencies: Vec<String>,
}

impl Choice {
    /// `stored` = the currencies that what is shown is stored in.
    pub fn make(
        state: &State,
        conn: &mut Connection,
        market: &Market,
        source: Option<&str>,
        currency: Option<&str>,
    ) -> Result<Choice, ApiError> {
        let source = state.source(conn, source.filter(|source| !source.is_empty()))?;
        if !market.sources.is_empty() && !market.sources.iter().any(|known| **known == *source) {
            let known: Vec<&str> = market.sources.iter().map(|source| &**source).collect();
            let why = format!("nothing is stored under {source:?}; there is {}", known.join(", "));
            return Err(ApiError::BadParameter { parameter: "source", why });
        }
        let stored = market.currencies(&source);
        Choice::of(conn, market.sources.clone(), source, &stored, currency)
    }

    /// The same where the source is known.
    pub fn of(
        conn: &mut Connection,
        sources: Vec<Arc<str>>,
        source: String,
        stored: &[Arc<str>],
        currency: Option<&str>,
    ) -> Result<Choice, ApiError> {
        let rates_of = fx::rates_of(conn, &source, &whose_rates(&source))?;
        let mut currencies = rates::currencies(conn, &rates_of)?;
        for stored in stored {
            if !currencies.iter().any(|known| **known == **stored) {
                currencies.push(stored.to_string());
            }
        }
        currencies.sort();
        let usual = || stored.iter().find(|stored| ***stored == *USD).or(stored.first());
        let currency = match currency.filter(|currency| !currency.is_empty()) {
            None => usual().map_or(USD.to_owned(), |currency| currency.to_string()),
            Some(wanted) => {
                let wanted = wanted.to_lowercase();
                if !currencies.contains(&wanted) && !currencies.is_empty() {
                    let why = format!("neither a price nor an exchange rate is stored in {wanted:?}");
                    return Err(ApiError::BadParameter { parameter: "currency", why });
                }
                wanted
            }
        };
        Ok(Choice { source, currency, rates_of, sources, currencies })
    }

    /// Rates for the times from `first` to `last`.
    pub fn rates(
        &self,
        conn: &mut Connection,
        stored: &[Arc<str>],
        first: Stamp,
        last: Stamp,
    ) -> Result<Rates, ApiError> {
        Ok(Rates::load(conn, &self.rates_of, stored, &self.currency, first, last)?)
    }
}

/// A coin's newest price in the wanted currency.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub latest: &'a Latest,
    pub factor: Factor,
    /// Of the rate, where one was needed.
    pub rate_at: Option<Stamp>,
}

impl<'a> Shown<'a> {
    /// The newest of those that are stored in the currency or can be converted into it; of equally new ones the
    /// stored one, then dollars.
    pub fn of(prices: &'a [Latest], currency: &str, rates: &Rates) -> Option<Shown<'a>> {
        let shown = prices.iter().filter_map(|latest| {
            let (factor, rate_at) = rates.at(&latest.vs_currency, latest.observed_at)?;
            Some(Shown { latest, factor, rate_at })
        });
        shown.max_by_key(|shown| {
            let vs = &*shown.latest.vs_currency;
            (shown.latest.observed_at, vs == currency, vs == USD)
        })
    }

    fn amount(&self, amount: Option<f64>) -> Option<f64> {
        amount.and_then(|amount| self.factor.apply(amount))
    }

    pub fn price(&self) -> Option<f64> {
        self.amount(self.latest.price)
    }

    pub fn volume(&self) -> Option<f64> {
        self.amount(self.latest.volume_24h)
    }

    pub fn cap(&self) -> Option<f64> {
        self.amount(self.latest.market_cap)
    }

    pub fn is_converted(&self) -> bool {
        self.rate_at.is_some() || self.factor != Factor::ONE
    }
}

/// A list to choose a currency from.
pub fn currency_field(choice: &Choice) -> Markup {
    html! {
        label.field { span { "Currency" }
            select name="currency" data-submit {
                @for currency in &choice.currencies {
                    option value=(currency) selected[*currency == choice.currency] { (currency.to_uppercase()) }
                }
            }
        }
    }
}

pub fn source_field(choice: &Choice) -> Markup {
    html! {
        @if choice.sources.len() > 1 {
            label.field { span { "Source" }
                select name="source" data-submit {
                    @for source in &choice.sources {
                        option value=(source) selected[**source == *choice.source] { (source) }
                    }
                }
            }
        }
    }
}

/// Tells of a conversion.
pub fn conversion_words(from: &str, to: &str, rate_at: Option<Stamp>) -> Markup {
    html! {
        "Converted from " (from.to_uppercase()) " to " (to.to_uppercase())
        @if let Some(at) = rate_at { " by the rate of " time datetime=(at.rfc3339()) { (format::minute(at)) } }
        "."
    }
}

/// Tells that changes in percent are not converted.
pub fn changes_words(of: &str) -> Markup {
    html! { "Changes are those of the price in " (of.to_uppercase()) "." }
}
