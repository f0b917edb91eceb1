//! How pictures look: one style sheet, with colours that a page or a theme decides.

use std::fmt::Write;

/// For pages that hold pictures inside. Every colour is a custom property with the light theme's as its
/// fallback: `--plot-paper`, `--plot-ink`, `--plot-up` …, and `--plot-font`. See [`variables`].
pub const PAGE_CSS: &str = include_str!("plot.css");

/// Colours that a picture can tell its series apart by; more of them begin anew.
pub const COLOURS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    #[default]
    Light,
    Dark,
}

/// Where a picture is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Inside a page, which brings the style sheet and says itself what the picture is about.
    Page,
    /// A file of its own, with a heading and colours that nothing outside decides.
    File(Theme),
}

/// By name, without `--plot-`.
const DARK: [(&str, &str); 17] = [
    ("paper", "#12161c"),
    ("ink", "#f1f4f8"),
    ("soft", "#9aa5b4"),
    ("grid", "#262d37"),
    ("up", "#2dd49a"),
    ("down", "#fb6a80"),
    ("1", "#60a5fa"),
    ("2", "#fbb042"),
    ("3", "#2dd4bf"),
    ("4", "#e879f9"),
    ("5", "#fb7185"),
    ("6", "#22d3ee"),
    ("7", "#a3e635"),
    ("8", "#a78bfa"),
    ("9", "#d6a06c"),
    ("10", "#b6c2d2"),
    ("rest", "#5b6675"),
];

/// The colours of a theme as declarations of custom properties, for a selector of a page's own.
pub fn variables(theme: Theme) -> String {
    let mut out = String::new();
    let names: Vec<(String, String)> = match theme {
        Theme::Dark => DARK.iter().map(|(name, colour)| ((*name).to_owned(), (*colour).to_owned())).collect(),
        Theme::Light => {
            let mut found: Vec<(String, String)> = Vec::new();
            each_variable(PAGE_CSS, &mut String::new(), |name, fallback| {
                if fallback.starts_with('#') && !found.iter().any(|(held, _)| held == name) {
                    found.push((name.to_owned(), fallback.to_owned()));
                }
                String::new()
            });
            found
        }
    };
    for (name, colour) in names {
        let _ = write!(out, "--plot-{name}:{colour};");
    }
    out
}

/// The style sheet of a file of its own. Custom properties are looked up here: not every program that shows
/// SVG knows them, and the one that makes PNG of it doesn't.
pub fn sheet(theme: Theme) -> String {
    let mut out = String::with_capacity(PAGE_CSS.len());
    each_variable(PAGE_CSS, &mut out, |name, fallback| match theme {
        Theme::Light => fallback.to_owned(),
        Theme::Dark => {
            let colour = DARK.iter().find(|(held, _)| *held == name);
            colour.map_or(fallback, |(_, colour)| colour).to_owned()
        }
    });
    // Rules of what is not in a file, which has its own size, too.
    out.replace("width:100%;height:auto;", "").lines().filter(|line| !line.starts_with(".spark")).collect()
}

/// Copies a style sheet, with something else in place of each `var(--plot-NAME,FALLBACK)`.
fn each_variable(css: &str, out: &mut String, mut instead: impl FnMut(&str, &str) -> String) {
    let mut rest = css;
    while let Some((before, behind)) = rest.split_once("var(--plot-") {
        out.push_str(before);
        let (inner, behind) = behind.split_once(')').unwrap_or((behind, ""));
        let (name, fallback) = inner.split_once(',').unwrap_or((inner, ""));
        out.push_str(&instead(name, fallback));
        rest = behind;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_themes_name_every_colour() {
        let names = |theme| {
            let variables = variables(theme);
            let mut names: Vec<String> =
                variables.split(';').filter_map(|one| Some(one.split_once(':')?.0.to_owned())).collect();
            names.sort();
            names
        };
        assert_eq!(names(Theme::Light), names(Theme::Dark));
        for theme in [Theme::Light, Theme::Dark] {
            let sheet = sheet(theme);
            assert!(!sheet.contains("100%") && !sheet.contains("spark"));
            assert!(!sheet.contains("var(") && sheet.contains(".plot .s10{stroke:#"), "{sheet}");
        }
        assert!(sheet(Theme::Dark).contains(".paper{fill:#12161c}"));
        assert!(sheet(Theme::Light).contains(".paper{fill:#ffffff}"));
    }
}
