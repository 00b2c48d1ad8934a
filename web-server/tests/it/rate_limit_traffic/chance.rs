//! What a seed decides.

/// A stream of numbers that is the same for the same seed (splitmix64, by Steele, Lea and Flood).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn of_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.number(to - from)
    }

    pub fn part(&mut self) -> f64 {
        f64::from(u32::try_from(self.number(1 << 32)).unwrap()) / f64::from(u32::MAX)
    }

    pub fn index(&mut self, below: usize) -> usize {
        usize::try_from(self.number(below as u64)).unwrap()
    }

    /// How many events come that are independent of each other, `mean` on average (Knuth's way; means are small here).
    pub fn events(&mut self, mean: f64) -> u32 {
        let (limit, mut product, mut events) = ((-mean).exp(), self.part(), 0);
        while product > limit {
            product *= self.part();
            events += 1;
        }
        events
    }
}
