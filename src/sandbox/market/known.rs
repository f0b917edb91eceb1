//! The coins that every market of the sandbox begins with: the well-known ones, and one of each
//! spelling and each extreme value that real lists have and that software trips over.

/// A coin with a fixed id, symbol and name.
#[derive(Debug)]
pub struct Known {
    pub id: &'static str,
    pub symbol: &'static str,
    pub name: &'static str,
    pub figures: Figures,
}

/// Where the figures of a known coin come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figures {
    /// Around these values, in dollars and coins; `swing` is how much the price moves.
    Around { price: f64, supply: f64, max_supply: Option<f64>, swing: f64 },
    /// Like any generated coin, somewhere in the ranking.
    Generated,
    /// A price of 5.8e-21.
    TinyPrice,
    /// A supply that its own project reports, worth 1.2e59 and therefore neither believed (market
    /// cap 0) nor ranked.
    HugeSupply,
    /// Up by twelve million percent in a day.
    Exploded,
    /// Everything is zero.
    Zero,
    /// Listed, with a record that is null from price to last_updated.
    Nothing,
    /// Figures, but no last_updated.
    Timeless,
    /// Nothing new for 22 days.
    Stale,
    /// Values that change while last_updated stands still.
    Restless,
    /// No market cap and no rank.
    Unranked,
}

const fn major(id: &'static str, symbol: &'static str, name: &'static str, price: f64, supply: f64, max: f64) -> Known {
    let max_supply = if max > 0.0 { Some(max) } else { None };
    let stable = price > 0.99 && price < 1.01;
    let swing = if stable { 0.000_6 } else { 0.05 };
    Known { id, symbol, name, figures: Figures::Around { price, supply, max_supply, swing } }
}

const fn odd(id: &'static str, symbol: &'static str, name: &'static str, figures: Figures) -> Known {
    Known { id, symbol, name, figures }
}

use Figures::*;

