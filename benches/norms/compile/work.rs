//! What is compiled.

use wgpu_norm::Launch;

/// The dispatches of a problem line.
pub struct Work {
    pub line: String,
    /// Bytes of a value of its activations.
    pub value_bytes: u64,
    pub launches: Vec<Launch>,
}
