//! What a command line asks of a vendor: the words of a crontab line, as the shell and our own
//! command line would read them.

use clap::Parser;

use crate::cli::{Cli, Command, prices};
use crate::domain::Cost;
use crate::sources::{Access, Source, ask, find};

/// A command line that calls us.
#[derive(Debug)]
pub struct Call {
    /// As it was written, without what only the shell cares about.
    pub text: String,
    /// Named on the line, or in front of it.
    pub source: Option<&'static dyn Source>,
    pub sandbox: bool,
    pub work: Work,
}

/// What of it costs calls.
#[derive(Debug)]
pub enum Work {
    Assets,
    Prices(prices::Args),
    /// `pipeline.sh`: both, one after the other.
    Pipeline(prices::Args),
    /// One look at the vendor.
    Probe,
    Nothing,
}

/// What is not counted, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct NotCounted(pub String);

impl Work {
    /// With so many active coins, 0 = nobody knows.
    pub fn cost(&self, source: &'static dyn Source, active: u64) -> Result<Cost, NotCounted> {
        let refused = |err: crate::exit::UsageError| NotCounted(format!("it would end with 2: {err}"));
        Ok(match self {
            Work::Assets => ask::cost_of_assets(source),
            Work::Prices(args) => args.cost(source, active).map_err(refused)?,
            Work::Pipeline(args) => ask::cost_of_assets(source) + args.cost(source, active).map_err(refused)?,
            Work::Probe => Cost { calls: 1, credits: source.probe(&Access::default()).credits },
            Work::Nothing => Cost::default(),
        })
    }

    /// The same with other prices.
    pub fn with_prices(&self, args: prices::Args) -> Work {
        if matches!(self, Work::Pipeline(_)) { Work::Pipeline(args) } else { Work::Prices(args) }
    }

    /// The prices it asks for.
    pub fn prices(&self) -> Option<&prices::Args> {
        match self {
            Work::Prices(args) | Work::Pipeline(args) => Some(args),
            Work::Assets | Work::Probe | Work::Nothing => None,
        }
    }
}

/// The calls of us in a command line; an error tells why the line is left out.
pub fn calls(line: &str, environment: &[(String, String)]) -> Result<Vec<Call>, NotCounted> {
    let words = shell_words::split(&apart(line)).map_err(|_| NotCounted("a quote is left open".to_owned()))?;
    let mut calls = Vec::new();
    for command in words.split(|word| matches!(word.as_str(), ";" | "&&" | "||" | "|" | "&")) {
        if let Some(at) = (0..command.len()).find(|at| is_us(&command[*at..])) {
            calls.push(call(&command[at..], &command[..at], environment)?);
        } else if let Some(inner) = command.iter().find(|word| word.contains(char::is_whitespace) && names_us(word)) {
            // sh -c 'cd … && …'
            calls.extend(self::calls(inner, environment)?);
        }
    }
    if calls.is_empty() { Err(NotCounted("it does not call coinetl".to_owned())) } else { Ok(calls) }
}

/// Sets the shell's operators apart from the words, outside quotes.
fn apart(line: &str) -> String {
    let (mut out, mut quote, mut escaped, mut last) = (String::new(), None, false, ' ');
    for c in line.chars() {
        match quote {
            _ if escaped => escaped = false,
            Some('\'') if c != '\'' => {}
            _ if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            // 2>&1 and &> are no operators of this kind.
            None if c == ';' || c == '|' || (c == '&' && last != '>') => {
                if !(last == c && out.ends_with([' '])) {
                    out.push(' ');
                } else {
                    out.pop();
                }
                out.push(c);
                out.push(' ');
                last = c;
                continue;
            }
            _ => {}
        }
        out.push(c);
        last = c;
    }
    out
}

fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// `cd /opt/coinetl` and `rsync … /opt/coinetl` name a folder: the program has a command behind it.
fn is_us(words: &[String]) -> bool {
    match program(&words[0]) {
        "pipeline.sh" => true,
        "coinetl" => words.len() > 1 && !is_redirection(&words[1]),
        _ => false,
    }
}

/// Everything from the first redirection on is the shell's.
fn is_redirection(word: &str) -> bool {
    word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&').starts_with(['>', '<'])
}

fn names_us(word: &str) -> bool {
    word.contains("coinetl") || word.contains("pipeline.sh")
}

