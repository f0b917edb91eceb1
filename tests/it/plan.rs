//! `plan`: what a month costs, against the plan of the vendor, before a call is made.

use serde_json::{Value, json};

use crate::support::gecko::Gecko;
use crate::support::stub::{Stub, StubRequest, StubResponse};
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::Workdir;

on_every_database!(what_is_stored_and_used_counts);

fn figures(plan: &Value) -> (i64, i64, Value, bool) {
    let number = |name: &str| plan[name].as_i64().unwrap_or_else(|| panic!("{name} in {plan}"));
    (number("calls_per_month"), number("credits_per_month"), plan["budget"].clone(), plan["fits"] == true)
}

#[test]
fn the_shipped_crontab_fits_the_free_plan_of_each_vendor() {
    let dir = Workdir::new();
    let plan = |source: &str| {
        let cmd = dir.coinetl(["plan", "--source", source]).env("COINGECKO_DEMO_API_KEY", "CG-x");
        // A setting, so that no vendor is asked.
        let cmd = if source == "coinmarketcap" { cmd.env("COINETL_CREDITS_PER_MONTH", "15000") } else { cmd };
        cmd.json(0)
    };
    assert_eq!(figures(&plan("coingecko")), (5_983, 5_983, json!(10_000), true));
    assert_eq!(figures(&plan("coinmarketcap")), (1_643, 6_448, json!(15_000), true));
    assert_eq!(figures(&plan("coinbase")), (1_488, 0, Value::Null, true));
    // All of them in one go, the first one's figures in front.
    let all = dir.coinetl(["plan"]).env("COINETL_CREDITS_PER_MONTH", "15000").json(0);
    assert_eq!(figures(&all).0, 5_983);
    let others: Vec<(&str, i64)> = all["other_sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (part["source"].as_str().unwrap(), part["calls_per_month"].as_i64().unwrap()))
        .collect();
    assert_eq!(others, [("coinmarketcap", 1_643), ("coinbase", 1_488)]);
    assert_eq!(all["not_counted"], json!([]));
    // Nothing was made or asked.
    assert!(!dir.file("coinetl.db").exists());
    // README and crontab tell the same.
    for (file, figures) in [
        ("README.md", ["5,983", "6,448", "1,488"]),
        ("crontab", ["5,983 calls of 10,000", "6,448 credits of 15,000", "1,488 calls"]),
    ] {
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        for figure in figures {
            assert!(text.contains(figure), "{file} lacks {figure}");
        }
    }
}

#[test]
fn items_add_up_and_lines_that_are_not_ours_are_listed() {
    let dir = Workdir::new();
    let crontab = dir.write(
        "tab",
        "MAILTO=me\n\
         */30 * * * * cd /opt/coinetl && scripts/pipeline.sh --top 500 >>log 2>&1\n\
         @daily coinetl assets upsert && coinetl prices insert --ids bitcoin,ethereum --vs usd,eur\n\
         5 5 * * * /usr/bin/certbot renew\n\
         6 6 * * * coinetl prices insert --topp 5\n\
         7 7 * * * coinetl --sandbox prices insert\n",
    );
    let plan = dir.coinetl(["plan", "--crontab", crontab.to_str().unwrap()]).json(0);
    let items = plan["items"].as_array().unwrap();
    let item = |command: &str, runs: i64, calls: i64| json!({ "command": command, "runs_per_month": runs, "calls_per_run": calls, "calls_per_month": runs * calls });
    let told: Vec<Value> = items
        .iter()
        .map(|item| {
            let mut item = item.as_object().unwrap().clone();
            item.retain(|name, _| {
                ["command", "runs_per_month", "calls_per_run", "calls_per_month"].contains(&name.as_str())
            });
            Value::Object(item)
        })
        .collect();
    assert_eq!(
        told,
        [
            item("pipeline.sh --top 500", 1_488, 3),
            item("coinetl assets upsert", 31, 1),
            item("coinetl prices insert --ids bitcoin,ethereum --vs usd,eur", 31, 2),
        ]
    );
    let sum: i64 = items.iter().map(|item| item["credits_per_month"].as_i64().unwrap()).sum();
    assert_eq!(figures(&plan), (1_488 * 3 + 31 + 62, sum, Value::Null, true));
    let others = plan["not_counted"].to_string();
    for words in ["certbot renew", "does not call coinetl", "line 5", "--topp", "would end with 2", "made up"] {
        assert!(others.contains(words), "{words} in {others}");
    }
    for (content, words) in [("61 * * * * coinetl doctor\n", "line 1"), ("nonsense\n", "line 1")] {
        let broken = dir.write("broken", content);
        let output = dir.coinetl(["plan", "--crontab", broken.to_str().unwrap()]).run().expect(2);
        assert!(output.stderr.contains(words), "{output}");
    }
    let output = dir.coinetl(["plan", "--crontab", "none"]).run().expect(2);
    assert!(output.stderr.contains("none can't be read"), "{output}");
}

#[test]
fn what_does_not_fit_comes_with_the_nearest_schedule_that_does() {
    let dir = Workdir::new();
    let plan = |args: &[&str], budget: &str, code: i32| {
        dir.coinetl(["plan"]).args(args).env("COINETL_CREDITS_PER_MONTH", budget).json(code)
    };
    let hourly = plan(&["prices", "insert"], "10000", 1);
    assert_eq!(figures(&hourly), (744 * 72, 744 * 72, json!(10_000), false));
    let suggestion = hourly["suggestion"].as_str().unwrap();
    assert!(suggestion.contains("every 6 hours (`0 */6 * * *`) makes 8,928 of 10,000"), "{suggestion}");
    assert!(suggestion.contains("--top 3200") || suggestion.contains("--top 3,200"), "{suggestion}");
    assert_eq!(hourly["status"], "failed");
    assert!(hourly["error"].as_str().unwrap().contains("do not fit 10,000"), "{hourly}");
    // The suggested one does fit.
    assert!(figures(&plan(&["--every", "6h", "prices", "insert"], "10000", 0)).3);
    assert!(figures(&plan(&["prices", "insert", "--top", "3200"], "10000", 0)).3);
    // CoinMarketCap: 4,000 coins hourly are what the free plan holds.
    let cmc = plan(&["prices", "insert", "--source", "coinmarketcap"], "15000", 1);
    assert!(cmc["suggestion"].as_str().unwrap().contains("--top 4000, which makes 14,880 of 15,000"), "{cmc}");
    let none = plan(&["--every", "31d", "prices", "insert"], "70", 1);
    assert!(none["suggestion"].as_str().unwrap().contains("--top"), "{none}");
}

#[test]
fn every_schedule_that_is_shipped_is_counted() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = Workdir::new();
    for file in ["crontab", "docker/crontab", "scripts/deploy/coinetl.cron"] {
        let plan = dir.coinetl(["plan", "--crontab"]).arg(root.join(file)).json(0);
        assert!(figures(&plan).0 >= 744 && plan["not_counted"] == json!([]), "{file}: {plan}");
    }
}

