//! Compiled kernels, once a device.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use super::buffer::allocated;
use super::caps::{Caps, F16Conversion};
use super::compose::{Access, ComposeError, Composed, Form};
use super::guard::{alive, guarded, scoped};
use super::program::{Dispatch, KernelSpec, Program};
use crate::error::PlanError;

/// The most uploads that wait for a submission. Until there is one, wgpu keeps the memory that they go through, also for
/// buffers that were dropped.
const MOST_UPLOADS: usize = 64;

/// The kernels of one device, compiled as plans ask for them and kept. Cheap to clone; clones share.
#[derive(Clone)]
pub struct Kernels {
    inner: Arc<Inner>,
}

/// In few words: errors and tensors hold kernels, and would print the text of each.
impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels")
            .field("caps", self.caps())
            .field("compiled", &self.known().len())
            .finish_non_exhaustive()
    }
}

struct Inner {
    device: wgpu::Device,
    caps: Caps,
    cache: Option<wgpu::PipelineCache>,
    /// Kernels by what a plan asks for, and by the part of that which the kernel declares: plans that differ in other
    /// constants share a kernel.
    kernels: Mutex<HashMap<KernelSpec, Kernel>>,
    /// Bound in place of buffers that a configuration leaves out. Two, because one dispatch may not bind one buffer
    /// for reading and for writing.
    placeholders: [wgpu::Buffer; 2],
    /// What the device can be asked with, and what it answered.
    queue: OnceLock<wgpu::Queue>,
    f16: OnceLock<F16Conversion>,
    /// The uploads since the last submission.
    uploads: AtomicUsize,
}

/// A compiled kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub pipeline: wgpu::ComputePipeline,
    /// What it declares.
    pub composed: Arc<Composed>,
}

impl Kernels {
    /// Prepares the device; nothing is compiled yet.
    ///
    /// # Errors
    /// [`PlanError::Limit`] if the device was created with limits too low; see
    /// [`Gpu::required_limits`](crate::Gpu::required_limits). [`PlanError::Gpu`] for a device that was lost.
    pub fn new(device: &wgpu::Device) -> Result<Self, PlanError> {
        Self::with_cache(device, None)
    }

