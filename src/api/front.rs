//! Small answers that were just given, by the whole address: given again without taking the request apart. That
//! is most of the work where an answer is a few hundred bytes, and dashboards ask for the same ones all the time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::MatchedPath;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;

use super::layers;
use super::reply::Answer;
use super::state::State;

/// Larger ones cost more to send than to find.
const LARGEST: usize = 32 << 10;
const MOST: usize = 512;
/// After so long the whole way is gone again: there, what is kept has its own times.
const KEPT_FOR: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Front(RwLock<HashMap<Box<str>, Kept>>);

#[derive(Clone)]
struct Kept {
    answer: Arc<Answer>,
    route: MatchedPath,
    restores: u64,
    until: Instant,
}

/// The answer to a request that was answered within the last second, where nothing changed since.
pub async fn answer<B>(state: &State, request: &Request<B>) -> Option<Response> {
    // Who is counted goes the whole way.
    if request.method() != Method::GET || state.options().rate_limit > 0 {
        return None;
    }
    let began = Instant::now();
    let address = request.uri().path_and_query()?.as_str();
    let kept = state.front().0.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned()?;
    if kept.until < began {
        return None;
    }
    let version = state.cache().version().await.ok()?;
    if version != kept.answer.version || state.cache().restores() != kept.restores {
        return None;
    }
    let mut response = kept.answer.response(request.headers()).await;
    layers::secure(response.headers_mut());
    state.cache().figures().hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    state.figures().answered(kept.route, response.status(), began.elapsed());
    Some(response)
}

/// Keeps what a request to this address was answered with, if it is of the kind that is kept.
pub fn keep(state: &State, address: &str, response: &mut Response) {
    let answer = response.extensions_mut().remove::<Arc<Answer>>();
    let route = response.extensions_mut().remove::<MatchedPath>();
    let (Some(answer), Some(route)) = (answer, route) else { return };
    let fits = matches!(response.status(), StatusCode::OK | StatusCode::NOT_MODIFIED) && answer.size() <= LARGEST;
    // The document of the API is of no version.
    if !fits || answer.version == 0 || address.len() > 1_024 {
        return;
    }
    let kept = Kept { answer, route, restores: state.cache().restores(), until: Instant::now() + KEPT_FOR };
    let mut all = state.front().0.write().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MOST {
        all.clear();
    }
    all.insert(address.into(), kept);
}
