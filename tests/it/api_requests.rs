//! What of a request is HTTP: parameters that can't be used, methods, tags, packing, headers, the document.

use std::path::PathBuf;

use crate::support::server::Server;
use crate::support::test_db::TestDb;

on_every_database!(only_sqlite: what_is_wrong_is_named, answers_are_good_http, the_document_is_the_snapshot);

const PATHS: [&str; 8] = ["/dashboard", "/search", "/assets", "/prices", "/candles", "/quotes", "/gaps", "/runs"];

fn store(db: &TestDb) {
    let rows: String = (0..60).map(|n| format!("{n},Coin {n},C{n},2021-11-09 23:59:59,3,1,2,2.5,1,1\n")).collect();
    db.workdir().write("a.csv", &format!("SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap\n{rows}"));
    db.coinetl(&["import", "a.csv"]).json(0);
}

#[track_caller]
fn refused(server: &Server, path: &str, parameter: &str, words: &str) {
    let reply = server.get(path);
    reply.assert_error(400, "bad_parameter");
    let body = reply.json();
    let message = body["message"].as_str().unwrap();
    assert!(body["parameter"] == parameter && message.contains(words), "{path}: {body}");
}

fn what_is_wrong_is_named(db: &TestDb) {
    store(db);
    let server = Server::start(db, &[]);
    let long = "x".repeat(256);
    let many = vec!["a"; 251].join(",");
    for (path, parameter, words) in [
        ("/dashboard?date=2021-02-30", "date", "is no day"),
        ("/dashboard?date=NaN", "date", "is no day"),
        ("/dashboard?date=99999999999-1-1", "date", "is no day"),
        ("/dashboard?date=", "date", "it is empty"),
        ("/dashboard?order_by=name", "order_by", "is none of crypto, price, 24h, 7d, 1m, 24h-volume, market_cap"),
        ("/dashboard?order_type=up", "order_type", "asc, desc"),
        ("/dashboard?limit=0", "limit", "from 1 to"),
        ("/dashboard?limit=1e3", "limit", "no whole number"),
        ("/dashboard?limit=-9223372036854775809", "limit", "no whole number"),
        ("/dashboard?vs=us%20d", "vs", "no currency"),
        ("/dashboard?in=%F0%9F%98%80", "in", "no currency"),
        ("/dashboard?id=btc,,eth", "id", "between two commas"),
        (&format!("/dashboard?id={many}"), "id", "more than 250"),
        (&format!("/dashboard?id={long}"), "id", "longer than any"),
        ("/dashboard?id=%00", "id", "U+0000"),
        ("/dashboard?id=%C3%28", "id", "not UTF-8"),
        ("/dashboard?id=a&id=b", "id", "twice"),
        ("/dashboard?ids=a", "query", "there is no parameter \"ids\"; there are id, date"),
        ("/search", "name", "it is missing"),
        ("/search?name=%00", "name", "U+0000"),
        ("/candles", "id", "it is missing; name a coin"),
        ("/candles?id=a&timeframe=2h", "timeframe", "is none of 1m, 5m, 15m, 1h, 6h, 1d"),
        ("/candles?id=a&from=yesterday", "from", "is no time"),
        ("/candles?id=a&limit=1001", "limit", "from 1 to 1000"),
        ("/prices?from=2021-01-01", "id", "it is missing"),
        ("/prices?cursor=00", "cursor", "not the `next`"),
        ("/quotes", "pair", "it is missing"),
        ("/quotes?pair=a&from=2021-01-01", "window", "quotes go by their sequence"),
        ("/quotes?pair=a&window=6h", "window", "is none of 1m, 5m, 1h"),
        ("/gaps?to=2021-01-01", "from", "it is missing"),
        ("/gaps?state=open", "state", "is none of full, empty, missing, unreachable"),
        ("/gaps?timeframe=1m&from=1970-01-01", "from", "more than 600000 candles"),
        ("/runs?status=dead", "status", "is none of"),
        ("/assets?active=yes", "active", "is none of true, false"),
    ] {
        refused(&server, path, parameter, words);
    }
    // The cursor of one question is none of another, and a changed one is none at all.
    let next = server.get("/assets?limit=1").json()["next"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("/assets?limit=5&cursor={next}")).status, 200);
    for path in ["/assets?active=true", "/prices?limit=1", "/runs?limit=1"] {
        refused(&server, &format!("{path}&cursor={next}"), "cursor", "keep the other parameters the same");
    }
    let (start, last) = next.split_at(next.len() - 1);
    let other = if last == "1" { "2" } else { "1" };
    refused(&server, &format!("/assets?limit=1&cursor={start}{other}"), "cursor", "not the `next`");
    // Whatever else is in a parameter is looked for and not found.
    let hostile = [
        "'",
        "%22",
        "%27%20OR%20%271%27=%271",
        "%27;DROP%20TABLE%20assets;--",
        "$1",
        "?",
        "%25",
        "_",
        "%5C",
        "%5C%27",
        "%E2%80%AE",
        "%F0%9F%8F%B3%EF%B8%8F",
        "%EF%BF%BF",
        "%C2%A0",
        "%0A%0D",
        "..%2F..",
        "1%2B1",
        "NaN",
        "%7B%7B7*7%7D%7D",
    ];
    for text in hostile {
        for (path, name) in [
            ("/dashboard", "id"),
            ("/dashboard", "source"),
            ("/search", "name"),
            ("/assets", "id"),
            ("/prices", "id"),
            ("/prices", "source"),
            ("/candles", "id"),
            ("/quotes", "pair"),
            ("/runs", "command"),
            ("/runs", "source"),
            ("/gaps", "id"),
        ] {
            let reply = server.get(&format!("{path}?{name}={text}"));
            let is_empty = reply.status == 204
                || (reply.status == 200 && reply.json()["data"].as_array().is_some_and(Vec::is_empty));
            assert!(is_empty, "{path}?{name}={text}: {} {}", reply.status, reply.text());
        }
        for (path, name) in
            [("/dashboard", "date"), ("/dashboard", "order_by"), ("/runs", "cursor"), ("/runs", "limit")]
        {
            refused(&server, &format!("{path}?{name}={text}"), name, "");
        }
    }
    for (path, status) in
        [("/dashboard?date=1900-01-01", 204), ("/dashboard?date=2200-1-1", 204), ("/dashboard?date=0001-01-01", 204)]
    {
        assert_eq!(server.get(path).status, status, "{path}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 60);
    assert_eq!(server.stop().0, Some(0));
}

fn answers_are_good_http(db: &TestDb) {
    store(db);
    let server = Server::start(db, &[]);
    let question = |path: &str| match path {
        "/search" => "/search?name=c7".to_owned(),
        "/candles" => "/candles?id=C7".to_owned(),
        "/quotes" => "/quotes?pair=BTC-USD".to_owned(),
        path => path.to_owned(),
    };
    for path in PATHS {
        let path = question(path);
        let reply = server.get(&path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/json"), "{path}");
        assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-cache"), "{path}");
        for name in ["x-content-type-options", "content-security-policy", "x-frame-options", "referrer-policy"] {
            assert!(reply.header(name).is_some(), "{path}: {name}");
        }
        // Known to the client: told so, without a body.
        let etag = reply.header("etag").unwrap_or_else(|| panic!("{path} has no tag")).to_owned();
        for known in [etag.clone(), format!("\"x\", {etag}"), "*".to_owned()] {
            let unchanged = server.ask("GET", &path, &[("if-none-match", &known)]);
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{path}");
            assert_eq!(unchanged.header("etag"), Some(etag.as_str()));
        }
        assert_eq!(server.ask("GET", &path, &[("if-none-match", "\"x\"")]).status, 200);
        // The same without a body.
        let head = server.ask("HEAD", &path, &[]);
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(etag.as_str())), "{path}");
        assert_eq!(head.header("content-length"), reply.header("content-length"), "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
            let refused = server.ask(method, &path, &[]);
            refused.assert_error(405, "method_not_allowed");
            assert_eq!(refused.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
    server.get("/nothing").assert_error(404, "not_found");
    // Packed for who can read that, and the same inside.
    let plain = server.get("/dashboard");
    let packed = server.ask("GET", "/dashboard", &[("accept-encoding", "br;q=1, gzip")]);
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), (Some("gzip"), Some("accept-encoding")));
    assert!(packed.body.len() < plain.body.len() / 3, "{} of {}", packed.body.len(), plain.body.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let refused = server.ask("GET", "/dashboard", &[("accept-encoding", "gzip;q=0")]);
    assert_eq!((refused.header("content-encoding"), &refused.body), (None, &plain.body));
    // How old it is.
    assert_eq!(plain.header("x-coinetl-as-of"), Some("2021-11-10T00:00:00.000Z"));
    let age: i64 = plain.header("x-coinetl-age").unwrap().parse().unwrap();
    assert!(age > 86_400 * 365, "{age}");
    // The page that shows the document: out of the binary, and nothing in it is fetched from elsewhere.
    assert_eq!((server.get("/docs").status, server.get("/docs").header("location")), (308, Some("/docs/")));
    let page = server.get("/docs/").text();
    for file in page.split('"').filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".png"))
    {
        assert!(!file.contains("//"), "{file}");
        let reply = server.get(&format!("/docs/{}", file.trim_start_matches("./")));
        assert!(reply.status == 200 && reply.body.len() > 100, "{file}: {}", reply.status);
    }
    assert!(page.contains("swagger-ui-bundle.js"), "{page}");
    let settings = server.get("/docs/swagger-initializer.js").text();
    assert!(settings.contains("/openapi.json") && settings.contains("\"validatorUrl\": \"none\""), "{settings}");
    server.get("/docs/nothing").assert_error(404, "not_found");
    assert_eq!(server.stop().0, Some(0));
}

/// Run with COINETL_UPDATE=1 to take over what the code says now.
fn the_document_is_the_snapshot(db: &TestDb) {
    let server = Server::start(db, &[]);
    let reply = server.get("/openapi.json");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in PATHS {
        let answers = &document["paths"][path]["get"]["responses"];
        for status in ["200", "304", "400", "500", "503"] {
            assert!(answers[status].is_object(), "{path}: {status}");
        }
    }
    // Every reference leads somewhere.
    let text = reply.text();
    for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/openapi.json");
    if std::env::var_os("COINETL_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text.clone() + "\n").unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let differing = known.lines().zip(text.lines()).find(|(known, now)| known != now);
    assert!(
        known.trim_end() == text.trim_end(),
        "the API is not as in {} ({differing:?}); where that is meant, run\n  \
         COINETL_UPDATE=1 cargo test --features full --test it the_document_is_the_snapshot",
        file.display()
    );
    assert_eq!(server.stop().0, Some(0));
}
