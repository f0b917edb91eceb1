//! From values to a place on an axis, and the round values that are written beside it.

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Linear,
    /// By powers of ten: values above zero only.
    Log,
}

/// The values from the lower to the upper end of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    pub kind: Kind,
    pub low: f64,
    pub high: f64,
}

/// Room above and below the outermost values, as a part of the whole.
const ROOM: f64 = 0.06;

impl Scale {
    /// An axis with room for all of these values. `None` where there is none that it can show: numbers
    /// that are none, and on a logarithmic axis those that are not above zero, don't count.
    pub fn of(kind: Kind, values: impl IntoIterator<Item = f64>) -> Option<Scale> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| kind.shows(*value)) {
            low = low.min(value);
            high = high.max(value);
        }
        (low <= high).then(|| Scale { kind, low, high }.with_room())
    }

    /// The same from zero on, for amounts whose size is told by a bar.
    pub fn from_zero(values: impl IntoIterator<Item = f64>) -> Option<Scale> {
        let high = values.into_iter().filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let of = |high: f64| Scale { kind: Kind::Linear, low: 0.0, high };
        (high > f64::NEG_INFINITY).then(|| if high > 0.0 { of((high * (1.0 + ROOM)).min(f64::MAX)) } else { of(1.0) })
    }

    fn with_room(self) -> Scale {
        let Scale { kind, low, high } = self;
        if kind == Kind::Log {
            // A tenth of a decade at least, or a constant would have no height.
            let room = ((high.log10() - low.log10()) * ROOM).max(0.02);
            let times = 10f64.powf(room);
            return Scale { kind, low: (low / times).max(f64::MIN_POSITIVE), high: (high * times).min(f64::MAX) };
        }
        let span = high / 2.0 - low / 2.0;
        // What differs by less than a double tells is a constant.
        let room = if span <= high.abs().max(low.abs()) * 1e-14 {
            if high == 0.0 { 1.0 } else { high.abs() * 0.05 }
        } else {
            span * 2.0 * ROOM
        };
        // Below zero is no price, and an axis that begins there would look as if there were.
        let floor = if low >= 0.0 { 0.0 } else { f64::MIN };
        Scale { kind, low: (low - room).max(floor), high: (high + room).min(f64::MAX) }
    }

    /// Where a value is between the ends: 0 at the lower, 1 at the upper one.
    pub fn at(&self, value: f64) -> f64 {
        match self.kind {
            // In halves: the distance of the largest doubles is no double.
            Kind::Linear => (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0),
            Kind::Log => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        }
    }

    /// Round values within the ends, in their order, some `wanted` of them.
    pub fn ticks(&self, wanted: usize) -> Ticks {
        let wanted = wanted.max(1);
        match self.kind {
            Kind::Linear => {
                // One label tells nothing of the distances on an axis.
                let mut finer = (wanted..wanted.max(2) * 3).map(|wanted| linear(self.low, self.high, wanted));
                let ticks = finer.find(|ticks| wanted < 2 || ticks.values.len() > 1);
                ticks.unwrap_or_else(|| linear(self.low, self.high, wanted))
            }
            Kind::Log => log(self.low, self.high, wanted),
        }
    }
}

