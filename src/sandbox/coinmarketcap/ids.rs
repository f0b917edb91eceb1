//! CoinMarketCap's ids: integers, of which a client must be able to say which coin is meant.

use super::super::market::{Coin, Market};

/// Ids of the generated coins begin here, above all that the vendor has given so far.
const GENERATED: u64 = 40_000;
/// Between the ids of two coins of one slot: the most slots that a market can have.
const GENERATION: u64 = 1_000_000;

/// The vendor's own ids of well-known coins.
const REAL: [(&str, u64); 31] = [
    ("bitcoin", 1),
    ("litecoin", 2),
    ("ripple", 52),
    ("dogecoin", 74),
    ("monero", 328),
    ("stellar", 512),
    ("tether", 825),
    ("ethereum", 1_027),
    ("ethereum-classic", 1_321),
    ("bitcoin-cash", 1_831),
    ("binancecoin", 1_839),
    ("tron", 1_958),
    ("chainlink", 1_975),
    ("cardano", 2_010),
    ("tezos", 2_011),
    ("usd-coin", 3_408),
    ("wrapped-bitcoin", 3_717),
    ("cosmos", 3_794),
    ("hedera-hashgraph", 4_642),
    ("dai", 4_943),
    ("solana", 5_426),
    ("avalanche-2", 5_805),
    ("shiba-inu", 5_994),
    ("near", 6_535),
    ("polkadot", 6_636),
    ("uniswap", 7_083),
    ("aave", 7_278),
    ("internet-computer", 8_916),
    ("sui", 20_947),
    ("bonk", 23_095),
    ("pepe", 24_478),
];

/// A coin's id: its own for ever, also while it is gone and after it was renamed.
pub fn of(market: &Market, coin: &Coin) -> u64 {
    if market.is_known(coin.slot) {
        let name = market.id(coin);
        if let Some((_, id)) = REAL.iter().find(|(known, _)| *known == name) {
            return *id;
        }
    }
    GENERATED + u64::from(coin.generation) * GENERATION + u64::from(coin.slot)
}

/// The coin with an id, if the market has it at that moment.
pub fn find(market: &Market, id: u64, at: i64) -> Option<Coin> {
    if let Some((name, _)) = REAL.iter().find(|(_, real)| *real == id) {
        return market.find(name, at);
    }
    let number = id.checked_sub(GENERATED)?;
    let slot = u32::try_from(number % GENERATION).ok().filter(|&slot| slot < market.assets())?;
    let coin = market.coin(slot, at);
    (of(market, &coin) == id).then_some(coin)
}
