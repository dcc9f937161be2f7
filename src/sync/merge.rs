//! What ranks exchange, and how it becomes one: in f64, in the order of the ranks, so that whoever merges the same parts
//! gets the same bits.

use crate::reference;

/// The numbers of one rank, or of several that were merged.
pub trait Payload: Sized {
    /// The body of a message.
    fn bytes(&self) -> Vec<u8>;

    /// Reads a body for this many channels or values; `None` if it has another length.
    fn read(bytes: &[u8], length: u64) -> Option<Self>;

    /// Merges the parts, in their order.
    fn merged(parts: &[Self]) -> Self;
}

/// Mean and sum of squared deviations of each channel, over `count` values of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    pub count: u64,
    pub mean: Vec<f64>,
    pub m2: Vec<f64>,
}

impl Moments {
    /// Of no values.
    pub fn empty(channels: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; channels],
            m2: vec![0.0; channels],
        }
    }

    /// From the rows [mean: C] [mean_low: C] [m2: C] that a device computes. What follows them is ignored.
    pub fn of_rows(count: u64, channels: usize, rows: &[f32]) -> Option<Self> {
        let [mean, low, m2] = [0, 1, 2].map(|row| rows.get(row * channels..(row + 1) * channels));
        let halves = mean?.iter().zip(low?);
        Some(Self {
            count,
            mean: halves
                .map(|(&high, &low)| f64::from(high) + f64::from(low))
                .collect(),
            m2: m2?.iter().copied().map(f64::from).collect(),
        })
    }

    pub fn is_finite(&self) -> bool {
        self.mean
            .iter()
            .chain(&self.m2)
            .all(|value| value.is_finite())
    }

    /// The rows [mean: C] [mean_low: C] [m2: C].
    fn rows(&self) -> Vec<f32> {
        let high = |mean: f64| mean as f32;
        let low = |mean: f64| {
            let rest = (mean - f64::from(mean as f32)) as f32;
            // Of an infinite mean nothing is left.
            if rest.is_finite() { rest } else { 0.0 }
        };
        let means = self.mean.iter();
        let highs = means.clone().map(|&mean| high(mean));
        highs
            .chain(means.map(|&mean| low(mean)))
            .chain(self.m2.iter().map(|&m2| m2 as f32))
            .collect()
    }

    /// The rows [mean: C] [mean_low: C] [m2: C] [count: C] for a device. A count above 2^24 is rounded to f32, which
    /// changes the variance by less than its own rounding.
    pub fn device_rows(&self) -> Vec<f32> {
        let mut rows = self.rows();
        rows.extend(self.mean.iter().map(|_| self.count as f32));
        rows
    }

    /// With more values.
    pub fn add(&mut self, other: &Self) {
        let (before, more) = (self.count as f64, other.count as f64);
        let own = self.mean.iter_mut().zip(&mut self.m2);
        for ((mean, m2), (&other_mean, &other_m2)) in own.zip(other.mean.iter().zip(&other.m2)) {
            let channel = |mean, m2, count| reference::Moments { mean, m2, count };
            let both = channel(*mean, *m2, before).combine(channel(other_mean, other_m2, more));
            (*mean, *m2) = (both.mean, both.m2);
        }
        self.count = self.count.saturating_add(other.count);
    }
}

impl Payload for Moments {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        write_f32(&mut bytes, &self.rows());
        bytes
    }

    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        let (count, rows) = split_u64(bytes)?;
        let rows = read_f32(rows, length, 3)?;
        Self::of_rows(count, rows.len() / 3, &rows)
    }

    fn merged(parts: &[Self]) -> Self {
        let mut total = Self::empty(parts.first().map_or(0, |part| part.mean.len()));
        parts.iter().for_each(|part| total.add(part));
        total
    }
}

/// Moments of all values of several batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Recomputed {
    /// The most batches that a rank has given.
    pub batches: u64,
    pub moments: Moments,
}

