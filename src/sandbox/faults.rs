//! Faults on request: what goes wrong with real sources, at a chosen rate.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::answer::Answer;
use super::market::hash::{mix, unit};

/// One kind of fault and the chance that it happens to a request, or to a feed or its message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// From 0 (never) to 1 (always).
    pub rate: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// 429 with `Retry-After: 1`.
    TooMany,
    /// 429 that does not say how long to wait.
    TooManyBare,
    /// 500.
    Internal,
    /// 200 with a page of HTML.
    Html,
    /// 200 with JSON that ends too early, correctly framed.
    Truncated,
    /// No answer for ten minutes.
    Slow,
    /// The connection closes in the middle of the body.
    Drop,
    /// 200 with no records.
    Empty,
    /// A body of JSON records that never ends.
    Endless,
    /// Ranks move between two pages: some coins twice, some not at all.
    Shift,
    /// Some records of the page are unusable.
    Garbage,
    /// 200 with the vendor's error in the body.
    ErrorIn200,
    /// The month's credits are spent; a plain 429 where there are no credits.
    Spent,
    /// The endpoint that serves everything at once is no longer there; older ways are.
    Gone,
    /// Some of a feed's messages are not sent, although the feed says that there were any.
    Gap,
    /// An old message of a feed comes again.
    Stale,
}

impl FaultKind {
    const NAMES: [(FaultKind, &str); 16] = [
        (FaultKind::TooMany, "429"),
        (FaultKind::TooManyBare, "429-bare"),
        (FaultKind::Internal, "500"),
        (FaultKind::Html, "html"),
        (FaultKind::Truncated, "truncated"),
        (FaultKind::Slow, "slow"),
        (FaultKind::Drop, "drop"),
        (FaultKind::Empty, "empty"),
        (FaultKind::Endless, "endless"),
        (FaultKind::Shift, "shift"),
        (FaultKind::Garbage, "garbage"),
        (FaultKind::ErrorIn200, "200-error"),
        (FaultKind::Spent, "spent"),
        (FaultKind::Gone, "gone"),
        (FaultKind::Gap, "gap"),
        (FaultKind::Stale, "stale"),
    ];

    /// Whether it can happen to an answer; the others happen to a feed alone.
    pub fn is_of_answers(self) -> bool {
        !matches!(self, FaultKind::Gap | FaultKind::Stale)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FaultKind::NAMES.iter().find(|(kind, _)| kind == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.rate)
    }
}

/// Why a `KIND=RATE` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultError {
    #[error("`{0}` is not KIND=RATE, for example 429=0.1")]
    Form(String),
    #[error("unknown fault `{0}`; there are {kinds}", kinds = kinds())]
    Kind(String),
    #[error("`{0}` is not a rate between 0 (never) and 1 (always)")]
    Rate(String),
}

fn kinds() -> String {
    FaultKind::NAMES.map(|(_, name)| name).join(", ")
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Fault, FaultError> {
        let (name, rate) = text.split_once('=').ok_or_else(|| FaultError::Form(text.to_owned()))?;
        let (kind, _) = FaultKind::NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .ok_or_else(|| FaultError::Kind(name.to_owned()))?;
        match rate.parse() {
            Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(Fault { kind: *kind, rate }),
            _ => Err(FaultError::Rate(rate.to_owned())),
        }
    }
}

/// The dice: which fault, if any, each request meets. The n-th request of a server with the same
/// seed and faults always meets the same one.
#[derive(Debug)]
pub struct Dice {
    faults: Vec<Fault>,
    seed: u64,
    requests: AtomicU64,
}

/// A fault that has struck, with random bits for its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Struck {
    pub kind: FaultKind,
    pub bits: u64,
}

impl Dice {
    /// Dice for answers. Faults of feeds leave them as they are.
    pub fn new(mut faults: Vec<Fault>, seed: u64) -> Dice {
        faults.retain(|fault| fault.kind.is_of_answers());
        // Another stream of numbers than the market's.
        let seed = mix(seed, 0xfa17, 0);
        Dice { faults, seed, requests: AtomicU64::new(0) }
    }

    /// Rolls for one request; of several faults the first that hits strikes. A fault that the
    /// request cannot meet leaves the dice of the others as they are.
    pub fn roll(&self, meets: impl Fn(FaultKind) -> bool) -> Option<Struck> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        (0u64..).zip(&self.faults).filter(|(_, fault)| meets(fault.kind)).find_map(|(n, fault)| {
            let bits = mix(self.seed, request, n);
            (unit(bits) < fault.rate).then(|| Struck { kind: fault.kind, bits: mix(bits, 1, 0) })
        })
    }
}

