//! The chain of trust, for every norm: the oracle checks the chained twins, each twin checks its kernel, and the oracle
//! checks whole programs on the device. A norm brings its cases.

pub mod chain;
pub mod composed;
pub mod cover;
pub mod deal;
pub mod device;
pub mod inputs;
pub mod mutants;
pub mod sample;
pub mod shaders;
pub mod shapes;
pub mod slots;

use std::fmt::Display;

use super::twin::MoveRunning;
use super::twin::memory::Memory;
use super::uniform::{Params, Settings};
use crate::gpu::Caps;
use crate::gpu::program::{Field, Program};
use crate::reference::compare::{Bound, within};

/// The properties of a device for which plans are made without one.
pub fn caps() -> Caps {
    let mut caps = Caps::webgpu();
    (caps.cpu, caps.cores, caps.wide_words, caps.lanes) = (true, 8, true, 8);
    caps
}

/// A problem, how it is to be solved, and the right answer. Its words are a problem line.
pub trait Case: Copy + Display + Send + Sync {
    type Settings: Settings;

    /// The twin of the norm's own file in slot `running`.
    const MOVE_RUNNING: MoveRunning<Self::Settings>;

    fn storage(&self) -> inputs::Storage;

    /// The program, or `None` for a case that does not exist: a strategy that cannot serve the shape, for instance.
    fn program(&self, caps: &Caps) -> Option<Program<Params<Self::Settings>>>;

    /// The program's buffers before it runs. Results are NaN, so that a hole is seen.
    fn memory(&self, program: &Program<Params<Self::Settings>>) -> Memory;

    /// The results by the oracle.
    fn expected(&self) -> Vec<(Field, Vec<f64>)>;

    /// How far f32 may be from f64.
    fn bound(&self, field: Field) -> Bound;

    /// How far rounding errors of f64 are amplified.
    fn amplification(&self) -> f64;

    /// The values of a field that f32 cannot tell, because an error of its last digits moves them by a whole unit of the
    /// storage type. They are not compared.
    fn untold(&self, _: Field) -> Vec<usize> {
        Vec::new()
    }

    /// Compares a field of a memory.
    fn compare(
        &self,
        field: Field,
        actual: &Memory,
        expected: &[f64],
        bound: Bound,
    ) -> Result<(), String> {
        let mut actual = inputs::whole_means(field, actual.values(field));
        let expected = inputs::whole_means(field, expected);
        for index in self.untold(field) {
            actual[index] = expected[index];
        }
        within(field.name(), &actual, &expected, bound)
            .map(drop)
            .map_err(|mismatch| format!("{self}: {mismatch}"))
    }

    /// Compares all results with the oracle.
    fn compare_with_oracle(
        &self,
        memory: &Memory,
        bound: impl Fn(Field) -> Bound,
    ) -> Result<(), String> {
        self.expected()
            .iter()
            .try_for_each(|(field, values)| self.compare(*field, memory, values, bound(*field)))
    }
}
