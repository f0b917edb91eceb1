//! The story on stderr: quiet under cron when all is well, one line a message.

use std::io::Write;

use env_logger::{Builder, Target};
use log::LevelFilter;

use super::{Global, Output};

pub fn start(global: &Global, tells_its_story: bool, rust_log: Option<&str>) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::Error,
        (_, 0) if tells_its_story => LevelFilter::Info,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    builder.target(Target::Stderr);
    builder.filter(Some("coinetl"), level);
    if global.verbose == 0
        && !global.quiet
        && let Some(filters) = rust_log
    {
        builder.parse_filters(filters);
    }
    if global.log_format == Output::Json {
        builder.format(|out, record| {
            let line = serde_json::json!({
                "time": out.timestamp_millis().to_string(),
                "level": record.level().as_str().to_ascii_lowercase(),
                "target": record.target(),
                "message": record.args().to_string(),
            });
            writeln!(out, "{line}")
        });
    } else {
        builder.format_target(false);
    }
    // A second start would keep the first logger: only unit tests get there.
    let _ = builder.try_init();
}
