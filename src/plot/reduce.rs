//! Many more points than pixels, without losing an extreme; and where a line must not go on.

use crate::domain::chart::Point;

/// A hole is that many times as long as the ways between the points around it.
const HOLE: f64 = 3.5;
/// Points on each side that tell what is usual.
const AROUND: usize = 5;

/// Of each column what is seen of it: the first, the lowest, the highest and the last point. Columns have
/// the same length of time. Points have to be in the order of their times.
pub fn columns(points: &[Point], from: i64, column_ms: f64) -> Vec<Point> {
    let column = |point: &Point| ((point.at - from) as f64 / column_ms).floor() as i64;
    let mut out: Vec<Point> = Vec::new();
    for group in points.chunk_by(|a, b| a.value.is_finite() == b.value.is_finite() && column(a) == column(b)) {
        let by_value = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let low = group.iter().min_by(by_value).unwrap_or(first);
        let high = group.iter().max_by(by_value).unwrap_or(first);
        let (second, third) = if low.at <= high.at { (low, high) } else { (high, low) };
        for point in [first, second, third, last] {
            if out.last() != Some(point) {
                out.push(*point);
            }
        }
    }
    out
}

/// The pieces of a line that are drawn each by itself. `usual_ms` = the longest way between two points
/// that is no hole; where it is not known, it is what is usual around them. Holes that take less than three
/// columns can't be seen and are none.
pub fn pieces(points: &[Point], usual_ms: Option<i64>, column_ms: f64) -> Vec<&[Point]> {
    let whole = points.split(|point| !point.value.is_finite()).filter(|piece| !piece.is_empty());
    whole.flat_map(|piece| split(piece, usual_ms, column_ms)).collect()
}

fn split(points: &[Point], usual_ms: Option<i64>, column_ms: f64) -> Vec<&[Point]> {
    // Ways that are shorter than a column say how a column was reduced, not how often there is a point.
    let ways: Vec<f64> = points.windows(2).map(|pair| ((pair[1].at - pair[0].at) as f64).max(column_ms)).collect();
    let median = |ways: &[f64]| {
        let mut ways = ways.to_vec();
        ways.sort_by(f64::total_cmp);
        ways.get(ways.len() / 2).copied()
    };
    let is_hole = |at: usize| {
        let way = ways[at];
        if way < column_ms * 3.0 {
            return false;
        }
        match usual_ms {
            Some(usual) => way > usual as f64,
            None => {
                let before = median(&ways[at.saturating_sub(AROUND)..at]);
                let behind = median(&ways[at + 1..(at + 1 + AROUND).min(ways.len())]);
                let usual = before.into_iter().chain(behind).reduce(f64::max);
                usual.is_some_and(|usual| way > usual * HOLE)
            }
        }
    };
    let mut pieces = Vec::new();
    let mut begin = 0;
    for at in 0..ways.len() {
        if is_hole(at) {
            pieces.push(&points[begin..=at]);
            begin = at + 1;
        }
    }
    pieces.push(&points[begin..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn points(values: impl IntoIterator<Item = (i64, f64)>) -> Vec<Point> {
        values.into_iter().map(|(at, value)| Point { at, value }).collect()
    }

    #[test]
    fn no_extreme_is_lost_and_columns_bound_the_number() {
        let mut dice = StdRng::seed_from_u64(5);
        let many: Vec<Point> = points(
            (0..100_000).map(|n| (n * 1000, dice.random_range(-1.0..1.0) * if n % 997 == 0 { 50.0 } else { 1.0 })),
        );
        let column_ms = 100_000_000.0 / 500.0;
        let few = columns(&many, 0, column_ms);
        assert!(few.len() <= 4 * 500, "{}", few.len());
        assert!(few.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!((few.first(), few.last()), (many.first(), many.last()));
        for (column, group) in many.chunk_by(|a, b| a.at / 200_000 == b.at / 200_000).enumerate() {
            let of_column = |point: &&Point| point.at / 200_000 == column as i64;
            let extremes = |points: &mut dyn Iterator<Item = &Point>| {
                points.fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.value), high.max(p.value)))
            };
            assert_eq!(extremes(&mut group.iter()), extremes(&mut few.iter().filter(of_column)), "{column}");
        }
        assert_eq!(columns(&many[..3], 0, 1.0), many[..3]);
    }

    #[test]
    fn holes_are_what_is_unusual_around_them() {
        let hour = 3_600_000;
        let lengths = |points: &[Point], usual| {
            pieces(points, usual, hour as f64 / 10.0).iter().map(|piece| piece.len()).collect::<Vec<_>>()
        };
        let hourly = |from: i64, count: i64| (from..from + count).map(move |n| (n * hour, 1.0));
        assert_eq!(lengths(&points(hourly(0, 10).chain(hourly(20, 10))), None), [10, 10]);
        // Days behind which hours come are no holes.
        let mixed = (0..10).map(|n| (n * 24 * hour, 1.0)).chain(hourly(240, 20));
        assert_eq!(lengths(&points(mixed), None), [30]);
        // One that is missing is within what is usual, unless it is known what is.
        assert_eq!(lengths(&points(hourly(0, 10).chain(hourly(11, 10))), None), [20]);
        assert_eq!(lengths(&points(hourly(0, 10).chain(hourly(11, 10))), Some(hour)), [10, 10]);
        assert_eq!(lengths(&points([(0, 1.0), (hour, f64::NAN), (2 * hour, 1.0)]), None), [1, 1]);
        assert_eq!(lengths(&points([(0, 1.0)]), None), [1]);
        assert_eq!(lengths(&[], None), [0; 0]);
        // Reduced to columns, a dense line is whole.
        let dense = points((0..100_000).map(|n| (n * 60_000, (n as f64).sin())));
        let column_ms = 100_000.0 * 60_000.0 / 500.0;
        assert_eq!(pieces(&columns(&dense, 0, column_ms), None, column_ms).len(), 1);
        let mut holed = dense;
        holed.retain(|point| !(3_000_000_000..3_300_000_000).contains(&point.at));
        assert_eq!(pieces(&columns(&holed, 0, column_ms), None, column_ms).len(), 2);
    }
}
