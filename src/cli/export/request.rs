//! What is asked for, and how files tell it.

use crate::db::export::Selection;
use crate::domain::Stamp;
use crate::sinks::files::Format;
use crate::sinks::files::manifest::{Asked, Window};
use crate::sinks::files::parquet::About;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub selection: Selection,
    pub format: Format,
    pub by_day: bool,
    pub since_last: bool,
    pub in_currency: Option<String>,
}

impl Request {
    /// What its files are called.
    pub fn dataset(&self) -> String {
        let Selection { table, timeframes, .. } = &self.selection;
        let lengths: String = timeframes.iter().map(|timeframe| format!("-{timeframe}")).collect();
        format!("{}{lengths}.{}", table.name(), self.format.extension())
    }

    pub fn asked(&self) -> Asked {
        let Selection { timeframes, source, ids, pairs, top, vs, from, to, .. } = &self.selection;
        let time = |stamp: &Option<Stamp>| stamp.map(|stamp| rfc3339(&stamp.to_string()));
        Asked {
            format: self.format,
            partition_by: self.by_day.then(|| "day".to_owned()),
            timeframes: timeframes.iter().map(|timeframe| timeframe.name().to_owned()).collect(),
            source: source.clone(),
            ids: ids.clone(),
            pairs: pairs.clone(),
            top: *top,
            vs: vs.clone(),
            window: Window { from: time(from), to: time(to) },
            in_currency: self.in_currency.clone(),
        }
    }

    /// The order of the rows, as columns of the table.
    pub fn order(&self) -> Vec<usize> {
        let table = self.selection.table;
        table.order().iter().filter_map(|name| table.at(name)).collect()
    }

    /// What a Parquet file tells of itself.
    pub fn about(&self) -> About {
        let Asked { source, window, timeframes, in_currency, .. } = self.asked();
        let mut metadata = vec![
            ("coinetl.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("coinetl.table".to_owned(), self.selection.table.name().to_owned()),
            ("coinetl.source".to_owned(), source.unwrap_or_else(|| super::ALL.to_owned())),
            ("coinetl.from".to_owned(), window.from.unwrap_or_default()),
            ("coinetl.to".to_owned(), window.to.unwrap_or_default()),
        ];
        if !timeframes.is_empty() {
            metadata.push(("coinetl.timeframes".to_owned(), timeframes.join(",")));
        }
        if let Some(currency) = in_currency {
            metadata.push(("coinetl.in_currency".to_owned(), currency));
        }
        About { order: self.order(), metadata }
    }
}

/// Which options are not the same.
pub fn difference(before: &Asked, now: &Asked) -> String {
    let (Ok(serde_json::Value::Object(before)), Ok(serde_json::Value::Object(now))) =
        (serde_json::to_value(before), serde_json::to_value(now))
    else {
        return String::new();
    };
    let differing = before.iter().filter(|(name, value)| now.get(*name) != Some(value));
    differing.map(|(name, value)| format!("{name} was {value}")).collect::<Vec<_>>().join(", ")
}

/// `2026-05-19 08:47:57.580` as RFC 3339.
pub fn rfc3339(text: &str) -> String {
    format!("{}Z", text.replacen(' ', "T", 1))
}
