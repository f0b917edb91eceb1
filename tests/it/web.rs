//! The dashboard's pages over plain HTTP: what they say, of whatever is stored.

use crate::support::server::Server;
use crate::support::test_db::TestDb;
use crate::support::workdir::SandboxServer;

on_every_database!(pages_show_what_is_stored, pages_of_an_empty_database_tell_what_to_run);
on_every_database!(only_sqlite: a_list_is_sorted_paged_and_searched, news_come_as_events_and_end_with_the_server);

fn fill(db: &TestDb) {
    let sandbox = SandboxServer::start(["--assets", "260"]);
    db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    db.ask(&["prices", "insert"], &sandbox.url()).json(0);
}

/// A page, which must be one.
#[track_caller]
fn page(server: &Server, target: &str) -> String {
    let reply = server.get(target);
    assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"), "{target}");
    assert_eq!(reply.header("cache-control"), Some("no-cache"), "{target}");
    reply.text()
}

/// The texts between a beginning and an end, in order.
fn between<'a>(page: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    page.split(from).skip(1).filter_map(|rest| rest.split(to).next()).collect()
}

/// Symbols of the listed coins.
fn listed(page: &str) -> Vec<&str> {
    let table = page.split("<tbody>").nth(1).and_then(|rest| rest.split("</tbody>").next()).unwrap_or_default();
    between(table, "<span class=\"symbol\">", "</span>")
}