impl Payload for Recomputed {
    fn bytes(&self) -> Vec<u8> {
        [&self.batches.to_le_bytes()[..], &self.moments.bytes()].concat()
    }

    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        let (batches, rest) = split_u64(bytes)?;
        Moments::read(rest, length).map(|moments| Self { batches, moments })
    }

    fn merged(parts: &[Self]) -> Self {
        let moments: Vec<Moments> = parts.iter().map(|part| part.moments.clone()).collect();
        Self {
            batches: parts.iter().map(|part| part.batches).max().unwrap_or(0),
            moments: Moments::merged(&moments),
        }
    }
}

/// The sums of `x_hat * g` and of `g` of each channel, over `count` values of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    pub count: u64,
    /// First all of `x_hat * g`, then all of `g`.
    pub rows: Vec<f64>,
}

impl Sums {
    /// Of no values.
    pub fn empty(channels: usize) -> Self {
        Self {
            count: 0,
            rows: vec![0.0; 2 * channels],
        }
    }

    /// From the rows [dweight: C] [dbias: C] that a device computes. What follows them is ignored.
    pub fn of_rows(count: u64, channels: usize, rows: &[f32]) -> Option<Self> {
        let rows = rows.get(..2 * channels)?;
        Some(Self {
            count,
            rows: rows.iter().copied().map(f64::from).collect(),
        })
    }

    /// The rows [dweight: C] [dbias: C], each value times `scale`.
    pub fn scaled(&self, scale: f64) -> Vec<f32> {
        self.rows.iter().map(|&sum| (sum * scale) as f32).collect()
    }

    /// The rows [dweight: C] [dbias: C] [count: C] for a device.
    pub fn device_rows(&self) -> Vec<f32> {
        let mut rows = self.scaled(1.0);
        rows.extend((0..self.rows.len() / 2).map(|_| self.count as f32));
        rows
    }
}

impl Payload for Sums {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        write_f32(&mut bytes, &self.scaled(1.0));
        bytes
    }

    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        let (count, rows) = split_u64(bytes)?;
        let rows = read_f32(rows, length, 2)?;
        Self::of_rows(count, rows.len() / 2, &rows)
    }

    fn merged(parts: &[Self]) -> Self {
        let mut total = Self {
            count: 0,
            rows: vec![0.0; parts.first().map_or(0, |part| part.rows.len())],
        };
        for part in parts {
            total.count = total.count.saturating_add(part.count);
            let rows = total.rows.iter_mut().zip(&part.rows);
            rows.for_each(|(total, part)| *total += part);
        }
        total
    }
}

/// Values times their weight, and the weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    pub weight: f64,
    pub sums: Vec<f64>,
}

impl Weighted {
    pub fn new(weight: f64, values: &[f32]) -> Self {
        Self {
            weight,
            sums: values.iter().map(|&v| f64::from(v) * weight).collect(),
        }
    }

    /// The weighted means; none if there is no weight.
    pub fn means(&self) -> Option<Vec<f32>> {
        let means = self.sums.iter().map(|&sum| (sum / self.weight) as f32);
        (self.weight > 0.0).then(|| means.collect())
    }
}

impl Payload for Weighted {
    fn bytes(&self) -> Vec<u8> {
        let values = std::iter::once(&self.weight).chain(&self.sums);
        values.flat_map(|value| value.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        let expected = length.checked_add(1)?.checked_mul(8)?;
        if bytes.len() as u64 != expected {
            return None;
        }
        let mut values = bytes.chunks_exact(8).map(f64_of);
        Some(Self {
            weight: values.next()?,
            sums: values.collect(),
        })
    }

    fn merged(parts: &[Self]) -> Self {
        let mut total = Self {
            weight: 0.0,
            sums: vec![0.0; parts.first().map_or(0, |part| part.sums.len())],
        };
        // A part without weight may hold anything.
        for part in parts.iter().filter(|part| part.weight != 0.0) {
            total.weight += part.weight;
            let sums = total.sums.iter_mut().zip(&part.sums);
            sums.for_each(|(total, part)| *total += part);
        }
        total
    }
}

/// The running statistics of one rank, as words.
#[derive(Clone, Debug, PartialEq)]
pub struct OfRoot(pub Option<Vec<u32>>);

impl Payload for OfRoot {
    fn bytes(&self) -> Vec<u8> {
        let words = self.0.iter().flatten();
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self(None));
        }
        if bytes.len() as u64 != length.checked_mul(16)? {
            return None;
        }
        let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(word(b)));
        Some(Self(Some(words.collect())))
    }

    fn merged(parts: &[Self]) -> Self {
        Self(parts.iter().find_map(|part| part.0.clone()))
    }
}

