//! Where batches go. A sink writes some batches in one transaction, with the run's counts.

pub mod archive;
pub mod assets;
pub mod files;
pub mod history;
pub mod prices;
pub mod stream;

use crate::db::{DbError, Session};

pub trait Sink: Send + 'static {
    type Batch: Send + 'static;

    /// All of these or none; in the order they came.
    fn write(&mut self, batches: Vec<Self::Batch>) -> Result<(), DbError>;

    /// The run that the writes belong to.
    fn session(&mut self) -> &mut Session;
}
