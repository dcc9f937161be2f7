//! The crate's errors: one enum for each stage at which a call can fail. Each message names the field at fault
//! and says what to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::dtype::Dtype;
use crate::shape::{Shape, ShapeError};
use crate::word::WordError;

/// A configuration and a shape without a plan. Returned before any buffer is used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `num_features` is zero.
    #[error("num_features: expected at least 1 channel, got 0")]
    ZeroChannels,
    /// The shape's number of channels is not the configuration's.
    #[error("x: expected {expected} channels, got {got} in {shape}")]
    Channels {
        /// The configuration's number of channels.
        expected: usize,
        /// The number of channels of the shape.
        got: usize,
        /// The shape as a problem line.
        shape: Shape,
    },
    /// The tensor has more values than kernels can index.
    #[error("x: {shape} has more than {limit} values; split the batch")]
    TooManyElements {
        /// The shape as a problem line.
        shape: Shape,
        /// The most values that one tensor may have.
        limit: u64,
    },
    /// Training needs at least two values per channel for a variance.
    #[error(
        "x: expected more than 1 value per channel when training, got {shape}; \
         use a larger batch, or eval with running statistics"
    )]
    TooFewValues {
        /// The shape as a problem line.
        shape: Shape,
    },
    /// An instance, or the only sample's group of one channel, needs at least two values for a variance.
    #[error(
        "x: expected more than 1 spatial value, got {shape}; \
         a channel of a sample has no variance there, use another norm"
    )]
    TooFewSpatialValues {
        /// The shape as a problem line.
        shape: Shape,
    },
    /// `eps` is NaN or negative, or zero with batch statistics.
    #[error("eps: must be a {needed} number, got {eps}")]
    Eps {
        /// The value given.
        eps: f32,
        /// `"positive"` with batch statistics, `"non-negative"` with running ones.
        needed: &'static str,
    },
    /// `momentum` is no share. torch takes any number; beyond 1, running variances become negative.
    #[error("momentum: must be from 0 to 1, or Momentum::Cumulative, got {momentum}")]
    Momentum {
        /// The value given.
        momentum: f32,
    },
    /// A method that uses running statistics was called on a configuration without them.
    #[error(
        "running: track_running_stats is off, so there are no running statistics; turn it on, or use train"
    )]
    NoRunningStatistics,
    /// The strategy of the tuning cannot serve the shape.
    #[error("strategy: {strategy} cannot serve {shape}: {reason}")]
    Strategy {
        /// The strategy's name.
        strategy: &'static str,
        /// The shape as a problem line.
        shape: Shape,
        /// The obstacle.
        reason: &'static str,
    },
    /// No kernel serves the combination of options, or the size.
    #[error("{field}: {reason}")]
    Unsupported {
        /// The option at fault.
        field: &'static str,
        /// The obstacle, and what to do.
        reason: &'static str,
    },
    /// No kernel can run the tile of the tuning.
    #[error("tile: {reason}, got workgroup {workgroup}, lanes {lanes}, columns {columns}")]
    Tile {
        /// Invocations in a workgroup.
        workgroup: u32,
        /// Invocations that share one item.
        lanes: u32,
        /// Vector columns of an invocation.
        columns: u32,
        /// The condition that they break.
        reason: &'static str,
    },
    /// A limit of the device is too low.
    #[error(
        "device limits: {limit} is {available}, but {needed} is needed; raise it in required_limits \
         (see Gpu::required_limits)"
    )]
    Limit {
        /// The name of the limit in `wgpu::Limits`.
        limit: &'static str,
        /// The lowest sufficient value.
        needed: u64,
        /// The device's value.
        available: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The driver failed to compile a kernel.
    #[error("kernel {kernel}: the device refused it: {message}")]
    Kernel {
        /// The kernel's name.
        kernel: &'static str,
        /// The driver's message.
        message: String,
    },
}

