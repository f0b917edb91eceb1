//! The nearest schedule that fits a month's budget.

use crate::domain::Cost;

/// A scheduled command, as far as its price goes.
#[derive(Debug, Clone)]
pub struct Item {
    pub name: String,
    pub runs: i64,
    pub cost: Cost,
    /// The minute of its schedule, where it is one.
    pub minute: Option<String>,
}

impl Item {
    fn credits(&self) -> i64 {
        self.cost.credits.saturating_mul(self.runs)
    }
}

/// Ever rarer, with the runs of a month of 31 days; `M` stands for the minute.
const LADDER: [(&str, &str, i64); 16] = [
    ("every 5 minutes", "*/5 * * * *", 8_928),
    ("every 10 minutes", "*/10 * * * *", 4_464),
    ("every 15 minutes", "*/15 * * * *", 2_976),
    ("every 20 minutes", "*/20 * * * *", 2_232),
    ("every 30 minutes", "*/30 * * * *", 1_488),
    ("hourly", "M * * * *", 744),
    ("every 2 hours", "M */2 * * *", 372),
    ("every 3 hours", "M */3 * * *", 248),
    ("every 4 hours", "M */4 * * *", 186),
    ("every 6 hours", "M */6 * * *", 124),
    ("every 8 hours", "M */8 * * *", 93),
    ("every 12 hours", "M */12 * * *", 62),
    ("daily", "M 4 * * *", 31),
    ("every other day", "M 4 */2 * *", 16),
    ("weekly", "M 4 * * 0", 5),
    ("monthly", "M 4 1 * *", 1),
];

/// The change of schedule that keeps as much as possible: of the dearest command alone, else of all
/// that run more often than the rarest that is needed. `None` when not even one run of each fits.
pub fn schedule(items: &[Item], limit: i64) -> Option<String> {
    let total: i64 = items.iter().map(Item::credits).sum();
    let dearest = items.iter().max_by_key(|item| item.credits())?;
    let others = total - dearest.credits();
    for (words, cron, runs) in LADDER {
        let credits = others.saturating_add(dearest.cost.credits.saturating_mul(runs));
        if runs < dearest.runs && credits <= limit {
            let cron = cron.replace('M', dearest.minute.as_deref().unwrap_or("0"));
            return Some(format!(
                "`{}` {words} (`{cron}`) makes {} of {} credits",
                dearest.name,
                grouped(credits),
                grouped(limit)
            ));
        }
    }
    for (words, _, runs) in LADDER {
        let credits = items.iter().map(|item| item.cost.credits.saturating_mul(item.runs.min(runs))).sum::<i64>();
        if credits <= limit {
            return Some(format!(
                "no line more often than {words} makes {} of {} credits",
                grouped(credits),
                grouped(limit)
            ));
        }
    }
    None
}

/// The largest number of coins for which a cost fits, to the hundred; `cost` must not fall with it.
pub fn largest_top(most: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, most / 100);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if fits(middle * 100) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low * 100)
}

/// 1234567 → 1,234,567.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, runs: i64, credits: i64) -> Item {
        Item { name: name.into(), runs, cost: Cost { calls: 1, credits }, minute: Some("7".into()) }
    }

    #[test]
    fn the_nearest_schedule_is_the_next_rarer_one_that_fits() {
        let suggestion = schedule(&[item("pipeline.sh", 744, 50)], 15_000).unwrap();
        assert_eq!(suggestion, "`pipeline.sh` every 3 hours (`7 */3 * * *`) makes 12,400 of 15,000 credits");
        let suggestion = schedule(&[item("a", 744, 40), item("b", 31, 1)], 15_000).unwrap();
        assert!(suggestion.starts_with("`a` every 2 hours (`7 */2 * * *`) makes 14,911"), "{suggestion}");
        let suggestion = schedule(&[item("a", 744, 10), item("b", 744, 10)], 900).unwrap();
        assert_eq!(suggestion, "no line more often than daily makes 620 of 900 credits");
        assert_eq!(schedule(&[item("a", 1, 100)], 99), None);
    }

    #[test]
    fn the_largest_top_is_found() {
        assert_eq!(largest_top(17_600, |n| n <= 4_000), Some(4_000));
        assert_eq!(largest_top(17_600, |_| true), Some(17_600));
        assert_eq!(largest_top(17_600, |_| false), None);
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
