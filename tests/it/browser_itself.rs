//! The browser of the tests: it does what a person does, and notices what a page must not do.

use fantoccini::key::Key;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::stub::{Stub, StubRequest, StubResponse};

const GOOD: &str = r#"<!doctype html><title>Coins</title><link rel="icon" href="data:,">
<style>body { background: #fff } @media (prefers-color-scheme: dark) { body { background: #000 } }
@media (max-width: 400px) { body { margin: 3px } }</style>
<input id="search"><button id="sort" title="by price">Sort</button><p id="told">nothing yet</p>
<script>
  const told = document.getElementById("told");
  document.getElementById("sort").onclick = () => told.textContent = "sorted";
  document.getElementById("search").onkeydown = event => {
    if (event.key === "Enter") setTimeout(() => told.textContent = "found " + event.target.value, 50);
  };
  console.log("no error");
</script>"#;

const BAD: &str = r#"<!doctype html><title>Bad</title><link rel="icon" href="data:,">
<img src="/missing.png"><img src="http://tracker.example/pixel.gif">
<script>console.error("something is wrong"); setTimeout(() => undefined.field)</script>"#;

fn answer(request: &StubRequest) -> StubResponse {
    match request.path.as_str() {
        "/good" => StubResponse::new(200, "text/html; charset=utf-8", GOOD),
        "/bad" => StubResponse::new(200, "text/html; charset=utf-8", BAD),
        _ => StubResponse::error(404),
    }
}

#[test]
fn it_does_what_a_person_does() {
    let stub = Stub::start(answer);
    let origin = format!("http://{}", stub.address());
    Browser::visit(&origin, |browser| {
        browser.open(&format!("{origin}/good"));
        browser.click("#sort");
        assert_eq!(browser.text("#told"), "sorted");
        browser.click("#search");
        browser.type_into("#search", "bit");
        browser.type_into("#search", "coin ₿");
        browser.press(Key::Enter);
        browser.wait_for("told.textContent === 'found bitcoin ₿'");
        assert_eq!(browser.attribute("#sort", "title").as_deref(), Some("by price"));
        assert_eq!((browser.count("p"), browser.count("table")), (1, 0));
        browser.press(Key::Tab);
        assert_eq!(browser.run("return document.activeElement.id"), "sort");

        let look = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.marginTop, innerWidth]";
        browser.size(1200, 700);
        browser.prefers(false, true);
        assert_eq!(browser.run(look), json!(["rgb(255, 255, 255)", "8px", 1200]));
        assert_eq!(browser.run("return matchMedia('(prefers-reduced-motion: reduce)').matches"), true);
        let light = browser.screenshot();
        assert_eq!((&light[..8], &light[16..24]), (&b"\x89PNG\r\n\x1a\n"[..], &[0, 0, 4, 176, 0, 0, 2, 188][..]));
        browser.prefers(true, false);
        browser.size(360, 700);
        assert_eq!(browser.run(look), json!(["rgb(0, 0, 0)", "3px", 360]));
        assert_ne!(browser.screenshot(), light);
        assert_eq!(browser.requested(), [format!("{origin}/good")]);
    });
}

#[test]
fn it_notices_what_a_page_must_not_do() {
    let stub = Stub::start(answer);
    let origin = format!("http://{}", stub.address());
    let Some(browser) = Browser::start() else { return };
    browser.open(&format!("{origin}/good"));
    assert_eq!(browser.faults(&origin), [""; 0]);

    browser.open(&format!("{origin}/bad"));
    // A script's error comes after the page.
    browser.run("return new Promise(done => setTimeout(done, 100))");
    let faults = browser.faults(&origin).join("\n");
    for wanted in [
        "error in the console: ",
        "something is wrong",
        "TypeError",
        "/missing.png - Failed to load resource",
        "asked of another host: http://tracker.example/pixel.gif",
    ] {
        assert!(faults.contains(wanted), "no {wanted} in\n{faults}");
    }
    assert!(!faults.contains("asked of another host: http://127.0.0.1"), "{faults}");
    assert_eq!(browser.faults(&origin), [""; 0], "they are told once");

    let caught = std::panic::catch_unwind(|| Browser::visit(&origin, |page| page.open(&format!("{origin}/bad"))));
    assert!(caught.is_err(), "a visit that found an error passed");
}
