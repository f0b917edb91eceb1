//! Rows of files into `candles` and `prices`: rows, how far the file was read, and what is covered, in one
//! transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::db::candles::{self, CandleRow};
use crate::db::filling::{self, Filling};
use crate::db::import_positions::{self, Position};
use crate::db::prices::{self, PriceRow};
use crate::db::rollup::state;
use crate::db::session::Batch;
use crate::db::{DbError, Session, assets, coverage, dead_letters};
use crate::domain::coverage::without;
use crate::domain::{Coin, Origin, Range, Span, Stamp, State};
use crate::sources::archive::{Chunk, Extent, Subject};

/// Why something is missing between a file's bars.
const NOT_IN_FILE: &str = "not in the file";

/// Where rows go that do not say it themselves.
pub struct Target {
    pub source: String,
    /// All rows are of this coin of the source.
    pub id: Option<String>,
    /// The source's coins, by the names that files have for them.
    pub known: Option<HashMap<Label, Match>>,
    /// Coins whose name another coin has already, and what they are stored as.
    pub namesakes: HashMap<Label, String>,
    /// Where a file names none.
    pub vs_currency: Arc<str>,
}

impl Target {
    /// The source and the id that a coin is stored under.
    pub fn owner<'a>(&'a self, subject: &'a Subject) -> (&'a str, &'a str) {
        if let Some((source, id)) = &subject.own {
            return (source, id);
        }
        let label = label(subject);
        let known = self.known.as_ref().and_then(|known| known.get(&label)).map(|known| known.source_id.as_str());
        let id = known.or(self.id.as_deref()).or_else(|| self.namesakes.get(&label).map(String::as_str));
        (&self.source, id.or(subject.id()).unwrap_or_default())
    }

    pub fn currency<'a>(&'a self, subject: &'a Subject) -> &'a Arc<str> {
        subject.vs_currency.as_ref().unwrap_or(&self.vs_currency)
    }
}

/// A coin's name and symbol in a file.
pub type Label = (Option<String>, Option<String>);

pub fn label(subject: &Subject) -> Label {
    (subject.name.clone(), subject.symbol.clone())
}

/// A coin of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub asset_id: i64,
    pub source_id: String,
}

/// What a file is known by.
#[derive(Debug, Clone)]
pub struct FileKey {
    pub key: String,
    pub fingerprint: String,
}

/// A part of what files hold, in the order of the files.
#[derive(Debug)]
pub enum Piece {
    Rows(Chunk),
    /// It was read to its end, and holds this.
    End(Vec<Extent>),
    /// It can't be read on; what was read stays.
    Broken,
}

impl Piece {
    pub fn rows(&self) -> usize {
        match self {
            Piece::Rows(chunk) => chunk.rows(),
            Piece::End(_) | Piece::Broken => 0,
        }
    }
}

pub struct ArchiveSink {
    pub session: Session,
    target: Target,
    files: Vec<FileKey>,
    coins: HashMap<Arc<Subject>, Known>,
    filling: Filling,
}

/// A coin that is stored, and the currency.
#[derive(Debug, Clone)]
struct Known {
    asset_id: i64,
    vs_currency: Arc<str>,
}

impl ArchiveSink {
    /// `files` in the order of the numbers that pieces come with.
    pub fn new(session: Session, target: Target, files: Vec<FileKey>) -> Self {
        ArchiveSink { session, target, files, coins: HashMap::new(), filling: Filling::default() }
    }

    /// Makes ready for many rows.
    pub fn prepare(&mut self) -> Result<(), DbError> {
        self.filling = Filling::begin(&mut self.session)?;
        Ok(())
    }

