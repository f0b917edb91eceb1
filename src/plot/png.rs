//! SVG to PNG, with a font of our own where the host has none.

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
    let fonts = fonts();
    let options = Options { fontdb: fonts, font_family: OURS.to_owned(), ..Options::default() };
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

/// The host's fonts, and ours behind them: letters that the first lacks are looked up in all.
fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    FONTS.get_or_init(|| Arc::new(with_ours(fontdb::Database::new()))).clone()
}

fn with_ours(mut fonts: fontdb::Database) -> fontdb::Database {
    for font in [epaint_default_fonts::UBUNTU_LIGHT, epaint_default_fonts::NOTO_EMOJI_REGULAR] {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(font)));
    }
    fonts.set_sans_serif_family(OURS);
    fonts
}
