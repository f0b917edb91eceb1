//! One input from its beginning to its end, as chunks of rows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::cells::utf8;
use super::lines::{Form, Lines};
use super::rows::{Item, Row, Rows, Subject, Written};
use super::{Content, FileError, Input, Recognised, Whence, parquet, zip};
use crate::domain::{Candle, Figures, Origin, Range, Reject, Stamp, Timeframe};

/// Rows of a chunk.
const ROWS: usize = 4_096;
/// Rejected bytes of a chunk.
const REJECTED_BYTES: usize = 1 << 20;
/// Stretches without a hole that are remembered of a file: memory is bounded, however many holes it has.
const MOST_RUNS: usize = 100_000;
/// How much of a rejected line is kept.
const MAX_PAYLOAD: usize = 4 << 10;

/// How far an input was read: bytes of a text, rows of Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub position: u64,
    pub line: u64,
}

/// Where to begin. What lies before is read over, for what all of the file comes to.
pub type Start = Option<Place>;

/// A part of an input.
#[derive(Debug, Default)]
pub struct Chunk {
    pub candles: Vec<(Arc<Subject>, Candle)>,
    pub prices: Vec<(Arc<Subject>, Stamp, Figures)>,
    pub rejected: Vec<Reject>,
    /// Rows that only repeat one before.
    pub doubled: u64,
    /// Behind the last row.
    pub place: Place,
    rejected_bytes: usize,
}

impl Chunk {
    pub fn rows(&self) -> usize {
        self.candles.len() + self.prices.len() + self.rejected.len() + self.doubled as usize
    }

    fn is_full(&self) -> bool {
        self.rows() >= ROWS || self.rejected_bytes >= REJECTED_BYTES
    }
}

/// What a file holds of one coin in one currency, as candles of one length or as observations.
#[derive(Debug, Clone)]
pub struct Extent {
    pub subject: Arc<Subject>,
    pub timeframe: Option<Timeframe>,
    pub rows: u64,
    pub first: Stamp,
    pub last: Stamp,
    /// What final bars cover that were not folded here.
    pub covered: Runs,
}

/// Stretches of bars without a hole between them, whatever order they come in.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    /// From the first opening to behind the last bar.
    hull: Option<Range>,
    /// The one that grows.
    growing: Option<Range>,
    /// By their beginning, to their end.
    done: BTreeMap<Stamp, Stamp>,
}

impl Runs {
    /// False where it would be another stretch than `room` is left for: what it covers is not told then.
    fn add(&mut self, bar: Range, room: bool) -> bool {
        let hull = self.hull.get_or_insert(bar);
        (hull.from, hull.to) = (hull.from.min(bar.from), hull.to.max(bar.to));
        match &mut self.growing {
            Some(run) if bar.from == run.to => run.to = bar.to,
            Some(run) if bar.to == run.from => run.from = bar.from,
            Some(run) if run.from <= bar.from && bar.to <= run.to => {}
            _ if !room => return false,
            _ => {
                self.settle();
                self.growing = Some(bar);
            }
        }
        true
    }

    /// Joins the one that grew to those it touches.
    fn settle(&mut self) {
        let Some(mut run) = self.growing.take() else { return };
        while let Some((from, to)) = self.done.range(..=run.to).next_back().map(|(from, to)| (*from, *to)) {
            if to < run.from {
                break;
            }
            run = Range { from: run.from.min(from), to: run.to.max(to) };
            self.done.remove(&from);
        }
        self.done.insert(run.from, run.to);
    }

    fn count(&self) -> usize {
        self.done.len() + usize::from(self.growing.is_some())
    }

    pub fn hull(&self) -> Option<Range> {
        self.hull
    }

    /// In order, without overlap. To be asked for when all bars are there.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        debug_assert!(self.growing.is_none());
        self.done.iter().map(|(from, to)| Range { from: *from, to: *to })
    }
}

/// What a reader hands on: true to go on.
pub type Take<'a> = &'a mut dyn FnMut(Chunk) -> bool;

/// Archives stay open from member to member.
#[derive(Default)]
pub struct Reader {
    archive: Option<(PathBuf, zip::Archive)>,
}

