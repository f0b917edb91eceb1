//! `doctor`: what is fine and what is not, each by a real try, and what to do about it.

mod checks;

use std::time::Instant;

use serde_json::json;

use super::Context;
use super::output::{Outcome, Report};
use crate::config::ConfigError;
use crate::db::runs::Status;
use crate::exit::Exit;

pub const NAME: &str = "doctor";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Tick,
    /// Works, and yet somebody should look.
    Warning,
    Cross,
    /// Nothing to check.
    Skipped,
}

struct Check {
    name: &'static str,
    mark: Mark,
    text: String,
    remedy: Option<String>,
    /// What a cross means for a script.
    exit: Exit,
}

impl Check {
    fn new(name: &'static str, mark: Mark, text: impl Into<String>) -> Check {
        Check { name, mark, text: text.into(), remedy: None, exit: Exit::Ok }
    }

    fn tick(name: &'static str, text: impl Into<String>) -> Check {
        Check::new(name, Mark::Tick, text)
    }

    fn skipped(name: &'static str, text: impl Into<String>) -> Check {
        Check::new(name, Mark::Skipped, text)
    }

    fn warning(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { remedy: Some(remedy.into()), ..Check::new(name, Mark::Warning, text) }
    }

    fn cross(name: &'static str, exit: Exit, text: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { remedy: Some(remedy.into()), exit, ..Check::new(name, Mark::Cross, text) }
    }

    /// A cross from an error, whose sentence ends with its remedy.
    fn failed(name: &'static str, exit: Exit, sentence: &str) -> Check {
        match sentence.rsplit_once("; ") {
            Some((text, remedy)) => Check::cross(name, exit, text, remedy),
            None => Check::cross(name, exit, sentence, "run the command again with -vv and look at what it says"),
        }
    }
}

pub fn run(_: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut report = Report::new(NAME, context.settings.source.name());
    let checks = checks::all(context, &mut report)?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(outcome(report, &checks))
}

/// Settings that can't even be read are what `doctor` is there to tell of.
pub fn broken_settings(err: &ConfigError, source: &str) -> Outcome {
    let sentence = err.to_string();
    let check = match sentence.contains("; ") {
        true => Check::failed("settings", Exit::Config, &sentence),
        false => {
            let remedy = "correct it where it is set: in the environment, or in .env of this folder";
            Check::cross("settings", Exit::Config, sentence, remedy)
        }
    };
    outcome(Report::new(NAME, source), &[check])
}

fn outcome(mut report: Report, checks: &[Check]) -> Outcome {
    let crosses = checks.iter().filter(|check| check.mark == Mark::Cross);
    let names: Vec<&str> = crosses.clone().map(|check| check.name).collect();
    // Settings first: what is wrong there makes the rest fail.
    let worst = [Exit::Config, Exit::TryLater, Exit::No];
    let exit = worst.into_iter().find(|exit| crosses.clone().any(|check| check.exit == *exit)).unwrap_or(Exit::Ok);
    let list = checks.iter().map(|check| {
        let ok = match check.mark {
            Mark::Tick | Mark::Warning => Some(true),
            Mark::Cross => Some(false),
            Mark::Skipped => None,
        };
        let warning = check.mark == Mark::Warning;
        json!({ "name": check.name, "ok": ok, "warning": warning, "text": check.text, "remedy": check.remedy })
    });
    report.more.insert("checks".into(), list.collect());
    if !names.is_empty() {
        report.status = Status::Failed.name();
        report.error = Some(format!("not well: {}", names.join(", ")));
    }
    let mut lines = Vec::new();
    for check in checks {
        let mark = match check.mark {
            Mark::Tick => "✓",
            Mark::Warning => "!",
            Mark::Cross => "✗",
            Mark::Skipped => "–",
        };
        lines.push(format!("{mark} {:<9} {}", check.name, check.text));
        if let Some(remedy) = &check.remedy {
            lines.push(format!("  {:<9} → {remedy}", ""));
        }
    }
    Outcome::new(exit, report, lines.join("\n"))
}
