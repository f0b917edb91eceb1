//! Quote currencies: a fixed rate for each, moving slowly.

use super::hash::wave;

/// One quote currency and how many of it a US dollar buys, on average.
#[derive(Debug)]
pub struct Currency {
    pub code: &'static str,
    per_usd: f64,
    /// How far the rate wanders from its average (0.01 = 1 %).
    sway: f64,
}

impl Currency {
    /// The currency of a code in lower case; the sandbox's dollar is always exactly 1.
    pub fn find(code: &str) -> Option<&'static Currency> {
        ALL.iter().find(|currency| currency.code == code)
    }

    /// The US dollar, in which the market reckons.
    pub fn dollar() -> &'static Currency {
        &ALL[12]
    }

    /// How many of it one US dollar buys at `at` (milliseconds since 1970).
    pub fn rate(&self, at: i64) -> f64 {
        if self.sway == 0.0 {
            return self.per_usd;
        }
        let t = at as f64 / 1_000.0;
        let phase = self.per_usd.fract();
        let swing = 0.7 * wave(t, 9.3 * 86_400.0, phase) + 0.3 * wave(t, 71_000.0, phase * 3.0);
        self.per_usd * (1.0 + self.sway * swing)
    }

    /// The rate without its movement, for figures that never change (all-time highs).
    pub fn mean_rate(&self) -> f64 {
        self.per_usd
    }
}

const fn currency(code: &'static str, per_usd: f64, sway: f64) -> Currency {
    Currency { code, per_usd, sway }
}

/// The 63 codes, in the order in which the sandbox lists them.
pub const ALL: [Currency; 63] = [
    currency("btc", 1.0 / 77_146.0, 0.04),
    currency("eth", 1.0 / 2_136.73, 0.05),
    currency("ltc", 1.0 / 54.31, 0.05),
    currency("bch", 1.0 / 412.7, 0.05),
    currency("bnb", 1.0 / 641.2, 0.04),
    currency("eos", 1.0 / 0.1021, 0.06),
    currency("xrp", 1.0 / 1.371, 0.05),
    currency("xlm", 1.0 / 0.1473, 0.05),
    currency("link", 1.0 / 9.61, 0.05),
    currency("dot", 1.0 / 1.273, 0.05),
    currency("yfi", 1.0 / 2_431.0, 0.05),
    currency("sol", 1.0 / 84.77, 0.05),
    currency("usd", 1.0, 0.0),
    currency("aed", 3.6725, 0.0),
    currency("ars", 1_411.5, 0.02),
    currency("aud", 1.4032, 0.008),
    currency("bdt", 122.81, 0.004),
    currency("bhd", 0.377, 0.001),
    currency("bmd", 1.0, 0.0),
    currency("brl", 5.0341, 0.012),
    currency("cad", 1.3742, 0.006),
    currency("chf", 0.7871, 0.007),
    currency("clp", 897.2, 0.01),
    currency("cny", 6.7983, 0.003),
    currency("czk", 20.914, 0.008),
    currency("dkk", 6.4271, 0.006),
    currency("eur", 0.8604, 0.006),
    currency("gbp", 0.7466, 0.006),
    currency("gel", 2.681, 0.004),
    currency("hkd", 7.8302, 0.001),
    currency("huf", 311.4, 0.01),
    currency("idr", 17_688.0, 0.006),
    currency("ils", 2.913, 0.01),
    currency("inr", 96.41, 0.005),
    currency("jpy", 158.93, 0.01),
    currency("krw", 1_503.2, 0.01),
    currency("kwd", 0.3084, 0.001),
    currency("lkr", 327.1, 0.004),
    currency("mmk", 2_098.0, 0.001),
    currency("mxn", 17.338, 0.008),
    currency("myr", 3.968, 0.006),
    currency("ngn", 1_372.0, 0.01),
    currency("nok", 9.281, 0.01),
    currency("nzd", 1.7113, 0.008),
    currency("php", 61.57, 0.006),
    currency("pkr", 278.6, 0.003),
    currency("pln", 3.6561, 0.008),
    currency("rub", 72.81, 0.015),
    currency("sar", 3.7521, 0.001),
    currency("sek", 9.4402, 0.009),
    currency("sgd", 1.2812, 0.004),
    currency("thb", 32.66, 0.006),
    currency("try", 45.57, 0.006),
    currency("twd", 31.61, 0.005),
    currency("uah", 44.21, 0.004),
    currency("vef", 0.100_13, 0.0),
    currency("vnd", 26_351.0, 0.003),
    currency("zar", 16.62, 0.012),
    currency("xdr", 0.7305, 0.004),
    currency("xag", 0.013_27, 0.03),
    currency("xau", 0.000_219_8, 0.015),
    currency("bits", 12.962_4, 0.04),
    currency("sats", 1_296.24, 0.04),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dollar_is_one() {
        assert_eq!((Currency::dollar().code, Currency::dollar().rate(0)), ("usd", 1.0));
    }
}
