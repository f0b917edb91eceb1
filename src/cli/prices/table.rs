//! The ten largest coins, for people.

use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};

use crate::cli::run::Job;
use crate::db::views::{self, TopCoin};
use crate::sinks::Sink;
use crate::sinks::prices::PriceSink;

/// The largest coins as they stand now; a result that cannot be read costs only this table.
pub async fn top_table(job: &Arc<Job<PriceSink>>, vs: &str) -> String {
    let currency = vs.to_owned();
    let rows = job.sink.run(move |sink| {
        let source = sink.session().source().to_owned();
        views::cap_top_10(sink.session().conn(), &source, &currency)
    });
    match rows.await {
        Ok(rows) if !rows.is_empty() => render(&rows, vs),
        Ok(_) => String::new(),
        Err(err) => {
            log::warn!("the table of the largest coins can't be shown: {err}");
            String::new()
        }
    }
}

fn render(rows: &[TopCoin], vs: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let in_vs = |name: &str| format!("{name} ({vs})");
    table.set_header([
        "#",
        "coin",
        "name",
        &in_vs("price"),
        "24h %",
        &in_vs("market cap"),
        &in_vs("24h volume"),
        "as of (UTC)",
    ]);
    for row in rows {
        let number = |value: Option<f64>, decimals: usize| value.map_or("-".to_owned(), |v| grouped(v, decimals));
        table.add_row([
            row.place.to_string(),
            // Names may hold anything, also what a terminal takes for a command.
            row.symbol.to_uppercase().replace(char::is_control, " "),
            row.name.replace(char::is_control, " "),
            row.price.map_or("-".to_owned(), price),
            number(row.change_24h, 2),
            number(row.market_cap, 0),
            number(row.volume_24h, 0),
            row.observed_at.get(..19).unwrap_or(&row.observed_at).to_owned(),
        ]);
    }
    for column in [0, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Two decimals from 1 up, four significant digits below.
fn price(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1.0 || magnitude == 0.0 {
        return grouped(value, 2);
    }
    let decimals = 3 - magnitude.log10().floor() as i32;
    if decimals > 15 { format!("{value:.3e}") } else { format!("{value:.*}", decimals.max(0) as usize) }
}

/// 1234567.8 → 1,234,567.80; astronomical numbers in exponent form.
fn grouped(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e18 {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if fraction.is_empty() { out } else { format!("{out}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1234567.891, 2), "1,234,567.89");
        assert_eq!(grouped(-999.5, 1), "-999.5");
        assert_eq!(grouped(1.2e59, 0), "1.200e59");
        assert_eq!(price(64039.0), "64,039.00");
        assert_eq!(price(0.000012345), "0.00001234");
        assert_eq!(price(5.8e-21), "5.800e-21");
    }
}
