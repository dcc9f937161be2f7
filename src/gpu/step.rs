//! A plan bound to buffers: checked once, recorded any number of times.

use super::compiled::Compiled;
use super::compose::Access;
use super::guard::guarded;
use super::program::Field;
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
    pub fn dispatch_count(&self) -> usize {
        self.dispatches.len()
    }
}

/// A caller's buffers by field.
pub type Slices<'a> = [(Field, Option<wgpu::BufferSlice<'a>>)];

impl Compiled {
    /// Checks the buffers against the program and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, label: &'static str, slices: &Slices<'_>) -> Result<Step, BindError> {
        check_each(self, slices)?;
        check_pairs(self, slices)?;
        guarded(self.kernels.device(), ("bindings", 0), || {
            ready(label, self, slices)
        })
        .map_err(|refusal| refusal.or(|message| BindError::Refused { message }))
    }
}

fn ready(label: &'static str, plan: &Compiled, slices: &Slices<'_>) -> Step {
    let (kernels, program) = (&plan.kernels, &plan.program);
    let device = kernels.device();
    let dispatches = program
        .dispatches
        .iter()
        .zip(&plan.compiled)
        .enumerate()
        .map(|(index, (dispatch, kernel))| {
            let entries: Vec<_> = kernel
                .composed
                .bindings
                .iter()
                .map(|declared| {
                    let bound = program
                        .bound(declared.name, &dispatch.window)
                        .and_then(|(field, bytes)| Some((slice_of(slices, field)?, bytes)));
                    let resource = match (declared.access, bound) {
                        (Access::Uniform, _) => plan.uniforms.binding(index),
                        (access, None) => kernels.placeholder(access).as_entire_binding(),
                        (_, Some((slice, bytes))) => {
                            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                                buffer: slice.buffer(),
                                offset: slice.offset() + bytes.start,
                                size: wgpu::BufferSize::new(bytes.end - bytes.start),
                            })
                        }
                    };
                    wgpu::BindGroupEntry {
                        binding: declared.number,
                        resource,
                    }
                })
                .collect();
            Ready {
                pipeline: kernel.pipeline.clone(),
                bind_group: device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(dispatch.kernel.name),
                    layout: &kernel.pipeline.get_bind_group_layout(0),
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
fn check_each(plan: &Compiled, slices: &Slices<'_>) -> Result<(), BindError> {
    let needs = &plan.program.needs;
    for &(field, slice) in slices {
        let needed = needs.iter().any(|need| need.field == field);
        if field.is_optional() && slice.is_some() && !needed {
            return Err(BindError::Unexpected {
                field: field.name(),
            });
        }
    }
    for need in needs.iter().filter(|need| need.bytes > 0) {
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
        let required = plan.kernels.caps().storage_alignment;
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

/// May the buffers be bound together?
fn check_pairs(plan: &Compiled, slices: &Slices<'_>) -> Result<(), BindError> {
    let needed = |field: Field| {
        let bytes = plan.program.bytes(field);
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
            if !plan.writes(first) && !plan.writes(second) {
                continue;
            }
            let (first, second) = (first.name(), second.name());
            let overlap = a.offset() < b.offset() + b_bytes && b.offset() < a.offset() + a_bytes;
            return Err(match overlap {
                true => BindError::Overlap { first, second },
                false => BindError::SharedBuffer { first, second },
            });
        }
    }
    Ok(())
}
