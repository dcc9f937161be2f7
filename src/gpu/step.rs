//! A plan bound to buffers: checked once, recorded any number of times.

use bytemuck::Pod;

use super::guard::guarded;
use super::kernels::Kernels;
use super::program::{Access, Dispatch, Field, Program};
use crate::error::BindError;

/// Dispatches with their buffers, ready to be recorded. Recording cannot fail, allocates nothing and
/// does not touch the queue.
///
/// A step keeps its buffers alive. It may be recorded into any encoder of its device, a thousand times.
#[derive(Debug)]
pub struct Step {
    label: &'static str,
    dispatches: Vec<Ready>,
}

#[derive(Debug)]
struct Ready {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 2],
}

impl Ready {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }
}

impl Step {
    /// Records the step as a compute pass of its own.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        if self.dispatches.is_empty() {
            return;
        }
        self.record(
            &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(self.label),
                timestamp_writes: None,
            }),
        );
    }

    /// Records the step into an open compute pass. Sets the pass's pipeline and bind group 0.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        for ready in &self.dispatches {
            ready.record(pass);
        }
    }

    /// Records one dispatch, the `index`-th of those that [`record`](Self::record) records in order, for a
    /// profiler that wants a scope around each. Beyond the last it records nothing.
    pub fn record_dispatch(&self, index: usize, pass: &mut wgpu::ComputePass<'_>) {
        if let Some(ready) = self.dispatches.get(index) {
            ready.record(pass);
        }
    }

    /// The number of dispatches that recording adds.
    pub fn dispatches(&self) -> usize {
        self.dispatches.len()
    }
}

/// A caller's buffers by field.
pub type Slices<'a> = [(Field, Option<wgpu::BufferSlice<'a>>)];

/// Checks the buffers against the program and binds them.
pub fn bind<P: Pod>(
    label: &'static str,
    kernels: &Kernels,
    pipelines: &[wgpu::ComputePipeline],
    program: &Program<P>,
    slices: &Slices<'_>,
) -> Result<Step, BindError> {
    check_each(kernels, program, slices)?;
    check_pairs(program, slices)?;
    guarded(kernels.device(), || {
        ready(label, kernels, pipelines, program, slices)
    })
    .map_err(|message| BindError::Refused { message })
}

fn ready<P: Pod>(
    label: &'static str,
    kernels: &Kernels,
    pipelines: &[wgpu::ComputePipeline],
    program: &Program<P>,
    slices: &Slices<'_>,
) -> Step {
    let device = kernels.device();
    let uniforms = Uniforms::new(label, kernels, &program.dispatches);
    let dispatches = program
        .dispatches
        .iter()
        .zip(pipelines)
        .enumerate()
        .map(|(index, (dispatch, pipeline))| {
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: uniforms.binding(index),
            }];
            for (binding, wanted) in (1..).zip(&dispatch.bindings) {
                let resource = match wanted.field.and_then(|field| slice_of(slices, field)) {
                    None => kernels.placeholder(wanted.access).as_entire_binding(),
                    Some(slice) => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: slice.buffer(),
                        offset: slice.offset() + wanted.bytes.start,
                        size: wgpu::BufferSize::new(wanted.bytes.end - wanted.bytes.start),
                    }),
                };
                entries.push(wgpu::BindGroupEntry { binding, resource });
            }
            Ready {
                pipeline: pipeline.clone(),
                bind_group: device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(dispatch.kernel.name),
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &entries,
                }),
                grid: dispatch.grid(kernels.caps().max_groups),
            }
        })
        .collect();
    Step { label, dispatches }
}

fn slice_of<'a>(slices: &Slices<'a>, field: Field) -> Option<wgpu::BufferSlice<'a>> {
    slices
        .iter()
        .find(|(other, _)| *other == field)
        .and_then(|(_, slice)| *slice)
}

