//! From what a read found to an HTTP answer: the body once for all who ask, its hash, its age.

use std::io::Write;
use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use crate::db::version::Version;
use crate::domain::Stamp;

/// When the newest of the data in the answer was observed, as a time.
pub const AS_OF: HeaderName = HeaderName::from_static("x-coinetl-as-of");
/// The same in seconds before now.
pub const AGE: HeaderName = HeaderName::from_static("x-coinetl-age");

/// Smaller bodies gain nothing by being packed.
const WORTH_PACKING: usize = 1_400;

/// What a read found, before it is an answer.
#[derive(Debug)]
pub struct Draft {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    as_of: Option<Stamp>,
}

impl Draft {
    /// JSON; `as_of` is the newest time in it.
    pub fn json(value: &impl Serialize, as_of: Option<Stamp>) -> Result<Draft, ApiError> {
        let body = serde_json::to_vec(value).map_err(|err| {
            log::error!("an answer can't be written as JSON: {err}");
            ApiError::Broken
        })?;
        Ok(Draft { status: StatusCode::OK, content_type: JSON, body, as_of })
    }

    pub fn text(content_type: &'static str, body: String, as_of: Option<Stamp>) -> Draft {
        Draft { status: StatusCode::OK, content_type, body: body.into_bytes(), as_of }
    }

    /// 204: the question is fine and nothing is stored that answers it.
    pub fn none() -> Draft {
        Draft { status: StatusCode::NO_CONTENT, content_type: "", body: Vec::new(), as_of: None }
    }
}

/// An answer that many may get.
#[derive(Debug)]
pub struct Answer {
    pub version: Version,
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    packed: OnceLock<Bytes>,
    etag: HeaderValue,
    as_of: Option<Stamp>,
}

impl Answer {
    pub fn new(mut draft: Draft, version: Version) -> Answer {
        // Grown by doubling, it may be half empty.
        draft.body.shrink_to_fit();
        // Weak: the packed form has other bytes.
        let etag = format!("W/\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(&draft.body));
        Answer {
            version,
            status: draft.status,
            content_type: draft.content_type,
            body: Bytes::from(draft.body),
            packed: OnceLock::new(),
            etag: HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("W/\"\"")),
            as_of: draft.as_of,
        }
    }

    /// Bytes of the body.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// About what it takes in memory.
    pub fn weight(&self) -> u32 {
        // The packed form is made later, and a fifth of the size at most times.
        u32::try_from(self.body.len() + self.body.len() / 4 + 512).unwrap_or(u32::MAX)
    }

    /// As this request wants it: not at all where it has it, packed where it can read that.
    pub async fn response(self: std::sync::Arc<Self>, request: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        let unchanged = self.status == StatusCode::OK && self.is_known_to(request);
        *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { self.status };
        let body = match (unchanged, self.status) {
            (false, StatusCode::OK) if self.body.len() >= WORTH_PACKING && takes_gzip(request) => {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Some(self.clone().packed().await)
            }
            (false, StatusCode::OK) => Some(self.body.clone()),
            _ => None,
        };
        let headers = response.headers_mut();
        if let Some(body) = &body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if self.status == StatusCode::OK {
            headers.insert(header::ETAG, self.etag.clone());
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        // Ask again each time, and hear 304: so nobody shows older data than another has seen.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(as_of) = self.as_of {
            let age = (chrono::Utc::now().timestamp_millis() - as_of.millis()).max(0) / 1000;
            headers.insert(AGE, HeaderValue::from(age));
            if let Ok(as_of) = HeaderValue::from_str(&rfc3339(as_of)) {
                headers.insert(AS_OF, as_of);
            }
        }
        if let Some(body) = body {
            *response.body_mut() = Body::from(body);
        }
        response.extensions_mut().insert(self);
        response
    }

    fn is_known_to(&self, request: &HeaderMap) -> bool {
        let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let ours = self.etag.to_str().unwrap_or_default().trim_start_matches("W/");
        known
            .flat_map(|tags| tags.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.trim_start_matches("W/") == ours)
    }

    async fn packed(self: std::sync::Arc<Self>) -> Bytes {
        if let Some(packed) = self.packed.get() {
            return packed.clone();
        }
        let answer = self.clone();
        // Megabytes take milliseconds. Where two do it at once, one of them wins.
        let packed = tokio::task::spawn_blocking(move || answer.packed.get_or_init(|| pack(&answer.body)).clone());
        packed.await.unwrap_or_else(|_| self.body.clone())
    }

    /// For another server: everything as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let as_of = self.as_of.map_or(i64::MIN, Stamp::millis);
        let mut bytes = Vec::with_capacity(self.body.len() + 64);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.status.as_u16().to_le_bytes());
        bytes.extend(as_of.to_le_bytes());
        bytes.push(u8::try_from(self.content_type.len()).unwrap_or_default());
        bytes.extend(self.content_type.as_bytes());
        bytes.extend(&self.body);
        bytes
    }

    /// What [`Answer::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Answer> {
        let (version, rest) = bytes.split_first_chunk::<8>()?;
        let (status, rest) = rest.split_first_chunk::<2>()?;
        let (as_of, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first()?;
        let (content_type, body) = rest.split_at_checked(usize::from(*length))?;
        let content_type = CONTENT_TYPES.into_iter().find(|known| known.as_bytes() == content_type)?;
        let as_of = i64::from_le_bytes(*as_of);
        let draft = Draft {
            status: StatusCode::from_u16(u16::from_le_bytes(*status)).ok()?,
            content_type,
            body: body.to_vec(),
            as_of: if as_of == i64::MIN { None } else { Some(Stamp::from_millis(as_of).ok()?) },
        };
        Some(Answer::new(draft, u64::from_le_bytes(*version)))
    }
}

/// What answers are made of.
pub const JSON: &str = "application/json";
pub const HTML: &str = "text/html; charset=utf-8";
pub const SVG: &str = "image/svg+xml";
const CONTENT_TYPES: [&str; 4] = ["", JSON, HTML, SVG];

/// A time as the API writes it: UTC, milliseconds.
pub fn rfc3339(stamp: Stamp) -> String {
    stamp.rfc3339()
}

pub fn takes_gzip(request: &HeaderMap) -> bool {
    let all = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused =
            parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)));
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

pub fn pack(body: &[u8]) -> Bytes {
    let mut packer = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    // Writing into memory does not fail.
    let _ = packer.write_all(body);
    Bytes::from(packer.finish().unwrap_or_default())
}
