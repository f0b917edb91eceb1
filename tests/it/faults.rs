//! Everything that goes wrong outside of us: settings, disks, databases, vendors. Each fault ends in
//! the exit code that a script can act on, one sentence that a person can act on, and tables that
//! the next run can go on from.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::gecko::{Gecko, Record, answer};
use crate::support::own_server::OwnServer;
use crate::support::stub::{Stub, StubRequest, StubResponse};
use crate::support::test_db::{Backend, TestDb, assert_same, loud};
use crate::support::workdir::wait_until;
use crate::support::workdir::{Cmd, Output, SandboxServer, Workdir};

const SECRET: &str = "wrong-Secret9";
const ASSETS: &[&str] = &["assets", "upsert"];
const PRICES: &[&str] = &["prices", "insert"];
/// A market that stands still, so that two runs may be compared.
const FROZEN: &[&str] = &["--at", "2026-06-01T00:00:00Z", "--speed", "0"];

// ---- settings ----

#[track_caller]
fn refused(cmd: Cmd, code: i32, words: &[&str]) -> Output {
    let output = cmd.run().expect(code);
    for word in words {
        assert!(output.stderr.contains(word), "{word:?} is not told\n{output}");
    }
    assert!(!output.stderr.contains(SECRET) && !output.stdout.contains(SECRET), "a secret is told\n{output}");
    assert_eq!(output.stderr.lines().count(), 1, "one sentence\n{output}");
    output
}

#[test]
fn an_unknown_scheme_is_refused() {
    let dir = Workdir::new();
    for url in ["oracle://u:wrong-Secret9@h/d", "u:wrong-Secret9@h/d?to=x://y"] {
        refused(dir.coinetl(["db-setup"]).env("DATABASE_URL", url), 78, &["DATABASE_URL", "sqlite://", "postgres://"]);
    }
}

#[test]
fn a_missing_folder_is_named() {
    let dir = Workdir::new();
    let url = format!("sqlite://{}/none/it.db", dir.path().display());
    refused(dir.coinetl(["db-setup", "--database-url", &url]), 78, &["none/it.db", "can't be opened", "folder"]);
    refused(dir.coinetl(ASSETS).env("DATABASE_URL", &url), 78, &["none/it.db", "does not exist", "db-setup"]);
    assert!(!dir.file("none").exists());
}

#[test]
fn a_folder_in_place_of_the_file_is_named() {
    let dir = Workdir::new();
    std::fs::create_dir(dir.file("it.db")).expect("a folder");
    refused(dir.coinetl(["db-setup", "--database-url", "sqlite://it.db"]), 78, &["it.db", "can't be opened"]);
}

/// Holds a file or folder unchangeable, for root too.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: PathBuf) -> Option<Immutable> {
        let done = Command::new("chattr").arg("+i").arg(&path).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then_some(Immutable(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn a_read_only_file_is_told() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let Some(held) = Immutable::new(db.workdir().file("it.db")) else {
        return loud("SKIPPED a_read_only_file_is_told: chattr +i is not possible here");
    };
    let gecko = Gecko::usual(3);
    refused(db.ask(ASSETS, &gecko.url()), 78, &["can't be written", "permissions"]);
    assert!(gecko.take_calls().is_empty(), "nothing is asked for what can't be stored");
    drop(held);
    db.ask(ASSETS, &gecko.url()).run().expect(0);
}

#[test]
fn a_read_only_folder_is_told() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let gecko = Gecko::usual(3);
    // Its scratch files lie elsewhere, so that only the database is in the way.
    let elsewhere = Workdir::new();
    let Some(held) = Immutable::new(db.workdir().path().to_owned()) else {
        return loud("SKIPPED a_read_only_folder_is_told: chattr +i is not possible here");
    };
    let ask =
        |args: &[&str]| elsewhere.coinetl(args).env("DATABASE_URL", db.url()).env("COINGECKO_API_URL", gecko.url());
    refused(ask(ASSETS), 78, &["database", "folder"]);
    let new = format!("sqlite://{}/new.db", db.workdir().path().display());
    refused(elsewhere.coinetl(["db-setup", "--database-url", &new]), 78, &["new.db", "folder"]);
    drop(held);
    ask(ASSETS).run().expect(0);
}

#[test]
fn a_wrong_password_is_refused_and_never_told() {
    let dir = Workdir::new();
    for (variable, built_in) in [
        ("COINETL_TEST_MYSQL_LOCKED_URL", cfg!(feature = "mysql")),
        ("COINETL_TEST_POSTGRES_LOCKED_URL", cfg!(feature = "postgres")),
    ] {
        let url = std::env::var(variable).unwrap_or_default();
        if url.is_empty() || !built_in {
            loud(&format!("SKIPPED a_wrong_password_is_refused_and_never_told: {variable} is not set or not built in"));
            continue;
        }
        let words = ["refuses us", "locked", "check user, password"];
        for args in [&["db-setup"][..], &["db-setup", "--check"], ASSETS, PRICES, &["db-setup", "--output", "json"]] {
            refused(dir.coinetl(args).env("DATABASE_URL", &url), 78, &words);
        }
        let loudest = dir.coinetl(["db-setup", "-vvv"]).env("DATABASE_URL", &url).run().expect(78);
        let traced = dir.coinetl(["db-setup"]).env("DATABASE_URL", &url).env("RUST_LOG", "trace").run().expect(78);
        assert!(!format!("{loudest}{traced}").contains(SECRET));
    }
}

