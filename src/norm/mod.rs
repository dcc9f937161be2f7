//! What every norm is made of: how tensors are divided, how dispatches are planned, the kernels, plans on a device, and the
//! tuner. Knows no norm.

pub mod f16;
pub mod field;
pub mod kernels;
pub mod layer;
pub mod line;
pub mod options;
pub mod partition;
pub mod passes;
pub mod plan;
pub mod planner;
pub mod rows;
pub mod sample;
pub mod sources;
pub mod tile;
pub mod trailing;
pub mod tuner;
pub mod tuning;
pub mod uniform;

#[cfg(test)]
pub mod proof;
#[cfg(test)]
pub mod twin;
