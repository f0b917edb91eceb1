//! Which intervals are to be had of which coin, part by part, and the calls that they take.

use std::sync::Arc;

use super::fetch::no_history;
use super::{Chosen, Coins};
use crate::db::gaps::{self, Selection};
use crate::db::{Connection, DbError, assets, coverage};
use crate::domain::coverage::{windows, without};
use crate::domain::{Cost, Range, Span, Stamp, State, Timeframe};
use crate::sinks::history::Target;
use crate::sources::history::{Ask, History, Offer};
use crate::sources::{Access, Source};

/// Coins looked at in one go.
const PART: i64 = 1_000;
/// How the reason begins of what the plan refused, in words of the vendor's.
pub const REFUSED: &str = "the source's plan refuses it: ";

/// What is still to be had of a coin in a currency.
#[derive(Debug, Clone)]
pub struct Series {
    pub target: Target,
    pub vs_currency: Arc<str>,
    pub timeframe: Timeframe,
    /// In order, without overlap.
    pub ranges: Vec<Range>,
    /// Those parts of them of which nothing is recorded yet.
    pub unknown: Vec<Range>,
}

/// What to ask for now, and what not to.
#[derive(Debug, Default, PartialEq)]
pub struct Todo {
    /// The fewest calls, in the order of time.
    pub windows: Vec<Range>,
    /// Behind the plan's wall.
    pub unreachable: Vec<Range>,
}

impl Series {
    /// `asked` = windows that were asked for already, in any order; `refused` = everything before it was
    /// refused by the plan.
    pub fn todo(&self, offer: &Offer, now: Stamp, asked: &[Range], refused: Option<Stamp>) -> Todo {
        let timeframe = self.timeframe;
        let reach = offer.first_in_reach(timeframe, now).max(refused.unwrap_or(Stamp::FIRST));
        let mut asked = asked.to_vec();
        asked.sort();
        let end = timeframe.ceil(now);
        let part = |from: Stamp, to: Stamp| {
            let within = Range::new(from, to);
            let cut = self.ranges.iter().filter_map(move |range| range.and(within?));
            cut.flat_map(|range| without(range, asked.iter().copied())).collect::<Vec<_>>()
        };
        Todo { windows: windows(&part(reach, end), offer.window), unreachable: part(Stamp::FIRST, reach) }
    }

    pub fn cost(&self, history: &dyn History, access: &Access, now: Stamp) -> Cost {
        // Others are asked of nobody.
        let Ok(offer) = history.offer(access, self.timeframe) else { return Cost::default() };
        let windows = self.todo(&offer, now, &[], None).windows;
        windows.first().map_or(Cost::default(), |first| {
            let request = history.request(access, &self.ask(&offer, now, *first));
            Cost { calls: 1, credits: request.credits } * windows.len() as i64
        })
    }

    pub fn ask<'a>(&'a self, offer: &Offer, now: Stamp, window: Range) -> Ask<'a> {
        Ask {
            coin: &self.target.source_id,
            vs_currency: &self.vs_currency,
            timeframe: self.timeframe,
            window,
            reachable: offer.first_in_reach(self.timeframe, now),
        }
    }
}

/// Whether a statement still makes asking again useless. Another plan may look further back.
pub fn still_holds(span: &Span, timeframe: Timeframe, offer: &Offer, now: Stamp) -> bool {
    match span.state {
        State::Full | State::Empty => true,
        State::Missing => false,
        State::Unreachable => {
            let refused = span.reason.as_deref().is_some_and(|reason| reason.starts_with(REFUSED));
            refused || span.range.to <= offer.first_in_reach(timeframe, now)
        }
    }
}

/// What a backfill wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub timeframe: Timeframe,
    pub range: Range,
    pub vs_currencies: Vec<Arc<str>>,
}

/// What is to be had, and of whom.
#[derive(Debug, Clone)]
pub enum Order {
    Backfill { coins: Coins, wanted: Wanted },
    Repair { coins: Coins, selection: Selection },
}

impl Order {
    pub fn coins(&self) -> &Coins {
        match self {
            Order::Backfill { coins, .. } | Order::Repair { coins, .. } => coins,
        }
    }

    /// Whether it is an error when no coins are stored.
    pub fn wants_all(&self) -> bool {
        matches!(self, Order::Backfill { .. })
    }

    pub fn choose(&self, conn: &mut Connection, name: &str) -> Result<Chosen, DbError> {
        let ranked_by = match self {
            Order::Backfill { wanted, .. } => wanted.vs_currencies.first().map(|vs| vs.to_string()),
            Order::Repair { selection, .. } => selection.vs_currencies.first().cloned(),
        };
        self.coins().choose(conn, name, ranked_by.as_deref().unwrap_or("usd"))
    }

