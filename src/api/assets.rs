//! `/assets`: the coins of a source.

use axum::extract;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::error::{ApiError, Faults};
use super::page::{Page, Paging};
use super::query::{Ask, Asked, Query};
use super::reply::Draft;
use super::state::State;
use crate::db::coins::Coin;

#[derive(Debug, Clone, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AssetsAsk {
    /// Only coins with this symbol, name or the source's own id, whatever the case.
    #[param(example = "btc", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_ -]+$")]
    id: Option<String>,
    /// Only coins that the source still lists, or only others.
    active: Option<bool>,
    /// Whose coins; without it those of the source that the server was started with.
    #[param(example = "coingecko", min_length = 1, max_length = 60, pattern = "^[A-Za-z0-9_-]+$")]
    source: Option<String>,
    /// Rows of a page.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, default = 100)]
    limit: Paging,
    /// `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){9,}$")]
    #[allow(dead_code)]
    cursor: (),
}

impl Ask for AssetsAsk {
    const NAMES: &'static [&'static str] = &["id", "active", "source", "limit", "cursor"];

    fn read(query: &Query) -> Result<Self, ApiError> {
        let (id, source) = (query.name("id")?, query.name("source")?);
        let active = query.word("active", &[("true", true), ("false", false)])?;
        let limit = Paging::read(query, format!("assets {id:?} {active:?} {source:?}"))?;
        Ok(AssetsAsk { id, active, source, limit, cursor: () })
    }
}

/// A coin of a source.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Asset {
    #[schema(example = "coingecko")]
    pub source: String,
    /// The source's own id.
    #[schema(example = "bitcoin")]
    pub id: String,
    /// In upper case.
    #[schema(example = "BTC")]
    pub symbol: String,
    #[schema(example = "Bitcoin")]
    pub name: String,
    /// Whether the source still lists it.
    pub active: bool,
    #[schema(format = DateTime)]
    pub first_seen_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Coins in the order in which they were stored
#[utoipa::path(get, path = "/assets", tag = "coins", params(AssetsAsk), responses(
    (status = 200, description = "a page of coins; empty where there are none", body = Page<Asset>),
    Faults,
))]
pub async fn assets(
    extract::State(state): extract::State<State>,
    Asked(ask): Asked<AssetsAsk>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = ask.limit.after(|key| key.parse::<i64>().ok())?.unwrap_or(i64::MIN);
    let key = format!("assets {ask:?}");
    let own = state.clone();
    state
        .reply(&headers, key, move |conn, version| {
            let source = own.source_at(conn, version, ask.source.as_deref())?;
            let coins = own.coins(conn, version, &source)?;
            let is_wanted = |coin: &Coin| coin.id > after && ask.active.is_none_or(|active| coin.active == active);
            let one_more = ask.limit.limit as usize + 1;
            let mut found: Vec<&Coin> = match &ask.id {
                Some(id) => coins.matching(id).into_iter().filter(|coin| is_wanted(coin)).take(one_more).collect(),
                None => {
                    let from = coins.all().partition_point(|coin| coin.id <= after);
                    coins.all()[from..].iter().filter(|coin| is_wanted(coin)).take(one_more).collect()
                }
            };
            let next = ask.limit.cut(&mut found, |coin| coin.id.to_string());
            let as_of = found.iter().map(|coin| coin.updated_at).max();
            let shown = |coin: &Coin| Asset {
                source: source.clone(),
                id: coin.source_id.clone(),
                symbol: coin.symbol.clone(),
                name: coin.name.clone(),
                active: coin.active,
                first_seen_at: coin.first_seen_at.rfc3339(),
                updated_at: coin.updated_at.rfc3339(),
            };
            let data = found.into_iter().map(shown).collect();
            Draft::json(&Page::new(data, next, as_of, vec![source.clone()]), as_of)
        })
        .await
}