    /// Tidies up when all is written, or as much as could be; false where that is left to another import.
    pub fn settle(&mut self) -> Result<bool, DbError> {
        Filling::end(&mut self.session)
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// All of these or none.
    pub fn write(&mut self, pieces: &[(usize, Piece)]) -> Result<(), DbError> {
        let (target, files, coins) = (&self.target, &self.files, &self.coins);
        let fresh = fresh(pieces, coins);
        let (learned, namesakes, new_candles) = self.session.batch(|batch| {
            let namesakes = namesakes(batch, target, &fresh)?;
            let learned = resolve(batch, target, &namesakes, &fresh)?;
            let known = |subject: &Arc<Subject>| coins.get(subject).or_else(|| learned.get(subject));
            let chunks =
                pieces.iter().filter_map(|(_, piece)| if let Piece::Rows(chunk) = piece { Some(chunk) } else { None });
            let mut candle_rows = Vec::with_capacity(chunks.clone().map(|chunk| chunk.candles.len()).sum());
            let mut price_rows = Vec::with_capacity(chunks.map(|chunk| chunk.prices.len()).sum());
            for (_, piece) in pieces {
                if let Piece::Rows(chunk) = piece {
                    gather(
                        &chunk.candles,
                        |row| &row.0,
                        known,
                        |(_, candle), coin| {
                            let (asset_id, vs_currency) = (coin.asset_id, coin.vs_currency.clone());
                            candle_rows.push(CandleRow { asset_id, vs_currency, candle: *candle });
                        },
                    );
                    gather(
                        &chunk.prices,
                        |row| &row.0,
                        known,
                        |(_, observed_at, figures), coin| {
                            let (asset_id, vs_currency) = (coin.asset_id, coin.vs_currency.clone());
                            price_rows.push(PriceRow {
                                asset_id,
                                vs_currency,
                                observed_at: *observed_at,
                                figures: *figures,
                            });
                        },
                    );
                }
            }
            let rows = candle_rows.len() + price_rows.len();
            let (mut new, mut updated) = (0, 0);
            if !candle_rows.is_empty() {
                filling::hold(batch, &candle_rows.iter().map(|row| row.asset_id).collect())?;
                let stored = candles::upsert(batch, &mut candle_rows)?;
                (new, updated) = (stored.new, stored.updated);
                // The database's own export tells nothing new of what it holds.
                if stored.changed() {
                    keep_folded(batch, target, pieces)?;
                }
            }
            let new_candles = new;
            if !price_rows.is_empty() {
                let stored = prices::upsert(batch, &mut price_rows)?;
                (new, updated) = (new + stored.new, updated + stored.updated);
            }
            // A row that the same batch repeats or restates is none of its own in the table.
            batch.tally.read += rows as i64;
            batch.tally.written += (new + updated) as i64;
            batch.tally.updated += updated as i64;
            batch.tally.unchanged += (rows - new - updated) as i64;
            let mut places: HashMap<usize, Option<Position>> = HashMap::new();
            for (at, piece) in pieces {
                let file = &files[*at];
                match piece {
                    Piece::Rows(chunk) => {
                        reject(batch, &target.source, &file.key, chunk)?;
                        let place = Position {
                            fingerprint: file.fingerprint.clone(),
                            position: chunk.place.position as i64,
                            line: chunk.place.line as i64,
                        };
                        places.insert(*at, Some(place));
                    }
                    Piece::End(extents) => {
                        for extent in extents {
                            cover(batch, extent, known(&extent.subject))?;
                        }
                        places.insert(*at, None);
                    }
                    Piece::Broken => {
                        places.insert(*at, None);
                    }
                }
            }
            for (at, place) in places {
                match place {
                    Some(place) => import_positions::set(batch, &files[at].key, &place)?,
                    None => import_positions::clear(batch, &files[at].key)?,
                }
            }
            Ok((learned, namesakes, new_candles))
        })?;
        for ((name, symbol), id) in &namesakes {
            let (name, symbol) = (name.as_deref().unwrap_or_default(), symbol.as_deref().unwrap_or_default());
            log::warn!("{name} is the name of another coin already; with the symbol {symbol} it is stored as {id:?}");
        }
        self.target.namesakes.extend(namesakes);
        self.coins.extend(learned);
        self.filling.added(&mut self.session, new_candles)
    }
}

/// Coins that are looked up for the first time, in the order in which they come.
fn fresh(pieces: &[(usize, Piece)], coins: &HashMap<Arc<Subject>, Known>) -> Vec<Arc<Subject>> {
    let mut fresh: Vec<Arc<Subject>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut last: *const Subject = std::ptr::null();
    let mut look = |subject: &Arc<Subject>| {
        if Arc::as_ptr(subject) != last {
            last = Arc::as_ptr(subject);
            if !coins.contains_key(subject) && seen.insert(subject.clone()) {
                fresh.push(subject.clone());
            }
        }
    };
    for (_, piece) in pieces {
        match piece {
            Piece::Rows(chunk) => {
                chunk.candles.iter().for_each(|(subject, _)| look(subject));
                chunk.prices.iter().for_each(|(subject, ..)| look(subject));
            }
            // Their rows may all have been stored by a run that was killed.
            Piece::End(extents) => extents.iter().for_each(|extent| look(&extent.subject)),
            Piece::Broken => {}
        }
    }
    fresh
}

/// Hands on rows with their coin, which is looked for once for each stretch of rows of it.
fn gather<'a, T>(
    rows: &'a [T],
    subject: impl Fn(&T) -> &Arc<Subject>,
    known: impl Fn(&Arc<Subject>) -> Option<&'a Known>,
    mut each: impl FnMut(&T, &Known),
) {
    let mut last: Option<(*const Subject, &Known)> = None;
    for row in rows {
        let subject = subject(row);
        let coin = match last {
            Some((pointer, coin)) if pointer == Arc::as_ptr(subject) => coin,
            _ => {
                // Every coin of a batch was looked up before.
                let Some(coin) = known(subject) else { continue };
                last = Some((Arc::as_ptr(subject), coin));
                coin
            }
        };
        each(row, coin);
    }
}