impl Reader {
    /// Reads an input; `None` when `take` wanted no more.
    pub fn read(&mut self, input: &Input, start: Start, take: Take<'_>) -> Result<Option<Vec<Extent>>, FileError> {
        let mut collector = Collector::new(start.unwrap_or_default(), take);
        let went_on = self.read_into(input, &mut collector).map_err(|why| FileError::new(&input.shown, why))?;
        collector.extents.values_mut().for_each(|extent| extent.covered.settle());
        Ok(went_on.then(|| collector.extents.into_values().collect()).map(sorted))
    }

    fn read_into(&mut self, input: &Input, collector: &mut Collector<'_>) -> Result<bool, String> {
        let words = |err: io::Error| err.to_string();
        let recognised = match &input.content {
            Content::Parquet(kind) => {
                let Whence::File(path) = &input.whence else { return Err("it is no file".to_owned()) };
                return parquet::read(File::open(path).map_err(words)?, *kind, collector);
            }
            Content::Text(recognised) => recognised,
        };
        match &input.whence {
            Whence::File(path) => text(File::open(path).map_err(words)?, recognised, input.written, collector),
            Whence::Pipe(pipe) => {
                let pipe = pipe.lock().map_or(None, |mut pipe| pipe.take());
                let (head, rest) = pipe.ok_or("it is a pipe, and was read already")?;
                text(io::Cursor::new(head).chain(rest), recognised, input.written, collector)
            }
            Whence::Member { archive, index } => {
                if self.archive.as_ref().is_none_or(|(path, _)| path != archive) {
                    self.archive = Some((archive.clone(), zip::open(archive).map_err(|err| err.to_string())?));
                }
                let Some((_, archive)) = &mut self.archive else { return Ok(true) };
                // Nothing of a member is believed that is not whole.
                zip::check(archive, *index).map_err(words)?;
                text(zip::stream(archive, *index).map_err(words)?, recognised, input.written, collector)
            }
        }
    }
}

fn sorted(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_by(|a, b| {
        let key = |extent: &Extent| (extent.subject.id().map(str::to_owned), extent.timeframe);
        // Coins of one name differ in their symbols.
        let rest = |extent: &Extent| (extent.subject.vs_currency.clone(), extent.subject.symbol.clone());
        key(a).cmp(&key(b)).then_with(|| rest(a).cmp(&rest(b)))
    });
    extents
}

fn text(
    input: impl Read,
    recognised: &Recognised,
    written: Written,
    collector: &mut Collector<'_>,
) -> Result<bool, String> {
    let form = recognised.layout.form();
    let is_own = recognised.layout.is_own();
    let mut lines = Lines::new(input, form);
    let mut rows = Rows::new(recognised.layout.clone(), written);
    let words = |err: io::Error| err.to_string();
    for _ in 0..recognised.skip {
        lines.next_record().map_err(words)?;
    }
    while let Some(record) = lines.next_record().map_err(|err| collector.fail(err))? {
        let line = record.line;
        let (row, payload) = if let Some(fault) = record.fault {
            (Err(fault.to_string()), record.bytes)
        } else if is_own && !record.is_ended {
            (Err("the file is cut: its last line has no end".to_owned()), record.bytes)
        } else {
            (rows.read(record.bytes), record.bytes)
        };
        let rejected = match row {
            Ok(row) => {
                collector.row(row);
                None
            }
            // Whatever else is wrong with it: the wrong encoding explains it best.
            Err(why) => Some(reject(line, utf8(payload).err().unwrap_or(why), payload)),
        };
        let place = Place { position: lines.position(), line: lines.line() };
        if !collector.went(place, rejected) {
            return Ok(false);
        }
    }
    debug_assert!(form != Form::Brackets || lines.position() > 0);
    Ok(collector.end())
}

fn reject(line: u64, why: String, payload: &[u8]) -> Reject {
    let cut = &payload[..payload.len().min(MAX_PAYLOAD)];
    let payload = String::from_utf8_lossy(cut).into_owned();
    Reject { source_id: None, payload, reason: format!("line {line}: {why}") }
}

/// Gathers rows into chunks, and what all of them come to.
pub struct Collector<'a> {
    take: Take<'a>,
    start: Place,
    chunk: Chunk,
    /// What the last record was, until it is known whether it lies behind the start.
    row: Option<Row>,
    extents: HashMap<(usize, Option<Timeframe>), Extent>,
    /// Of all extents together.
    runs: usize,
    is_cut: bool,
}

