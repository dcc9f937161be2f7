//! Twins against the oracle, kernels against their twins, and programs against the oracle.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::deal::side_by_side;
use super::device::on_device;
use super::{Case, caps, inputs};
use crate::gpu::program::{Dispatch, Field, Program};
use crate::gpu::{Kernels, test_gpu};
use crate::norm::field::SCRATCH;
use crate::norm::kernels;
use crate::norm::twin::memory::Memory;
use crate::norm::twin::{MoveRunning, Run};
use crate::norm::uniform::{Params, Settings};
use crate::reference::compare::Bound;

/// The twin of a kernel.
fn twin<S: Settings>(name: &str) -> fn(&mut Run<'_, S>) {
    match name {
        "add_sums" => kernels::add_sums::twin,
        "stats" => kernels::stats::twin,
        "finalize" => kernels::finalize::twin,
        "normalize" => kernels::normalize::twin,
        "forward_reread" => kernels::forward_reread::twin,
        "forward_resident" => kernels::forward_resident::twin,
        "backward_frozen" => kernels::backward_frozen::twin,
        "backward_rows" => kernels::backward_rows::twin,
        "backward_stats" => kernels::backward_stats::twin,
        "backward_normalize" => kernels::backward_normalize::twin,
        "backward_reread" => kernels::backward_reread::twin,
        "backward_resident" => kernels::backward_resident::twin,
        other => panic!("{other} has no twin"),
    }
}

/// Runs the twin of one dispatch on memory.
fn run<S: Settings>(
    dispatch: &Dispatch<Params<S>>,
    memory: &mut Memory,
    move_running: MoveRunning<S>,
) {
    twin(dispatch.kernel.name)(&mut Run::new(dispatch, memory, move_running));
}

/// Runs the twins of all dispatches of each case, and compares with the oracle. Counts the cases that exist.
pub fn twins_agree_with_the_oracle<C: Case>(cases: &[C]) -> usize {
    side_by_side(cases, |case| {
        let Some(program) = case.program(&caps()) else {
            return Ok(false);
        };
        let mut memory = case.memory(&program);
        for dispatch in &program.dispatches {
            run(dispatch, &mut memory, C::MOVE_RUNNING);
        }
        let bound = Bound::new(1e-11, 1e-13 * case.amplification());
        case.compare_with_oracle(&memory, |_| bound)?;
        Ok(true)
    })
}

/// Runs the program on the device twice, which must give the same bits, and compares with the oracle.
pub fn check_on_device<C: Case>(
    case: &C,
    kernels: &Kernels,
    program: &Program<Params<C::Settings>>,
) -> Result<(), String> {
    let before = case.memory(program);
    let once = on_device(case, kernels, program, &before)?;
    let twice = on_device(case, kernels, program, &before)?;
    if let Some(field) = differing(program, &once, &twice) {
        return Err(format!("{case}: {field} differs from run to run"));
    }
    case.compare_with_oracle(&once, |field| case.bound(field))
}

/// The name of a buffer that has other bits in one memory than in the other.
fn differing<U>(program: &Program<U>, one: &Memory, other: &Memory) -> Option<&'static str> {
    let bits = |memory: &Memory, field| -> Vec<u64> {
        let values = memory.values(field).iter();
        values.map(|v| v.to_bits()).collect()
    };
    let mut fields = program.needs.iter().map(|need| need.field);
    let found = fields.find(|&field| bits(one, field) != bits(other, field));
    found.map(Field::name)
}

/// Whether two ways to solve one problem give the same bits on the device.
pub fn have_the_same_bits<C: Case>(one: &C, other: &C) {
    let kernels = test_gpu().kernels();
    let run = |case: &C| {
        let program = case.program(kernels.caps()).expect("it exists");
        let before = case.memory(&program);
        let after = on_device(case, kernels, &program, &before);
        (after.unwrap_or_else(|error| panic!("{error}")), program)
    };
    let ((one_after, program), (other_after, _)) = (run(one), run(other));
    assert_eq!(
        differing(&program, &one_after, &other_after),
        None,
        "{one}, {other}"
    );
}

/// Runs each dispatch on the device by itself, from the twin's memory before it, and compares with the twin's memory after
/// it.
fn check_dispatches<C: Case>(
    case: &C,
    kernels: &Kernels,
    program: &Program<Params<C::Settings>>,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let mut memory = case.memory(program);
    for dispatch in &program.dispatches {
        memory = inputs::rounded(case.storage(), memory);
        let before = memory.clone();
        run(dispatch, &mut memory, C::MOVE_RUNNING);
        let name = dispatch.kernel.name;
        if !wanted(name) {
            continue;
        }
        let alone = Program {
            dispatches: vec![dispatch.clone()],
            ..program.clone()
        };
        let actual = on_device(case, kernels, &alone, &before)?;
        let (mut actual, mut wanted) = (actual, memory.clone());
        if dispatch.kernel.choices.contains(&("monoid", "moments")) {
            // Two sums of the same value.
            for memory in [&mut actual, &mut wanted] {
                let entries = inputs::whole_entries(memory.values(SCRATCH));
                if !entries.is_empty() {
                    memory.insert(SCRATCH, entries);
                }
            }
        }
        for need in &program.needs {
            let field = need.field;
            case.compare(field, &actual, wanted.values(field), case.bound(field))
                .map_err(|mismatch| format!("{mismatch} (after {name} alone)"))?;
        }
    }
    Ok(())
}

/// What was checked on the device.
#[derive(Debug, Default)]
pub struct Checked {
    pub programs: usize,
    /// Dispatches that were compared with their twins, by kernel.
    pub dispatches: BTreeMap<&'static str, usize>,
}

/// Checks every case on the device, and of each kernel one dispatch in `turns` against its twin.
pub fn programs_agree_with_the_oracle<C: Case>(cases: &[C], turns: usize) -> Checked {
    let seen = Mutex::new(BTreeMap::<&'static str, usize>::new());
    let programs = side_by_side(cases, |case| {
        let kernels = test_gpu().kernels();
        let Some(program) = case.program(kernels.caps()) else {
            return Ok(false);
        };
        check_on_device(case, kernels, &program)?;
        let due: Vec<_> = {
            let mut seen = seen.lock().unwrap();
            let names = program
                .dispatches
                .iter()
                .map(|dispatch| dispatch.kernel.name);
            let mut due: Vec<_> = names.collect();
            due.dedup();
            due.retain(|&name| {
                let count = seen.entry(name).or_default();
                *count += 1;
                // Rare kernels are checked always.
                count.is_multiple_of(turns) || *count < 60
            });
            due
        };
        if !due.is_empty() {
            check_dispatches(case, kernels, &program, |name| due.contains(&name))?;
        }
        Ok(true)
    });
    let dispatches = seen.into_inner().unwrap();
    let checked = |count: usize| {
        if count < 60 {
            count
        } else {
            59 + count / turns - 59 / turns
        }
    };
    Checked {
        programs,
        dispatches: dispatches
            .into_iter()
            .map(|(name, count)| (name, checked(count)))
            .collect(),
    }
}