/// A coin as the file and as the source names it.
type Wanted = (Arc<Subject>, Coin);

/// Names are not unique among coins. The first one keeps a name for its id; one with another symbol, in this
/// file or in another, is told apart by it.
fn namesakes(
    batch: &mut Batch<'_>,
    target: &Target,
    subjects: &[Arc<Subject>],
) -> Result<HashMap<Label, String>, DbError> {
    let is_known = |subject: &Subject| target.known.as_ref().is_some_and(|known| known.contains_key(&label(subject)));
    let by_name: Vec<(&str, &str, &Subject)> = subjects
        .iter()
        .filter(|subject| subject.own.is_none() && target.id.is_none() && !is_known(subject))
        .filter_map(|subject| Some((subject.name.as_deref()?, subject.symbol.as_deref()?, &**subject)))
        .collect();
    let mut namesakes = HashMap::new();
    if by_name.is_empty() {
        return Ok(namesakes);
    }
    let stored = assets::find(batch.conn, &target.source, by_name.iter().map(|(name, ..)| *name))?;
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for asset in stored.values().filter(|asset| !asset.symbol.is_empty()) {
        taken.insert(&asset.source_id, &asset.symbol);
    }
    for (name, symbol, subject) in by_name {
        let first = *taken.entry(name).or_insert(symbol);
        if !first.eq_ignore_ascii_case(symbol) {
            namesakes.insert(label(subject), format!("{name} ({symbol})"));
        }
    }
    Ok(namesakes)
}

