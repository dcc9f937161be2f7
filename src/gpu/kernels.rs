//! Compiled kernels, once a device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::caps::Caps;
use super::compose::{Source, compose};
use super::program::{Access, Binding, Dispatch, KernelSpec, Program};
use crate::error::PlanError;

/// The kernels of one device, compiled as plans ask for them and kept. Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct Kernels {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    caps: Caps,
    cache: Option<wgpu::PipelineCache>,
    pipelines: Mutex<HashMap<KernelSpec, wgpu::ComputePipeline>>,
    /// Stand in for buffers that a configuration leaves out. Two, because one dispatch may not bind one
    /// buffer for reading and for writing.
    placeholders: [wgpu::Buffer; 2],
}

impl Kernels {
    /// Prepares the device; nothing is compiled yet.
    ///
    /// # Errors
    /// [`PlanError::Limit`] if the device was created with limits too low; see
    /// [`Gpu::required_limits`](crate::Gpu::required_limits).
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
        let placeholder = |label| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: 16,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        Ok(Self {
            inner: Arc::new(Inner {
                device: device.clone(),
                caps,
                cache,
                pipelines: Mutex::default(),
                placeholders: [
                    placeholder("wgpu_norm placeholder, read"),
                    placeholder("wgpu_norm placeholder, written"),
                ],
            }),
        })
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The device's properties, as far as plans depend on them.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    pub(crate) fn placeholder(&self, access: Access) -> &wgpu::Buffer {
        &self.inner.placeholders[access as usize]
    }

    /// The pipelines of a program's dispatches. Those that are new are compiled side by side.
    pub(crate) fn pipelines<P: Sync>(
        &self,
        program: &Program<P>,
    ) -> Result<Vec<wgpu::ComputePipeline>, PlanError> {
        let pipeline = &|dispatch: &Dispatch<P>| {
            self.pipeline(&dispatch.kernel, program.sources, &dispatch.bindings)
        };
        let mut new: Vec<&Dispatch<P>> = Vec::new();
        for dispatch in &program.dispatches {
            let known = self.compiled().contains_key(&dispatch.kernel);
            if !known && new.iter().all(|other| other.kernel != dispatch.kernel) {
                new.push(dispatch);
            }
        }
        if new.len() > 1 {
            thread::scope(|scope| {
                let spawn = |dispatch| {
                    thread::Builder::new().spawn_scoped(scope, move || pipeline(dispatch))
                };
                let threads: Vec<_> = new
                    .iter()
                    .skip(1)
                    .map(|&dispatch| spawn(dispatch))
                    .collect();
                // The first is this thread's.
                let _ = pipeline(new[0]);
                for thread in threads.into_iter().flatten() {
                    let _ = thread.join();
                }
            });
        }
        // What could not be compiled, or no thread was found for, is tried again here and says why.
        program.dispatches.iter().map(pipeline).collect()
    }

    /// The pipeline of a kernel, compiled on first use.
    fn pipeline(
        &self,
        spec: &KernelSpec,
        sources: &[&[Source]],
        bindings: &[Binding],
    ) -> Result<wgpu::ComputePipeline, PlanError> {
        if let Some(pipeline) = self.compiled().get(spec) {
            return Ok(pipeline.clone());
        }
        let refused = |message: String| PlanError::Kernel {
            kernel: spec.name,
            message,
        };
        let text =
            compose(spec.name, sources, &spec.choices).map_err(|e| refused(e.to_string()))?;
        let device = &self.inner.device;
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let pipeline = compile(device, spec, text, bindings, self.inner.cache.as_ref());
        let errors = [internal.pop(), validation.pop()].map(pollster::block_on);
        if let Some(error) = errors.into_iter().flatten().next() {
            return Err(refused(error.to_string()));
        }
        self.compiled().insert(spec.clone(), pipeline.clone());
        Ok(pipeline)
    }

    fn compiled(&self) -> MutexGuard<'_, HashMap<KernelSpec, wgpu::ComputePipeline>> {
        // The map is consistent between any two statements, also for a thread that panicked.
        self.inner
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn compile(
    device: &wgpu::Device,
    spec: &KernelSpec,
    text: String,
    bindings: &[Binding],
    cache: Option<&wgpu::PipelineCache>,
) -> wgpu::ComputePipeline {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(spec.name),
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
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
    for (index, binding) in (1..).zip(bindings) {
        entries.push(entry(
            index,
            wgpu::BufferBindingType::Storage {
                read_only: binding.access == Access::Read,
            },
        ));
    }
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(spec.name),
        entries: &entries,
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(spec.name),
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    let constants: Vec<(&str, f64)> = spec
        .overrides
        .iter()
        .map(|&(name, value)| (name, f64::from(value)))
        .collect();
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(spec.name),
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