#[test]
fn a_closed_port_is_for_later() {
    let dir = Workdir::new();
    // Bound and let go: nobody listens there now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    for (scheme, built_in) in [("mysql", cfg!(feature = "mysql")), ("postgres", cfg!(feature = "postgres"))] {
        if built_in {
            let url = format!("{scheme}://u:{SECRET}@127.0.0.1:{port}/d");
            let words = ["can't be reached", "127.0.0.1", "check that it runs"];
            refused(dir.coinetl(["db-setup"]).env("DATABASE_URL", &url), 75, &words);
            refused(dir.coinetl(ASSETS).env("DATABASE_URL", &url), 75, &words);
        }
    }
}

#[test]
fn a_backend_that_is_not_built_in_says_how_to_rebuild() {
    let dir = Workdir::new();
    for (scheme, built_in) in [("mysql", cfg!(feature = "mysql")), ("postgres", cfg!(feature = "postgres"))] {
        if !built_in {
            let url = format!("{scheme}://u:{SECRET}@127.0.0.1:1/d");
            let rebuild = format!("cargo build --release --features {scheme}");
            refused(dir.coinetl(["db-setup"]).env("DATABASE_URL", &url), 78, &["not built into", &rebuild]);
        }
    }
}

#[test]
fn a_broken_line_of_dot_env_is_named_by_its_number() {
    for (content, line) in [
        ("A=1\nthis is wrong-Secret9\n", "line 2"),
        ("A=1\n\n# fine\nKEY=\"wrong-Secret9\nB=2\n", "line 4"),
        ("=wrong-Secret9\n", "line 1"),
    ] {
        let dir = Workdir::new();
        dir.write(".env", content);
        let output = refused(dir.coinetl(["db-setup"]), 78, &[".env", line]);
        assert!(!output.stderr.contains("wrong"), "{output}");
        assert!(!dir.file("coinetl.db").exists());
    }
    let dir = Workdir::new();
    std::fs::write(dir.file(".env"), b"A=1\nB=\xff\n").expect(".env");
    refused(dir.coinetl(["db-setup"]), 78, &[".env line 2", "UTF-8"]);
}

// ---- disks and pipes ----

/// A small disk of its own; gone at the end.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn new(dir: PathBuf, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir(&dir).ok()?;
        let mount = ["-t", "tmpfs", "-o", &format!("size={size}"), "none"].map(str::to_owned);
        let done = Command::new("mount").args(mount).arg(&dir).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then_some(SmallDisk { dir })
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.dir).status();
        assert!(done.is_ok_and(|status| status.success()), "remount");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
    }
}

/// After a full disk: the database is whole, and with space the next run stores everything.
fn heals(dir: &Workdir, url: &str, vendor: &str, coins: i64) {
    let path = url.trim_start_matches("sqlite://");
    let conn = rusqlite::Connection::open(path).expect("the database");
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(check, "ok");
    let half = number("SELECT COUNT(*) FROM prices");
    assert!(half < coins, "the disk was large enough");
    // The run that died of it could not give back its lease.
    let run = dir.coinetl(["prices", "insert", "--wait", "20s"]).env("DATABASE_URL", url);
    let result = run.env("COINGECKO_API_URL", vendor).json(0);
    assert_eq!(result["rows_read"], coins);
    assert_eq!(number("SELECT COUNT(*) FROM prices"), coins);
    assert_eq!(number("SELECT COUNT(*) FROM runs WHERE command = 'prices insert' AND status = 'running'"), 0);
}

fn says_that_the_disk_is_full(output: Output) {
    let code = output.code.unwrap_or(-1);
    assert!([3, 75].contains(&code), "{output}");
    let output = output.expect(code);
    assert!(output.stderr.contains("disk of the database is full"), "{output}");
    assert!(output.stderr.contains("free some space and run again"), "{output}");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let dir = Workdir::new();
    let Some(disk) = SmallDisk::new(dir.file("disk"), "3m") else {
        return loud("SKIPPED a_full_disk_is_told_and_survived: no file system can be mounted here");
    };
    let gecko = Gecko::usual(10_000);
    let url = format!("sqlite://{}/it.db", disk.dir.display());
    let run = |args: &[&str]| dir.coinetl(args).env("DATABASE_URL", &url).env("COINGECKO_API_URL", gecko.url());
    run(&["db-setup"]).run().expect(0);
    says_that_the_disk_is_full(run(PRICES).run());
    disk.grow("64m");
    heals(&dir, &url, &gecko.url(), 10_000);
}

