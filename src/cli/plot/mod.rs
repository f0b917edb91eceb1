//! `plot`: what is stored, as a picture.

mod coins;
mod pictures;
mod save;

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::history::{Coins, moment};
use super::output::{Outcome, Report};
use super::{Context, prices};
use crate::db::migrate;
use crate::db::runs::Status;
use crate::domain::{Stamp, Timeframe};
use crate::exit::{Exit, UsageError};
use crate::plot::{Axis, Frame, Look, Theme, Tz};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which rows
    #[arg(value_enum)]
    what: What,
    /// The picture: a file that ends with .svg or .png
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    coins: Coins,
    /// Which pair's quotes, such as BTC-USD [default: the only one]
    #[arg(long, value_name = "PAIR")]
    pairs: Option<String>,
    /// The currency of prices and candles
    #[arg(long, value_name = "CURRENCY", default_value = "usd", value_parser = prices::currency)]
    vs: String,
    /// Convert into this currency, by the rate of each time
    #[arg(long = "in", value_name = "CURRENCY", value_parser = prices::currency)]
    in_currency: Option<String>,
    /// Of prices: what is drawn
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Show::Price)]
    show: Show,
    /// Candles of this length: 1m 5m 15m 1h 6h 1d [default: what there is most of]
    #[arg(long, value_name = "LENGTH")]
    timeframe: Option<Timeframe>,
    /// From this UTC date or time on [default: 30 days of prices, 120 candles, an hour of quotes]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Stamp>,
    /// Before this date or time [default: the newest that is stored]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Stamp>,
    /// Divide the axis of values by powers of ten
    #[arg(long)]
    log: bool,
    /// Write times in this zone, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    tz: Tz,
    /// Width and height in pixels
    #[arg(long, value_name = "WxH", default_value = "960x540", value_parser = size)]
    size: (u32, u32),
    /// Pixels of a PNG for each of the picture's, for sharp screens
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    scale: u8,
    /// Colours on white or on black
    #[arg(long, value_enum, default_value_t = Colours::Light)]
    theme: Colours,
    /// Heading of the picture [default: what is on it]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Prices,
    Candles,
    Quotes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Show {
    Price,
    /// In percent since the beginning, for coins of different prices
    Change,
    MarketCap,
    #[value(name = "volume-24h")]
    Volume24h,
    /// In circulation
    Supply,
    /// Each coin's part of the market cap of all, now, as a pie
    Share,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colours {
    Light,
    Dark,
}

/// Form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Svg,
    Png,
}

/// There is nothing to draw.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoData(String);

/// What was drawn.
struct Drawn {
    svg: String,
    /// What is on it, for the report.
    subject: String,
    points: usize,
    /// From when to when, as stored; `None` of a picture of one moment.
    range: Option<(Stamp, Stamp)>,
    source: String,
    unknown: Vec<String>,
    /// What else is to be told.
    notes: Vec<String>,
}