#[test]
fn options_of_the_planned_command_are_the_plan_s() {
    let dir = Workdir::new();
    for words in [
        &["prices", "insert", "--source", "coinmarketcap", "--output", "json"][..],
        &["coinetl", "--source", "coinmarketcap", "prices", "insert", "--output=json"],
        &["pipeline.sh", "--source", "coinmarketcap", "--output", "json", "--every=2h"],
    ] {
        let plan = dir.coinetl(["plan"]).args(words).run().expect(0).json();
        assert_eq!((&plan["source"], plan["items"].as_array().unwrap().len()), (&"coinmarketcap".into(), 1), "{plan}");
        assert_eq!(plan["items"][0]["runs_per_month"], if words[0] == "pipeline.sh" { 372 } else { 744 });
        assert!(!plan["items"][0]["command"].to_string().contains("json"), "{plan}");
    }
    // A crontab of another source: its figures are the ones to tell.
    let tab = dir.write("tab", "COINETL_SOURCE=coinmarketcap\n0 * * * * coinetl prices insert --top 201\n");
    let plan = dir.coinetl(["plan", "--crontab", tab.to_str().unwrap()]).json(0);
    assert_eq!((&plan["source"], figures(&plan).1), (&"coinmarketcap".into(), 744 * 2));
    let made_up = dir.coinetl(["plan", "prices", "insert", "--sandbox"]).json(0);
    assert_eq!((figures(&made_up).0, &made_up["budget"]), (744 * 72, &Value::Null));
}

