//! The command line: options, dispatch, one file for each command.

mod assets;
mod budget;
mod candles;
mod completions;
mod consume;
mod db_setup;
mod dead_letters;
mod doctor;
mod ending;
mod export;
mod failures;
mod gaps;
mod heartbeat;
mod history;
mod import;
mod logging;
mod output;
mod ping;
mod plan;
mod plot;
mod prices;
mod probe;
mod progress;
mod prune;
mod publish;
mod quotes;
mod run;
mod sandbox;
mod serve;
mod stop;

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::config::{Environment, Flags, Settings};
use crate::db::{Connection, DbError, assets as stored};
use crate::exit::{self, Exit, UsageError};
use crate::sources::{self, SANDBOX_PREFIX};
use output::{Outcome, Report};

/// Crypto market data into your own database
#[derive(Debug, Parser)]
#[command(name = "coinetl", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COINETL_FEATURES"), ")");

#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// sqlite://FILE, mysql://user:password@host/database or postgres://… [env: DATABASE_URL] [default: sqlite://coinetl.db]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Whose data: coingecko, coinmarketcap or coinbase [env: COINETL_SOURCE] [default: coingecko]
    #[arg(long, global = true, value_name = "NAME")]
    source: Option<String>,
    /// Start the sandbox inside this process and use it as the source: generated data, no network
    #[arg(long, global = true)]
    sandbox: bool,
    /// Form of the result on stdout
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// How long to wait while another process runs the same command, such as 5m [default: 0s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// More of the story on stderr; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Only errors on stderr, no result text on stdout
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Form of the story on stderr
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    log_format: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply pending migrations; create the database where that is possible
    DbSetup(db_setup::Args),
    /// The source's coin list
    #[command(subcommand)]
    Assets(AssetsCommand),
    /// Prices, 24 h volumes and market caps
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Send to Kafka what earlier runs stored
    Publish(publish::Args),
    /// Store what is in Kafka: prices, candles, quotes; until it is told to stop
    Consume(consume::Args),
    /// What could not be used: list it, or try it again
    #[command(subcommand)]
    DeadLetters(dead_letters::Args),
    /// Open, high, low, close
    #[command(subcommand)]
    Candles(CandlesCommand),
    /// What is missing of the past, and why; get what can be had
    Gaps(gaps::Args),
    /// A market as it moves
    #[command(subcommand)]
    Quotes(QuotesCommand),
    /// Tell what a month costs, in calls and credits, before any are spent
    Plan(plan::Args),
    /// Import files, folders and zip archives of historical candles or prices
    Import(import::Args),
    /// Write what is stored into CSV or Parquet files
    Export(export::Args),
    /// Draw what is stored: lines, candles, quotes, shares
    Plot(plot::Args),
    /// Delete old observations that are folded into candles
    Prune(prune::Args),
    /// Try everything that a run needs, and say what to do about what is not well
    Doctor(doctor::Args),
    /// Serve the REST API, its documentation and the dashboard
    Serve(serve::Args),
    /// Serve a stand-in for the vendors' APIs with generated data
    Sandbox(sandbox::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Print the manual page
    Man(completions::ManArgs),
}

#[derive(Debug, Subcommand)]
enum AssetsCommand {
    /// Bring the table `assets` up to date with the source's full coin list
    Upsert(assets::Args),
}

#[derive(Debug, Subcommand)]
enum PricesCommand {
    /// Store the current price of every active coin, or of the chosen ones
    Insert(prices::Args),
}

#[derive(Debug, Subcommand)]
enum CandlesCommand {
    /// Fold stored prices and shorter candles into candles, only what changed since last time
    Rollup(candles::rollup::Args),
    /// Get the past from the source, in the fewest calls; go on where it was interrupted
    Backfill(candles::backfill::Args),
}

#[derive(Debug, Subcommand)]
enum QuotesCommand {
    /// Send live quotes to Kafka as they come, or prices where a source has no quotes
    Publish(quotes::Args),
}

/// What a command gets besides its own arguments.
pub struct Context {
    pub settings: Settings,
    /// By a flag, for this one command.
    pub source_is_chosen: bool,
    /// Chosen by a flag, and no vendor: rows may be stored under it.
    other_source: Option<String>,
    pub sandbox: bool,
    pub wait: Duration,
    pub output: Output,
    pub quiet: bool,
}

