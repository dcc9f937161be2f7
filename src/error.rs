//! Everything that can go wrong, by the moment at which it is found out. Each message names the field
//! and says what to do.

use std::path::PathBuf;

use crate::shape::Shape;

/// A shape that cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Batch normalization needs a batch and a channel axis, and kernels know three spatial axes.
    #[error("shape: expected 2 to 5 axes (batch, channels, up to 3 spatial), got {rank}")]
    Rank {
        /// The number of axes given.
        rank: usize,
    },
    /// A problem line that does not read as one.
    #[error(
        "shape: cannot read {line:?}; write extents and layout as in \"n32c64h56w56 nchw\", \
         \"n8c16l100 nlc\" or \"n64c128\""
    )]
    Line {
        /// The line as given.
        line: String,
    },
}

/// A configuration and a shape for which there is no plan. Found before any buffer is touched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A layer of no channels.
    #[error("num_features: expected at least 1 channel, got 0")]
    ZeroChannels,
    /// The input's channel axis is not the layer's.
    #[error("x: expected {expected} channels (num_features), got {got} in {shape}")]
    Channels {
        /// `num_features` of the configuration.
        expected: usize,
        /// The channels of the shape.
        got: usize,
        /// The shape as a problem line.
        shape: Shape,
    },
    /// More values than a kernel can count.
    #[error("x: {shape} has more than {limit} values; split the batch")]
    TooManyElements {
        /// The shape as a problem line.
        shape: Shape,
        /// The most values that one tensor may have.
        limit: u64,
    },
    /// A variance needs two values.
    #[error(
        "x: expected more than 1 value per channel when training, got {shape}; \
         use a larger batch, or eval with running statistics"
    )]
    TooFewValues {
        /// The shape as a problem line.
        shape: Shape,
    },
    /// `eps` is not a number, is negative, or is zero where statistics come from a batch.
    #[error("eps: must be a {needed} number, got {eps}")]
    Eps {
        /// The value given.
        eps: f32,
        /// `"positive"` with batch statistics, `"non-negative"` with running ones.
        needed: &'static str,
    },
    /// `momentum` is not a finite number.
    #[error("momentum: must be a finite number, or None for a cumulative average, got {momentum}")]
    Momentum {
        /// The value given.
        momentum: f32,
    },
    /// Running statistics are asked for that the configuration does not track.
    #[error("running: track_running_stats is off, so there are no running statistics to use")]
    NoRunningStatistics,
    /// A strategy was forced on a shape that it cannot serve.
    #[error("strategy: {strategy} cannot serve {shape}: {reason}")]
    Strategy {
        /// The strategy's name.
        strategy: &'static str,
        /// The shape as a problem line.
        shape: Shape,
        /// What stands in the way.
        reason: &'static str,
    },
    /// A combination of options, or a size, that no kernel serves.
    #[error("{field}: {reason}")]
    Unsupported {
        /// The option at fault.
        field: &'static str,
        /// What stands in the way, and what to do.
        reason: &'static str,
    },
    /// A tile was forced that no kernel can run.
    #[error("tile: {reason}, got workgroup {workgroup}, lanes {lanes}, columns {columns}")]
    Tile {
        /// Invocations in a workgroup.
        workgroup: u32,
        /// Invocations that walk together.
        lanes: u32,
        /// Vector columns of an invocation.
        columns: u32,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// The device was created with limits too low for any plan.
    #[error(
        "device limits: {limit} is {available}, but {needed} is needed; raise it in required_limits \
         (see Gpu::required_limits)"
    )]
    Limit {
        /// The name of the limit in `wgpu::Limits`.
        limit: &'static str,
        /// The least that will do.
        needed: u64,
        /// What the device was created with.
        available: u64,
    },
    /// The driver refused a kernel.
    #[error("kernel {kernel}: the device refused it: {message}")]
    Kernel {
        /// The kernel's name.
        kernel: &'static str,
        /// The device's words.
        message: String,
    },
}

