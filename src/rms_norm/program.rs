//! RMSNorm as a norm of rows.

use super::config::{RmsNormConfig, Rounding};
use crate::error::PlanError;
use crate::norm::planner::Norm;
use crate::norm::sources;
use crate::norm::trailing::Trailing;

/// RMSNorm's kernels: all of them are shared.
pub static NORM: Norm = Norm {
    name: "rms_norm",
    sources: &[sources::SOURCES],
    settings: "settings_eps",
};

/// What the programs depend on.
pub fn trailing(config: &RmsNormConfig) -> Result<Trailing, PlanError> {
    config.check()?;
    Ok(Trailing {
        norm: &NORM,
        size: config.normalized_size,
        eps: config.eps,
        weight: config.weight,
        bias: config.bias,
        centered: false,
        per_sample: config.per_sample,
        unit_offset: config.unit_offset,
        round_before_weight: config.rounding == Rounding::BeforeWeight,
        epilogue: config.epilogue,
    })
}
