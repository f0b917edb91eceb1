//! Numbers for people: short enough for an axis, and never rounded to something else than they are.

use super::scale::Ticks;

/// Powers of a thousand that have a letter.
const LETTERS: [(f64, &str); 3] = [(1e12, "T"), (1e9, "B"), (1e6, "M")];
/// From here on only an exponent is readable.
const TOO_LARGE: f64 = 1e15;
const TOO_SMALL: f64 = 1e-6;

/// The labels of an axis, all in one form, as many decimals as tell neighbours apart.
pub fn labels(ticks: &Ticks) -> Vec<String> {
    let values = &ticks.values;
    let Some(step) = ticks.step else { return values.iter().map(|value| short(*value)).collect() };
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return values.iter().map(|_| "0".to_owned()).collect();
    }
    if !(TOO_SMALL..TOO_LARGE).contains(&largest) {
        let exponent = exponent_of(largest);
        let decimals = usize::try_from(exponent - exponent_of(step)).unwrap_or_default().min(15);
        let unit = |value: f64| match value {
            0.0 => "0".to_owned(),
            // Divided in decimal: 3e-12 / 1e-12 is not always 3.
            value => format!("{}e{exponent}", scaled(value, exponent, decimals)),
        };
        return values.iter().map(|value| unit(*value)).collect();
    }
    let decimals_at = |unit: f64| usize::try_from(-exponent_of(step / unit)).unwrap_or_default();
    let letter = LETTERS.into_iter().find(|(unit, _)| largest >= *unit && decimals_at(*unit) <= 3);
    match letter {
        Some((unit, letter)) => {
            let text = |value: f64| match value {
                0.0 => "0".to_owned(),
                value => format!("{} {letter}", grouped(value / unit, decimals_at(unit))),
            };
            values.iter().map(|value| text(*value)).collect()
        }
        None => values.iter().map(|value| grouped(*value, decimals_at(1.0).min(17))).collect(),
    }
}

/// One value by itself, with four to six digits that count.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(TOO_SMALL..TOO_LARGE).contains(&size) {
        return trimmed_exponent(value);
    }
    if let Some((unit, letter)) = LETTERS.into_iter().find(|(unit, _)| size >= *unit) {
        return format!("{} {letter}", trimmed(value / unit, 3));
    }
    match size {
        1000.0.. => grouped(value, 2).strip_suffix(".00").map_or_else(|| grouped(value, 2), str::to_owned),
        1.0.. => trimmed(value, 4),
        // Five digits behind the zeros.
        _ => trimmed(value, usize::try_from(4 - exponent_of(size)).unwrap_or(4)),
    }
}

/// A change in percent, with its sign.
pub fn percent(value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    match value.abs() {
        1000.0.. => format!("{sign}{} %", short(value.round())),
        100.0.. => format!("{sign}{value:.0} %"),
        10.0.. => format!("{sign}{value:.1} %"),
        _ => format!("{sign}{value:.2} %"),
    }
}

