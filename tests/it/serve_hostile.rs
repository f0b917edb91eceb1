//! The REST API with everything that people and machines put into an address: driven by the API's own document, so
//! that a new path or parameter is tried as well.

use serde_json::Value;
use url::form_urlencoded::byte_serialize;

use crate::support::server::{Reply, Server};
use crate::support::test_db::{Backend, TestDb};

on_every_database!(no_parameter_breaks_anything);
on_every_database!(only_sqlite: every_path_answers_head_and_refuses_other_methods);

/// Encoded as they are sent.
fn hostile() -> Vec<String> {
    let plain = [
        "",
        " ",
        "' OR 1=1 --",
        "'; DROP TABLE prices; --",
        "\" UNION SELECT 1,2,3 --",
        "1) OR (1=1",
        "%",
        "_",
        "\\",
        "?",
        "$1",
        "\0",
        "btc\0",
        "\u{feff}",
        "e\u{301}\u{202e}",
        "💰",
        "\u{10ffff}",
        "ﷺ İ ß",
        "1900-01-01",
        "2200-01-01",
        "0000-00-00",
        "2026-02-30",
        "-9999-01-01",
        "99999999-01-01",
        "2026-01-01T00:00:00+99:99",
        "-1",
        "0",
        "9223372036854775807",
        "99999999999999999999999999",
        "1e309",
        "NaN",
        "null",
        "[]",
        "../../etc/passwd",
        "<script>alert(1)</script>",
        "00",
        "ffffffffffffffffffffffffffffffff",
    ];
    let mut values: Vec<String> = plain.iter().map(|text| byte_serialize(text.as_bytes()).collect()).collect();
    values.push("a".repeat(5_000));
    values.push("%F0%9F%92%B0".repeat(300));
    // No UTF-8, and no encoding.
    values.extend(["%ff%fe", "%c3", "%", "%zz", "%00%00"].map(str::to_owned));
    values
}

struct Parameter {
    name: String,
    in_path: bool,
    required: bool,
    example: String,
}

/// The paths of the document with their parameters.
fn paths(document: &Value) -> Vec<(String, Vec<Parameter>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let paths = document["paths"].as_object().expect("paths");
    let parameters = |item: &Value| -> Vec<Parameter> {
        let list = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let read = |parameter: &Value| Parameter {
            name: text(&parameter["name"]).expect("a name"),
            in_path: parameter["in"] == "path",
            required: parameter["required"] == true,
            example: text(&parameter["example"])
                .or_else(|| text(&parameter["schema"]["example"]))
                .unwrap_or_else(|| "1".to_owned()),
        };
        list.iter().filter(|parameter| parameter["in"] == "query" || parameter["in"] == "path").map(read).collect()
    };
    paths.iter().map(|(path, item)| (path.clone(), parameters(item))).collect()
}

/// The path with this value for one parameter, and what must be there beside it.
fn target(path: &str, parameters: &[Parameter], tried: Option<(&str, &str)>) -> String {
    let (mut path, mut query) = (path.to_owned(), Vec::new());
    for parameter in parameters {
        let value = match tried {
            Some((name, value)) if name == parameter.name => value.to_owned(),
            _ if parameter.required => byte_serialize(parameter.example.as_bytes()).collect(),
            _ => continue,
        };
        match parameter.in_path {
            true => path = path.replace(&format!("{{{}}}", parameter.name), &value),
            false => query.push(format!("{}={value}", parameter.name)),
        }
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

fn served(db: &TestDb) -> (Server, Vec<(String, Vec<Parameter>)>) {
    db.coinetl(&["assets", "upsert", "--sandbox"]).json(0);
    db.coinetl(&["prices", "insert", "--sandbox", "--top", "50"]).json(0);
    let server = Server::start(db, &[]);
    let paths = paths(&server.get("/openapi.json").json());
    for path in ["/dashboard", "/search", "/assets", "/prices", "/candles", "/quotes", "/runs", "/gaps", "/healthz"] {
        assert!(paths.iter().any(|(known, _)| known == path), "{path} is not in the document");
    }
    (server, paths)
}

#[track_caller]
fn assert_answered(target: &str, reply: &Reply) {
    match reply.status {
        200 | 204 => {}
        // There are coins called NaN, several.
        400 if reply.json()["error"] == "ambiguous" => reply.assert_error(400, "ambiguous"),
        400 => reply.assert_error(400, "bad_parameter"),
        404 => reply.assert_error(404, "not_found"),
        _ => panic!("{target:.300}: {} {}", reply.status, reply.text()),
    }
}

fn no_parameter_breaks_anything(db: &TestDb) {
    let (server, paths) = served(db);
    let stored = "SELECT (SELECT COUNT(*) FROM assets), (SELECT COUNT(*) FROM prices), (SELECT COUNT(*) FROM runs)";
    let before = db.lines(stored);
    let mut values = hostile();
    if db.backend() != Backend::Sqlite {
        // What a parameter may hold is the same for all; what differs is how a database takes texts.
        values.retain(|value| {
            ["%27", "%00", "%22", "%F0", "%24", "%3F", "%5C", "%25", "%ff"].iter().any(|part| value.contains(part))
        });
    }
    let mut asked = 0;
    for (path, parameters) in &paths {
        assert!(server.get(&target(path, parameters, None)).status < 500, "{path}");
        for parameter in parameters {
            for value in &values {
                let target = target(path, parameters, Some((&parameter.name, value)));
                assert_answered(&target, &server.get(&target));
                asked += 1;
            }
            // The same one twice, and one that nobody knows.
            let twice = format!("{0}=1&{0}=2&no_such_parameter=1", parameter.name);
            let reply = server.get(&format!("{path}?{twice}"));
            assert!([200, 204, 400].contains(&reply.status), "{path}?{twice}: {}", reply.status);
        }
    }
    assert!(asked > 200, "{asked} requests");
    assert_eq!(server.get("/dashboard?date=1900-01-01").status, 204, "a day before any data");
    // What matches nothing matches nothing on any database, and nothing was changed by anybody.
    let none = server.get("/assets?source=%27%20OR%201%3D1%20--");
    assert!(none.status == 204 || none.status == 400 || none.json()["data"] == Value::Array(Vec::new()), "{none:?}");
    assert_eq!(db.lines(stored), before);
    assert_eq!(server.get("/healthz").status, 200);
    assert!(!server.told().contains("ERROR"), "{}", server.told());
    assert_eq!(server.stop().0, Some(0));
}

fn every_path_answers_head_and_refuses_other_methods(db: &TestDb) {
    let (server, paths) = served(db);
    for (path, parameters) in &paths {
        let target = target(path, parameters, None);
        let (get, head) = (server.get(&target), server.ask("HEAD", &target, &[]));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{target}");
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {target}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            server.ask(method, &target, &[]).assert_error(405, "method_not_allowed");
        }
    }
}
