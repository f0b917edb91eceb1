//! `in`: amounts in another currency, by the newest rate at or before their time.

use serde::Serialize;

use crate::db::fx::{self, Conversion};
use crate::db::{Connection, DbError};
use crate::domain::Stamp;
use crate::domain::rate::Factor;
use crate::sources::whose_rates;

/// From the stored currency into the wanted one, where one is wanted.
pub struct Rates {
    conversion: Option<(Conversion, String)>,
    from: String,
    /// Neighbours often share their time.
    last: Option<(Stamp, Rate)>,
}

/// What amounts of a time are converted with.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// `None` where no rate is known.
    factor: Option<Factor>,
    /// The time of the rate; `None` where none was needed.
    pub time: Option<Stamp>,
}

impl Rates {
    pub fn new(conn: &mut Connection, source: &str, from: &str, to: Option<&str>) -> Result<Rates, DbError> {
        let conversion = match to {
            None => None,
            Some(to) => {
                let whose = fx::rates_of(conn, source, &whose_rates(source))?;
                Some((Conversion::new(&whose, to), to.to_owned()))
            }
        };
        Ok(Rates { conversion, from: from.to_owned(), last: None })
    }

    /// The wanted currency.
    pub fn currency(&self) -> Option<&str> {
        self.conversion.as_ref().map(|(_, to)| to.as_str())
    }

    pub fn at(&mut self, conn: &mut Connection, time: Stamp) -> Result<Rate, DbError> {
        let Some((conversion, _)) = &mut self.conversion else {
            return Ok(Rate { factor: Some(Factor::ONE), time: None });
        };
        match self.last {
            Some((at, rate)) if at == time => Ok(rate),
            _ => {
                let rate = match conversion.dated_factor(conn, &self.from, time)? {
                    Some((factor, time)) => Rate { factor: Some(factor), time },
                    None => Rate { factor: None, time: None },
                };
                self.last = Some((time, rate));
                Ok(rate)
            }
        }
    }
}

impl Rate {
    pub fn of(self, amount: Option<f64>) -> Option<f64> {
        self.factor.zip(amount).and_then(|(factor, amount)| factor.apply(amount))
    }

    /// What one of the stored currency is in the wanted one.
    pub fn of_one(self) -> Option<f64> {
        self.of(Some(1.0))
    }
}

/// With `in`: what amounts were converted with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Converted {
    /// The currency that amounts are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "eur")]
    pub in_currency: Option<String>,
    /// What one of `vs_currency` is in it; null where no rate is known, and so are the amounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub rate: Option<Option<f64>>,
    /// When that was told; null where no rate was needed or is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rate_time: Option<Option<String>>,
}

impl Converted {
    pub fn new(rates: &Rates, rate: Rate) -> Converted {
        match rates.currency() {
            None => Converted { in_currency: None, rate: None, rate_time: None },
            Some(currency) => Converted {
                in_currency: Some(currency.to_owned()),
                rate: Some(rate.of_one()),
                rate_time: Some(rate.time.map(Stamp::rfc3339)),
            },
        }
    }
}
