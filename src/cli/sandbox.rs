//! `sandbox`: the stand-in for the vendors' APIs as a server of its own.

use std::io::Write;
use std::net::SocketAddr;

use chrono::{DateTime, Utc};

use super::output::{Outcome, Report};
use super::stop;
use super::{Context, Output};
use crate::exit::Exit;
use crate::sandbox::{self, Fault, Options};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8001")]
    bind: SocketAddr,
    /// How many coins the market has at every moment
    #[arg(long, default_value_t = Options::default().assets, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    assets: u32,
    /// The same seed makes the same market
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
    /// Break a share of the answers, and of Coinbase's feeds or their messages: KIND=RATE with RATE from 0 to 1; may be given several times
    #[arg(long = "fault", value_name = "KIND=RATE")]
    faults: Vec<Fault>,
    /// Answer 429 above so many calls a minute; 0 = never
    #[arg(long, default_value_t = 0)]
    calls_per_minute: u32,
    /// Credits that each CoinMarketCap key has for a month of the market's time; 0 = no limit
    #[arg(long, default_value_t = Options::default().credits_per_month)]
    credits_per_month: u32,
    /// Let the market's clock start at this moment instead of now
    #[arg(long, value_name = "RFC3339")]
    at: Option<DateTime<Utc>>,
    /// How fast the market's clock runs: 1 = real time, 3600 = an hour a second, 0 = not at all
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Quotes a second of the market's clock for each product that a client of Coinbase's feed
    /// follows; from 0.0001 to 100000
    #[arg(long, value_name = "N", default_value_t = Options::default().quotes_per_second)]
    quotes_per_second: f64,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let options = Options {
        bind: args.bind,
        assets: args.assets,
        seed: args.seed,
        faults: args.faults.clone(),
        calls_per_minute: args.calls_per_minute,
        credits_per_month: args.credits_per_month,
        at: args.at,
        speed: args.speed,
        quotes_per_second: args.quotes_per_second,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let sandbox = sandbox::start(options).await?;
        let addr = sandbox.addr();
        // Before the line below: whoever reads it may ask us to stop at once.
        let asked = stop::asked();
        let line = format!(
            "coinetl sandbox: http://{addr} (COINGECKO_API_URL=http://{addr}/api/v3 \
             COINMARKETCAP_API_URL=http://{addr} COINBASE_API_URL=http://{addr} COINBASE_WS_URL=ws://{addr})"
        );
        // Whoever started us may not read it. For programs stdout carries the result alone.
        let _ = match context.output {
            Output::Text => writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush()),
            Output::Json => writeln!(std::io::stderr(), "{line}"),
        };
        asked.await;
        sandbox.stop().await;
        anyhow::Ok(())
    })?;
    Ok(Outcome::new(Exit::Ok, Report::new("sandbox", ""), String::new()))
}
