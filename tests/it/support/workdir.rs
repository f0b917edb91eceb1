//! A scratch folder, and the real binary in it with a clean environment.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a loaded machine, short enough that a hang is noticed.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A folder that is gone when the test is over.
pub struct Workdir {
    dir: TempDir,
}

impl Workdir {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("coinetl-it-").tempdir().expect("a scratch folder");
        Workdir { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, content).expect("a file in the scratch folder");
        path
    }

    /// `coinetl ARGS…` in this folder: impatient, without a rate limit, nothing of our environment.
    pub fn coinetl<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Cmd {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coinetl"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")))
            .env("HOME", self.path())
            .env("TMPDIR", self.path())
            .env("COINETL_BACKOFF", "10ms")
            .env("COINETL_TIMEOUT", "5s")
            .env("COINETL_CALLS_PER_MINUTE", "0");
        Cmd { command, timeout: TIMEOUT }
    }
}

/// A command line being put together.
pub struct Cmd {
    command: Command,
    timeout: Duration,
}

impl Cmd {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn cwd(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Everything about the process that has no method of its own here.
    pub fn tweak(mut self, tweak: impl FnOnce(&mut Command)) -> Self {
        tweak(&mut self.command);
        self
    }

    /// Runs it to its end; panics when it takes longer than the timeout.
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// `--output json`, run to its end with this exit code, and the object on stdout.
    pub fn json(self, code: i32) -> Value {
        self.arg("--output").arg("json").run().expect(code).json()
    }

    /// The bare process, for who watches it alone.
    pub fn start(mut self, stdout: Stdio, stderr: Stdio) -> Child {
        self.command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        self.command.spawn().unwrap_or_else(|err| panic!("coinetl: {err}"))
    }

    pub fn spawn(mut self) -> Running {
        let words: Vec<_> = self.command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let line = format!("coinetl {}", words.join(" "));
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|err| panic!("{line}: {err}"));
        let stdout = child.stdout.take().map(|mut pipe| collect(move |text| pipe.read_to_end(text)));
        let stderr = child.stderr.take().map(|mut pipe| collect(move |text| pipe.read_to_end(text)));
        Running { child, line, stdout, stderr, started: Instant::now(), timeout: self.timeout }
    }
}

fn collect(read: impl FnOnce(&mut Vec<u8>) -> std::io::Result<usize> + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        // What came before a broken pipe is what there is.
        let _ = read(&mut text);
        text
    })
}

/// A process in the background; killed when dropped.
pub struct Running {
    child: Child,
    line: String,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    started: Instant,
    timeout: Duration,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // Fails only when it is over already.
        let _ = self.child.kill();
    }

    /// Sends a signal by its name: `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn wait(mut self) -> Output {
        let status = loop {
            match self.child.try_wait().expect("waiting for the process") {
                Some(status) => break status,
                None if self.started.elapsed() > self.timeout => {
                    self.kill();
                    let _ = self.child.wait();
                    let output = self.output(None, None);
                    panic!("{} did not end within {:?}\n{output}", self.line, self.timeout);
                }
                None => std::thread::sleep(Duration::from_millis(3)),
            }
        };
        use std::os::unix::process::ExitStatusExt;
        self.output(status.code(), status.signal())
    }

    fn output(&mut self, code: Option<i32>, signal: Option<i32>) -> Output {
        let text = |pipe: Option<JoinHandle<Vec<u8>>>| {
            let bytes = pipe.and_then(|thread| thread.join().ok()).unwrap_or_default();
            String::from_utf8(bytes).expect("UTF-8 on stdout and stderr")
        };
        Output {
            line: self.line.clone(),
            code,
            signal,
            seconds: self.started.elapsed().as_secs_f64(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    // The shell's own kill: not every machine has /bin/kill.
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// How a process ended and what it said.
pub struct Output {
    pub line: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub seconds: f64,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Insists on an exit code, and on no panic whatever the code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == Some(code), "exit code {code} was expected\n{self}");
        for word in ["panicked at", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!self.stderr.contains(word), "a panic\n{self}");
        }
        self
    }

    /// The one JSON object that stdout consists of.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|err| panic!("stdout is not one JSON object ({err})\n{self}"));
        assert!(value.is_object(), "stdout is no JSON object\n{self}");
        value
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { line, code, signal, seconds, stdout, stderr } = self;
        write!(f, "{line}: code {code:?}, signal {signal:?}, {seconds:.2} s\nstdout: {stdout}\nstderr: {stderr}")
    }
}

/// `coinetl sandbox` on a free port; killed when dropped.
pub struct SandboxServer {
    child: Child,
    address: String,
    _workdir: Workdir,
}

impl SandboxServer {
    /// `coinetl sandbox --bind 127.0.0.1:0 ARGS…`, once it listens.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Self {
        let workdir = Workdir::new();
        let mut command = workdir.coinetl(["sandbox", "--bind", "127.0.0.1:0"]).args(args).command;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the sandbox starts");
        let stdout = child.stdout.take().expect("a pipe");
        let (told, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut first = String::new();
            let _ = BufReader::new(stdout).read_line(&mut first);
            let _ = told.send(first);
        });
        let line = line.recv_timeout(Duration::from_secs(20)).unwrap_or_default();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let Some(address) = address.map(str::to_owned) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the sandbox said {line:?} instead of its address");
        };
        assert!(line.contains(&format!("(COINGECKO_API_URL=http://{address}/api/v3 COINMARKETCAP_API_URL=http://{address} COINBASE_API_URL=http://{address} COINBASE_WS_URL=ws://{address})")), "{line}");
        SandboxServer { child, address, _workdir: workdir }
    }

    /// What `COINGECKO_API_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}/api/v3", self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and returns the exit code.
    pub fn end(mut self, name: &str) -> Option<i32> {
        signal(self.pid(), name);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().expect("waiting for the sandbox") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the sandbox did not end on SIG{name}");
    }
}

impl Drop for SandboxServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until it is so; a minute without it is a failure.
#[track_caller]
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never came to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}
