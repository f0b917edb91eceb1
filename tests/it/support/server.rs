//! `coinetl serve` on a free port, and a client that says exactly what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::test_db::TestDb;
use super::workdir::Cmd;

/// An answer that takes longer fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    told: Arc<Mutex<String>>,
}

impl Server {
    /// `coinetl serve --bind 127.0.0.1:0 ARGS…` on this database, once it listens.
    #[track_caller]
    pub fn start(db: &TestDb, args: &[&str]) -> Server {
        Server::run(db.coinetl(&["serve", "--bind", "127.0.0.1:0"]).args(args))
    }

    /// The same of a command line that is to be served with.
    #[track_caller]
    pub fn run(cmd: Cmd) -> Server {
        let mut child = cmd.start(Stdio::piped(), Stdio::piped());
        let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let told = Arc::new(Mutex::new(String::new()));
        let log = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = log.lock().expect("the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (first, line) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = first.send(line);
            }
        });
        let line = line.recv_timeout(Duration::from_secs(20)).unwrap_or_default();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server said {line:?} instead of its address; {}", told.lock().unwrap());
        };
        Server { child, address, told }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it said on stderr so far.
    pub fn told(&self) -> String {
        self.told.lock().expect("the log").clone()
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[])
    }

    /// A request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        ask(self.address, method, target, headers).unwrap_or_else(|err| panic!("{method} {target}: {err}"))
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success()));
    }

    /// Asks it to stop; its exit code and how long it took.
    #[track_caller]
    pub fn stop(mut self) -> (Option<i32>, Duration) {
        self.signal("TERM");
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().expect("waiting for the server") {
                return (status.code(), asked.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end on SIGTERM: {}", self.told());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let told = self.told();
        if !std::thread::panicking() {
            assert!(!told.contains("panicked at"), "the server panicked: {told}");
        }
    }
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub seconds: f64,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    /// Whether it is an error in the one shape of errors, with this status.
    #[track_caller]
    pub fn assert_error(&self, status: u16, word: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        assert_eq!((&body["status"], &body["error"]), (&status.into(), &word.into()), "{body}");
        assert!(body["message"].as_str().is_some_and(|message| message.len() > 10), "{body}");
    }
}

/// One request, and its answer to its end.
pub fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> std::io::Result<Reply> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    read_reply(stream, began)
}

/// The answer that comes on a connection, until that ends.
pub fn read_reply(mut stream: TcpStream, began: Instant) -> std::io::Result<Reply> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let broken = |why: &str| std::io::Error::other(format!("{why}: {:?}", String::from_utf8_lossy(&bytes)));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| broken("no head"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    let reply = Reply {
        status: status.ok_or_else(|| broken("no status"))?,
        headers,
        body,
        seconds: began.elapsed().as_secs_f64(),
    };
    match reply.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        // What HEAD is answered with has a length and no body.
        Some(length) if length != reply.body.len() && !reply.body.is_empty() => Err(broken("cut off")),
        _ => Ok(reply),
    }
}
