//! The dashboard in a real browser: clicks, keys, news. Any error in the console and any request to another host
//! fails a test.

use fantoccini::key::Key;

use crate::support::browser::Browser;
use crate::support::server::Server;
use crate::support::test_db::TestDb;
use crate::support::workdir::SandboxServer;

on_every_database!(only_sqlite: a_person_gets_along_with_mouse_keys_and_phone, news_come_in_without_taking_anything_away);

const COIN: &str = "/coins/sandbox-coingecko/bitcoin";

/// Prices of an hour ago or of now; rates come with all coins.
fn store(db: &TestDb, minutes_ago: i64, args: &[&str]) {
    let at = chrono::Utc::now() - chrono::TimeDelta::minutes(minutes_ago);
    let at = at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let sandbox = SandboxServer::start(["--assets", "260", "--speed", "0", "--at", &at]);
    let mut words = vec!["prices", "insert"];
    words.extend(args);
    db.ask(&words, &sandbox.url()).json(0);
}

fn a_person_gets_along_with_mouse_keys_and_phone(db: &TestDb) {
    for minutes_ago in [180, 120, 60, 1] {
        store(db, minutes_ago, &[]);
    }
    db.coinetl(&["candles", "rollup"]).json(0);
    let server = Server::start(db, &[]);
    Browser::visit(&server.url(), |browser| {
        // The price of a coin in any currency is three clicks away.
        browser.size(1280, 900);
        browser.open(&server.url());
        browser.click("table.coins tbody tr:first-child th a");
        browser.wait_for("document.querySelector('.big-price')");
        browser.click("select[name=currency]");
        browser.click("select[name=currency] option[value=chf]");
        browser.wait_for("document.querySelector('.big-price').textContent.includes('CHF')");
        browser.wait_for("location.search.includes('currency=chf')");
        assert!(browser.text("main").contains("Converted from USD to CHF"));

        // A chart is read and zoomed by keys.
        browser.open(&format!("{}{COIN}?period=1d", server.url()));
        browser.run("document.querySelector('figure[data-zoom]').focus()");
        browser.press(Key::Left);
        browser.wait_for("document.querySelector('.readout')");
        assert!(browser.text(".readout").contains("USD"), "{}", browser.text(".readout"));
        browser.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: '+', bubbles: true }))");
        browser.wait_for("location.search.includes('from=') && location.search.includes('to=')");
        browser.wait_for("document.activeElement.matches('figure[data-zoom]')");
        browser.press(Key::Escape);
        browser.press(Key::Escape);
        browser.wait_for("!location.search.includes('from=')");
        // By mouse, too: what is under it is told, and dragging zooms.
        browser.run(
            "const figure = document.querySelector('figure[data-zoom]'), box = figure.getBoundingClientRect(); \
             const at = (kind, part) => figure.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerType: 'mouse', \
             button: 0, clientX: box.left + box.width * part, clientY: box.top + 50 })); \
             at('pointermove', 0.3); window.told = document.querySelector('.readout').textContent; \
             at('pointerdown', 0.3); at('pointermove', 0.6); at('pointerup', 0.6);",
        );
        assert!(browser.run("return window.told").as_str().is_some_and(|told| told.contains("USD")));
        browser.wait_for("location.search.includes('from=')");
        browser.click("nav[aria-label='Kind of chart'] a:nth-child(2)");
        browser.wait_for("document.querySelector('.plot-candles') || document.querySelector('.empty')");

        // The first stop of the tab key leads past the navigation; a column is sorted by Enter.
        browser.open(&server.url());
        browser.press(Key::Tab);
        assert_eq!(browser.run("return document.activeElement.className"), "skip");
        browser.run("document.querySelector('th.price a').focus()");
        browser.press(Key::Enter);
        browser.wait_for("document.querySelector('th.price').getAttribute('aria-sort') === 'descending'");
        browser.run("history.back()");
        browser.wait_for("!document.querySelector('th.price').hasAttribute('aria-sort')");

        // Colours: the system's, then the chosen ones, which are remembered.
        browser.prefers(true, true);
        browser.wait_for("getComputedStyle(document.body).backgroundColor === 'rgb(11, 14, 19)'");
        browser.click("#theme");
        browser.wait_for("getComputedStyle(document.body).backgroundColor === 'rgb(245, 246, 248)'");
        browser.open(&format!("{}/pipeline", server.url()));
        assert_eq!(browser.run("return document.documentElement.dataset.theme"), "light");

        // Nothing is wider than a phone.
        browser.size(360, 740);
        for page in ["/", COIN, &format!("{COIN}?view=candles&period=1d"), "/pairs", "/pipeline", "/coins/nowhere/none"]
        {
            browser.open(&format!("{}{page}", server.url()));
            // A page asks for itself once more when it begins to hear of news.
            browser.wait_for("document.querySelector('#live').dataset.live === 'on'");
            let width = browser.run("return document.documentElement.scrollWidth");
            assert!(width.as_i64().is_some_and(|width| width <= 360), "{page} is {width} wide");
            // The one that is not there says so in the console by its status, each time it is asked for, which is
            // no fault of the page.
            if page.ends_with("none") {
                let errors = browser.console_errors();
                let is_its_status = |error: &String| error.contains(page) && error.contains("404");
                assert!(errors.iter().all(is_its_status), "{errors:?}");
                assert!(errors.len() >= 2, "{errors:?}");
            }
        }
    });
}

const LARGEST: [&str; 2] = ["--top", "50"];

fn news_come_in_without_taking_anything_away(db: &TestDb) {
    // The largest: those that tell no time of their own are of the time of the run.
    store(db, 60, &LARGEST);
    let server = Server::start(db, &["--stale-after", "30m"]);
    Browser::visit(&server.url(), |browser| {
        browser.size(1280, 900);
        browser.open(&server.url());
        browser.wait_for("document.querySelector('#live').dataset.live === 'on'");
        browser.wait_for("!document.querySelector('.figures .stale').hidden");
        browser.run(
            "window.link = document.querySelector('table.coins tbody tr:nth-child(2) a'); link.focus(); scrollTo(0, 300); \
             window.price = document.querySelector('table.coins td.price').textContent; window.top0 = scrollY;",
        );
        store(db, 0, &LARGEST);
        browser.wait_for("document.querySelector('table.coins td.price').textContent !== window.price");
        // The same page, the same element, the same place.
        assert_eq!(browser.run("return document.activeElement === window.link && scrollY === window.top0"), true);
        browser.wait_for("document.querySelector('.figures .stale').hidden");

        // What is being typed stays, and so does what was found.
        browser.type_into("#q", "bitcoin");
        browser.wait_for("location.search.includes('q=bitcoin')");
        browser.wait_for("document.querySelectorAll('table.coins tbody tr').length < 20");
        browser.run("window.price = document.querySelector('td.price').dataset.flash");
        std::thread::sleep(std::time::Duration::from_secs(1));
        store(db, -1, &LARGEST);
        browser.wait_for("document.querySelector('td.price').dataset.flash !== window.price");
        assert_eq!(browser.run("return document.activeElement.id + document.activeElement.value"), "qbitcoin");
        assert!(browser.count("table.coins tbody tr") < 20);
    });
}
