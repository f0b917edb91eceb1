//! JSON written straight into a buffer, in the vendor's spelling.
//!
//! CoinGecko's answers come out of Ruby: floats keep a decimal point (`20031378.0`), go over to
//! `6.0e-06` below 0.0001 and to `1.0e+16` from there on, and `&`, `<`, `>` are escaped.
//! CoinMarketCap's recorded ones are plain: whole numbers are integers however large, small ones
//! are `8.622024843438671e-07` or `1e-05`, and nothing is escaped that need not be. A client that
//! was only ever tried on another spelling of numbers has not been tried.

/// Appends a string literal.
pub fn string(out: &mut Vec<u8>, text: &str) {
    escaped(out, text, b"&<>");
}

/// Appends a string literal in the plain spelling.
pub fn plain_string(out: &mut Vec<u8>, text: &str) {
    escaped(out, text, b"");
}

fn escaped(out: &mut Vec<u8>, text: &str, also: &[u8]) {
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let special = byte < 0x20 || matches!(byte, b'"' | b'\\') || also.contains(&byte);
        if !special {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// Appends `"key":`, after a comma unless it is the first member. Keys need no escaping.
pub fn key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a float as Ruby writes it: always with a point, and exact (shortest form that reads
/// back as the same double). Not finite: `null`, since JSON knows nothing else.
pub fn float(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        out.extend_from_slice(text);
    } else {
        scientific(out, text, b".0");
    }
}

/// Appends a float, or an integer where the value is whole: the same field takes both forms.
pub fn number(out: &mut Vec<u8>, value: f64) {
    // Beyond 2^53 not every integer is a double; Ruby writes those as floats.
    if value.fract() == 0.0 && value.abs() < 9e15 && !(value == 0.0 && value.is_sign_negative()) {
        integer(out, value as i64);
    } else {
        float(out, value);
    }
}

/// Appends a number in the plain spelling; not finite: `null`.
pub fn plain_number(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if value.fract() == 0.0 && size < 9e15 {
        integer(out, value as i64);
    } else if value.fract() == 0.0 && size < 1e21 {
        // Shortest digits, filled up with zeros.
        out.extend_from_slice(value.to_string().as_bytes());
    } else if (1e-4..1e21).contains(&size) {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_finite() {
        scientific(out, ryu::Buffer::new().format_finite(value).as_bytes(), b"");
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Rounds to decimals such that the shortest digits of the result have no more of them.
pub fn rounded(value: f64, places: i32) -> f64 {
    let size = value.abs();
    if places > 22 {
        // 10^23 is no double any more. Slow, and rare: prices below 1e-17.
        return format!("{value:.*}", places as usize).parse().unwrap_or(value);
    }
    let factor = 10f64.powi(places);
    // Beyond 2^53 there is nothing behind the point left to round.
    if size * factor >= 9e15 {
        return value;
    }
    (value * factor).round() / factor
}

/// Respells ryu's shortest digits (`0.00001234`, `1e-7`, `1.5e16`) as `1.234e-05`; `whole` follows
/// a lone digit.
fn scientific(out: &mut Vec<u8>, text: &[u8], whole: &[u8]) {
    let (mantissa, mut exponent) = match text.iter().position(|&byte| byte == b'e') {
        Some(at) => (&text[..at], decimal(&text[at + 1..])),
        None => (text, 0),
    };
    let mut digits = [0u8; 32];
    let mut count = 0;
    let mut point = None;
    for &byte in mantissa {
        match byte {
            b'-' => out.push(b'-'),
            b'.' => point = Some(count),
            // Zeros before the first digit only move the point.
            b'0' if count == 0 => exponent -= i32::from(point.is_some()),
            _ => {
                digits[count] = byte;
                count += 1;
            }
        }
    }
    exponent += match point {
        Some(0) => -1,
        Some(at) => at as i32 - 1,
        None => count as i32 - 1,
    };
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
    }
    out.push(digits[0]);
    if count > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..count]);
    } else {
        out.extend_from_slice(whole);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    integer(out, i64::from(exponent.abs()));
}

fn decimal(text: &[u8]) -> i32 {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    sign * digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_spelt_as_the_vendor_spells_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (20_031_378.0, "20031378.0"),
            (0.999105, "0.999105"),
            (0.0001, "0.0001"),
            (0.00001, "1.0e-05"),
            (0.00002927, "2.927e-05"),
            (-6.184958073918e-06, "-6.184958073918e-06"),
            (6e-6, "6.0e-06"),
            (9.99e-5, "9.99e-05"),
            (3.21755e-7, "3.21755e-07"),
            (5.8e-21, "5.8e-21"),
            (1e15, "1000000000000000.0"),
            (1e16, "1.0e+16"),
            (4.27e16, "4.27e+16"),
            (-1.2345e20, "-1.2345e+20"),
            (1.1578910401623073e59, "1.1578910401623073e+59"),
            (5e-324, "5.0e-324"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(written(|out| float(out, value)), expected);
        }
    }

    #[test]
    fn floats_read_back_as_the_same_double() {
        for n in 0..200_000u64 {
            let value = f64::from_bits(super::super::market::hash::mix(7, n, 0));
            if value.is_finite() {
                let text = written(|out| float(out, value));
                assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
                let point = text.find('.').unwrap_or_else(|| panic!("{text}: no point"));
                assert!(text[point + 1..].starts_with(|digit: char| digit.is_ascii_digit()));
            }
        }
    }

    #[test]
    fn whole_numbers_are_integers_where_the_vendor_mixes() {
        assert_eq!(written(|out| number(out, 77_146.0)), "77146");
        assert_eq!(written(|out| number(out, 77.5)), "77.5");
        assert_eq!(written(|out| number(out, -0.0)), "-0.0");
        assert_eq!(written(|out| number(out, 4.27e16)), "4.27e+16");
    }

    #[test]
    fn plain_numbers_are_spelt_as_recorded() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (21e6, "21000000"),
            (98_633.761_146_804_39, "98633.76114680439"),
            (8.622_024_843_438_671e-7, "8.622024843438671e-07"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (-0.110_541_91, "-0.11054191"),
            (1.23e20, "123000000000000000000"),
            (1.157_891_040_162_307_3e59, "1.1578910401623073e+59"),
            (2.846_168_2e-17, "2.8461682e-17"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(written(|out| plain_number(out, value)), expected);
        }
        for n in 0..100_000u64 {
            let value = f64::from_bits(super::super::market::hash::mix(8, n, 0));
            if value.is_finite() {
                let text = written(|out| plain_number(out, value));
                assert_eq!(serde_json::from_str::<f64>(&text).unwrap(), value, "{text}");
            }
        }
    }

    #[test]
    fn strings_are_escaped() {
        let text = "a\"b\\c&<>\u{1}\n🟥\u{200b}";
        let json = written(|out| string(out, text));
        assert!(json.contains("\\u0026\\u003c\\u003e\\u0001\\n🟥"), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        let plain = written(|out| plain_string(out, text));
        assert!(plain.contains("&<>\\u0001\\n🟥"), "{plain}");
        assert_eq!(serde_json::from_str::<String>(&plain).unwrap(), text);
    }
}
