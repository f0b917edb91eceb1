//! What the server needs of a vendor: its rules, its answers, and its way of failing.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method};

use super::answer::Answer;
use super::faults::{FaultKind, Struck};
use super::market::Market;

/// One request.
#[derive(Debug)]
pub struct Call {
    pub market: Arc<Market>,
    /// The market's time, in milliseconds since 1970.
    pub at: i64,
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub peer: IpAddr,
}

impl Call {
    /// Whether the request only reads, which is all that any vendor serves here.
    pub fn reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// A header's value. One that is no text is there all the same, and wrong.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap_or("?"))
    }

    /// Whether the client says who it is.
    pub fn has_agent(&self) -> bool {
        self.headers.get("user-agent").is_some_and(|agent| !agent.as_bytes().trim_ascii().is_empty())
    }
}

/// The parts of a body that never ends.
pub struct Endless {
    pub first: Vec<u8>,
    /// Comes again and again.
    pub again: Vec<u8>,
}

impl Endless {
    /// From an answer whose last bytes close its records, `opening` bytes after its beginning.
    pub fn of(mut whole: Vec<u8>, opening: usize, closing: usize) -> Endless {
        whole.truncate(whole.len().saturating_sub(closing));
        let again = [b",", &whole[opening.min(whole.len())..]].concat();
        Endless { first: whole, again }
    }
}

/// A vendor: shapes and rules, over a market that is not its own.
pub trait Vendor: Send + Sync {
    /// Refuses what the vendor refuses before it looks at the request itself.
    fn admit(&self, call: &Call) -> Result<(), Answer>;

    /// Whether a kind of fault can happen to a request at all.
    fn meets(&self, _kind: FaultKind, _call: &Call) -> bool {
        true
    }

    /// The answer of a fault that needs nothing of the real answer.
    fn canned(&self, struck: Struck, call: &Call) -> Option<Answer>;

    /// Answers; never fails, since a refusal is an answer too. What struck changes the data.
    fn answer(&self, call: &Call, struck: Option<Struck>) -> Answer;

    /// Real records without an end.
    fn endless(&self, call: &Call) -> Endless;
}
