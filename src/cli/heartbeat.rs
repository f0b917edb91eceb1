//! Signs of life for a lease, from a thread and a connection of its own, while a command is busy with
//! something else than the database.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;

use crate::db::lease::{HEARTBEAT, Lease};
use crate::db::{Absent, DatabaseUrl, open};

/// Beats until it is dropped.
pub struct Heartbeat {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub fn start(url: &DatabaseUrl, lease: Lease) -> Heartbeat {
    let (stop, stopped) = mpsc::channel();
    let url = url.clone();
    let thread = std::thread::spawn(move || {
        let mut conn = None;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(HEARTBEAT) {
            if conn.is_none() {
                conn = open(&url, Absent::Fail).map(|opened| opened.conn).ok();
            }
            let Some(open) = &mut conn else { continue };
            // A lease that is lost is found out by the next batch.
            if let Err(err) = lease.confirm(open) {
                log::debug!("no sign of life could be given: {err}");
                conn = None;
            }
        }
    });
    Heartbeat { stop: Some(stop), thread: Some(thread) }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
