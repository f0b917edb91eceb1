//! Coinbase Exchange's public REST API over the generated market: products, their figures and candles;
//! and its [`feed`].
//!
//! No key, but a `User-Agent`. A query is refused rather than ignored, so that nobody is misled.
//! The answers carry no time of their own but a `Date` header, which is the market's.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::answer::Answer;
use super::clock::write_time;
use super::faults::{self, FaultKind, Spoiler, Struck};
use super::json;
use super::limits::Minutes;
use super::market::Market;
use super::vendor::{Call, Endless, Vendor};

mod candles;
mod catalogue;
pub mod feed;
mod figures;
mod record;

use catalogue::{Catalogue, Product, Standing};
use figures::Figures;
use record::{SPOILT, SPOILT_FIGURES};

const BULK: &str = "/products/stats";
const CACHE: &str = "public, max-age=5";
const TICKER_CACHE: &str = "public, max-age=1";

/// Whether a path is one of this vendor's.
pub fn serves(path: &str) -> bool {
    path == "/time" || path == "/products" || path.starts_with("/products/")
}

/// Coinbase, with the calls of its callers.
#[derive(Debug)]
pub struct Coinbase {
    minutes: Minutes,
    catalogue: OnceLock<Arc<Catalogue>>,
}

impl Coinbase {
    /// `calls_per_minute` 0 is no limit.
    pub fn new(calls_per_minute: u32) -> Coinbase {
        Coinbase { minutes: Minutes::new(calls_per_minute), catalogue: OnceLock::new() }
    }

    /// The products, which depend on nothing but the market.
    pub fn catalogue(&self, market: &Market) -> &Arc<Catalogue> {
        self.catalogue.get_or_init(|| Arc::new(Catalogue::new(market)))
    }
}

impl Vendor for Coinbase {
    fn admit(&self, call: &Call) -> Result<(), Answer> {
        if !call.has_agent() {
            return Err(error(400, "User-Agent header is required."));
        }
        match self.minutes.wait(call.peer.to_string(), Instant::now()) {
            // How long to wait is not told.
            Some(_) => Err(limited()),
            None => Ok(()),
        }
    }

    fn meets(&self, kind: FaultKind, call: &Call) -> bool {
        kind != FaultKind::Gone || call.path == BULK
    }

    fn canned(&self, struck: Struck, call: &Call) -> Option<Answer> {
        let answer = match struck.kind {
            FaultKind::TooMany => Answer { retry_after: Some(1), ..limited() },
            FaultKind::TooManyBare | FaultKind::Spent => limited(),
            FaultKind::Internal => error(500, "Internal server error"),
            FaultKind::ErrorIn200 => error(200, "Internal server error"),
            FaultKind::Gone => not_found(),
            FaultKind::Html => faults::html(),
            FaultKind::Empty => {
                let listed = matches!(call.path.as_str(), "/products" | "/products/volume-summary");
                let array = listed || of_candles(&call.path).is_some();
                Answer::json(if array { b"[]".to_vec() } else { b"{}".to_vec() }, CACHE)
            }
            _ => return None,
        };
        Some(answer)
    }

    fn answer(&self, call: &Call, struck: Option<Struck>) -> Answer {
        if !call.reads() {
            return not_found();
        }
        let request = Request { market: &call.market, catalogue: self.catalogue(&call.market), at: call.at, struck };
        if let Some(id) = of_candles(&call.path) {
            let product = request.catalogue.find(id).ok_or_else(not_found);
            return product.and_then(|product| request.candles(product, &call.query)).unwrap_or_else(|refused| refused);
        }
        if let Some((name, _)) = call.query.first() {
            return error(400, &format!("the sandbox does not serve {name}"));
        }
        match call.path.as_str() {
            "/time" => request.time(),
            "/products" => request.products(),
            BULK => request.bulk(),
            "/products/volume-summary" => request.volumes(),
            path => match path.strip_prefix("/products/") {
                Some(path) => request.one(path).unwrap_or_else(|refused| refused),
                None => not_found(),
            },
        }
    }

