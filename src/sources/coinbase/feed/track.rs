//! Which quotes are new and where some are missing: the memory of the feed, over all its connections.
//! Pure: the time is told.
//!
//! A quote is handed on once, whatever the feed repeats; what it left out becomes an outage, from the
//! last quote before to the first one after.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::{Micros, Missed, Ticker};

/// So long the tickers may lag behind what the heartbeats tell.
const LATE: Duration = Duration::from_secs(3);

const MISSED: &str = "missed updates";
const LOST: &str = "connection lost";

#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Quote(Ticker),
    Outage(Missed),
}

#[derive(Debug)]
pub struct Tracker {
    pairs: HashMap<String, Track>,
    /// When the connection's subscription was asked for.
    subscribed: Option<Micros>,
}

#[derive(Debug, Default)]
struct Track {
    /// The last quote handed on.
    last: Option<(u64, Micros)>,
    hole: Option<&'static str>,
    /// Of this connection: the highest sequence, the last trade that a ticker told of, and since when
    /// the heartbeats know of a later one.
    seen: Option<u64>,
    traded: Option<u64>,
    behind: Option<(Instant, u64)>,
}

impl Tracker {
    pub fn new(pairs: &[String]) -> Tracker {
        Tracker { pairs: pairs.iter().map(|pair| (pair.clone(), Track::default())).collect(), subscribed: None }
    }

    /// A new connection: its numbers have nothing to do with those of the one before.
    pub fn connected(&mut self, at: Micros) {
        self.subscribed = Some(at);
        for track in self.pairs.values_mut() {
            (track.seen, track.traded, track.behind) = (None, None, None);
        }
    }

    /// Until the next quote, there is a hole.
    pub fn lost(&mut self) {
        for track in self.pairs.values_mut().filter(|track| track.last.is_some()) {
            track.hole.get_or_insert(LOST);
        }
    }

    /// What a ticker tells that is new: a quote, after the outage that it ends, or nothing.
    pub fn ticker(&mut self, quote: Ticker, trade_id: Option<u64>) -> Vec<Fact> {
        let subscribed = self.subscribed;
        let Some(track) = self.pairs.get_mut(&quote.pair) else { return Vec::new() };
        if track.seen.is_some_and(|seen| quote.sequence <= seen) {
            return Vec::new();
        }
        let is_first = track.seen.is_none();
        track.seen = Some(quote.sequence);
        track.traded = track.traded.max(trade_id);
        if track.behind.is_some_and(|(_, trade)| track.traded >= Some(trade)) {
            track.behind = None;
        }
        let is_new = match track.last {
            // The first one of a connection is from whenever the last trade was: known already, or what
            // was missed in between. Where the numbers begin anew, the time tells.
            Some((sequence, at)) => quote.sequence > sequence || (is_first && quote.observed_at > at),
            None => !(is_first && Some(quote.observed_at) < subscribed),
        };
        if !is_new {
            return Vec::new();
        }
        let mut facts = Vec::with_capacity(1);
        if let (Some(reason), Some((_, from))) = (track.hole.take(), track.last) {
            track.behind = None;
            let (pair, to) = (quote.pair.clone(), quote.observed_at.max(from));
            facts.push(Fact::Outage(Missed { pair, from, to, reason }));
        }
        track.last = Some((quote.sequence, quote.observed_at));
        facts.push(Fact::Quote(quote));
        facts
    }

    /// A heartbeat tells of trades that no ticker told of.
    pub fn heartbeat(&mut self, pair: &str, last_trade_id: u64, now: Instant) {
        let Some(track) = self.pairs.get_mut(pair) else { return };
        // Before the first ticker of a connection nobody knows what is missing.
        let Some(traded) = track.traded else { return };
        if last_trade_id <= traded {
            track.behind = None;
            return;
        }
        let (since, _) = *track.behind.get_or_insert((now, last_trade_id));
        if now - since > LATE && track.last.is_some() {
            track.hole.get_or_insert(MISSED);
        }
    }

