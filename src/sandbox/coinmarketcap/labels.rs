//! What CoinMarketCap tells of a coin besides its figures: tags and the chain it lives on.

use super::super::json::{integer, key, plain_string};
use super::super::market::{Coin, Market};

/// Slug, name and category.
const TAGS: [(&str, &str, &str); 16] = [
    ("mineable", "Mineable", "OTHERS"),
    ("memes", "Memes", "INDUSTRY"),
    ("defi", "DeFi", "INDUSTRY"),
    ("layer-1", "Layer 1", "CATEGORY"),
    ("layer-2", "Layer 2", "CATEGORY"),
    ("stablecoin", "Stablecoin", "CATEGORY"),
    ("ai-big-data", "AI & Big Data", "CATEGORY"),
    ("gaming", "Gaming", "CATEGORY"),
    ("ethereum-ecosystem", "Ethereum Ecosystem", "PLATFORM"),
    ("solana-ecosystem", "Solana Ecosystem", "PLATFORM"),
    ("bnb-chain-ecosystem", "BNB Chain Ecosystem", "PLATFORM"),
    ("base-ecosystem", "Base Ecosystem", "PLATFORM"),
    ("dao", "DAO", "CATEGORY"),
    ("real-world-assets", "Real World Assets", "CATEGORY"),
    ("collectibles-nfts", "Collectibles & NFTs", "CATEGORY"),
    ("made-in-america", "Made in America", "CATEGORY"),
];

/// Appends an array of slugs, or of objects.
pub fn tags(out: &mut Vec<u8>, bits: u64, objects: bool) {
    out.push(b'[');
    let count = bits % 6;
    for n in 0..count {
        if n > 0 {
            out.push(b',');
        }
        // An odd step, so that no tag comes twice.
        let (slug, name, category) = TAGS[((bits >> 8) + n * (bits >> 12 | 1)) as usize % TAGS.len()];
        if objects {
            out.push(b'{');
            for (field, text) in [("slug", slug), ("name", name), ("category", category)] {
                key(out, field);
                plain_string(out, text);
            }
            out.push(b'}');
        } else {
            plain_string(out, slug);
        }
    }
    out.push(b']');
}

/// Appends the chain of a coin and its address there, or null for a coin with a chain of its own.
pub fn platform(out: &mut Vec<u8>, market: &Market, coin: &Coin) {
    let first = market.platforms(coin).into_iter().next();
    let Some((chain, address)) = first else {
        out.extend_from_slice(b"null");
        return;
    };
    let (id, name, symbol, slug) = match chain {
        "solana" => (5_426, "Solana", "SOL", "solana"),
        "binance-smart-chain" => (1_839, "BNB Smart Chain (BEP20)", "BNB", "bnb"),
        "base" => (27_716, "Base", "TBA", "base"),
        "polygon-pos" => (28_321, "Polygon", "POL", "polygon-ecosystem-token"),
        "arbitrum-one" => (11_841, "Arbitrum", "ARB", "arbitrum"),
        "avalanche" => (5_805, "Avalanche C-Chain", "AVAX", "avalanche"),
        "tron" => (1_958, "Tron20", "TRX", "tron"),
        _ => (1_027, "Ethereum", "ETH", "ethereum"),
    };
    out.push(b'{');
    key(out, "id");
    integer(out, id);
    let address = address.unwrap_or_default();
    for (field, text) in [("name", name), ("symbol", symbol), ("slug", slug), ("token_address", &address)] {
        key(out, field);
        plain_string(out, text);
    }
    out.push(b'}');
}
