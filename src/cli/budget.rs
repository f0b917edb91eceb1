//! What the month allows: chosen by a setting, told by the vendor, or else what the kind of key
//! surely allows; and what our own runs used of it.

use crate::config::Settings;
use crate::db::accounts::{self, ToldAccount};
use crate::db::{Connection, DbError, clock};
use crate::domain::budget::{month_before, month_of};
use crate::domain::{Account, Budget, Stamp};
use crate::sources::{Access, SANDBOX_PREFIX, Source};

/// A plan that was told longer ago is asked for again: it may have shrunk.
const OLD_AFTER_MS: i64 = 24 * 3_600_000;

/// Under which names a source's data may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    Real,
    Sandbox,
    /// Behind a configured address may be either, until an answer tells.
    Unsure,
}

impl Label {
    /// All that it may be, the likelier first.
    pub fn names(self, source: &dyn Source) -> Vec<String> {
        let (real, generated) = (source.name().to_owned(), format!("{SANDBOX_PREFIX}{}", source.name()));
        match self {
            Label::Real => vec![real],
            Label::Sandbox => vec![generated],
            Label::Unsure => vec![real, generated],
        }
    }
}

/// Where a limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Setting,
    Told,
    /// Of this kind of key.
    Usual(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Setting => f.write_str("COINETL_CREDITS_PER_MONTH"),
            Origin::Told => f.write_str("told by the source"),
            Origin::Usual(kind) => f.write_str(kind),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub budget: Budget,
    pub origin: Origin,
    pub now: Stamp,
    pub told: Option<ToldAccount>,
}

impl Allowance {
    /// A limit that the vendor told long enough ago to be another now.
    pub fn is_old(&self) -> bool {
        let old = |told: ToldAccount| self.now.millis() - told.told_at.millis() > OLD_AFTER_MS;
        self.origin == Origin::Told && self.told.is_some_and(old)
    }
}

/// What the month allows, as far as settings and database know.
pub fn allowance(
    conn: &mut Connection,
    settings: &Settings,
    source: &dyn Source,
    access: &Access,
    label: Label,
) -> Result<Allowance, DbError> {
    let now = clock::now(conn)?;
    let names = label.names(source);
    let told = accounts::find(conn, &names[0])?;
    let account = told.map(|told| told.account).unwrap_or_default();
    // What a sandbox tells of a plan limits nobody.
    let told_limit = account.credits_per_month.filter(|_| label != Label::Sandbox);
    let (limit, origin) = match (settings.credits_per_month, told_limit) {
        (Some(limit), _) => (i64::try_from(limit).unwrap_or(i64::MAX), Origin::Setting),
        (None, Some(limit)) => (limit, Origin::Told),
        (None, None) if label == Label::Sandbox => (0, Origin::Usual("sandbox")),
        (None, None) => (i64::try_from(access.credits_per_month).unwrap_or(i64::MAX), Origin::Usual(access.kind)),
    };
    let (began, resets_at) = period(&account, now);
    // A limit that was chosen holds for generated data, too.
    let counted = if origin == Origin::Setting { &names[..] } else { &names[..1] };
    let counted: Vec<&str> = counted.iter().map(String::as_str).collect();
    let mut used = accounts::used_since(conn, &counted, began)?;
    if let (Some(told), Some(told_used)) = (told, account.credits_used)
        && told.told_at >= began
        && origin == Origin::Told
    {
        // Others may use the key, too.
        used = used.max(told_used.saturating_add(accounts::used_since(conn, &counted, told.told_at)?));
    }
    let budget = Budget { limit: (limit > 0).then_some(limit), used, resets_at };
    Ok(Allowance { budget, origin, now, told })
}

/// The running month of a plan: what the vendor told of its end, else the calendar's.
fn period(account: &Account, now: Stamp) -> (Stamp, Stamp) {
    match account.resets_at {
        Some(resets_at) if resets_at > now && month_before(resets_at) <= now => (month_before(resets_at), resets_at),
        _ => month_of(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_s_own_month_goes_before_the_calendar_s() {
        let stamp = |text: &str| Stamp::parse(text).unwrap();
        let now = stamp("2026-11-25T12:00:00Z");
        let told = |resets_at| period(&Account { resets_at, ..Account::default() }, now);
        let anchored = stamp("2026-12-10T08:00:00Z");
        assert_eq!(told(Some(anchored)), (stamp("2026-11-10T08:00:00Z"), anchored));
        // Told long ago, or nonsense.
        for resets_at in [None, Some(stamp("2026-11-01T00:00:00Z")), Some(stamp("2030-01-01T00:00:00Z"))] {
            assert_eq!(told(resets_at), (stamp("2026-11-01T00:00:00Z"), stamp("2026-12-01T00:00:00Z")));
        }
    }
}
