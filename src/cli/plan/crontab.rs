//! A crontab: which lines run what, and how often in a month.

use chrono::{Datelike, NaiveDate};
use croner::Cron;
use croner::parser::CronParser;
use croner::time::Weekday;

use crate::domain::Stamp;

/// Minutes of a month, and a few: more runs than these nobody counts one by one.
const MOST_RUNS: usize = 50_000;

/// When a job runs.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// As it stands in the crontab.
    pub text: String,
    /// `None` = at each start of the machine.
    cron: Option<Box<Cron>>,
}

/// A line that runs something.
#[derive(Debug, Clone)]
pub struct Job {
    pub line: usize,
    pub schedule: Schedule,
    pub command: String,
    /// Variables that the lines above set.
    pub environment: Vec<(String, String)>,
}

/// A line that is none of what a crontab may hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the crontab is broken: {why}")]
pub struct CrontabError {
    pub line: usize,
    pub why: String,
}

/// The jobs of a crontab, as crontab(5) has them.
pub fn read(text: &str) -> Result<Vec<Job>, CrontabError> {
    let (mut jobs, mut environment) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), at + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = setting(line) {
            environment.push((name, value));
            continue;
        }
        let fields = if line.starts_with('@') { 1 } else { 5 };
        let (when, command) = split_fields(line, fields).ok_or_else(|| CrontabError {
            line: number,
            why: "it is neither five fields and a command, nor @daily or the like and a command, nor NAME=value"
                .to_owned(),
        })?;
        let schedule = Schedule::parse(&when).map_err(|why| CrontabError { line: number, why })?;
        jobs.push(Job { line: number, schedule, command: until_percent(command), environment: environment.clone() });
    }
    Ok(jobs)
}

/// `NAME=value`, with or without quotes and blanks.
fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
}

fn split_fields(line: &str, count: usize) -> Option<(String, &str)> {
    let mut rest = line;
    let mut fields = Vec::new();
    for _ in 0..count {
        let end = rest.find(char::is_whitespace)?;
        fields.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    (!rest.is_empty()).then(|| (fields.join(" "), rest))
}

/// A percent sign ends the command; `\%` is one of its own.
fn until_percent(command: &str) -> String {
    let (mut out, mut chars) = (String::new(), command.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'%') => {
                out.push('%');
                chars.next();
            }
            '%' => break,
            c => out.push(c),
        }
    }
    out
}