impl Context {
    /// The one name whose stored rows are asked for; `None` for all. Refuses one that nothing is stored
    /// under and that is no vendor's.
    pub fn stored_source(&self, conn: &mut Connection) -> anyhow::Result<Option<String>> {
        let name = self.settings.source.name();
        Ok(match (&self.other_source, self.sandbox, self.source_is_chosen) {
            (Some(other), ..) => {
                let stored = stored::sources(conn)?;
                if !stored.contains(other) {
                    let stored = if stored.is_empty() { "none".to_owned() } else { stored.join(", ") };
                    let why =
                        format!("--source {other:?} is no vendor, and nothing is stored under it; stored: {stored}");
                    return Err(UsageError(why).into());
                }
                Some(other.clone())
            }
            (None, true, _) => Some(format!("{SANDBOX_PREFIX}{name}")),
            (None, false, true) => Some(name.to_owned()),
            (None, false, false) => None,
        })
    }

    /// The name that `--source` chose, where it is no vendor's.
    pub fn other_source(&self) -> Option<&str> {
        self.other_source.as_deref()
    }
}

pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.with_planned_options(),
        Err(err) => {
            let exit = if err.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nothing is left to do when nobody reads the help.
            let _ = err.print();
            return exit.into();
        }
    };
    let outcome = run(&cli);
    let exit = outcome.exit;
    // A page that was asked for is what there is to say.
    let quiet = cli.global.quiet && !matches!(cli.command, Command::Completions(_) | Command::Man(_));
    let stdout_is_taken = matches!(&cli.command, Command::Export(args) if args.is_piped());
    output::print(&outcome, cli.global.output, quiet, stdout_is_taken);
    exit.into()
}

impl Cli {
    /// `plan prices insert --source X --output json`: what stands behind the planned command is read
    /// as a part of it, and its global options are meant for `plan` as well.
    fn with_planned_options(mut self) -> Cli {
        let Command::Plan(args) = &mut self.command else { return self };
        args.take_every();
        // What is wrong with it is told by the command itself.
        let Ok(planned) = args.planned() else { return self };
        let Global { database_url, source, sandbox, output, verbose, quiet, .. } = planned;
        let global = &mut self.global;
        global.database_url = global.database_url.take().or(database_url);
        global.source = global.source.take().or(source);
        global.sandbox |= sandbox;
        global.verbose = global.verbose.max(verbose);
        global.quiet |= quiet;
        if output == Output::Json {
            global.output = output;
        }
        self
    }
}

fn run(cli: &Cli) -> Outcome {
    let name = cli.command.name();
    let failed = |err: anyhow::Error, source: &str| {
        Outcome::new(exit::of(&err), Report::failed(name, source, &err), String::new())
    };
    // These need no settings: packagers call them, wherever they are.
    let told = match &cli.command {
        Command::Completions(args) => Some(completions::run(args)),
        Command::Man(args) => Some(completions::man(args)),
        _ => None,
    };
    if let Some(told) = told {
        return told.unwrap_or_else(|err| failed(err, ""));
    }
    let mut chosen = cli.global.source.clone();
    if matches!(cli.command, Command::Import(_)) {
        // What it does without being told.
        chosen.take_if(|name| name == import::ARCHIVE);
    }
    let source_is_chosen = chosen.is_some();
    // What is stored may have come from elsewhere: an archive, a topic, a sandbox.
    let is_other = |name: &mut String| sources::find(name).is_none();
    let may_be_other = cli.command.calls_nobody() && !cli.global.sandbox;
    let other_source = if may_be_other { chosen.take_if(is_other) } else { None };
    let resolved = Environment::read().and_then(|env| {
        let flags = Flags { database_url: cli.global.database_url.clone(), source: chosen };
        Settings::resolve(flags, &env)
    });
    let settings = match resolved {
        Ok(settings) => settings,
        Err(err) => {
            let source = cli.global.source.as_deref().unwrap_or_default();
            return match &cli.command {
                Command::Doctor(_) => doctor::broken_settings(&err, source),
                _ => failed(err.into(), source),
            };
        }
    };
    logging::start(&cli.global, cli.command.tells_its_story(), settings.rust_log.as_deref());
    let source = other_source.clone().unwrap_or_else(|| settings.source.name().to_owned());
    let ping_url = settings.ping_url.clone().filter(|_| cli.command.is_run());
    let context = Context {
        settings,
        source_is_chosen,
        other_source,
        sandbox: cli.global.sandbox,
        wait: cli.global.wait.unwrap_or_default(),
        output: cli.global.output,
        quiet: cli.global.quiet,
    };
    let result = dispatch(&cli.command, &context);
    let held = result.as_ref().is_err_and(|err| matches!(err.downcast_ref(), Some(DbError::LeaseHeld { .. })));
    let outcome = result.unwrap_or_else(|err| failed(err, &source));
    // The other run, which is still at it, tells how it ends.
    let busy = held || outcome.busy;
    if let Some(url) = ping_url.filter(|_| !busy && outcome.exit != Exit::Usage) {
        ping::tell(&url, outcome.exit);
    }
    outcome
}

