//! Gradients of several ranks become one.

use wgpu::Buffer;
use wgpu_norm::sync::Group;

use crate::parameter::Parameter;
use crate::program::{Program, download_all};

/// Appends the sum of the gradients of all ranks. Each rank's are those of its part of the mean loss.
pub fn sum(program: &mut Program, group: &Group, parameters: &[&Parameter]) {
    let gpu = program.gpu().clone();
    let group = group.clone();
    let gradients: Vec<Buffer> = parameters.iter().map(|p| p.gradient.clone()).collect();
    program.host(move || {
        let buffers: Vec<&Buffer> = gradients.iter().collect();
        let mut values: Vec<f32> = download_all(&gpu, &buffers)?;
        group.sum(&mut values)?;
        let mut rest = &values[..];
        for buffer in buffers {
            let (own, after) = rest.split_at(buffer.size() as usize / size_of::<f32>());
            gpu.queue()
                .write_buffer(buffer, 0, bytemuck::cast_slice(own));
            rest = after;
        }
        Ok(())
    });
}
