//! A database value used from async code: one user at a time, on a thread that may block.

use std::sync::{Arc, Mutex, PoisonError};

pub struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T: Send + 'static> Shared<T> {
    pub fn new(value: T) -> Self {
        Shared(Arc::new(Mutex::new(value)))
    }

    /// Runs `work` with the value on this thread, for short reads while nothing else is under way.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `work` with the value, on a blocking thread.
    pub async fn run<R: Send + 'static>(&self, work: impl FnOnce(&mut T) -> R + Send + 'static) -> R {
        let shared = self.0.clone();
        let task =
            tokio::task::spawn_blocking(move || work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner)));
        match task.await {
            Ok(result) => result,
            // The task is never cancelled, so it panicked: go on panicking here.
            Err(err) => std::panic::resume_unwind(err.into_panic()),
        }
    }
}
