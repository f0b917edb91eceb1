//! Who may ask, with which key, how often.

use std::time::Instant;

use super::super::answer::Answer;
use super::super::clock::write_time;
use super::super::limits::Minutes;
use super::super::vendor::Call;
use super::errors::{coded, limited};

const DEMO: &str = "x-cg-demo-api-key";
const PRO: &str = "x-cg-pro-api-key";

/// Refuses what CoinGecko refuses before it looks at the request itself.
pub fn admit(minutes: &Minutes, call: &Call) -> Result<(), Answer> {
    if !call.has_agent() {
        return Err(Answer::text(
            403,
            "text/plain; charset=utf-8",
            "Forbidden: please set a descriptive User-Agent header (name/version and how to reach you). \
             For dependable access see the API plans.\n",
        ));
    }
    let demo = key(call, DEMO);
    let pro = key(call, PRO);
    let caller = pro.or(demo).map_or_else(|| call.peer.to_string(), str::to_owned);
    if let Some(seconds) = minutes.wait(caller, Instant::now()) {
        return Err(Answer { retry_after: Some(seconds), ..limited(429) });
    }
    if demo.is_some() && pro.is_some() {
        let message = "both a demo key and a pro key were sent; a pro key belongs to pro-api.coingecko.com";
        return Err(coded(400, 10010, call.at, message));
    }
    if demo.or(pro).is_some_and(|key| !key.starts_with("CG-")) {
        let mut body = b"{\"status\":{\"timestamp\":\"".to_vec();
        write_time(&mut body, call.at);
        body.extend_from_slice(
            br#"","error_code":10002,"error_message":"API Key Missing. Please make sure you're using the right authentication method."}}"#,
        );
        return Err(Answer::error(401, body));
    }
    Ok(())
}

/// Whether the caller has a paid plan.
pub fn is_paid(call: &Call) -> bool {
    key(call, PRO).is_some()
}

/// A key from its header, or from the query parameter of the same name with underscores.
fn key<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.header(name).or_else(|| {
        let parameter = name.replace('-', "_");
        let given = call.query.iter().find(|(name, _)| *name == parameter);
        given.map(|(_, key)| key.as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::{HeaderMap, Method};

    use super::super::super::answer::Content;
    use super::super::super::market::Market;
    use super::*;

    fn ask(headers: &[(&'static str, &str)]) -> Option<(u16, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let call = Call {
            market: Arc::new(Market::new(1, 1)),
            at: 0,
            method: Method::GET,
            path: "/api/v3/ping".to_owned(),
            query: Vec::new(),
            headers: map,
            peer: [127, 0, 0, 1].into(),
        };
        let refused = admit(&Minutes::new(0), &call).err()?;
        let Content::Whole(body) = refused.content else { panic!("an error in pieces") };
        Some((refused.status, String::from_utf8(body).unwrap()))
    }

    #[test]
    fn a_user_agent_is_required() {
        assert_eq!(ask(&[]).unwrap().0, 403);
        assert_eq!(ask(&[("user-agent", " ")]).unwrap().0, 403);
        assert_eq!(ask(&[("user-agent", "a/1")]), None);
    }

    #[test]
    fn keys_are_checked() {
        let agent = ("user-agent", "a/1");
        for header in [DEMO, PRO] {
            assert_eq!(ask(&[agent, (header, "CG-right")]), None);
            let (status, body) = ask(&[agent, (header, "wrong")]).unwrap();
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &json["status"]["error_code"]), (401, &10002.into()));
        }
        let (status, body) = ask(&[agent, (DEMO, "CG-a"), (PRO, "CG-b")]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &json["error_code"]), (400, &10010.into()));
        assert!(json["status"]["error_message"].is_string());
    }
}