fn pages_show_what_is_stored(db: &TestDb) {
    const SANDBOX: &str = "sandbox-coingecko";
    fill(db);
    let hostile = "<script>alert(\"1\")</script>&amp;";
    let stamp = "'2026-01-02 03:04:05.006'";
    for (id, source_id) in [(900_001, "a/b ?#%25é"), (900_002, "..")] {
        db.execute(&format!(
            "INSERT INTO assets VALUES ({id}, '{SANDBOX}', '{source_id}', '<b>x', '{hostile}', TRUE, {stamp}, {stamp})"
        ));
        db.execute(&format!(
            "INSERT INTO prices (asset_id, vs_currency, observed_at, price, market_cap, market_cap_rank, change_24h, run_id) \
             VALUES ({id}, 'usd', {stamp}, 0.000012346, 1e9, 1, -3.25, 1)"
        ));
    }
    // What a dollar bought then, and nothing within a day of another time.
    db.execute(&format!(
        "INSERT INTO fx_rates (source, currency, observed_at, per_usd) VALUES ('{SANDBOX}', 'chf', '2026-01-02 01:00:00.000', 0.5)"
    ));
    db.execute(&format!(
        "INSERT INTO dead_letters (source, topic, payload, error, received_at) VALUES ('{SANDBOX}', 't', '{hostile}', '{hostile}', {stamp})"
    ));
    for (sequence, bid, ask) in [(1, "97123.45", "97123.46"), (2, "97123.5", "97123.61")] {
        db.execute(&format!(
            "INSERT INTO crypto_metrics (source, pair, sequence, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, max_spread, session) \
             VALUES ('coinbase', 'BTC-<b>', {sequence}, '2026-01-02 03:04:0{sequence}.500000', {bid}, {ask}, 97123.455, 0.01, {bid}, {ask}, 0.11, 's')"
        ));
    }
    db.execute(&format!(
        "INSERT INTO runs (command, source, started_at, finished_at, status, error) VALUES ('candles backfill', '{SANDBOX}', {stamp}, {stamp}, 'failed', '{hostile}')"
    ));
    let server = Server::start(db, &["--stale-after", "1h"]);

    let top = page(&server, "/");
    assert_eq!(listed(&top).len(), 100);
    // Large ones of the market come first, and the page says what it is made of.
    assert!(top.contains("Made-up data.") && top.contains("1–100 of "), "{top}");
    assert!(top.contains("plot-pie") && top.contains("class=\"spark"), "charts");
    assert!(!top.contains("<script>"), "every script is a file");
    assert!(top.contains("&lt;script&gt;alert"), "a name is text");
    // Nothing but our own files, links and names of XML.
    for address in between(&top, "src=\"", "\"").into_iter().chain(between(&top, "href=\"", "\"")) {
        assert!(address.starts_with('/') || address == "#main", "{address}");
    }

    // A coin is found by its address, however odd its id is.
    let odd = "/coins/sandbox-coingecko/a%2Fb%20%3F%23%2525%C3%A9";
    assert!(top.contains(&format!("href=\"{odd}\"")), "{top}");
    assert!(top.contains("href=\"/coins/sandbox-coingecko?id=..\""), "{top}");
    for address in [odd, "/coins/sandbox-coingecko?id=.."] {
        let coin = page(&server, address);
        assert!(coin.contains("$0.00001235") && coin.contains("−3.25 %"), "{coin}");
        assert!(!coin.contains("<script>alert") && !coin.contains("<b>x"), "{coin}");
        // Months old, and an hour is allowed.
        assert!(coin.contains("<span class=\"badge stale\">stale</span>"), "{coin}");
    }
    // In another currency: by the rate of its own time, which is told; the close of no candle, the day's last price.
    let chf = page(&server, &format!("{odd}?currency=chf&date=2026-01-02"));
    assert!(chf.contains("0.000006173 CHF") && chf.contains("2026-01-02 01:00 UTC"), "{chf}");
    assert!(chf.contains("The last price of that day"), "{chf}");
    let later = page(&server, &format!("{odd}?date=2026-01-05"));
    assert!(later.contains("Nothing is stored of that day"), "{later}");
    assert!(page(&server, &format!("{odd}?date=1999-01-01")).contains("no price is stored of that day or before"));
    assert!(page(&server, &format!("{odd}?date=yesterday")).contains("is no date"));
    // Fresh coins have a rate to every currency that the source tells.
    let euro = page(&server, "/coins/sandbox-coingecko/bitcoin?currency=EUR&view=candles&period=all&scale=log");
    assert!(euro.contains("€") && euro.contains("Converted from USD to EUR"), "{euro}");
    // The head, the charts and the facts show changes, which are not converted.
    assert_eq!(euro.matches("Changes are those of the price in USD.").count(), 3, "{euro}");
    assert!(!page(&server, "/coins/sandbox-coingecko/bitcoin").contains("Changes are those of"));
    assert!(page(&server, "/?currency=eur").contains("Converted from USD to EUR"));

    let pairs = page(&server, "/pairs");
    assert!(pairs.contains("97,123.50") && pairs.contains("97,123.61") && pairs.contains("BTC-&lt;b&gt;"), "{pairs}");
    assert!(pairs.contains("plot-quotes"), "{pairs}");
    let pipeline = page(&server, "/pipeline");
    assert!(pipeline.contains("failed or died") && pipeline.contains("coinetl dead-letters replay"), "{pipeline}");
    assert!(!pipeline.contains(hostile), "{pipeline}");

    for (target, status, words) in [
        ("/coins/sandbox-coingecko/nobody", 404, "no coin with the id &quot;nobody&quot;"),
        ("/coins/nowhere/bitcoin", 404, "is stored under"),
        ("/coins/sandbox-coingecko", 404, "which coin"),
        ("/pairs?source=coinbase&pair=NO-PAIR", 404, "no quotes of"),
        ("/?source=nowhere", 400, "nothing is stored under"),
        ("/?currency=xyz", 400, "neither a price nor an exchange rate"),
        ("/?currency=a&currency=b", 400, "query"),
    ] {
        let reply = server.get(target);
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
        assert!(reply.text().contains(words) && reply.text().contains("<h1>"), "{target}: {}", reply.text());
    }
    // Whatever stands in the query is a page or an error that says so.
    for query in [
        "page=0",
        "page=99999999999999999999",
        "page=-1",
        "sort=nothing&dir=up",
        "q=%00",
        "q=%27%22%3Cscript%3E",
        "part=x",
        "source=",
        "q=%F0%9F%98%80%ff",
    ] {
        let reply = server.get(&format!("/?{query}"));
        assert!([200, 400].contains(&reply.status), "{query}: {}", reply.text());
        assert!(!reply.text().contains("<script>"), "{query}");
    }
    for query in [
        "from=1&to=0",
        "from=0&to=253402300799999",
        "from=-5&to=x",
        "period=2y",
        "timeframe=9m",
        "date=9999-12-31",
        "date=1900-01-01",
        "date=%3Cb%3E",
    ] {
        let reply = server.get(&format!("/coins/sandbox-coingecko/bitcoin?view=candles&{query}"));
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        assert!(!reply.text().contains("<b>"), "{query}");
    }
}