#[test]
fn a_file_size_limit_is_told_and_survived() {
    let dir = Workdir::new();
    let gecko = Gecko::usual(10_000);
    let url = format!("sqlite://{}", dir.file("it.db").display());
    dir.coinetl(["db-setup", "--database-url", &url]).run().expect(0);
    let mut limited = Command::new("bash");
    // In KiB. Without the trap the signal, not the error, would arrive.
    let script = format!("trap '' XFSZ; ulimit -f 1500; exec {} prices insert", env!("CARGO_BIN_EXE_coinetl"));
    limited.args(["-c", &script]).current_dir(dir.path()).env_clear();
    limited.env("DATABASE_URL", &url).env("COINGECKO_API_URL", gecko.url()).env("COINETL_CALLS_PER_MINUTE", "0");
    let output = limited.output().expect("bash");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    says_that_the_disk_is_full(Output {
        line: script,
        code: output.status.code(),
        signal: None,
        seconds: 0.0,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    });
    heals(&dir, &url, &gecko.url(), 10_000);
}

/// A pipe that nobody reads any more.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_went_away_changes_no_exit_code() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let gecko = Gecko::usual(30);
    db.ask(ASSETS, &gecko.url()).run().expect(0);
    let run = |args: &[&str], vendor: &str, stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coinetl"));
        command.args(args).current_dir(db.workdir().path()).env_clear().stdin(Stdio::null());
        command.env("DATABASE_URL", db.url()).env("COINGECKO_API_URL", vendor);
        command.env("COINETL_CALLS_PER_MINUTE", "0").env("COINETL_BACKOFF", "10ms").env("RUST_BACKTRACE", "1");
        let mut child = command.stdout(stdout).stderr(stderr).spawn().expect("the binary");
        let mut told = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut told).expect("UTF-8");
        }
        assert!(!told.contains("panicked"), "{told}");
        child.wait().expect("an end").code()
    };
    let down = Stub::start(|_| StubResponse::error(500));
    for args in [&["prices", "insert"][..], &["prices", "insert", "--output", "json"], &["--help"], &["db-setup"]] {
        assert_eq!(run(args, &gecko.url(), broken_pipe(), Stdio::piped()), Some(0), "{args:?}");
    }
    for verbose in [&["assets", "upsert", "-vvv"][..], &["assets", "upsert", "--log-format", "json", "-vv"]] {
        assert_eq!(run(verbose, &gecko.url(), broken_pipe(), broken_pipe()), Some(0));
        assert_eq!(run(verbose, &down.url(), broken_pipe(), broken_pipe()), Some(75));
    }
    assert_eq!(run(&["nonsense"], &gecko.url(), broken_pipe(), broken_pipe()), Some(2));
    assert_eq!(db.lines("SELECT status FROM runs WHERE status IN ('running', 'partial')"), [""; 0]);
}

// ---- a database that dies ----

fn dies_in_mid_run(service: &'static str, built_in: bool) {
    if !built_in {
        return loud(&format!("SKIPPED {service} dying in mid-run: not built in"));
    }
    let Some((server, address)) = OwnServer::up(service) else {
        return loud(&format!("SKIPPED {service} dying in mid-run: scripts/services can't start it here"));
    };
    let dir = Workdir::new();
    let gecko = Gecko::usual(15_000);
    let url = format!("{address}/it");
    let run = |args: &[&str]| dir.coinetl(args).env("DATABASE_URL", &url).env("COINGECKO_API_URL", gecko.url());
    run(&["db-setup"]).run().expect(0);
    run(ASSETS).run().expect(0);
    gecko.take_calls();
    let mut running = run(PRICES).env("COINETL_CALLS_PER_MINUTE", "1200").spawn();
    wait_until(|| gecko.stub.requests().len() >= 20 || !running.is_running());
    assert!(server.services("kill"), "{service} does not die");
    let output = running.wait();
    let code = output.code.unwrap_or(-1);
    assert!([3, 75].contains(&code), "{output}");
    assert!(output.stderr.contains("went away") || output.stderr.contains("can't be reached"), "{output}");
    let output = output.expect(code);
    assert!(output.seconds < 30.0, "it took long to notice\n{output}");
    refused(run(PRICES), 75, &["can't be reached"]);
    assert!(server.services("start"), "{service} does not start again");
    let result = run(&["prices", "insert", "--wait", "20s"]).json(0);
    assert_eq!(result["rows_read"], 15_000);
    let again = run(PRICES).json(0);
    assert_eq!((&again["rows_unchanged"], &again["rows_written"]), (&15_000.into(), &0.into()));
}

#[test]
fn mysql_dying_in_mid_run_is_survived() {
    dies_in_mid_run("mysql", cfg!(feature = "mysql"));
}

#[test]
fn postgres_dying_in_mid_run_is_survived() {
    dies_in_mid_run("postgres", cfg!(feature = "postgres"));
}

// ---- a vendor that fails always ----

struct Always {
    args: &'static [&'static str],
    fault: &'static str,
    /// Of one page.
    tries: i64,
    code: i32,
    words: &'static str,
}

fn fails_always(Always { args, fault, tries, code, words }: Always) {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "600", "--fault", &format!("{fault}=1")]);
    let ask = db.ask(args, &sandbox.url()).env("COINETL_TIMEOUT", "300ms");
    let output = ask.args(["-q", "--output", "json"]).run().expect(code);
    assert!(output.stderr.contains(words), "{words:?} is not told\n{output}");
    let result = output.json();
    assert_eq!((&result["rows_read"], &result["status"]), (&0.into(), &"failed".into()), "{output}");
    assert_eq!(result["calls"], tries, "{output}");
    assert!(result["error"].as_str().is_some_and(|error| error.contains(words)), "{output}");
    assert_eq!(db.lines("SELECT status, calls FROM runs"), [format!("failed|{tries}")]);
    for table in ["assets", "prices", "dead_letters", "absences", "leases"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
}

