//! The only wgpu plumbing: devices, compiled kernels, tensors, bound steps. Knows no norm.

mod caps;
pub(crate) mod compose;
mod guard;
mod kernels;
mod open;
pub(crate) mod program;
pub(crate) mod step;
mod tensor;
mod wait;

pub use caps::Caps;
pub use kernels::Kernels;
pub use open::{Gpu, GpuOptions};
pub use step::Step;
pub use tensor::Tensor;
pub(crate) use wait::wait;

/// A device for each thread of this crate's tests, because a software device compiles its kernels on one thread. A
/// machine without one fails them. Leaked: a thread's last moments are no place to close a device.
#[cfg(test)]
pub fn test_gpu() -> &'static Gpu {
    thread_local! {
        static GPU: &'static Gpu = Box::leak(Box::new(
            Gpu::open().unwrap_or_else(|error| panic!("the tests need a GPU: {error}")),
        ));
    }
    GPU.with(|gpu| *gpu)
}
