//! How long a compute pass takes.

use std::time::Instant;

use wgpu::{Buffer, BufferUsages};
use wgpu_norm::Gpu;

/// Timestamps around the compute pass, or where the device has none the time until it is done.
pub struct Clock(Option<Timestamps>);

struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    staging: Buffer,
    nanoseconds: f64,
}

impl Clock {
    pub fn new(gpu: &Gpu) -> Self {
        let device = gpu.device();
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Self(None);
        }
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        Self(Some(Timestamps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            staging: buffer(BufferUsages::COPY_DST | BufferUsages::MAP_READ),
            nanoseconds: gpu.queue().get_timestamp_period().into(),
        }))
    }

    pub fn name(&self) -> &'static str {
        if self.0.is_some() {
            "timestamps of the device"
        } else {
            "wall time until the device is done"
        }
    }

    /// Milliseconds that the device spends on a pass.
    pub fn time(
        &self,
        gpu: &Gpu,
        record: impl FnOnce(&mut wgpu::ComputePass<'_>),
    ) -> anyhow::Result<f64> {
        let device = gpu.device();
        let mut encoder = device.create_command_encoder(&Default::default());
        let writes = |timestamps| wgpu::ComputePassTimestampWrites {
            query_set: timestamps,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        };
        record(
            &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: self.0.as_ref().map(|t| writes(&t.queries)),
            }),
        );
        let Some(timestamps) = &self.0 else {
            let start = Instant::now();
            gpu.queue().submit([encoder.finish()]);
            device.poll(wgpu::PollType::wait_indefinitely())?;
            return Ok(start.elapsed().as_secs_f64() * 1e3);
        };
        encoder.resolve_query_set(&timestamps.queries, 0..2, &timestamps.resolved, 0);
        encoder.copy_buffer_to_buffer(&timestamps.resolved, 0, &timestamps.staging, 0, 16);
        gpu.queue().submit([encoder.finish()]);
        timestamps
            .staging
            .map_async(wgpu::MapMode::Read, .., |_| {});
        device.poll(wgpu::PollType::wait_indefinitely())?;
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(&timestamps.staging.get_mapped_range(..)?);
        timestamps.staging.unmap();
        Ok((ticks[1] - ticks[0]) as f64 * timestamps.nanoseconds * 1e-6)
    }
}
