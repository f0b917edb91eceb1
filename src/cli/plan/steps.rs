//! What a command line asks of a vendor: the words of a crontab line, as the shell and our own
//! command line would read them.

use clap::Parser;

use crate::cli::{CandlesCommand, Cli, Command, candles, gaps, prices};
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
    Backfill(candles::backfill::Args),
    /// `gaps --repair`
    Repair(gaps::Args),
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
            // By what is stored: see `part`.
            Work::Backfill(_) | Work::Repair(_) | Work::Nothing => Cost::default(),
        })
    }

    /// Whether it is done once it ended well, and not meant to be run again and again.
    pub fn is_done_once(&self) -> bool {
        matches!(self, Work::Backfill(_) | Work::Repair(_))
    }

    /// The same with other prices.
    pub fn with_prices(&self, args: prices::Args) -> Work {
        if matches!(self, Work::Pipeline(_)) { Work::Pipeline(args) } else { Work::Prices(args) }
    }

    /// The prices it asks for.
    pub fn prices(&self) -> Option<&prices::Args> {
        match self {
            Work::Prices(args) | Work::Pipeline(args) => Some(args),
            Work::Assets | Work::Probe | Work::Nothing | Work::Backfill(_) | Work::Repair(_) => None,
        }
    }
}

/// The calls of us in a command line, each counted or with the reason why not; empty where there are
/// none.
pub fn calls(line: &str, environment: &[(String, String)]) -> Vec<Result<Call, NotCounted>> {
    let Ok(words) = shell_words::split(&apart(line)) else {
        let names_us = line.contains("coinetl") || line.contains("pipeline.sh");
        return if names_us { vec![Err(NotCounted("a quote is left open".to_owned()))] } else { Vec::new() };
    };
    let separates = |word: &String| matches!(word.as_str(), ";" | "&&" | "||" | "|" | "&" | "(" | ")" | "{" | "}");
    let mut found = Vec::new();
    for command in words.split(separates) {
        let command = without_redirections(command);
        // sh -c 'cd … && …'
        let script = command.iter().position(|word| word.starts_with('-') && word.ends_with('c'));
        if let Some(script) = script.and_then(|at| command.get(at + 1)).filter(|_| runs_scripts(&command)) {
            found.extend(calls(script, environment));
        } else {
            found.extend(call_in(&command, environment));
        }
    }
    found
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
            None if matches!(c, ';' | '|' | '(' | ')') || (c == '&' && last != '>') => {
                if last == c && out.ends_with(' ') && matches!(c, '&' | '|') {
                    out.pop();
                } else {
                    out.push(' ');
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

/// Where a command's output goes is the shell's business, wherever in it that stands.
fn without_redirections(command: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = command.iter();
    while let Some(word) = rest.next() {
        let operator = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
        if !operator.starts_with(['>', '<']) {
            words.push(word.clone());
        } else if operator.trim_start_matches(['>', '<', '&']).is_empty() {
            // The file is the next word.
            rest.next();
        }
    }
    words
}

fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn runs_scripts(command: &[String]) -> bool {
    command.iter().any(|word| matches!(program(word), "sh" | "bash" | "dash" | "zsh" | "su" | "runuser" | "ssh"))
}

/// The call of us in a command, behind whatever runs it: a user's name, `env`, `flock`, `docker run …`.
fn call_in(command: &[String], environment: &[(String, String)]) -> Option<Result<Call, NotCounted>> {
    let mut wrong = None;
    for at in 0..command.len() {
        let words = &command[at..];
        let named = match program(&words[0]) {
            "pipeline.sh" => true,
            // `cd /opt/coinetl` and `rsync … /opt/coinetl` name a folder: the program has a command behind it.
            "coinetl" => words.len() > 1,
            _ => false,
        };
        if !named {
            continue;
        }
        match call(words, &command[..at], environment) {
            Ok(call) => return Some(Ok(call)),
            // A folder or an account may have our name, too: the program may still come.
            Err(err) => wrong = Some(Err(err)),
        }
    }
    wrong
}

/// Our command line behind the program's name, as it is meant: of `pipeline.sh` that of its last step.
/// True for the whole pipeline.
pub fn parse(words: &[String]) -> Result<(Cli, bool), NotCounted> {
    let first = words.first().map(|word| program(word)).unwrap_or_default();
    let image = first == "coinetl" && words.get(1).is_some_and(|word| word == "pipeline");
    let (prefix, rest): (&[&str], &[String]) = match first {
        "pipeline.sh" => (&["coinetl", "prices", "insert"], &words[1..]),
        // The image's word for it.
        _ if image => (&["coinetl", "prices", "insert"], &words[2..]),
        "coinetl" => (&["coinetl"], &words[1..]),
        _ => (&["coinetl"], words),
    };
    let line = prefix.iter().map(|word| word.to_string()).chain(rest.iter().cloned());
    let cli = Cli::try_parse_from(line).map_err(|err| {
        let message = err.to_string();
        // What is missing stands in lines of its own.
        let said: Vec<&str> = message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        NotCounted(format!("it would end with 2: {}", said.join(" ").trim_start_matches("error: ")))
    })?;
    Ok((cli, prefix.len() > 1))
}

fn call(words: &[String], before: &[String], environment: &[(String, String)]) -> Result<Call, NotCounted> {
    let (cli, pipeline) = parse(words)?;
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
        Command::Candles(CandlesCommand::Backfill(args)) => Work::Backfill(args),
        Command::Gaps(args) if args.repair => Work::Repair(args),
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

    fn counted(line: &str) -> Vec<Call> {
        calls(line, &[]).into_iter().filter_map(Result::ok).collect()
    }

    fn texts(line: &str) -> Vec<String> {
        counted(line).into_iter().map(|call| call.text).collect()
    }

    fn reason(line: &str) -> String {
        calls(line, &[]).into_iter().find_map(Result::err).map_or(String::new(), |NotCounted(why)| why)
    }

    #[test]
    fn our_calls_are_found_in_what_the_shell_runs() {
        for line in [
            "\"$COINETL_HOME/scripts/pipeline.sh\" --top 1000 >>\"$COINETL_HOME/coinetl.log\" 2>&1",
            "cd /opt/coinetl&& flock -n /tmp/l scripts/pipeline.sh --top 1000 2>&1 | logger; true",
            "root env A=1 /opt/x/pipeline.sh --top 1000",
            "coinetl COINETL_DIR=/var/lib/coinetl /usr/share/coinetl/scripts/pipeline.sh --top 1000",
            "sh -c 'cd /opt/coinetl && scripts/pipeline.sh --top 1000 >log'",
            "(cd /opt/coinetl && scripts/pipeline.sh --top 1000)",
            "{ scripts/pipeline.sh --top 1000; }",
            "scripts/pipeline.sh > /dev/null --top 1000",
            "scripts/pipeline.sh --top 1000 || echo \"coinetl failed\" | mail -s coinetl me",
        ] {
            assert_eq!(texts(line), ["pipeline.sh --top 1000"], "{line}");
        }
        assert_eq!(
            texts("coinetl db-setup && coinetl assets upsert && coinetl prices insert --ids 'a b,c'"),
            ["coinetl db-setup", "coinetl assets upsert", "coinetl prices insert --ids 'a b,c'"]
        );
        assert!(matches!(counted("docker run --rm coinetl pipeline --top 10")[0].work, Work::Pipeline(_)));
        assert!(matches!(counted("docker compose exec app coinetl prices insert")[0].work, Work::Prices(_)));
        for line in ["certbot renew", "/usr/bin/backup coinetl.db", "cd /opt/coinetl", "echo \"coinetl is fine\""] {
            assert!(calls(line, &[]).is_empty(), "{line}");
        }
    }

    #[test]
    fn what_cant_be_counted_costs_only_itself() {
        assert!(reason("coinetl prices insert --topp 5").contains("would end with 2"));
        assert!(reason("coinetl --source kraken doctor").contains("kraken"));
        assert!(reason("coinetl 'prices insert").contains("quote"));
        assert_eq!(texts("coinetl nonsense; coinetl prices insert"), ["coinetl prices insert"]);
        assert!(reason("coinetl nonsense; coinetl prices insert").contains("nonsense"));
    }

    #[test]
    fn the_source_is_the_line_s_own_or_what_is_set_above() {
        let source = |line: &str| {
            let above = [("COINETL_SOURCE".to_owned(), "coinmarketcap".to_owned())];
            calls(line, &above).remove(0).unwrap().source.unwrap().name()
        };
        assert_eq!(source("pipeline.sh"), "coinmarketcap");
        assert_eq!(source("COINETL_SOURCE=coinbase pipeline.sh"), "coinbase");
        assert_eq!(source("COINETL_SOURCE=coinbase pipeline.sh --source coingecko"), "coingecko");
    }

    #[test]
    fn a_pipeline_costs_what_its_steps_cost() {
        let cost = |line: &str, source: &str| counted(line)[0].work.cost(find(source).unwrap(), 0);
        assert_eq!(cost("pipeline.sh --top 1000", "coingecko").unwrap(), Cost { calls: 5, credits: 5 });
        assert_eq!(cost("pipeline.sh", "coingecko").unwrap(), Cost { calls: 73, credits: 73 });
        assert_eq!(cost("pipeline.sh --no-fx", "coingecko").unwrap(), Cost { calls: 72, credits: 72 });
        assert_eq!(cost("pipeline.sh --top 1000", "coinmarketcap").unwrap(), Cost { calls: 2, credits: 5 });
        assert_eq!(cost("pipeline.sh", "coinbase").unwrap(), Cost { calls: 2, credits: 0 });
        assert!(cost("pipeline.sh --top 5", "coinbase").unwrap_err().0.contains("would end with 2"));
        assert_eq!(cost("coinetl db-setup", "coingecko").unwrap(), Cost::default());
        assert_eq!(cost("coinetl candles rollup --timeframe 1h,1d", "coingecko").unwrap(), Cost::default());
    }
}