#[test]
fn a_command_that_cant_be_is_refused() {
    let dir = Workdir::new();
    for (args, words) in [
        (&["plan", "prices", "insrt"][..], "can't be planned"),
        (&["plan", "prices", "insert", "--top", "5", "--source", "coinbase"], "--top"),
        (&["plan", "--crontab", "x", "prices", "insert"], "cannot be used with"),
    ] {
        let output = dir.coinetl(args).run();
        assert!(output.code == Some(2) && output.stderr.contains(words), "{output}");
    }
}

fn what_is_stored_and_used_counts(db: &TestDb) {
    let gecko = Gecko::usual(1_001);
    db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    // Two are listed and have no price: they are asked for by id, once a day.
    let mut records: Vec<_> = (0..999).map(crate::support::gecko::Record::usual).collect();
    records.truncate(999);
    gecko.set_records(records);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    gecko.take_calls();
    let plan = |budget: &str, code: i32| {
        let cmd = db.ask(&["plan", "prices", "insert", "--every", "1d"], &gecko.url());
        cmd.env("COINETL_CREDITS_PER_MONTH", budget).json(code)
    };
    let told = plan("1000", 0);
    assert_eq!((figures(&told), &told["assets"]), ((31 * 6 + 31, 31 * 6 + 31, json!(1_000), true), &1_001.into()));
    assert_eq!(told["used_this_month"], 1 + 5 + 1 + 1);
    assert_eq!(gecko.take_calls().len(), 0, "a plan costs nothing here");
    // A whole month fits, but hardly anything of this one is left.
    db.execute("UPDATE runs SET credits = 399");
    let told = plan("800", 1);
    let suggestion = told["suggestion"].as_str().unwrap();
    assert!(suggestion.contains("a whole month fits") && suggestion.contains("-01 00:00 UTC"), "{suggestion}");
}

#[test]
fn the_vendor_s_own_word_is_asked_for_and_kept() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let vendor = Stub::start(|request: &StubRequest| match request.path.as_str() {
        "/v1/key/info" => StubResponse::json(
            r#"{"status":{"error_code":0},"data":{"plan":{"credit_limit_monthly":450000,"rate_limit_minute":120,"credit_limit_monthly_reset_timestamp":null},"usage":{"current_month":{"credits_used":4321}}}}"#,
        ),
        "/api/v3/key" => StubResponse::json(
            r#"{"plan":"Analyst","rate_limit_request_per_minute":500,"monthly_call_credit":500000,"current_total_monthly_calls":77,"current_remaining_monthly_calls":499923}"#,
        ),
        _ => StubResponse::new(404, "application/json", "{}"),
    });
    let plan = |source: &str| {
        db.coinetl(&["plan", "--source", source])
            .env("COINMARKETCAP_API_URL", format!("http://{}", vendor.address()))
            .env("COINGECKO_API_URL", vendor.url())
            .env("COINMARKETCAP_API_KEY", "cmc-test-key")
            .env("COINGECKO_PRO_API_KEY", "CG-x")
    };
    let told = plan("coinmarketcap").json(0);
    assert_eq!(
        (&told["budget"], &told["used_this_month"], &told["calls"]),
        (&450_000.into(), &4_321.into(), &1.into())
    );
    assert_eq!(told["budget_from"], "told by the source");
    let told = plan("coingecko").json(0);
    assert_eq!((&told["budget"], &told["used_this_month"]), (&500_000.into(), &77.into()));
    assert_eq!(
        db.lines("SELECT command, source, status, calls, credits FROM runs ORDER BY id"),
        ["plan|coinmarketcap|ok|1|0", "plan|coingecko|ok|1|1"]
    );
    assert_eq!(
        db.lines("SELECT source, credits_per_month, calls_per_minute FROM accounts ORDER BY source"),
        ["coingecko|500000|500", "coinmarketcap|450000|120"]
    );
    // A vendor that can't be reached is told of, and the plan goes by what is known.
    drop(vendor);
    let output = db
        .coinetl(&["plan", "--source", "coinmarketcap"])
        .env("COINMARKETCAP_API_URL", "http://127.0.0.1:9")
        .env("COINMARKETCAP_API_KEY", "cmc-test-key")
        .run()
        .expect(0);
    assert!(output.stderr.contains("going by what is known") && output.stdout.contains("450,000"), "{output}");
}
