//! What a vendor tells about the plan behind a key.

use super::Stamp;

/// A plan and what was used of it; what the vendor does not tell is `None`. Credits are the vendor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    pub credits_per_month: Option<i64>,
    /// In the running month, by whoever uses the key.
    pub credits_used: Option<i64>,
    pub calls_per_minute: Option<i64>,
    /// When the running month ends and the count begins again.
    pub resets_at: Option<Stamp>,
}