/// Buffers that do not fit a plan. Returned before anything is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A buffer that the plan needs is `None`.
    #[error("{field}: the plan needs this buffer ({bytes} bytes), got none")]
    Missing {
        /// The field of the buffers struct.
        field: &'static str,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A buffer that the configuration has no values for is not `None`.
    #[error("{field}: the configuration has no such values; pass None")]
    Unexpected {
        /// The field of the buffers struct.
        field: &'static str,
    },
    /// The slice is smaller than the plan needs.
    #[error("{field}: needs {needed} bytes, the slice has {got}")]
    TooSmall {
        /// The field of the buffers struct.
        field: &'static str,
        /// The size needed, in bytes.
        needed: u64,
        /// The slice's size, in bytes.
        got: u64,
    },
    /// The buffer was created without a usage that the plan needs.
    #[error("{field}: the buffer lacks usage {needed:?}; add it where the buffer is created")]
    MissingUsage {
        /// The field of the buffers struct.
        field: &'static str,
        /// The usage that is missing.
        needed: wgpu::BufferUsages,
    },
    /// The slice's offset is not aligned.
    #[error(
        "{field}: offset {offset} is not a multiple of {required} (min_storage_buffer_offset_alignment)"
    )]
    Misaligned {
        /// The field of the buffers struct.
        field: &'static str,
        /// The slice's offset in bytes.
        offset: u64,
        /// The device's alignment in bytes.
        required: u64,
    },
    /// Two slices have bytes in common, and the plan writes one of them.
    #[error(
        "{first} and {second}: the slices overlap and one of them is written; give each its own memory"
    )]
    Overlap {
        /// The field of the first slice.
        first: &'static str,
        /// The field of the second.
        second: &'static str,
    },
    /// Two slices of one buffer, of which the plan writes at least one. wgpu tracks whole buffers, and allows no dispatch to
    /// read one part of a buffer and to write another. Whether a dispatch does both depends on the strategy, so no plan
    /// takes such slices. Slices that are only read may share a buffer.
    #[error(
        "{first} and {second}: slices of one buffer, and one of them is written; wgpu tracks whole \
         buffers, so put them in two"
    )]
    SharedBuffer {
        /// The field of the first slice.
        first: &'static str,
        /// The field of the second.
        second: &'static str,
    },
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// wgpu refused a buffer for a reason that the crate cannot check before: the buffer belongs to another device, is
    /// mapped, or was destroyed.
    #[error(
        "the device refused the buffers (is one of another device, mapped, or destroyed?): {message}"
    )]
    Refused {
        /// wgpu's message, which has the buffer's label.
        message: String,
    },
}

/// The device cannot be opened, or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No backend is allowed: the environment names none that exists, or the options none at all.
    #[error(
        "backends: none to choose from (WGPU_BACKEND is {variable:?}); name some of vulkan, metal, \
         dx12, gl, separated by commas, or unset it"
    )]
    NoBackend {
        /// The value of `WGPU_BACKEND`, empty if it is not set.
        variable: String,
    },
    /// No adapter can compute.
    #[error(
        "no GPU adapter for compute on {tried} (found: {found}); install a Vulkan driver, or Mesa's \
         software one: apt-get install mesa-vulkan-drivers"
    )]
    NoAdapter {
        /// The backends considered.
        tried: String,
        /// The adapters found.
        found: String,
    },
    /// The name of no adapter contains the one asked for, by `GpuOptions::adapter` or `WGPU_ADAPTER_NAME`.
    #[error(
        "adapter: {wanted:?} (option or WGPU_ADAPTER_NAME) is in no adapter's name; found: {found}"
    )]
    AdapterName {
        /// The part of the name asked for.
        wanted: String,
        /// The adapters found.
        found: String,
    },
    /// The adapter refused to open a device.
    #[error(
        "{adapter}: no device: {message}; ask for lower limits or fewer features, or update the driver"
    )]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// wgpu's message.
        message: String,
    },
    /// The device cannot allocate a buffer.
    #[error("{label}: out of memory for {bytes} bytes; free buffers or use smaller batches")]
    OutOfMemory {
        /// The buffer's label.
        label: &'static str,
        /// Its size in bytes, 0 if it is no buffer.
        bytes: u64,
    },
    /// The device was lost, and every buffer with it.
    #[error("the device was lost; open a new one and restore the state from the host ({message})")]
    DeviceLost {
        /// wgpu's message.
        message: String,
    },
    /// The work submitted so far took too long.
    #[error(
        "the device did not finish within {seconds} s; submit less work at once, or open a new device"
    )]
    Timeout {
        /// The longest wait, in seconds.
        seconds: u64,
    },
}