impl Args {
    pub fn name(&self) -> &'static str {
        match self.what {
            What::Prices => "plot prices",
            What::Candles => "plot candles",
            What::Quotes => "plot quotes",
        }
    }

    /// Refuses options that say nothing of what is asked for.
    fn fit(&self) -> Result<Form, UsageError> {
        let given = [
            ("--ids", self.coins.ids.is_some(), self.what != What::Quotes),
            ("--top", self.coins.top.is_some(), self.what != What::Quotes),
            ("--in", self.in_currency.is_some(), self.what != What::Quotes),
            ("--log", self.log, self.what != What::Quotes && !matches!(self.show, Show::Change | Show::Share)),
            ("--show", self.show != Show::Price, self.what == What::Prices),
            ("--pairs", self.pairs.is_some(), self.what == What::Quotes),
            ("--timeframe", self.timeframe.is_some(), self.what == What::Candles),
            ("--from", self.from.is_some(), self.show != Show::Share),
            ("--to", self.to.is_some(), self.show != Show::Share),
        ];
        if let Some((option, ..)) = given.iter().find(|(_, given, fits)| *given && !fits) {
            let of = if self.show == Show::Price { self.name().to_owned() } else { format!("{} --show", self.name()) };
            return Err(UsageError(format!("{option} says nothing of `{of}`; leave it out")));
        }
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(UsageError(format!("--from {from} is not before --to {to} (UTC)")));
        }
        let extension = self.out.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("svg") => Ok(Form::Svg),
            Some("png") => Ok(Form::Png),
            _ => Err(UsageError(format!("--out {} has to end with .svg or .png", self.out.display()))),
        }
    }

    fn axis(&self) -> Axis {
        if self.log { Axis::Log } else { Axis::Linear }
    }

    /// The currency that is on the picture.
    fn currency(&self) -> &str {
        self.in_currency.as_deref().unwrap_or(&self.vs)
    }

    fn frame(&self, title: String, subtitle: String) -> Frame {
        let theme = match self.theme {
            Colours::Light => Theme::Light,
            Colours::Dark => Theme::Dark,
        };
        Frame {
            title: self.title.clone().unwrap_or(title),
            subtitle,
            width: self.size.0,
            height: self.size.1,
            zone: self.tz,
            look: Look::File(theme),
        }
    }
}

fn zone(text: &str) -> Result<Tz, String> {
    text.trim().parse().map_err(|_| "no such time zone; write one of the IANA names, such as Europe/Berlin".to_owned())
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.trim().split_once(['x', 'X', '×']);
    let sides = sides.and_then(|(width, height)| Some((width.parse::<u32>().ok()?, height.parse::<u32>().ok()?)));
    let fits = |side: u32| (200..=8_000).contains(&side);
    sides
        .filter(|(width, height)| fits(*width) && fits(*height))
        .ok_or_else(|| "write width and height from 200 to 8000, such as 960x540".to_owned())
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let form = args.fit()?;
    let mut conn = migrate::open_current(&context.settings.database_url)?.conn;
    let drawn = match args.what {
        What::Prices if args.show == Show::Share => pictures::shares(args, context, &mut conn)?,
        What::Prices => pictures::prices(args, context, &mut conn)?,
        What::Candles => pictures::candles(args, context, &mut conn)?,
        What::Quotes => pictures::quotes(args, context, &mut conn)?,
    };
    let bytes = save::save(&args.out, form, &drawn.svg, f32::from(args.scale))?;
    let mut report = Report::new(args.name(), &drawn.source);
    report.rows_absent = drawn.unknown.len() as i64;
    report.seconds = started.elapsed().as_secs_f64();
    let mut more = |name: &str, value: serde_json::Value| report.more.insert(name.into(), value);
    more("out", json!(args.out));
    more("bytes", json!(bytes));
    more("points", json!(drawn.points));
    more("notes", json!(drawn.notes));
    more("from", json!(drawn.range.map(|(from, _)| from.to_string())));
    more("to", json!(drawn.range.map(|(_, to)| to.to_string())));
    let mut exit = Exit::Ok;
    if !drawn.unknown.is_empty() {
        (exit, report.status) = (Exit::Partial, Status::Partial.name());
        let (source, unknown) = (&drawn.source, drawn.unknown.join(", "));
        report.error = Some(format!("nothing is stored of {unknown} under {source}; the others are drawn"));
    }
    let mut text = format!("{}: {}, {} points", args.out.display(), drawn.subject, drawn.points);
    if let Some((from, to)) = drawn.range {
        text.push_str(&format!(" from {from} to {to} (UTC)"));
    }
    for note in &drawn.notes {
        text.push_str(&format!("\n{note}"));
    }
    Ok(Outcome::new(exit, report, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_zones_are_checked() {
        assert_eq!(size("960x540"), Ok((960, 540)));
        for bad in ["", "960", "0x0", "100000x5", "axb"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(zone("Europe/Berlin"), Ok(Tz::Europe__Berlin));
        assert!(zone("Berlin").unwrap_err().contains("Europe/Berlin"));
    }
}
