//! The dashboard: pages made on the server, readable without a script, kept up to date by a small one.
//!
//! ```text
//! /                      top coins: sorted, searched, paged, in any currency that has a rate
//! /coins/{source}/{id}   one coin: prices, candles, changes, its price on a day
//! /pairs                 live quotes
//! /pipeline              how the runs do, and what to do about those that don't
//! /events                tells when the data changed, so that a page asks for itself again
//! /static/…              the style sheet and the script, under names that change with them
//! ```
//!
//! No page asks another host for anything. Everything that a database holds is written as text (maud
//! escapes it), and ids in addresses are percent-encoded byte by byte.

mod address;
mod choice;
mod coin;
mod error;
mod events;
mod files;
mod format;
mod layout;
mod pairs;
mod pipeline;
mod top;

use axum::Router;
use axum::routing::get;

use crate::api::State;

/// The pages, to be served beside the API.
pub fn router() -> Router<State> {
    Router::new()
        .route("/", get(top::page))
        .route("/coins/{source}", get(coin::page_by_query))
        .route("/coins/{source}/{id}", get(coin::page))
        .route("/pairs", get(pairs::page))
        .route("/pipeline", get(pipeline::page))
        .route("/events", get(events::stream))
        .route("/static/{name}", get(files::file))
        .route("/favicon.ico", get(files::icon))
}
