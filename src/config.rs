//! Settings: flag > environment > `.env` > default, resolved once. Secrets cannot be printed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use crate::db::DatabaseUrl;
use crate::kafka::config::BrokerSettings;
use crate::sources::{self, Access, SettingError, Source};

pub const DEFAULT_DATABASE_URL: &str = "sqlite://coinetl.db";
pub const DEFAULT_SOURCE: &str = "coingecko";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);

/// A setting that cannot be used. Values are not repeated: they may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        ".env line {line} is broken: {why}; write NAME=value, with single quotes around values that hold spaces, # or $"
    )]
    DotEnvLine { line: usize, why: &'static str },
    #[error(".env can't be read: {0}; check its permissions, or remove it")]
    DotEnv(std::io::Error),
    #[error("{name} is not usable: {why}")]
    Invalid { name: &'static str, why: String },
    #[error("COINETL_SOURCE {name:?} is unknown; use one of: {}", sources::names())]
    UnknownSource { name: String },
    #[error("--source {name:?} is unknown; use one of: {}", sources::names())]
    UnknownSourceFlag { name: String },
}

impl From<SettingError> for ConfigError {
    fn from(SettingError { name, why }: SettingError) -> Self {
        ConfigError::Invalid { name, why }
    }
}

/// What flags said; `None` where they said nothing.
#[derive(Debug, Default, Clone)]
pub struct Flags {
    pub database_url: Option<String>,
    pub source: Option<String>,
}

/// Every setting, typed.
#[derive(Debug)]
pub struct Settings {
    pub database_url: DatabaseUrl,
    pub source: &'static dyn Source,
    /// How to reach each vendor, by its name.
    accesses: Vec<(&'static str, Access)>,
    /// `None` = what the plan allows; 0 = no limit.
    pub calls_per_minute: Option<u32>,
    /// `None` = what the plan allows; 0 = no limit.
    pub credits_per_month: Option<u64>,
    pub ping_url: Option<SecretString>,
    pub broker: Option<BrokerSettings>,
    pub timeout: Duration,
    pub backoff: Duration,
    /// What a new database is filled from.
    pub seed_archive: Option<PathBuf>,
    /// The cache that servers share. It may hold a password.
    pub redis_url: Option<SecretString>,
    pub rust_log: Option<String>,
    /// Where `.env` was read from, if there is one.
    pub dot_env: Option<PathBuf>,
}

/// The environment with `.env` below it.
pub struct Environment {
    dot_env: HashMap<String, String>,
    /// The file, if there is one.
    file: Option<PathBuf>,
}

impl Environment {
    /// Reads `.env` of the current folder, and of no other: a job must not change its database
    /// because of a file in some folder above it.
    pub fn read() -> Result<Self, ConfigError> {
        Environment::read_from(Path::new(".env"))
    }

    fn read_from(path: &Path) -> Result<Self, ConfigError> {
        let mut file = Some(path.to_owned());
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|err| {
                let line = 1 + err.as_bytes()[..err.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
                ConfigError::DotEnvLine { line, why: "it is not UTF-8" }
            })?,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                file = None;
                String::new()
            }
            Err(err) => return Err(ConfigError::DotEnv(err)),
        };
        let mut dot_env = HashMap::new();
        // Line by line, because the library tells what is broken but not where.
        for (at, line) in text.lines().enumerate() {
            for pair in dotenvy::from_read_iter(line.as_bytes()) {
                let (name, value) = pair.map_err(|_| ConfigError::DotEnvLine {
                    line: at + 1,
                    why: "it is not NAME=value, or a quote is left open",
                })?;
                dot_env.insert(name, value);
            }
        }
        Ok(Environment { dot_env, file })
    }

    /// All variables that begin like this, those of the process before those of the file.
    fn beginning_with(&self, prefix: &str) -> Vec<(String, String)> {
        let of_process = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let mut names: Vec<String> = of_process.chain(self.dot_env.keys().cloned()).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        names.dedup();
        names.into_iter().filter_map(|name| self.get(&name).map(|value| (name, value))).collect()
    }

    /// A variable that is set but empty counts as not set: compose files pass those.
    fn get(&self, name: &str) -> Option<String> {
        let from_process = std::env::var(name).ok();
        from_process.filter(|v| !v.is_empty()).or_else(|| self.dot_env.get(name).filter(|v| !v.is_empty()).cloned())
    }
}

