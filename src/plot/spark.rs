//! A line as small as a word: no axes, no numbers.

use super::svg::Path;

const WIDTH: f64 = 100.0;
const HEIGHT: f64 = 28.0;
/// More points than this nobody sees at that size.
const MOST: usize = 48;

/// A line of values at equal distances; one that is no number is a hole. The class `up` or `down` tells how
/// it ends against its beginning. A table's row says in numbers what it shows, so a reader's voice skips it.
pub fn sparkline(values: &[f64]) -> String {
    let values = reduced(values);
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) =
        finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let trend = match (finite().next(), finite().next_back()) {
        (Some(first), Some(last)) if last > first => " up",
        (Some(first), Some(last)) if last < first => " down",
        _ => "",
    };
    let y = |value: f64| {
        let span = high / 2.0 - low / 2.0;
        let part = if span > 0.0 { (value / 2.0 - low / 2.0) / span } else { 0.5 };
        // Whole pixels: half the bytes, and the eye fills in the rest.
        (2.0 + (1.0 - part) * (HEIGHT - 4.0)).round()
    };
    let step = WIDTH / values.len().saturating_sub(1).max(1) as f64;
    let mut path = Path::default();
    let mut is_drawing = false;
    for (at, value) in values.iter().enumerate() {
        let x = (at as f64 * step).round();
        match (value.is_finite(), is_drawing) {
            (false, _) => is_drawing = false,
            (true, true) => drop(path.line_to(x, y(*value))),
            (true, false) => {
                path.move_to(x, y(*value));
                is_drawing = true;
            }
        }
    }
    format!(
        "<svg class=\"spark{trend}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path d=\"{}\"/></svg>",
        path.d()
    )
}

/// Of groups of values the lowest and the highest, in their order.
fn reduced(values: &[f64]) -> Vec<f64> {
    if values.len() <= MOST {
        return values.to_vec();
    }
    let groups = MOST / 2;
    let mut out = Vec::with_capacity(MOST);
    for group in 0..groups {
        let group = &values[group * values.len() / groups..(group + 1) * values.len() / groups];
        let finite = || group.iter().copied().enumerate().filter(|(_, value)| value.is_finite());
        let low = finite().min_by(|a, b| a.1.total_cmp(&b.1));
        let high = finite().max_by(|a, b| a.1.total_cmp(&b.1));
        match (low, high) {
            (Some(low), Some(high)) if low.0 <= high.0 => out.extend([low.1, high.1]),
            (Some(low), Some(high)) => out.extend([high.1, low.1]),
            _ => out.extend([f64::NAN, f64::NAN]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_of_hours_is_a_few_hundred_bytes() {
        let week: Vec<f64> =
            (0..168).map(|n| 97_000.0 + (f64::from(n) / 7.0).sin() * 900.0 + f64::from(n) * 9.0).collect();
        let svg = sparkline(&week);
        assert!(svg.len() < 500, "{}: {svg}", svg.len());
        assert!(svg.contains("class=\"spark up\""));
        let falling: Vec<f64> = week.iter().rev().copied().collect();
        assert!(sparkline(&falling).contains("spark down"));
    }

    #[test]
    fn every_sequence_has_a_line() {
        for values in
            [&[][..], &[1.0], &[1.0, 1.0], &[f64::NAN, 1.0, f64::NAN], &[f64::MAX, f64::MIN], &[1e-300, 2e-300]]
        {
            let svg = sparkline(values);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(sparkline(&[1.0, 2.0, f64::NAN, 3.0, 4.0]).contains("M75 10"));
    }
}
