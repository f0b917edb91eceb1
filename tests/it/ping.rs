//! The dead-man's switch: it hears of every run, and is no part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::gecko::Gecko;
use crate::support::stub::{Stub, StubRequest, StubResponse};
use crate::support::test_db::{Backend, TestDb};

const PATH: &str = "/5f1a-hush";

fn switch() -> Stub {
    Stub::start(|_: &StubRequest| StubResponse::new(200, "text/plain", "OK"))
}

fn heard(switch: &Stub) -> Vec<String> {
    switch.take().into_iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

#[test]
fn every_run_is_heard_of_and_nothing_else() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let (gecko, switch) = (Gecko::usual(3), switch());
    let run = |args: &[&str], query: &str| {
        let url = format!("http://{}{PATH}{query}", switch.address());
        db.ask(args, &gecko.url()).env("COINETL_PING_URL", url).run()
    };
    run(&["assets", "upsert"], "").expect(0);
    run(&["prices", "insert"], "/").expect(0);
    run(&["prune", "--older-than", "90d"], "?rid=1").expect(0);
    assert_eq!(heard(&switch), [format!("GET {PATH}"), format!("GET {PATH}/"), format!("GET {PATH}?rid=1")]);
    // Part of it, and nothing of it.
    run(&["prices", "insert", "--ids", "nobody"], "/").expect(3);
    gecko.set_list("[]");
    run(&["assets", "upsert"], "?rid=1").expect(3);
    assert_eq!(heard(&switch), [format!("GET {PATH}/fail"), format!("GET {PATH}/fail?rid=1")]);
    // No run, no word.
    run(&["plan"], "").expect(0);
    run(&["db-setup"], "").expect(0);
    run(&["prices", "insert", "--top", "0"], "").expect(2);
    assert_eq!(heard(&switch), [""; 0]);
    db.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')");
    run(&["prices", "insert"], "").expect(78);
    assert_eq!(heard(&switch), [format!("GET {PATH}/fail")]);
}

#[test]
fn a_switch_that_fails_changes_nothing_and_is_not_named() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::usual(3);
    let tries = Arc::new(AtomicUsize::new(0));
    let broken = Stub::start({
        let tries = tries.clone();
        move |_: &StubRequest| {
            tries.fetch_add(1, Ordering::SeqCst);
            StubResponse::new(500, "text/plain", "no")
        }
    });
    for address in [format!("http://{}{PATH}", broken.address()), format!("http://127.0.0.1:9{PATH}")] {
        let output = db.ask(&["assets", "upsert"], &gecko.url()).env("COINETL_PING_URL", &address).run().expect(0);
        assert!(output.stderr.contains("COINETL_PING_URL could not be called"), "{output}");
        assert!(!format!("{output}").contains("hush"), "{output}");
    }
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    let output = db.coinetl(&["doctor"]).env("COINETL_PING_URL", "hush").run().expect(78);
    assert!(output.stdout.contains("COINETL_PING_URL") && !output.stdout.contains("hush"), "{output}");
}

#[test]
fn a_run_that_waits_for_another_says_nothing() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let (gecko, switch) = (Gecko::usual(3), switch());
    db.execute(
        "INSERT INTO leases (command, source, token, heartbeat_us) \
         VALUES ('assets upsert', 'coingecko', 't', CAST(unixepoch('now','subsec')*1000000 AS INTEGER))",
    );
    let url = format!("http://{}{PATH}", switch.address());
    db.ask(&["assets", "upsert"], &gecko.url()).env("COINETL_PING_URL", &url).run().expect(75);
    // Nor one that finds out only when it knows whose data it is.
    let sandbox = crate::support::workdir::SandboxServer::start(["--assets", "10"]);
    db.execute("UPDATE leases SET source = 'sandbox-coingecko'");
    db.ask(&["assets", "upsert"], &sandbox.url()).env("COINETL_PING_URL", &url).run().expect(75);
    assert_eq!(heard(&switch), [""; 0]);
}
