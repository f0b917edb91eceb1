//! `serve` in bad company: a database that goes away, clients that are slow, an order to stop amid answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::own_server::OwnServer;
use crate::support::server::{Server, ask, read_reply};
use crate::support::test_db::{Backend, TestDb, loud};
use crate::support::workdir::wait_until;

/// Coins and prices that come from nowhere but here.
fn fill(db: &TestDb) {
    db.setup();
    db.coinetl(&["assets", "upsert", "--sandbox"]).json(0);
    db.coinetl(&["prices", "insert", "--sandbox", "--top", "50"]).json(0);
}

/// A database server of the test's own with data in it.
fn own(backend: Backend) -> Option<(OwnServer, TestDb)> {
    // Skipped together with the others, and loudly.
    TestDb::new(backend)?;
    let service = if backend == Backend::Mysql { "mysql" } else { "postgres" };
    let Some((server, url)) = OwnServer::up(service) else {
        loud(&format!("SKIPPED {service}: no server of the test's own can be started"));
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must not skip");
        return None;
    };
    let db = TestDb::at(backend, &url);
    fill(&db);
    Some((server, db))
}

#[test]
fn a_postgresql_may_go_and_come_back_under_load() {
    goes_and_comes_back(Backend::Postgres);
}

#[test]
fn a_mariadb_may_go_and_come_back_under_load() {
    goes_and_comes_back(Backend::Mysql);
}

fn goes_and_comes_back(backend: Backend) {
    let Some((database, db)) = own(backend) else { return };
    let server = Server::start(&db, &["--connections", "3"]);
    let address = server.address();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let over = &over;
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let target = if client % 2 == 0 { "/healthz" } else { "/metrics" };
                        let reply = ask(address, "GET", target, &[]).unwrap_or_else(|err| panic!("{target}: {err}"));
                        assert!(reply.seconds < 6.0, "{target} took {} s", reply.seconds);
                        statuses.push((target, reply.status, reply.text()));
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    statuses
                })
            })
            .collect();
        // So that a failed look below ends the clients, too.
        let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let health = || ask(address, "GET", "/healthz", &[]).unwrap();
            wait_until(|| health().status == 200);
            assert!(database.services("kill"));
            wait_until(|| health().status == 500);
            let failing = health();
            assert_eq!(failing.json()["status"], "failing", "{failing:?}");
            let message = failing.json()["message"].as_str().unwrap().to_owned();
            // Where it is, is for the log.
            assert!(!message.contains("127.0.0.1") && !message.contains("panicked"), "{message}");
            assert_eq!(message.matches("can't be reached").count(), 1, "{message}");
            // A page says so too, and asks again by itself.
            let page = ask(address, "GET", "/", &[]).unwrap();
            assert_eq!((page.status, page.header("retry-after")), (500, Some("5")), "{page:?}");
            assert!(page.text().contains("http-equiv=\"refresh\"") && page.text().contains("does not answer"));
            wait_until(|| server.get("/metrics").text().contains("\ncoinetl_database_up 0\n"));
            assert!(database.services("start"));
            let back = Instant::now();
            wait_until(|| health().status == 200);
            assert!(back.elapsed() < Duration::from_secs(10), "healthy again after {:?}", back.elapsed());
            wait_until(|| server.get("/metrics").text().contains("\ncoinetl_database_up 1\n"));
            for _ in 0..20 {
                assert_eq!(health().status, 200, "once healthy it stays so");
            }
        }));
        over.store(true, Ordering::Relaxed);
        let mut failed = 0;
        for client in clients {
            for (target, status, body) in client.join().expect("a client") {
                match (target, status) {
                    ("/healthz", 500) => {
                        assert!(body.contains(r#""status":"failing""#), "{body}");
                        failed += 1;
                    }
                    (_, 200) => {}
                    _ => panic!("{target} was answered with {status}: {body}"),
                }
            }
        }
        if let Err(panic) = story {
            std::panic::resume_unwind(panic);
        }
        assert!(failed > 0, "no client saw that the database was gone");
    });
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn slow_clients_hold_nobody_up() {
    let Some(db) = TestDb::new(Backend::Sqlite) else { return };
    fill(&db);
    let server = Server::start(&db, &[]);
    let connect = || TcpStream::connect(server.address()).unwrap();

    // Headers that come byte by byte, and would take minutes.
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    let head = b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    // Answers that nobody takes: more of them than a socket holds.
    let mut deaf: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    for client in &mut deaf {
        client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        for _ in 0..200 {
            // In the end the server reads no more, as it can't get rid of its answers.
            if client.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").is_err() {
                break;
            }
        }
    }
    for byte in &head[..20] {
        for client in &mut slow {
            client.write_all(&[*byte]).unwrap();
        }
        let reply = server.get("/healthz");
        assert_eq!(reply.status, 200);
        assert!(reply.seconds < 2.0, "{} s beside slow clients", reply.seconds);
    }
    // One that gives up amid its request costs nobody anything.
    drop(slow);
    assert_eq!(server.get("/healthz").status, 200);

    // Those who take nothing are not waited for long.
    let (code, took) = server.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(8), "it took {took:?}");
}

