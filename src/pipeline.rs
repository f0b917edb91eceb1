//! The only copy loop: next batch, write, go on. Fetching goes on while a batch is written, so the
//! wall time of a run is the rate limit's, not the database's.

use tokio::sync::mpsc;

use crate::db::{DbError, Shared};
use crate::sinks::Sink;

/// Batches waiting between source and sink: memory is bounded by these.
pub const QUEUE: usize = 16;

/// Copies until the source is done. What has piled up is written in one transaction, which saves
/// a disk flush for each page when the source is faster than the disk.
pub async fn copy<S: Sink>(mut batches: mpsc::Receiver<S::Batch>, sink: &Shared<S>) -> Result<(), DbError> {
    while let Some(first) = batches.recv().await {
        let mut group = vec![first];
        while group.len() < QUEUE
            && let Ok(next) = batches.try_recv()
        {
            group.push(next);
        }
        sink.run(move |sink| sink.write(group)).await?;
    }
    Ok(())
}
