//! Observations in whatever order they lie: folded into the shortest intervals that matter, and these put
//! into order.
//!
//! Memory is bounded by the number of intervals that are held; when there are more, they go to a file
//! without a name, so that nothing of it survives the process, and come back merged. An interval that is
//! still filled when it is put aside comes back in parts, which fold to the same.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Piece;
use crate::db::DbError;
use crate::db::rollup::{Feed, Point};
use crate::domain::rollup::{Roller, Settled};
use crate::domain::{Bar, Fold, Stamp, Timeframe};

/// Intervals held in memory, some 11 MB of them: what keeps a hash table of 65,536 places from growing.
const HELD: usize = 57_344;
/// Bytes put aside, after which it is better to let the database sort.
const MOST_ASIDE: u64 = 512 << 20;
/// Records read ahead of each part of the file.
const AHEAD: usize = 128;
/// Coin, currency and fold.
const RECORD: usize = 8 + 4 + Fold::BYTES;

/// What the observations of an interval come to, or some of them.
#[derive(Debug, Clone)]
pub struct Part {
    asset_id: i64,
    vs_currency: Arc<str>,
    fold: Fold,
}

impl Piece for Part {
    fn whose(&self) -> (i64, &Arc<str>) {
        (self.asset_id, &self.vs_currency)
    }

    fn at(&self) -> Stamp {
        self.fold.opens()
    }

    fn tell<K>(&self, roller: &mut Roller<K>) -> Option<Settled<K>> {
        roller.points(&self.fold)
    }
}

/// Reads all of `points`, and gives them back folded into intervals of this length, in the order of coin,
/// currency and time; `None` when they are too many to be put into order here.
pub fn in_order(points: &mut dyn Feed<Point>, unit: Timeframe) -> Result<Option<InOrder>, DbError> {
    in_order_with(points, unit, HELD, MOST_ASIDE)
}

fn in_order_with(
    points: &mut dyn Feed<Point>,
    unit: Timeframe,
    held: usize,
    most_aside: u64,
) -> Result<Option<InOrder>, DbError> {
    let mut gathered = Gathered::default();
    while let Some(point) = points.next()? {
        if gathered.folds.len() >= held
            && let Err(err) = gathered.put_aside(most_aside)
        {
            log::info!("observations are not put into order here: {err}");
            return Ok(None);
        }
        gathered.add(&point, unit);
    }
    gathered.sort();
    let Gathered { names, folds, aside, .. } = gathered;
    let (file, parts) = aside.map_or((None, Vec::new()), |aside| (Some(aside.file), aside.parts));
    let mut sources: Vec<Source> =
        parts.into_iter().map(|(at, end)| Source::File { at, end, ahead: Vec::new().into_iter() }).collect();
    sources.push(Source::Memory(folds.into_iter()));
    let heads = vec![None; sources.len()];
    let mut in_order = InOrder { names, file, sources, heads, merge: BinaryHeap::new() };
    for number in 0..in_order.sources.len() {
        in_order.advance(number)?;
    }
    Ok(Some(in_order))
}

/// A fold that is held: the coin, the currency by its number, and the fold.
type Held = (i64, u32, Fold);

#[derive(Default)]
struct Gathered {
    names: Vec<Arc<str>>,
    /// Where the fold of an interval is.
    places: HashMap<(i64, u32, Stamp), u32>,
    folds: Vec<Held>,
    aside: Option<Aside>,
}

struct Aside {
    file: File,
    /// Where each part begins and ends.
    parts: Vec<(u64, u64)>,
}

impl Gathered {
    fn add(&mut self, point: &Point, unit: Timeframe) {
        let Point { asset_id, vs_currency, at, price, market_cap } = point;
        let currency = match self.names.iter().position(|name| name == vs_currency) {
            Some(number) => number,
            None => {
                self.names.push(vs_currency.clone());
                self.names.len() - 1
            }
        } as u32;
        let fold = Fold::of(*at, &Bar::of_price(*price, *market_cap));
        let next = self.folds.len() as u32;
        let place = *self.places.entry((*asset_id, currency, unit.floor(*at))).or_insert(next);
        match self.folds.get_mut(place as usize) {
            Some((.., known)) => known.merge(&fold),
            None => self.folds.push((*asset_id, currency, fold)),
        }
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.folds.sort_unstable_by(|a, b| key(a, names).cmp(&key(b, names)));
    }

    fn put_aside(&mut self, most: u64) -> io::Result<()> {
        self.sort();
        let aside = match &mut self.aside {
            Some(aside) => aside,
            None => self.aside.insert(Aside { file: tempfile::tempfile()?, parts: Vec::new() }),
        };
        let from = aside.parts.last().map_or(0, |(_, to)| *to);
        let to = from + (self.folds.len() * RECORD) as u64;
        if to > most {
            return Err(io::Error::other(format!("they take more than {} MiB", most >> 20)));
        }
        let mut out = io::BufWriter::with_capacity(256 << 10, &aside.file);
        for (asset_id, currency, fold) in &self.folds {
            out.write_all(&asset_id.to_le_bytes())?;
            out.write_all(&currency.to_le_bytes())?;
            out.write_all(&fold.to_bytes())?;
        }
        out.flush()?;
        drop(out);
        aside.parts.push((from, to));
        self.folds.clear();
        self.places.clear();
        Ok(())
    }
}

fn key<'a>((asset_id, currency, fold): &Held, names: &'a [Arc<str>]) -> (i64, &'a str, Stamp) {
    (*asset_id, &names[*currency as usize], fold.opens())
}