impl Kind {
    pub fn shows(self, value: f64) -> bool {
        value.is_finite() && (self == Kind::Linear || value > 0.0)
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Linear => "linear",
            Kind::Log => "log",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ticks {
    pub values: Vec<f64>,
    /// How far apart they are; `None` where that differs.
    pub step: Option<f64>,
}

/// The smallest of 1, 2, 5 times a power of ten that is not below.
fn nice_above(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    rounded(factor.unwrap_or(10.0) * power)
}

/// 3 × 0.1 is 0.30000000000000004, which nobody wants to read.
fn rounded(value: f64) -> f64 {
    format!("{value:.14e}").parse().unwrap_or(value)
}

fn linear(low: f64, high: f64, wanted: usize) -> Ticks {
    let rough = (high / wanted as f64) - (low / wanted as f64);
    if !(rough > 0.0 && rough.is_finite()) {
        return Ticks { values: vec![low], step: None };
    }
    let step = nice_above(rough.max(f64::MIN_POSITIVE * 16.0));
    if !step.is_finite() {
        return Ticks { values: vec![low, high], step: None };
    }
    // Whole multiples of the step, not sums of it: sums drift.
    let first = (low / step).ceil();
    let places = (0..=wanted * 3).map(|n| rounded((first + n as f64) * step));
    let mut values: Vec<f64> = places.take_while(|value| *value <= high).filter(|value| *value >= low).collect();
    // Around a large number neighbours may be one and the same double.
    values.dedup();
    Ticks { values, step: Some(step) }
}

fn log(low: f64, high: f64, wanted: usize) -> Ticks {
    let (first, last) = (low.log10(), high.log10());
    let decades = last - first;
    if decades < 0.9 {
        return linear(low, high, wanted);
    }
    let power = |exponent: i32| format!("1e{exponent}").parse::<f64>().unwrap_or(f64::INFINITY);
    let factors: &[f64] = match decades / wanted as f64 {
        few if few <= 0.34 => &[1.0, 2.0, 5.0],
        few if few <= 0.5 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let every = if factors.len() > 1 { 1 } else { (decades / wanted as f64).ceil().max(1.0) as i32 };
    let mut values = Vec::new();
    for exponent in (first.floor() as i32)..=(last.ceil() as i32) {
        if exponent.rem_euclid(every) != 0 {
            continue;
        }
        for factor in factors {
            // The decimal text, so that 5e-12 is the double that is nearest to it.
            let value = format!("{factor}e{exponent}").parse().unwrap_or(power(exponent));
            if value >= low && value <= high {
                values.push(value);
            }
        }
    }
    Ticks { values, step: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn magnitude(dice: &mut StdRng) -> f64 {
        10f64.powf(dice.random_range(-280.0..290.0))
    }

    #[test]
    fn ticks_are_round_ordered_within_and_not_too_many() {
        let mut dice = StdRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let base = magnitude(&mut dice) * if dice.random_bool(0.2) { -1.0 } else { 1.0 };
            let span = base.abs() * 10f64.powf(dice.random_range(-9.0..3.0));
            let wanted = dice.random_range(1..12);
            let scale = Scale::of(Kind::Linear, [base, base + span]).unwrap();
            let Ticks { values, step } = scale.ticks(wanted);
            let told = format!("{base:e} + {span:e}, {wanted}: {values:?}");
            assert!(values.len() <= wanted.max(3) + 2, "{told}");
            assert!(wanted < 2 || values.len() >= 2, "{told}");
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{told}");
            assert!(values.iter().all(|value| (scale.low..=scale.high).contains(value)), "{told}");
            let step = step.unwrap();
            let digits = format!("{step:e}");
            assert!(["1e", "2e", "5e"].iter().any(|start| digits.starts_with(start)) || step > 1e290, "{digits}");
        }
    }

    #[test]
    fn decades_are_ticked() {
        let mut dice = StdRng::seed_from_u64(8);
        for _ in 0..20_000 {
            let low = 10f64.powf(dice.random_range(-290.0..200.0));
            let high = low * 10f64.powf(dice.random_range(0.0..100.0));
            let wanted = dice.random_range(3..10);
            let scale = Scale::of(Kind::Log, [low, high]).unwrap();
            let values = scale.ticks(wanted).values;
            assert!(!values.is_empty() && values.len() <= wanted + 4, "{low:e} {high:e} {wanted}: {values:?}");
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(values.iter().all(|value| (scale.low..=scale.high).contains(value)));
        }
        assert_eq!(Scale { kind: Kind::Log, low: 1e-12, high: 1e-9 }.ticks(4).values, [1e-12, 1e-11, 1e-10, 1e-9]);
        assert_eq!(Scale { kind: Kind::Log, low: 0.9, high: 11.0 }.ticks(6).values, [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn places_keep_the_order_and_stay_within() {
        let mut dice = StdRng::seed_from_u64(9);
        for _ in 0..20_000 {
            let kind = if dice.random_bool(0.5) { Kind::Linear } else { Kind::Log };
            let values: Vec<f64> = (0..dice.random_range(1..6)).map(|_| magnitude(&mut dice)).collect();
            let scale = Scale::of(kind, values.iter().copied()).unwrap();
            assert!(scale.low < scale.high, "{values:?}");
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let places: Vec<f64> = sorted.iter().map(|value| scale.at(*value)).collect();
            assert!(places.iter().all(|place| (0.0..=1.0).contains(place)), "{values:?}: {places:?}");
            assert!(places.windows(2).all(|pair| pair[0] <= pair[1]), "{values:?}: {places:?}");
        }
    }

    #[test]
    fn extremes_have_a_scale() {
        for values in [
            &[0.0][..],
            &[0.0, 0.0],
            &[-3.0],
            &[1e-12],
            &[f64::MAX, f64::MIN],
            &[1e-300],
            &[5.8e-21, 1.2e59],
            &[1e12, 1e12 + 1e-3],
        ] {
            let scale = Scale::of(Kind::Linear, values.iter().copied()).unwrap();
            assert!(scale.low < scale.high, "{values:?}");
            assert!(values.iter().all(|value| (0.0..=1.0).contains(&scale.at(*value))), "{values:?}");
            assert!(!scale.ticks(5).values.is_empty(), "{values:?}");
        }
        assert_eq!(Scale::of(Kind::Linear, [f64::NAN, f64::INFINITY]), None);
        assert_eq!(Scale::of(Kind::Log, [0.0, -1.0]), None);
        assert_eq!(Scale::of(Kind::Linear, [3.0, 4.0, f64::NAN]).map(|scale| scale.low > 2.8), Some(true));
        assert_eq!(Scale::from_zero([0.0]).unwrap().high, 1.0);
    }
}
