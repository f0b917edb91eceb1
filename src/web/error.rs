//! Errors as pages.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::layout::{self, Shell};
use crate::api::{ApiError, reply};

/// How soon a page that could not be made asks again, in seconds.
const RETRY_S: u16 = 5;

/// An error as a page with the error's status.
pub struct PageError {
    err: ApiError,
    /// In place of the error's own.
    message: Option<String>,
}

impl PageError {
    /// 404, and what is not there.
    pub fn unknown(message: String) -> PageError {
        PageError { err: ApiError::UnknownPath(String::new()), message: Some(message) }
    }
}

impl From<ApiError> for PageError {
    fn from(err: ApiError) -> Self {
        PageError { err, message: None }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let PageError { err, message } = self;
        let (status, message) = (err.status(), message.unwrap_or_else(|| err.body().message));
        let is_passing = status.is_server_error();
        let (title, words) = match &err {
            ApiError::Database(_) => ("The database does not answer", database_words()),
            ApiError::Busy => {
                ("Too much at once", html! { p { "The page is asked for again by itself in a moment." } })
            }
            ApiError::UnknownPath(_) => ("There is nothing here", html! {}),
            ApiError::BadParameter { .. } => {
                ("That can't be shown", html! { p { "Something in the address is not usable." } })
            }
            _ => ("Something went wrong", html! { p { "The page is asked for again by itself in a moment." } }),
        };
        let body = html! {
            div.notice.card {
                h1 { (title) }
                p.message { (message) }
                (words)
                p { a.button href="/" { "All coins" } }
            }
        };
        let shell = Shell { title, here: "", retry_s: is_passing.then_some(RETRY_S), ..Shell::default() };
        let page = layout::page(&shell, body).into_string();
        let mut response = (status, [(header::CONTENT_TYPE, reply::HTML)], page).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if is_passing {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_S));
        }
        response
    }
}

fn database_words() -> Markup {
    html! {
        p { "Nothing is lost: this page only reads. It is asked for again by itself every few seconds, and comes back "
            "when the database does." }
        p { "If it stays away, " code { "coinetl doctor" } " tells what is wrong and what to do." }
    }
}
