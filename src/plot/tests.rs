//! Pictures of every kind, of data as it comes and as it should not come: each is read by an XML parser and
//! by a renderer. With `COINETL_PICTURES=DIR` they are written there as SVG and PNG, to be looked at.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use resvg::usvg::roxmltree::{Document, Node};

use super::*;

const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;
/// 2026-05-19T00:00:00Z
const START: i64 = 1_779_148_800_000;

fn frame(title: &str) -> Frame {
    Frame {
        title: title.to_owned(),
        subtitle: "coingecko · 2025-05-19 – 2026-05-19 · UTC".to_owned(),
        width: 960,
        height: 480,
        zone: Tz::UTC,
        look: Look::File(Theme::Light),
    }
}

/// Steps by chance: as many as wanted, from a price on.
fn walk(seed: u64, start: f64, step: f64, times: impl IntoIterator<Item = i64>) -> Vec<Point> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut value = start;
    let next = |at| {
        value *= 1.0 + dice.random_range(-step..step * 1.02);
        Point { at, value }
    };
    times.into_iter().map(next).collect()
}

fn series(name: &str, points: Vec<Point>) -> Series {
    Series { name: name.to_owned(), points, usual_ms: None }
}

fn lines(title: &str, series: Vec<Series>) -> LineChart {
    LineChart { frame: frame(title), series, unit: Unit::Money("usd".to_owned()), scale: Axis::Linear, span: None }
}

fn day() -> impl Iterator<Item = i64> {
    (0..288).map(|n| START + n * 300_000)
}

fn year() -> impl Iterator<Item = i64> {
    (0..8_760).map(|n| START + n * HOUR)
}

fn five(times: fn() -> Vec<i64>) -> Vec<Series> {
    let coins =
        [("Bitcoin", 97_000.0), ("Ethereum", 3_400.0), ("Solana", 180.0), ("Dogecoin", 0.12), ("Shiba Inu", 8e-6)];
    coins.iter().enumerate().map(|(n, (name, price))| series(name, walk(n as u64, *price, 0.012, times()))).collect()
}

fn sticks(seed: u64, start: f64, count: i64, length: i64) -> Vec<Stick> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut close = start;
    let mut next = |n: i64| {
        let open = close;
        close = open * (1.0 + dice.random_range(-0.02..0.0205));
        let (high, low) = (open.max(close), open.min(close));
        Stick {
            open_time: START + n * length,
            open,
            high: high * (1.0 + dice.random_range(0.0..0.008)),
            low: low * (1.0 - dice.random_range(0.0..0.008)),
            close,
            volume: Some(dice.random_range(2e8..4e9)),
            is_final: n + 1 < count,
        }
    };
    (0..count).map(&mut next).collect()
}

fn candle_chart(title: &str, sticks: Vec<Stick>, length_ms: i64) -> CandleChart {
    CandleChart {
        frame: frame(title),
        name: "Bitcoin".to_owned(),
        sticks,
        length_ms,
        currency: "usd".to_owned(),
        scale: Axis::Linear,
        span: None,
    }
}

fn quote_chart() -> QuoteChart {
    let mut dice = StdRng::seed_from_u64(4);
    let mids = walk(4, 97_123.46, 0.0002, (0..4_000).map(|n| START + n * 900));
    let point = |Point { at, value: mid }: &Point| {
        let spread = if dice.random_bool(0.01) { 9.5 } else { dice.random_range(0.01..1.2) };
        QuotePoint { at: *at, bid: mid - spread / 2.0, ask: mid + spread / 2.0, mid: *mid, spread }
    };
    let mut points: Vec<QuotePoint> = mids.iter().map(point).collect();
    let outage = Span { from: START + 1_600_000, to: START + 1_900_000 };
    points.retain(|point| !(outage.from..outage.to).contains(&point.at));
    QuoteChart {
        frame: frame("BTC-USD"),
        pair: "BTC-USD".to_owned(),
        points,
        usual_ms: None,
        outages: vec![(outage, "connection lost".to_owned())],
        span: None,
    }
}

fn pie_chart(count: u32) -> PieChart {
    let slice = |n: u32| Slice { name: format!("Coin {n}"), value: 2e12 / f64::from(n).powi(2) };
    PieChart { frame: frame("Market cap"), slices: (1..=count).map(slice).collect(), rest: 0.0, unit: "usd".to_owned() }
}

fn themed(mut frame: Frame, theme: Theme) -> Frame {
    frame.look = Look::File(theme);
    frame
}

