//! Where recorded answers of the real vendors are, when they are at hand.

use std::path::PathBuf;

use super::test_db::loud;

/// The folder of a vendor's recordings, or a loud word that there is none.
pub fn recordings(vendor: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("COINETL_RECORDINGS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
    .join(vendor);
    if folder.is_dir() {
        return Some(folder);
    }
    loud(&format!("SKIPPED recordings: there is no folder {}; COINETL_RECORDINGS names another", folder.display()));
    None
}
