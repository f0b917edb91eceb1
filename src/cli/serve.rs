//! `serve`: the REST API, its documentation and the dashboard over the stored data.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::budget::{self, Label};
use super::output::{Outcome, Report};
use super::{Context, Output, stop};
use crate::api::state::{Budgets, Options};
use crate::api::{self, State, server};
use crate::config::Settings;
use crate::db::{health, migrate};
use crate::exit::{Exit, UsageError};
use crate::sources::{self, SANDBOX_PREFIX};
use crate::web;

pub const NAME: &str = "serve";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 picks a free one. Others than this host can reach it only where this says so
    #[arg(long, default_value = "127.0.0.1:8000")]
    bind: SocketAddr,
    /// Connections to the database at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    connections: u32,
    /// Longest read of the database
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// MiB of answers to keep in this process
    #[arg(long, default_value_t = 24, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    cache: u32,
    /// Requests a second of one address; 0 = any number
    #[arg(long, default_value_t = 0, value_name = "N")]
    rate_limit: u32,
    /// Data older than this is shown as stale
    #[arg(long, default_value = "2h", value_name = "DURATION", value_parser = humantime::parse_duration)]
    stale_after: Duration,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let settings = &context.settings;
    let mut conn = migrate::open_current(&settings.database_url)?.conn;
    let chosen = context.stored_source(&mut conn)?;
    let database_id = health::identity(&mut conn, &settings.database_url)?;
    drop(conn);
    let sources = match chosen {
        Some(chosen) => vec![chosen],
        // The quickstart's data may be made up.
        None => Label::Unsure.names(settings.source),
    };
    if args.timeout.is_zero() {
        return Err(UsageError("--timeout must be longer than nothing, such as 10s".to_owned()).into());
    }
    let options = Options {
        database_url: settings.database_url.clone(),
        sources: sources.clone(),
        database_id,
        shown_settings: shown(settings),
        redis_url: settings.redis_url.clone(),
        connections: args.connections,
        longest_read: args.timeout,
        cache_bytes: u64::from(args.cache) << 20,
        rate_limit: args.rate_limit,
        stale_after: args.stale_after,
        budgets: budgets(settings),
    };
    server::take_handles();
    server::keep_large_apart();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let state = State::new(options).await?;
        let listener = tokio::net::TcpListener::bind(args.bind).await.map_err(|err| {
            let bind = args.bind;
            UsageError(format!("nothing can be served on {bind} ({err}); choose another address with --bind"))
        })?;
        let addr = listener.local_addr()?;
        // Before the line below: whoever reads it may ask us to stop at once.
        let asked = stop::asked();
        let line = format!("coinetl serve: http://{addr} (dashboard at /, API at /docs, figures at /metrics)");
        // Whoever started us may not read it. For programs stdout carries the result alone.
        let _ = match context.output {
            Output::Text => writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush()),
            Output::Json => writeln!(std::io::stderr(), "{line}"),
        };
        let router = api::router(state.clone(), web::router());
        let stopping = async {
            asked.await;
            state.stop();
        };
        server::serve(listener, router, state.clone(), stopping).await;
        anyhow::Ok(())
    })?;
    // A read that is still at it is not waited for.
    runtime.shutdown_background();
    Ok(Outcome::new(Exit::Ok, Report::new(NAME, &sources[0]), String::new()))
}

/// What pages show of the settings: limits come from the kind of a key, and from what somebody set.
fn shown(settings: &Settings) -> String {
    let kinds = sources::ALL.map(|source| settings.access(source).kind);
    format!("{:?} {kinds:?}", settings.credits_per_month)
}

/// What a month allows each vendor, and its stand-in.
fn budgets(settings: &Settings) -> Budgets {
    let chosen = settings.credits_per_month;
    let vendors = sources::ALL.map(|source| (source, settings.access(source)));
    Budgets::new(move |conn, stored| {
        let name = stored.strip_prefix(SANDBOX_PREFIX).unwrap_or(stored);
        let label = if name == stored { Label::Real } else { Label::Sandbox };
        let Some((source, access)) = vendors.iter().find(|(source, _)| source.name() == name) else { return Ok(None) };
        Ok(Some(budget::allowance_of(conn, chosen, *source, access, label)?.budget))
    })
}
