//! The currencies into which figures can be converted, by symbol or by the vendor's id.

use super::super::market::Currency;

/// A currency as the vendor knows it.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    pub symbol: &'static str,
    pub id: u32,
    pub currency: &'static Currency,
}

impl Conversion {
    /// By symbol, in upper case as the vendor writes it.
    pub fn find(symbol: &str) -> Option<Conversion> {
        let (symbol, id) = *ALL.iter().find(|(known, _)| *known == symbol)?;
        let currency = Currency::find(&symbol.to_ascii_lowercase())?;
        Some(Conversion { symbol, id, currency })
    }

    /// By the vendor's id.
    pub fn with_id(id: &str) -> Option<Conversion> {
        let id: u32 = id.parse().ok()?;
        let (symbol, _) = ALL.iter().find(|(_, known)| *known == id)?;
        Conversion::find(symbol)
    }
}

#[rustfmt::skip]
const ALL: [(&str, u32); 59] = [
    ("USD", 2781), ("AUD", 2782), ("BRL", 2783), ("CAD", 2784), ("CHF", 2785), ("CLP", 2786), ("CNY", 2787),
    ("CZK", 2788), ("DKK", 2789), ("EUR", 2790), ("GBP", 2791), ("HKD", 2792), ("HUF", 2793), ("IDR", 2794),
    ("ILS", 2795), ("INR", 2796), ("JPY", 2797), ("KRW", 2798), ("MXN", 2799), ("MYR", 2800), ("NOK", 2801),
    ("NZD", 2802), ("PHP", 2803), ("PKR", 2804), ("PLN", 2805), ("RUB", 2806), ("SEK", 2807), ("SGD", 2808),
    ("THB", 2809), ("TRY", 2810), ("TWD", 2811), ("ZAR", 2812), ("AED", 2813), ("NGN", 2819), ("ARS", 2821),
    ("VND", 2823), ("UAH", 2824), ("BDT", 3530), ("BHD", 3531), ("BMD", 3532), ("GEL", 3539), ("KWD", 3550),
    ("LKR", 3553), ("MMK", 3557), ("SAR", 3566), ("XAG", 3574), ("XAU", 3575),
    ("BTC", 1), ("ETH", 1027), ("LTC", 2), ("BCH", 1831), ("BNB", 1839), ("EOS", 1765), ("XRP", 52), ("XLM", 512),
    ("LINK", 1975), ("DOT", 6636), ("YFI", 5864), ("SOL", 5426),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_currency_is_found_both_ways() {
        for (symbol, id) in ALL {
            assert_eq!(Conversion::find(symbol).unwrap().id, id);
            assert_eq!(Conversion::with_id(&id.to_string()).unwrap().symbol, symbol);
        }
        assert!(Conversion::find("usd").is_none() && Conversion::with_id("9999").is_none());
    }
}