impl Schedule {
    /// Five fields, or a name such as `@hourly`.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        if text.eq_ignore_ascii_case("@reboot") {
            return Ok(Schedule { text: text.to_owned(), cron: None });
        }
        // What cron calls @midnight and @annually are other words for two of these.
        let known = match text.to_ascii_lowercase().as_str() {
            "@midnight" => "@daily".to_owned(),
            "@annually" => "@yearly".to_owned(),
            _ => text.to_owned(),
        };
        if let Some(odd) = known.split_whitespace().find(|field| !is_field(field)) {
            return Err(format!("{odd:?} is no field of a schedule"));
        }
        // As in cron: either day field will do, but both have to where one of them begins with a star.
        let fields: Vec<&str> = known.split_whitespace().collect();
        let both = fields.len() == 5 && (fields[2].starts_with('*') || fields[4].starts_with('*'));
        let parser = CronParser::builder().dom_and_dow(both).build();
        let cron = parser.parse(&known).map_err(|err| format!("{text:?} is no schedule ({err})"))?;
        Ok(Schedule { text: text.to_owned(), cron: Some(Box::new(cron)) })
    }

    /// Runs in a month of 31 days, in the one that has the most.
    pub fn runs_per_month(&self) -> i64 {
        let Some(cron) = &self.cron else { return 1 };
        let pattern = &cron.pattern;
        let hours = (0..24).filter(|hour| pattern.hour_match(*hour).unwrap_or(false)).count();
        let minutes = (0..60).filter(|minute| pattern.minute_match(*minute).unwrap_or(false)).count();
        let runs_on = |day: &NaiveDate| {
            let weekday = Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
            pattern.day_match(day.year(), day.month(), day.day(), weekday).unwrap_or(false)
        };
        let mut most = [0, 0];
        // Seven years: every weekday is the first of some month of 31 days.
        for year in 2024..2031 {
            for month in (1..=12).filter(|month| pattern.month_match(*month).unwrap_or(false)) {
                let Some(first) = NaiveDate::from_ymd_opt(year, month, 1) else { continue };
                let length = first.num_days_in_month();
                let days = first.iter_days().take(usize::from(length)).filter(runs_on).count();
                let long = usize::from(length == 31);
                most[long] = most[long].max(days);
            }
        }
        // Some lines run in short months only.
        let days = if most[1] > 0 { most[1] } else { most[0] };
        (hours * minutes * days) as i64
    }

    /// Runs from now on until a moment; the machine's time zone is taken for UTC.
    pub fn runs_until(&self, now: Stamp, until: Stamp) -> i64 {
        let Some(cron) = &self.cron else { return 0 };
        let runs = cron.iter_after(now.naive()).take(MOST_RUNS);
        runs.take_while(|run| *run < until.naive()).count() as i64
    }

    /// The minute it runs at, where it is one.
    pub fn minute(&self) -> Option<&str> {
        self.text.split_whitespace().next().filter(|minute| minute.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// Numbers, names of three letters, stars, ranges, steps and lists of them: what cron takes, and none of
/// what other schedulers made of it. A name such as `@hourly` is a field of its own.
fn is_field(field: &str) -> bool {
    let is_word = |word: &str| {
        word == "*"
            || (!word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()))
            || (word.len() == 3 && word.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    field.starts_with('@') || field.split([',', '-', '/']).all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str) -> i64 {
        Schedule::parse(text).unwrap().runs_per_month()
    }

    #[test]
    fn a_month_of_31_days_is_counted() {
        for (text, expected) in [
            ("7 * * * *", 744),
            ("37 4 * * *", 31),
            ("*/15 * * * *", 2_976),
            ("0 */3 * * *", 248),
            ("7 0-6,12 * * *", 248),
            ("* * * * *", 44_640),
            ("0 4 * * 1", 5),
            ("0 4 * * mon-fri", 23),
            ("0 0 1,15 * *", 2),
            ("0 0 31 * *", 1),
            // Either day field will do.
            ("0 0 1 * 1", 6),
            ("0 0 */2 * 1", 3),
            ("0 0 1-31/2 * 1", 19),
            ("0 0 * 6 *", 30),
            ("@hourly", 744),
            ("@daily", 31),
            ("@midnight", 31),
            ("@weekly", 5),
            ("@monthly", 1),
            ("@reboot", 1),
        ] {
            assert_eq!(runs(text), expected, "{text}");
        }
    }

    #[test]
    fn the_rest_of_a_month_is_counted_from_now() {
        let (now, until) =
            (Stamp::parse("2026-11-25T12:07:00Z").unwrap(), Stamp::parse("2026-12-01T00:00:00Z").unwrap());
        assert_eq!(Schedule::parse("7 * * * *").unwrap().runs_until(now, until), 5 * 24 + 11);
        assert_eq!(Schedule::parse("37 4 * * *").unwrap().runs_until(now, until), 5);
    }

    #[test]
    fn lines_are_read_as_cron_reads_them() {
        let jobs = read(
            "# comment\nSHELL=/bin/bash\n COINETL_SOURCE = \"coinbase\"\n\n7 * * * *  a --top 5 >>x 2>&1\n@daily b \\%F % stdin\n",
        )
        .unwrap();
        assert_eq!(jobs.len(), 2);
        assert_eq!((jobs[0].line, jobs[0].command.as_str()), (5, "a --top 5 >>x 2>&1"));
        assert_eq!(jobs[0].environment[1], ("COINETL_SOURCE".to_owned(), "coinbase".to_owned()));
        assert_eq!((jobs[1].schedule.text.as_str(), jobs[1].command.as_str()), ("@daily", "b %F "));
        for (broken, line) in [
            ("7 * * * a b", 1),
            ("\n61 * * * * x", 2),
            ("7 *", 1),
            ("@sometimes x", 1),
            ("0 0 L * * x", 1),
            ("0 0 1W * * x", 1),
            ("0 0 * * 1#2 x", 1),
        ] {
            assert_eq!(read(broken).unwrap_err().line, line, "{broken}");
        }
    }
}
