//! Checks many cases side by side.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Held by the test that uses all cores. Two at a time took a third longer than one after the other.
static TURN: Mutex<()> = Mutex::new(());

/// Failures that a test prints before it gives up.
const ENOUGH: usize = 8;

/// Checks every case on as many threads as there are cores, and counts those of use. Each thread has its own test device, and
/// two threads take their cases from the two ends of one list: in a list sorted by kernels, few kernels are compiled twice.
///
/// Panics with the failures, one on a line.
pub fn side_by_side<T: Sync>(
    cases: &[T],
    check: impl Fn(&T) -> Result<bool, String> + Sync,
) -> usize {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let lists: Vec<_> = cases
        .chunks(cases.len().div_ceil(cores.div_ceil(2)).max(1))
        .map(|chunk| Mutex::new(chunk.iter().collect::<VecDeque<&T>>()))
        .collect();
    let failures = Mutex::new(Vec::new());
    let work = &|thread: usize| {
        let next = || {
            let mut list = lists.get(thread / 2)?.lock().unwrap();
            match thread % 2 {
                0 => list.pop_front(),
                _ => list.pop_back(),
            }
        };
        let mut useful = 0;
        while let Some(case) = next() {
            match check(case) {
                Ok(used) => useful += usize::from(used),
                Err(failure) => failures.lock().unwrap().push(failure),
            }
            if failures.lock().unwrap().len() >= ENOUGH {
                break;
            }
        }
        useful
    };
    let useful = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|n| scope.spawn(move || work(n))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|count| count.unwrap_or_else(|panic| resume_unwind(panic)))
            .sum()
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    useful
}