/// A tensor, buffer slice or state that a call cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of values is not that of the shape.
    #[error("{field}: {shape} has {expected} values, got {got}")]
    Length {
        /// The argument.
        field: &'static str,
        /// The shape as a problem line.
        shape: String,
        /// Its number of values.
        expected: usize,
        /// The number of values given.
        got: usize,
    },
    /// The tensor has another shape or storage type than the call needs.
    #[error("{field}: expected {expected}, got {got}")]
    Shape {
        /// The argument.
        field: &'static str,
        /// The shape and storage type needed, as a problem line.
        expected: String,
        /// Those of the tensor.
        got: String,
    },
    /// The values asked for have another type than the tensor stores.
    #[error(
        "{field}: stores {got}, asked for as {expected}; use read, or read_as of the type {got}"
    )]
    Dtype {
        /// The tensor.
        field: &'static str,
        /// The type asked for.
        expected: Dtype,
        /// The tensor's storage type.
        got: Dtype,
    },
    /// Parameters for a layer that has its own, or none for one whose samples have them.
    #[error("affine: {problem}")]
    Affine {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A residual for a layer whose epilogue adds none, or no residual for one that adds it.
    #[error("residual: {problem}")]
    Residual {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The tensor is on another device than the layer.
    #[error(
        "{field}: the tensor lives on another device than the layer; read it and upload it again"
    )]
    WrongDevice {
        /// The argument.
        field: &'static str,
    },
    /// wgpu refuses to copy from the buffer: it was created without `COPY_SRC`, belongs to another device, or was
    /// destroyed.
    #[error(
        "{field}: the buffer cannot be read (needs usage COPY_SRC, and to be of this device): {message}"
    )]
    Unreadable {
        /// The argument.
        field: &'static str,
        /// wgpu's message.
        message: String,
    },
    /// wgpu refuses to copy to the buffer: it was created without `COPY_DST`, belongs to another device, or was
    /// destroyed.
    #[error(
        "{field}: the buffer cannot be written (needs usage COPY_DST, and to be of this device): {message}"
    )]
    Unwritable {
        /// The argument.
        field: &'static str,
        /// wgpu's message.
        message: String,
    },
    /// A slice whose ends are not multiples of 4 bytes, the size of an f32.
    #[error("{field}: offset {offset} and size {size} must be multiples of 4 bytes")]
    Unaligned {
        /// The argument.
        field: &'static str,
        /// The slice's offset in bytes.
        offset: u64,
        /// The slice's size in bytes.
        size: u64,
    },
    /// A slice for another number of values.
    #[error(
        "{field}: the slice holds {expected} f32 values, got {got}; slice the buffer to their size"
    )]
    SliceLength {
        /// The argument.
        field: &'static str,
        /// The number of values that the slice holds.
        expected: u64,
        /// The number of values given.
        got: u64,
    },
    /// The `Saved` comes from another layer.
    #[error("saved: comes from another layer's forward; pass it to the layer that returned it")]
    ForeignSaved,
    /// A batch was not finite, and [`NonFinite::Error`](crate::batch_norm::NonFinite::Error) asks to be told.
    #[error(
        "running: {batches} batches were not finite in channel {channel} and have not moved it; look for what made \
         them so, and read again for the state"
    )]
    NonFinite {
        /// The first channel with such a batch.
        channel: usize,
        /// How many of them it had.
        batches: u32,
    },
    /// The state has a value that the configuration leaves out, lacks one, or has one of another length.
    #[error("{field}: {problem}")]
    State {
        /// torch's name of the value.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// A [`Tuner`](crate::batch_norm::Tuner) cannot be made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The tuning file cannot be read or written, or is another program's.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// The tuner measures on another device than the layer's.
    #[error("tuner: measures on another device than the layer's; make it for the layer's")]
    WrongDevice,
}

