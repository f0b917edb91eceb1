//! Keys, calls of a minute, credits of a month.

use super::*;

#[test]
fn keys_are_checked_where_they_are_needed() {
    let mut bench = bench(20);
    for key in [GOOD, "sandbox-one", "cmc-test-key"] {
        bench.key = Some(key);
        assert_eq!(bench.ask("/v1/key/info").0, 200, "{key}");
    }
    bench.key = Some("wrong-key-of-mine");
    assert_eq!(bench.refusal("/v1/cryptocurrency/map"), (401, 1001.into()));
    bench.key = None;
    assert_eq!(bench.refusal("/v1/cryptocurrency/map"), (401, 1002.into()));
    assert_eq!(bench.refusal("/v3/cryptocurrency/listings/latest"), (401, "1002".into()));
    assert_eq!(bench.refusal("/public-api/v1/key/info"), (403, "1005".into()));
    for path in [
        "v1/cryptocurrency/map",
        "v1/cryptocurrency/listings/latest",
        "v3/cryptocurrency/listings/latest",
        "v3/cryptocurrency/quotes/latest?id=1",
        "v2/cryptocurrency/quotes/latest?id=1",
        "v1/global-metrics/quotes/latest",
    ] {
        let (status, json) = bench.ask(&format!("/public-api/{path}"));
        assert_eq!((status, &json["status"]["error_code"]), (200, &"0".into()), "{path}");
        assert_eq!(json["status"]["credit_count"], 0);
    }
}

#[test]
fn credits_are_counted_until_the_month_is_spent() {
    let mut bench = bench(1_200);
    bench.vendor = CoinMarketCap::new(0, 6);
    let credits = |bench: &Bench, target: &str| bench.ask(target).1["status"]["credit_count"].as_u64();
    assert_eq!(credits(&bench, "/v1/cryptocurrency/map"), Some(0));
    assert_eq!(credits(&bench, "/v3/cryptocurrency/listings/latest?limit=201"), Some(2));
    assert_eq!(credits(&bench, "/v3/cryptocurrency/quotes/latest?id=1,2,9999999999"), Some(1));
    assert_eq!(credits(&bench, "/v1/global-metrics/quotes/latest"), Some(1));
    assert_eq!(credits(&bench, "/v1/cryptocurrency/listings/latest?limit=0"), Some(0));
    let info = bench.data("/v1/key/info");
    assert_eq!(info["plan"]["credit_limit_monthly"], 6);
    assert_eq!(info["plan"]["credit_limit_monthly_reset_timestamp"], "2026-12-01T00:00:00.000Z");
    assert_eq!(info["plan"]["rate_limit_minute"], Value::Null);
    assert_eq!(info["usage"]["current_month"], serde_json::json!({"credits_used": 4, "credits_left": 2}));
    // The last call may cost more than is left.
    assert_eq!(credits(&bench, "/v3/cryptocurrency/listings/latest?limit=1000"), Some(5));
    assert_eq!(bench.refusal("/v3/cryptocurrency/listings/latest"), (429, "1010".into()));
    assert_eq!(bench.refusal("/v1/cryptocurrency/listings/latest"), (429, 1010.into()));
    assert_eq!(bench.data("/v1/key/info")["usage"]["current_month"]["credits_left"], 0);
    assert_eq!(bench.ask("/v1/cryptocurrency/map").0, 200);
    // Another key, nobody at all, and the next month.
    bench.key = Some("cmc-test-key");
    assert_eq!(bench.ask("/v3/cryptocurrency/listings/latest").0, 200);
    bench.key = Some(GOOD);
    assert_eq!(bench.ask("/public-api/v3/cryptocurrency/listings/latest").0, 200);
    bench.at += 10 * DAY;
    assert_eq!(bench.ask("/v3/cryptocurrency/listings/latest").0, 200);
    assert_eq!(bench.data("/v1/key/info")["usage"]["current_month"]["credits_used"], 1);
}

#[test]
fn calls_of_a_minute_are_limited_for_each_key_and_address() {
    let mut bench = bench(10);
    bench.vendor = CoinMarketCap::new(3, 0);
    let mut statuses = Vec::new();
    // Eight calls in no time lie in two minutes at most, and one of those has more than three.
    for _ in 0..8 {
        statuses.push(bench.ask("/v1/key/info").1["status"]["error_code"].clone());
    }
    assert!(statuses.contains(&0.into()) && statuses.contains(&1008.into()), "{statuses:?}");
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(bench.ask("/public-api/v1/cryptocurrency/map").1["status"]["error_code"].clone());
    }
    assert!(statuses.contains(&"0".into()) && statuses.contains(&"1011".into()), "{statuses:?}");
}
