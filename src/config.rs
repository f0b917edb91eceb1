//! Settings: flag > environment > `.env` > default, resolved once. Secrets cannot be printed.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use crate::db::DatabaseUrl;
use crate::sources::{Access, coingecko};

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
    #[error("COINETL_SOURCE {name:?} is unknown; use one of: coingecko")]
    UnknownSource { name: String },
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
    pub source: String,
    pub coingecko_api_url: Option<String>,
    pub coingecko_demo_key: Option<SecretString>,
    pub coingecko_pro_key: Option<SecretString>,
    /// `None` = what the plan allows; 0 = no limit.
    pub calls_per_minute: Option<u32>,
    pub timeout: Duration,
    pub backoff: Duration,
    pub rust_log: Option<String>,
}

/// The environment with `.env` below it.
pub struct Environment {
    dot_env: HashMap<String, String>,
}

impl Environment {
    /// Reads `.env` of the current folder, and of no other: a job must not change its database
    /// because of a file in some folder above it.
    pub fn read() -> Result<Self, ConfigError> {
        Environment::read_from(Path::new(".env"))
    }

    fn read_from(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|err| {
                let line = 1 + err.as_bytes()[..err.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
                ConfigError::DotEnvLine { line, why: "it is not UTF-8" }
            })?,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => String::new(),
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
        Ok(Environment { dot_env })
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
        let source = flags.source.or_else(|| env.get("COINETL_SOURCE")).unwrap_or_else(|| DEFAULT_SOURCE.to_owned());
        if source != DEFAULT_SOURCE {
            return Err(ConfigError::UnknownSource { name: source });
        }
        Ok(Settings {
            database_url,
            source,
            coingecko_api_url: api_url(env, "COINGECKO_API_URL")?,
            coingecko_demo_key: key(env, "COINGECKO_DEMO_API_KEY")?,
            coingecko_pro_key: key(env, "COINGECKO_PRO_API_KEY")?,
            calls_per_minute: number(env, "COINETL_CALLS_PER_MINUTE")?,
            timeout: duration(env, "COINETL_TIMEOUT")?.unwrap_or(DEFAULT_TIMEOUT),
            backoff: duration(env, "COINETL_BACKOFF")?.unwrap_or(DEFAULT_BACKOFF),
            rust_log: env.get("RUST_LOG"),
        })
    }

    /// How to reach CoinGecko: a pro key goes to the pro host, and wins over a demo key.
    pub fn coingecko(&self) -> Access {
        let (default_url, key, calls_per_minute) = match (&self.coingecko_pro_key, &self.coingecko_demo_key) {
            (Some(key), _) => {
                (coingecko::PRO_URL, Some((coingecko::PRO_KEY_HEADER, key)), coingecko::PRO_CALLS_PER_MINUTE)
            }
            (None, Some(key)) => {
                (coingecko::PUBLIC_URL, Some((coingecko::DEMO_KEY_HEADER, key)), coingecko::DEMO_CALLS_PER_MINUTE)
            }
            (None, None) => (coingecko::PUBLIC_URL, None, coingecko::KEYLESS_CALLS_PER_MINUTE),
        };
        Access {
            base_url: self.coingecko_api_url.clone().unwrap_or_else(|| default_url.to_owned()),
            key: key.map(|(header, key)| (header, key.clone())),
            calls_per_minute: self.calls_per_minute.unwrap_or(calls_per_minute),
        }
    }

    /// How to reach a sandbox inside this process.
    pub fn sandbox(&self, addr: std::net::SocketAddr) -> Access {
        Access {
            base_url: format!("http://{addr}/api/v3"),
            key: None,
            calls_per_minute: self.calls_per_minute.unwrap_or(0),
        }
    }
}

fn invalid(name: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { name, why: why.into() }
}

fn api_url(env: &Environment, name: &'static str) -> Result<Option<String>, ConfigError> {
    let Some(text) = env.get(name) else { return Ok(None) };
    let url = url::Url::parse(&text).map_err(|err| invalid(name, format!("{err}; write https://host/path")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid(name, "it must be http://… or https://…"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(invalid(name, "it must hold no user, password or query; keys have settings of their own"));
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

fn key(env: &Environment, name: &'static str) -> Result<Option<SecretString>, ConfigError> {
    let Some(key) = env.get(name) else { return Ok(None) };
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(name, "a key holds only printable ASCII characters without spaces"));
    }
    Ok(Some(SecretString::from(key)))
}

fn number(env: &Environment, name: &'static str) -> Result<Option<u32>, ConfigError> {
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
        Environment { dot_env: pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect() }
    }

    #[test]
    fn the_key_decides_host_header_and_pace() {
        let access = |pairs: &[(&str, &str)]| Settings::resolve(Flags::default(), &env(pairs)).unwrap().coingecko();
        let none = access(&[]);
        assert_eq!((none.base_url.as_str(), none.calls_per_minute), (coingecko::PUBLIC_URL, 5));
        let demo = access(&[("COINGECKO_DEMO_API_KEY", "CG-x")]);
        assert_eq!((demo.base_url.as_str(), demo.calls_per_minute), (coingecko::PUBLIC_URL, 30));
        assert_eq!(demo.key.unwrap().0, coingecko::DEMO_KEY_HEADER);
        let pro = access(&[("COINGECKO_DEMO_API_KEY", "CG-x"), ("COINGECKO_PRO_API_KEY", "CG-y")]);
        assert_eq!((pro.base_url.as_str(), pro.key.unwrap().0), (coingecko::PRO_URL, coingecko::PRO_KEY_HEADER));
        let own = access(&[("COINGECKO_API_URL", "http://127.0.0.1:9/api/v3/"), ("COINETL_CALLS_PER_MINUTE", "0")]);
        assert_eq!((own.base_url.as_str(), own.calls_per_minute), ("http://127.0.0.1:9/api/v3", 0));
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
