//! What calls cost, and what a month allows. Credits are the vendor's own unit; where it has none of
//! its own, a call is one.

use std::ops::{Add, AddAssign, Mul};

use chrono::{Datelike, Months, NaiveDate};

use super::Stamp;

/// Calls, and what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    pub calls: i64,
    pub credits: i64,
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { calls: self.calls.saturating_add(other.calls), credits: self.credits.saturating_add(other.credits) }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        *self = *self + other;
    }
}

impl Mul<i64> for Cost {
    type Output = Cost;

    fn mul(self, times: i64) -> Cost {
        Cost { calls: self.calls.saturating_mul(times), credits: self.credits.saturating_mul(times) }
    }
}

/// A month of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// `None` = no limit.
    pub limit: Option<i64>,
    /// Credits used since the month began.
    pub used: i64,
    /// When the count begins again.
    pub resets_at: Stamp,
}

impl Budget {
    /// Credits that are left; `None` = no limit.
    pub fn left(&self) -> Option<i64> {
        self.limit.map(|limit| limit.saturating_sub(self.used).max(0))
    }

    pub fn allows(&self, credits: i64) -> bool {
        // What costs nothing is allowed when all is spent, too.
        credits == 0 || self.left().is_none_or(|left| credits <= left)
    }
}

/// The calendar month (UTC) that a moment is in: its first moment, and that of the next one.
pub fn month_of(moment: Stamp) -> (Stamp, Stamp) {
    let date = moment.naive().date();
    let first = date.with_day(1).unwrap_or(date);
    (midnight(first, moment), midnight(first.checked_add_months(Months::new(1)).unwrap_or(first), moment))
}

/// The moment one month before: where the month that ends there began.
pub fn month_before(end: Stamp) -> Stamp {
    let began = end.naive().checked_sub_months(Months::new(1));
    began.and_then(|began| Stamp::from_datetime(began.and_utc()).ok()).unwrap_or(end)
}

fn midnight(date: NaiveDate, otherwise: Stamp) -> Stamp {
    let at = date.and_hms_opt(0, 0, 0).and_then(|at| Stamp::from_datetime(at.and_utc()).ok());
    // Only before 1970 and after 9999, where no stamp is.
    at.unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(text: &str) -> Stamp {
        Stamp::parse(text).unwrap()
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let (first, next) = month_of(stamp("2026-12-31T23:59:59.999Z"));
        assert_eq!((first, next), (stamp("2026-12-01T00:00:00Z"), stamp("2027-01-01T00:00:00Z")));
        assert_eq!(month_of(first), (first, next));
        assert_eq!(month_before(stamp("2026-03-31T10:00:00Z")), stamp("2026-02-28T10:00:00Z"));
    }

    #[test]
    fn a_budget_allows_what_is_left_and_what_is_free() {
        let resets_at = stamp("2026-12-01T00:00:00Z");
        let budget = |limit, used| Budget { limit, used, resets_at };
        assert!(budget(Some(100), 28).allows(72) && !budget(Some(100), 29).allows(72));
        assert!(budget(Some(100), 200).allows(0) && !budget(Some(100), 200).allows(1));
        assert!(budget(None, i64::MAX).allows(i64::MAX));
    }
}
