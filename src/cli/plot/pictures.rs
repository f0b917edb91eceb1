//! One function for each kind of picture: what is read, and how it is headed.

use super::coins::{self, Coins};
use super::{Args, Drawn, NoData, Show};
use crate::cli::Context;
use crate::db::assets::Asset;
use crate::db::fx::{self, Conversion};
use crate::db::series::{self, Figure, MOST};
use crate::db::{Connection, DbError, clock};
use crate::domain::{Range, Stamp, Timeframe};
use crate::exit::UsageError;
use crate::plot::{self, Axis, CandleChart, LineChart, PieChart, Point, QuoteChart, Series, Span, Stick, Unit};
use crate::sources::whose_rates;

const DAY: i64 = 86_400_000;
const PRICES_MS: i64 = 30 * DAY;
const CANDLES: i64 = 120;
const QUOTES_MS: i64 = 3_600_000;
/// So many candles of a length are a picture.
const ENOUGH: usize = 30;

impl Args {
    /// What was asked for; where that is open, so long a stretch up to the newest that is stored.
    fn range(&self, newest: Stamp, length_ms: i64) -> Result<Range, UsageError> {
        let to = self.to.unwrap_or(newest.plus(1));
        let from = self.from.unwrap_or(to.plus(-length_ms));
        Range::new(from, to).ok_or_else(|| {
            UsageError(format!(
                "nothing is stored from {from} on; the newest is of {newest} (UTC), choose an earlier --from"
            ))
        })
    }

    fn subtitle(&self, source: &str, of: &str, range: Option<Range>) -> String {
        let mut parts = vec![source.to_owned()];
        if !of.is_empty() {
            parts.push(of.to_owned());
        }
        if let Some(range) = range {
            parts.push(plot::span_text(self.tz, Span { from: range.from.millis(), to: range.to.millis() }));
            parts.push(self.tz.name().to_owned());
        }
        parts.join(" · ")
    }
}

fn heading(coins: &[Asset]) -> String {
    match coins {
        [one] if one.symbol.trim().is_empty() || coins::name(one) == one.symbol => coins::name(one),
        [one] => format!("{} ({})", coins::name(one), one.symbol.to_uppercase()),
        [first, second] => format!("{} and {}", coins::name(first), coins::name(second)),
        [first, rest @ ..] => format!("{} and {} other coins", coins::name(first), rest.len()),
        [] => String::new(),
    }
}