macro_rules! always {
    ($($name:ident: $args:ident $fault:literal $tries:literal calls, $code:literal $words:literal;)+) => {
        mod always {
            use super::{ASSETS, Always, PRICES, fails_always};
            $(
                #[test]
                fn $name() {
                    fails_always(Always { args: $args, fault: $fault, tries: $tries, code: $code, words: $words });
                }
            )+
        }
    };
}

// Three pages in a row without an answer end a run: 15 tries, or 3 where trying again is no use.
always! {
    assets_429: ASSETS "429" 5 calls, 75 "the source limits us (HTTP 429, retry after 1 s)";
    assets_429_bare: ASSETS "429-bare" 5 calls, 75 "the source limits us (HTTP 429)";
    assets_500: ASSETS "500" 5 calls, 75 "the source has trouble of its own (HTTP 500): Internal Server Error";
    assets_html: ASSETS "html" 5 calls, 75 "it is text/html, not JSON";
    assets_truncated: ASSETS "truncated" 5 calls, 75 "the answer ends in the middle";
    assets_slow: ASSETS "slow" 5 calls, 75 "no whole answer within 300ms";
    assets_drop: ASSETS "drop" 5 calls, 75 "can't be reached (error decoding response body";
    assets_empty: ASSETS "empty" 1 calls, 75 "the coin list is empty";
    prices_429: PRICES "429" 15 calls, 75 "page 3 of usd failed: the source limits us (HTTP 429, retry after 1 s)";
    prices_429_bare: PRICES "429-bare" 15 calls, 75 "page 3 of usd failed: the source limits us (HTTP 429)";
    prices_500: PRICES "500" 15 calls, 75 "page 3 of usd failed: the source has trouble of its own (HTTP 500)";
    prices_html: PRICES "html" 15 calls, 75 "it is text/html, not JSON";
    prices_truncated: PRICES "truncated" 15 calls, 75 "the answer ends in the middle";
    prices_slow: PRICES "slow" 15 calls, 75 "no whole answer within 300ms";
    prices_drop: PRICES "drop" 15 calls, 75 "can't be reached (error decoding response body";
}

#[test]
fn an_empty_market_is_a_broken_answer() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "600", "--fault", "empty=1"]);
    let whole = SandboxServer::start(["--assets", "600"]);
    for known in [false, true] {
        if known {
            db.ask(ASSETS, &whole.url()).run().expect(0);
        }
        for args in [PRICES, &["prices", "insert", "--top", "300"]] {
            let output = db.ask(args, &sandbox.url()).run().expect(75);
            assert!(output.stderr.contains("empty"), "{output}");
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 0);
        assert_eq!(db.number("SELECT COUNT(*) FROM absences"), 0, "nobody said that these coins have no price");
    }
    let output = db.ask(ASSETS, &sandbox.url()).run().expect(3);
    assert!(output.stderr.contains("the list of 0 coins lacks 600 of 600 active ones"), "{output}");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 600);
}

#[test]
fn an_endless_body_is_cut_off_with_flat_memory() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "600", "--fault", "endless=1"]);
    for (args, calls) in [(ASSETS, 1), (PRICES, 3)] {
        let ask = db.ask(args, &sandbox.url()).env("COINETL_TIMEOUT", "60s").args(["--output", "json", "-q"]);
        let mut running = ask.spawn();
        let mut peak = 0;
        while running.is_running() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
            let told = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
            peak = peak.max(kib.unwrap_or(0u64));
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = running.wait().expect(75);
        assert!(output.stderr.contains("is larger than 100663296 bytes"), "{output}");
        assert_eq!(output.json()["calls"], calls, "the same answer is not asked for again\n{output}");
        assert!(peak < 64 << 10, "{peak} KiB at the peak");
    }
    // A short timeout ends it too, but that is worth another try.
    let slow = db.ask(ASSETS, &sandbox.url()).env("COINETL_TIMEOUT", "5ms").run().expect(75);
    assert!(slow.stderr.contains("retry 4 of 4"), "{slow}");
}

#[test]
fn garbage_costs_itself_only() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "1000", "--fault", "garbage=1"]);
    for args in [ASSETS, PRICES] {
        let result = db.ask(args, &sandbox.url()).json(3);
        let count = |name: &str| result[name].as_i64().expect("a count");
        assert!(count("rows_rejected") > 0 && count("rows_written") > 800, "{result}");
        assert_eq!(count("rows_read"), count("rows_written") + count("rows_unchanged") + count("rows_rejected"));
        assert!(result["error"].as_str().is_some_and(|error| error.contains("dead_letters")), "{result}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE payload = '' OR error = ''"), 0);
    assert!(db.number("SELECT COUNT(*) FROM dead_letters WHERE topic = 'coins/list'") > 0);
    assert!(db.number("SELECT COUNT(*) FROM dead_letters WHERE topic = 'coins/markets'") > 0);
}

// ---- a vendor that fails now and then ----

