//! Coins by the names that people give them.

use serde::Serialize;

use super::error::{ApiError, Candidate};
use crate::db::Connection;
use crate::db::coins::{self, Coin, Coins, Meant};

/// A coin that a name may also mean.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Other {
    /// The source's own id.
    #[schema(example = "bitcoin-2")]
    pub id: String,
    #[schema(example = "Bitcoin 2")]
    pub name: String,
    #[schema(example = "BTC")]
    pub symbol: String,
}

pub struct Chosen {
    pub coin: Coin,
    pub rank: Option<i64>,
    pub also: Vec<Coin>,
}

/// The coin that a name means; `None` where nothing has that name. Its rank is looked up where it matters
/// which coin is meant.
pub fn chosen(
    conn: &mut Connection,
    coins: &Coins,
    source: &str,
    parameter: &'static str,
    name: &str,
) -> Result<Option<Chosen>, ApiError> {
    choose(source, parameter, coins::meant(conn, coins, name, false)?)
}

/// The same, with its rank whatever the case.
pub fn chosen_with_rank(
    conn: &mut Connection,
    coins: &Coins,
    source: &str,
    parameter: &'static str,
    name: &str,
) -> Result<Option<Chosen>, ApiError> {
    choose(source, parameter, coins::meant(conn, coins, name, true)?)
}

fn choose(source: &str, parameter: &'static str, meant: Meant) -> Result<Option<Chosen>, ApiError> {
    match meant {
        Meant::Nobody => Ok(None),
        Meant::This { coin, rank, also } => Ok(Some(Chosen { coin, rank, also })),
        Meant::Any(any) => {
            let candidate = |coin: Coin| Candidate {
                id: coin.source_id,
                source: source.to_owned(),
                name: coin.name,
                symbol: coin.symbol,
            };
            Err(ApiError::Ambiguous { parameter, candidates: any.into_iter().map(candidate).collect() })
        }
    }
}

pub fn others(coins: Vec<Coin>) -> Vec<Other> {
    coins.into_iter().map(|coin| Other { id: coin.source_id, name: coin.name, symbol: coin.symbol }).collect()
}