    fn endless(&self, call: &Call) -> Endless {
        let catalogue = self.catalogue(&call.market);
        let request = Request { market: &call.market, catalogue, at: call.at, struck: None };
        let answer = if call.path == BULK { request.bulk() } else { request.products() };
        Endless::of(answer.whole(), 1, 1)
    }
}

/// The product whose candles a path is of.
fn of_candles(path: &str) -> Option<&str> {
    path.strip_prefix("/products/")?.strip_suffix("/candles")
}

struct Request<'a> {
    market: &'a Arc<Market>,
    catalogue: &'a Catalogue,
    at: i64,
    /// A fault that changes the data itself.
    struck: Option<Struck>,
}

impl Request<'_> {
    fn time(&self) -> Answer {
        let mut out = b"{\"iso\":\"".to_vec();
        write_time(&mut out, self.at);
        out.extend_from_slice(b"\",\"epoch\":");
        json::plain_number(&mut out, self.at as f64 / 1_000.0);
        out.push(b'}');
        Answer::json(out, "private, max-age=0")
    }

    fn products(&self) -> Answer {
        let products = &self.catalogue.products;
        let spoiler = Spoiler::new(self.struck, products.len());
        let mut out = Vec::with_capacity(500 * products.len() + 2);
        out.push(b'[');
        for (n, product) in products.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            record::product(&mut out, product, self.at, spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT)));
        }
        out.push(b']');
        Answer::json(out, CACHE)
    }

    /// The figures of all products that are still listed.
    fn bulk(&self) -> Answer {
        let listed = self.listed();
        let spoiler = Spoiler::new(self.struck, listed.len());
        let mut out = b"{".to_vec();
        for (n, (product, figures)) in listed.iter().enumerate() {
            let spoilt = spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT_FIGURES));
            record::bulk(&mut out, product, figures, spoilt);
        }
        out.push(b'}');
        Answer::json(out, CACHE)
    }

    fn volumes(&self) -> Answer {
        let mut out = b"[".to_vec();
        for product in self.catalogue.products.iter().filter(|product| !product.is_delisted()) {
            if out.len() > 1 {
                out.push(b',');
            }
            record::volumes(&mut out, product, self.figures(product).as_ref());
        }
        out.push(b']');
        Answer::json(out, CACHE)
    }

    /// `{id}`, `{id}/ticker` or `{id}/stats`.
    fn one(&self, path: &str) -> Result<Answer, Answer> {
        let (id, what) = path.split_once('/').unwrap_or((path, ""));
        let product = self.catalogue.find(id).ok_or_else(not_found)?;
        let mut out = Vec::new();
        if what.is_empty() && !path.ends_with('/') {
            let spoilt = Spoiler::new(self.struck, 1).and_then(|spoiler| spoiler.of(0, &SPOILT));
            record::product(&mut out, product, self.at, spoilt);
            return Ok(Answer::json(out, CACHE));
        }
        let write = match what {
            "ticker" => record::ticker,
            "stats" => record::stats,
            _ => return Err(not_found()),
        };
        let figures = self.figures(product).ok_or_else(|| error(400, "Product is delisted"))?;
        let spoilt = Spoiler::new(self.struck, 1).and_then(|spoiler| spoiler.of(0, &SPOILT_FIGURES));
        write(&mut out, product, &figures, spoilt);
        Ok(Answer::json(out, if what == "ticker" { TICKER_CACHE } else { CACHE }))
    }

    fn listed(&self) -> Vec<(&Product, Figures)> {
        let figures = |product| Some((product, self.figures(product)?));
        self.catalogue.products.iter().filter_map(figures).collect()
    }

    /// None for a product that is delisted.
    fn figures(&self, product: &Product) -> Option<Figures> {
        match product.standing(self.at) {
            Standing::Delisted => None,
            _ => Figures::new(self.market, product, self.at),
        }
    }
}

fn error(status: u16, message: &str) -> Answer {
    let mut out = b"{\"message\":".to_vec();
    json::string(&mut out, message);
    out.push(b'}');
    Answer::error(status, out)
}

fn limited() -> Answer {
    error(429, "Public rate limit exceeded")
}

fn not_found() -> Answer {
    error(404, "NotFound")
}

#[cfg(test)]
mod tests;
