//! `/v1/key/info`: what a key may use, and has used. A limit that is none is null.

use super::super::answer::Answer;
use super::super::clock::next_month;
use super::Request;
use super::accounts::{Accounts, Caller};
use super::parameters::Parameters;
use super::record::{number, time};
use super::{integer, key, plain_string};

/// Answers; it costs nothing, and counts as a call.
pub fn answer(request: &Request<'_>, accounts: &Accounts, caller: &Caller) -> Result<Answer, Answer> {
    Parameters::new(request.query, request.envelope, &[], &[])?;
    let usage = accounts.usage(caller, request.at);
    let limit = |limit: u32| (limit > 0).then_some(f64::from(limit));
    let (calls, credits) = (limit(accounts.calls_per_minute), limit(accounts.credits_per_month));
    let left = |limit: Option<f64>, used: f64| limit.map(|limit| (limit - used).max(0.0));
    let reset = next_month(request.at);

    let mut out = b"{\"plan\":{".to_vec();
    number(&mut out, "credit_limit_monthly", credits);
    key(&mut out, "credit_limit_monthly_reset");
    plain_string(&mut out, &until(reset - request.at));
    key(&mut out, "credit_limit_monthly_reset_timestamp");
    time(&mut out, Some(reset));
    number(&mut out, "rate_limit_minute", calls);
    out.extend_from_slice(b"},\"usage\":{\"current_minute\":{");
    key(&mut out, "requests_made");
    integer(&mut out, i64::from(usage.calls));
    number(&mut out, "requests_left", left(calls, f64::from(usage.calls)));
    out.extend_from_slice(b"},\"current_day\":{");
    number(&mut out, "credits_used", Some(usage.day_credits as f64));
    number(&mut out, "credits_left", None);
    out.extend_from_slice(b"},\"current_month\":{");
    number(&mut out, "credits_used", Some(usage.month_credits as f64));
    number(&mut out, "credits_left", left(credits, usage.month_credits as f64));
    out.extend_from_slice(b"}}}");
    Ok(request.envelope.answer(&out, 0, None))
}

/// `In 6 days, 8 hours and 51 minutes`.
fn until(left: i64) -> String {
    let minutes = left / 60_000;
    format!("In {} days, {} hours and {} minutes", minutes / 1_440, minutes / 60 % 24, minutes % 60)
}
