//! What went wrong, as an exit code: the one place that decides it.

use std::process::ExitCode;

use crate::api::state::StartError;
use crate::config::ConfigError;
use crate::db::DbError;
use crate::gate::OverBudget;
use crate::kafka::{BrokerError, LostOffsets};
use crate::sinks::files::FilesError;
use crate::sources::error::SourceError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// The answer is no, or something unexpected failed.
    No = 1,
    /// Wrong arguments.
    Usage = 2,
    /// Part stored, part not.
    Partial = 3,
    /// Nothing stored; the same command may work later.
    TryLater = 75,
    /// Settings, keys or schema are wrong; the same command will fail again.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Arguments that fit the command line and not the source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The code of an error that ended a command before anything was stored.
pub fn of(err: &anyhow::Error) -> Exit {
    err.chain().find_map(of_cause).unwrap_or(Exit::No)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if cause.is::<ConfigError>() || cause.is::<StartError>() {
        return Some(Exit::Config);
    }
    if cause.is::<OverBudget>() {
        return Some(Exit::TryLater);
    }
    if cause.is::<UsageError>() {
        return Some(Exit::Usage);
    }
    if cause.is::<LostOffsets>() {
        return Some(Exit::Config);
    }
    if let Some(err) = cause.downcast_ref::<BrokerError>() {
        return Some(of_broker(err));
    }
    if let Some(err) = cause.downcast_ref::<FilesError>() {
        return Some(of_files(err));
    }
    if let Some(err) = cause.downcast_ref::<DbError>() {
        return Some(of_database(err));
    }
    match cause.downcast_ref::<SourceError>() {
        // The reason lies in what it wraps.
        Some(SourceError::Gate(_)) | None => None,
        Some(err) => Some(of_source(err)),
    }
}

/// The code of a database's failure.
pub fn of_database(err: &DbError) -> Exit {
    match err {
        DbError::Unreachable { .. }
        | DbError::LeaseHeld { .. }
        | DbError::LeaseLost { .. }
        | DbError::Overtaken { .. }
        | DbError::Full(_)
        | DbError::Locked(_)
        | DbError::Gone(_) => Exit::TryLater,
        DbError::Refused { .. }
        | DbError::Missing { .. }
        | DbError::File { .. }
        | DbError::NotBuiltIn { .. }
        | DbError::SchemaOlder { .. }
        | DbError::SchemaNewer { .. }
        | DbError::ReadOnly(_) => Exit::Config,
        DbError::Migration(_) | DbError::Duplicate(_) | DbError::Query { .. } => Exit::No,
    }
}

fn of_broker(err: &BrokerError) -> Exit {
    match err {
        BrokerError::Unreachable { .. } | BrokerError::Unread { .. } | BrokerError::NotTaken { .. } => Exit::TryLater,
        BrokerError::NotSet
        | BrokerError::Refused { .. }
        | BrokerError::NoTopic { .. }
        | BrokerError::Setting { .. } => Exit::Config,
    }
}

fn of_files(err: &FilesError) -> Exit {
    match err {
        FilesError::Full { .. } | FilesError::Cut { .. } | FilesError::Busy { .. } => Exit::TryLater,
        FilesError::Folder { .. } | FilesError::Manifest { .. } => Exit::Config,
        FilesError::Reader { .. } | FilesError::Io { .. } | FilesError::Parquet { .. } | FilesError::Thread => Exit::No,
    }
}

fn of_source(err: &SourceError) -> Exit {
    match err {
        SourceError::Unreachable { .. }
        | SourceError::Limited { .. }
        | SourceError::Spent { .. }
        | SourceError::Server { .. }
        | SourceError::Malformed { .. }
        | SourceError::TooLarge { .. }
        | SourceError::Blocked { .. }
        | SourceError::OtherSource { .. } => Exit::TryLater,
        SourceError::Unauthorized { .. }
        | SourceError::Plan { .. }
        | SourceError::NotFound { .. }
        | SourceError::Client(_) => Exit::Config,
        SourceError::Refused { .. } | SourceError::Gate(_) => Exit::No,
    }
}
