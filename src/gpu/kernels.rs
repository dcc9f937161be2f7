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
    /// Kernels by what a plan asks for.
    kernels: Mutex<HashMap<KernelSpec, Kernel>>,
    /// Kernels by the part of that which they declare: plans that differ in other constants share a kernel. Each is locked
    /// while it is compiled, so that threads that want the same kernel compile it once.
    reduced: Mutex<HashMap<KernelSpec, Arc<Mutex<Option<Kernel>>>>>,
    /// Their parsed texts, which kernels share that differ only in overrides.
    modules: Mutex<HashMap<KernelSpec, wgpu::ShaderModule>>,
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
                reduced: Mutex::default(),
                modules: Mutex::default(),
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

    /// Whether one is a clone of the other.
    pub(super) fn is_clone_of(&self, other: &Self) -> bool {
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
        let composed = program.composed(dispatch);
        let composed = composed.map_err(|error| refused(spec, error))?;
        let reduced = spec.reduced(&composed);
        let shared = Arc::clone(locked(&self.inner.reduced).entry(reduced).or_default());
        let mut shared = locked(&shared);
        let kernel = match &*shared {
            Some(kernel) => kernel.clone(),
            None => shared.insert(self.compile(spec, composed)?).clone(),
        };
        self.known().insert(spec.clone(), kernel.clone());
        Ok(kernel)
    }

    /// Drops all compiled kernels that no plan or step holds. Plans made later compile theirs again.
    ///
    /// Kernels are kept for the life of the device, because training meets few shapes again and again. An application that
    /// meets hundreds of kinds of problems, such as a search over networks, calls this between them.
    pub fn trim(&self) {
        self.known().clear();
        locked(&self.inner.reduced).clear();
        locked(&self.inner.modules).clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<KernelSpec, Kernel>> {
        locked(&self.inner.kernels)
    }

    fn compile(&self, spec: &KernelSpec, composed: Composed) -> Result<Kernel, PlanError> {
        let filters = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal];
        let of_text = spec.of_text(&composed);
        let (made, error) = scoped(&self.inner.device, &filters, || {
            let parsed = locked(&self.inner.modules).get(&of_text).cloned();
            let module = match parsed {
                Some(module) => module,
                None => self.module(spec, &composed)?,
            };
            Ok((self.pipeline(spec, &composed, &module), module))
        });
        if let Some(error) = error {
            return Err(refused(spec, error));
        }
        let (pipeline, module) = made.map_err(|error: ComposeError| refused(spec, error))?;
        locked(&self.inner.modules).insert(of_text, module);
        let composed = Arc::new(composed);
        Ok(Kernel { pipeline, composed })
    }

    /// Parses the kernel's text.
    fn module(
        &self,
        spec: &KernelSpec,
        composed: &Composed,
    ) -> Result<wgpu::ShaderModule, ComposeError> {
        let device = &self.inner.device;
        let text = composed.wgsl(&spec.constants, Form::default())?;
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&spec.label()),
            source: wgpu::ShaderSource::Wgsl(without_comments(&text).into()),
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
        Ok(module)
    }

    fn pipeline(
        &self,
        spec: &KernelSpec,
        composed: &Composed,
        module: &wgpu::ShaderModule,
    ) -> wgpu::ComputePipeline {
        let device = &self.inner.device;
        let label = spec.label();
        let label = Some(label.as_str());
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
            module,
            entry_point: Some(spec.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
            },
            cache: self.inner.cache.as_ref(),
        })
    }
}

fn refused(spec: &KernelSpec, error: impl fmt::Display) -> PlanError {
    PlanError::Kernel {
        kernel: spec.name,
        message: error.to_string(),
    }
}

/// The maps are consistent between any two statements, also for a thread that panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text without its lines of comments, which drivers would read letter by letter.
fn without_comments(text: &str) -> String {
    let lines = text.lines();
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}
