//! The vendor's rules, kept strictly: who may ask, with which key, how often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;

use super::answer::Answer;
use super::clock::write_time;
use super::faults::{FaultKind, canned};

const MINUTE: Duration = Duration::from_secs(60);
const DEMO: &str = "x-cg-demo-api-key";
const PRO: &str = "x-cg-pro-api-key";

/// Calls of the running minute of each caller. Real time, also when the market's clock is
/// frozen or fast: it is the client that is being limited.
#[derive(Debug)]
pub struct Rules {
    calls_per_minute: u32,
    callers: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Rules {
    /// `calls_per_minute` 0 is no limit.
    pub fn new(calls_per_minute: u32) -> Rules {
        Rules { calls_per_minute, callers: Mutex::default() }
    }

    /// Refuses what CoinGecko refuses before it looks at the request itself.
    pub fn coingecko(
        &self,
        headers: &HeaderMap,
        query: &[(String, String)],
        peer: IpAddr,
        now: i64,
    ) -> Result<(), Answer> {
        let agent = headers.get("user-agent");
        if agent.is_none_or(|agent| agent.as_bytes().trim_ascii().is_empty()) {
            return Err(Answer::text(
                403,
                "text/plain; charset=utf-8",
                "Forbidden: please set a descriptive User-Agent header (name/version and how to reach you). \
                 For dependable access see the API plans.\n",
            ));
        }
        let demo = key(headers, query, DEMO);
        let pro = key(headers, query, PRO);
        let caller = pro.or(demo).map_or_else(|| peer.to_string(), str::to_owned);
        if let Some(seconds) = self.wait(caller, Instant::now()) {
            let limited = canned(FaultKind::TooManyBare).unwrap_or(Answer::error(429, ""));
            return Err(Answer { retry_after: Some(seconds), ..limited });
        }
        if demo.is_some() && pro.is_some() {
            return Err(coded(
                400,
                10010,
                now,
                "both a demo key and a pro key were sent; a pro key belongs to pro-api.coingecko.com",
            ));
        }
        if demo.or(pro).is_some_and(|key| !key.starts_with("CG-")) {
            let mut body = b"{\"status\":{\"timestamp\":\"".to_vec();
            write_time(&mut body, now);
            body.extend_from_slice(
                br#"","error_code":10002,"error_message":"API Key Missing. Please make sure you're using the right authentication method."}}"#,
            );
            return Err(Answer::error(401, body));
        }
        Ok(())
    }

    /// Counts a call; tells how many seconds to wait if it is one too many.
    fn wait(&self, caller: String, now: Instant) -> Option<u64> {
        if self.calls_per_minute == 0 {
            return None;
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() > 10_000 {
            callers.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        let (since, calls) = callers.entry(caller).or_insert((now, 0));
        if now.duration_since(*since) >= MINUTE {
            (*since, *calls) = (now, 0);
        }
        *calls = calls.saturating_add(1);
        let left = MINUTE.saturating_sub(now.duration_since(*since));
        (*calls > self.calls_per_minute).then(|| left.as_millis().div_ceil(1_000).max(1) as u64)
    }
}

/// The vendor's error with a code of its own beside the HTTP status.
pub fn coded(status: u16, code: i64, now: i64, message: &str) -> Answer {
    let mut body = b"{\"timestamp\":\"".to_vec();
    write_time(&mut body, now);
    body.extend_from_slice(b"\",\"error_code\":");
    super::json::integer(&mut body, code);
    body.extend_from_slice(b",\"status\":{\"error_message\":");
    super::json::string(&mut body, message);
    body.extend_from_slice(b"}}");
    Answer::error(status, body)
}

/// A key from its header, or from the query parameter of the same name with underscores.
fn key<'a>(headers: &'a HeaderMap, query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    // A header that is no text is a key all the same: a wrong one.
    let header = headers.get(name).map(|key| key.to_str().unwrap_or("?"));
    header.or_else(|| {
        let parameter = name.replace('-', "_");
        let given = query.iter().find(|(name, _)| *name == parameter);
        given.map(|(_, key)| key.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::answer::Content;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ask(rules: &Rules, headers: &[(&'static str, &str)]) -> Option<(u16, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let refused = rules.coingecko(&map, &[], PEER, 0).err()?;
        let Content::Whole(body) = refused.content else { panic!("an error in pieces") };
        Some((refused.status, String::from_utf8(body).unwrap()))
    }

    #[test]
    fn a_user_agent_is_required() {
        let rules = Rules::new(0);
        assert_eq!(ask(&rules, &[]).unwrap().0, 403);
        assert_eq!(ask(&rules, &[("user-agent", " ")]).unwrap().0, 403);
        assert_eq!(ask(&rules, &[("user-agent", "a/1")]), None);
    }

    #[test]
    fn keys_are_checked() {
        let rules = Rules::new(0);
        let agent = ("user-agent", "a/1");
        for header in [DEMO, PRO] {
            assert_eq!(ask(&rules, &[agent, (header, "CG-right")]), None);
            let (status, body) = ask(&rules, &[agent, (header, "wrong")]).unwrap();
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &json["status"]["error_code"]), (401, &10002.into()));
        }
        let (status, body) = ask(&rules, &[agent, (DEMO, "CG-a"), (PRO, "CG-b")]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &json["error_code"]), (400, &10010.into()));
        assert!(json["status"]["error_message"].is_string());
    }

    #[test]
    fn calls_are_counted_for_each_caller_and_minute() {
        let rules = Rules::new(2);
        let now = Instant::now();
        let call = |caller: &str, after| rules.wait(caller.to_owned(), now + after);
        assert_eq!(call("a", Duration::ZERO), None);
        assert_eq!(call("a", Duration::from_secs(20)), None);
        assert_eq!(call("a", Duration::from_millis(20_500)), Some(40));
        assert_eq!(call("b", Duration::from_secs(21)), None);
        assert_eq!(call("a", Duration::from_secs(60)), None);
    }
}