/// A state file that cannot be read or written, or does not fit the layers.
#[cfg(feature = "safetensors")]
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file system failed.
    #[error("{}: {message}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed, and what to do.
        message: String,
    },
    /// The file ends before what its header describes, or goes on after it.
    #[error(
        "state file: expected {expected} bytes, got {got}; it was cut or is of another format, take another copy"
    )]
    Length {
        /// The size by the header, as far as it is known.
        expected: u64,
        /// The size of the file.
        got: u64,
    },
    /// The file is larger than the caller allows.
    #[error("state file: {got} bytes, more than the limit of {limit}; read it with a larger limit")]
    TooLarge {
        /// The size of the file, or of its header.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The host has no memory for the file.
    #[error("state file: out of memory for {bytes} bytes; free memory, or split the file")]
    OutOfMemory {
        /// The bytes that could not be allocated.
        bytes: u64,
    },
    /// The header is not that of a safetensors file.
    #[error("state file: header: {problem}; take another copy, or write the file again")]
    Header {
        /// What is wrong with it.
        problem: String,
    },
    /// A name stands twice in the header, so that one of two values would be lost.
    #[error("state file: header: {name:?} stands twice; write the file again")]
    Duplicate {
        /// The name of the tensor or of the metadata entry.
        name: String,
    },
    /// The bytes of a tensor, or the header's content, have changed since their checksum was written.
    #[error(
        "{what}: does not have the checksum that was written with it; take another copy of the file \
         (a program that changes tensors must drop the metadata of \"wgpu-norm\")"
    )]
    Checksum {
        /// The tensor, or `"header"`.
        what: String,
    },
    /// The file has none of these tensors, which layers need.
    #[error("{}: missing from the file; check prefix and naming, or load leniently", names.join(", "))]
    Missing {
        /// Their names as they would stand in the file.
        names: Vec<String>,
    },
    /// The file has these tensors for layers that have no such value.
    #[error(
        "{}: in the file, but the layer has no such value; configure the layer alike, or load leniently",
        names.join(", ")
    )]
    Unexpected {
        /// Their names.
        names: Vec<String>,
    },
    /// Several tensors of the file could be meant.
    #[error("{wanted}: could be {}; give the whole name, or remove the others from the file", candidates.join(" or "))]
    Ambiguous {
        /// What was looked for.
        wanted: String,
        /// What was found.
        candidates: Vec<String>,
    },
    /// A tensor has another shape than the layer's value.
    #[error("{tensor}: expected shape {expected}, got {got:?}; load it into a layer of its size")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The shape that fits.
        expected: String,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A tensor has a type that cannot become the layer's value.
    #[error("{tensor}: expected {expected}, got {got}; convert it before")]
    Dtype {
        /// The tensor's name.
        tensor: String,
        /// The types that can.
        expected: &'static str,
        /// The type in the file.
        got: String,
    },
    /// The layer was saved with another setting than it is loaded with. The numbers would be right, and the results wrong.
    #[error(
        "{layer}: {field} is {file} in the file, but {given} here; configure the layer alike, or load leniently"
    )]
    Setting {
        /// The layer's prefix in the file.
        layer: String,
        /// The setting.
        field: String,
        /// Its value in the file.
        file: String,
        /// Its value in the layer's configuration.
        given: String,
    },
    /// NaN, an infinite value, or a negative variance.
    #[error(
        "{tensor}[{index}]: expected {expected}, got {got}; take another copy, or load with repair"
    )]
    Value {
        /// The tensor's name.
        tensor: String,
        /// The place of the value.
        index: usize,
        /// What would do.
        expected: &'static str,
        /// The value.
        got: String,
    },
    /// A state that is to be saved does not fit the configuration, or the naming.
    #[error("{tensor}: {problem}")]
    Unfit {
        /// The name that the value would have in the file.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A number of batches that the device cannot count.
    #[error(
        "{tensor}: expected a count from 0 to 4294967295, got {got}; write the number of batches there, or 0"
    )]
    Counter {
        /// The tensor's name.
        tensor: String,
        /// The number.
        got: String,
    },
    /// A name or a key that the file keeps for other things.
    #[error("{name:?}: {problem}")]
    Name {
        /// The name.
        name: String,
        /// Why not, and what to do.
        problem: &'static str,
    },
}

/// A layer's weights do not fit a BatchNorm, or cannot be unfolded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The shape is none of a layer that has channels.
    #[error("shape: {problem}, got {shape:?}")]
    Shape {
        /// What is wrong with it.
        problem: &'static str,
        /// The shape.
        shape: Vec<usize>,
    },
    /// The layer has another number of output channels than the norm.
    #[error(
        "weight: expected {expected} output channels, those of the norm, got {got} in {shape:?}"
    )]
    Channels {
        /// The norm's number of channels.
        expected: usize,
        /// The layer's number of output channels.
        got: usize,
        /// The layer's shape.
        shape: Vec<usize>,
    },
    /// A row has another number of values.
    #[error("{field}: expected {expected} values, got {got}")]
    Length {
        /// The row.
        field: &'static str,
        /// The number of values that it should have.
        expected: usize,
        /// The number given.
        got: usize,
    },
    /// The state lacks a row that the configuration has, or has one that the configuration leaves out.
    #[error("{field}: {problem}")]
    State {
        /// torch's name of the row.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A value is not finite, or becomes so; or a running variance is negative.
    #[error("{field}[{index}]: expected {expected}, got {got}")]
    Value {
        /// The row.
        field: &'static str,
        /// The place of the value.
        index: usize,
        /// What would do.
        expected: &'static str,
        /// The value.
        got: f64,
    },
    /// The norm multiplies a channel by zero: what the layer's weights were cannot be told.
    #[error(
        "weight[{channel}]: the norm's factor is 0, so that nothing is left to unfold; keep the weights of before"
    )]
    ZeroScale {
        /// The channel.
        channel: usize,
    },
}

