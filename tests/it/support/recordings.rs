//! Where recorded answers of the real vendors are, when they are at hand.

use std::path::PathBuf;

use super::test_db::loud;

/// The folder of a vendor's recordings, or a loud word that there is none.
pub fn recordings(vendor: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("COINETL_RECORDINGS") else {
        loud("SKIPPED recordings: COINETL_RECORDINGS does not name their folder");
        return None;
    };
    let folder = PathBuf::from(root).join(vendor);
    assert!(folder.is_dir(), "COINETL_RECORDINGS has no folder {}", folder.display());
    Some(folder)
}
