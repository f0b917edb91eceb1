//! The query of a request as typed, checked parameters. What nobody knows is refused by name: a
//! misspelt filter that is passed over would answer another question than was asked.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Like axum's `Query`, with our own errors.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Params(params)),
            Err(err) => {
                let why = err.body_text();
                let why = why.strip_prefix("Failed to deserialize query string: ").unwrap_or(&why);
                Err(ApiError::BadParameter { parameter: "query", why: why.to_owned() })
            }
        }
    }
}

/// A parameter that can't be used.
pub fn bad(parameter: &'static str, why: impl Into<String>) -> ApiError {
    ApiError::BadParameter { parameter, why: why.into() }
}
