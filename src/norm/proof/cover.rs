//! The cases that a device runs. They have few kernels, because compiling kernels takes most of the time.

use std::collections::{HashMap, HashSet};

use super::composed::ComposedKernels;
use super::{Case, caps};
use crate::gpu::program::KernelSpec;

/// The file in a slot, or the value of a constant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Setting {
    File(&'static str, &'static str),
    Number(&'static str, u32),
}

/// Constants that say how many of something there are. Beside other settings they count as one or several; each number is met
/// by itself.
const SIZES: [&str; 4] = ["COLUMNS", "REGISTER_VECTORS", "WIDTH", "WORKGROUP"];

/// Cases that run the same kernels once more, on other shapes.
const AGAIN: usize = 700;

impl Setting {
    /// The setting as it is met together with others.
    fn beside_others(self) -> Self {
        match self {
            Self::Number(name, value) if SIZES.contains(&name) => Self::Number(name, value.min(2)),
            other => other,
        }
    }
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
        let mut met: Vec<[Setting; 2]> = settings.iter().map(|&a| [a, a]).collect();
        for (i, a) in settings.iter().enumerate() {
            let before = settings[..i].iter();
            met.extend(before.map(|b| [a.beside_others(), b.beside_others()]));
        }
        let pair = |pair| {
            let next = self.numbers_of_pairs.len();
            let number = self.numbers_of_pairs.entry((kernel.name, pair));
            *number.or_insert(next)
        };
        let pairs = met.into_iter().map(pair).collect();
        let number = self.pairs.len();
        self.pairs.push(pairs);
        self.numbers.insert(kernel, number);
        number
    }
}

/// A case, and the numbers of its kernels.
type Numbered<C> = (C, Vec<usize>);

/// Cases with few kernels, sorted by those: if a kernel has two settings in one of `cases`, it has them both in one of
/// these, sizes as far as they are one or several. Most faults of a kernel take no more than two of its settings. The first
/// `always` of `cases`, which exist, are among them. Of `cases` and `others` that need no further kernel, the first
/// [`AGAIN`] that have the same kernels are.
pub fn covering<C: Case>(always: usize, cases: Vec<C>, others: Vec<C>) -> Vec<C> {
    let caps = caps();
    let mut composed = ComposedKernels::default();
    let mut kernels = Kernels::default();
    let mut numbered = |cases: Vec<C>| -> Vec<Numbered<C>> {
        let existing = cases.into_iter().filter_map(|case| {
            let program = case.program(&caps)?;
            let numbers = program.dispatches.iter().map(|dispatch| {
                let text = composed.of(&program, dispatch);
                kernels.number(dispatch.kernel.reduced(text))
            });
            Some((case, numbers.collect()))
        });
        existing.collect()
    };
    let mut left = numbered(cases);
    let wanted: HashSet<usize> = left
        .iter()
        .flat_map(|(_, numbers)| numbers)
        .copied()
        .collect();
    let others = numbered(others);
    let mut met = vec![false; kernels.numbers_of_pairs.len()];
    let mut compiled = vec![false; kernels.pairs.len()];
    let mut chosen = Vec::new();
    let mut choose = |from: &mut Vec<Numbered<C>>, least: usize| {
        from.retain(|(case, numbers)| {
            let pairs = || numbers.iter().flat_map(|&number| &kernels.pairs[number]);
            let enough = pairs().filter(|&&pair| !met[pair]).count() >= least;
            if enough {
                pairs().for_each(|&pair| met[pair] = true);
                numbers.iter().for_each(|&number| compiled[number] = true);
                chosen.push((*case, numbers.clone()));
            }
            !enough
        });
    };
    let mut named: Vec<_> = left.drain(..always.min(left.len())).collect();
    choose(&mut named, 0);
    // Those first that bring many new pairs, so that fewer suffice.
    for least in [64, 32, 16, 8, 4, 2, 1] {
        choose(&mut left, least);
    }
    let mut pairs = wanted.iter().flat_map(|&number| &kernels.pairs[number]);
    assert!(pairs.all(|&pair| met[pair]));
    left.extend(others);
    let mut again = HashMap::<Vec<usize>, usize>::new();
    left.retain(|(_, numbers)| {
        let times = again.entry(numbers.clone()).or_default();
        *times += 1;
        *times <= AGAIN && numbers.iter().all(|&number| compiled[number])
    });
    chosen.extend(left);
    let mut names = vec![String::new(); kernels.pairs.len()];
    for (kernel, number) in kernels.numbers {
        names[number] = format!("{kernel:?}");
    }
    chosen.sort_by_key(|(_, numbers)| numbers.iter().map(|&n| &names[n]).collect::<Vec<_>>());
    chosen.into_iter().map(|(case, _)| case).collect()
}
