//! Numbers, amounts and ages as people read them.

use crate::domain::Stamp;

/// What stands where a number is not known.
pub const UNKNOWN: &str = "–";

/// A price: whole cents where it is large, some significant digits where it is small.
pub fn price(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if value == 0.0 => "0".to_owned(),
        1e15.. => exponent(value),
        100.0.. => grouped(value, 2),
        1.0.. => grouped(value, 4),
        1e-8.. => {
            // Four digits that tell something, and no zeros behind them.
            let places = (-size.log10().floor()) as usize + 3;
            let text = format!("{value:.places$}");
            // What is rounded up to one looks like one.
            let shortest = if text.trim_start_matches('-').starts_with('0') { 0 } else { 4 };
            let text = text.replace('-', "−");
            let digits = text.trim_end_matches('0').trim_end_matches('.');
            if shortest > 0 { grouped(value, shortest) } else { digits.to_owned() }
        }
        _ => exponent(value),
    }
}

/// A large amount in few digits: 1.39 T.
pub fn large(value: f64) -> String {
    let size = value.abs();
    // What is rounded up to a thousand has the next name.
    match size {
        _ if value == 0.0 => "0".to_owned(),
        999.995e12.. => exponent(value),
        999.995e9.. => format!("{:.2} T", value / 1e12),
        999.995e6.. => format!("{:.2} B", value / 1e9),
        999_995.0.. => format!("{:.2} M", value / 1e6),
        1.0.. => grouped(value, if size < 1000.0 { 2 } else { 0 }),
        _ => price(value),
    }
}

/// A number with a comma between thousands.
pub fn grouped(value: f64, places: usize) -> String {
    let text = format!("{:.places$}", value.abs());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::with_capacity(text.len() + whole.len() / 3 + 1);
    if value < 0.0 {
        out.push('−');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(rest) = rest {
        out.push('.');
        out.push_str(rest);
    }
    out
}

pub fn count(value: i64) -> String {
    let text = grouped(value.unsigned_abs() as f64, 0);
    if value < 0 { format!("−{text}") } else { text }
}

/// `1 pair`, `2 pairs`
pub fn number_of(value: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

fn exponent(value: f64) -> String {
    let text = format!("{value:.3e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let power: String = power.chars().map(superscript).collect();
    format!("{digits}×10{power}")
}

fn superscript(sign: char) -> char {
    match sign {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => digit.to_digit(10).and_then(|digit| char::from_u32(0x2070 + digit)).unwrap_or(sign),
    }
}

/// A change in percent with its sign.
pub fn percent(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        1000.0.. => 0,
        100.0.. => 1,
        _ => 2,
    };
    let text = if size >= 1e9 { exponent(size) } else { grouped(size, places) };
    let is_zero = text.bytes().all(|byte| !(b'1'..=b'9').contains(&byte));
    match (value < 0.0, is_zero) {
        (_, true) => format!("{text} %"),
        (true, false) => format!("−{text} %"),
        (false, false) => format!("+{text} %"),
    }
}

pub fn share(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// An amount with the currency's own sign, or its code behind it.
pub fn money(text: &str, currency: &str) -> String {
    let sign = match currency {
        "usd" => "$",
        "eur" => "€",
        "gbp" => "£",
        "jpy" | "cny" => "¥",
        "inr" => "₹",
        "krw" => "₩",
        "btc" => "₿",
        _ => return format!("{text} {}", currency.to_uppercase()),
    };
    match text.strip_prefix('−') {
        Some(text) => format!("−{sign}{text}"),
        None => format!("{sign}{text}"),
    }
}

/// How long ago, in one word and a number. The page's script says it in the same words.
pub fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "just now".to_owned(),
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

pub fn duration(millis: i64) -> String {
    match millis.max(0) {
        ms @ ..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        ms @ ..120_000 => format!("{} s", ms / 1000),
        ms @ ..7_200_000 => format!("{} min", ms / 60_000),
        ms @ ..172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} days", ms / 86_400_000),
    }
}

/// `2026-11-25 22:18 UTC`
pub fn minute(at: Stamp) -> String {
    format!("{} UTC", &at.text().as_str()[..16])
}

/// `2026-11-25`
pub fn day(at: Stamp) -> String {
    at.text().as_str()[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_of_all_sizes_are_short() {
        for (value, text) in [
            (69_159.44, "69,159.44"),
            (1.0, "1.0000"),
            (0.999_99, "1.0000"),
            (-0.25, "−0.25"),
            (0.05, "0.05"),
            (0.000_012_345_6, "0.00001235"),
            (5.8e-21, "5.8×10⁻²¹"),
            (1.2e59, "1.2×10⁵⁹"),
            (0.0, "0"),
            (999_999.999, "1,000,000.00"),
            (-12.5, "−12.5000"),
        ] {
            assert_eq!(price(value), text);
        }
        for (value, text) in [
            (1.39e12, "1.39 T"),
            (31_453_519_926.0, "31.45 B"),
            (999_999.0, "1.00 M"),
            (999_999_999_999.0, "1.00 T"),
            (532.4, "532.40"),
            (1e20, "1×10²⁰"),
        ] {
            assert_eq!(large(value), text);
        }
    }

    #[test]
    fn a_change_has_a_sign_unless_it_is_none() {
        for (value, text) in
            [(1.014, "+1.01 %"), (-0.004, "0.00 %"), (-3.2, "−3.20 %"), (12_345.6, "+12,346 %"), (3e12, "+3×10¹² %")]
        {
            assert_eq!(percent(value), text);
        }
        assert_eq!(money("1.00", "usd"), "$1.00");
        assert_eq!(money("−1.00", "eur"), "−€1.00");
        assert_eq!(money("1.00", "chf"), "1.00 CHF");
    }

    #[test]
    fn ages_grow() {
        let ages: Vec<String> = [-5, 3, 59, 60, 7_199, 172_800].into_iter().map(age).collect();
        assert_eq!(ages, ["just now", "just now", "59 s ago", "1 min ago", "1 h ago", "2 days ago"]);
    }
}
