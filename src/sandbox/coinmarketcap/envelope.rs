//! The frame around every answer: `status`, and `data` where there is any.

use super::super::answer::Answer;
use super::super::clock::write_time;
use super::super::json::{integer, key, plain_string};
use super::super::market::hash::mix;

const CACHE: &str = "private, max-age=0";

/// How the frame is written.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// The newer paths write `data` first, and codes as text.
    pub modern: bool,
    pub at: i64,
}

impl Envelope {
    /// What stands before the data.
    pub fn opening(self, credits: u32, total: Option<usize>) -> Vec<u8> {
        let mut out = b"{".to_vec();
        if !self.modern {
            self.status(&mut out, 0, "", credits, total);
        }
        key(&mut out, "data");
        out
    }

    /// What stands behind the data.
    pub fn closing(self, credits: u32, total: Option<usize>) -> Vec<u8> {
        // The data ends with a bracket, so that a comma has to come before the next member.
        let mut out = Vec::new();
        if self.modern {
            self.status(&mut out, 0, "", credits, total);
        }
        out.push(b'}');
        out
    }

    /// An answer with data.
    pub fn answer(self, data: &[u8], credits: u32, total: Option<usize>) -> Answer {
        let (opening, closing) = (self.opening(credits, total), self.closing(credits, total));
        Answer::json([&opening, data, &closing].concat(), CACHE)
    }

    /// An error: no data, no credits.
    pub fn error(self, status: u16, code: u32, message: &str) -> Answer {
        let mut out = b"{".to_vec();
        self.status(&mut out, code, message, 0, None);
        out.push(b'}');
        Answer::error(status, out)
    }

    /// 400, whose code is the status itself.
    pub fn invalid(self, message: &str) -> Answer {
        self.error(400, 400, message)
    }

    fn status(self, out: &mut Vec<u8>, code: u32, message: &str, credits: u32, total: Option<usize>) {
        key(out, "status");
        out.push(b'{');
        key(out, "timestamp");
        out.push(b'"');
        write_time(out, self.at);
        out.push(b'"');
        key(out, "error_code");
        match self.modern {
            true => plain_string(out, &code.to_string()),
            false => integer(out, i64::from(code)),
        }
        key(out, "error_message");
        match message {
            "" if !self.modern => out.extend_from_slice(b"null"),
            message => plain_string(out, message),
        }
        key(out, "elapsed");
        integer(out, 5 + (mix(0xe1a, self.at as u64, 0) % 40) as i64);
        key(out, "credit_count");
        integer(out, i64::from(credits));
        if !self.modern {
            out.extend_from_slice(b",\"notice\":null");
        }
        if let Some(total) = total {
            key(out, "total_count");
            integer(out, total as i64);
        }
        out.push(b'}');
    }
}
