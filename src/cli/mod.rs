//! The command line: options, dispatch, one file for each command.

mod assets;
mod budget;
mod db_setup;
mod logging;
mod output;
mod prices;
mod progress;
mod run;
mod sandbox;
mod stop;

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::config::{Environment, Flags, Settings};
use crate::exit::{self, Exit};
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
    /// Serve a stand-in for the vendors' APIs with generated data
    Sandbox(sandbox::Args),
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

/// What a command gets besides its own arguments.
pub struct Context {
    pub settings: Settings,
    pub sandbox: bool,
    pub wait: Duration,
    pub output: Output,
    pub quiet: bool,
}

pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            let exit = if err.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nothing is left to do when nobody reads the help.
            let _ = err.print();
            return exit.into();
        }
    };
    let outcome = run(&cli);
    let exit = outcome.exit;
    output::print(&outcome, cli.global.output, cli.global.quiet);
    exit.into()
}

fn run(cli: &Cli) -> Outcome {
    let name = cli.command.name();
    let failed = |err: anyhow::Error, source: &str| Outcome {
        exit: exit::of(&err),
        report: Report::failed(name, source, &err),
        text: String::new(),
    };
    let resolved = Environment::read().and_then(|env| {
        let flags = Flags { database_url: cli.global.database_url.clone(), source: cli.global.source.clone() };
        Settings::resolve(flags, &env)
    });
    let settings = match resolved {
        Ok(settings) => settings,
        Err(err) => return failed(err.into(), cli.global.source.as_deref().unwrap_or_default()),
    };
    logging::start(&cli.global, cli.command.tells_its_story(), settings.rust_log.as_deref());
    let source = settings.source.name();
    let context = Context {
        settings,
        sandbox: cli.global.sandbox,
        wait: cli.global.wait.unwrap_or_default(),
        output: cli.global.output,
        quiet: cli.global.quiet,
    };
    let result = match &cli.command {
        Command::DbSetup(args) => db_setup::run(args, &context),
        Command::Assets(AssetsCommand::Upsert(args)) => assets::run(args, &context),
        Command::Prices(PricesCommand::Insert(args)) => prices::run(args, &context),
        Command::Sandbox(args) => sandbox::run(args, &context),
    };
    result.unwrap_or_else(|err| failed(err, source))
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Command::DbSetup(_) => "db-setup",
            Command::Assets(AssetsCommand::Upsert(_)) => assets::NAME,
            Command::Prices(PricesCommand::Insert(_)) => prices::NAME,
            Command::Sandbox(_) => "sandbox",
        }
    }

    /// A server says what it does; a batch job is quiet when all is well.
    fn tells_its_story(&self) -> bool {
        matches!(self, Command::Sandbox(_))
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