fn dispatch(command: &Command, context: &Context) -> anyhow::Result<Outcome> {
    match command {
        Command::DbSetup(args) => db_setup::run(args, context),
        Command::Assets(AssetsCommand::Upsert(args)) => assets::run(args, context),
        Command::Prices(PricesCommand::Insert(args)) => prices::run(args, context),
        Command::Publish(args) => publish::run(args, context),
        Command::Consume(args) => consume::run(args, context),
        Command::DeadLetters(args) => dead_letters::run(args, context),
        Command::Candles(CandlesCommand::Rollup(args)) => candles::rollup::run(args, context),
        Command::Candles(CandlesCommand::Backfill(args)) => candles::backfill::run(args, context),
        Command::Gaps(args) => gaps::run(args, context),
        Command::Quotes(QuotesCommand::Publish(args)) => quotes::run(args, context),
        Command::Plan(args) => plan::run(args, context),
        Command::Import(args) => import::run(args, context),
        Command::Export(args) => export::run(args, context),
        Command::Plot(args) => plot::run(args, context),
        Command::Prune(args) => prune::run(args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Serve(args) => serve::run(args, context),
        Command::Sandbox(args) => sandbox::run(args, context),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => completions::man(args),
    }
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Command::DbSetup(_) => "db-setup",
            Command::Assets(AssetsCommand::Upsert(_)) => assets::NAME,
            Command::Prices(PricesCommand::Insert(_)) => prices::NAME,
            Command::Publish(_) => publish::NAME,
            Command::Consume(_) => consume::NAME,
            Command::DeadLetters(_) => dead_letters::NAME,
            Command::Candles(CandlesCommand::Rollup(_)) => candles::rollup::NAME,
            Command::Candles(CandlesCommand::Backfill(_)) => candles::backfill::NAME,
            Command::Gaps(_) => gaps::NAME,
            Command::Quotes(QuotesCommand::Publish(_)) => quotes::NAME,
            Command::Plan(_) => plan::NAME,
            Command::Import(_) => import::NAME,
            Command::Export(args) => args.name(),
            Command::Plot(args) => args.name(),
            Command::Prune(_) => prune::NAME,
            Command::Doctor(_) => doctor::NAME,
            Command::Serve(_) => serve::NAME,
            Command::Sandbox(_) => "sandbox",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }

    /// Whether it only reads or deletes what is stored, whoever it came from.
    fn calls_nobody(&self) -> bool {
        match self {
            Command::Export(_) | Command::Plot(_) | Command::Prune(_) | Command::Serve(_) => true,
            Command::Gaps(args) => !args.repair,
            _ => false,
        }
    }

    /// Whether a dead-man's switch should hear of its end.
    fn is_run(&self) -> bool {
        matches!(
            self,
            Command::Assets(_)
                | Command::Prices(_)
                | Command::Publish(_)
                | Command::Quotes(_)
                | Command::Candles(_)
                | Command::Import(_)
                | Command::Prune(_)
                | Command::Export(_)
        ) || matches!(self, Command::Gaps(args) if args.repair)
    }

    /// A server says what it does; a batch job is quiet when all is well.
    fn tells_its_story(&self) -> bool {
        matches!(self, Command::Sandbox(_) | Command::Consume(_) | Command::Serve(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
