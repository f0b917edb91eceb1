//! Answers onto the wire: headers, compression, and bodies that break on request.

use std::convert::Infallible;
use std::io::{self, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, Response, StatusCode};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{self, Stream};
use tokio::sync::{mpsc, watch};

use super::answer::{Answer, Content};
use super::vendor::Endless;

/// Bodies below this size are not worth compressing.
const COMPRESSED_FROM: usize = 1_024;

/// What happens to a body on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    None,
    /// Ends early, with framing that fits.
    Truncated,
    /// Ends early, and the connection with it.
    Dropped,
}

/// Whether the client takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    let mut codings = accepted.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").map(str::parse) == Some(Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Makes the response. Compresses, so call it where blocking is allowed.
pub fn response(answer: Answer, gzip: bool, damage: Damage) -> Response<Body> {
    let (body, length, gzip) = match answer.content {
        Content::Whole(bytes) => whole(bytes, gzip, damage),
        Content::Pieces(pieces) => (pieced(pieces, gzip, damage), None, gzip),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed(answer.content_type));
    headers.insert(header::CACHE_CONTROL, fixed(answer.cache_control));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*"));
    headers.insert(header::VARY, fixed("Accept-Encoding, Origin"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, fixed("gzip"));
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The same records again and again, until the client or the server gives up.
pub fn endless(records: Endless, stop: watch::Receiver<bool>) -> Response<Body> {
    let (first, again) = (Bytes::from(records.first), Bytes::from(records.again));
    let chunks = stream::unfold(Some(first), move |next| {
        let (again, stopped) = (again.clone(), *stop.borrow());
        async move {
            let chunk = next.filter(|_| !stopped)?;
            Some((Ok::<_, Infallible>(chunk), Some(again)))
        }
    });
    let answer = Answer::json(Vec::new(), "public, max-age=60");
    let mut response = response(answer, false, Damage::None);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from_stream(chunks);
    response
}

/// Body, its announced length, and whether it was compressed.
fn whole(mut bytes: Vec<u8>, gzip: bool, damage: Damage) -> (Body, Option<usize>, bool) {
    if damage == Damage::Truncated {
        bytes.truncate(bytes.len() / 2);
    }
    let gzip = gzip && bytes.len() >= COMPRESSED_FROM;
    if gzip {
        bytes = compressed(bytes);
    }
    let length = bytes.len();
    if damage == Damage::Dropped {
        bytes.truncate(length / 2);
        let half = stream::iter([Ok(Bytes::from(bytes))]);
        return (Body::from_stream(broken(half)), Some(length), gzip);
    }
    (Body::from(bytes), Some(length), gzip)
}

fn compressed(bytes: Vec<u8>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::fast());
    match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
        Ok(bytes) => bytes,
        // A Vec takes everything.
        Err(_) => bytes,
    }
}

/// A body whose pieces are made, and compressed, only as fast as the client takes them.
fn pieced(pieces: Box<dyn Iterator<Item = Vec<u8>> + Send>, gzip: bool, damage: Damage) -> Body {
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let half = pieces.size_hint().0 / 2;
    tokio::task::spawn_blocking(move || {
        let mut encoder = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        for (n, mut piece) in pieces.enumerate() {
            let cut = damage != Damage::None && n >= half;
            if cut {
                piece.truncate(piece.len() / 2);
            }
            if let Some(encoder) = &mut encoder {
                if encoder.write_all(&piece).is_err() {
                    return;
                }
                piece = std::mem::take(encoder.get_mut());
            }
            // Fails when the client has gone.
            if sender.blocking_send(Bytes::from(piece)).is_err() {
                return;
            }
            if cut {
                break;
            }
        }
        if let Some(Ok(rest)) = encoder.map(GzEncoder::finish) {
            let _ = sender.blocking_send(Bytes::from(rest));
        }
    });
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, io::Error>(chunk), receiver))
    });
    match damage {
        Damage::Dropped => Body::from_stream(broken(chunks)),
        Damage::None | Damage::Truncated => Body::from_stream(chunks),
    }
}

/// A stream that fails after its last piece, which closes the connection.
fn broken(
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    use futures::StreamExt;
    chunks.chain(stream::once(async {
        // Lets the first part reach the client before the end does.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_for_those_who_take_it() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip"));
        assert!(accepts("br, GZIP;q=0.5"));
        assert!(!accepts("br, gzip;q=0"));
        assert!(!accepts("identity"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