fn call(words: &[String], before: &[String], environment: &[(String, String)]) -> Result<Call, NotCounted> {
    // Everything from the first redirection on is the shell's.
    let is_redirection =
        |word: &String| word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&').starts_with(['>', '<']);
    let end = words.iter().position(|word| is_redirection(word.as_str())).unwrap_or(words.len());
    let words = &words[..end];
    let pipeline = program(&words[0]) == "pipeline.sh";
    let prefix: &[&str] = if pipeline { &["coinetl", "prices", "insert"] } else { &["coinetl"] };
    let line = prefix.iter().map(|word| word.to_string()).chain(words[1..].iter().cloned());
    let cli = Cli::try_parse_from(line).map_err(|err| {
        let message = err.to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        NotCounted(format!("it would end with 2: {first}"))
    })?;
    let assigned = |words: &mut dyn Iterator<Item = (&str, &str)>| {
        words.filter(|(name, _)| *name == "COINETL_SOURCE").last().map(|(_, value)| value.to_owned())
    };
    let named = cli
        .global
        .source
        .clone()
        .or_else(|| assigned(&mut before.iter().filter_map(|word| word.split_once('='))))
        .or_else(|| assigned(&mut environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
    let source = match named {
        None => None,
        Some(name) => Some(find(&name).ok_or_else(|| NotCounted(format!("the source {name:?} is unknown")))?),
    };
    let work = match cli.command {
        Command::Prices(crate::cli::PricesCommand::Insert(args)) if pipeline => Work::Pipeline(args),
        Command::Prices(crate::cli::PricesCommand::Insert(args)) => Work::Prices(args),
        Command::Assets(_) => Work::Assets,
        Command::Doctor(_) => Work::Probe,
        _ => Work::Nothing,
    };
    let shown = std::iter::once(program(&words[0]).to_owned()).chain(words[1..].iter().cloned());
    let text = shell_words::join(shown);
    Ok(Call { text, source, sandbox: cli.global.sandbox, work })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        calls(line, &[]).unwrap().into_iter().map(|call| call.text).collect()
    }

    #[test]
    fn our_calls_are_found_in_what_the_shell_runs() {
        for line in [
            "\"$COINETL_HOME/scripts/pipeline.sh\" --top 1000 >>\"$COINETL_HOME/coinetl.log\" 2>&1",
            "cd /opt/coinetl&& flock -n /tmp/l scripts/pipeline.sh --top 1000 2>&1 | logger; true",
            "root env A=1 /opt/x/pipeline.sh --top 1000",
            "sh -c 'cd /opt/coinetl && scripts/pipeline.sh --top 1000 >log'",
        ] {
            assert_eq!(texts(line), ["pipeline.sh --top 1000"], "{line}");
        }
        assert_eq!(
            texts("coinetl db-setup && coinetl assets upsert && coinetl prices insert --ids 'a b,c'"),
            ["coinetl db-setup", "coinetl assets upsert", "coinetl prices insert --ids 'a b,c'"]
        );
        assert!(calls("/usr/bin/backup coinetl.db", &[]).is_err());
        assert!(calls("certbot renew", &[]).unwrap_err().0.contains("does not call coinetl"));
        assert!(calls("coinetl prices insert --topp 5", &[]).unwrap_err().0.contains("would end with 2"));
        assert!(calls("coinetl --source kraken doctor", &[]).unwrap_err().0.contains("kraken"));
    }

    #[test]
    fn the_source_is_the_line_s_own_or_what_is_set_above() {
        let source = |line: &str| {
            let above = [("COINETL_SOURCE".to_owned(), "coinmarketcap".to_owned())];
            calls(line, &above).unwrap()[0].source.unwrap().name()
        };
        assert_eq!(source("pipeline.sh"), "coinmarketcap");
        assert_eq!(source("COINETL_SOURCE=coinbase pipeline.sh"), "coinbase");
        assert_eq!(source("COINETL_SOURCE=coinbase pipeline.sh --source coingecko"), "coingecko");
    }

    #[test]
    fn a_pipeline_costs_what_its_steps_cost() {
        let cost = |line: &str, source: &str| calls(line, &[]).unwrap()[0].work.cost(find(source).unwrap(), 0);
        assert_eq!(cost("pipeline.sh --top 1000", "coingecko").unwrap(), Cost { calls: 5, credits: 5 });
        assert_eq!(cost("pipeline.sh", "coingecko").unwrap(), Cost { calls: 72, credits: 72 });
        assert_eq!(cost("pipeline.sh --top 1000", "coinmarketcap").unwrap(), Cost { calls: 2, credits: 5 });
        assert_eq!(cost("pipeline.sh", "coinbase").unwrap(), Cost { calls: 2, credits: 0 });
        assert!(cost("pipeline.sh --top 5", "coinbase").unwrap_err().0.contains("would end with 2"));
        assert_eq!(cost("coinetl db-setup", "coingecko").unwrap(), Cost::default());
    }
}
