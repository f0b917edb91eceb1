//! A server that a test may kill.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A server of our own, which may be killed.
pub struct OwnServer {
    dir: PathBuf,
    service: &'static str,
}

impl OwnServer {
    pub fn up(service: &'static str) -> Option<(OwnServer, String)> {
        // Not in a scratch folder: the servers' accounts must be able to walk there.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/var/tmp/coinetl-it-{}-{service}-{number}", std::process::id()));
        let server = OwnServer { dir, service };
        if !server.services("up") {
            return None;
        }
        let told = server.command("env").output().ok()?;
        let told = String::from_utf8(told.stdout).ok()?;
        // The first line that tells of it: an address, with or without quotes.
        let variable = format!("COINETL_TEST_{}_", service.to_uppercase());
        let line = told.lines().find(|line| line.contains(&variable))?;
        let (_, address) = line.split_once('=')?;
        Some((server, address.trim_matches('\'').to_owned()))
    }

    fn command(&self, what: &str) -> Command {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let mut command = Command::new(script);
        command.args([what, self.service]).env("COINETL_SERVICES_DIR", &self.dir);
        command
    }

    /// Sends a signal to the server and all that it started: `STOP` and `CONT` freeze and thaw it.
    pub fn signal(&self, name: &str) {
        let file = self.dir.join(self.service).join("pid");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        let mut family: Vec<u32> = vec![text.split_whitespace().next().unwrap().parse().expect("a process id")];
        let mut at = 0;
        while let Some(parent) = family.get(at) {
            let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            family.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            at += 1;
        }
        let family: Vec<String> = family.iter().map(u32::to_string).collect();
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", family.join(" "))).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {family:?}");
    }

    pub fn services(&self, what: &str) -> bool {
        // Its output would keep a pipe open as long as the server lives.
        let quiet = self.command(what).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.services("down");
    }
}
