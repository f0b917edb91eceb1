//! Whose data is drawn: the source, and the coins of it.

use super::{Args, NoData};
use crate::cli::Context;
use crate::cli::budget::Label;
use crate::cli::history::{Chosen, name_of};
use crate::db::assets::{self, Asset};
use crate::db::{Connection, DbError};
use crate::exit::UsageError;

/// More lines nobody tells apart.
const MOST: usize = 30;

pub struct Coins {
    pub source: String,
    pub coins: Vec<Asset>,
    /// Asked for, and not stored.
    pub unknown: Vec<String>,
}

/// The name under which data is looked for: the one that was chosen, else that of the source in use, whose
/// data may have come from a sandbox.
pub fn source(context: &Context, conn: &mut Connection) -> anyhow::Result<String> {
    if let Some(_other) = context.other_source() {
        return Ok(context.stored_source(conn)?.unwrap_or_default());
    }
    let label = if context.sandbox { Label::Sandbox } else { Label::Unsure };
    Ok(name_of(conn, &label.names(context.settings.source))?)
}

/// The coins that were asked for, in that order.
pub fn choose(args: &Args, context: &Context, conn: &mut Connection) -> anyhow::Result<Coins> {
    let source = source(context, conn)?;
    let targets = match args.coins.choose(conn, &source, &args.vs)? {
        Chosen::All => {
            let how = "name coins with --ids bitcoin,ethereum, or take the largest with --top 5";
            return Err(UsageError(format!("which coins? {how}")).into());
        }
        Chosen::These(targets) => targets,
    };
    if targets.is_empty() {
        let why = format!(
            "no ranks are stored for {source} in {}; run `coinetl prices insert --top N` first, or use --ids",
            args.vs
        );
        return Err(NoData(why).into());
    }
    if targets.len() > MOST {
        return Err(
            UsageError(format!("{} coins are too many for one picture; take {MOST} at most", targets.len())).into()
        );
    }
    let stored = assets::find(conn, &source, targets.iter().map(|target| target.source_id.as_str()))?;
    let (mut coins, mut unknown) = (Vec::new(), Vec::new());
    for target in targets {
        match stored.get(&target.source_id) {
            Some(asset) => coins.push(asset.clone()),
            None => unknown.push(target.source_id),
        }
    }
    if coins.is_empty() {
        return Err(nothing_stored(conn, &source, &unknown)?.into());
    }
    Ok(Coins { source, coins, unknown })
}

fn nothing_stored(conn: &mut Connection, source: &str, unknown: &[String]) -> Result<NoData, DbError> {
    let stored = assets::sources(conn)?;
    let stored = if stored.is_empty() { "none yet".to_owned() } else { stored.join(", ") };
    Ok(NoData(format!(
        "no coin of {source} has the id {}; ids are the source's own, such as bitcoin, 1 or BTC; \
         --source names another (stored: {stored})",
        unknown.join(", ")
    )))
}

/// What a coin is called on a picture.
pub fn name(coin: &Asset) -> String {
    if coin.name.trim().is_empty() { coin.source_id.clone() } else { coin.name.clone() }
}

/// Names, with the id behind those that several have.
pub fn names(coins: &[Asset]) -> Vec<String> {
    let unique = |coin: &Asset| match coins.iter().filter(|other| name(other) == name(coin)).count() {
        1 => name(coin),
        _ => format!("{} ({})", name(coin), coin.source_id),
    };
    coins.iter().map(unique).collect()
}
