//! Charts as SVG text. Pure: data in, text out; no clock, no file, no database.
//!
//! The same picture is a file of its own ([`Look::File`], which carries its style) or a part of a page
//! ([`Look::Page`], which needs [`PAGE_CSS`] once; its colours are custom properties, see [`variables`]). A
//! page's script finds what it needs for a read-out in attributes:
//!
//! - on `svg.plot`: `data-plot` (line, percent, candles, quotes, pie), `data-from` and `data-to` (the ends of
//!   the axis of time, milliseconds since 1970), `data-zone`;
//! - on each `g.panel`: `data-area` (x, y, width, height in units of the viewBox), `data-low` and `data-high`
//!   (the values at its lower and upper edge), `data-scale` (linear, log), `data-unit`;
//! - on each series (`path[data-name]`, or the panel itself for candles): `data-t0` (the time of the first
//!   point), `data-dt` (a length in milliseconds), `data-t` (of every further point, how many lengths it is
//!   behind the one before; where it is left out, always one), and values: `data-v`, or `data-o`, `-h`, `-l`,
//!   `-c` and `-v` (volume) of candles, whose `data-length` is how long each lasts.
//!
//! Zooming is asking for another picture, of a shorter span.

mod candles;
mod frame;
mod line;
mod number;
mod pie;
pub mod png;
mod quotes;
mod reduce;
mod scale;
mod spark;
mod style;
mod svg;
mod time;

#[cfg(test)]
mod tests;

pub use crate::domain::chart::{Point, QuotePoint, Slice, Stick};
pub use candles::{CandleChart, candlesticks};
pub use chrono_tz::Tz;
pub use frame::Frame;
pub use line::{LineChart, Series, Unit, changed, line, percent_change};
pub use number::{percent as percent_text, share as share_text, short as number_text};
pub use pie::{PieChart, pie};
pub use quotes::{QuoteChart, quotes};
pub use scale::Kind as Axis;
pub use spark::sparkline;
pub use style::{Look, PAGE_CSS, Theme, variables};
pub use time::{Span, span_text};
