use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use secrecy::SecretString;

use super::super::error::ApiError;
use super::super::reply::{Answer, Draft};
use super::super::state::{Budgets, Options, State};
use crate::db::{Absent, Connection, DatabaseUrl, migrate, open};

struct Fixture {
    _folder: tempfile::TempDir,
    url: DatabaseUrl,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::parse(&format!("sqlite://{}/c.db", folder.path().display())).unwrap();
        migrate::run_pending(&mut open(&url, Absent::Create).unwrap().conn).unwrap();
        Fixture { _folder: folder, url }
    }

    async fn state(&self, redis: Option<&str>) -> State {
        let options = Options {
            database_url: self.url.clone(),
            sources: vec!["coingecko".to_owned()],
            database_id: self.url.to_string(),
            shown_settings: String::new(),
            redis_url: redis.map(|url| SecretString::from(url.to_owned())),
            connections: 4,
            longest_read: Duration::from_secs(5),
            cache_bytes: 1 << 20,
            rate_limit: 0,
            stale_after: Duration::from_secs(7200),
            budgets: Budgets::new(|_, _| Ok(None)),
        };
        State::new(options).await.unwrap()
    }

    fn writer(&self) -> Connection {
        open(&self.url, Absent::Fail).unwrap().conn
    }
}

/// A run that stored so many rows.
fn run(conn: &mut Connection, rows: u64) {
    conn.batch_execute(&format!(
        "INSERT INTO runs (command, source, started_at, finished_at, status, rows_written) \
         VALUES ('x', 'coingecko', '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', 'ok', {rows})"
    ))
    .unwrap();
}

async fn ask(state: &State, work: &Arc<AtomicUsize>) -> Result<Arc<Answer>, ApiError> {
    let work = work.clone();
    state
        .answer("/x".to_owned(), move |_| {
            work.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            Draft::json(&"x", None)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_misses_are_one_read() {
    let fixture = Fixture::new();
    run(&mut fixture.writer(), 5);
    let (state, work) = (fixture.state(None).await, Arc::new(AtomicUsize::new(0)));
    // So that all thousand find the version known.
    state.cache().version().await.unwrap();
    let askers: Vec<_> = (0..1000)
        .map(|_| {
            let (state, work) = (state.clone(), work.clone());
            tokio::spawn(async move { ask(&state, &work).await.unwrap().version })
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.await.unwrap(), 7);
    }
    assert_eq!(work.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_seen_within_a_second_and_a_restored_database_soon() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    run(&mut writer, 1);
    let (state, work) = (fixture.state(None).await, Arc::new(AtomicUsize::new(0)));
    assert_eq!(ask(&state, &work).await.unwrap().version, 3);
    for rows in [1, 2, 3] {
        let before = ask(&state, &work).await.unwrap().version;
        run(&mut writer, rows);
        let written = Instant::now();
        while ask(&state, &work).await.unwrap().version == before {
            assert!(written.elapsed() < Duration::from_secs(1), "still {before}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // More than are looked at each time.
    for _ in 0..300 {
        run(&mut writer, 1);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ask(&state, &work).await.unwrap().version > 900);
    writer.batch_execute("DELETE FROM runs WHERE id > 1").unwrap();
    let restored = Instant::now();
    while ask(&state, &work).await.unwrap().version != 3 {
        assert!(restored.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run(&mut writer, 5);
    let written = Instant::now();
    while ask(&state, &work).await.unwrap().version != 10 {
        assert!(written.elapsed() < Duration::from_secs(1), "a run after the restore is not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_older_data_than_somebody_saw_before() {
    let fixture = Fixture::new();
    run(&mut fixture.writer(), 1);
    let redis = std::env::var("COINETL_TEST_REDIS_URL").ok();
    // Two servers with the cache between them; without Redis at hand one.
    let states = match &redis {
        Some(url) => vec![fixture.state(Some(url)).await, fixture.state(Some(url)).await],
        None => vec![fixture.state(None).await],
    };
    let (seen, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let end = Instant::now() + Duration::from_secs(2);
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let (state, seen, reads) = (states[number % states.len()].clone(), seen.clone(), reads.clone());
            tokio::spawn(async move {
                let mut answers = 0;
                while Instant::now() < end {
                    // What anybody had got before this was asked.
                    let before = seen.load(SeqCst);
                    let version = ask(&state, &reads).await.unwrap().version;
                    assert!(version >= before, "{version} after {before}");
                    seen.fetch_max(version, SeqCst);
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut writer = fixture.writer();
    let writing = tokio::task::spawn_blocking(move || {
        let mut runs = 0;
        while Instant::now() < end {
            run(&mut writer, 1);
            runs += 1;
            std::thread::sleep(Duration::from_millis(30));
        }
        runs
    });
    let mut answers = 0;
    for reader in readers {
        answers += reader.await.unwrap();
    }
    assert!(writing.await.unwrap() > 20);
    assert!(seen.load(SeqCst) > 30, "the runs were seen");
    assert!(answers > reads.load(SeqCst), "{answers} answers of {} reads", reads.load(SeqCst));
}

#[tokio::test]
async fn what_is_shared_comes_back_the_same() {
    let answer = Answer::new(Draft::json(&["Ünïcode", ""], Some(crate::domain::Stamp::FIRST)).unwrap(), 42);
    let bytes = answer.to_bytes();
    let back = Answer::from_bytes(&bytes).unwrap();
    assert_eq!(format!("{answer:?}"), format!("{back:?}"));
    assert!(Answer::from_bytes(&Answer::new(Draft::none(), 1).to_bytes()).is_some());
    for end in 0..19 {
        assert!(Answer::from_bytes(&bytes[..end]).is_none(), "{end}");
    }
    assert!(Answer::from_bytes(b"something that another program left here").is_none());
}