/// All parts side by side.
pub struct InOrder {
    names: Vec<Arc<str>>,
    file: Option<File>,
    sources: Vec<Source>,
    /// The next fold of each source, whose key is in `merge`.
    heads: Vec<Option<Fold>>,
    merge: BinaryHeap<Reverse<Head>>,
}

/// A fold's key (coin, currency, time), and which source has it.
type Head = (i64, Arc<str>, Stamp, usize);

/// Folds in order.
enum Source {
    Memory(std::vec::IntoIter<Held>),
    /// What is read ahead, and where the rest begins and ends.
    File {
        at: u64,
        end: u64,
        ahead: std::vec::IntoIter<Held>,
    },
}

impl InOrder {
    /// Takes the next fold out of a source.
    fn advance(&mut self, number: usize) -> Result<(), DbError> {
        let next = match &mut self.sources[number] {
            Source::Memory(folds) => Iterator::next(folds),
            Source::File { at, end, ahead } => {
                if let Some(file) = &self.file
                    && ahead.len() == 0
                {
                    *ahead = read(file, at, *end).map_err(unreadable)?.into_iter();
                }
                Iterator::next(ahead)
            }
        };
        if let Some((asset_id, currency, fold)) = next {
            self.heads[number] = Some(fold);
            let vs_currency = self.names[currency as usize].clone();
            self.merge.push(Reverse((asset_id, vs_currency, fold.opens(), number)));
        }
        Ok(())
    }
}

impl Feed<Part> for InOrder {
    fn next(&mut self) -> Result<Option<Part>, DbError> {
        let Some(Reverse((asset_id, vs_currency, _, number))) = self.merge.pop() else { return Ok(None) };
        let Some(fold) = self.heads[number].take() else { return Ok(None) };
        self.advance(number)?;
        Ok(Some(Part { asset_id, vs_currency, fold }))
    }
}

fn read(file: &File, at: &mut u64, end: u64) -> io::Result<Vec<Held>> {
    let mut bytes = vec![0; ((end - *at) as usize).min(AHEAD * RECORD)];
    file.read_exact_at(&mut bytes, *at)?;
    *at += bytes.len() as u64;
    let held = |record: &[u8; RECORD]| {
        let (asset_id, rest) = record.split_first_chunk()?;
        let (currency, fold) = rest.split_first_chunk()?;
        Some((i64::from_le_bytes(*asset_id), u32::from_le_bytes(*currency), Fold::of_bytes(fold.try_into().ok()?)))
    };
    Ok(bytes.as_chunks::<RECORD>().0.iter().filter_map(held).collect())
}

fn unreadable(err: io::Error) -> DbError {
    DbError::Query { doing: "putting observations into order", why: err.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: i64) -> Vec<Point> {
        let names: [Arc<str>; 3] = ["usd".into(), "eur".into(), "btc".into()];
        let point = |n: i64| Point {
            // Neither in the order of coins nor in that of times.
            asset_id: n * 7 % 5,
            vs_currency: names[(n * 11 % 3) as usize].clone(),
            at: Stamp::from_millis(1_779_148_800_000 + n * 7_919 % count * 2_000).unwrap(),
            price: 1.0 + (n % 17) as f64,
            market_cap: (n % 3 == 0).then_some(n as f64),
        };
        (0..count).map(point).collect()
    }

    fn fold(parts: impl IntoIterator<Item = Part>) -> Vec<(i64, Arc<str>, Stamp, Fold)> {
        let mut folds: Vec<(i64, Arc<str>, Stamp, Fold)> = Vec::new();
        for Part { asset_id, vs_currency, fold } in parts {
            let open = Timeframe::M5.floor(fold.opens());
            match folds.last_mut() {
                Some((id, vs, at, known)) if (*id, &*vs, *at) == (asset_id, &vs_currency, open) => known.merge(&fold),
                _ => folds.push((asset_id, vs_currency, open, fold)),
            }
        }
        folds
    }

    #[test]
    fn what_lies_in_any_order_comes_folded_and_in_order_from_memory_and_from_a_file() {
        let points = points(3_000);
        let one = |point: &Point| Part {
            asset_id: point.asset_id,
            vs_currency: point.vs_currency.clone(),
            fold: Fold::of(point.at, &Bar::of_price(point.price, point.market_cap)),
        };
        let mut sorted: Vec<Part> = points.iter().map(one).collect();
        sorted.sort_by(|a, b| (a.whose(), a.at()).cmp(&(b.whose(), b.at())));
        let expected = fold(sorted);
        assert!(
            expected.windows(2).all(|pair| (pair[0].0, &pair[0].1, pair[0].2) < (pair[1].0, &pair[1].1, pair[1].2))
        );
        for held in [usize::MAX, 1_000, 100, 1] {
            let mut feed = points.clone().into_iter();
            let mut in_order = in_order_with(&mut feed, Timeframe::M5, held, u64::MAX).unwrap().unwrap();
            let mut parts = Vec::new();
            while let Some(part) = in_order.next().unwrap() {
                parts.push(part);
            }
            assert!(parts.is_sorted_by_key(|part| (part.asset_id, part.vs_currency.clone(), part.at())), "{held}");
            assert!(parts.len() < points.len() || held == 1, "{held}: {}", parts.len());
            assert_eq!(fold(parts), expected, "{held}");
        }
    }

    #[test]
    fn too_many_are_left_to_the_database() {
        let points = points(3_000);
        assert!(in_order_with(&mut points.clone().into_iter(), Timeframe::M1, 100, 20_000).unwrap().is_none());
        assert!(in_order_with(&mut points.clone().into_iter(), Timeframe::M1, 100, 2_000_000).unwrap().is_some());
    }
}