fn pages_of_an_empty_database_tell_what_to_run(db: &TestDb) {
    let server = Server::start(db, &[]);
    assert!(page(&server, "/").contains("coinetl assets upsert"));
    assert!(page(&server, "/pairs").contains("coinetl consume"));
    assert!(page(&server, "/pipeline").contains("Nothing ran yet"));
    // Listed, and without a price.
    db.execute("INSERT INTO assets VALUES (1, 'coingecko', 'bitcoin', 'btc', 'Bitcoin', TRUE, '2026-01-02 03:04:05.006', '2026-01-02 03:04:05.006')");
    db.execute("INSERT INTO runs (command, source, started_at, finished_at, status) VALUES ('assets upsert', 'coingecko', '2026-01-02 03:04:05.006', '2026-01-02 03:04:06.006', 'ok')");
    // A look at the database is a second old at most.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert!(page(&server, "/").contains("no price is stored of them yet"));
    assert!(page(&server, "/?q=bit").contains("Bitcoin"));
    assert!(page(&server, "/coins/coingecko/bitcoin").contains("No price is stored yet"));
    // History alone: the newest daily close, in each currency of it; the candle of a day that goes on has no
    // volume of a day.
    let day = chrono::Utc::now().format("%Y-%m-%d 00:00:00.000");
    for (currency, timeframe, open_time, close, is_final) in [
        ("eur", "1d", "2026-01-03 00:00:00.000", "41000.5", "TRUE"),
        ("usd", "1d", "2026-01-03 00:00:00.000", "43000.5", "TRUE"),
        ("usd", "1d", &day.to_string(), "98765.5", "FALSE"),
        ("usd", "1h", "2026-01-04 00:00:00.000", "1.5", "TRUE"),
    ] {
        db.execute(&format!(
            "INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, market_cap, origin, final, run_id) \
             VALUES (1, '{currency}', '{timeframe}', '{open_time}', {close}, {close}, {close}, {close}, 7654321.0, 8e11, 'archive', {is_final}, 1)"
        ));
    }
    db.execute("INSERT INTO runs (command, source, started_at, finished_at, status) VALUES ('import', 'coingecko', '2026-01-05 03:04:05.006', '2026-01-05 03:04:06.006', 'ok')");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let top = page(&server, "/");
    assert_eq!(listed(&top), ["BTC"], "{top}");
    assert!(top.contains("<dt>Coins</dt><dd>1</dd>") && top.contains("$98,765.50"), "{top}");
    assert!(top.contains("$800.00 B") && !top.contains("$7.65 M"), "{top}");
    assert!(page(&server, "/coins/coingecko/bitcoin").contains("$98,765.50"));
    assert!(page(&server, "/pipeline").contains("none stored: <code>coinetl prices insert"), "no price was observed");
    // The newest that is told in the currency, where no rate is known.
    let euro = page(&server, "/coins/coingecko/bitcoin?currency=eur");
    assert!(euro.contains("€41,000.50") && euro.contains("2026-01-04 00:00 UTC"), "{euro}");
    assert!(euro.contains("€7.65 M"), "{euro}");
}