/// The running statistics of several ranks: sums of means and variances, and the highest counter.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningSums {
    pub batches: u64,
    pub sums: Weighted,
}

impl Payload for RunningSums {
    fn bytes(&self) -> Vec<u8> {
        [&self.batches.to_le_bytes()[..], &self.sums.bytes()].concat()
    }

    fn read(bytes: &[u8], length: u64) -> Option<Self> {
        let (batches, rest) = split_u64(bytes)?;
        let sums = Weighted::read(rest, length.checked_mul(2)?)?;
        Some(Self { batches, sums })
    }

    fn merged(parts: &[Self]) -> Self {
        let sums: Vec<Weighted> = parts.iter().map(|part| part.sums.clone()).collect();
        Self {
            batches: parts.iter().map(|part| part.batches).max().unwrap_or(0),
            sums: Weighted::merged(&sums),
        }
    }
}

/// Nothing: the ranks compare their headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Nothing;

impl Payload for Nothing {
    fn bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    fn read(bytes: &[u8], _: u64) -> Option<Self> {
        bytes.is_empty().then_some(Self)
    }

    fn merged(_: &[Self]) -> Self {
        Self
    }
}

fn write_f32(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// `rows` rows of `length` values; `None` for another number of bytes.
fn read_f32(bytes: &[u8], length: u64, rows: u64) -> Option<Vec<f32>> {
    let expected = length.checked_mul(4 * rows)?;
    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(word(b)));
    (bytes.len() as u64 == expected).then(|| values.collect())
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_at_checked(8)?;
    Some((u64::from_le_bytes(first.try_into().ok()?), rest))
}

fn word(bytes: &[u8]) -> [u8; 4] {
    bytes.try_into().unwrap_or_default()
}

