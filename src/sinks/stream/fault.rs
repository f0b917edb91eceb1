//! For tests: ends the process at a named point, as `kill -9` would there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "COINETL_TEST_DIE_AT";

/// Where to die: a point's name, or `name:5` for the fifth time that it is come by.
struct Point {
    name: String,
    left: AtomicU64,
}

pub fn fault(point: &str) {
    static CHOSEN: OnceLock<Option<Point>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some(Point { name: name.to_owned(), left: AtomicU64::new(times.parse().unwrap_or(1)) })
    });
    if let Some(chosen) = chosen
        && chosen.name == point
        && chosen.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