/// In slot order. A small market (`--assets 12`) has the first ones only.
#[rustfmt::skip]
pub const KNOWN: [Known; 100] = [
    major("bitcoin", "btc", "Bitcoin", 77_146.0, 20_031_378.0, 21e6),
    major("ethereum", "eth", "Ethereum", 2_136.73, 120_685_699.909_253_3, 0.0),
    major("tether", "usdt", "Tether", 0.999_154, 189_856_465_833.300_5, 0.0),
    major("binancecoin", "bnb", "BNB", 641.2, 134_785_795.95, 200e6),
    major("ripple", "xrp", "XRP", 1.371, 61_720_153_440.0, 100e9),
    major("usd-coin", "usdc", "USDC", 0.999_71, 76_933_121_005.62, 0.0),
    major("solana", "sol", "Solana", 84.77, 578_311_265.35, 0.0),
    major("tron", "trx", "TRON", 0.3542, 94_780_466_112.18, 0.0),
    major("dogecoin", "doge", "Dogecoin", 0.104_31, 154_210_716_383.7, 0.0),
    major("cardano", "ada", "Cardano", 0.2513, 36_910_437_209.5, 45e9),

    odd("_", "gib", "༼ つ ◕_◕ ༽つ", Generated),
    odd("-10", "-10", "-10", Unranked),
    odd("1move token", "1mt", "1Move Token", Generated),
    odd("boringdao-[old]", "bor", "BoringDAO [OLD]", Unranked),
    odd("bitCNY", "bitcny", "bitCNY", Stale),
    odd("bit_financial", "bfc", "bit_financial", Generated),
    odd("eth_20_day_ma_crossover_set", "eth20smaco", "ETH 20 Day MA Crossover Set", Generated),
    odd("_gai16zbrielshai16zpr0", "gaib", "_gai16zbrielShai16zpr0", Generated),
    odd("big-btc", "BTC", "BTC", Generated),
    odd("bitcoin-lookalike", "btc", "Bitcoin", Unranked),
    odd("grok", "grok", "Grok", Generated),
    odd("grok-with-macron", "grōk", "Grōk", Generated),
    odd("grok-capital", "GROK", "GROK", Generated),
    odd("laika", "laika", "Laika", Generated),
    odd("laika-with-diaeresis", "laïka", "Laïka", Generated),
    odd("traffic-light", "🟥🟩", "🟥🟩 Traffic 🚦", Generated),
    odd("sparkles", "✨", "Sparkles ✨👩‍👩‍👧", Generated),
    odd("kangaroo-the-jumping-coin", "kangaroo", "Kangaroo the Jumping Co\u{200b}in", Generated),
    odd("zero-width-stable", "\u{200b}stable", "\u{200b}\u{200b}Stable", Generated),
    odd("good-morning-frog", "الفر", "صباح الفر", Generated),
    odd("left-to-right-mark", "ltr\u{200e}", "Left\u{200e}Right", Generated),
    odd("boatkid", "boatkid", "BoatKid\u{a0}", Generated),
    odd("trailing-space", "trail ", "Trailing Space  ", Generated),
    odd("trailing-space-less", "trail", "Trailing Space", Generated),
    odd("leading-space", " lead", " Leading Space", Generated),
    odd("only-space", " ", " ", Unranked),
    odd("ideographic-space", "\"\u{3000}\"", "\"\u{3000}\"", Generated),
    odd("runic-coin", "ᚱᚢᚾ", "ᚱᚢᚾᛖ", Generated),
    odd("hangul-coin", "김치", "김치 코인", Generated),
    odd("han-coin", "币", "币安人生", Generated),
    odd("composed", "café", "Café", Generated),
    odd("decomposed", "cafe\u{301}", "Cafe\u{301}", Generated),
    odd("sharp-s", "straße", "STRASSE", Generated),
    odd("dotless", "ıi", "İstanbul ı", Generated),
    odd("cyrillic-m", "gomining", "GoМining", Generated),
    odd("null", "null", "null", Generated),
    odd("null-matrix", "null", "NULL MATRIX", Unranked),
    odd("inf", "inf", "inf", Generated),
    odd("infinity", "-inf", "Infinity", Generated),
    odd("nan", "nan", "nan", Generated),
    odd("nan-capital", "NaN", "NaN", Generated),
    odd("true", "true", "TRUE", Generated),
    odd("false", "false", "false", Generated),
    odd("undefined", "undefined", "undefined", Generated),
    odd("nillion", "nil", "Nillion", Generated),
    odd("enlightenment", "e", "Enlightenment", Generated),
    odd("1e5", "1e5", "1e5", Generated),
    odd("000-capital", "000", "000 Capital", Generated),
    odd("1984-token", "1984", "1984", Generated),
    odd("01111010011110000110001001110100-token", "01111010011110000110001001110100", "01111010011110000110001001110100", Unranked),
    odd("arcium", "", "Arcium", Generated),
    odd("nyla-ai", "", "Nyla AI", Unranked),
    odd("c-users-desktop-memes", "c:\\memes", "C:\\Users\\Desktop\\memes", Generated),
    odd("double-quote", "\"quo\"", "The \"Quoted\" Coin", Generated),
    odd("bobby-tables", "';--", "Robert'); DROP TABLE assets;--", Generated),
    odd("comma-separated", "a,b", "One, Two, \"Three\"", Generated),
    odd("percent", "100%", "100% & <b>Bold</b>", Generated),
    odd("equals-formula", "=1+1", "=HYPERLINK(\"x\")", Generated),
    odd("at-sign", "@at", "@everyone", Generated),
    odd("dollar-sign", "$mong", "$MONG", Generated),
    odd("a-coin-with-an-id-of-exactly-seventy-characters-as-the-longest-one-met", "acoinwithasymboloffortysixcharacterslikethelon", "A coin whose name is as long as the longest name ever seen in the list.", Generated),
    odd("dust", "dust", "Dust", TinyPrice),
    odd("self-reported", "huge", "Self Reported", HugeSupply),
    odd("to-the-moon", "moon", "To The Moon", Exploded),
    odd("worthless", "zero", "Worthless", Zero),
    odd("no-data", "void", "No Data", Nothing),
    odd("no-time", "timeless", "No Time", Timeless),
    odd("asleep", "zzz", "Asleep", Stale),
    odd("restless", "rest", "Restless", Restless),

    major("wrapped-bitcoin", "wbtc", "Wrapped Bitcoin", 77_050.0, 119_212.86, 0.0),
    major("chainlink", "link", "Chainlink", 9.61, 727_099_970.45, 1e9),
    major("bitcoin-cash", "bch", "Bitcoin Cash", 412.7, 20_035_921.0, 21e6),
    major("monero", "xmr", "Monero", 382.14, 18_446_744.07, 0.0),
    major("stellar", "xlm", "Stellar", 0.1473, 33_071_842_110.2, 50_001_806_812.0),
    major("litecoin", "ltc", "Litecoin", 54.31, 77_103_443.09, 84e6),
    major("avalanche-2", "avax", "Avalanche", 9.28, 432_141_887.2, 715_748_719.0),
    major("hedera-hashgraph", "hbar", "Hedera", 0.089_1, 43_251_009_221.0, 50e9),
    major("sui", "sui", "Sui", 1.063, 4_012_553_118.4, 10e9),
    major("shiba-inu", "shib", "Shiba Inu", 5.77e-6, 589_243_021_114_877.6, 589_552_695_333_683.0),
    major("dai", "dai", "Dai", 0.999_81, 4_392_118_205.3, 0.0),
    major("polkadot", "dot", "Polkadot", 1.273, 1_682_311_004.1, 2.1e9),
    major("uniswap", "uni", "Uniswap", 3.521, 634_511_002.9, 0.0),
    major("near", "near", "NEAR Protocol", 1.552, 1_297_113_882.0, 0.0),
    major("aave", "aave", "Aave", 91.02, 15_251_772.3, 16e6),
    major("pepe", "pepe", "Pepe", 3.7e-6, 420_690_000_000_000.0, 420_690_000_000_000.0),
    major("internet-computer", "icp", "Internet Computer", 2.472, 551_882_310.0, 0.0),
    major("ethereum-classic", "etc", "Ethereum Classic", 8.41, 156_112_903.5, 210_700_000.0),
    major("cosmos", "atom", "Cosmos Hub", 1.981, 491_773_113.0, 0.0),
    major("tezos", "xtz", "Tezos", 0.3611, 1_079_332_110.6, 0.0),
    major("bonk", "bonk", "Bonk", 6.24e-6, 87_995_116_202_113.0, 87_995_164_297_763.0),
];