/// Runs until all is well, at most so often.
#[track_caller]
fn until_well(db: &TestDb, args: &[&str], url: &str, most: usize) -> Value {
    let mut said = Vec::new();
    for _ in 0..most {
        let output = db.ask(args, url).env("COINETL_TIMEOUT", "400ms").args(["--output", "json", "-q"]).run();
        let code = output.code.unwrap_or(-1);
        assert!([0, 3, 75].contains(&code), "{output}");
        let output = output.expect(code);
        if code == 0 {
            return output.json();
        }
        said.push(output.to_string());
    }
    panic!("not well after {most} runs:\n{}", said.join("\n"));
}

/// Coins without a time of their own have the run's: each run is an observation of them.
const CONTENT: [&str; 3] = [
    "SELECT id, source, source_id, symbol, name, active FROM assets ORDER BY id",
    "SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, \
     total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d FROM prices \
     WHERE observed_at < '2026-06-02 00:00:00.000' \
     ORDER BY asset_id, vs_currency, observed_at",
    "SELECT source, topic, payload, error FROM dead_letters ORDER BY source, topic, payload, error",
];

fn fails_now_and_then(fault: &str, rate: f64) {
    let (disturbed, whole) = (TestDb::new(Backend::Sqlite), TestDb::new(Backend::Sqlite));
    let (disturbed, whole) = (disturbed.expect("SQLite"), whole.expect("SQLite"));
    let market = [&["--assets", "3000", "--seed", "3"], FROZEN].concat();
    let faulty = SandboxServer::start(market.iter().copied().chain(["--fault", &format!("{fault}={rate}")]));
    let fine = SandboxServer::start(&market);
    for (db, url) in [(&whole, fine.url()), (&disturbed, faulty.url())] {
        db.setup();
        until_well(db, ASSETS, &url, 10);
        for _ in 0..3 {
            until_well(db, PRICES, &url, 20);
        }
    }
    for sql in CONTENT {
        assert_same(&disturbed.lines(sql), &whole.lines(sql));
    }
}

macro_rules! now_and_then {
    ($($name:ident $fault:literal $rate:literal),+ $(,)?) => {
        mod now_and_then {
            $(
                #[test]
                fn $name() {
                    super::fails_now_and_then($fault, $rate);
                }
            )+
        }
    };
}

now_and_then!(
    too_many "429" 0.1,
    too_many_bare "429-bare" 0.1,
    internal "500" 0.2,
    html "html" 0.2,
    truncated "truncated" 0.2,
    slow "slow" 0.15,
    dropped "drop" 0.2,
    // Not asked for again at once: these cost their page.
    empty "empty" 0.05,
    endless "endless" 0.05,
    shift "shift" 0.3,
);

#[test]
fn calls_counted_are_calls_made() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let asked = AtomicUsize::new(0);
    // Pages are asked for side by side: each gets no more faults than a page is asked again for.
    let faults_of = Mutex::new(HashMap::<String, usize>::new());
    let gecko = Gecko::with((0..2_600).map(Record::usual).collect(), move |request, state| {
        let n = asked.fetch_add(1, Ordering::SeqCst);
        let whole = || answer(request, state);
        let fault = n / 2 % 7;
        let mut faults_of = faults_of.lock().unwrap();
        let faults = faults_of.entry(request.target.clone()).or_default();
        let is_due = n % 2 == 1 && *faults < 3;
        *faults += usize::from(is_due);
        is_due.then(|| match fault {
            0 => StubResponse::error(503),
            1 => StubResponse::error(408),
            2 => StubResponse::new(200, "text/html", "<html>wait</html>"),
            3 => whole().cut_after(1_000),
            4 => {
                let body = whole().body;
                StubResponse { body: body[..body.len().min(2_000) - 1].to_vec(), ..whole() }
            }
            5 => whole().delay(Duration::from_millis(700)),
            _ => StubResponse::new(429, "text/plain", "slow down").header("retry-after", "1"),
        })
    });
    for (args, rows) in [(ASSETS, 2_600), (PRICES, 2_600)] {
        let ask = db.ask(args, &gecko.url()).env("COINETL_TIMEOUT", "500ms").arg("-q");
        let result = ask.json(0);
        assert_eq!(result["rows_written"], rows, "{result}");
        assert_eq!(result["calls"], gecko.take_calls().len(), "{result}");
    }
    let counted = db.lines("SELECT status FROM runs WHERE calls <> credits OR calls < 1");
    assert_eq!(counted, [""; 0]);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 2_600);
}

// ---- what is tried again, and when ----

#[test]
fn only_what_may_work_later_is_tried_again() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    for (status, tries, code) in [
        (408, 5, 75),
        (429, 5, 75),
        (500, 5, 75),
        (502, 5, 75),
        (503, 5, 75),
        (520, 5, 75),
        (400, 1, 1),
        (401, 1, 78),
        (403, 1, 75),
        (404, 1, 78),
        (422, 1, 1),
    ] {
        let stub = Stub::start(move |_| StubResponse::new(status, "text/html", "<h1>no</h1>"));
        let output = db.ask(ASSETS, &stub.url()).env("COINETL_BACKOFF", "3ms").arg("-q").run().expect(code);
        assert_eq!(stub.take().len(), tries, "HTTP {status}\n{output}");
        assert!(output.stderr.contains(&format!("HTTP {status}")), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    // A connection that is closed before a word is said.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/api/v3", listener.local_addr().expect("a port"));
    let accepted = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let accepted = accepted.clone();
        move || {
            for connection in listener.incoming() {
                accepted.fetch_add(1, Ordering::SeqCst);
                drop(connection);
            }
        }
    });
    let output = db.ask(ASSETS, &url).arg("-q").run().expect(75);
    assert_eq!(accepted.load(Ordering::SeqCst), 5, "{output}");
    assert!(output.stderr.contains("can't be reached"), "{output}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    let output = db.ask(ASSETS, &format!("http://127.0.0.1:{port}/api/v3")).arg("-q").run().expect(75);
    assert!(output.stderr.contains("can't be reached"), "{output}");
}