    /// As [`new`](Self::new), compiling through a cache of the driver's, which the application has filled from
    /// a file and saves when all plans are made. For devices with `PIPELINE_CACHE`; see
    /// [`wgpu::Device::create_pipeline_cache`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_cache(
        device: &wgpu::Device,
        cache: Option<wgpu::PipelineCache>,
    ) -> Result<Self, PlanError> {
        let caps = Caps::of(device)?;
        alive(device)?;
        let placeholder = |label| allocated(device, label, 16, wgpu::BufferUsages::STORAGE);
        Ok(Self {
            inner: Arc::new(Inner {
                device: device.clone(),
                caps,
                cache,
                kernels: Mutex::default(),
                placeholders: [
                    placeholder("wgpu_norm placeholder, read")?,
                    placeholder("wgpu_norm placeholder, written")?,
                ],
                queue: OnceLock::new(),
                f16: OnceLock::new(),
                uploads: AtomicUsize::new(0),
            }),
        })
    }

    /// Gives plans the device's own queue, as a [`Gpu`](crate::Gpu) does for its kernels. Plans over f16 then ask the device how
    /// it converts f16: the first of them submits a kernel and waits for it. Devices that convert as IEEE 754 wants are several
    /// times as fast, with the same bits. And the uniforms of many plans that are made without a submission are submitted, so
    /// that what they were uploaded through is freed.
    #[must_use]
    pub fn with_queue(self, queue: &wgpu::Queue) -> Self {
        // A device has one queue, so that a second one is the same.
        let _ = self.inner.queue.set(queue.clone());
        self
    }

    /// How kernels convert f16: what the device answers to `ask`, which is called until there is an answer. Integers without one,
    /// or without a queue to ask with.
    pub(crate) fn f16_conversion(
        &self,
        ask: impl FnOnce(&wgpu::Queue) -> Option<F16Conversion>,
    ) -> F16Conversion {
        let Inner { queue, f16, .. } = &*self.inner;
        let known = f16.get().copied();
        let answer = known
            .or_else(|| ask(queue.get()?))
            .map(|answer| *f16.get_or_init(|| answer));
        answer.unwrap_or_default()
    }

    /// Notes an upload, which waits for a submission. Where many wait, they are submitted.
    pub(super) fn note_upload(&self) {
        let Inner { queue, uploads, .. } = &*self.inner;
        let waiting = uploads.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(queue) = queue.get().filter(|_| waiting >= MOST_UPLOADS) else {
            return;
        };
        self.note_submission();
        // If the device is lost, the next call says so.
        let _ = guarded(self.device(), ("uploads", 0), || queue.submit([]));
    }

    /// Notes a submission, for which no upload waits any more.
    pub(super) fn note_submission(&self) {
        self.inner.uploads.store(0, Ordering::Relaxed);
    }

    /// Whether both are the kernels of one device by being the same.
    pub(super) fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The device's properties, as far as plans depend on them. Plans over f16 may take another conversion than
    /// [`Caps::f16`](crate::Caps::f16) says.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// A buffer for a binding that the configuration leaves out.
    pub(crate) fn placeholder(&self, access: Access) -> &wgpu::Buffer {
        &self.inner.placeholders[usize::from(access == Access::Write)]
    }

    /// The kernels of a program's dispatches. New ones are compiled side by side.
    pub(crate) fn compiled(&self, program: &Program<Vec<u8>>) -> Result<Vec<Kernel>, PlanError> {
        let kernel = &|dispatch: &Dispatch<Vec<u8>>| self.kernel(program, dispatch);
        let mut new: Vec<&Dispatch<Vec<u8>>> = Vec::new();
        for dispatch in &program.dispatches {
            let known = self.known().contains_key(&dispatch.kernel);
            if !known && new.iter().all(|other| other.kernel != dispatch.kernel) {
                new.push(dispatch);
            }
        }
        if new.len() > 1 {
            thread::scope(|scope| {
                let spawn =
                    |dispatch| thread::Builder::new().spawn_scoped(scope, move || kernel(dispatch));
                let threads: Vec<_> = new
                    .iter()
                    .skip(1)
                    .map(|&dispatch| spawn(dispatch))
                    .collect();
                // This thread compiles the first.
                let _ = kernel(new[0]);
                for thread in threads.into_iter().flatten() {
                    let _ = thread.join();
                }
            });
        }
        // A kernel that failed, or for which there was no thread, is tried again here, and its error returned.
        program.dispatches.iter().map(kernel).collect()
    }

    /// The kernel of a dispatch, compiled on first use.
    fn kernel(
        &self,
        program: &Program<Vec<u8>>,
        dispatch: &Dispatch<Vec<u8>>,
    ) -> Result<Kernel, PlanError> {
        let spec = &dispatch.kernel;
        if let Some(kernel) = self.known().get(spec) {
            return Ok(kernel.clone());
        }
        let refused = |message: String| PlanError::Kernel {
            kernel: spec.name,
            message,
        };
        let not_composed = |error: ComposeError| refused(error.to_string());
        let composed = program.composed(dispatch).map_err(not_composed)?;
        let reduced = spec.reduced(&composed);
        let shared = self.known().get(&reduced).cloned();
        let kernel = match shared {
            Some(kernel) => kernel,
            None => {
                let text = composed
                    .wgsl(&spec.constants, Form::default())
                    .map_err(not_composed)?;
                let device = &self.inner.device;
                let filters = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal];
                let (pipeline, error) = scoped(device, &filters, || {
                    compile(device, spec, &composed, text, self.inner.cache.as_ref())
                });
                if let Some(error) = error {
                    return Err(refused(error.to_string()));
                }
                let composed = Arc::new(composed);
                Kernel { pipeline, composed }
            }
        };
        let mut known = self.known();
        known.insert(spec.clone(), kernel.clone());
        known.insert(reduced, kernel.clone());
        Ok(kernel)
    }

    /// Drops all compiled kernels that no plan or step holds. Plans made later compile theirs again.
    ///
    /// Kernels are kept for the life of the device, because training meets few shapes again and again. An application that
    /// meets hundreds of kinds of problems, such as a search over networks, calls this between them.
    pub fn trim(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<KernelSpec, Kernel>> {
        // The map is consistent between any two statements, also for a thread that panicked.
        self.inner
            .kernels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn compile(
    device: &wgpu::Device,
    spec: &KernelSpec,
    composed: &Composed,
    text: String,
    cache: Option<&wgpu::PipelineCache>,
) -> wgpu::ComputePipeline {
    let label = spec.label();
    let label = Some(label.as_str());
    let descriptor = wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(text.into()),
    };
    let vulkan = device.adapter_info().backend == wgpu::Backend::Vulkan;
    let checks = wgpu::ShaderRuntimeChecks {
        // A counter in every loop, and an index that is clamped to its array, keep drivers from unrolling short
        // loops; see the architecture page. Vulkan drivers check what goes to buffers themselves.
        force_loop_bounding: false,
        bounds_checks: !vulkan,
        ..wgpu::ShaderRuntimeChecks::checked()
    };
    // SAFETY: the crate's loops count up to a number that their dispatch fixes, by steps that plans make at least
    // one, or halve a number down to one, so that none is without end. Local arrays are indexed by loops over
    // their constant length, workgroup arrays by lanes of a workgroup of that size. Indices into buffers that are
    // not there are replaced by zero, and `bind` has checked that the bound buffers are large enough for the others;
    // beyond that, wgpu enables `robustBufferAccess` on the Vulkan devices that it makes.
    #[expect(unsafe_code)]
    let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
    let entries: Vec<_> = composed
        .bindings
        .iter()
        .map(|declared| wgpu::BindGroupLayoutEntry {
            binding: declared.number,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match declared.access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label,
        entries: &entries,
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    let constants: Vec<(&str, f64)> = spec
        .overrides(composed)
        .into_iter()
        .map(|(name, value)| (name, f64::from(value)))
        .collect();
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&layout),
        module: &module,
        entry_point: Some(spec.name),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            // Kernels write workgroup memory before they read it.
            zero_initialize_workgroup_memory: false,
        },
        cache,
    })
}
