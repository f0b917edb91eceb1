//! SIGTERM and SIGINT: finish the batch in hand, record the run, give back the lease.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when somebody asks the process to stop; listens from the call on, not only when awaited.
pub fn asked() -> impl Future<Output = ()> {
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut int)) = handlers else {
            // Without handlers the signals do what they always do.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}