pub fn prices(args: &Args, context: &Context, conn: &mut Connection) -> anyhow::Result<Drawn> {
    let Coins { source, coins, mut unknown } = coins::choose(args, context, conn)?;
    let now = clock::now(conn)?;
    let newest = newest(conn, &coins, &args.vs, now)?;
    let nothing = |range: Option<Range>| {
        let when = range.map(|range| format!(" from {} to {} (UTC)", range.from, range.to)).unwrap_or_default();
        NoData(format!(
            "nothing is stored of {} in {}{when}; run `coinetl prices insert`, or choose --vs, --from and --to differently",
            heading(&coins),
            args.vs
        ))
    };
    let Some(newest) = newest else { return Err(nothing(None).into()) };
    let range = args.range(newest, PRICES_MS)?;
    let (figure, of) = match args.show {
        Show::MarketCap => (Figure::MarketCap, "market cap"),
        Show::Volume24h => (Figure::Volume24h, "volume of 24 h"),
        Show::Supply => (Figure::CirculatingSupply, "coins in circulation"),
        Show::Change => (Figure::Price, "change"),
        Show::Price | Show::Share => (Figure::Price, "price"),
    };
    let names = coins::names(&coins);
    let mut converted = Converted::new(args, conn, &source)?;
    let (mut lines, mut left_out, mut points) = (Vec::new(), Vec::new(), 0);
    let is_change = args.show == Show::Change;
    for (coin, name) in coins.iter().zip(names) {
        let stored = match figure {
            Figure::Price => series::line(conn, coin.id, &args.vs, range, MOST, now)?,
            figure => series::prices(conn, coin.id, &args.vs, figure, range, MOST)?,
        };
        // Nothing can be converted of a number of coins.
        let found = if figure == Figure::CirculatingSupply { stored } else { converted.points(conn, stored)? };
        if found.is_empty() {
            unknown.push(coin.source_id.clone());
            continue;
        }
        let shown = if is_change { shown(Axis::Linear, &plot::changed(&found)) } else { shown(args.axis(), &found) };
        if shown < found.len() {
            left_out.push(left_out_note(&coin.source_id, found.len() - shown, found.len(), is_change));
        }
        if shown > 0 {
            points += shown;
            lines.push(Series { name, points: found, usual_ms: None });
        }
    }
    if points == 0 {
        if !left_out.is_empty() {
            return Err(NoData(format!("nothing to draw: {}", left_out.join("; "))).into());
        }
        return Err(converted.refused().unwrap_or_else(|| nothing(Some(range))).into());
    }
    let unit = match figure {
        Figure::CirculatingSupply => Unit::Amount("coins".to_owned()),
        _ => Unit::Money(args.currency().to_owned()),
    };
    let money = if matches!(unit, Unit::Money(_)) {
        format!("{of} in {}", args.currency().to_uppercase())
    } else {
        of.to_owned()
    };
    let subject = format!("{} line(s)", lines.len());
    let chart = LineChart {
        frame: args.frame(heading(&coins), args.subtitle(&source, &money, Some(range))),
        series: lines,
        unit,
        scale: args.axis(),
        span: asked_span(args, range),
    };
    let svg = if is_change { plot::percent_change(&chart) } else { plot::line(&chart) };
    let range = Some((range.from, range.to));
    let notes = left_out.into_iter().chain(converted.notes()).collect();
    Ok(Drawn { svg, subject, points, range, source, unknown, notes })
}

/// How many points an axis has a place for.
fn shown(axis: Axis, points: &[Point]) -> usize {
    points.iter().filter(|point| axis.shows(point.value)).count()
}

/// What is not on the picture of a coin, and why.
fn left_out_note(of: &str, missing: usize, all: usize, is_change: bool) -> String {
    let what = if missing == all { of.to_owned() } else { format!("{missing} of {all} points of {of}") };
    let why = match is_change {
        true if missing == all => "all its prices are zero, and a change needs one that is not",
        true => "so large a change is no number",
        false => "--log has no place for zero and less",
    };
    format!("{what} left out: {why}")
}

/// The axis goes as far as was asked for, not only as far as there are points.
fn asked_span(args: &Args, range: Range) -> Option<Span> {
    args.from.is_some().then(|| Span { from: range.from.millis(), to: range.to.millis() })
}

/// The time of the newest price or candle of any of the coins.
fn newest(conn: &mut Connection, coins: &[Asset], vs_currency: &str, now: Stamp) -> Result<Option<Stamp>, DbError> {
    let mut newest = None;
    for coin in coins {
        newest = newest.max(series::newest_price(conn, coin.id, vs_currency)?);
    }
    if newest.is_some() {
        return Ok(newest);
    }
    for coin in coins {
        for timeframe in Timeframe::ALL {
            let open_time = series::newest_candle(conn, coin.id, vs_currency, timeframe)?;
            newest = newest.max(open_time.map(|open_time| timeframe.end(open_time).min(now)));
        }
    }
    Ok(newest)
}

