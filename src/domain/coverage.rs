//! What is known of a coin's past: half-open intervals, each with what became of it.

use std::fmt;
use std::str::FromStr;

use super::{Stamp, Timeframe};

/// From a moment to another, which is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub from: Stamp,
    pub to: Stamp,
}

impl Range {
    /// `None` where it would be empty.
    pub fn new(from: Stamp, to: Stamp) -> Option<Range> {
        (from < to).then_some(Range { from, to })
    }

    pub fn millis(self) -> i64 {
        self.to.millis() - self.from.millis()
    }

    pub fn contains(self, moment: Stamp) -> bool {
        self.from <= moment && moment < self.to
    }

    /// What two of them share.
    pub fn and(self, other: Range) -> Option<Range> {
        Range::new(self.from.max(other.from), self.to.min(other.to))
    }

    /// How many candles of this length it holds.
    pub fn candles(self, timeframe: Timeframe) -> i64 {
        self.millis() / timeframe.millis()
    }
}

/// What became of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Everything that the source has of it is stored.
    Full,
    /// The source has nothing of it.
    Empty,
    /// It was asked for, and did not come.
    Missing,
    /// The plan does not reach so far back.
    Unreachable,
}

impl State {
    pub const ALL: [State; 4] = [State::Full, State::Empty, State::Missing, State::Unreachable];

    pub fn name(self) -> &'static str {
        match self {
            State::Full => "full",
            State::Empty => "empty",
            State::Missing => "missing",
            State::Unreachable => "unreachable",
        }
    }

    /// Whether asking for it is of no use any more.
    pub fn is_settled(self) -> bool {
        self != State::Missing
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<State, ()> {
        State::ALL.into_iter().find(|state| state.name() == text).ok_or(())
    }
}

/// A statement about an interval.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Span {
    pub range: Range,
    pub state: State,
    pub reason: Option<String>,
}

impl Span {
    fn says_the_same(&self, other: &Span) -> bool {
        self.state == other.state && self.reason == other.reason
    }

    fn cut(&self, range: Range) -> Option<Span> {
        self.range.and(range).map(|range| Span { range, ..self.clone() })
    }
}

/// Lays a newer statement over older ones, which are in order and don't overlap: it replaces what it
/// covers, and neighbours that say the same become one.
pub fn lay(old: Vec<Span>, new: Span) -> Vec<Span> {
    let (before, after) = (Range { to: new.range.from, ..FOREVER }, Range { from: new.range.to, ..FOREVER });
    let mut laid: Vec<Span> = old.iter().filter_map(|span| span.cut(before)).collect();
    laid.push(new);
    laid.extend(old.iter().filter_map(|span| span.cut(after)));
    join(laid)
}

/// The same for many newer statements; of two that overlap the later one counts.
pub fn lay_all(old: Vec<Span>, new: &[Span]) -> Vec<Span> {
    if new.windows(2).any(|pair| pair[1].range.from < pair[0].range.to) {
        return new.iter().cloned().fold(old, lay);
    }
    // In order, so that one walk along both is enough.
    let (mut laid, mut at) = (new.to_vec(), 0);
    for span in &old {
        while new.get(at).is_some_and(|new| new.range.to <= span.range.from) {
            at += 1;
        }
        let over = new[at..].iter().map(|new| new.range).take_while(|range| range.from < span.range.to);
        laid.extend(without(span.range, over).into_iter().filter_map(|range| span.cut(range)));
    }
    laid.sort_by_key(|span| span.range);
    join(laid)
}

