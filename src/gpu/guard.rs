//! What wgpu refuses, by an error or by a panic, as its words.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of a call, or what wgpu has against it: a validation error, or the panic that it makes of a buffer of
/// another instance where that does not pass for one of this instance.
pub fn guarded<T>(device: &wgpu::Device, call: impl FnOnce() -> T) -> Result<T, String> {
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let result = catch_unwind(AssertUnwindSafe(call));
    let error = pollster::block_on(validation.pop());
    let value = result.map_err(|panic| message_of(panic.as_ref()))?;
    match error {
        None => Ok(value),
        Some(error) => Err(error.to_string()),
    }
}

/// What a panic of wgpu's says.
pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("wgpu panicked")
        .to_owned()
}
