//! Who has called how often in this minute, and spent how many credits in this month.
//!
//! Minutes are the world's, since it is the client that is being limited; days and months are
//! the market's, so that a fast clock shows what a month of calls costs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use chrono::Utc;

use super::super::clock::month;

const DAY: i64 = 86_400_000;

/// Who pays, or waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    Key(String),
    Address(IpAddr),
}

/// What a caller has used so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct Usage {
    pub calls: u32,
    pub day_credits: u64,
    pub month_credits: u64,
    minute: i64,
    day: i64,
    month: i64,
}

impl Usage {
    /// Forgets what belongs to an earlier minute, day or month.
    fn turn(&mut self, minute: i64, at: i64) {
        if self.minute != minute {
            (self.minute, self.calls) = (minute, 0);
        }
        if self.day != at.div_euclid(DAY) {
            (self.day, self.day_credits) = (at.div_euclid(DAY), 0);
        }
        if self.month != month(at) {
            (self.month, self.month_credits) = (month(at), 0);
        }
    }
}

/// All callers, in memory.
#[derive(Debug)]
pub struct Accounts {
    pub calls_per_minute: u32,
    pub credits_per_month: u32,
    usage: Mutex<HashMap<Caller, Usage>>,
}

impl Accounts {
    /// Limits of 0 are none.
    pub fn new(calls_per_minute: u32, credits_per_month: u32) -> Accounts {
        Accounts { calls_per_minute, credits_per_month, usage: Mutex::default() }
    }

    /// Counts a call; false when it is one too many in this UTC minute.
    pub fn enter(&self, caller: &Caller, at: i64) -> bool {
        let calls = self.with(caller, at, |usage| {
            usage.calls = usage.calls.saturating_add(1);
            usage.calls
        });
        self.calls_per_minute == 0 || calls <= self.calls_per_minute
    }

    /// Whether a caller's month has nothing left.
    pub fn is_spent(&self, caller: &Caller, at: i64) -> bool {
        self.credits_per_month > 0 && self.usage(caller, at).month_credits >= u64::from(self.credits_per_month)
    }

    /// Charges a call. The last one of a month may cost more than is left.
    pub fn charge(&self, caller: &Caller, credits: u32, at: i64) {
        self.with(caller, at, |usage| {
            usage.day_credits += u64::from(credits);
            usage.month_credits += u64::from(credits);
        });
    }

    pub fn usage(&self, caller: &Caller, at: i64) -> Usage {
        self.with(caller, at, |usage| *usage)
    }

    fn with<T>(&self, caller: &Caller, at: i64, work: impl FnOnce(&mut Usage) -> T) -> T {
        let minute = Utc::now().timestamp().div_euclid(60);
        let mut all = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > 10_000 {
            all.retain(|_, usage| usage.minute == minute || usage.month_credits > 0);
        }
        let usage = all.entry(caller.clone()).or_default();
        usage.turn(minute, at);
        work(usage)
    }
}

/// Whether the vendor would know a key: all do that have a hyphen and eight characters, and do
/// not begin with `wrong`.
pub fn is_key(key: &str) -> bool {
    key.len() >= 8 && key.contains('-') && !key.starts_with("wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_usual_forms_are_known() {
        for key in ["b54bcf4d-1bca-4e8e-9a24-22ff2c3d462c", "sandbox-1", "cmc-test-key"] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "short-", "nohyphenatall", "wrong-test-key", "?"] {
            assert!(!is_key(key), "{key}");
        }
    }

    #[test]
    fn minutes_days_and_months_begin_anew() {
        let mut usage = Usage::default();
        let noon = 1_795_348_837_123;
        usage.turn(7, noon);
        (usage.calls, usage.day_credits, usage.month_credits) = (1, 2, 3);
        usage.turn(7, noon + 60_000);
        assert_eq!((usage.calls, usage.day_credits, usage.month_credits), (1, 2, 3));
        usage.turn(8, noon + DAY);
        assert_eq!((usage.calls, usage.day_credits, usage.month_credits), (0, 0, 3));
        usage.turn(8, noon + 31 * DAY);
        assert_eq!(usage.month_credits, 0);
    }
}
