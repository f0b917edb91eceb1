//! `quotes publish`: a vendor's quotes into Kafka as they come; or prices, where a vendor has no quotes.

mod poll;
mod send;
mod stream;

use std::time::Duration;

use super::Context;
use super::output::{Outcome, Report};
use crate::exit::{self, UsageError};
use crate::kafka::BrokerError;
use crate::kafka::config::BrokerSettings;
use crate::sources;

pub const NAME: &str = "quotes publish";
/// The one vendor with bids and asks.
const EXCHANGE: &str = "coinbase";
const LONGEST_NAME: usize = 255;

#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["pairs", "ids"])))]
pub struct Args {
    /// Coinbase's live quotes of these pairs: BTC-USD,ETH-USD
    #[arg(long, value_name = "PAIR,PAIR…", value_delimiter = ',', value_parser = pair)]
    pairs: Option<Vec<String>>,
    /// Prices of these coins, by the source's ids, from a source without live quotes: bitcoin,ethereum
    #[arg(long, value_name = "ID,ID…", value_delimiter = ',', value_parser = super::prices::id)]
    ids: Option<Vec<String>>,
    /// How often to ask for the prices of --ids
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = interval, conflicts_with = "pairs")]
    interval: Duration,
    /// End after so many quotes, or prices, of all pairs together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// The session in which running extremes are kept [default: the UTC day of each quote]
    #[arg(long, value_name = "NAME", value_parser = session, conflicts_with = "ids")]
    session: Option<String>,
}

fn pair(text: &str) -> Result<String, String> {
    let pair = text.trim().to_ascii_uppercase();
    let is_currency = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    match pair.rsplit_once('-') {
        Some((base, quote)) if pair.len() <= LONGEST_NAME && base.split('-').all(is_currency) && is_currency(quote) => {
            Ok(pair)
        }
        _ => Err("a pair is BASE-QUOTE, such as BTC-USD".to_owned()),
    }
}

fn session(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a session's name is empty".to_owned()),
        name if name.len() > LONGEST_NAME || name.contains('\0') => {
            Err(format!("a session's name has up to {LONGEST_NAME} bytes, and no U+0000 among them"))
        }
        name => Ok(name.to_owned()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration >= Duration::from_millis(100) => Ok(duration),
        Ok(_) => Err("no vendor is asked more often than every 100ms".to_owned()),
        Err(err) => Err(err.to_string()),
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let source = context.settings.source;
    let result = match (&args.pairs, &args.ids) {
        (Some(pairs), _) => {
            let chosen = source.name();
            if context.source_is_chosen && chosen != EXCHANGE {
                let why = format!("{chosen} has no bid and ask; use --ids to get its prices, or --source {EXCHANGE}");
                return Err(UsageError(why).into());
            }
            let exchange = sources::find(EXCHANGE).unwrap_or(source);
            stream::run(args, super::prices::distinct(pairs), exchange, context).map_err(|err| (EXCHANGE, err))
        }
        (None, Some(_)) if source.name() == EXCHANGE => {
            return Err(UsageError(format!("{EXCHANGE} has live quotes: use --pairs, or another --source")).into());
        }
        (None, ids) => {
            let ids = super::prices::distinct(ids.as_deref().unwrap_or_default());
            poll::run(args, ids, context).map_err(|err| (source.name(), err))
        }
    };
    result.or_else(|(name, err)| {
        let mut report = Report::failed(NAME, name, &err);
        if let Some(err) = err.chain().find_map(|cause| cause.downcast_ref::<BrokerError>()) {
            report.error = Some(send::words(err));
        }
        Ok(Outcome::new(exit::of(&err), report, String::new()))
    })
}

fn broker(context: &Context) -> Result<BrokerSettings, BrokerError> {
    context.settings.broker.clone().ok_or(BrokerError::NotSet)
}

/// When the time that was asked for is over.
async fn over(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_sessions_are_checked() {
        assert_eq!(pair(" btc-usd ").unwrap(), "BTC-USD");
        for wrong in ["BTC", "BTC-", "-USD", "BTC USD", "BTC--USD", "BTC/USD", ""] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
        assert_eq!(session(" london ").unwrap(), "london");
        assert!(session(" ").is_err() && session(&"x".repeat(256)).is_err());
        assert!(interval("1s").is_ok() && interval("0s").is_err() && interval("soon").is_err());
    }
}