fn f64_of(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::compare::{Bound, within};
    use crate::reference::{self, noise};

    /// The moments of values of two channels, as a device would have them: rounded to pairs of f32.
    fn moments(values: &[[f64; 2]]) -> Moments {
        let channels = [0, 1].map(|c| reference::Moments::of(values.iter().map(|v| v[c])));
        let exact = Moments {
            count: values.len() as u64,
            mean: channels.iter().map(|m| m.mean).collect(),
            m2: channels.iter().map(|m| m.m2).collect(),
        };
        Moments::read(&exact.bytes(), 2).unwrap()
    }

    /// A mean of many deviations, and one near zero.
    fn values(seed: u64, count: usize) -> Vec<[f64; 2]> {
        let values: Vec<f64> = noise(seed, 2 * count).collect();
        values.chunks(2).map(|v| [1e4 + v[0], v[1]]).collect()
    }

    #[test]
    fn parts_of_any_size_are_one_batch() {
        let all = values(1, 600);
        let whole = moments(&all);
        for (seed, parts) in [(1, 1), (2, 2), (3, 3), (4, 7), (5, 32), (6, 100)] {
            // Cuts at any place: parts are uneven, and some are empty.
            let mut cuts: Vec<usize> = noise(seed, parts - 1)
                .map(|v| ((v + 1.0) * 300.0) as usize)
                .chain([0, 600])
                .collect();
            cuts.sort_unstable();
            let parts: Vec<Moments> = cuts.windows(2).map(|w| moments(&all[w[0]..w[1]])).collect();
            let merged = Moments::merged(&parts);
            assert_eq!(merged.count, 600);
            let bound = |relative| Bound::new(relative, 1e-12);
            within("mean", &merged.mean, &whole.mean, bound(1e-13)).unwrap();
            within("m2", &merged.m2, &whole.m2, bound(2e-7)).unwrap();
            // In two levels it is the same to the rounding of the message between them.
            let levels: Vec<Moments> = parts
                .chunks(3)
                .map(|some| Moments::read(&Moments::merged(some).bytes(), 2).unwrap())
                .collect();
            let levels = Moments::merged(&levels);
            within("mean", &levels.mean, &merged.mean, bound(1e-13)).unwrap();
            within("m2", &levels.m2, &merged.m2, bound(2e-7)).unwrap();
        }
    }

    #[test]
    fn parts_without_values_change_no_bit() {
        let (some, none) = (moments(&values(3, 50)), Moments::empty(2));
        let of = |parts: &[&Moments]| {
            Moments::merged(&parts.iter().map(|&part| part.clone()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[&none, &some, &none]), some);
        assert_eq!(of(&[&none, &none]), none);
        assert_eq!(of(&[&some, &none, &some]), of(&[&some, &some]));
        assert_eq!(of(&[]).count, 0);
    }

    #[test]
    fn what_is_no_number_stays_in_its_channel() {
        let mut odd = moments(&values(4, 10));
        (odd.mean[0], odd.m2[0]) = (f64::NAN, f64::INFINITY);
        let merged = Moments::merged(&[moments(&values(5, 20)), odd]);
        assert!(merged.mean[0].is_nan() && merged.m2[0].is_nan());
        assert!(merged.mean[1].is_finite() && merged.m2[1].is_finite());
        let infinite = Moments {
            mean: vec![f64::INFINITY],
            ..Moments::empty(1)
        };
        assert_eq!(infinite.device_rows(), [f32::INFINITY, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn counts_beyond_f32_are_added_exactly() {
        let part = |count| Moments {
            count,
            ..Moments::empty(1)
        };
        let merged = Moments::merged(&[part(1 << 24), part(1), part(1 << 40)]);
        assert_eq!(merged.count, (1 << 24) + 1 + (1 << 40));
        assert_eq!(Moments::merged(&[part(u64::MAX), part(5)]).count, u64::MAX);
    }

    #[test]
    fn sums_add_in_f64() {
        let part = |g| Sums::of_rows(3, 1, &[g, -g]).unwrap();
        let merged = Sums::merged(&[part(1e8), part(1.0), part(-1e8), part(1.0)]);
        assert_eq!((merged.count, merged.rows.clone()), (12, vec![2.0, -2.0]));
        assert_eq!(merged.device_rows(), [2.0, -2.0, 12.0]);
        assert_eq!(merged.scaled(0.25), [0.5, -0.5]);
    }

    #[test]
    fn means_are_weighted_and_weight_0_counts_for_nothing() {
        let parts = [
            Weighted::new(3.0, &[1.0, 2.0]),
            Weighted::new(0.0, &[f32::NAN, 9.0]),
            Weighted::new(1.0, &[5.0, 2.0]),
        ];
        assert_eq!(Weighted::merged(&parts).means(), Some(vec![2.0, 2.0]));
        assert_eq!(Weighted::merged(&parts[1..2]).means(), None);
    }

    /// Each payload reads back, and no other length reads.
    #[test]
    fn a_body_of_another_length_is_none() {
        fn check<P: Payload + PartialEq + std::fmt::Debug>(payload: &P, length: u64) {
            let mut bytes = payload.bytes();
            assert_eq!(P::read(&bytes, length).as_ref(), Some(payload));
            // An empty body of the running statistics says that the rank is not the root.
            for end in 1..bytes.len() {
                assert!(P::read(&bytes[..end], length).is_none(), "{end}");
            }
            bytes.push(0);
            assert!(P::read(&bytes, length).is_none());
            for length in [0, length + 1, u64::MAX / 8, u64::MAX] {
                assert!(P::read(&bytes, length).is_none());
            }
        }
        let moments = moments(&values(6, 9));
        check(&moments, 2);
        check(
            &Recomputed {
                batches: 3,
                moments,
            },
            2,
        );
        check(&Sums::of_rows(3, 1, &[0.5, 2.0]).unwrap(), 1);
        check(&Weighted::new(1.0, &[4.0, 5.0]), 2);
        check(&OfRoot(Some(vec![1, 2, 3, 4])), 1);
        let sums = Weighted::new(1.0, &[4.0, 5.0]);
        check(&RunningSums { batches: 2, sums }, 1);
        assert_eq!(OfRoot::read(&[], 5), Some(OfRoot(None)));
    }
}
