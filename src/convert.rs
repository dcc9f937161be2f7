//! A norm in place of another: what a network keeps of its BatchNorm when its batches become small, or its data shift.
//!
//! Weight and bias go over as they are, and so do `eps` and the epilogue. The statistics do not: the new norm takes those of
//! each sample, so that a trained network has to be fine-tuned. For a batch norm that only evaluates, fold it into the layer
//! before it, or [freeze](crate::batch_norm::Freeze) it.

use crate::batch_norm::BatchNorm;
use crate::error::Error;
use crate::group_norm::{GroupNorm, GroupNormConfig};
use crate::instance_norm::{InstanceNorm, InstanceNormConfig};
use crate::layer_norm::{LayerNorm, LayerNormConfig};
use crate::norm::sample::{Layer, SampleNorm};

impl BatchNorm {
    /// A GroupNorm of `num_groups` groups of the same channels. Waits for the device.
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for groups that do not divide the channels, [`GpuError`](crate::GpuError).
    pub fn to_group_norm(&self, num_groups: usize) -> Result<GroupNorm, Error> {
        let config = self.config();
        let norm = GroupNormConfig::new(num_groups, config.num_features)
            .eps(config.eps)
            .weight(config.weight)
            .bias(config.bias)
            .epilogue(config.epilogue)
            .build(self.gpu())?;
        self.give_parameters(norm)
    }

    /// An InstanceNorm of the same channels. Waits for the device.
    ///
    /// # Errors
    /// [`PlanError::Eps`](crate::PlanError::Eps) for an `eps` of zero, [`GpuError`](crate::GpuError).
    pub fn to_instance_norm(&self) -> Result<InstanceNorm, Error> {
        let config = self.config();
        let norm = InstanceNormConfig::new(config.num_features)
            .eps(config.eps)
            .weight(config.weight)
            .bias(config.bias)
            .epilogue(config.epilogue)
            .build(self.gpu())?;
        self.give_parameters(norm)
    }

    /// A LayerNorm over the channels of each pixel, which must be innermost: for channels-last tensors, and those of rank two.
    /// Waits for the device.
    ///
    /// # Errors
    /// As [`to_instance_norm`](Self::to_instance_norm).
    pub fn to_layer_norm(&self) -> Result<LayerNorm, Error> {
        let config = self.config();
        let norm = LayerNormConfig::new(config.num_features)
            .eps(config.eps)
            .weight(config.weight)
            .bias(config.bias)
            .epilogue(config.epilogue)
            .build(self.gpu())?;
        self.give_parameters(norm)
    }

    /// Copies weight and bias to a layer that has the same.
    fn give_parameters<C: SampleNorm>(&self, mut norm: Layer<C>) -> Result<Layer<C>, Error> {
        if let Some(weight) = self.parameters().weight()? {
            norm.set_weight(&weight)?;
        }
        if let Some(bias) = self.parameters().bias()? {
            norm.set_bias(&bias)?;
        }
        Ok(norm)
    }
}
