//! Normalization layers as WGSL compute shaders on wgpu: BatchNorm, GroupNorm, InstanceNorm, LayerNorm and RMSNorm, forward
//! and backward, with torch's names and numbers. The mode is the method instead of a flag, and plans are guests in the
//! caller's encoder. The page [`choose`] says which norm serves what.
//!
//! # A layer
//!
//! ```no_run
//! use wgpu_norm::{BatchNormConfig, Gpu, Shape};
//!
//! let gpu = Gpu::open()?; // or Gpu::from_wgpu(device, queue)
//! let mut bn = BatchNormConfig::new(2).build(&gpu)?; // torch's defaults
//! let x = gpu.tensor(Shape::nc(3, 2), &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0])?;
//! let (y, saved) = bn.train(&x)?; // statistics of the batch; moves the running ones, on the GPU
//! let gradients = bn.backward(saved, &y)?; // consumes `saved`: no second and no stale backward
//! let y = bn.eval(&x)?; // running statistics; changes nothing
//! println!("{:?} {:?}", y.read()?, gradients.weight()?);
//! # Ok::<(), wgpu_norm::Error>(())
//! ```
//!
//! Each call is one submission, and returns before it is done. `read`, `weight` and `state` wait.
//!
//! The other norms have one forward pass for training and evaluation, and no running statistics. (For an InstanceNorm that has
//! some, there is [`TrackedInstanceNorm`].)
//!
//! ```no_run
//! use wgpu_norm::group_norm::Epilogue;
//! use wgpu_norm::{Gpu, GroupNormConfig, LayerNormConfig, RmsNormConfig, Shape};
//!
//! # fn example(gpu: Gpu, values: &[f32], tokens: &[f32]) -> Result<(), wgpu_norm::Error> {
//! let x = gpu.tensor(Shape::nchw(2, 64, 56, 56), values)?;
//! let norm = GroupNormConfig::new(32, 64).epilogue(Epilogue::Silu).build(&gpu)?;
//! let (y, saved) = norm.train(&x)?;
//! let gradients = norm.backward(saved, &y)?;
//!
//! let tokens = gpu.tensor(Shape::nlc(4, 1024, 768), tokens)?; // batch, length, model
//! let y = LayerNormConfig::new(768).build(&gpu)?.eval(&tokens)?;
//! let y = RmsNormConfig::new(768).eps(1e-6).build(&gpu)?.eval(&tokens)?;
//! # Ok(())
//! # }
//! ```
//!
//! Weight and bias may be each sample's own, as in AdaLN, AdaIN and FiLM. A call takes them then, and backward gives their
//! gradients:
//!
//! ```no_run
//! use wgpu_norm::layer_norm::Input;
//! use wgpu_norm::{Gpu, LayerNormConfig, Shape};
//!
//! # fn example(gpu: Gpu, tokens: &[f32], modulation: &[f32], dy: wgpu_norm::Tensor) -> Result<(), wgpu_norm::Error> {
//! let x = gpu.tensor(Shape::nlc(4, 1024, 768), tokens)?;
//! let modulation = gpu.tensor(Shape::nc(2 * 4, 768), modulation)?; // 4 lines of scale, then 4 lines of shift
//! let norm = LayerNormConfig::new(768).per_sample(true).unit_offset(true).build(&gpu)?;
//! let (y, saved) = norm.train(Input::from(&x).affine(&modulation))?; // x_hat * (1 + scale) + shift
//! let gradients = norm.backward(saved, &dy)?;
//! let (scale, shift) = (gradients.weight()?, gradients.bias()?); // 4 * 768 values each
//! # Ok(())
//! # }
//! ```
//!
//! # What the norms have
//!
//! | norm | statistics of | weight and bias for | running statistics | plans in pieces |
//! |---|---|---|---|---|
//! | [`BatchNorm`] | a channel of the batch | a channel | yes, or without | yes |
//! | [`GroupNorm`] | some channels of a sample | a channel | no | no |
//! | [`InstanceNorm`] | a channel of a sample | a channel, none by default | no; [`TrackedInstanceNorm`] yes | no |
//! | [`LayerNorm`] | a row of neighbours in memory | a value of a row | no | no |
//! | [`RmsNorm`] | a row of neighbours in memory | a value of a row, no bias by default | no | no |
//!
//! All of them have both layouts and every rank, f32, f16 and bf16, the epilogues ReLU, add+ReLU and SiLU, backward with
//! gradients by choice, plans, plans as data, problem lines, and a `Tuner`, which measures which strategy is fastest.
//!
//! # Updating the weights
//!
//! The parameters and their gradients are two buffers of the same layout: rows `[weight: C] [bias: C]` of f32. An optimizer
//! is a kernel over both.
//!
//! ```no_run
//! # fn sgd(parameters: &wgpu::Buffer, gradients: &wgpu::Buffer) {}
//! use wgpu_norm::batch_norm::{Destination, Wanted};
//! # fn example(
//! #     mut bn: wgpu_norm::BatchNorm, x: [wgpu_norm::Tensor; 2], dy: [wgpu_norm::Tensor; 2],
//! # ) -> Result<(), wgpu_norm::Error> {
//! # let [x, x2] = x;
//! # let [dy, dy2] = dy;
//!
//! let (_, saved) = bn.train(&x)?;
//! let gradients = bn.backward(saved, &dy)?;
//!
//! // A second batch adds its gradients to those of the first. Its dx overwrites dy.
//! let (_, saved) = bn.train(&x2)?;
//! let wanted = Wanted::default().dx(Some(Destination::InPlace)).accumulate(gradients.buffer());
//! let gradients = bn.backward_with(saved, &dy2, wanted)?;
//!
//! if let (Some(parameters), Some(gradients)) = (bn.affine_buffer(), gradients.buffer()) {
//!     sgd(parameters, gradients); // your kernel
//! }
//! let rows = bn.config().affine_rows(); // the byte ranges of weight and bias, if your kernel tells them apart
//! # Ok(())
//! # }
//! ```
//!
//! # To a file, and into other weights
//!
//! `state` saves layers of all norms to a safetensors file and loads them, under torch's names or other systems'. [`fold`] puts
//! a BatchNorm into the weights of the layer before it.
//!
//! # One batch on several devices
//!
//! [`SyncBatchNorm`] takes its statistics from the batches of several ranks together: processes over MPI, or threads with a
//! device each. The page [`sync`] says what is exchanged, and what happens when a rank fails.
//!
//! # A step in the caller's encoder
//!
//! A plan is made once for a shape, bound once to buffers, and recorded any number of times. Whatever can fail, fails before
//! recording. Recording allocates nothing, and neither touches the queue nor waits.
//!
//! ```no_run
//! use wgpu_norm::batch_norm::{TrainBuffers, TrainPlan};
//! use wgpu_norm::{BatchNormConfig, Kernels, Shape};
//!
//! # fn example(
//! #     device: wgpu::Device, x: wgpu::Buffer, y: wgpu::Buffer, affine: wgpu::Buffer, running: wgpu::Buffer,
//! #     saved: wgpu::Buffer, scratch: wgpu::Buffer, mut encoder: wgpu::CommandEncoder,
//! # ) -> Result<(), wgpu_norm::Error> {
//! let kernels = Kernels::new(&device)?;
//! let config = BatchNormConfig::new(64);
//! let plan = TrainPlan::new(&kernels, Shape::nchw(32, 64, 56, 56), &config)?;
//! // x and y: plan.activation_bytes(); saved: plan.saved_bytes()
//! let buffers = TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
//!     .affine(affine.slice(..)) // plan.affine_bytes(), from config.initial_affine()
//!     .running(running.slice(..)) // plan.running_bytes(), from config.initial_running()
//!     .scratch(scratch.slice(..)); // plan.scratch_bytes()
//! let step = plan.bind(&buffers)?;
//! step.encode(&mut encoder); // or step.record(&mut pass); a thousand times
//! # Ok(())
//! # }
//! ```
//!
//! # A plan as data
//!
//! Engines that own their device launch the kernels themselves. A plan gives them composed WGSL, overrides, the bytes of the
//! uniform, bindings and grid. No device is needed for that.
//!
//! ```
//! use wgpu_norm::batch_norm::{TrainOptions, TrainPlan};
//! use wgpu_norm::{BatchNormConfig, Caps, Form, Shape};
//!
//! let config = BatchNormConfig::new(8);
//! let shape = Shape::nhwc(32, 56, 56, 8);
//! let form = Form::default().read_write(true).constants(true);
//! let launches = TrainPlan::describe(&Caps::webgpu(), shape, &config, TrainOptions::default(), form)?;
//! for launch in &launches {
//!     println!("{} on {:?} workgroups", launch.label, launch.grid);
//! }
//! assert_eq!(launches[0].entry_point, "stats");
//! # Ok::<(), wgpu_norm::PlanError>(())
//! ```
//!
//! # What differs from torch
//!
//! * There is no `training` flag: [`train`](BatchNorm::train), [`eval`](BatchNorm::eval) and
//!   [`frozen`](BatchNorm::frozen) are methods.
//! * Variances are sums of squared deviations, never `E[x^2] - E[x]^2`, and `y` is computed from `x - mean`, never as
//!   `x * scale + shift`: a mean of ten thousand deviations costs no digits.
//! * An empty batch is allowed. Its output is empty, its parameter gradients are zero, and running statistics and their
//!   counter stay as they are. (torch counts it.)
//! * `eps` must be positive for statistics of the batch. If it is zero with running statistics, a channel whose variance is
//!   zero becomes its bias; torch divides by zero.
//! * Weight and bias are independent switches.
//! * Tensors are in memory order. LayerNorm and RMSNorm take a number, `normalized_size`, for torch's `normalized_shape`: the
//!   product of the innermost extents.
//! * InstanceNorm with running statistics is [`TrackedInstanceNorm`], and RMSNorm's default `eps` is that of f32 for every storage type. The page
//!   [`choose`](choose#where-torch-surprises) has more.
//!
//! # Cargo features
//!
//! | feature | default | what it enables |
//! |---|---|---|
//! | `vulkan` | yes | Vulkan on Linux, Windows and Android |
//! | `metal` | yes | Metal on macOS and iOS |
//! | `dx12` | yes | DirectX 12 on Windows |
//! | `gles` | no | OpenGL ES 3 |
//! | `safetensors` | yes | [`state`], which saves and loads layers |
//! | `mpi` | no | the engine `sync::Mpi`; needs an MPI with `mpicc`, and libclang |
//!
//! With `default-features = false` the application's own features of wgpu decide.
//!
//! # How it is built
//!
//! The page [`architecture`] explains rooms, words, kernels and recipes, and answers "my numbers differ from torch". The page
//! [`architecture::measurements`] says what was learnt by measuring, and answers "my GPU is slower than the copy".

