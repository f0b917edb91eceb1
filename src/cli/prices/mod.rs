//! `prices insert`: the current price of every active coin, or of the chosen ones.

mod insert;
mod pages;
mod rates;
mod table;

use std::collections::HashSet;
use std::sync::Arc;

use super::output::Outcome;
use super::run::execute;
use super::{Context, Output, progress};
use crate::db::absences::Absences;
use crate::db::{Connection, DbError, Session, absences, assets, runs};
use crate::domain::Cost;
use crate::exit::UsageError;
use crate::sinks::prices::PriceSink;
use crate::sources::ask::{self, Choice};
use crate::sources::{Source, answers_at_once};

pub const NAME: &str = "prices insert";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only the N largest coins by market cap
    #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(u64).range(1..))]
    top: Option<u64>,
    /// Only these coins, by the source's ids: bitcoin,ethereum
    #[arg(long, value_name = "ID,ID…", value_delimiter = ',', value_parser = id)]
    ids: Option<Vec<String>>,
    /// Quote currencies
    #[arg(long, value_name = "CUR,CUR…", value_delimiter = ',', default_value = "usd", value_parser = currency)]
    vs: Vec<String>,
    /// Without exchange rates, which take one call where all coins are asked for
    #[arg(long)]
    no_fx: bool,
}

pub fn id(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an id is empty".to_owned()),
        id => Ok(id.to_owned()),
    }
}

pub fn currency(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let fits = (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(name) } else { Err("a currency is 1 to 20 letters or digits, such as usd".to_owned()) }
}

impl Args {
    /// Refuses what the source can't do, before anything is asked for.
    fn fit(&self, source: &dyn Source) -> Result<(), UsageError> {
        let refuse = |what: String| Err(UsageError(what));
        if let (Some(_), Some(why)) = (self.top, source.why_no_top()) {
            return refuse(format!("--top can't be used with {}: {why}; leave it out, or use --ids", source.name()));
        }
        for id in self.ids.iter().flatten() {
            if let Some(why) = source.why_no_id(id) {
                return refuse(format!("--ids {id:?} can't be asked for: {why}"));
            }
        }
        Ok(())
    }

    fn choice(&self) -> Choice {
        match (self.top, &self.ids) {
            (_, Some(ids)) => Choice::Ids(distinct(ids)),
            (Some(top), None) => Choice::Top(top),
            (None, None) => Choice::All,
        }
    }

    /// Each once, in their order.
    fn currencies(&self) -> Vec<Arc<str>> {
        distinct(&self.vs).iter().map(|vs| Arc::from(vs.as_str())).collect()
    }

    /// What it costs to ask once for the coins that are known to be on no page, by their ids.
    pub fn cost_of_absent(
        &self,
        source: &dyn Source,
        conn: &mut Connection,
        names: &[String],
        which: Absences,
    ) -> Result<Cost, DbError> {
        let mut cost = Cost::default();
        if self.choice() != Choice::All || answers_at_once(source) {
            return Ok(cost);
        }
        for vs_currency in self.currencies() {
            for name in names {
                let absent = absences::count(conn, name, &vs_currency, which)?;
                // As long as most ids are.
                let ids = vec!["0123456789abcdef".to_owned(); usize::try_from(absent).unwrap_or(0)];
                cost += ask::cost_of_ids(source, std::slice::from_ref(&vs_currency), &ids);
            }
        }
        Ok(cost)
    }

    /// The same for the largest coins only; `None` where some were chosen by their ids.
    pub fn with_top(&self, top: u64) -> Option<Args> {
        self.ids.is_none().then(|| Args { top: Some(top), ..self.clone() })
    }

    /// What it costs with so many active coins, 0 = nobody knows.
    pub fn cost(&self, source: &dyn Source, active: u64) -> Result<Cost, UsageError> {
        self.fit(source)?;
        Ok(self.cost_of_fit(source, active))
    }

    fn cost_of_fit(&self, source: &dyn Source, active: u64) -> Cost {
        let (choice, currencies) = (self.choice(), self.currencies());
        let prices = ask::cost_of_prices(source, &choice, &currencies, active);
        if self.no_fx { prices } else { prices + ask::cost_of_rates(source, &choice, &currencies) }
    }

    /// Exchange rates come with the prices of all coins.
    fn wants_rates(&self) -> bool {
        !self.no_fx && self.choice() == Choice::All
    }
}

/// Each once, in their order.
pub fn distinct(words: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    words.iter().filter(|word| seen.insert(*word)).cloned().collect()
}

/// Active coins stored under the first of these names that has any.
pub fn count_known(conn: &mut Connection, names: &[String]) -> Result<u64, DbError> {
    for name in names {
        let count = assets::count_active(conn, name)?;
        if count > 0 {
            return Ok(count.unsigned_abs());
        }
    }
    Ok(0)
}

/// The same, but 0 while no `assets upsert` came to its end: what is stored then may be a part.
pub fn count_listed(conn: &mut Connection, names: &[String]) -> Result<u64, DbError> {
    for name in names {
        if runs::ended_well(conn, super::assets::NAME, name)? {
            return count_known(conn, std::slice::from_ref(name));
        }
    }
    Ok(0)
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let (limit, source) = (args.top, context.settings.source);
    args.fit(source)?;
    let estimate = {
        let args = args.clone();
        Box::new(move |conn: &mut Connection, names: &[String]| {
            let listed = count_listed(conn, names)?;
            Ok(args.cost_of_fit(source, listed) + args.cost_of_absent(source, conn, names, Absences::Due)?)
        })
    };
    let make = move |mut session: Session| {
        let run_id = session.run_id();
        let run_time = runs::started_at(session.conn(), run_id)?;
        Ok(PriceSink::new(session, run_time, limit))
    };
    let (wanted, bar) = (args.clone(), progress::bar(context));
    let for_people = context.output == Output::Text && !context.quiet;
    let mut outcome = execute(context, NAME, estimate, make, move |job| insert::insert(job, wanted, bar, for_people))?;
    let report = &outcome.report;
    if report.status != "failed" {
        let summary = format!(
            "{}: {} prices: {} new, {} changed, {} unchanged, {} rejected, {} absent ({} call(s), {:.1} s)",
            report.source,
            report.rows_read,
            report.rows_written - report.rows_updated,
            report.rows_updated,
            report.rows_unchanged,
            report.rows_rejected,
            report.rows_absent,
            report.calls,
            report.seconds,
        );
        outcome.text = [summary, std::mem::take(&mut outcome.text)].join("\n").trim_end().to_owned();
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_and_ids_are_checked() {
        assert_eq!(currency(" USD").unwrap(), "usd");
        assert!(currency("us d").is_err());
        assert_eq!(id(" 1move token ").unwrap(), "1move token");
        assert!(id(" ").is_err());
    }
}