/// Makes some records of a page unusable, each in its own way.
#[derive(Debug, Clone, Copy)]
pub struct Spoiler {
    bits: u64,
    /// A record that is spoilt in any case, so that the fault never strikes without effect.
    always: usize,
}

impl Spoiler {
    /// For a page of so many records, if garbage has struck.
    pub fn new(struck: Option<Struck>, records: usize) -> Option<Spoiler> {
        let struck = struck.filter(|struck| struck.kind == FaultKind::Garbage)?;
        Some(Spoiler { bits: struck.bits, always: mix(struck.bits, 1, 0) as usize % records.max(1) })
    }

    /// What is wrong with the n-th record, out of all that could be.
    pub fn of<T: Copy>(&self, n: usize, kinds: &[T]) -> Option<T> {
        let bits = mix(self.bits, 2, n as u64);
        (n == self.always || bits.is_multiple_of(25)).then(|| kinds[(bits >> 32) as usize % kinds.len()])
    }
}

/// Where a page begins, given where it should: as if up to thirty coins had overtaken, or been
/// overtaken, since the last page.
pub fn shifted(struck: Option<Struck>, first: usize) -> usize {
    match struck.filter(|struck| struck.kind == FaultKind::Shift) {
        None => first,
        Some(struck) => {
            let by = 1 + (struck.bits >> 1) as usize % 30;
            if struck.bits & 1 == 0 { first.saturating_add(by) } else { first.saturating_sub(by) }
        }
    }
}

/// A page that no API sends, but something in front of it.
pub fn html() -> Answer {
    const HTML: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>Just a moment...</title></head>\n<body><h1>Checking your browser</h1><p>Ray ID: 0000000000000000</p></body>\n</html>\n";
    Answer::text(200, "text/html; charset=UTF-8", HTML)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_shown() {
        for (kind, name) in FaultKind::NAMES {
            let fault: Fault = format!("{name}=0.25").parse().unwrap();
            assert_eq!(fault, Fault { kind, rate: 0.25 });
            assert_eq!(fault.to_string(), format!("{name}=0.25"));
        }
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let error = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert!(error("429").contains("KIND=RATE"));
        let kinds = error("503=1");
        assert!(kinds.contains("503") && kinds.contains("429-bare, 500, html"));
        for rate in ["1.5", "-1", "NaN", "often", ""] {
            assert!(error(&format!("drop={rate}")).contains("between 0"));
        }
    }

    #[test]
    fn dice_repeat_themselves_and_keep_to_the_rate() {
        let rolls = || {
            let faults = vec!["500=0.2".parse().unwrap(), "drop=0.5".parse().unwrap()];
            let dice = Dice::new(faults, 9);
            (0..10_000).map(|_| dice.roll(|_| true)).collect::<Vec<_>>()
        };
        let first = rolls();
        assert_eq!(first, rolls());
        let count = |kind| {
            let of_kind = |roll: &&Option<Struck>| roll.is_some_and(|struck| struck.kind == kind);
            first.iter().filter(of_kind).count()
        };
        assert!((1_850..2_150).contains(&count(FaultKind::Internal)));
        assert!((3_800..4_200).contains(&count(FaultKind::Drop)));
    }

    #[test]
    fn faults_of_feeds_leave_the_dice_of_answers_alone() {
        let rolls = |faults: &[&str]| {
            let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
            let dice = Dice::new(faults, 9);
            (0..2_000).map(|_| dice.roll(|_| true)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(&["gap=1", "500=0.2", "stale=1", "drop=0.1"]), rolls(&["500=0.2", "drop=0.1"]));
    }

    #[test]
    fn a_fault_that_cannot_be_met_changes_nothing_for_the_others() {
        let rolls = |meets: fn(FaultKind) -> bool| {
            let faults = vec!["gone=0.5".parse().unwrap(), "500=0.2".parse().unwrap()];
            let dice = Dice::new(faults, 9);
            (0..2_000).map(|_| dice.roll(meets)).collect::<Vec<_>>()
        };
        let (both, one) = (rolls(|_| true), rolls(|kind| kind != FaultKind::Gone));
        let internal = |roll: &Option<Struck>| roll.is_some_and(|struck| struck.kind == FaultKind::Internal);
        assert!(one.iter().all(|roll| roll.is_none() || internal(roll)));
        for (both, one) in both.iter().zip(&one) {
            assert!(!internal(both) || both == one);
        }
        assert!(one.iter().filter(|roll| internal(roll)).count() > both.iter().filter(|roll| internal(roll)).count());
    }
}
