//! wgpu's errors and panics as values.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::GpuError;

/// Runs `call`, with wgpu's first error of the kinds `filters`; a later kind comes before an earlier one.
pub fn scoped<T>(
    device: &wgpu::Device,
    filters: &[wgpu::ErrorFilter],
    call: impl FnOnce() -> T,
) -> (T, Option<wgpu::Error>) {
    let scopes: Vec<_> = filters
        .iter()
        .map(|&filter| device.push_error_scope(filter))
        .collect();
    let value = call();
    // Scopes are a stack, and all of them are popped before any error is looked at.
    let errors: Vec<_> = scopes
        .into_iter()
        .rev()
        .map(|scope| pollster::block_on(scope.pop()))
        .collect();
    (value, errors.into_iter().flatten().next())
}

/// Why wgpu did not do what it was asked.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// The device is lost, or has no memory left.
    Gpu(GpuError),
    /// The call was not valid: wgpu's message.
    Invalid(String),
}

impl Refusal {
    /// The device's error, or the one that `invalid` makes of wgpu's message.
    pub fn or<E: From<GpuError>>(self, invalid: impl FnOnce(String) -> E) -> E {
        match self {
            Self::Gpu(error) => error.into(),
            Self::Invalid(message) => invalid(message),
        }
    }
}

/// Runs `call`, which allocates `bytes` for `label`, and turns wgpu's errors, and its panic on a buffer of another
/// `Instance`, into a value.
pub fn guarded<T>(
    device: &wgpu::Device,
    (label, bytes): (&'static str, u64),
    call: impl FnOnce() -> T,
) -> Result<T, Refusal> {
    let filters = [
        wgpu::ErrorFilter::Validation,
        wgpu::ErrorFilter::OutOfMemory,
    ];
    let (result, error) = scoped(device, &filters, || catch_unwind(AssertUnwindSafe(call)));
    let message = match (result, error) {
        (Ok(value), None) => return Ok(value),
        (Ok(_), Some(wgpu::Error::OutOfMemory { .. })) => {
            return Err(Refusal::Gpu(GpuError::OutOfMemory { label, bytes }));
        }
        (Ok(_), Some(error)) => error.to_string(),
        (Err(panic), _) => message_of(panic.as_ref()),
    };
    // Objects that a lost device has made are invalid, and are refused for that.
    alive(device).map_err(Refusal::Gpu)?;
    Err(Refusal::Invalid(message))
}

/// A buffer needs a usage. Every device says so, but for a lost one, which reports no errors.
fn provoke(device: &wgpu::Device) {
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    });
}

/// Whether both are one device. wgpu compares devices by numbers that are unique within an instance only, but each device
/// reports its errors to itself.
pub fn same(a: &wgpu::Device, b: &wgpu::Device) -> bool {
    if a != b {
        return false;
    }
    let filter = &[wgpu::ErrorFilter::Validation];
    // An error of `a` goes to the inner scope if that is of the same device, and else to the outer one. A lost device has
    // none.
    let ((_, inner), outer) = scoped(a, filter, || scoped(b, filter, || provoke(a)));
    inner.is_some() || outer.is_none()
}

/// Is the device still there? A lost device makes objects without an error, and drops work without one.
pub fn alive(device: &wgpu::Device) -> Result<(), GpuError> {
    let (_, error) = scoped(device, &[wgpu::ErrorFilter::Validation], || provoke(device));
    match error {
        Some(_) => Ok(()),
        None => Err(GpuError::DeviceLost {
            message: "it accepts no work".to_owned(),
        }),
    }
}

/// The message of a caught panic.
pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("wgpu panicked")
        .to_owned()
}