/// Buffers that do not fit a plan. Found before anything is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The plan needs a buffer that was not given.
    #[error("{field}: the plan needs this buffer ({bytes} bytes), got none")]
    Missing {
        /// The field of the buffers struct.
        field: &'static str,
        /// The size it must have.
        bytes: u64,
    },
    /// A buffer was given that the configuration has no use for.
    #[error("{field}: the configuration has no such values; pass None")]
    Unexpected {
        /// The field of the buffers struct.
        field: &'static str,
    },
    /// The slice is shorter than the plan needs.
    #[error("{field}: needs {needed} bytes, the slice has {got}")]
    TooSmall {
        /// The field of the buffers struct.
        field: &'static str,
        /// The size it must have.
        needed: u64,
        /// The size it has.
        got: u64,
    },
    /// The buffer was not created as a storage buffer.
    #[error("{field}: the buffer lacks usage {needed:?}; add it where the buffer is created")]
    MissingUsage {
        /// The field of the buffers struct.
        field: &'static str,
        /// The usage that is missing.
        needed: wgpu::BufferUsages,
    },
    /// The slice begins where the device cannot bind it.
    #[error(
        "{field}: offset {offset} is not a multiple of {required} (min_storage_buffer_offset_alignment)"
    )]
    Misaligned {
        /// The field of the buffers struct.
        field: &'static str,
        /// The slice's offset in bytes.
        offset: u64,
        /// The alignment that the device asks for.
        required: u64,
    },
    /// Two slices share bytes, and one of them is written.
    #[error(
        "{first} and {second}: the slices overlap and one of them is written; give each its own memory"
    )]
    Overlap {
        /// The field of the first slice.
        first: &'static str,
        /// The field of the second.
        second: &'static str,
    },
    /// One kernel reads one slice and writes another slice of the same buffer, which wgpu does not allow.
    #[error(
        "{read} and {written}: slices of one buffer, one read and one written by the same kernel; \
         wgpu tracks whole buffers, so put them in two"
    )]
    SharedBuffer {
        /// The field that is read.
        read: &'static str,
        /// The field that is written.
        written: &'static str,
    },
    /// wgpu refused a buffer for a reason that its public interface does not let us see first: it
    /// belongs to another device, or was destroyed.
    #[error("the device refused the buffers (is one of another device, or destroyed?): {message}")]
    Refused {
        /// wgpu's words, which name the buffer by its label.
        message: String,
    },
}

/// The device, or what it was asked to do, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter at all.
    #[error(
        "no GPU adapter for compute on {tried} (found: {found}); install a Vulkan driver, or Mesa's \
         software one: apt-get install mesa-vulkan-drivers"
    )]
    NoAdapter {
        /// The backends that were asked.
        tried: String,
        /// The adapters found, none of which can compute.
        found: String,
    },
    /// `WGPU_ADAPTER_NAME` names an adapter that is not there.
    #[error("WGPU_ADAPTER_NAME={wanted:?} matches no adapter; found: {found}")]
    AdapterName {
        /// The part of a name asked for.
        wanted: String,
        /// The adapters found.
        found: String,
    },
    /// The adapter would not give a device.
    #[error("{adapter}: no device: {message}")]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        message: String,
    },
    /// The device's memory is used up.
    #[error("{label}: out of memory for {bytes} bytes; free buffers or use smaller batches")]
    OutOfMemory {
        /// What the memory was for.
        label: &'static str,
        /// How much was asked for.
        bytes: u64,
    },
    /// The device is gone, and every buffer with it.
    #[error("the device was lost; open a new one and restore the state from the host ({message})")]
    DeviceLost {
        /// What made it known.
        message: String,
    },
    /// The device did not finish in time.
    #[error("the device did not finish within {seconds} s")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
}

/// A tensor that a layer cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The values do not fill the shape.
    #[error("{field}: {shape} has {expected} values, got {got}")]
    Length {
        /// What the values were for.
        field: &'static str,
        /// The shape as a problem line.
        shape: String,
        /// How many values it has.
        expected: usize,
        /// How many were given.
        got: usize,
    },
    /// A tensor of another shape or storage type than it must have.
    #[error("{field}: expected {expected}, got {got}")]
    Shape {
        /// The argument.
        field: &'static str,
        /// The shape it must have, as a problem line.
        expected: String,
        /// The shape it has.
        got: String,
    },
    /// A residual for a layer that adds none, or none for one that does.
    #[error("residual: {problem}")]
    Residual {
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor of another device.
    #[error(
        "{field}: the tensor lives on another device than the layer; read it and upload it again"
    )]
    WrongDevice {
        /// The argument.
        field: &'static str,
    },
    /// The buffer of a tensor that wgpu refuses to copy from.
    #[error("tensor: its buffer cannot be read: {message}")]
    Unreadable {
        /// wgpu's words.
        message: String,
    },
    /// A `Saved` of another layer.
    #[error("saved: comes from another layer's forward")]
    ForeignSaved,
    /// State for a value that the configuration leaves out, or none for one that it has.
    #[error("{field}: {problem}")]
    State {
        /// torch's name of the value.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// What keeps a [`Tuner`](crate::batch_norm::Tuner) from choosing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The file of choices can be neither read nor written.
    #[error("{}: {message}; remove the file, or name another", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// A tuner that measures on another device than the layer's.
    #[error("tuner: measures on another device than the layer's; make it for the layer's")]
    WrongDevice,
}

/// Any error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`ShapeError`].
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`BindError`].
    #[error(transparent)]
    Bind(#[from] BindError),
    /// See [`GpuError`].
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// See [`TensorError`].
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// See [`TuneError`].
    #[error(transparent)]
    Tune(#[from] TuneError),
}