    /// The holes that no quote ends any more.
    pub fn end(&mut self, now: Micros) -> Vec<Missed> {
        let mut outages = Vec::new();
        for (pair, track) in &mut self.pairs {
            if let (Some(reason), Some((_, from))) = (track.hole.take(), track.last) {
                outages.push(Missed { pair: pair.clone(), from, to: now.max(from), reason });
            }
        }
        outages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: &str = "BTC-USD";

    fn at(second: i64) -> Micros {
        Micros::from_micros(second * 1_000_000).unwrap()
    }

    fn quote(sequence: u64, second: i64) -> Ticker {
        let text = || "1".to_owned();
        let (bid, ask, price, observed_at) = (text(), text(), text(), at(second));
        Ticker { pair: PAIR.to_owned(), sequence, observed_at, bid, ask, price, base_volume_24h: None }
    }

    fn tracker(second: i64) -> Tracker {
        let mut tracker = Tracker::new(&[PAIR.to_owned()]);
        tracker.connected(at(second));
        tracker
    }

    /// What came of a ticker: `+7` a quote, `2-5 reason` an outage.
    fn told(facts: &[Fact]) -> String {
        let seconds = |micros: Micros| micros.rfc3339()[17..19].parse::<i64>().unwrap();
        let words = facts.iter().map(|fact| match fact {
            Fact::Quote(quote) => format!("+{}", quote.sequence),
            Fact::Outage(Missed { from, to, reason, .. }) => format!("{}-{} {reason}", seconds(*from), seconds(*to)),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_stale_first_one_is_not_sent() {
        let mut tracker = tracker(10);
        assert_eq!(told(&tracker.ticker(quote(5, 3), Some(1))), "");
        assert_eq!(told(&tracker.ticker(quote(6, 11), Some(2))), "+6");
        // A first one that is fresh is a quote like any other.
        let mut tracker = Tracker::new(&[PAIR.to_owned()]);
        tracker.connected(at(10));
        assert_eq!(told(&tracker.ticker(quote(5, 10), Some(1))), "+5");
    }

    #[test]
    fn lower_and_equal_numbers_are_dropped() {
        let mut tracker = tracker(0);
        let sequences = [4, 4, 3, 9, 5, 10];
        let facts: Vec<Fact> = sequences.iter().flat_map(|n| tracker.ticker(quote(*n, 1), Some(*n))).collect();
        assert_eq!(told(&facts), "+4, +9, +10");
        let other = Ticker { pair: "ETH-USD".to_owned(), ..quote(11, 1) };
        assert!(tracker.ticker(other, None).is_empty(), "nobody asked for it");
    }

    #[test]
    fn after_a_reconnect_nothing_is_sent_twice_and_the_hole_is_told() {
        let mut tracker = tracker(0);
        tracker.ticker(quote(7, 2), Some(7));
        tracker.lost();
        tracker.connected(at(5));
        // The last one before it was lost.
        assert_eq!(told(&tracker.ticker(quote(7, 2), Some(7))), "");
        assert_eq!(told(&tracker.ticker(quote(9, 6), Some(9))), "2-6 connection lost, +9");
        assert_eq!(told(&tracker.ticker(quote(10, 7), Some(10))), "+10");
        tracker.lost();
        tracker.connected(at(20));
        // Stale, and not known yet.
        assert_eq!(told(&tracker.ticker(quote(12, 15), Some(12))), "7-15 connection lost, +12");
        // The numbers begin anew.
        tracker.lost();
        tracker.connected(at(30));
        assert_eq!(told(&tracker.ticker(quote(1, 31), Some(13))), "15-31 connection lost, +1");
        assert_eq!(told(&tracker.ticker(quote(2, 31), Some(14))), "+2");
    }

    #[test]
    fn a_connection_without_a_quote_leaves_no_hole() {
        let mut tracker = tracker(0);
        tracker.lost();
        tracker.connected(at(5));
        assert_eq!(told(&tracker.ticker(quote(7, 6), Some(7))), "+7");
        assert!(tracker.end(at(9)).is_empty());
    }

    #[test]
    fn heartbeats_tell_of_missed_updates() {
        let begun = Instant::now();
        let beat = |tracker: &mut Tracker, trade, second| {
            tracker.heartbeat(PAIR, trade, begun + Duration::from_secs(second));
        };
        let mut tracker = tracker(0);
        beat(&mut tracker, 50, 0);
        tracker.ticker(quote(7, 2), Some(10));
        // Late, and then there.
        beat(&mut tracker, 12, 1);
        beat(&mut tracker, 13, 3);
        assert_eq!(told(&tracker.ticker(quote(8, 4), Some(12))), "+8");
        beat(&mut tracker, 13, 5);
        beat(&mut tracker, 14, 8);
        assert_eq!(told(&tracker.ticker(quote(9, 8), Some(14))), "+9");
        // Never there.
        beat(&mut tracker, 15, 9);
        beat(&mut tracker, 18, 13);
        assert_eq!(told(&tracker.ticker(quote(12, 14), Some(19))), "8-14 missed updates, +12");
        assert_eq!(told(&tracker.ticker(quote(13, 15), Some(20))), "+13");
        // And nothing after it.
        beat(&mut tracker, 21, 16);
        beat(&mut tracker, 21, 20);
        let ended = tracker.end(at(21));
        assert_eq!((ended.len(), ended[0].from, ended[0].to, ended[0].reason), (1, at(15), at(21), MISSED));
    }
}
