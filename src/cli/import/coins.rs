//! The coins that files name, and those of a source that they are.

use std::collections::{BTreeSet, HashMap};

use crate::db::{Connection, assets};
use crate::exit::UsageError;
use crate::sinks::archive::{Label, Match, label};
use crate::sources::archive::read::Reader;
use crate::sources::archive::{Input, Whence};

/// Coins looked at in one query.
const CHUNK: i64 = 5_000;
/// Candidates listed for a coin.
const MOST_LISTED: usize = 10;

/// Reads files for the coins that they name, before anything of them is stored.
pub fn named_in(inputs: &[&Input]) -> Result<BTreeSet<Label>, UsageError> {
    let mut labels = BTreeSet::new();
    let mut reader = Reader::default();
    for input in inputs {
        if matches!(input.whence, Whence::Pipe(_)) {
            return Err(UsageError(format!(
                "{} is a pipe and can be read only once, and its coins are to be known first; save it to a file, \
                 or leave out --source and --id",
                input.shown
            )));
        }
        // What is wrong with a file is told when it is imported.
        let extents = reader.read(input, None, &mut |_| true).ok().flatten().unwrap_or_default();
        labels.extend(extents.iter().map(|extent| label(&extent.subject)));
    }
    Ok(labels)
}

/// All rows are to be of one coin: so the files must name one.
pub fn insist_on_one(labels: &BTreeSet<Label>, id: &str) -> Result<(), UsageError> {
    let symbols: BTreeSet<String> = labels
        .iter()
        .map(|(name, symbol)| symbol.as_ref().or(name.as_ref()).map_or(String::new(), |s| s.to_uppercase()))
        .collect();
    if symbols.len() < 2 {
        return Ok(());
    }
    let listed: Vec<&str> = symbols.iter().take(MOST_LISTED).map(String::as_str).collect();
    Err(UsageError(format!(
        "--id {id} is one coin, and the files name {}: {}; import them one by one, or without --id",
        symbols.len(),
        listed.join(", ")
    )))
}

/// The source's coins of these names: exactly one for each.
pub fn matching(
    conn: &mut Connection,
    source: &str,
    labels: &BTreeSet<Label>,
) -> anyhow::Result<HashMap<Label, Match>> {
    // By symbol, which sources write in letters of either size, or by name where a file has no symbol.
    let mut wanted: HashMap<String, Vec<&Label>> = HashMap::new();
    for label in labels {
        let (name, symbol) = label;
        wanted
            .entry(symbol.as_ref().or(name.as_ref()).map_or(String::new(), |s| s.to_lowercase()))
            .or_default()
            .push(label);
    }
    let mut matches: HashMap<&Label, Vec<Match>> = HashMap::new();
    let mut candidates: HashMap<&Label, Vec<String>> = HashMap::new();
    let mut after = 0;
    loop {
        let part = assets::stored_after(conn, source, after, CHUNK)?;
        for asset in &part.coins {
            let found = [&asset.symbol, &asset.name].map(|text| wanted.get(&text.to_lowercase()));
            let mut seen: Vec<&Label> = found.into_iter().flatten().flatten().copied().collect();
            seen.sort();
            seen.dedup();
            for label in seen {
                let (name, symbol) = label;
                let same_name = name.as_ref().is_none_or(|name| *name == asset.name);
                let same_symbol = symbol.as_ref().is_none_or(|s| s.to_lowercase() == asset.symbol.to_lowercase());
                if same_name && same_symbol {
                    let found = Match { asset_id: asset.id, source_id: asset.source_id.clone() };
                    matches.entry(label).or_default().push(found);
                }
                let listed = candidates.entry(label).or_default();
                if listed.len() < MOST_LISTED {
                    listed.push(format!("{} ({}, {})", asset.source_id, asset.symbol, asset.name));
                }
            }
        }
        match part.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut known = HashMap::new();
    for label in labels {
        match matches.get(label).map(Vec::as_slice) {
            Some([one]) => {
                known.insert(label.clone(), one.clone());
            }
            found => {
                let count = found.map_or(0, <[Match]>::len);
                return Err(no_match((source, label), count, candidates.get(label)).into());
            }
        }
    }
    Ok(known)
}

fn no_match((source, label): (&str, &Label), count: usize, candidates: Option<&Vec<String>>) -> UsageError {
    let (name, symbol) = label;
    let shown: Vec<String> = [("name", name), ("symbol", symbol)]
        .into_iter()
        .filter_map(|(what, text)| text.as_ref().map(|text| format!("{what} {text:?}")))
        .collect();
    let many = if count == 0 { "no coin".to_owned() } else { format!("{count} coins") };
    let rest = match candidates {
        Some(candidates) => format!("candidates: {}; choose one by --id", candidates.join(", ")),
        None => "name its id by --id, or fetch the coin list first: coinetl assets upsert".to_owned(),
    };
    UsageError(format!("{source} has {many} with {}; {rest}", shown.join(" and ")))
}
