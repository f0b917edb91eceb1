//! How a run ends that works on what is stored: in the table `runs`, in the report, in the exit code.

use super::output::{Report, sentence};
use crate::db::runs::Status;
use crate::db::{DbError, Session};
use crate::domain::Cost;
use crate::exit::{self, Exit};

pub struct Ended {
    pub status: Status,
    pub exit: Exit,
    pub error: Option<String>,
}

impl Ended {
    pub fn well() -> Ended {
        Ended { status: Status::Ok, exit: Exit::Ok, error: None }
    }

    /// It failed, before or after something was stored.
    pub fn failed(err: &anyhow::Error, is_some_stored: bool) -> Ended {
        // Whoever took the lease over goes on with the rest.
        let lost = err.chain().any(|cause| matches!(cause.downcast_ref(), Some(DbError::LeaseLost { .. })));
        let (status, exit) = match (is_some_stored && !lost, exit::of(err)) {
            // Part is stored, and the next run may well store the rest.
            (true, Exit::No | Exit::TryLater) => (Status::Partial, Exit::Partial),
            // It will not before somebody has put right what is wrong.
            (true, exit) => (Status::Partial, exit),
            (false, exit) => (Status::Failed, exit),
        };
        Ended { status, exit, error: Some(sentence(err)) }
    }

    pub fn of(result: &anyhow::Result<()>, session: &Session) -> Ended {
        match result {
            Ok(()) => Ended::well(),
            Err(err) => Ended::failed(err, session.tally().written > 0),
        }
    }
}

/// Records the end, gives the lease back, and puts counts and end into the report.
pub fn record(session: &mut Session, mut ended: Ended, report: &mut Report) -> Exit {
    if let Err(err) = session.finish(ended.status, ended.error.as_deref(), Cost::default())
        && ended.error.is_none()
    {
        ended = Ended::failed(&err.into(), false);
    }
    report.set_tally(&session.tally());
    report.status = ended.status.name();
    report.error = ended.error;
    ended.exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_and_what_is_wrong_decide() {
        let ended = |err: DbError, is_some_stored| {
            let ended = Ended::failed(&anyhow::Error::from(err).context("reading"), is_some_stored);
            (ended.status.name(), ended.exit as u8)
        };
        let gone = || DbError::Gone("away".to_owned());
        assert_eq!((ended(gone(), false), ended(gone(), true)), (("failed", 75), ("partial", 3)));
        let read_only = || DbError::ReadOnly("read only".to_owned());
        assert_eq!((ended(read_only(), false), ended(read_only(), true)), (("failed", 78), ("partial", 78)));
        // Of what was stored under a lease, the rest is somebody else's by now.
        let lost = DbError::LeaseLost { command: "prune".to_owned(), source_name: "all".to_owned() };
        assert_eq!(ended(lost, true), ("failed", 75));
    }
}