/// Is each buffer there, large enough, usable and aligned?
fn check_each<P>(
    kernels: &Kernels,
    program: &Program<P>,
    slices: &Slices<'_>,
) -> Result<(), BindError> {
    for &(field, slice) in slices {
        // Parameters that the configuration lacks are a misunderstanding; scratch that is not needed is not.
        let needed = program.needs.iter().any(|need| need.field == field);
        if field.is_optional() && slice.is_some() && !needed {
            return Err(BindError::Unexpected {
                field: field.name(),
            });
        }
    }
    for need in program.needs.iter().filter(|need| need.bytes > 0) {
        let field = need.field.name();
        let slice = slice_of(slices, need.field).ok_or(BindError::Missing {
            field,
            bytes: need.bytes,
        })?;
        if slice.size() < need.bytes {
            return Err(BindError::TooSmall {
                field,
                needed: need.bytes,
                got: slice.size(),
            });
        }
        let needed = wgpu::BufferUsages::STORAGE;
        if !slice.buffer().usage().contains(needed) {
            return Err(BindError::MissingUsage { field, needed });
        }
        let required = kernels.caps().storage_alignment;
        if slice.offset() % required != 0 {
            return Err(BindError::Misaligned {
                field,
                offset: slice.offset(),
                required,
            });
        }
    }
    Ok(())
}

/// Do any two buffers get in each other's way?
fn check_pairs<P>(program: &Program<P>, slices: &Slices<'_>) -> Result<(), BindError> {
    let needed = |field: Field| {
        let bytes = program.bytes(field);
        slice_of(slices, field)
            .filter(|_| bytes > 0)
            .map(|s| (s, bytes))
    };
    for (i, &(first, _)) in slices.iter().enumerate() {
        for &(second, _) in &slices[i + 1..] {
            let (Some((a, a_bytes)), Some((b, b_bytes))) = (needed(first), needed(second)) else {
                continue;
            };
            if a.buffer() != b.buffer() {
                continue;
            }
            let overlap = a.offset() < b.offset() + b_bytes && b.offset() < a.offset() + a_bytes;
            if overlap && (program.writes(first) || program.writes(second)) {
                return Err(BindError::Overlap {
                    first: first.name(),
                    second: second.name(),
                });
            }
            for dispatch in &program.dispatches {
                let access = |field| {
                    dispatch
                        .bindings
                        .iter()
                        .find(|binding| binding.field == Some(field))
                        .map(|binding| binding.access)
                };
                let (read, written) = match (access(first), access(second)) {
                    (Some(Access::Read), Some(Access::Write)) => (first, second),
                    (Some(Access::Write), Some(Access::Read)) => (second, first),
                    _ => continue,
                };
                return Err(BindError::SharedBuffer {
                    read: read.name(),
                    written: written.name(),
                });
            }
        }
    }
    Ok(())
}

/// The uniforms of all dispatches in one buffer that never changes: a queue write would reach a step
/// that is recorded already but not submitted.
struct Uniforms {
    buffer: wgpu::Buffer,
    stride: u64,
    size: u64,
}

impl Uniforms {
    fn new<P: Pod>(label: &str, kernels: &Kernels, dispatches: &[Dispatch<P>]) -> Self {
        let size = size_of::<P>() as u64;
        let stride = size.next_multiple_of(kernels.caps().uniform_alignment);
        let mut bytes = vec![0; (stride as usize) * dispatches.len().max(1)];
        for (dispatch, slot) in dispatches.iter().zip(bytes.chunks_mut(stride as usize)) {
            slot[..size as usize].copy_from_slice(bytemuck::bytes_of(&dispatch.params));
        }
        let buffer = wgpu::util::DeviceExt::create_buffer_init(
            kernels.device(),
            &wgpu::util::BufferInitDescriptor {
                label: Some(label),
                contents: &bytes,
                usage: wgpu::BufferUsages::UNIFORM,
            },
        );
        Self {
            buffer,
            stride,
            size,
        }
    }

    fn binding(&self, index: usize) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: index as u64 * self.stride,
            size: wgpu::BufferSize::new(self.size),
        })
    }
}
