//! A folder that exports are left in: one export at a time, and each whole or not at all.
//!
//! All files of an export are written under temporary names first. Then what is to happen is written down
//! (`.coinetl/commit.json`), and happens: the files get their names, the manifest is replaced, files that
//! are no longer wanted go. An export that was killed before that left nothing but temporary files, which
//! the next one removes; one that was killed after it is brought to its end by the next one.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::{At, FilesError};
use super::manifest::{FORMAT, Manifest, VERSION};
use super::out::{self, Out};

pub const MANIFEST: &str = "manifest.json";
/// What is ours alone; readers of data leave out what begins with a dot.
const OURS: &str = ".coinetl";
const COMMIT: &str = ".coinetl/commit.json";
const LOCK: &str = ".coinetl/lock";
const POLL: Duration = Duration::from_millis(200);

pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// What makes an export one.
#[derive(Serialize, Deserialize)]
struct Commit {
    /// Files that get their names.
    named: Vec<String>,
    removed: Vec<String>,
    manifest: Manifest,
}

impl Folder {
    /// Makes the folder if need be, waits for another export into it, and brings an earlier one that was
    /// killed to its end or to its beginning.
    pub fn open(path: &Path, wait: Duration) -> Result<Folder, FilesError> {
        let cannot = |err: std::io::Error| match FilesError::of(path, &err) {
            FilesError::Io { path, why } => FilesError::Folder { path, why },
            other => other,
        };
        fs::create_dir_all(path.join(OURS)).map_err(cannot)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(cannot)?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < wait => std::thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => return Err(FilesError::Busy { path: path.display().to_string() }),
                // A file system without locks: one export at a time is up to its user.
                Err(TryLockError::Error(err)) => {
                    log::debug!("{} can't be locked: {err}", path.display());
                    break;
                }
            }
        }
        let folder = Folder { path: path.to_owned(), _lock: lock };
        folder.recover()?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn manifest(&self) -> Result<Manifest, FilesError> {
        let path = self.path.join(MANIFEST);
        let text = match fs::read(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Manifest::default()),
            read => read.at(&path)?,
        };
        let bad = |why: String| FilesError::Manifest { path: path.display().to_string(), why };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|err| bad(err.to_string()))?;
        match (manifest.format == FORMAT, manifest.version) {
            (true, VERSION) => Ok(manifest),
            (true, version) => Err(bad(format!("version {version} is not known to this coinetl"))),
            (false, _) => Err(bad(format!("its format is {:?}", manifest.format))),
        }
    }

    /// Begins a file at a place from the folder on.
    pub fn begin(&self, name: &str) -> Result<Out, FilesError> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at(&path)?;
        }
        Out::temporary(&path)
    }

    /// Gives whole files their names, makes this the manifest, and removes what is no longer wanted.
    pub fn commit(&self, named: Vec<String>, removed: Vec<String>, manifest: Manifest) -> Result<(), FilesError> {
        for name in &named {
            // Their entries in the folders as well, before anything relies on them.
            sync_parent(&self.path.join(name))?;
        }
        let commit = Commit { named, removed, manifest };
        fault("before-commit");
        self.replace(COMMIT, &commit)?;
        fault("after-commit");
        self.carry_out(&commit)
    }

    /// Where files are put that have no name.
    pub fn scratch(&self) -> PathBuf {
        self.path.join(OURS)
    }

    /// Removes what an export that failed had on its way; nothing of one that is written down to happen.
    pub fn discard(&self) -> Result<(), FilesError> {
        if self.path.join(COMMIT).exists() {
            return Ok(());
        }
        self.sweep(&self.path, true)
    }

    fn recover(&self) -> Result<(), FilesError> {
        let path = self.path.join(COMMIT);
        match fs::read(&path) {
            Ok(text) => {
                let commit: Commit = serde_json::from_slice(&text)
                    .map_err(|err| FilesError::Manifest { path: path.display().to_string(), why: err.to_string() })?;
                self.carry_out(&commit)?;
            }
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(FilesError::of(&path, &err)),
        }
        self.sweep(&self.path, true)
    }

    /// What a commit says, from the beginning or from where it was left.
    fn carry_out(&self, commit: &Commit) -> Result<(), FilesError> {
        for name in &commit.named {
            let path = self.path.join(name);
            match fs::rename(out::of(&path), &path) {
                // It has its name already.
                Err(err) if err.kind() == std::io::ErrorKind::NotFound && path.exists() => {}
                renamed => renamed.at(&path)?,
            }
            fault("after-rename");
        }
        for name in &commit.named {
            sync_parent(&self.path.join(name))?;
        }
        self.replace(MANIFEST, &commit.manifest)?;
        for name in &commit.removed {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(FilesError::of(&path, &err)),
                _ => {}
            }
            // A day without files is no partition.
            if let Some(parent) = path.parent().filter(|parent| *parent != self.path) {
                let _ = fs::remove_dir(parent);
            }
        }
        let path = self.path.join(COMMIT);
        match fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(FilesError::of(&path, &err)),
            _ => Ok(()),
        }
    }

    /// Removes what exports that were killed had on its way.
    fn sweep(&self, folder: &Path, deeper: bool) -> Result<(), FilesError> {
        for entry in fs::read_dir(folder).at(folder)? {
            let entry = entry.at(folder)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            // What is no plain file was not made by an export.
            if out::is_temporary(&name) && entry.file_type().at(&path)?.is_file() {
                fs::remove_file(&path).at(&path)?;
            } else if deeper && (name == OURS || name.starts_with("day=")) && path.is_dir() {
                self.sweep(&path, false)?;
                if name != OURS {
                    // Gone only if it is empty.
                    let _ = fs::remove_dir(&path);
                }
            }
        }
        Ok(())
    }

    fn replace(&self, name: &str, content: &impl Serialize) -> Result<(), FilesError> {
        let mut out = self.begin(name)?;
        let path = self.path.join(name);
        let text = serde_json::to_vec_pretty(content)
            .map_err(|err| FilesError::Io { path: name.to_owned(), why: err.to_string() })?;
        out.write_all(&text).and_then(|()| out.write_all(b"\n")).at(&path)?;
        out.end()?;
        fs::rename(out::of(&path), &path).at(&path)?;
        sync_parent(&path)
    }
}

fn sync_parent(path: &Path) -> Result<(), FilesError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match File::open(parent).and_then(|folder| folder.sync_all()) {
        // Some file systems know no flush of a folder.
        Err(err) if err.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        synced => synced.at(parent),
    }
}

/// For tests: makes the file that is named, and waits until somebody removes it.
pub fn pause() {
    let Some(path) = std::env::var_os("COINETL_TEST_PAUSE").map(PathBuf::from) else { return };
    if File::create(&path).is_ok() {
        while path.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// For tests: ends the process at a named point, as `kill -9` would there.
pub fn fault(point: &str) {
    if std::env::var("COINETL_TEST_DIE_AT").is_ok_and(|at| at == point) {
        std::process::abort();
    }
}
