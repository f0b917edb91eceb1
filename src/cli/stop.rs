//! SIGTERM and SIGINT: finish the batch in hand, record the run, give back the lease.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when somebody asks the process to stop.
pub async fn asked() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals do what they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
