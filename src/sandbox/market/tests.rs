use std::collections::HashSet;

use super::*;

const NOON: i64 = 1_795_348_837_123;

fn coins(market: &Market, at: i64) -> Vec<Coin> {
    (0..market.assets()).map(|slot| market.coin(slot, at)).collect()
}

#[test]
fn ids_are_unique_without_regard_to_case_also_over_time() {
    let market = Market::new(1, 30_000);
    let mut seen: HashSet<String> = HashSet::new();
    for coin in coins(&market, NOON) {
        assert!(seen.insert(market.id(&coin).to_lowercase()), "{coin:?}");
    }
    for days in (5..=60).step_by(5) {
        for coin in coins(&market, NOON + days * DAY) {
            let before = market.coin(coin.slot, NOON + (days - 5) * DAY);
            if before.generation != coin.generation && before.generation + 1 == coin.generation {
                let new = market.id(&coin).to_lowercase();
                // Slots with two coins come back to the first; all others are new.
                assert!(seen.insert(new.clone()) || coin.generation < 2, "{new}");
            }
        }
    }
}

#[test]
fn shuffling_words_is_one_to_one_for_a_million_slots() {
    let market = Market::new(7, MAX);
    for generation in [0, 300] {
        let mut seen = vec![false; 1 << 20];
        for slot in 0..MAX {
            let words = market.shuffle(slot, generation);
            assert!(!std::mem::replace(&mut seen[words as usize], true));
            assert_eq!(market.unshuffle(words, generation), slot);
        }
    }
}

const MAX: u32 = 1_000_000;

#[test]
fn ids_are_found_again_and_nothing_else_is() {
    let market = Market::new(3, 20_000);
    for coin in coins(&market, NOON) {
        let id = market.id(&coin);
        assert_eq!(market.find(&id, NOON), Some(coin), "{id}");
    }
    for unknown in ["", "-", "Bitcoin", "bitcoin-2", "alpha-agent-nonsense", "1", "a-0"] {
        assert_eq!(market.find(unknown, NOON), None, "{unknown}");
    }
    // Gone and not yet back: the other coins of slots that churn.
    let later = NOON + 20 * DAY;
    let gone = coins(&market, NOON)
        .iter()
        .filter(|coin| market.coin(coin.slot, later).generation != coin.generation)
        .inspect(|coin| assert_eq!(market.find(&market.id(coin), later), None))
        .count();
    assert!(gone > 200, "{gone}");
}

#[test]
fn a_list_holds_every_coin_once_and_in_no_order() {
    for assets in [1, 2, 3, 100, 17_600] {
        let market = Market::new(1, assets);
        let slots: Vec<u32> = (0..assets).map(|n| market.listed(n, NOON).slot).collect();
        assert_eq!(slots.iter().collect::<HashSet<_>>().len(), assets as usize);
        if assets > 3 {
            let id = |slot: &u32| market.id(&market.coin(*slot, NOON));
            assert!(!slots.is_sorted() && !slots.iter().map(id).is_sorted());
        }
    }
}

#[test]
fn two_coins_are_swapped_and_one_is_renamed_an_hour() {
    let market = Market::new(1, 17_600);
    let hours = 200;
    let (mut swaps, mut renames, mut returns) = (0, 0, 0);
    let mut before = coins(&market, NOON);
    for hour in 1..=hours {
        let now = coins(&market, NOON + hour * HOUR);
        assert_eq!(now.len(), 17_600);
        for (old, new) in before.iter().zip(&now) {
            if old.generation != new.generation {
                swaps += 1;
                returns += i32::from(new.generation == 0);
                assert_ne!(market.id(old), market.id(new));
            } else if old.variant != new.variant {
                renames += 1;
                assert_eq!(market.id(old), market.id(new));
                let label = |coin| (market.name(coin), market.symbol(coin));
                assert_ne!(label(old), label(new));
            }
        }
        before = now;
    }
    assert!((300..500).contains(&swaps), "{swaps} swaps");
    assert!((150..250).contains(&renames), "{renames} renames");
    assert!((50..200).contains(&returns), "{returns} returns");
}