#[test]
fn retry_after_is_honoured() {
    for (header, at_least, at_most) in [("2", 2.0, 3.0), ("0", 0.58, 1.6), ("soon", 0.58, 1.6)] {
        let asked = AtomicUsize::new(0);
        let gecko = Gecko::with((0..3).map(Record::usual).collect(), move |_, _| {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            first.then(|| StubResponse::new(429, "application/json", "{}").header("retry-after", header))
        });
        let db = TestDb::new(Backend::Sqlite).expect("SQLite");
        db.setup();
        db.ask(ASSETS, &gecko.url()).run().expect(0);
        let calls = gecko.take_calls();
        assert_eq!(calls.len(), 2);
        let gap = (calls[1].at - calls[0].at).as_secs_f64();
        assert!((at_least..at_most).contains(&gap), "Retry-After: {header} and {gap} s");
    }
}

#[test]
fn retry_after_is_bounded() {
    for header in ["100000", "18446744073709551615"] {
        let stub = Stub::start(move |_| StubResponse::new(429, "text/plain", "no").header("retry-after", header));
        let db = TestDb::new(Backend::Sqlite).expect("SQLite");
        db.setup();
        let running = db.ask(ASSETS, &stub.url()).spawn();
        wait_until(|| !stub.requests().is_empty());
        std::thread::sleep(Duration::from_millis(300));
        running.signal("TERM");
        let output = running.wait().expect(75);
        assert!(output.stderr.contains("retry 1 of 4 in 120.0 s"), "{output}");
        assert_eq!(
            db.lines("SELECT status, error FROM runs"),
            ["failed|stopped by a signal; run again to get the rest"]
        );
        assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
    }
}

#[test]
fn nobody_calls_while_the_source_asks_for_a_pause() {
    let asked = AtomicUsize::new(0);
    let gecko = Gecko::with((0..4_000).map(Record::usual).collect(), move |_, _| {
        let fourth = asked.fetch_add(1, Ordering::SeqCst) == 3;
        fourth.then(|| StubResponse::new(429, "text/plain", "no").header("retry-after", "2"))
    });
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    db.ask(ASSETS, &gecko.url()).run().expect(0);
    let result = db.ask(PRICES, &gecko.url()).env("COINETL_CALLS_PER_MINUTE", "300").json(0);
    assert_eq!(result["rows_written"], 4_000);
    let calls = gecko.take_calls();
    assert_eq!(result["calls"], calls.len() - 1, "one was for the list");
    let limited = calls[3].at;
    let early = calls.iter().filter(|call| {
        let after = call.at.saturating_duration_since(limited).as_millis();
        (20..1_990).contains(&after)
    });
    assert_eq!(early.count(), 0, "calls in spite of Retry-After");
    never_faster_than(&calls[1..], 200.0);
}

