//! The only wgpu plumbing: devices, compiled kernels, tensors, bound steps. Knows no norm.

mod caps;
pub(crate) mod compose;
mod kernels;
mod open;
pub(crate) mod program;
pub(crate) mod step;
mod tensor;
mod wait;

pub use caps::Caps;
pub use kernels::Kernels;
pub use open::Gpu;
pub use step::Step;
pub use tensor::Tensor;
pub(crate) use wait::wait;

/// The device that the tests of this crate share. A machine without one fails them.
#[cfg(test)]
pub fn test_gpu() -> &'static Gpu {
    static GPU: std::sync::OnceLock<Gpu> = std::sync::OnceLock::new();
    GPU.get_or_init(|| Gpu::open().unwrap_or_else(|error| panic!("the tests need a GPU: {error}")))
}
