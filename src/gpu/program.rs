//! What a plan comes to: dispatches in order, and the buffers that they bind. Plain data, no device.

use std::ops::Range;

use super::compose::Choice;
use super::compose::Source;

/// A buffer that kernels bind, by what it is to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The input.
    X,
    /// The output.
    Y,
    /// The gradient with respect to the output.
    Dy,
    /// The gradient with respect to the input.
    Dx,
    /// What is added to the normalized values.
    Residual,
    /// The gradient with respect to the residual.
    Dresidual,
    /// The output of the forward pass, which backward reads.
    Output,
    /// Weight and bias.
    Affine,
    /// The gradients with respect to weight and bias.
    Grads,
    /// The running statistics.
    Running,
    /// The batch statistics that backward needs.
    Saved,
    /// What backward normalizes by: the saved statistics, or the running ones.
    Statistics,
    /// Moments of several parts of a batch.
    Sets,
    /// Moments of a batch.
    Moments,
    /// The sums that backward needs.
    Sums,
    /// Memory that holds nothing between two encodings.
    Scratch,
}

impl Field {
    /// The name of the field in the buffers structs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Y => "y",
            Self::Dy => "dy",
            Self::Dx => "dx",
            Self::Residual => "residual",
            Self::Dresidual => "dresidual",
            Self::Output => "output",
            Self::Affine => "affine",
            Self::Grads => "grads",
            Self::Running => "running",
            Self::Saved => "saved",
            Self::Statistics => "statistics",
            Self::Sets => "sets",
            Self::Moments => "moments",
            Self::Sums => "sums",
            Self::Scratch => "scratch",
        }
    }

    /// Whether its values are stored in the problem's storage type.
    pub const fn is_activation(self) -> bool {
        matches!(
            self,
            Self::X
                | Self::Y
                | Self::Dy
                | Self::Dx
                | Self::Residual
                | Self::Dresidual
                | Self::Output
        )
    }

    /// Whether a configuration may leave the buffer out.
    pub const fn is_optional(self) -> bool {
        matches!(
            self,
            Self::Affine
                | Self::Grads
                | Self::Running
                | Self::Y
                | Self::Dx
                | Self::Residual
                | Self::Dresidual
                | Self::Output
        )
    }
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// One storage binding of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The buffer, or `None` for a value that the configuration leaves out.
    pub field: Option<Field>,
    /// How it is used.
    pub access: Access,
    /// The bytes bound, counted from the start of the caller's slice.
    pub bytes: Range<u64>,
}

/// A kernel as it is compiled: a file, the choices of what it imports, and its override constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelSpec {
    /// The stem of the file, and the name of the entry point.
    pub name: &'static str,
    /// What names that it imports stand for.
    pub choices: Vec<Choice>,
    /// The values of override constants.
    pub overrides: Vec<(&'static str, u32)>,
}

/// One dispatch; `P` is the uniform of the norm's kernels, bound at 0, with the storage bindings after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch<P> {
    /// What is run.
    pub kernel: KernelSpec,
    /// The uniform.
    pub params: P,
    /// The storage bindings, in the kernel's order.
    pub bindings: Vec<Binding>,
    /// How many workgroups.
    pub groups: u32,
}

impl<P> Dispatch<P> {
    /// The grid, folded into two dimensions where one does not hold it; kernels skip what is too much.
    pub fn grid(&self, max_groups: u32) -> [u32; 2] {
        let rows = self.groups.div_ceil(max_groups).max(1);
        [self.groups.div_ceil(rows), rows]
    }
}

/// A buffer that a program needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub field: Field,
    /// Its size in bytes, a multiple of 4; 0 if it is not touched.
    pub bytes: u64,
}

/// A plan's dispatches and what they need.
#[derive(Clone, Debug)]
pub struct Program<P> {
    /// The WGSL files that the kernels are composed of.
    pub sources: &'static [&'static [Source]],
    /// In order; each sees what those before it wrote.
    pub dispatches: Vec<Dispatch<P>>,
    /// Every buffer that a dispatch touches.
    pub needs: Vec<Need>,
}

impl<P> Program<P> {
    /// The size that a buffer must have, in bytes; 0 if the program does not touch it.
    pub fn bytes(&self, field: Field) -> u64 {
        self.needs
            .iter()
            .find(|need| need.field == field)
            .map_or(0, |need| need.bytes)
    }

    /// Whether any dispatch writes the buffer.
    pub fn writes(&self, field: Field) -> bool {
        self.dispatches
            .iter()
            .flat_map(|dispatch| &dispatch.bindings)
            .any(|b| b.field == Some(field) && b.access == Access::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_its_workgroups_within_the_limit() {
        let dispatch = |groups| Dispatch {
            kernel: KernelSpec {
                name: "",
                choices: vec![],
                overrides: vec![],
            },
            params: (),
            bindings: vec![],
            groups,
        };
        for groups in [0, 1, 2, 65_535, 65_536, 65_537, 1_000_003, 4_000_000_000] {
            let [x, y] = dispatch(groups).grid(65_535);
            assert!(x <= 65_535 && y <= 65_535, "{groups}");
            assert!(u64::from(x) * u64::from(y) >= u64::from(groups), "{groups}");
        }
    }
}
