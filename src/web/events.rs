//! `/events`: a word whenever the data changed, as server-sent events.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::time::Instant;

use crate::api::{ApiError, State};

/// Pages that are told at once; the others ask every half minute.
const MOST_CLIENTS: usize = 500;
/// At most one word in this time.
const PAUSE: Duration = Duration::from_secs(1);
/// A sign of life for whatever sits between: a silent connection is taken for a dead one.
const HEARTBEAT: Duration = Duration::from_secs(15);

static CLIENTS: AtomicUsize = AtomicUsize::new(0);

/// One of so many places; given back when dropped.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let more = |taken: usize| (taken < MOST_CLIENTS).then_some(taken + 1);
        CLIENTS.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Ordering::AcqRel);
    }
}

pub async fn stream(extract::State(state): extract::State<State>) -> Response {
    let Some(place) = Place::take() else { return ApiError::Busy.into_response() };
    let mut changes = state.cache().changes();
    let stopping = state.stopping();
    // What is known by now is no change.
    changes.mark_unchanged();
    let begin = (place, changes, stopping, None::<Instant>);
    let events = stream::unfold(begin, |(place, mut changes, mut stopping, last)| async move {
        let next = async {
            if let Some(last) = last {
                tokio::time::sleep_until(last + PAUSE).await;
            }
            changes.changed().await.ok()?;
            Some(*changes.borrow_and_update())
        };
        let version = tokio::select! {
            version = next => version?,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        let event = Event::default().event("version").data(version.to_string());
        Some((Ok::<_, Infallible>(event), (place, changes, stopping, Some(Instant::now()))))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would keep words back until it has a page of them.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