/// A synchronized operation that failed: on this rank by another one, or on all of them. Ranks are those of the
/// [`Group`](crate::sync::Group).
///
/// The page [`sync`](crate::sync#when-something-goes-wrong) says which of them leave the group usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// Some ranks did not take part in time. The group is of no use from then on.
    #[error(
        "timeout: nothing came from rank {} within {:.1} s; is it slow, stopped, or without this call? Raise the \
         group's timeout, or end all ranks",
        list(missing),
        waited.as_secs_f64()
    )]
    Timeout {
        /// The ranks that were waited for in vain.
        missing: Vec<usize>,
        /// How long.
        waited: Duration,
    },
    /// A rank has ended, or cannot be reached. The group is of no use from then on.
    #[error("rank {rank} is lost: {message}; end all ranks, and go on from the last saved state")]
    RankLost {
        /// The rank.
        rank: usize,
        /// What is known about it.
        message: String,
    },
    /// A rank has given the group up, for a reason of its own. The group is of no use from then on.
    #[error("rank {rank} has given up: {reason}")]
    GaveUp {
        /// The rank.
        rank: usize,
        /// Its reason.
        reason: Box<SyncError>,
    },
    /// Two ranks are in different calls, or have different layers. All ranks get this error, and nothing has moved.
    #[error(
        "{field}: rank {first} has {expected}, rank {rank} has {got}; all ranks must make the same calls on the same \
         layers"
    )]
    Disagree {
        /// What is different.
        field: &'static str,
        /// The lowest rank, with which the others are compared.
        first: usize,
        /// What it has.
        expected: String,
        /// The first rank that has something else.
        rank: usize,
        /// What that has.
        got: String,
    },
    /// The call failed on another rank before the exchange. Nothing has moved here, and the group can be used.
    #[error("rank {rank} failed: {message}")]
    Remote {
        /// The rank.
        rank: usize,
        /// The message of its error.
        message: String,
    },
    /// A rank sent what is no message of this version of the crate.
    #[error("rank {rank} sent what cannot be read: {problem}; run the same program on all ranks")]
    Malformed {
        /// The rank.
        rank: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// All ranks together have one value per channel, which has no variance. All ranks get this error.
    #[error(
        "x: expected more than 1 value per channel over all ranks when training, got 1; use a larger batch, or eval \
         with running statistics"
    )]
    TooFewValues,
    /// A setting or an argument that cannot be.
    #[error("{field}: {problem}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The engine cannot be used.
    #[error("{engine}: {message}")]
    Engine {
        /// Its name.
        engine: &'static str,
        /// Why not, and what to do.
        message: String,
    },
}

impl SyncError {
    /// The error of a part of the ranks in the numbers of all: `rank` gives the number of each.
    pub(crate) fn renumbered(self, number: impl Fn(usize) -> usize) -> Self {
        self.renumbered_by(&number)
    }

    fn renumbered_by(mut self, number: &dyn Fn(usize) -> usize) -> Self {
        match &mut self {
            Self::Timeout { missing, .. } => {
                missing.iter_mut().for_each(|rank| *rank = number(*rank))
            }
            Self::GaveUp { rank, reason } => {
                *rank = number(*rank);
                **reason = reason.clone().renumbered_by(number);
            }
            Self::RankLost { rank, .. }
            | Self::Remote { rank, .. }
            | Self::Malformed { rank, .. } => *rank = number(*rank),
            Self::Disagree { first, rank, .. } => {
                (*first, *rank) = (number(*first), number(*rank));
            }
            Self::TooFewValues | Self::Setting { .. } | Self::Engine { .. } => {}
        }
        self
    }
}

/// Numbers for a message: `1, 2`.
fn list(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// Any error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`ShapeError`].
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// See [`WordError`].
    #[error(transparent)]
    Word(#[from] WordError),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(PlanError),
    /// See [`BindError`].
    #[error(transparent)]
    Bind(BindError),
    /// See [`GpuError`].
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// See [`TensorError`].
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// See [`TuneError`].
    #[error(transparent)]
    Tune(#[from] TuneError),
    /// See [`FoldError`].
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// See [`StateError`].
    #[cfg(feature = "safetensors")]
    #[error(transparent)]
    State(#[from] StateError),
    /// See [`SyncError`].
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// The device's own error is [`Error::Gpu`], wherever it comes from.
impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Gpu(error) => Self::Gpu(error),
            error => Self::Plan(error),
        }
    }
}

/// The device's own error is [`Error::Gpu`], wherever it comes from.
impl From<BindError> for Error {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Gpu(error) => Self::Gpu(error),
            error => Self::Bind(error),
        }
    }
}
