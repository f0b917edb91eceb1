//! A real browser, Chromium without a window, driven through WebDriver. It can reach 127.0.0.1 only, and tells
//! what a page did that it must not: errors in its console, requests to another host.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use url::Url;

use super::test_db::loud;

/// For a session to begin, and for whatever a page is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nothing that a browser does of its own accord. A foreign name leads nowhere, so that a page which asks for one
/// can be shown to, without its being asked.
const ARGUMENTS: [&str; 15] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    // Instead of a page of its own.
    "about:blank",
];

/// A browser with one page and a profile of its own; both go when it is dropped.
pub struct Browser {
    // The order matters: the session ends before its processes, they before the folder goes.
    session: Session,
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Lets a test look at the pages of `origin` (`http://127.0.0.1:8000`). Afterwards nothing in the console may
    /// be an error, and nothing may have been asked of another host.
    #[track_caller]
    pub fn visit(origin: &str, look: impl FnOnce(&Browser)) {
        let Some(browser) = Browser::start() else { return };
        look(&browser);
        let faults = browser.faults(origin);
        assert!(faults.is_empty(), "the pages of {origin}:\n{}", faults.join("\n"));
    }

    /// `None` where there is no Chromium, which CI does not put up with.
    pub fn start() -> Option<Browser> {
        let Some(driver) = Driver::start() else {
            let why = "SKIPPED browser: chromedriver is not installed (scripts/setup --test)";
            loud(why);
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}, and CI must not skip");
            return None;
        };
        let profile = tempfile::Builder::new().prefix("coinetl-browser-").tempdir().expect("a folder");
        let session = Session::start(&driver, &profile);
        Some(Browser { session, _driver: driver, _profile: profile })
    }

    /// Opens an address and waits until the page with all it names is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.must(url, self.session.client.goto(url));
    }

    pub fn address(&self) -> Url {
        self.must("the address", self.session.client.current_url())
    }

    /// Clicks on the first element that a CSS selector finds, scrolled to if need be. What lies under something
    /// else can't be clicked on.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.must(selector, self.element(selector).click());
    }

    /// Types into a field, after what is there.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.must(selector, self.element(selector).send_keys(text));
    }

    /// Presses a key, for whatever has the focus.
    #[track_caller]
    pub fn press(&self, key: Key) {
        let focused = self.must("the focus", self.session.client.active_element());
        self.must("a key", focused.send_keys(&key.to_string()));
    }

    /// The shown text of the first element that is found.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.must(selector, self.element(selector).text())
    }

    #[track_caller]
    pub fn attribute(&self, selector: &str, name: &str) -> Option<String> {
        self.must(selector, self.element(selector).attr(name))
    }

    pub fn count(&self, selector: &str) -> usize {
        self.must(selector, self.session.client.find_all(Locator::Css(selector))).len()
    }

    /// Runs a function's body in the page; its `return` is the result.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.must(script, self.session.client.execute(script, Vec::new()))
    }

    /// Waits until an expression of the page's script is true.
    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        let started = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != json!(true) {
            assert!(started.elapsed() < PATIENCE, "{} never came to {expression}", self.address());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The visible part in CSS pixels, as narrow as wanted: a window can't be narrower than 500.
    pub fn size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the person set the system to.
    pub fn prefers(&self, dark: bool, reduced_motion: bool) {
        let (scheme, motion) =
            (if dark { "dark" } else { "light" }, if reduced_motion { "reduce" } else { "no-preference" });
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What is to be seen, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        self.must("a screenshot", self.session.client.screenshot())
    }

    /// The errors of the console since it was last looked at: of scripts, of what could not be loaded, of what the
    /// page's own policy forbids.
    pub fn console_errors(&self) -> Vec<String> {
        let entries = self.log("browser");
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Every address that was asked for since it was last looked at, redirects and sockets included. What lies in
    /// the page itself (`data:`) is no address.
    pub fn requested(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for entry in self.log("performance") {
            let text = entry["message"].as_str().expect("a message of DevTools");
            let message = &serde_json::from_str::<Value>(text).expect("JSON")["message"];
            let url = match message["method"].as_str() {
                Some("Network.requestWillBeSent") => &message["params"]["request"]["url"],
                Some("Network.webSocketCreated") => &message["params"]["url"],
                _ => continue,
            };
            let url = url.as_str().expect("an address");
            if ["http", "https", "ws", "wss", "ftp"].iter().any(|scheme| url.starts_with(&format!("{scheme}:"))) {
                addresses.push(url.to_owned());
            }
        }
        addresses
    }

    /// What the pages did since it was last looked at and must not do, a line each.
    pub fn faults(&self, origin: &str) -> Vec<String> {
        let ours = Url::parse(origin).expect("an address").origin();
        let mut faults: Vec<_> =
            self.console_errors().into_iter().map(|error| format!("error in the console: {error}")).collect();
        for address in self.requested() {
            let url = Url::parse(&address).unwrap_or_else(|err| panic!("{address}: {err}"));
            if url.origin() != ours {
                faults.push(format!("asked of another host: {address}"));
            }
        }
        faults
    }

    /// A command of Chromium's DevTools protocol.
    #[track_caller]
    pub fn devtools(&self, command: &'static str, params: Value) -> Value {
        let post = Post { path: "goog/cdp/execute", body: json!({ "cmd": command, "params": params }) };
        self.must(command, self.session.client.issue_cmd(post))
    }

    fn log(&self, kind: &'static str) -> Vec<Value> {
        let post = Post { path: "se/log", body: json!({ "type": kind }) };
        match self.must(kind, self.session.client.issue_cmd(post)) {
            Value::Array(entries) => entries,
            other => panic!("the log {kind} is {other}"),
        }
    }

    #[track_caller]
    fn element(&self, selector: &str) -> Element {
        self.must(selector, self.session.client.find(Locator::Css(selector)))
    }

    #[track_caller]
    fn must<T, E: std::fmt::Display>(&self, what: &str, work: impl Future<Output = Result<T, E>>) -> T {
        self.session.runtime.block_on(work).unwrap_or_else(|err| panic!("{what}: {err}"))
    }
}

/// A command that only Chromium's driver knows.
#[derive(Debug)]
struct Post {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (axum::http::Method, Option<String>) {
        (axum::http::Method::POST, Some(self.body.to_string()))
    }
}

struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    fn start(driver: &Driver, profile: &TempDir) -> Session {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|&argument| argument.to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments, "perfLoggingPrefs": { "enableNetwork": true, "enablePage": false } },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "pageLoad": PATIENCE.as_millis() as u64, "script": PATIENCE.as_millis() as u64 },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
        let client = runtime
            .block_on(ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&driver.address))
            .unwrap_or_else(|err| panic!("Chromium does not start: {err}"));
        Session { runtime, client }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // In good order, so that it writes to its folder no more. One that hangs is killed with its driver.
        let client = self.client.clone();
        let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), client.close()).await });
    }
}

/// `chromedriver` on a free port of its own choice, the first process of a group to which its Chromium belongs.
struct Driver {
    child: Child,
    address: String,
}

impl Driver {
    fn start() -> Option<Driver> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        // Read to its end, so that it never waits for us.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let mut driver = Driver { child, address: String::new() };
        driver.address = format!("http://127.0.0.1:{}", port.expect("chromedriver tells its port"));
        Some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let group = self.child.id();
        // Not Child::kill alone, which would leave a Chromium that hangs.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -KILL -{group}")).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
