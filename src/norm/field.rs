//! The buffers of norms, by the names that they have in WGSL and in the buffers structs.

use crate::gpu::program::Field;

/// The input.
pub const X: Field = Field::activation("x");
/// The output.
pub const Y: Field = Field::activation("y").optional();
/// The gradient of the output.
pub const DY: Field = Field::activation("dy");
/// The gradient of the input.
pub const DX: Field = Field::activation("dx").optional();
/// The tensor that an epilogue adds.
pub const RESIDUAL: Field = Field::activation("residual").optional();
/// The gradient of the residual.
pub const DRESIDUAL: Field = Field::activation("dresidual").optional();
/// The output of the forward pass, which some epilogues read in backward.
pub const OUTPUT: Field = Field::activation("output").optional();
/// The sum of the input and the residual.
pub const ADDED: Field = Field::activation("added").optional();
/// The gradient of that sum by another way than the norm.
pub const DADDED: Field = Field::activation("dadded").optional();
/// Weight and bias.
pub const AFFINE: Field = Field::array("affine").optional();
/// The gradients of weight and bias.
pub const GRADS: Field = Field::array("grads").optional();
/// The statistics that a forward pass saves for backward.
pub const SAVED: Field = Field::array("saved");
/// Moments of a batch, or of its instances.
pub const MOMENTS: Field = Field::array("moments").optional();
/// Its rows: mean, what rounding left out of it, squared deviations, and count.
pub const MOMENT_ROWS: u64 = 4;
/// Moments, or sums, of the parts of a batch.
pub const PARTS: Field = Field::array("parts");
/// The sums that backward needs.
pub const SUMS: Field = Field::array("sums");
/// Memory whose content ends with a step.
pub const SCRATCH: Field = Field::array("scratch");
/// Running statistics.
pub const RUNNING: Field = Field::array("running").optional();