    /// Why not, where the source has no such timeframe.
    pub fn lister<'a>(
        &'a self,
        source: &'static dyn Source,
        access: &'a Access,
        chosen: Chosen,
    ) -> Result<Lister<'a>, String> {
        let what = match self {
            Order::Backfill { wanted, .. } => {
                let history = source.history().ok_or_else(|| no_history(source.name()))?;
                What::Backfill { wanted, offer: history.offer(access, wanted.timeframe)? }
            }
            Order::Repair { selection, .. } => What::Repair { selection, source, access },
        };
        Ok(Lister { what, chosen, after: Some(0), seen: 0 })
    }

    /// What it costs when no call fails.
    pub fn cost(
        &self,
        conn: &mut Connection,
        name: &str,
        source: &'static dyn Source,
        access: &Access,
        now: Stamp,
    ) -> Result<Cost, DbError> {
        let chosen = self.choose(conn, name)?;
        // What can't be asked for is told by the run itself, and costs nothing.
        let (Some(history), Ok(mut lister)) = (source.history(), self.lister(source, access, chosen)) else {
            return Ok(Cost::default());
        };
        let mut cost = Cost::default();
        while let Some(part) = lister.next(conn, name, now)? {
            cost += part.iter().map(|series| series.cost(history, access, now)).fold(Cost::default(), |a, b| a + b);
        }
        Ok(cost)
    }

    /// What it costs for a coin of which nothing is stored.
    pub fn cost_of_one(&self, source: &dyn Source, access: &Access, now: Stamp) -> Cost {
        let (Order::Backfill { wanted, .. }, Some(history)) = (self, source.history()) else { return Cost::default() };
        let target = Target { asset_id: None, source_id: "a".to_owned() };
        let of = |vs_currency: &Arc<str>| Series {
            target: target.clone(),
            vs_currency: vs_currency.clone(),
            timeframe: wanted.timeframe,
            ranges: vec![wanted.range],
            unknown: vec![wanted.range],
        };
        let costs = wanted.vs_currencies.iter().map(|vs_currency| of(vs_currency).cost(history, access, now));
        costs.fold(Cost::default(), |sum, cost| sum + cost)
    }
}

/// Lists series part by part: memory does not grow with the coins.
pub struct Lister<'a> {
    what: What<'a>,
    chosen: Chosen,
    after: Option<i64>,
    seen: usize,
}

enum What<'a> {
    Backfill { wanted: &'a Wanted, offer: Offer },
    Repair { selection: &'a Selection, source: &'static dyn Source, access: &'a Access },
}

impl Lister<'_> {
    /// How many coins the last part was made of.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// The next part, or `None` at the end. A part may be empty.
    pub fn next(&mut self, conn: &mut Connection, name: &str, now: Stamp) -> Result<Option<Vec<Series>>, DbError> {
        let Some(after) = self.after else { return Ok(None) };
        match &self.what {
            What::Backfill { wanted, offer } => {
                let targets: Vec<Target> = match &self.chosen {
                    Chosen::All => {
                        let part = assets::active_after(conn, name, after, PART)?;
                        self.after = part.next;
                        let target = |(id, source_id)| Target { asset_id: Some(id), source_id };
                        part.coins.into_iter().map(target).collect()
                    }
                    Chosen::These(targets) => {
                        let (from, to) = (after as usize, targets.len().min(after as usize + PART as usize));
                        self.after = (to < targets.len()).then_some(to as i64);
                        targets[from..to].to_vec()
                    }
                };
                self.seen = targets.len();
                backfill(conn, wanted, offer, targets, now).map(Some)
            }
            What::Repair { selection, source, access } => {
                let ids: Option<Vec<i64>> = match &self.chosen {
                    Chosen::All => None,
                    Chosen::These(targets) => Some(targets.iter().filter_map(|target| target.asset_id).collect()),
                };
                // What this name has: an answer may have told another one than was thought.
                let selection = Selection { sources: vec![name.to_owned()], ..(*selection).clone() };
                let part = gaps::next_part(conn, &selection, ids.as_deref(), after, now)?;
                self.after = part.next;
                self.seen = part.found.len();
                let offer = |timeframe| source.history().and_then(|history| history.offer(access, timeframe).ok());
                let to_do = |found: gaps::Found| {
                    let offer = offer(found.timeframe)?;
                    let asks =
                        |span: &&Span| !still_holds(span, found.timeframe, &offer, now) && !gaps::awaits_folding(span);
                    let ranges: Vec<Range> = found.holes.iter().filter(asks).map(|span| span.range).collect();
                    let unknown = found.holes.iter().filter(|span| gaps::was_never_asked(span));
                    let unknown = unknown.map(|span| span.range).collect();
                    let target = Target { asset_id: Some(found.asset_id), source_id: found.source_id };
                    let (vs_currency, timeframe) = (found.vs_currency, found.timeframe);
                    (!ranges.is_empty()).then_some(Series { target, vs_currency, timeframe, ranges, unknown })
                };
                Ok(Some(part.found.into_iter().filter_map(to_do).collect()))
            }
        }
    }
}

fn backfill(
    conn: &mut Connection,
    wanted: &Wanted,
    offer: &Offer,
    targets: Vec<Target>,
    now: Stamp,
) -> Result<Vec<Series>, DbError> {
    let Wanted { timeframe, range, vs_currencies } = wanted;
    let ids: Vec<i64> = targets.iter().filter_map(|target| target.asset_id).collect();
    let mut all = Vec::new();
    for vs_currency in vs_currencies {
        let holds = |span: &Span| still_holds(span, *timeframe, offer, now);
        let mut known = coverage::known(conn, &ids, vs_currency, *timeframe, *range, holds)?;
        for target in &targets {
            let known = target.asset_id.and_then(|id| known.remove(&id)).unwrap_or_default();
            let ranges = without(*range, known.settled);
            if !ranges.is_empty() {
                let (target, vs_currency) = (target.clone(), vs_currency.clone());
                let unknown = without(*range, known.any);
                all.push(Series { target, vs_currency, timeframe: *timeframe, ranges, unknown });
            }
        }
    }
    Ok(all)
}
