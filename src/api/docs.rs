//! `/openapi.json`, made of the code, and `/docs`, which shows it: all of it out of the binary.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::error::ApiError;
use super::reply::{Answer, Draft};
use super::state::State;

const DOCUMENT: &str = "/openapi.json";

/// The paths that describe the others.
pub fn router(document: &OpenApi) -> Router<State> {
    // Types of ours with plain texts always make JSON.
    let document = document.to_pretty_json().unwrap_or_default();
    let document = Arc::new(Answer::new(Draft::text(super::reply::JSON, document, None), 0));
    let show = async move |headers: HeaderMap| document.response(&headers).await;
    Router::new()
        .route(DOCUMENT, get(show))
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(page))
        .route("/docs/{*file}", get(page))
}

/// The page, its script and its styles.
async fn page(file: Option<Path<String>>, uri: Uri) -> Result<Response, ApiError> {
    // Nobody elsewhere is asked whether the document is right.
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::new([DOCUMENT]).validator_url("none").try_it_out_enabled(true)));
    let file = file.map(|Path(file)| file).unwrap_or_default();
    match utoipa_swagger_ui::serve(&file, CONFIG.clone()) {
        Ok(Some(file)) => {
            let mut headers = HeaderMap::new();
            if let Ok(content_type) = file.content_type.parse() {
                headers.insert(header::CONTENT_TYPE, content_type);
            }
            if file.gzpipped {
                headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
            }
            headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
            Ok((StatusCode::OK, headers, file.bytes.into_owned()).into_response())
        }
        Ok(None) => Err(ApiError::UnknownPath(uri.path().to_owned())),
        Err(err) => {
            log::error!("the page of the API can't be made: {err}");
            Err(ApiError::Broken)
        }
    }
}