/// Our ids of coins; those that are not stored are added.
fn resolve(
    batch: &mut Batch<'_>,
    target: &Target,
    namesakes: &HashMap<Label, String>,
    subjects: &[Arc<Subject>],
) -> Result<HashMap<Arc<Subject>, Known>, DbError> {
    let mut learned = HashMap::new();
    // By source, in the order of the first coin of each.
    let mut wanted: Vec<(String, Vec<Wanted>)> = Vec::new();
    for subject in subjects {
        let vs_currency = target.currency(subject).clone();
        let known =
            target.known.as_ref().filter(|_| subject.own.is_none()).and_then(|known| known.get(&label(subject)));
        if let Some(known) = known {
            learned.insert(subject.clone(), Known { asset_id: known.asset_id, vs_currency });
            continue;
        }
        let (source, mut id) = target.owner(subject);
        if subject.own.is_none()
            && let Some(told_apart) = namesakes.get(&label(subject))
        {
            id = told_apart;
        }
        let coin = Coin { source_id: id.to_owned(), symbol: subject.symbol.clone(), name: subject.name.clone() };
        match wanted.iter_mut().find(|(of, _)| of == source) {
            Some((_, coins)) => coins.push((subject.clone(), coin)),
            None => wanted.push((source.to_owned(), vec![(subject.clone(), coin)])),
        }
    }
    for (source, coins) in wanted {
        let mut ids = assets::ids(batch, &source, coins.iter().map(|(_, coin)| coin.source_id.as_str()))?;
        let mut new: Vec<&Coin> = Vec::new();
        let mut adding = std::collections::HashSet::new();
        for (_, coin) in &coins {
            if !ids.contains_key(&coin.source_id) && adding.insert(coin.source_id.as_str()) {
                new.push(coin);
            }
        }
        let added = assets::insert(batch, &source, &new)?;
        ids.extend(new.iter().map(|coin| coin.source_id.clone()).zip(added));
        for (subject, coin) in &coins {
            if let Some(asset_id) = ids.get(&coin.source_id) {
                let vs_currency = target.currency(subject).clone();
                learned.insert(subject.clone(), Known { asset_id: *asset_id, vs_currency });
            }
        }
    }
    Ok(learned)
}

/// Candles that another database folded, of observations that need not be in the file: the rollup here keeps
/// them until it knows more, and makes those final that were not over.
fn keep_folded(batch: &mut Batch<'_>, target: &Target, pieces: &[(usize, Piece)]) -> Result<(), DbError> {
    let (mut gone, mut open): (HashMap<&str, Stamp>, BTreeSet<state::Open>) = (HashMap::new(), BTreeSet::new());
    let chunks = pieces.iter().filter_map(|(_, piece)| if let Piece::Rows(chunk) = piece { Some(chunk) } else { None });
    for (subject, candle) in chunks.flat_map(|chunk| &chunk.candles) {
        if candle.origin != Origin::Rollup {
            continue;
        }
        let end = candle.timeframe.end(candle.open_time);
        let until = gone.entry(target.owner(subject).0).or_insert(end);
        *until = end.max(*until);
        if !candle.is_final {
            open.insert((candle.timeframe, candle.open_time));
        }
    }
    for (source, until) in gone {
        state::remember_gone(batch, source, until)?;
    }
    state::add_open(batch, &open)
}

fn reject(batch: &mut Batch<'_>, source: &str, file: &str, chunk: &Chunk) -> Result<(), DbError> {
    batch.tally.read += chunk.rejected.len() as i64 + chunk.doubled as i64;
    batch.tally.rejected += chunk.rejected.len() as i64;
    batch.tally.unchanged += chunk.doubled as i64;
    dead_letters::record(batch, source, file, &chunk.rejected)
}

fn cover(batch: &mut Batch<'_>, extent: &Extent, coin: Option<&Known>) -> Result<(), DbError> {
    let (Some(coin), Some(timeframe), Some(hull)) = (coin, extent.timeframe, extent.covered.hull()) else {
        return Ok(());
    };
    let (id, vs_currency) = (coin.asset_id, &coin.vs_currency);
    let known = coverage::known(batch.conn, &[id], vs_currency, timeframe, hull, |_| true)?.remove(&id);
    // Between the file's bars nobody knows what there was, unless somebody asked.
    let mut told: Vec<Range> = known.unwrap_or_default().any.into_iter().chain(extent.covered.ranges()).collect();
    told.sort();
    let holes = without(hull, told).into_iter();
    let holes = holes.map(|range| Span { range, state: State::Missing, reason: Some(NOT_IN_FILE.to_owned()) });
    let full = extent.covered.ranges().map(|range| Span { range, state: State::Full, reason: None });
    let mut spans: Vec<Span> = holes.chain(full).collect();
    spans.sort_by_key(|span| span.range);
    coverage::record_all(batch, id, vs_currency, timeframe, &spans)
}
