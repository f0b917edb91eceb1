//! A progress bar on a terminal, nothing under cron.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;

pub fn bar(context: &Context) -> ProgressBar {
    if context.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} pages, {eta} left {msg}") {
        bar.set_style(style);
    }
    bar
}