impl Settings {
    pub fn resolve(flags: Flags, env: &Environment) -> Result<Self, ConfigError> {
        let url = flags.database_url.or_else(|| env.get("DATABASE_URL"));
        let url = url.unwrap_or_else(|| DEFAULT_DATABASE_URL.to_owned());
        let database_url = DatabaseUrl::parse(&url)
            .map_err(|err| ConfigError::Invalid { name: "DATABASE_URL", why: err.to_string() })?;
        let source = match flags.source {
            Some(name) => sources::find(&name).ok_or(ConfigError::UnknownSourceFlag { name })?,
            None => {
                let name = env.get("COINETL_SOURCE").unwrap_or_else(|| DEFAULT_SOURCE.to_owned());
                sources::find(&name).ok_or(ConfigError::UnknownSource { name })?
            }
        };
        let variables = |name: &str| env.get(name);
        let mut accesses = Vec::new();
        for source in sources::ALL {
            accesses.push((source.name(), source.access(&variables)?));
        }
        Ok(Settings {
            database_url,
            source,
            accesses,
            calls_per_minute: number(env, "COINETL_CALLS_PER_MINUTE")?,
            credits_per_month: number(env, "COINETL_CREDITS_PER_MONTH")?,
            ping_url: ping_url(env)?,
            broker: BrokerSettings::read(&env.beginning_with("KAFKA_")),
            timeout: duration(env, "COINETL_TIMEOUT")?.unwrap_or(DEFAULT_TIMEOUT),
            backoff: duration(env, "COINETL_BACKOFF")?.unwrap_or(DEFAULT_BACKOFF),
            seed_archive: env.get("COINETL_SEED_ARCHIVE").map(PathBuf::from),
            redis_url: env.get("REDIS_URL").map(SecretString::from),
            rust_log: env.get("RUST_LOG"),
            dot_env: env.file.clone(),
        })
    }

    /// How to reach a vendor.
    pub fn access(&self, source: &dyn Source) -> Access {
        let found = self.accesses.iter().find(|(name, _)| *name == source.name());
        let mut access = found.map(|(_, access)| access.clone()).unwrap_or_default();
        if let Some(calls) = self.calls_per_minute {
            access.calls_per_minute = calls;
        }
        access
    }

    /// How to reach a vendor as the sandbox at this address plays it.
    pub fn sandbox(&self, source: &dyn Source, addr: std::net::SocketAddr) -> Access {
        Access {
            base_url: format!("http://{addr}{}", source.sandbox_root()),
            feed_url: format!("ws://{addr}"),
            url_setting: self.access(source).url_setting,
            kind: "sandbox",
            calls_per_minute: self.calls_per_minute.unwrap_or(0),
            ..Access::default()
        }
    }
}

fn invalid(name: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { name, why: why.into() }
}

/// Whoever knows it can speak for us, so it is kept like a key.
fn ping_url(env: &Environment) -> Result<Option<SecretString>, ConfigError> {
    let name = "COINETL_PING_URL";
    let Some(text) = env.get(name) else { return Ok(None) };
    match url::Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(SecretString::from(String::from(url)))),
        _ => Err(invalid(name, "it must be http://… or https://…")),
    }
}

fn number<T: FromStr>(env: &Environment, name: &'static str) -> Result<Option<T>, ConfigError> {
    let Some(text) = env.get(name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| invalid(name, format!("{text:?} is not a whole number from 0 up")))
}

fn duration(env: &Environment, name: &'static str) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = env.get(name) else { return Ok(None) };
    match humantime::parse_duration(&text) {
        Ok(duration) if !duration.is_zero() && duration <= Duration::from_secs(3600) => Ok(Some(duration)),
        _ => Err(invalid(name, format!("{text:?} is not a duration up to 1h such as 500ms or 30s"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        Environment { dot_env: pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(), file: None }
    }

    #[test]
    fn a_chosen_pace_goes_before_the_plan_s() {
        let settings = |pairs: &[(&str, &str)]| Settings::resolve(Flags::default(), &env(pairs)).unwrap();
        let source = sources::find("coinbase").unwrap();
        assert_eq!(settings(&[]).access(source).calls_per_minute, 300);
        assert_eq!(settings(&[("COINETL_CALLS_PER_MINUTE", "7")]).access(source).calls_per_minute, 7);
        let addr = ([127, 0, 0, 1], 9).into();
        assert_eq!(settings(&[]).sandbox(source, addr).calls_per_minute, 0);
        let gecko = sources::find("coingecko").unwrap();
        assert_eq!(settings(&[]).sandbox(gecko, addr).base_url, "http://127.0.0.1:9/api/v3");
    }

    #[test]
    fn a_bad_value_names_its_variable_and_no_secret() {
        let check = |name: &str, value: &str| {
            let err = Settings::resolve(Flags::default(), &env(&[(name, value)])).unwrap_err().to_string();
            assert!(err.contains(name), "{err}");
            assert!(!err.contains("hush"), "{err}");
        };
        check("DATABASE_URL", "oracle://u:hush@h/d");
        check("COINGECKO_API_URL", "ftp://h");
        check("COINGECKO_API_URL", "http://u:hush@h/");
        check("COINGECKO_PRO_API_KEY", "hush hush");
        check("COINETL_CALLS_PER_MINUTE", "-1");
        check("COINMARKETCAP_API_KEY", "hush hush");
        check("COINBASE_API_URL", "hush");
        check("COINBASE_WS_URL", "https://hush");
        check("COINBASE_WS_URL", "wss://u:hush@h");
        check("COINETL_CREDITS_PER_MONTH", "many");
        check("COINETL_PING_URL", "hush");
        check("COINETL_TIMEOUT", "soon");
        check("COINETL_SOURCE", "kraken");
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\nA=1\nthis is hush\n").unwrap();
        let err = Environment::read_from(file.path()).err().unwrap().to_string();
        assert!(err.contains("line 3") && !err.contains("hush"), "{err}");
        std::fs::write(file.path(), "A='p$ss word'\nB=\n").unwrap();
        let read = Environment::read_from(file.path()).unwrap();
        assert_eq!(read.dot_env["A"], "p$ss word");
    }
}
