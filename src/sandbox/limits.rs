//! Calls of the running minute of each caller. Real time, also when the market's clock is frozen
//! or fast: it is the client that is being limited.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Counts calls; a caller's minute begins with its first call.
#[derive(Debug)]
pub struct Minutes {
    calls_per_minute: u32,
    callers: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Minutes {
    /// `calls_per_minute` 0 is no limit.
    pub fn new(calls_per_minute: u32) -> Minutes {
        Minutes { calls_per_minute, callers: Mutex::default() }
    }

    /// Counts a call; tells how many seconds to wait if it is one too many.
    pub fn wait(&self, caller: String, now: Instant) -> Option<u64> {
        if self.calls_per_minute == 0 {
            return None;
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() > 10_000 {
            callers.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        let (since, calls) = callers.entry(caller).or_insert((now, 0));
        if now.duration_since(*since) >= MINUTE {
            (*since, *calls) = (now, 0);
        }
        *calls = calls.saturating_add(1);
        let left = MINUTE.saturating_sub(now.duration_since(*since));
        (*calls > self.calls_per_minute).then(|| left.as_millis().div_ceil(1_000).max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_for_each_caller_and_minute() {
        let minutes = Minutes::new(2);
        let now = Instant::now();
        let call = |caller: &str, after| minutes.wait(caller.to_owned(), now + after);
        assert_eq!(call("a", Duration::ZERO), None);
        assert_eq!(call("a", Duration::from_secs(20)), None);
        assert_eq!(call("a", Duration::from_millis(20_500)), Some(40));
        assert_eq!(call("b", Duration::from_secs(21)), None);
        assert_eq!(call("a", Duration::from_secs(60)), None);
    }
}