#[test]
fn what_is_no_request_is_refused_and_harms_nobody() {
    let Some(db) = TestDb::new(Backend::Sqlite) else { return };
    fill(&db);
    let server = Server::start(&db, &[]);
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // It may hang up before all is said.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(say(b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(say(b"GET /healthz\0 HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20));
    let answer = say(long.as_bytes());
    assert!(["HTTP/1.1 414 ", "HTTP/1.1 431 ", ""].iter().any(|start| answer.starts_with(start)), "{answer:.200}");
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-a: b\r\n".repeat(10_000));
    assert!(say(many.as_bytes()).starts_with("HTTP/1.1 431 "));
    // A body where none is expected.
    let body = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nsomething";
    assert!(say(body).starts_with("HTTP/1.1 200 "));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let reply = server.ask(method, "/healthz", &[]);
        reply.assert_error(405, "method_not_allowed");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{reply:?}");
    }
    let (get, head) = (server.get("/healthz"), server.ask("HEAD", "/healthz", &[]));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    server.get("/no/such/path").assert_error(404, "not_found");
    server.get("/%F0%9F%92%A9/..%2f..%2fetc%2fpasswd?%00=%ff").assert_error(404, "not_found");
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn an_order_to_stop_lets_answers_end() {
    let Some(db) = TestDb::new(Backend::Postgres) else { return };
    fill(&db);
    let server = Server::start(&db, &[]);
    let address = server.address();
    // An idle connection is no reason to wait, nor is a stream of events, which has no end of its own.
    let open = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200", "{path}");
        stream
    };
    let _idle = [open("/healthz"), open("/events")];

    // The answer waits for a lock, which is held for two seconds.
    let lock = std::thread::scope(|scope| {
        let lock = scope.spawn(|| {
            db.execute("BEGIN; LOCK TABLE assets, runs IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT")
        });
        let held = "SELECT COUNT(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'runs' \
                    AND l.mode = 'AccessExclusiveLock' AND l.granted";
        wait_until(|| db.number(held) > 0);
        let began = Instant::now();
        let mut asked = TcpStream::connect(address).unwrap();
        asked.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        asked.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        // For it to be on its way to the database.
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
        wait_until(|| db.number(waits) > 0);
        let stopping = scope.spawn(move || server.stop());
        let reply = read_reply(asked, began).expect("an answer to its end");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.seconds > 0.3, "it did not wait for the lock: {} s", reply.seconds);
        let (code, took) = stopping.join().expect("the server ends");
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(4), "it took {took:?}");
        lock.join()
    });
    lock.expect("the lock");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_newer_schema_is_refused() {
    let Some(db) = TestDb::new(Backend::Sqlite) else { return };
    fill(&db);
    let server = Server::start(&db, &[]);
    assert_eq!(server.get("/healthz").status, 200);
    db.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')");
    let failing = server.get("/healthz");
    assert_eq!((failing.status, &failing.json()["status"]), (500, &"failing".into()));
    assert!(failing.text().contains("20991231000000"), "{}", failing.text());
    let refused = db.coinetl(&["serve", "--bind", "127.0.0.1:0"]).run().expect(78);
    assert!(refused.stderr.contains("newer"), "{refused}");
    // An update of the binary, say, or a database restored.
    db.execute("DELETE FROM __diesel_schema_migrations WHERE version = '20991231000000'");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_shared_cache_may_die_and_come_back() {
    let Some(db) = TestDb::new(Backend::Sqlite) else { return };
    let Some((redis, url)) = OwnServer::up("redis") else {
        loud("SKIPPED redis: no server of the test's own can be started (scripts/setup --test)");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must not skip");
        return;
    };
    fill(&db);
    let start = || Server::run(db.coinetl(&["serve", "--bind", "127.0.0.1:0"]).env("REDIS_URL", &url));
    let servers = [start(), start()];
    let prices = "/dashboard?id=all&limit=20";
    let all_answer = |what: &str| {
        let answers = servers.each_ref().map(|server| server.get(prices));
        for answer in &answers {
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            assert!(answer.seconds < 3.0, "{what}: {} s", answer.seconds);
        }
        assert_eq!(answers[0].body, answers[1].body, "{what}");
        answers[0].body.clone()
    };
    let shared_hits = |server: &Server| {
        let told = server.get("/metrics").text();
        let line = told.lines().find_map(|line| line.strip_prefix("coinetl_cache_hits_total{place=\"redis\"} "));
        line.expect("the shared hits").parse::<u64>().unwrap()
    };
    let first = all_answer("with Redis");
    // What the first server read is no work for the second.
    assert_eq!((shared_hits(&servers[0]), shared_hits(&servers[1])), (0, 1));

    assert!(redis.services("kill"));
    for _ in 0..10 {
        assert_eq!(all_answer("without Redis"), first);
    }
    let in_euros = |server: &Server| server.get("/dashboard?id=all&vs=eur").status;
    assert_eq!(servers.each_ref().map(in_euros), [204, 204]);
    db.coinetl(&["prices", "insert", "--sandbox", "--top", "50", "--vs", "eur"]).json(0);
    let stored = Instant::now();
    wait_until(|| servers.each_ref().map(in_euros) == [200, 200]);
    assert!(stored.elapsed() < Duration::from_secs(3), "a new run is seen after {:?}", stored.elapsed());
    for server in &servers {
        assert_eq!(server.told().matches("does not answer").count(), 1, "{}", server.told());
    }

    assert!(redis.services("start"));
    wait_until(|| {
        all_answer("with Redis again");
        servers.iter().all(|server| server.told().contains("is back"))
    });
    for server in &servers {
        assert_eq!(server.told().matches("is back").count(), 1, "{}", server.told());
    }
    for server in servers {
        assert_eq!(server.stop().0, Some(0));
    }
}
