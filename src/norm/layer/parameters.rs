//! Weight and bias on the device.

use std::ops::Range;

use crate::error::{Error, PlanError, TensorError};
use crate::gpu::Gpu;
use crate::norm::rows::AffineRows;

/// Weight and bias of a layer, in one buffer.
#[derive(Debug)]
pub struct Parameters {
    gpu: Gpu,
    rows: AffineRows,
    buffer: Option<wgpu::Buffer>,
}

impl Parameters {
    /// Uploads `initial`, all rows one after the other.
    pub fn new(
        gpu: &Gpu,
        rows: AffineRows,
        initial: impl FnOnce() -> Vec<f32>,
    ) -> Result<Self, Error> {
        check_rows(gpu, rows.bytes())?;
        Ok(Self {
            gpu: gpu.clone(),
            rows,
            buffer: uploaded(gpu, "affine", bytemuck::cast_slice(&initial()))?,
        })
    }

    pub fn buffer(&self) -> Option<&wgpu::Buffer> {
        self.buffer.as_ref()
    }

    pub fn slice(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.buffer.as_ref().map(|buffer| buffer.slice(..))
    }

    pub fn weight(&self) -> Result<Option<Vec<f32>>, Error> {
        read_row(&self.gpu, self.buffer(), self.rows.weight.clone())
    }

    pub fn bias(&self) -> Result<Option<Vec<f32>>, Error> {
        read_row(&self.gpu, self.buffer(), self.rows.bias.clone())
    }

    pub fn set_weight(&self, values: &[f32]) -> Result<(), Error> {
        self.set("weight", self.rows.weight.clone(), values)
    }

    pub fn set_bias(&self, values: &[f32]) -> Result<(), Error> {
        self.set("bias", self.rows.bias.clone(), values)
    }

    fn set(
        &self,
        field: &'static str,
        row: Option<Range<u64>>,
        values: &[f32],
    ) -> Result<(), Error> {
        let expected = row.as_ref().map(|row| (row.end - row.start) as usize / 4);
        check_values(field, Some(values.len()), expected)?;
        if let Some((buffer, row)) = self.buffer.as_ref().zip(row) {
            self.gpu
                .write_f32(buffer.slice(row.start..row.end), values)?;
        }
        Ok(())
    }
}

/// Reads one row of a buffer, if there are both. Waits for the device.
pub fn read_row(
    gpu: &Gpu,
    buffer: Option<&wgpu::Buffer>,
    row: Option<Range<u64>>,
) -> Result<Option<Vec<f32>>, Error> {
    let Some(range) = buffer.zip(row) else {
        return Ok(None);
    };
    Ok(gpu.read_many(&[range])?.into_iter().next())
}

/// Could the device bind rows of this many bytes?
pub fn check_rows(gpu: &Gpu, needed: u64) -> Result<(), PlanError> {
    let available = gpu.kernels().caps().max_binding;
    match needed <= available {
        true => Ok(()),
        false => Err(PlanError::Limit {
            limit: "max_storage_buffer_binding_size",
            needed,
            available,
        }),
    }
}

/// A buffer with these bytes; none for no bytes.
pub fn uploaded(
    gpu: &Gpu,
    label: &'static str,
    bytes: &[u8],
) -> Result<Option<wgpu::Buffer>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(gpu.filled_buffer(label, bytes)?))
}

/// Is a value of the layer's state given if and only if the layer has it, and with the right number of values?
pub fn check_values(
    field: &'static str,
    given: Option<usize>,
    expected: Option<usize>,
) -> Result<(), TensorError> {
    let problem = match (given, expected) {
        (None, Some(_)) => "is missing".to_owned(),
        (Some(_), None) => "is given, but the layer has none".to_owned(),
        (Some(given), Some(expected)) if given != expected => {
            format!("expected {expected} values, got {given}")
        }
        _ => return Ok(()),
    };
    Err(TensorError::State { field, problem })
}
