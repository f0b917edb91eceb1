//! What happens to every request and every answer.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::error::ApiError;
use super::metrics;
use super::state::State;

/// Nothing comes from elsewhere, and nobody else frames it. Styles are inline in charts and in the API's page.
const POLICY: &str = "default-src 'self'; script-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// How long an answer may take beyond its read: for waiting in turn and for writing it down.
const SLACK: Duration = Duration::from_secs(10);

const SECURE: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub fn around(router: Router<State>, state: &State) -> Router<State> {
    let longest = state.options().longest_read + SLACK;
    let mut router = router.method_not_allowed_fallback(wrong_method);
    if let Some(limit) = NonZeroU32::new(state.options().rate_limit) {
        let limiter = Arc::new(RateLimiter::keyed(Quota::per_second(limit)));
        tokio::spawn(forget_old(Arc::downgrade(&limiter)));
        router = router.layer(middleware::from_fn(move |request, next| limited(limiter.clone(), request, next)));
    }
    let mut router = router
        .layer(middleware::from_fn(move |request, next| timed(longest, request, next)))
        .layer(CatchPanicLayer::custom(|_| ApiError::Broken.into_response()))
        .layer(middleware::from_fn_with_state(state.clone(), metrics::measured));
    for (name, value) in SECURE {
        router = router.layer(SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value)));
    }
    router
}

/// The same headers for an answer that comes another way.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURE {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn wrong_method(method: Method) -> ApiError {
    ApiError::Method(method.to_string())
}

async fn timed(longest: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(longest, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Busy.into_response(),
    }
}

async fn limited(limiter: Arc<DefaultKeyedRateLimiter<IpAddr>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    match peer.map(|peer| limiter.check_key(&peer)) {
        Some(Err(until)) => {
            let retry_s = until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
            ApiError::TooMany { retry_s }.into_response()
        }
        _ => next.run(request).await,
    }
}

/// Addresses that are well within their limit need not be remembered.
async fn forget_old(limiter: std::sync::Weak<DefaultKeyedRateLimiter<IpAddr>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let Some(limiter) = limiter.upgrade() else { return };
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}
