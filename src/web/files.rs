//! The style sheet and the script: under names that tell their content, so that a browser keeps them for good.

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::{ApiError, reply};
use crate::plot::{self, Theme};

pub struct File {
    pub name: String,
    content_type: &'static str,
    body: Bytes,
    packed: Bytes,
}

pub static STYLE: LazyLock<File> = LazyLock::new(|| {
    let (light, dark) = (plot::variables(Theme::Light), plot::variables(Theme::Dark));
    let text = include_str!("static/app.css");
    // Charts take their colours from the theme, which is the system's or the one that was chosen.
    let colours = format!(
        ":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         :root[data-theme=dark]{{{dark}}}\n"
    );
    File::new("app", "css", "text/css; charset=utf-8", format!("{colours}{}\n{text}", plot::PAGE_CSS))
});

pub static SCRIPT: LazyLock<File> = LazyLock::new(|| {
    File::new("app", "js", "text/javascript; charset=utf-8", include_str!("static/app.js").to_owned())
});

static ICON: LazyLock<File> =
    LazyLock::new(|| File::new("icon", "svg", reply::SVG, include_str!("static/icon.svg").to_owned()));

impl File {
    fn new(stem: &str, ending: &str, content_type: &'static str, text: String) -> File {
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let packed = reply::pack(text.as_bytes());
        File { name: format!("{stem}.{hash:016x}.{ending}"), content_type, body: Bytes::from(text), packed }
    }

    pub fn address(&self) -> String {
        format!("/static/{}", self.name)
    }

    fn response(&self, request: &HeaderMap, kept: &'static str) -> Response {
        let is_packed = reply::takes_gzip(request);
        let body = if is_packed { self.packed.clone() } else { self.body.clone() };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if is_packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// A name that is no text is none of ours either.
pub async fn file(name: Result<Path<String>, PathRejection>, uri: Uri, request: HeaderMap) -> Response {
    let known: [&File; 3] = [&STYLE, &SCRIPT, &ICON];
    match name.ok().and_then(|Path(name)| known.into_iter().find(|file| file.name == name)) {
        Some(file) => file.response(&request, "public, max-age=31536000, immutable"),
        None => ApiError::UnknownPath(uri.path().to_owned()).into_response(),
    }
}

pub async fn icon(request: HeaderMap) -> Response {
    ICON.response(&request, "public, max-age=86400")
}

pub fn icon_address() -> String {
    ICON.address()
}