fn pictures() -> Vec<(&'static str, String)> {
    let one_day = lines("Bitcoin", vec![series("Bitcoin", walk(1, 97_000.0, 0.002, day()))]);
    let five_a_year = LineChart { scale: Axis::Log, ..lines("Five coins", five(|| year().collect())) };
    let mut holed = walk(3, 3_400.0, 0.01, (0..300).map(|n| START + n * HOUR));
    holed.retain(|point| !(START + 90 * HOUR..START + 130 * HOUR).contains(&point.at));
    let dark_candles = candle_chart("Bitcoin, 1h", sticks(2, 97_000.0, 90, HOUR), HOUR);
    let flat = |value: f64| lines("Constant", vec![series("Tether", day().map(|at| Point { at, value }).collect())]);
    let falling = |n: u64| walk(n, 100.0, 0.01, year()).into_iter().enumerate();
    let negative = (0..3).map(|n| {
        let fall = |(at, point): (usize, Point)| Point { value: point.value * (1.0 - at as f64 / 9_900.0), ..point };
        series(&format!("Loser {n}"), falling(n).map(fall).collect())
    });
    let mut narrow = five_a_year.clone();
    (narrow.frame.width, narrow.frame.height) = (360, 300);
    let mut narrow_candles = candle_chart("Bitcoin, 1d", sticks(2, 97_000.0, 90, DAY), DAY);
    (narrow_candles.frame.width, narrow_candles.frame.height) = (360, 300);
    let mut narrow_pie = pie_chart(300);
    (narrow_pie.frame.width, narrow_pie.frame.height) = (300, 480);
    let mut page = one_day.clone();
    page.frame.look = Look::Page;
    vec![
        ("one-day", line(&one_day)),
        ("one-day-page", line(&page)),
        ("one-day-dark", line(&LineChart { frame: themed(one_day.frame.clone(), Theme::Dark), ..one_day })),
        ("five-a-year", line(&five_a_year)),
        (
            "five-a-year-dark",
            line(&LineChart { frame: themed(five_a_year.frame.clone(), Theme::Dark), ..five_a_year.clone() }),
        ),
        ("five-percent", percent_change(&five_a_year)),
        ("five-narrow", line(&narrow)),
        ("holes", line(&lines("Ethereum", vec![series("Ethereum", holed)]))),
        ("tiny", line(&lines("Dust", vec![series("Dust", walk(6, 1e-12, 0.01, day()))]))),
        ("huge", line(&lines("Market cap", vec![series("Bitcoin", walk(7, 1.93e12, 0.004, day()))]))),
        ("constant", line(&flat(1.0))),
        ("zero", line(&flat(0.0))),
        ("point", line(&lines("One point", vec![series("Bitcoin", vec![Point { at: START, value: 64_039.0 }])]))),
        ("negative", percent_change(&lines("Losers", negative.collect()))),
        ("nothing", line(&lines("Nothing", Vec::new()))),
        ("candles", candlesticks(&candle_chart("Bitcoin, 1d", sticks(1, 97_000.0, 120, DAY), DAY))),
        ("candles-narrow", candlesticks(&narrow_candles)),
        (
            "candles-dark",
            candlesticks(&CandleChart { frame: themed(dark_candles.frame.clone(), Theme::Dark), ..dark_candles }),
        ),
        ("candles-many", candlesticks(&candle_chart("Bitcoin, 1m", sticks(3, 97_000.0, 5_000, 60_000), 60_000))),
        ("candles-few", candlesticks(&candle_chart("Bitcoin, 1d", sticks(5, 97_000.0, 3, DAY), DAY))),
        ("quotes", quotes(&quote_chart())),
        ("quotes-dark", quotes(&QuoteChart { frame: themed(frame("BTC-USD"), Theme::Dark), ..quote_chart() })),
        ("pie", pie(&pie_chart(300))),
        ("pie-narrow", pie(&narrow_pie)),
        ("pie-dark", pie(&PieChart { frame: themed(frame("Market cap"), Theme::Dark), ..pie_chart(8) })),
        ("pie-one", pie(&pie_chart(1))),
    ]
}

fn check(name: &str, svg: &str) {
    let document = Document::parse(svg).unwrap_or_else(|err| panic!("{name}: {err}\n{svg}"));
    let root = document.root_element();
    assert_eq!(root.attribute("role"), Some("img"), "{name}");
    assert!(!svg.contains("NaN") && !svg.contains("inf\"") && !svg.contains("infinity"), "{name}: {svg}");
    let size: Vec<f64> =
        root.attribute("viewBox").unwrap().split(' ').skip(2).map(|length| length.parse().unwrap()).collect();
    // Every label is on the sheet, and no two are on one another.
    let mut boxes: Vec<(f64, f64, f64, f64, String)> = Vec::new();
    for text in root.descendants().filter(|node| node.has_tag_name("text")) {
        let [x, y] = ["x", "y"].map(|name| text.attribute(name).unwrap().parse::<f64>().unwrap());
        let words: String = text.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect();
        let width = svg::text_width(&words, 12.0) * 0.88;
        let left = match text.attribute("text-anchor") {
            Some("middle") => x - width / 2.0,
            Some("end") => x - width,
            _ => x,
        };
        assert!(left >= -1.0 && left + width <= size[0] + 1.0, "{name}: {words:?} from {left} to {}", left + width);
        assert!(y >= 8.0 && y <= size[1] + 1.0, "{name}: {words:?} at {y}");
        let (top, bottom) = (y - 8.0, y);
        for (l, r, t, b, other) in &boxes {
            let apart = left >= *r || left + width <= *l || top >= *b || bottom <= *t;
            assert!(apart, "{name}: {words:?} on {other:?}");
        }
        boxes.push((left, left + width, top, bottom, words));
    }
}

#[test]
fn every_picture_is_whole_and_its_labels_do_not_overlap() {
    let folder = std::env::var_os("COINETL_PICTURES").map(std::path::PathBuf::from);
    for (name, svg) in pictures() {
        check(name, &svg);
        if let Some(folder) = &folder {
            std::fs::write(folder.join(format!("{name}.svg")), &svg).unwrap();
            std::fs::write(folder.join(format!("{name}.png")), png::png(&svg, 1.0).unwrap()).unwrap();
        }
    }
}