#[test]
fn every_error_body_becomes_one_sentence() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let cases: [(u16, &str, &str, i32); 12] = [
        (
            400,
            r#"{"error":"invalid vs_currency"}"#,
            "refuses the request to coins/list (HTTP 400): invalid vs_currency",
            1,
        ),
        (404, r#"{"error":"coin not found"}"#, "the source has no coins/list (HTTP 404): coin not found", 78),
        (
            401,
            r#"{"status":{"error_code":10002,"error_message":"API Key Missing."}}"#,
            "does not accept the key (HTTP 401, code 10002): API Key Missing; set a valid COINGECKO_DEMO_API_KEY",
            78,
        ),
        (
            401,
            r#"{"error":{"status":{"timestamp":"x","error_code":10012,"error_message":"over 365 days"}}}"#,
            "the plan does not cover coins/list (HTTP 401, code 10012): over 365 days; use a key with a larger plan",
            78,
        ),
        (
            400,
            r#"{"timestamp":"x","error_code":10010,"status":{"error_message":"wrong root"}}"#,
            "set it as COINGECKO_PRO_API_KEY",
            78,
        ),
        (
            400,
            r#"{"timestamp":"x","error_code":10011,"status":{"error_message":"wrong root"}}"#,
            "set it as COINGECKO_DEMO_API_KEY",
            78,
        ),
        (
            500,
            r#"{"status":500,"error":"Internal Server Error"}"#,
            "(HTTP 500): Internal Server Error; try again later",
            75,
        ),
        (
            429,
            r#"{"status":{"error_code":429,"error_message":"You've exceeded the Rate Limit."}}"#,
            "limits us (HTTP 429): You've exceeded the Rate Limit; call less often",
            75,
        ),
        (200, r#" {"status":{"error_code":429,"error_message":"slow down"}}"#, "limits us (HTTP 429): slow down", 75),
        (
            403,
            "<!DOCTYPE html><html><head><title>Blocked</title></head><body>error code: 1020</body></html>",
            "blocks us (HTTP 403): Blocked error code: 1020; wait, use a key",
            75,
        ),
        (503, "", "(HTTP 503): no reason given; try again later", 75),
        (200, r#"{"gecko_says":"hi"}"#, "an object instead of an array", 75),
    ];
    for (status, body, words, code) in cases {
        let stub = Stub::start(move |_| StubResponse::new(status, "application/json", body));
        let output = db.ask(ASSETS, &stub.url()).env("COINETL_BACKOFF", "1ms").arg("-q").run().expect(code);
        assert!(output.stderr.contains(words), "{words:?} is not told\n{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 0);
    }
}

#[test]
fn the_key_travels_in_its_header_only() {
    const KEY: &str = "CG-hush-7c1e";
    // Some servers say back what they were sent.
    let echo = |request: &StubRequest| {
        let told: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        StubResponse::new(401, "text/plain", told.join(" "))
    };
    for (variable, header) in
        [("COINGECKO_DEMO_API_KEY", "x-cg-demo-api-key"), ("COINGECKO_PRO_API_KEY", "x-cg-pro-api-key")]
    {
        let db = TestDb::new(Backend::Sqlite).expect("SQLite");
        db.setup();
        let gecko = Gecko::usual(300);
        let (refusing, down) = (Stub::start(echo), Stub::start(|_| StubResponse::error(500)));
        for (args, url, code) in
            [(ASSETS, gecko.url(), 0), (PRICES, gecko.url(), 0), (ASSETS, refusing.url(), 78), (PRICES, down.url(), 3)]
        {
            for loudness in [&["-vvv"][..], &["-vvv", "--log-format", "json", "--output", "json"], &[]] {
                let ask = db.ask(args, &url).env(variable, KEY).env("RUST_LOG", "trace").env("COINETL_BACKOFF", "1ms");
                let output = ask.args(loudness).run();
                // Nothing was stored by this run, but another one's coins may be there.
                let code =
                    if code == 3 { output.code.filter(|code| [3, 75].contains(code)).unwrap_or(3) } else { code };
                let output = output.expect(code);
                assert!(!output.stderr.contains(KEY) && !output.stdout.contains(KEY), "the key is told\n{output}");
            }
        }
        for call in gecko.take_calls().iter().chain(&refusing.take()).chain(&down.take()) {
            assert_eq!(call.header(header), Some(KEY));
            assert!(!call.target.contains("hush"), "{}", call.target);
            assert!(
                call.header("user-agent").is_some_and(|agent| agent.starts_with("coinetl/") && agent.contains("+http"))
            );
            assert_eq!(call.header("accept"), Some("application/json"));
        }
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM runs WHERE error LIKE '%{KEY}%'")), 0);
    }
}

#[test]
fn a_redirect_does_not_take_the_key_along() {
    let other = Stub::start(|_| StubResponse::json("[]"));
    let to = format!("{}/coins/list", other.url());
    let stub = Stub::start(move |_| StubResponse::new(302, "text/html", "").header("location", &to));
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let output = db.ask(ASSETS, &stub.url()).env("COINGECKO_DEMO_API_KEY", "CG-hush").arg("-q").run().expect(78);
    assert!(output.stderr.contains("HTTP 302") && output.stderr.contains("COINGECKO_API_URL"), "{output}");
    assert_eq!((stub.take().len(), other.take().len()), (1, 0));
}

// ---- pacing ----

/// However many calls in a row are looked at, they take as long as the limit says; a call may be late
/// on a busy machine, which makes the way to the next one shorter.
#[track_caller]
fn never_faster_than(calls: &[StubRequest], interval_ms: f64) {
    const LATE_MS: f64 = 90.0;
    for (first, call) in calls.iter().enumerate() {
        for (last, later) in calls.iter().enumerate().skip(first + 1) {
            let (took, calls) = ((later.at - call.at).as_secs_f64() * 1e3, (last - first) as f64);
            assert!(took > calls * interval_ms - LATE_MS, "calls {first} to {last} came within {took} ms");
        }
    }
}

#[test]
fn calls_keep_their_distance_across_processes() {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    let gecko = Gecko::usual(3_000);
    db.ask(ASSETS, &gecko.url()).run().expect(0);
    gecko.take_calls();
    let paced = |args: &[&str]| db.ask(args, &gecko.url()).env("COINETL_CALLS_PER_MINUTE", "600").arg("-q").spawn();
    let prices = paced(&["prices", "insert", "--vs", "usd,eur,jpy,gbp"]);
    // One call each, one run after the other: the slots are the database's, not the process's.
    for _ in 0..4 {
        paced(ASSETS).wait().expect(0);
    }
    prices.wait().expect(0);
    let calls = gecko.take_calls();
    assert_eq!(calls.len(), 53);
    never_faster_than(&calls, 100.0);
    // Nor much slower: a slot that comes too late for one process is not lost for the other.
    let span = (calls[52].at - calls[0].at).as_secs_f64();
    assert!(span < 52.0 * 0.101 * 1.05 + 1.5, "{span} s from the first to the last call");
}

// ---- records that can't be used ----

on_every_database!(unusable_records_are_kept_alone_and_once, a_reason_as_long_as_its_record_is_cut);

fn unusable_records_are_kept_alone_and_once(db: &TestDb) {
    let broken: [(&str, &str); 10] = [
        (r#"{"id":"nan","current_price":NaN}"#, "expected value"),
        (r#"{"id":"infinity","current_price":Infinity}"#, "expected value"),
        (r#"{"id":"minus","current_price":-Infinity}"#, "invalid number"),
        (r#"{"id":"text-nan","current_price":"NaN"}"#, "price is not a finite number"),
        (r#"{"id":"text-inf","total_volume":"-inf"}"#, "volume_24h is not a finite number"),
        (r#"{"id":"huge","current_price":1e999}"#, "number out of range"),
        (r#"{"id":"object","market_cap":{}}"#, "market_cap is an object, not a number"),
        (r#"{"id":"soon","current_price":1,"last_updated":"soon"}"#, "last_updated is not an RFC 3339 time"),
        (r#"{"id":null,"current_price":1}"#, "id is missing"),
        (r#"{"id":"zero\u0000","current_price":1}"#, "U+0000"),
    ];
    let mut records: Vec<Record> = (0..300).map(Record::usual).collect();
    for (n, (json, _)) in broken.iter().enumerate() {
        records.push(Record { id: format!("coin-0000{n}-broken"), json: (*json).to_owned() });
    }
    let gecko = Gecko::new(records);
    gecko.set_list("[]");
    let first = db.ask(PRICES, &gecko.url()).json(3);
    let count =
        |result: &Value| ["rows_read", "rows_written", "rows_unchanged", "rows_rejected"].map(|n| result[n].clone());
    assert_eq!(count(&first), [310, 300, 0, 10].map(Value::from), "{first}");
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 300);
    let letters = "SELECT payload, error, topic, source FROM dead_letters ORDER BY id";
    let kept = db.query(letters);
    assert_eq!(kept.len(), 10);
    for (row, (json, error)) in kept.iter().zip(broken) {
        assert_eq!(row[0].as_deref(), Some(json));
        assert!(row[1].as_deref().is_some_and(|told| told.contains(error)), "{row:?}");
        assert_eq!(row[2].as_deref(), Some("coins/markets"));
        assert_eq!(row[3].as_deref(), Some("coingecko"));
    }
    let second = db.ask(PRICES, &gecko.url()).json(3);
    assert_eq!(count(&second), [310, 0, 300, 10].map(Value::from), "{second}");
    assert_same(&db.query(letters), &kept);
}

fn a_reason_as_long_as_its_record_is_cut(db: &TestDb) {
    let mut records: Vec<Record> = (0..3).map(Record::usual).collect();
    records[1].json = records[1].json.replace("1.25", &format!("\"{}\"", "é".repeat(70_000)));
    let gecko = Gecko::new(records);
    let result = db.ask(PRICES, &gecko.url()).json(3);
    assert_eq!((&result["rows_written"], &result["rows_rejected"]), (&2.into(), &1.into()), "{result}");
    let letter = db.query("SELECT error, payload FROM dead_letters").remove(0);
    assert!(letter[0].as_deref().is_some_and(|error| error.len() <= 1_000 && error.contains("price is not a number")));
    assert!(letter[1].as_deref().is_some_and(|payload| payload.len() > 140_000));
}

#[test]
fn a_password_with_a_broken_escape_is_not_told() {
    let dir = Workdir::new();
    for scheme in ["mysql", "postgres"] {
        let url = format!("{scheme}://u:{SECRET}%zz@127.0.0.1:1/d");
        refused(dir.coinetl(["db-setup"]).env("DATABASE_URL", url), 78, &["DATABASE_URL", "%25"]);
    }
}

#[test]
fn a_proxy_is_not_asked_for_a_sandbox_on_this_machine() {
    let dir = Workdir::new();
    dir.coinetl(["db-setup"]).run().expect(0);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy"] {
        dir.coinetl(["assets", "upsert", "--sandbox"]).env(name, "http://127.0.0.1:9").run().expect(0);
    }
}

/// Somebody else holds SQLite's lock longer than anyone waits.
#[test]
fn a_locked_database_ends_the_run() {
    let dir = Workdir::new();
    dir.coinetl(["db-setup"]).run().expect(0);
    let gecko = Gecko::with((0..2_000).map(Record::usual).collect(), |_, _| {
        std::thread::sleep(Duration::from_millis(100));
        None
    });
    let running = dir.coinetl(PRICES).env("COINGECKO_API_URL", gecko.url()).timeout(Duration::from_secs(170)).spawn();
    wait_until(|| !gecko.stub.requests().is_empty());
    let other = rusqlite::Connection::open(dir.file("coinetl.db")).expect("the database");
    other.busy_timeout(Duration::from_secs(30)).expect("a timeout");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let ended = running.wait();
    other.execute_batch("ROLLBACK").expect("the end of the lock");
    let code = ended.code.unwrap_or(-1);
    assert!(matches!(code, 3 | 75), "{ended}");
    assert!(ended.to_string().contains("locked"), "{ended}");
}