#[test]
fn a_market_is_a_function_of_seed_and_time() {
    let (one, same, other) = (Market::new(5, 2_000), Market::new(5, 2_000), Market::new(6, 2_000));
    let dollar = Currency::find("usd").unwrap();
    let show = |market: &Market, at| {
        // In another order of asking each time: nothing may depend on it.
        let mut shown: Vec<String> = coins(market, at)
            .iter()
            .rev()
            .map(|coin| {
                let quote = market.ticker(coin, at).quote(dollar);
                format!("{} {} {quote:?}", market.id(coin), market.name(coin))
            })
            .collect();
        shown.sort();
        shown
    };
    let later = show(&one, NOON + DAY);
    assert_eq!(show(&one, NOON), show(&same, NOON));
    assert_eq!(show(&same, NOON + DAY), later);
    assert_ne!(show(&one, NOON), later);
    assert_ne!(show(&one, NOON), show(&other, NOON));
}

#[test]
fn prices_move_and_changes_agree_with_what_was_served_before() {
    let market = Market::new(1, 500);
    let euro = Currency::find("eur").unwrap();
    let bitcoin = market.coin(0, NOON);
    let ticker = market.ticker(&bitcoin, NOON);
    let now = ticker.quote(euro);
    let stamp = now.last_updated.unwrap();
    assert!(stamp <= NOON && stamp > NOON - 60_000);
    let hour_ago = ticker.price_at(euro, HOUR).unwrap();
    let change = ticker.change(euro, HOUR).unwrap();
    let price = now.price.unwrap();
    assert!((price / hour_ago - 1.0 - change / 100.0).abs() < 1e-12);
    assert_ne!(price, hour_ago);
    let moved = (0..500)
        .filter(|&slot| {
            let price = |at| market.ticker(&market.coin(slot, at), at).quote(euro).price;
            price(NOON) != price(NOON + 5 * 60_000)
        })
        .count();
    assert!((400..500).contains(&moved), "{moved} of 500");
}

#[test]
fn some_values_change_while_last_updated_stands_still() {
    let market = Market::new(1, 200);
    let dollar = Currency::find("usd").unwrap();
    let coin = market.find("restless", NOON).unwrap();
    let seen: Vec<(i64, f64)> = (0..60)
        .map(|n| {
            let quote = market.ticker(&coin, NOON + n * 10_000).quote(dollar);
            (quote.last_updated.unwrap(), quote.price.unwrap())
        })
        .collect();
    let restless = |pair: &[(i64, f64)]| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1;
    assert!(seen.windows(2).any(restless));
}

#[test]
fn figures_have_the_extremes_of_real_ones() {
    let market = Market::new(1, 17_600);
    let dollar = Currency::find("usd").unwrap();
    let all: Vec<Quote> = coins(&market, NOON).iter().map(|coin| market.ticker(coin, NOON).quote(dollar)).collect();
    let share = |wanted: fn(&Quote) -> bool| all.iter().filter(|quote| wanted(quote)).count();
    assert!(all.iter().flat_map(|quote| quote.price).any(|p| p > 0.0 && p < 6e-21));
    assert!(all.iter().flat_map(|quote| quote.fully_diluted).any(|value| value > 1e59));
    let jump = |quote: &Quote| quote.day.as_ref().is_some_and(|day| day.percent > 1.1e7);
    assert!(all.iter().any(jump));
    assert!((1_500..2_100).contains(&share(|quote| !quote.ranked)));
    assert!((30..120).contains(&share(|quote| quote.price.is_none())));
    assert!((2..60).contains(&share(|quote| quote.last_updated.is_none())));
    assert!((4..50).contains(&share(|quote| quote.price == Some(0.0))));
    let age = |quote: &Quote| NOON - quote.last_updated.unwrap_or(NOON);
    let oldest = all.iter().map(age).max().unwrap();
    assert!((10 * DAY..=22 * DAY).contains(&oldest), "{oldest} ms");
    let fresh = all.iter().filter(|quote| age(quote) < 5 * 60_000).count();
    assert!(fresh > 15_000, "{fresh}");
    for quote in &all {
        let day = quote.day.iter().flat_map(|day| [day.high, day.low, day.change]);
        let values = [quote.price, quote.market_cap, quote.volume, quote.fully_diluted];
        assert!(values.into_iter().flatten().chain(day).all(f64::is_finite));
        let price = quote.price.unwrap_or(0.0);
        assert!(quote.ath.is_none_or(|(ath, _)| ath >= price));
        assert!(quote.atl.is_none_or(|(atl, _)| atl <= price));
    }
}