/// A part of a whole in percent.
pub fn share(part: f64) -> String {
    let percent = part * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        ..0.01 => "< 0.01 %".to_owned(),
        ..10.0 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// The shortest decimal that a program needs to say the value to about six digits.
pub fn compact(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let plain = trimmed_plain(value, usize::try_from(6 - exponent_of(value.abs())).unwrap_or_default().min(18));
    let exponent = trimmed_exponent_of(value, 6);
    if plain.len() <= exponent.len() { plain } else { exponent }
}

/// The power of ten of its first digit.
fn exponent_of(value: f64) -> i32 {
    let text = format!("{value:e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default()
}

/// The digits of a value over a power of ten.
fn scaled(value: f64, exponent: i32, decimals: usize) -> String {
    let text = format!("{value:.*e}", (decimals as i32 - exponent + exponent_of(value)).clamp(0, 17) as usize);
    let (digits, own) = text.split_once('e').unwrap_or((&text, "0"));
    let shift: i32 = own.parse::<i32>().unwrap_or_default() - exponent;
    let number = format!("{digits}e{shift}").parse::<f64>().unwrap_or_default();
    format!("{number:.decimals$}")
}

fn trimmed_exponent(value: f64) -> String {
    trimmed_exponent_of(value, 3)
}

fn trimmed_exponent_of(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

fn trimmed_plain(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = grouped(value, decimals);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// With a comma between thousands.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |text| ("-", text));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    // Rounded away, zero has no sign.
    if out.starts_with('-') && !out.contains(|digit: char| ('1'..='9').contains(&digit)) {
        out.split_off(1)
    } else {
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::scale::{Kind, Scale};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn of(low: f64, high: f64) -> Vec<String> {
        labels(&Scale { kind: Kind::Linear, low, high }.ticks(4))
    }

    #[test]
    fn axes_are_readable_at_every_size() {
        assert_eq!(of(95_000.0, 98_000.0), ["95,000", "96,000", "97,000", "98,000"]);
        assert_eq!(of(0.0, 4e-12), ["0", "1e-12", "2e-12", "3e-12", "4e-12"]);
        assert_eq!(of(1.0e-12, 1.6e-12), ["1.0e-12", "1.2e-12", "1.4e-12", "1.6e-12"]);
        assert_eq!(of(1.0e12, 1.6e12), ["1.0 T", "1.2 T", "1.4 T", "1.6 T"]);
        assert_eq!(of(0.0, 4e9), ["0", "1 B", "2 B", "3 B", "4 B"]);
        assert_eq!(of(0.9, 1.1), ["0.90", "0.95", "1.00", "1.05", "1.10"]);
        assert_eq!(of(1.1e59, 1.4e59), ["1.1e59", "1.2e59", "1.3e59", "1.4e59"]);
        assert_eq!(of(-0.02, 0.02), ["-0.02", "-0.01", "0.00", "0.01", "0.02"]);
        // Neighbours of a large number differ, or the axis would say one number five times.
        assert_eq!(of(1e12, 1e12 + 3.0)[1], "1,000,000,000,001");
    }

    #[test]
    fn labels_of_an_axis_differ_and_say_what_they_are() {
        let mut dice = StdRng::seed_from_u64(11);
        for _ in 0..20_000 {
            let low = 10f64.powf(dice.random_range(-25.0..60.0)) * if dice.random_bool(0.2) { -1.0 } else { 1.0 };
            let high = low + low.abs() * 10f64.powf(dice.random_range(-6.0..3.0));
            let ticks = Scale { kind: Kind::Linear, low, high }.ticks(dice.random_range(2..9));
            let texts = labels(&ticks);
            let told = format!("{low:e} {high:e}: {texts:?}");
            let mut distinct = texts.clone();
            distinct.dedup();
            assert_eq!(distinct.len(), texts.len(), "{told}");
            assert!(texts.iter().all(|text| text.len() <= 24), "{told}");
            for (text, value) in texts.iter().zip(&ticks.values) {
                let read = read_back(text);
                assert!((read - value).abs() <= value.abs() * 1e-9, "{told}: {text} of {value:e}");
            }
        }
    }

    fn read_back(text: &str) -> f64 {
        let times = LETTERS.iter().find(|(_, letter)| text.ends_with(letter)).map_or(1.0, |(unit, _)| *unit);
        text.trim_end_matches(|c: char| c.is_ascii_uppercase() || c == ' ').replace(',', "").parse::<f64>().unwrap()
            * times
    }

    #[test]
    fn single_values_keep_their_digits() {
        for (value, text) in [
            (0.0, "0"),
            (97_123.46, "97,123.46"),
            (64_039.0, "64,039"),
            (1.0, "1"),
            (1.00001, "1"),
            (0.99991, "0.99991"),
            (0.000012345, "0.000012345"),
            (5.8e-21, "5.8e-21"),
            (1.234e-12, "1.234e-12"),
            (1.2e12, "1.2 T"),
            (1_930_123_456_789.0, "1.93 T"),
            (1.2e59, "1.2e59"),
            (-1234.5, "-1,234.50"),
        ] {
            assert_eq!(short(value), text, "{value:e}");
        }
        assert_eq!(
            (percent(3.456).as_str(), percent(-99.5).as_str(), percent(0.0).as_str()),
            ("+3.46 %", "-99.5 %", "0.00 %")
        );
        assert_eq!((percent(123_456.7).as_str(), percent(250.2).as_str()), ("+123,457 %", "+250 %"));
        assert_eq!((share(0.5), share(0.01234), share(1e-9)), ("50.0 %".into(), "1.23 %".into(), "< 0.01 %".into()));
        assert_eq!(
            (compact(97_123.456), compact(1e12), compact(1.5e-12), compact(0.25)),
            ("97123.46".into(), "1e12".into(), "1.5e-12".into(), "0.25".into())
        );
    }
}
