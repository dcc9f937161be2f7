//! The cases that a device runs: of many, those that have few kernels, because to compile kernels takes the time.

use std::collections::HashMap;

use super::{Case, caps};
use crate::gpu::program::KernelSpec;

/// The file in a slot, or the value of a constant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Setting {
    File(&'static str, &'static str),
    Number(&'static str, u32),
}

/// The distinct kernels of many cases, and of each the numbers of its pairs of settings.
#[derive(Default)]
struct Kernels {
    numbers: HashMap<KernelSpec, usize>,
    pairs: Vec<Vec<usize>>,
    numbers_of_pairs: HashMap<(&'static str, [Setting; 2]), usize>,
}

impl Kernels {
    /// The number of a kernel.
    fn number(&mut self, kernel: KernelSpec) -> usize {
        if let Some(&number) = self.numbers.get(&kernel) {
            return number;
        }
        let files = kernel.choices.iter();
        let files = files.map(|&(slot, file)| Setting::File(slot, file));
        let values = kernel.constants.iter();
        let values = values.map(|&(name, value)| Setting::Number(name, value));
        let settings: Vec<_> = files.chain(values).collect();
        let mut pairs = Vec::new();
        for (i, &a) in settings.iter().enumerate() {
            for &b in &settings[..i] {
                let next = self.numbers_of_pairs.len();
                let pair = (kernel.name, [a, b]);
                pairs.push(*self.numbers_of_pairs.entry(pair).or_insert(next));
            }
        }
        let number = self.pairs.len();
        self.pairs.push(pairs);
        self.numbers.insert(kernel, number);
        number
    }
}

/// Cases with few kernels, sorted by those: if a kernel has two settings in one of `cases`, it has them both in one of
/// these. Most faults of a kernel take no more than two of its settings. With them, the first `always` cases, which exist, and
/// all that need no further kernel.
pub fn covering<C: Case>(cases: Vec<C>, mut always: usize) -> Vec<C> {
    let caps = caps();
    let mut texts = HashMap::new();
    let mut kernels = Kernels::default();
    // Cases, and the numbers of their kernels.
    let mut left: Vec<(C, Vec<usize>)> = Vec::new();
    for case in cases {
        if let Some(program) = case.program(&caps) {
            let numbers = program.dispatches.iter().map(|dispatch| {
                let kernel = &dispatch.kernel;
                let text = texts
                    .entry((kernel.name, kernel.choices.clone()))
                    .or_insert_with(|| program.composed(dispatch).expect("a kernel"));
                kernels.number(kernel.reduced(text))
            });
            left.push((case, numbers.collect()));
        }
    }
    let mut met = vec![false; kernels.numbers_of_pairs.len()];
    let mut compiled = vec![false; kernels.pairs.len()];
    let mut chosen = Vec::new();
    // Those first that bring many new pairs, so that fewer suffice.
    for least in [64, 32, 16, 8, 4, 2, 1] {
        left.retain(|(case, numbers)| {
            let pairs = || numbers.iter().flat_map(|&number| &kernels.pairs[number]);
            let new = pairs().filter(|&&pair| !met[pair]).count();
            let first = always > 0;
            always = always.saturating_sub(1);
            let enough = first || new >= least;
            if enough {
                pairs().for_each(|&pair| met[pair] = true);
                numbers.iter().for_each(|&number| compiled[number] = true);
                chosen.push((*case, numbers.clone()));
            }
            !enough
        });
    }
    assert!(met.iter().all(|&met| met));
    left.retain(|(_, numbers)| numbers.iter().all(|&number| compiled[number]));
    chosen.extend(left);
    let mut names = vec![String::new(); kernels.pairs.len()];
    for (kernel, number) in kernels.numbers {
        names[number] = format!("{kernel:?}");
    }
    chosen.sort_by_key(|(_, numbers)| numbers.iter().map(|&n| &names[n]).collect::<Vec<_>>());
    chosen.into_iter().map(|(case, _)| case).collect()
}