#[test]
fn texts_that_break_software_are_there() {
    let market = Market::new(1, 17_600);
    let all = coins(&market, NOON);
    let names: HashSet<String> = all.iter().map(|coin| market.name(coin)).collect();
    let symbols: Vec<String> = all.iter().map(|coin| market.symbol(coin)).collect();
    for name in ["null", "inf", "nan", "TRUE", "BoatKid\u{a0}", "C:\\Users\\Desktop\\memes"] {
        assert!(names.contains(name), "{name}");
    }
    for symbol in ["btc", "BTC", "grok", "grōk", "", "🟥🟩", "trail ", "trail"] {
        assert!(symbols.iter().any(|known| known == symbol), "{symbol}");
    }
    let mut counts: HashMap<&str, u32> = HashMap::new();
    symbols.iter().for_each(|symbol| *counts.entry(symbol).or_default() += 1);
    let shared: u32 = counts.values().filter(|&&count| count > 1).sum();
    assert!((4_000..9_000).contains(&shared), "{shared} share a symbol");
    let longest = all.iter().map(|coin| market.id(coin).len()).max();
    assert!(longest < Some(256));
}

#[test]
fn orders_are_sorted_complete_and_cached() {
    let market = Market::new(1, 5_000);
    let listed = (0..5_000).filter(|&slot| market.has_market(slot)).count();
    assert!((4_985..5_000).contains(&listed), "{listed}");
    let dollar = Currency::find("usd").unwrap();
    let quote = |slot: &u32| {
        let minute = NOON.div_euclid(60_000) * 60_000;
        market.ticker(&market.coin(*slot, minute), minute).quote(dollar)
    };
    let by_id = market.sorted(Order::Id, NOON);
    assert!(by_id.slots.iter().map(|&slot| market.id(&market.coin(slot, NOON))).is_sorted());
    let by_cap = market.sorted(Order::MarketCap, NOON);
    assert_eq!(by_cap.slots[0], 0);
    assert_eq!(by_cap.place(0), Some(1));
    let caps: Vec<f64> = by_cap
        .slots
        .iter()
        .map(quote)
        .take_while(|quote| quote.ranked)
        .map(|quote| quote.market_cap.unwrap())
        .collect();
    assert!(caps.len() > 4_000 && caps.is_sorted_by(|a, b| a >= b));
    assert!(by_cap.slots[caps.len()..].iter().all(|slot| by_cap.place(*slot).is_none()));
    let by_volume = market.sorted(Order::Volume, NOON);
    let volumes = by_volume.slots.iter().map(|slot| quote(slot).volume.unwrap_or(-1.0));
    assert!(volumes.is_sorted_by(|a, b| a >= b));
    for sorted in [&by_id, &by_cap, &by_volume] {
        assert_eq!(sorted.slots.iter().collect::<HashSet<_>>().len(), listed);
    }
    assert!(std::sync::Arc::ptr_eq(&by_cap, &market.sorted(Order::MarketCap, NOON + 1)));
    assert!(std::sync::Arc::ptr_eq(&by_id, &market.sorted(Order::Id, NOON + 1)));
    assert!(!std::sync::Arc::ptr_eq(&by_cap, &market.sorted(Order::MarketCap, NOON + 60_000)));
}

#[test]
fn the_smallest_market_and_the_strangest_times_work() {
    let dollar = Currency::find("usd").unwrap();
    for assets in [1, 7, 101] {
        let market = Market::new(0, assets);
        for at in [0, -62_135_596_800_000, EPOCH, NOON, 253_402_300_799_999] {
            for coin in coins(&market, at) {
                market.ticker(&coin, at).quote(dollar);
                assert_eq!(market.find(&market.id(&coin), at), Some(coin));
            }
            market.sorted(Order::Id, at);
        }
    }
}
