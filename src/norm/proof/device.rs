//! Programs on the test device, in slices between guard words.

use super::{Case, inputs};
use crate::gpu::compiled::Compiled;
use crate::gpu::program::Program;
use crate::gpu::{Kernels, test_gpu};
use crate::norm::twin::memory::Memory;
use crate::norm::uniform::Params;

/// Words before and after every buffer, which no kernel may change.
const GUARD: u32 = 0xdead_beef;
const GUARD_BYTES: u64 = 256;

/// The memory after the program has run on the device; an error if it is refused, or writes outside of its buffers.
pub fn on_device<C: Case>(
    case: &C,
    kernels: &Kernels,
    program: &Program<Params<C::Settings>>,
    before: &Memory,
) -> Result<Memory, String> {
    let gpu = test_gpu();
    let device = kernels.device();
    let storage = case.storage();
    let buffers: Vec<_> = program
        .needs
        .iter()
        .filter(|need| need.bytes > 0)
        .map(|need| {
            let mut words = vec![GUARD; GUARD_BYTES as usize / 4];
            words.extend(inputs::words_of(
                storage,
                need.field,
                before.values(need.field),
            ));
            words.resize(((GUARD_BYTES + need.bytes) / 4) as usize, 0);
            words.resize(words.len() + GUARD_BYTES as usize / 4, GUARD);
            let buffer = wgpu::util::DeviceExt::create_buffer_init(
                device,
                &wgpu::util::BufferInitDescriptor {
                    label: Some(need.field.name()),
                    contents: bytemuck::cast_slice(&words),
                    usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                },
            );
            (need.field, need.bytes, buffer)
        })
        .collect();
    let slices: Vec<_> = buffers
        .iter()
        .map(|(field, bytes, buffer)| {
            (*field, Some(buffer.slice(GUARD_BYTES..GUARD_BYTES + bytes)))
        })
        .collect();
    let plan = Compiled::new(kernels, program).map_err(|error| format!("{case}: {error}"))?;
    let step = plan
        .bind("proof", &slices)
        .map_err(|error| format!("{case}: {error}"))?;
    let mut encoder = device.create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);

    let ranges: Vec<_> = buffers
        .iter()
        .map(|(_, _, buffer)| (buffer, 0..buffer.size()))
        .collect();
    let contents: Vec<Vec<u32>> = gpu
        .read_many(&ranges)
        .map_err(|error| format!("{case}: {error}"))?;
    let mut after = before.clone();
    for ((field, bytes, _), words) in buffers.iter().zip(contents) {
        let (head, rest) = words.split_at(GUARD_BYTES as usize / 4);
        let (body, tail) = rest.split_at(*bytes as usize / 4);
        if head.iter().chain(tail).any(|&word| word != GUARD) {
            return Err(format!(
                "{case}: {}: written outside the slice",
                field.name()
            ));
        }
        let count = before.values(*field).len();
        after.insert(*field, inputs::values_of(storage, *field, body, count));
    }
    Ok(after)
}