impl<'a> Collector<'a> {
    pub fn new(start: Place, take: Take<'a>) -> Self {
        Collector { take, start, chunk: Chunk::default(), row: None, extents: HashMap::new(), runs: 0, is_cut: false }
    }

    /// Takes a row in, of which `went` will tell the place.
    pub fn row(&mut self, row: Row) {
        self.row = Some(row);
    }

    /// A record is done; false when nobody wants more.
    pub fn went(&mut self, place: Place, rejected: Option<Reject>) -> bool {
        let row = self.row.take();
        if let Some(Row::Item(subject, item)) = &row {
            self.extend(subject, item);
        }
        if place.position <= self.start.position {
            return true;
        }
        match row {
            Some(Row::Item(subject, Item::Candle(candle))) => self.chunk.candles.push((subject, candle)),
            Some(Row::Item(subject, Item::Price(at, figures))) => self.chunk.prices.push((subject, at, figures)),
            Some(Row::Doubled) => self.chunk.doubled += 1,
            Some(Row::Nothing) | None => {}
        }
        if let Some(reject) = rejected {
            self.chunk.rejected_bytes += reject.payload.len() + reject.reason.len();
            self.chunk.rejected.push(reject);
        }
        self.chunk.place = place;
        !self.chunk.is_full() || self.flush()
    }

    fn extend(&mut self, subject: &Arc<Subject>, item: &Item) {
        let (timeframe, at, covered) = match item {
            Item::Price(at, _) => (None, *at, None),
            Item::Candle(candle) => {
                let covers = candle.is_final && candle.origin != Origin::Rollup;
                let interval = Range::new(candle.open_time, candle.timeframe.end(candle.open_time));
                (Some(candle.timeframe), candle.open_time, interval.filter(|_| covers))
            }
        };
        // Each has room for one, at least.
        let room = self.runs < MOST_RUNS + self.extents.len();
        let extent = self.extents.entry((Arc::as_ptr(subject) as usize, timeframe)).or_insert_with(|| Extent {
            subject: subject.clone(),
            timeframe,
            rows: 0,
            first: at,
            last: at,
            covered: Runs::default(),
        });
        extent.rows += 1;
        (extent.first, extent.last) = (extent.first.min(at), extent.last.max(at));
        if let Some(bar) = covered {
            let before = extent.covered.count();
            if !extent.covered.add(bar, room) && !self.is_cut {
                self.is_cut = true;
                log::warn!("the file has more than {MOST_RUNS} holes; what is behind them counts as not in it");
            }
            // Joining makes them fewer.
            self.runs = (self.runs + extent.covered.count()).saturating_sub(before);
        }
    }

    fn flush(&mut self) -> bool {
        let place = self.chunk.place;
        let chunk = std::mem::take(&mut self.chunk);
        self.chunk.place = place;
        (self.take)(chunk)
    }

    /// Hands on what came before the input broke off.
    pub fn fail(&mut self, err: impl ToString) -> String {
        self.flush();
        err.to_string()
    }

    pub fn end(&mut self) -> bool {
        self.chunk.rows() == 0 || self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_found_in_any_order() {
        let bar = |day: i64| {
            let from = Stamp::FIRST.plus(day * 86_400_000);
            Range { from, to: Timeframe::D1.end(from) }
        };
        let expected =
            [Range { from: bar(1).from, to: bar(5).to }, bar(7), Range { from: bar(9).from, to: bar(11).to }];
        for days in [
            [1, 2, 3, 4, 5, 7, 9, 10, 11, 11],
            [11, 10, 9, 9, 7, 5, 4, 3, 2, 1],
            [5, 1, 11, 3, 9, 2, 7, 4, 10, 3],
            [9, 11, 10, 2, 4, 3, 1, 5, 7, 10],
        ] {
            let mut runs = Runs::default();
            assert!(days.iter().all(|day| runs.add(bar(*day), true)));
            runs.settle();
            assert_eq!(runs.ranges().collect::<Vec<_>>(), expected, "{days:?}");
            assert_eq!(runs.hull(), Some(Range { from: bar(1).from, to: bar(11).to }));
        }
        let mut full = Runs::default();
        assert!(full.add(bar(1), true) && full.add(bar(2), false) && !full.add(bar(9), false));
    }
}
