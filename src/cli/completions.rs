//! `completions` and `man`: what the command line tells of itself.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::output::{Outcome, Report};
use crate::exit::Exit;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Whose completions
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder instead of the main page to stdout
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "coinetl", &mut text);
    Ok(told("completions", String::from_utf8(text)?))
}

pub fn man(args: &ManArgs) -> anyhow::Result<Outcome> {
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        return Ok(told("man", String::from_utf8(text)?));
    };
    let failed = |err: std::io::Error| anyhow::anyhow!("{}: {err}; name a folder that can be written", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    Ok(told("man", String::new()))
}

fn told(command: &str, text: String) -> Outcome {
    Outcome::new(Exit::Ok, Report::new(command, ""), text.trim_end().to_owned())
}
