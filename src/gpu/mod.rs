//! The only wgpu plumbing: devices, compiled kernels, tensors, bound steps. Knows no norm.

mod buffer;
mod caps;
pub(crate) mod compiled;
pub(crate) mod compose;
mod guard;
mod kernels;
mod open;
pub(crate) mod program;
pub(crate) mod step;
mod submit;
mod tensor;
mod transfer;
mod under_way;
mod wait;

pub use caps::{Caps, F16Conversion};
pub use compose::{Access, Form};
pub use kernels::Kernels;
#[cfg(test)]
pub use open::test_gpu;
pub use open::{Gpu, GpuOptions};
pub use program::{Launch, LaunchBinding};
pub use step::Step;
pub use tensor::Tensor;
pub(crate) use transfer::Reading;
pub(crate) use wait::wait;