pub fn candles(args: &Args, context: &Context, conn: &mut Connection) -> anyhow::Result<Drawn> {
    let Coins { source, coins, unknown } = coins::choose(args, context, conn)?;
    let [coin] = coins.as_slice() else {
        let why = "candles of several coins don't fit into one picture; choose one, or draw lines with `plot prices`";
        return Err(UsageError(why.to_owned()).into());
    };
    let timeframes = args.timeframe.map_or_else(|| Timeframe::ALL.to_vec(), |timeframe| vec![timeframe]);
    let mut best: Option<(Timeframe, Range, series::Sticks)> = None;
    for timeframe in timeframes.into_iter().rev() {
        let Some(newest) = series::newest_candle(conn, coin.id, &args.vs, timeframe)? else { continue };
        let range = args.range(timeframe.end(newest).plus(-1), CANDLES * timeframe.millis())?;
        let found = series::candles(conn, coin.id, &args.vs, timeframe, range, MOST)?;
        let count = found.sticks.len();
        if count > best.as_ref().map_or(0, |(.., best)| best.sticks.len()) {
            best = Some((timeframe, range, found));
        }
        if count >= ENOUGH {
            break;
        }
    }
    let Some((timeframe, range, found)) = best else {
        let length = args.timeframe.map(|timeframe| format!(" of {timeframe}")).unwrap_or_default();
        let when = if args.from.is_some() || args.to.is_some() { " at that time" } else { "" };
        return Err(NoData(format!(
            "no candles{length} of {} are stored in {}{when}; run `coinetl candles rollup` to fold prices, \
             or `coinetl candles backfill` to get the past",
            heading(&coins),
            args.vs
        ))
        .into());
    };
    let mut converted = Converted::new(args, conn, &source)?;
    let mut sticks = converted.sticks(conn, found.sticks)?;
    let all = sticks.len();
    sticks.retain(|stick| args.axis().shows(stick.low));
    let points = sticks.len();
    let missing = (points < all).then(|| left_out_note(&coin.source_id, all - points, all, false));
    if sticks.is_empty() {
        let nothing = || NoData(format!("nothing to draw: {}", missing.as_deref().unwrap_or("no candles")));
        return Err(converted.refused().unwrap_or_else(nothing).into());
    }
    let of = format!("candles of {timeframe} in {}", args.currency().to_uppercase());
    let svg = plot::candlesticks(&CandleChart {
        frame: args.frame(heading(&coins), args.subtitle(&source, &of, Some(range))),
        name: coins::name(coin),
        sticks,
        length_ms: found.length_ms,
        currency: args.currency().to_owned(),
        scale: args.axis(),
        span: asked_span(args, range),
    });
    let subject = format!("candles of {timeframe}");
    let range = Some((range.from, range.to));
    let notes = missing.into_iter().chain(converted.notes()).collect();
    Ok(Drawn { svg, subject, points, range, source, unknown, notes })
}

pub fn quotes(args: &Args, context: &Context, conn: &mut Connection) -> anyhow::Result<Drawn> {
    let is_chosen = context.source_is_chosen || context.sandbox || context.other_source().is_some();
    let of_source = if is_chosen { Some(coins::source(context, conn)?) } else { None };
    let stored = series::pairs(conn, of_source.as_deref())?;
    let listed = || {
        let names: Vec<&str> = stored.iter().take(20).map(|(_, pair)| pair.as_str()).collect();
        if names.is_empty() {
            "none yet: `coinetl quotes publish` and `coinetl consume` store them".to_owned()
        } else {
            names.join(", ")
        }
    };
    let (source, pair) = match (&args.pairs, stored.as_slice()) {
        (None, [one]) => one.clone(),
        (None, []) => return Err(NoData(format!("no quotes are stored; pairs: {}", listed())).into()),
        (None, _) => return Err(UsageError(format!("which pair? --pairs names one of {}", listed())).into()),
        (Some(pair), stored) => {
            let wanted = pair.trim().to_uppercase();
            let found = stored.iter().find(|(_, stored)| stored.to_uppercase() == wanted);
            match found {
                Some(found) => found.clone(),
                None => return Err(NoData(format!("no quotes of {pair} are stored; pairs: {}", listed())).into()),
            }
        }
    };
    let nothing = || NoData(format!("no quotes of {pair} are stored of that time; choose --from and --to differently"));
    let Some(newest) = series::newest_quote(conn, &source, &pair)? else { return Err(nothing().into()) };
    let range = args.range(newest, QUOTES_MS)?;
    let points = series::quotes(conn, &source, &pair, range, MOST)?;
    if points.is_empty() {
        return Err(nothing().into());
    }
    let outages = series::outages(conn, &source, &pair, range)?;
    let count = points.len();
    let svg = plot::quotes(&QuoteChart {
        frame: args.frame(pair.clone(), args.subtitle(&source, "best bid and ask", Some(range))),
        pair: pair.clone(),
        points,
        usual_ms: None,
        outages: outages.into_iter().map(|(range, reason)| (range.into(), reason)).collect(),
        span: asked_span(args, range),
    });
    let range = Some((range.from, range.to));
    Ok(Drawn { svg, subject: pair, points: count, range, source, unknown: Vec::new(), notes: Vec::new() })
}

