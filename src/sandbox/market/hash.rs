//! Random numbers without state: the same question always gets the same answer.
//!
//! Everything generated is a function of the seed and of what is asked about, so that a market
//! of a million coins needs no memory and two servers with one seed agree.

use std::f64::consts::TAU;

/// 64 well-mixed bits for one question (`a`, `b` say which).
pub fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut x = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(a.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(b.wrapping_mul(0x8cb9_2ba7_2f3d_8dd7));
    // The finisher of splitmix64, twice: once leaves patterns between neighbouring slots.
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

/// Evenly spread over `0.0..1.0`.
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Evenly spread over `low..high`.
pub fn between(bits: u64, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(bits)
}

/// Roughly normal with deviation 1 (sum of four uniforms; never beyond ±3.5).
pub fn bell(bits: u64) -> f64 {
    let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
    (sum as f64 / 65_535.0 - 2.0) * 3f64.sqrt()
}

/// One wave: `sin(2π (t / period + phase))`, with `t` and `period` in seconds.
pub fn wave(t: f64, period: f64, phase: f64) -> f64 {
    ((t / period + phase).fract() * TAU).sin()
}
