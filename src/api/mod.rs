//! The REST API: HTTP only. Queries are in `db`, pages in `web`.
//!
//! ```text
//! request → parameters (typed, checked) → cache, by the version of the data ─┬→ answer
//!                                          └ miss: one read on a snapshot ───┘
//! ```

pub mod error;
mod front;
pub mod query;
pub mod reply;
pub mod server;
pub mod state;

mod assets;
mod cache;
mod candles;
mod coins;
mod convert;
mod dashboard;
mod docs;
mod gaps;
mod health;
mod layers;
mod metrics;
mod page;
mod prices;
mod quotes;
mod runs;
mod search;

use axum::Router;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use error::ApiError;
pub use state::State;

/// What every path has in common.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "coinetl",
        description = "Crypto market data out of your own database: what was stored, how old it is and where it came from."
    ),
    components(schemas(error::ErrorBody))
)]
struct Document;

/// All paths of the API and the document that describes them, and beside them `pages`.
pub fn router(state: State, pages: Router<State>) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(metrics::metrics))
        .routes(routes!(dashboard::dashboard))
        .routes(routes!(search::search))
        .routes(routes!(assets::assets))
        .routes(routes!(prices::prices))
        .routes(routes!(candles::candles))
        .routes(routes!(quotes::quotes))
        .routes(routes!(gaps::gaps))
        .routes(routes!(runs::runs))
        .routes(routes!(health::healthz))
        .split_for_parts();
    let router = router.merge(docs::router(&document)).merge(pages);
    layers::around(router.fallback(error::unknown_path), &state).with_state(state)
}
