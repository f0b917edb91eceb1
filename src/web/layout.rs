//! What all pages have around them, and small pieces that they share.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{files, format};
use crate::domain::Stamp;
use crate::sources::SANDBOX_PREFIX;

/// What a page says of itself.
#[derive(Default)]
pub struct Shell<'a> {
    pub title: &'a str,
    /// The path of its place in the navigation.
    pub here: &'a str,
    /// Sources that its data is from.
    pub sources: &'a [String],
    /// It is asked for again after so many seconds, script or not.
    pub retry_s: Option<u16>,
}

const PLACES: [(&str, &str); 3] = [("/", "Coins"), ("/pairs", "Pairs"), ("/pipeline", "Pipeline")];

/// A whole page.
pub fn page(shell: &Shell<'_>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = shell.retry_s {
                    meta http-equiv="refresh" content=(seconds);
                }
                title { (shell.title) " · coinetl" }
                link rel="icon" href=(files::icon_address()) type="image/svg+xml";
                link rel="stylesheet" href=(files::STYLE.address());
                script src=(files::SCRIPT.address()) {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.bar {
                    div.bar-in {
                        a.brand href="/" { (mark()) span { "coinetl" } }
                        nav aria-label="Pages" {
                            @for (path, name) in PLACES {
                                a href=(path) aria-current=[(shell.here == path).then_some("page")] { (name) }
                            }
                            a href="/docs" { "API" }
                        }
                        span #live .live data-live="off" role="status" { span.dot aria-hidden="true" {} span.live-text {} }
                        button #theme .icon-button type="button" hidden aria-label="Colours: as the system has them" {
                            (theme_icon())
                        }
                    }
                }
                div data-part="banner" {
                    @let made_up: Vec<&String> =
                        shell.sources.iter().filter(|source| source.starts_with(SANDBOX_PREFIX)).collect();
                    @if !made_up.is_empty() {
                        p.banner role="note" {
                            strong { "Made-up data." }
                            " These numbers come from the built-in sandbox, not from a market."
                        }
                    }
                }
                main #main tabindex="-1" { (body) }
                footer.foot {
                    span { "coinetl " (env!("CARGO_PKG_VERSION")) }
                    span { "Times are UTC." }
                    a href="/docs" { "REST API" }
                    a href="/pipeline" { "How the runs do" }
                }
            }
        }
    }
}

fn mark() -> Markup {
    PreEscaped(
        "<svg viewBox=\"0 0 32 32\" width=\"24\" height=\"24\" aria-hidden=\"true\"><rect width=\"32\" height=\"32\" \
         rx=\"8\" class=\"mark-bg\"/><path d=\"M7 21l6-7 5 4 7-9\" class=\"mark-line\"/></svg>"
            .to_owned(),
    )
}

fn theme_icon() -> Markup {
    PreEscaped(
        "<svg viewBox=\"0 0 20 20\" width=\"18\" height=\"18\" aria-hidden=\"true\"><circle cx=\"10\" cy=\"10\" r=\"7\" \
         fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.8\"/><path d=\"M10 3a7 7 0 0 1 0 14z\" \
         fill=\"currentColor\"/></svg>"
            .to_owned(),
    )
}

/// How old something is: in words, which the script keeps up to date, and as a time. Marked where it is
/// older than `stale_s`.
pub fn age(at: Stamp, now: Stamp, stale_s: Option<u64>) -> Markup {
    let seconds = (now.millis() - at.millis()) / 1000;
    let is_stale = stale_s.is_some_and(|stale| seconds > i64::try_from(stale).unwrap_or(i64::MAX));
    html! {
        span.aged data-stale=[stale_s] {
            time.age datetime=(at.rfc3339()) title=(format!("{} UTC", at)) { (format::age(seconds)) }
            @if stale_s.is_some() {
                span.badge.stale hidden[!is_stale] { "stale" }
            }
        }
    }
}

/// A change in percent, coloured by its sign.
pub fn change(value: Option<f64>) -> Markup {
    match value {
        None => html! { span.none { (format::UNKNOWN) } },
        Some(value) => {
            let text = format::percent(value);
            let class = match text.chars().next() {
                Some('+') => "up",
                Some('−') => "down",
                _ => "flat",
            };
            html! { span class=(class) { (text) } }
        }
    }
}

/// What there is to say where there is nothing to show, with the command that helps.
pub fn nothing(title: &str, why: Markup, commands: &[&str]) -> Markup {
    html! {
        div.notice.card {
            h2 { (title) }
            p { (why) }
            @if !commands.is_empty() {
                pre { code { @for command in commands { (command) "\n" } } }
            }
        }
    }
}

/// A chart that `plot` drew.
pub fn chart(svg: String) -> Markup {
    // Drawn by us; names in it are escaped there.
    PreEscaped(svg)
}