fn a_list_is_sorted_paged_and_searched(db: &TestDb) {
    fill(db);
    let server = Server::start(db, &[]);
    let symbols = |target: &str| -> Vec<String> {
        let page = page(&server, target);
        listed(&page).into_iter().map(str::to_owned).collect()
    };
    let stored = |order: &str, offset: usize| -> Vec<String> {
        let rows = db.lines(&format!(
            "SELECT UPPER(symbol) FROM latest_prices WHERE active = TRUE AND vs_currency = 'usd' ORDER BY {order} LIMIT 100 OFFSET {offset}"
        ));
        rows.into_iter().collect()
    };
    // By numbers that differ: unknown ones last, whichever way.
    for (sort, column) in [
        ("price", "price"),
        ("24h", "change_24h"),
        ("7d", "change_7d"),
        ("30d", "change_30d"),
        ("volume", "volume_24h"),
        ("cap", "market_cap"),
    ] {
        for (dir, order) in [("asc", "ASC"), ("desc", "DESC")] {
            let by = format!(
                "{column} IS NULL, {column} {order}, market_cap_rank IS NULL, market_cap_rank, \
                 COALESCE(market_cap, -1) DESC, COALESCE(volume_24h, -1) DESC, asset_id"
            );
            let (shown, wanted) = (symbols(&format!("/?sort={sort}&dir={dir}")), stored(&by, 0));
            // SQLite's UPPER leaves other letters than ours as they are, and a page escapes quotes.
            let differ = shown.iter().zip(&wanted).filter(|(a, b)| a != b).count();
            assert!(shown.len() == 100 && differ <= 6, "{sort} {dir}: {differ}\n{shown:?}\n{wanted:?}");
        }
    }
    let names = |target: &str| -> Vec<String> {
        let page = page(&server, target);
        let table = page.split("<tbody>").nth(1).unwrap_or_default().to_owned();
        let unescaped = |text: &str| {
            let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
            text.to_lowercase()
        };
        between(&table, "<span class=\"name\">", "</span>").into_iter().map(unescaped).collect()
    };
    let rising = names("/?sort=name");
    assert!(rising.is_sorted() && rising.len() == 100, "{rising:?}");
    let top = page(&server, "/?sort=price&dir=desc");
    assert!(top.contains("<th class=\"num price\" scope=\"col\" aria-sort=\"descending\">"), "{top}");
    assert!(top.contains("href=\"/?sort=price&amp;dir=asc\""), "{top}");

    // Pages: no coin twice, none left out; beyond the end is the last.
    let all: usize =
        db.number("SELECT COUNT(*) FROM latest_prices WHERE active = TRUE AND vs_currency = 'usd'") as usize;
    let pages = all.div_ceil(100);
    let mut keys: Vec<String> = Vec::new();
    for number in 1..=pages {
        let page = page(&server, &format!("/?page={number}"));
        keys.extend(between(&page, "<tr data-key=\"", "\"").into_iter().map(str::to_owned));
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
    assert_eq!(symbols("/?page=9999"), symbols(&format!("/?page={pages}")));

    // A search finds by symbol, name or id, in any case; the part alone is what the script asks for.
    for search in ["BTC", "bitcoin", "bItCoIn"] {
        assert_eq!(symbols(&format!("/?q={search}")).first().map(String::as_str), Some("BTC"), "{search}");
    }
    let part = page(&server, "/?q=bitcoin&part=coins");
    assert!(part.starts_with("<section") && part.contains("BTC") && part.len() < 20_000, "{part}");
    assert!(page(&server, "/?q=no%20such%20coin").contains("is called <q>no such coin</q>"));

    // What has not changed is not sent again, and packed where the browser can unpack.
    let first = server.get("/");
    let etag = first.header("etag").expect("an ETag").to_owned();
    assert_eq!(server.ask("GET", "/", &[("if-none-match", &etag)]).status, 304);
    let packed = server.ask("GET", "/", &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() * 3 < first.body.len(), "{} of {}", packed.body.len(), first.body.len());
    // Its files are kept for good, under names that change with them.
    let html = first.text();
    for ending in [".css", ".js"] {
        let name = between(&html, "\"/static/", "\"").into_iter().find(|name| name.ends_with(ending)).expect(ending);
        let file = server.get(&format!("/static/{name}"));
        assert_eq!((file.status, file.header("cache-control")), (200, Some("public, max-age=31536000, immutable")));
        assert!(!file.text().contains("://") || ending == ".js", "nothing of another host");
    }
    for nothing in ["/static/app.js", "/static/%ff"] {
        let reply = server.get(nothing);
        assert_eq!(reply.status, 404, "{nothing}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&reply.text()).expect("our shape")["error"], "not_found");
    }
    let policy = first.header("content-security-policy").expect("a policy");
    assert!(policy.contains("script-src 'self';"), "{policy}");
}

fn news_come_as_events_and_end_with_the_server(db: &TestDb) {
    use std::io::{BufRead, BufReader, Write};
    fill(db);
    let server = Server::start(db, &[]);
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = |wanted: &str| -> String {
        lines.by_ref().map_while(Result::ok).find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("no {wanted}"))
    };
    assert!(next("HTTP/1.1").contains("200"));
    assert!(next("content-type").contains("text/event-stream"));
    // What was there before is no news; what a run stores is.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let sandbox = SandboxServer::start(["--assets", "260"]);
    db.ask(&["prices", "insert", "--ids", "bitcoin"], &sandbox.url()).json(0);
    next("event: version");
    let version: u64 = next("data: ").trim_start_matches("data: ").parse().expect("a number");
    assert!(version > 0);
    let (code, took) = server.stop();
    assert_eq!(code, Some(0));
    assert!(took < std::time::Duration::from_secs(4), "a listener held the server up for {took:?}");
}
