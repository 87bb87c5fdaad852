//! Chance with a seed that is printed and taken back.

/// SplitMix64: small, and the same everywhere.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// The seed from `CONTINUO_SEED`, or a usual one. It is printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_801);
    println!("CONTINUO_SEED={seed}");
    seed
}
