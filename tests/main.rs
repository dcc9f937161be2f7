//! The tests of the public interface, in one executable: wgpu and naga are linked once.

mod alone;
mod bad_input;
mod budgets;
mod common;
mod convert;
mod equivalences;
mod errors;
mod fold;
mod fused;
mod gradients;
mod large_mean;
mod launches;
mod layer;
mod layering;
mod lost_device;
mod memory;
mod modules;
mod oracle_against_torch;
mod outliers;
mod per_sample;
mod pieces;
mod plans;
mod policies;
mod prenorm;
mod rounding;
mod sample_norms;
mod state;
#[cfg(feature = "safetensors")]
mod state_files;
mod statistics;
mod suites;
mod sync;
mod sync_suite;
mod tuner;
mod two_norms;
mod words;
