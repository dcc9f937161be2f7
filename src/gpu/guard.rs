//! wgpu's validation errors and panics as values.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Runs `call` and turns wgpu's validation error, or its panic on a buffer of another `Instance`, into a message.
pub fn guarded<T>(device: &wgpu::Device, call: impl FnOnce() -> T) -> Result<T, String> {
    let (result, error) = scoped(device, &[wgpu::ErrorFilter::Validation], || {
        catch_unwind(AssertUnwindSafe(call))
    });
    let value = result.map_err(|panic| message_of(panic.as_ref()))?;
    match error {
        None => Ok(value),
        Some(error) => Err(error.to_string()),
    }
}

/// The message of a caught panic.
pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("wgpu panicked")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::test_gpu;

    #[test]
    fn a_panic_is_its_message_and_leaves_no_scope_open() {
        let device = test_gpu().device();
        let message = guarded(device, || panic!("no {}", "luck")).unwrap_err();
        assert_eq!(message, "no luck");
        assert_eq!(guarded(device, || 3), Ok(3));
    }

    #[test]
    fn an_error_is_told_by_its_kind() {
        let device = test_gpu().device();
        let filters = [
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
        ];
        let (_, error) = scoped(device, &filters, || {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 16,
                // A buffer needs a usage.
                usage: wgpu::BufferUsages::empty(),
                mapped_at_creation: false,
            })
        });
        assert!(
            matches!(error, Some(wgpu::Error::Validation { .. })),
            "{error:?}"
        );
        assert!(scoped(device, &filters, || ()).1.is_none());
    }
}