/// Neighbours that say the same become one.
pub fn join(spans: Vec<Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.range.to == span.range.from && last.says_the_same(&span) => {
                last.range.to = span.range.to
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// What is left of an interval without these, which are in order and don't overlap.
pub fn without(whole: Range, taken: impl IntoIterator<Item = Range>) -> Vec<Range> {
    let (mut left, mut from) = (Vec::new(), whole.from);
    for range in taken {
        left.extend(Range::new(from, range.from.min(whole.to)));
        from = from.max(range.to);
    }
    left.extend(Range::new(from, whole.to));
    left
}

/// The fewest windows no longer than `longest` that hold all of these intervals, which are in order:
/// near ones share a window, and one that is longer takes several. Cut from the left, so that what is
/// left of them later is cut at the same places.
pub fn windows(ranges: &[Range], longest: i64) -> Vec<Range> {
    let mut windows: Vec<Range> = Vec::new();
    for range in ranges {
        let mut from = range.from;
        if let Some(last) = windows.last_mut() {
            let end = last.from.plus(longest);
            if end > from {
                last.to = last.to.max(range.to.min(end));
                from = last.to;
            }
        }
        while from < range.to {
            let to = range.to.min(from.plus(longest));
            windows.push(Range { from, to });
            from = to;
        }
    }
    windows
}

const FOREVER: Range = Range { from: Stamp::FIRST, to: Stamp::LAST };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_statements_come_to_what_they_come_to_one_by_one() {
        let at = |hour: i64| Stamp::FIRST.plus(hour * 3_600_000);
        let span =
            |from: i64, to: i64, state| Span { range: Range { from: at(from), to: at(to) }, state, reason: None };
        let old = vec![span(0, 4, State::Full), span(4, 6, State::Empty), span(8, 20, State::Missing)];
        let disjoint =
            [span(1, 2, State::Empty), span(3, 5, State::Full), span(9, 10, State::Full), span(10, 30, State::Full)];
        let overlapping = [span(1, 9, State::Empty), span(3, 5, State::Full)];
        for new in [&disjoint[..], &overlapping, &disjoint[2..], &[]] {
            assert_eq!(lay_all(old.clone(), new), new.iter().cloned().fold(old.clone(), lay));
            assert_eq!(lay_all(Vec::new(), new), new.iter().cloned().fold(Vec::new(), lay));
        }
    }

    fn at(second: i64) -> Stamp {
        Stamp::from_millis(second * 1000).unwrap()
    }

    fn range(from: i64, to: i64) -> Range {
        Range::new(at(from), at(to)).unwrap()
    }

    fn span(from: i64, to: i64, state: State, reason: &str) -> Span {
        Span { range: range(from, to), state, reason: (!reason.is_empty()).then(|| reason.to_owned()) }
    }

    #[test]
    fn what_is_newer_replaces_what_it_covers() {
        use State::*;
        let old = vec![span(0, 10, Full, ""), span(10, 20, Empty, "x"), span(30, 40, Missing, "y")];
        let laid = |new| lay(old.clone(), new);
        assert_eq!(
            laid(span(5, 35, Unreachable, "z")),
            [span(0, 5, Full, ""), span(5, 35, Unreachable, "z"), span(35, 40, Missing, "y")]
        );
        assert_eq!(laid(span(10, 40, Full, "")), [span(0, 40, Full, "")]);
        assert_eq!(laid(span(2, 5, Full, "")), old);
        assert_eq!(laid(span(12, 15, Empty, "x")), old);
        let split = laid(span(2, 5, Empty, "other"));
        assert_eq!(split[..3], [span(0, 2, Full, ""), span(2, 5, Empty, "other"), span(5, 10, Full, "")]);
        assert_eq!(laid(span(20, 30, Empty, "x"))[1], span(10, 30, Empty, "x"));
        assert_eq!(lay(Vec::new(), span(1, 2, Full, "")), [span(1, 2, Full, "")]);
    }

    /// Second by second, whatever is laid: the newest word counts, and nothing is in two pieces that
    /// could be one.
    #[test]
    fn any_order_of_statements_is_the_newest_of_each_second() {
        let mut state = 5_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut spans, mut seconds) = (Vec::new(), vec![None; 60]);
            for _ in 0..30 {
                let from = next(58) as i64;
                let to = from + 1 + next(59 - from as u64) as i64;
                let (what, reason) = (State::ALL[next(4) as usize], ["", "a"][next(2) as usize]);
                seconds[from as usize..to as usize].fill(Some((what, reason)));
                spans = lay(spans, span(from, to, what, reason));
            }
            let said = |second: i64| spans.iter().find(|span| span.range.contains(at(second)));
            for (second, expected) in seconds.iter().enumerate() {
                let said = said(second as i64).map(|span| (span.state, span.reason.as_deref().unwrap_or_default()));
                assert_eq!(said, *expected);
            }
            for pair in spans.windows(2) {
                assert!(pair[0].range.to <= pair[1].range.from);
                assert!(pair[0].range.to < pair[1].range.from || !pair[0].says_the_same(&pair[1]));
            }
        }
    }

    #[test]
    fn what_is_left_is_cut_into_the_fewest_windows() {
        assert_eq!(without(range(0, 10), [range(2, 3), range(5, 20)]), [range(0, 2), range(3, 5)]);
        assert_eq!(without(range(5, 10), [range(0, 5), range(7, 8)]), [range(5, 7), range(8, 10)]);
        assert_eq!(without(range(5, 10), [range(0, 20)]), []);
        assert_eq!(without(range(5, 10), [range(20, 30)]), [range(5, 10)]);
        let longest = 10_000;
        assert_eq!(windows(&[range(0, 25)], longest), [range(0, 10), range(10, 20), range(20, 25)]);
        // Two that are near share a call; one that begins in the last window's reach and ends behind it
        // goes on in the next.
        assert_eq!(windows(&[range(0, 2), range(5, 6), range(11, 12)], longest), [range(0, 6), range(11, 12)]);
        assert_eq!(windows(&[range(0, 2), range(8, 14)], longest), [range(0, 10), range(10, 14)]);
        // What is left after some were stored is cut at the same places.
        assert_eq!(windows(&[range(10, 25)], longest), [range(10, 20), range(20, 25)]);
        assert_eq!(windows(&[range(0, 10), range(20, 25)], longest), [range(0, 10), range(20, 25)]);
    }
}
