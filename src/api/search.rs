//! `/search`: which coin a name or a symbol means.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::coins::{Other, chosen_with_rank, others};
use super::error::{ApiError, Faults, bad};

use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchAsk {
    /// A name, a symbol or the source's own id, whatever the case.
    #[param(example = "btc", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_ -]+$")]
    name: String,
    /// Whose coins; without it those of the source that the server was started with.
    #[param(example = "coingecko", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
}

impl Ask for SearchAsk {
    const NAMES: &'static [&'static str] = &["name", "source"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        match query.name("name")? {
            Some(name) => Ok(SearchAsk { name, source: query.name("source")? }),
            None => Err(bad("name", "it is missing; give a name or a symbol, such as name=btc")),
        }
    }
}

/// The coin that is meant.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Match {
    #[schema(example = "Bitcoin")]
    pub name: String,
    /// In upper case.
    #[schema(example = "BTC")]
    pub symbol: String,
    #[schema(example = "coingecko")]
    pub source: String,
    /// The source's own id.
    #[schema(example = "bitcoin")]
    pub id: String,
    /// Whether the source still lists it.
    pub active: bool,
    /// The newest that was told; null where none was on the coin's newest day.
    #[schema(required, example = 1)]
    pub market_cap_rank: Option<i64>,
    /// When the coin's labels were stored.
    #[schema(format = DateTime, example = "2026-11-09T10:00:00.000Z")]
    pub as_of: String,
    /// Others that the name may mean, best rank first.
    pub also: Vec<Other>,
}

/// The coin with a name or a symbol: of several the one with the best market-cap rank
#[utoipa::path(get, path = "/search", tag = "coins", params(SearchAsk), responses(
    (status = 200, description = "the coin", body = Match),
    (status = 204, description = "no coin has that name"),
    Faults,
))]
pub async fn search(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<SearchAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let key = format!("search {ask:?}");
    let own = state.clone();
    state
        .reply(&headers, key, move |conn, version| {
            let source = own.source_at(conn, version, ask.source.as_deref())?;
            let coins = own.coins(conn, version, &source)?;
            let Some(found) = chosen_with_rank(conn, &coins, &source, "name", &ask.name)? else {
                return Ok(Draft::none());
            };
            let at = found.coin.updated_at;
            let shown = Match {
                name: found.coin.name,
                symbol: found.coin.symbol,
                source,
                id: found.coin.source_id,
                active: found.coin.active,
                market_cap_rank: found.rank,
                as_of: at.rfc3339(),
                also: others(found.also),
            };
            Draft::json(&shown, Some(at))
        })
        .await
}
