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
use crate::norm::sample::{Layer, Members, SampleNorm};

impl BatchNorm {
    /// A GroupNorm of `num_groups` groups of the same channels. Waits for the device.
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for groups that do not divide the channels, [`GpuError`](crate::GpuError).
    pub fn to_group_norm(&self, num_groups: usize) -> Result<GroupNorm, Error> {
        self.with_parameters(GroupNormConfig::new(num_groups, self.config().num_features))
    }

    /// An InstanceNorm of the same channels. Waits for the device.
    ///
    /// # Errors
    /// [`PlanError::Eps`](crate::PlanError::Eps) for an `eps` of zero, [`GpuError`](crate::GpuError).
    pub fn to_instance_norm(&self) -> Result<InstanceNorm, Error> {
        self.with_parameters(InstanceNormConfig::new(self.config().num_features))
    }

    /// A LayerNorm over the channels of each pixel, which must be innermost: for channels-last tensors, and those of rank two.
    /// Waits for the device.
    ///
    /// # Errors
    /// As [`to_instance_norm`](Self::to_instance_norm).
    pub fn to_layer_norm(&self) -> Result<LayerNorm, Error> {
        self.with_parameters(LayerNormConfig::new(self.config().num_features))
    }

    /// A layer of a configuration, with the members and the parameters of this one.
    fn with_parameters<C: SampleNorm>(&self, config: C) -> Result<Layer<C>, Error> {
        let own = self.config();
        let mut norm = Layer::new(
            self.gpu(),
            config.with_members(Members {
                eps: own.eps,
                weight: own.weight,
                bias: own.bias,
                epilogue: own.epilogue,
                ..config.members()
            }),
        )?;
        if let Some(weight) = self.parameters().weight()? {
            norm.set_weight(&weight)?;
        }
        if let Some(bias) = self.parameters().bias()? {
            norm.set_bias(&bias)?;
        }
        Ok(norm)
    }
}