pub mod architecture;
pub mod batch_norm;
pub mod choose;
mod convert;
mod dtype;
mod error;
pub mod fold;
mod gpu;
pub mod group_norm;
pub mod instance_norm;
pub mod layer_norm;
mod norm;
pub mod reference;
pub mod rms_norm;
mod shape;
#[cfg(feature = "safetensors")]
pub mod state;
pub mod sync;
mod tracked;
mod word;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use dtype::{Dtype, Element, Problem};
#[cfg(feature = "safetensors")]
pub use error::StateError;
pub use error::{
    BindError, Error, FoldError, GpuError, PlanError, SyncError, TensorError, TuneError,
};
pub use gpu::{
    Access, Caps, F16Conversion, Form, Gpu, GpuOptions, Kernels, Launch, LaunchBinding, Tensor,
};
pub use group_norm::{GroupNorm, GroupNormConfig};
/// The crate of [`f16`](half::f16) and [`bf16`](half::bf16), in the version that [`Element`] is implemented for.
pub use half;
pub use instance_norm::{InstanceNorm, InstanceNormConfig};
pub use layer_norm::{LayerNorm, LayerNormConfig};
pub use norm::f16::caps_for;
pub use norm::sample::{Line as SampleLine, SampleNorm};
pub use rms_norm::{RmsNorm, RmsNormConfig};
pub use shape::{Layout, Shape, ShapeError};
pub use sync::SyncBatchNorm;
pub use tracked::TrackedInstanceNorm;
/// The version of wgpu that the crate's signatures use.
pub use wgpu;
pub use word::WordError;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "safetensors")]
    #[test]
    fn state_files_are_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<state::StateFile>();
        check::<state::LoadReport>();
    }

    /// Layers and plans move to worker threads, and several threads share them.
    #[test]
    fn public_types_are_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Gpu>();
        check::<GpuOptions>();
        check::<Kernels>();
        check::<Caps>();
        check::<Tensor>();
        check::<Problem>();
        check::<Error>();
        check::<BatchNorm>();
        check::<GroupNorm>();
        check::<InstanceNorm>();
        check::<LayerNorm>();
        check::<RmsNorm>();
        check::<group_norm::ForwardPlan>();
        check::<group_norm::BackwardPlan>();
        check::<group_norm::BackwardError>();
        check::<SampleLine<GroupNormConfig>>();
        check::<batch_norm::Saved>();
        check::<batch_norm::Gradients>();
        check::<batch_norm::State>();
        check::<batch_norm::TrainPlan>();
        check::<batch_norm::EvalPlan>();
        check::<batch_norm::BackwardPlan>();
        check::<batch_norm::Step>();
        check::<batch_norm::Tuner>();
        check::<TrackedInstanceNorm>();
        check::<SyncBatchNorm>();
        check::<sync::Saved>();
        check::<sync::Group>();
        check::<sync::TrainPending>();
        check::<sync::BackwardPending>();
        check::<reference::compare::Mismatch>();
    }
}
