//! `DATABASE_URL`: which backend, and a form of it that may be printed.

use std::fmt;
use std::path::{Path, PathBuf};

/// The databases we speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Mysql,
    Postgres,
}

impl Backend {
    /// The cargo feature that builds it in.
    pub fn feature(self) -> &'static str {
        match self {
            Backend::Sqlite => "default",
            Backend::Mysql => "mysql",
            Backend::Postgres => "postgres",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Sqlite => "SQLite",
            Backend::Mysql => "MySQL",
            Backend::Postgres => "PostgreSQL",
        })
    }
}

/// Where the database is. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    Server { backend: Backend, url: url::Url },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DatabaseUrlError {
    #[error(
        "it has no scheme; use sqlite://FILE, mysql://user:password@host/database or postgres://user:password@host/database"
    )]
    NoScheme,
    #[error("the scheme {0:?} is unknown; use sqlite://, mysql:// or postgres://")]
    UnknownScheme(String),
    #[error("no file is named; use sqlite://coinetl.db")]
    NoFile,
    #[error("{0}; percent-encode special characters in user and password (@ is %40, / is %2F)")]
    Malformed(url::ParseError),
    #[error("it holds a % that is no escape; write % itself as %25")]
    BrokenEscape,
    #[error("no host is named; use {0}://user:password@host/database")]
    NoHost(String),
    #[error("it names no database; use {0}://user:password@host/database")]
    NoDatabase(String),
}

impl DatabaseUrl {
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(DatabaseUrlError::NoScheme)?;
        let backend = match scheme {
            "sqlite" if rest.is_empty() => return Err(DatabaseUrlError::NoFile),
            // Everything after the scheme is the file's name: no escapes, no options.
            // Four slashes are how some other programs spell an absolute path.
            "sqlite" if rest.starts_with("//") => {
                return Ok(DatabaseUrl::Sqlite(PathBuf::from(format!("/{}", rest.trim_start_matches('/')))));
            }
            "sqlite" => return Ok(DatabaseUrl::Sqlite(PathBuf::from(rest))),
            "mysql" => Backend::Mysql,
            "postgres" | "postgresql" => Backend::Postgres,
            // Anything longer may be a user and a password in front of some other ://.
            other if other.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) => {
                return Err(DatabaseUrlError::UnknownScheme(other.to_owned()));
            }
            _ => return Err(DatabaseUrlError::NoScheme),
        };
        if has_broken_escape(text) {
            return Err(DatabaseUrlError::BrokenEscape);
        }
        let url = url::Url::parse(text).map_err(DatabaseUrlError::Malformed)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(DatabaseUrlError::NoHost(scheme.to_owned()));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(DatabaseUrlError::NoDatabase(scheme.to_owned()));
        }
        Ok(DatabaseUrl::Server { backend, url })
    }

    pub fn backend(&self) -> Backend {
        match self {
            DatabaseUrl::Sqlite(_) => Backend::Sqlite,
            DatabaseUrl::Server { backend, .. } => *backend,
        }
    }

    /// The server's database name, decoded.
    pub fn database(&self) -> Option<String> {
        match self {
            DatabaseUrl::Sqlite(_) => None,
            DatabaseUrl::Server { url, .. } => {
                let name = url.path().trim_matches('/');
                Some(percent_decode(name))
            }
        }
    }

    pub fn path(&self) -> Option<&Path> {
        match self {
            DatabaseUrl::Sqlite(path) => Some(path),
            DatabaseUrl::Server { .. } => None,
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseUrl::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            DatabaseUrl::Server { url, .. } => {
                let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
                let port = url.port().map_or(String::new(), |port| format!(":{port}"));
                // Options are left out too: PostgreSQL takes a password there as well.
                write!(f, "{}://{user}{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A driver that meets one may repeat the whole password in its complaint.
fn has_broken_escape(text: &str) -> bool {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    text.split('%').skip(1).any(|rest| !is_escape(rest))
}

/// A driver's message without the password, in whichever of its forms.
pub fn without_password(url: &url::Url, message: &str) -> String {
    let Some(password) = url.password().filter(|password| !password.is_empty()) else { return message.to_owned() };
    message.replace(password, "***").replace(&percent_decode(password), "***")
}

fn percent_decode(text: &str) -> String {
    // form_urlencoded would turn + into a space; a path keeps it.
    let query = text.replace('+', "%2B");
    url::form_urlencoded::parse(query.as_bytes()).next().map_or(String::new(), |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_pick_backends() {
        let backend = |text: &str| DatabaseUrl::parse(text).unwrap().backend();
        assert_eq!(backend("sqlite://a b?.db"), Backend::Sqlite);
        assert_eq!(backend("mysql://root@h:1/d"), Backend::Mysql);
        assert_eq!(backend("postgresql://h/d"), Backend::Postgres);
        assert_eq!(DatabaseUrl::parse("sqlite:///tmp/x.db").unwrap().path(), Some(Path::new("/tmp/x.db")));
        assert_eq!(DatabaseUrl::parse("sqlite:////tmp/x.db").unwrap().path(), Some(Path::new("/tmp/x.db")));
        assert_eq!(DatabaseUrl::parse("mysql://h/a%20b+c").unwrap().database().as_deref(), Some("a b+c"));
        for bad in ["coinetl.db", "sqlite://", "oracle://h/d", "mysql://h", "postgres:///d", "mysql://u:p@:x/d"] {
            assert!(DatabaseUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let broken = DatabaseUrl::parse("postgres://u:hush%zz@h/d").unwrap_err().to_string();
        assert!(broken.contains("%25") && !broken.contains("hush"), "{broken}");
        let url = url::Url::parse("mysql://u:hu%40sh@h/d").unwrap();
        assert_eq!(without_password(&url, "no hu@sh, no hu%40sh"), "no ***, no ***");
        let url = DatabaseUrl::parse("postgres://u:hush@h:5/d?password=hush").unwrap();
        assert_eq!(format!("{url} {url:?}"), "postgres://u@h:5/d postgres://u@h:5/d");
    }
}
