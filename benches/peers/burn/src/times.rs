//! Work in turns, and how long it takes.

use std::time::Instant;

use crate::Result;

/// Rounds that are not counted.
const WARM_UP: usize = 3;

/// Quartiles, in milliseconds.
#[derive(Clone, Copy)]
pub struct Times {
    pub min: f64,
    pub quarter: f64,
    pub median: f64,
    pub three_quarter: f64,
}

impl Times {
    fn new(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let quartile = |number: usize| rounds[(rounds.len() - 1) * number / 4];
        Self {
            min: quartile(0),
            quarter: quartile(1),
            median: quartile(2),
            three_quarter: quartile(3),
        }
    }

    /// Without a part that takes so long.
    pub fn less(self, part: f64) -> Self {
        Self {
            min: self.min - part,
            quarter: self.quarter - part,
            median: self.median - part,
            three_quarter: self.three_quarter - part,
        }
    }
}

/// Times of works that run once in each round, one after the other.
pub fn of<const N: usize>(
    works: [&dyn Fn() -> Result<()>; N],
    rounds: usize,
) -> Result<[Times; N]> {
    let mut times = [const { Vec::new() }; N];
    for round in 0..WARM_UP + rounds {
        for (work, times) in works.iter().zip(&mut times) {
            let start = Instant::now();
            work()?;
            if round >= WARM_UP {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(Times::new))
}
