//! `prices insert`: the current price of every active coin, or of the chosen ones.

mod insert;
mod pages;
mod table;

use super::output::Outcome;
use super::run::execute;
use super::{Context, Output, progress};
use crate::db::{Session, runs};
use crate::sinks::prices::PriceSink;

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
    /// Without exchange rates (none are fetched yet, so this changes nothing)
    #[arg(long, hide = true)]
    no_fx: bool,
}

fn id(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an id is empty".to_owned()),
        id => Ok(id.to_owned()),
    }
}

fn currency(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let fits = (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(name) } else { Err("a currency is 1 to 20 letters or digits, such as usd".to_owned()) }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let limit = args.top;
    let make = move |mut session: Session| {
        let run_id = session.run_id();
        let run_time = runs::started_at(session.conn(), run_id)?;
        Ok(PriceSink::new(session, run_time, limit))
    };
    let (wanted, bar) = (args.clone(), progress::bar(context));
    let for_people = context.output == Output::Text && !context.quiet;
    let mut outcome = execute(context, NAME, make, move |job| insert::insert(job, wanted, bar, for_people))?;
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
