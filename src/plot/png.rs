//! SVG to PNG. Text is written in a font that is built in, so that a bare server makes the same picture as
//! every other; letters that it lacks (names of coins may be in any script) come from the host's fonts.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Why there is no PNG.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    #[error("the picture can't be read back: {0}")]
    Svg(String),
    #[error("a picture of {width} × {height} pixels is too large; choose a smaller --size or --scale")]
    TooLarge { width: u32, height: u32 },
    #[error("the picture can't be written as PNG: {0}")]
    Png(String),
}

/// What our font calls itself.
const OURS: &str = "Ubuntu";
/// Pixels of a picture at most: 256 MiB of them.
const MOST_PIXELS: u64 = 64 << 20;

/// A picture as PNG, so many pixels for each of its own.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, PngError> {
    let options = Options { fontdb: fonts(svg), font_family: OURS.to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|err| PngError::Svg(err.to_string()))?;
    let size = tree.size().to_int_size();
    let scaled = |length: u32| (length as f32 * scale).round().max(1.0) as u32;
    let (width, height) = (scaled(size.width()), scaled(size.height()));
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(PngError::TooLarge { width, height });
    }
    let mut pixmap = Pixmap::new(width, height).ok_or(PngError::TooLarge { width, height })?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|err| PngError::Png(err.to_string()))
}

/// Our fonts; behind them the host's, where the picture has letters that ours lack.
fn fonts(svg: &str) -> Arc<fontdb::Database> {
    static OURS_ONLY: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    static ALL: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let ours = || with_ours(fontdb::Database::new());
    if svg.chars().all(is_in_ours) {
        return OURS_ONLY.get_or_init(|| Arc::new(ours())).clone();
    }
    let all = || {
        let mut fonts = ours();
        // Takes a while where there are many.
        fonts.load_system_fonts();
        Arc::new(fonts)
    };
    ALL.get_or_init(all).clone()
}

/// Latin, Greek, Cyrillic, and signs among them.
fn is_in_ours(c: char) -> bool {
    matches!(c, '\0'..='\u{52f}' | '\u{1e00}'..='\u{1fff}' | '\u{2010}'..='\u{2044}')
}

fn with_ours(mut fonts: fontdb::Database) -> fontdb::Database {
    for font in [epaint_default_fonts::UBUNTU_LIGHT, epaint_default_fonts::NOTO_EMOJI_REGULAR] {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(font)));
    }
    fonts.set_sans_serif_family(OURS);
    fonts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dark_pixels(svg: &str) -> usize {
        let png = png(svg, 2.0).unwrap();
        let pixmap = Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixmap.width(), pixmap.height()), (400, 80));
        pixmap.pixels().iter().filter(|pixel| pixel.alpha() > 128 && pixel.red() < 128).count()
    }

    #[test]
    fn text_needs_no_font_of_the_host() {
        let text = |text: &str| {
            format!(
                "<svg xmlns='http://www.w3.org/2000/svg' width='200' height='40'>\
                 <text x='5' y='25' font-size='16' font-family='Inter, Arial, sans-serif'>{text}</text></svg>"
            )
        };
        assert_eq!(dark_pixels(&text("")), 0);
        let one = dark_pixels(&text("97,123.46"));
        assert!(one > 200, "{one}");
        assert!(dark_pixels(&text("97,123.46 · ünïcödé – Ωж")) > one);
        // Whether the host has these letters or not, it is a picture.
        dark_pixels(&text("比特币 ₿"));
    }

    #[test]
    fn what_is_too_large_or_no_picture_is_told() {
        let large = "<svg xmlns='http://www.w3.org/2000/svg' width='60000' height='60000'/>";
        assert!(matches!(png(large, 1.0), Err(PngError::TooLarge { .. })));
        assert!(matches!(png("<svg", 1.0), Err(PngError::Svg(_))));
    }
}
