//! An answer before it goes on the wire.

/// Status, headers and body, free of any HTTP library.
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub cache_control: &'static str,
    /// Seconds.
    pub retry_after: Option<u64>,
    pub content: Content,
}

pub enum Content {
    Whole(Vec<u8>),
    /// Made piece by piece while it is sent, for answers that are too large to hold.
    Pieces(Box<dyn Iterator<Item = Vec<u8>> + Send>),
}

const JSON: &str = "application/json; charset=utf-8";
const UNCACHED: &str = "private, max-age=0, no-store, no-cache, must-revalidate";

impl Answer {
    /// 200 with JSON that may be kept for a while.
    pub fn json(body: Vec<u8>, cache_control: &'static str) -> Answer {
        Answer { status: 200, content_type: JSON, cache_control, retry_after: None, content: Content::Whole(body) }
    }

    /// An error with a JSON body.
    pub fn error(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, ..Answer::json(body.into(), UNCACHED) }
    }

    /// Anything that is not JSON.
    pub fn text(status: u16, content_type: &'static str, body: &str) -> Answer {
        Answer { content_type, ..Answer::error(status, body) }
    }

    /// The body, made at once also where it would come in pieces.
    pub fn whole(self) -> Vec<u8> {
        match self.content {
            Content::Whole(body) => body,
            Content::Pieces(pieces) => pieces.flatten().collect(),
        }
    }
}
