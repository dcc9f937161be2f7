//! A program with its compiled kernels and its uniforms: made once a plan.

use super::buffer::filled;
use super::compose::{Access, Form};
use super::kernels::{Kernel, Kernels};
use super::program::{Field, Launch, Program, Uniform};
use crate::error::PlanError;

/// A program on a device.
#[derive(Debug)]
pub struct Compiled {
    pub(super) kernels: Kernels,
    /// With the bytes of its uniforms.
    pub(super) program: Program<Vec<u8>>,
    /// By dispatch.
    pub(super) compiled: Vec<Kernel>,
    pub(super) uniforms: Uniforms,
}

impl Compiled {
    /// Compiles the kernels, and uploads the uniforms.
    ///
    /// # Errors
    /// [`PlanError::Kernel`] if the driver refuses one; [`PlanError::Gpu`].
    pub fn new<U: Uniform>(kernels: &Kernels, program: &Program<U>) -> Result<Self, PlanError> {
        let program = program.with_bytes();
        Ok(Self {
            kernels: kernels.clone(),
            // Before the kernels, because it finds out whether the device is lost.
            uniforms: Uniforms::new(kernels, &program)?,
            compiled: kernels.compiled(&program)?,
            program,
        })
    }

    /// The dispatches as data.
    pub fn launches(&self, form: Form) -> Vec<Launch> {
        let max_groups = self.kernels.caps().max_groups;
        // The text was composed when the kernels were compiled.
        let launches = self.program.launches(max_groups, form);
        launches.unwrap_or_default()
    }

    /// The size that a buffer must have, in bytes; 0 if the plan does not touch it.
    pub fn bytes(&self, field: Field) -> u64 {
        self.program.bytes(field)
    }

    /// Whether any dispatch writes the buffer.
    pub fn writes(&self, field: Field) -> bool {
        let mut declared = self
            .compiled
            .iter()
            .flat_map(|kernel| &kernel.composed.bindings);
        declared.any(|d| d.name == field.name() && d.access == Access::Write)
    }
}

/// The uniforms of all dispatches, in one buffer that never changes: a queue write would reach a step that is recorded
/// and not yet submitted.
#[derive(Debug)]
pub(super) struct Uniforms {
    buffer: wgpu::Buffer,
    stride: u64,
    size: u64,
}

impl Uniforms {
    fn new(kernels: &Kernels, program: &Program<Vec<u8>>) -> Result<Self, PlanError> {
        let dispatches = &program.dispatches;
        let size = dispatches.first().map_or(16, |first| first.params.len());
        let stride = size.next_multiple_of(kernels.caps().uniform_alignment as usize);
        let mut bytes = vec![0; stride * dispatches.len().max(1)];
        for (dispatch, place) in dispatches.iter().zip(bytes.chunks_mut(stride)) {
            place[..size].copy_from_slice(&dispatch.params);
        }
        let usage = wgpu::BufferUsages::UNIFORM;
        let buffer = filled(kernels.device(), "wgpu_norm uniforms", &bytes, usage)?;
        kernels.note_upload();
        Ok(Self {
            buffer,
            stride: stride as u64,
            size: size as u64,
        })
    }

    pub(super) fn binding(&self, index: usize) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: index as u64 * self.stride,
            size: wgpu::BufferSize::new(self.size),
        })
    }
}
