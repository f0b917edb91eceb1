//! What the month allows: chosen by a setting, told by the vendor, or else what the kind of key
//! surely allows; and what our own runs used of it.

use crate::config::Settings;
use crate::db::accounts::{self, Guard, ToldAccount};
use crate::db::{Connection, DbError, clock};
use crate::domain::{Budget, Stamp};
use crate::sources::{Access, SANDBOX_PREFIX, Source};

/// A plan that was told longer ago is asked for again: it may have shrunk.
const OLD_AFTER_MS: i64 = 24 * 3_600_000;
/// A month that is spent stays so for a while: not each refused run has to ask.
const FRESH_FOR_MS: i64 = 3_600_000;

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

#[derive(Debug, Clone)]
pub struct Allowance {
    pub budget: Budget,
    /// To hold calls against; `None` = no limit.
    pub guard: Option<Guard>,
    pub origin: Origin,
    pub now: Stamp,
    pub told: Option<ToldAccount>,
}

impl Allowance {
    /// A limit that the vendor told long enough ago to be another now.
    pub fn is_old(&self) -> bool {
        self.origin == Origin::Told && self.age_ms() > OLD_AFTER_MS
    }

    /// Told so lately that asking again is no use.
    pub fn is_fresh(&self) -> bool {
        self.age_ms() < FRESH_FOR_MS
    }

    fn age_ms(&self) -> i64 {
        self.told.map_or(i64::MAX, |told| self.now.millis() - told.told_at.millis())
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
    allowance_of(conn, settings.credits_per_month, source, access, label)
}

/// The same; `chosen` is the limit that the settings name.
pub fn allowance_of(
    conn: &mut Connection,
    chosen: Option<u64>,
    source: &dyn Source,
    access: &Access,
    label: Label,
) -> Result<Allowance, DbError> {
    let now = clock::now(conn)?;
    let names = label.names(source);
    let told = accounts::find(conn, &names[0])?;
    let account = told.map(|told| told.account).unwrap_or_default();
    // What a sandbox tells of a plan limits nobody.
    let told_limit = account.credits_per_month.filter(|limit| label != Label::Sandbox && *limit > 0);
    let (limit, origin) = match (chosen, told_limit) {
        (Some(limit), _) => (i64::try_from(limit).unwrap_or(i64::MAX), Origin::Setting),
        (None, Some(limit)) => (limit, Origin::Told),
        (None, None) if label == Label::Sandbox => (0, Origin::Usual("sandbox")),
        (None, None) => (i64::try_from(access.credits_per_month).unwrap_or(i64::MAX), Origin::Usual(access.kind)),
    };
    let (began, resets_at) = accounts::period(&account, now);
    // A limit that was chosen holds for generated data, too.
    let sources = if origin == Origin::Setting { names } else { vec![names[0].clone()] };
    // Others may use the key, too.
    let by_others = match (told, account.credits_used) {
        (Some(told), Some(used)) if told.told_at >= began && origin == Origin::Told => (used - told.own_used).max(0),
        _ => 0,
    };
    let guard = Guard { limit, sources, began, resets_at, by_others };
    let budget = guard.budget(conn)?;
    Ok(match limit > 0 {
        true => Allowance { budget, guard: Some(guard), origin, now, told },
        false => Allowance { budget: Budget { limit: None, ..budget }, guard: None, origin, now, told },
    })
}
