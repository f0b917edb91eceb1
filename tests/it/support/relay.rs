//! Stands between the binary and a sandbox: passes calls on, remembers what became of each, and lets
//! some fail as a test wants.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::stub::{Stub, StubRequest, StubResponse};
use super::test_db::TestDb;
use super::workdir::{Cmd, SandboxServer};

/// What a call met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Path and query.
    pub target: String,
    /// Of the answer that was sent whole; `None` for one that was made to fail.
    pub status: Option<u16>,
}

/// The relay, and the sandbox behind it.
pub struct Relay {
    pub stub: Stub,
    pub sandbox: SandboxServer,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Relay {
    pub fn new(sandbox: SandboxServer) -> Relay {
        Relay::with(sandbox, |_, _| None)
    }

    /// `first` may answer the n-th call itself: that one counts as failed.
    pub fn with(
        sandbox: SandboxServer,
        first: impl Fn(&StubRequest, usize) -> Option<StubResponse> + Send + Sync + 'static,
    ) -> Relay {
        let passed: Arc<Mutex<Vec<Passed>>> = Arc::default();
        let (address, log, calls) = (sandbox.address().to_owned(), passed.clone(), Mutex::new(0));
        let stub = Stub::start(move |request| {
            let n = {
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                *calls - 1
            };
            let target = request.target.clone();
            if let Some(response) = first(request, n) {
                log.lock().unwrap().push(Passed { target, status: None });
                return response;
            }
            let response = pass_on(&address, request);
            log.lock().unwrap().push(Passed { target, status: Some(response.status) });
            response
        });
        Relay { stub, sandbox, passed }
    }

    /// `coinetl ARGS…` on this database, with every vendor behind the relay.
    pub fn ask(&self, db: &TestDb, args: &[&str]) -> Cmd {
        let host = format!("http://{}", self.stub.address());
        db.ask(args, &self.stub.url()).env("COINMARKETCAP_API_URL", &host).env("COINBASE_API_URL", &host)
    }

    /// All calls since the last time.
    pub fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut *self.passed.lock().unwrap())
    }

    /// The targets of those that were answered with 200, since the last time.
    pub fn take_answered(&self) -> Vec<String> {
        self.take().into_iter().filter(|call| call.status == Some(200)).map(|call| call.target).collect()
    }
}

fn pass_on(address: &str, request: &StubRequest) -> StubResponse {
    let sent = (|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            if !matches!(name.as_str(), "connection" | "accept-encoding") {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })();
    let answer = sent.unwrap_or_else(|err| panic!("the sandbox behind the relay: {err}"));
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).expect("a status");
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| !matches!(name.as_str(), "content-length" | "connection" | "transfer-encoding"))
        .collect();
    StubResponse { status, headers, body: answer[end + 4..].to_vec(), delay: Duration::ZERO, cut_after: None }
}

/// What the sandbox itself says to a question, past the binary.
pub fn ask_directly(sandbox: &SandboxServer, target: &str) -> serde_json::Value {
    let request = StubRequest {
        method: "GET".into(),
        target: target.into(),
        path: String::new(),
        query: Vec::new(),
        headers: vec![("user-agent".into(), "test/1".into()), ("host".into(), "sandbox".into())],
        at: std::time::Instant::now(),
    };
    let answer = pass_on(sandbox.address(), &request);
    assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).expect("JSON")
}