pub fn shares(args: &Args, context: &Context, conn: &mut Connection) -> anyhow::Result<Drawn> {
    if args.coins.ids.is_some() || args.in_currency.is_some() {
        let why = "--show share is of all coins; --top N tells how many have a slice of their own";
        return Err(UsageError(why.to_owned()).into());
    }
    let source = coins::source(context, conn)?;
    let top = usize::try_from(args.coins.top.unwrap_or(10)).unwrap_or(usize::MAX).min(1_000);
    let series::Shares { slices, rest } = series::shares(conn, &source, &args.vs, top)?;
    if slices.is_empty() {
        let why = format!("no market caps are stored for {source} in {}; run `coinetl prices insert` first", args.vs);
        return Err(NoData(why).into());
    }
    let points = slices.len();
    let title = "Market cap".to_owned();
    let svg = plot::pie(&PieChart {
        frame: args.frame(title, args.subtitle(&source, "newest prices", None)),
        slices,
        rest,
        unit: args.vs.clone(),
    });
    let subject = "market caps".to_owned();
    Ok(Drawn { svg, subject, points, range: None, source, unknown: Vec::new(), notes: Vec::new() })
}

/// Amounts into the currency of `--in`. What has no rate is left out, and told.
struct Converted<'a> {
    from: &'a str,
    into: Option<(&'a str, Conversion)>,
    without: usize,
}

impl<'a> Converted<'a> {
    fn new(args: &'a Args, conn: &mut Connection, source: &str) -> Result<Self, DbError> {
        let into = match &args.in_currency {
            Some(currency) => {
                Some((currency.as_str(), Conversion::new(&fx::rates_of(conn, source, &whose_rates(source))?, currency)))
            }
            None => None,
        };
        Ok(Converted { from: &args.vs, into, without: 0 })
    }

    fn times(&mut self, conn: &mut Connection, at: i64, values: &mut [f64]) -> Result<bool, DbError> {
        let Some((_, conversion)) = &mut self.into else { return Ok(true) };
        let Ok(at) = Stamp::from_millis(at) else { return Ok(false) };
        let factor = conversion.factor(conn, self.from, at)?;
        for value in values {
            match factor.and_then(|factor| factor.apply(*value)) {
                Some(there) => *value = there,
                None => {
                    self.without += 1;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn points(&mut self, conn: &mut Connection, points: Vec<Point>) -> Result<Vec<Point>, DbError> {
        let mut there = Vec::with_capacity(points.len());
        for point in points {
            let mut value = [point.value];
            if self.times(conn, point.at, &mut value)? {
                there.push(Point { value: value[0], ..point });
            }
        }
        Ok(there)
    }

    fn sticks(&mut self, conn: &mut Connection, sticks: Vec<Stick>) -> Result<Vec<Stick>, DbError> {
        let mut there = Vec::with_capacity(sticks.len());
        for stick in sticks {
            let mut values = [stick.open, stick.high, stick.low, stick.close, stick.volume.unwrap_or_default()];
            if self.times(conn, stick.open_time, &mut values)? {
                let [open, high, low, close, volume] = values;
                there.push(Stick { open, high, low, close, volume: stick.volume.map(|_| volume), ..stick });
            }
        }
        Ok(there)
    }

    fn refused(&self) -> Option<NoData> {
        let (into, _) = self.into.as_ref().filter(|_| self.without > 0)?;
        Some(NoData(format!(
            "no rate from {} into {into} is stored of that time; `coinetl prices insert` of all coins stores rates",
            self.from
        )))
    }

    fn notes(&self) -> Vec<String> {
        match &self.into {
            Some((into, _)) if self.without > 0 => {
                vec![format!("{} points are left out: no rate into {into} is stored of their time", self.without)]
            }
            _ => Vec::new(),
        }
    }
}
