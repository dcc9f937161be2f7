//! InstanceNorm, GroupNorm, LayerNorm and RMSNorm: how their statistics lie, and their references.

use wgpu_norm::batch_norm::MomentRows;
use wgpu_norm::instance_norm::Epilogue;
use wgpu_norm::reference::{group_norm, instance_norm, layer_norm, rms_norm};
use wgpu_norm::rms_norm::Rounding;
use wgpu_norm::{
    Dtype, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig, Shape, half,
};

use crate::oracle::Gradients;
use crate::sample::{Config, Verified};

/// What all configurations answer alike.
macro_rules! members {
    () => {
        fn own_parameters(&self) -> bool {
            self.per_sample
        }

        fn adds_one(&self) -> bool {
            self.unit_offset
        }

        fn fused(&self) -> Epilogue {
            self.epilogue
        }

        fn fuse(&mut self, epilogue: Epilogue) {
            self.epilogue = epilogue;
        }
    };
}

/// Those of a norm that has both parameters.
macro_rules! gradients {
    ($made:expr) => {{
        let made = $made;
        Gradients {
            dx: made.dx,
            dweight: made.dweight,
            dbias: made.dbias,
        }
    }};
}

impl Config for InstanceNormConfig {
    members!();

    fn moments(&self, samples: usize) -> Option<MomentRows> {
        self.moment_rows(samples)
    }

    fn parameters(&self) -> usize {
        self.num_features
    }

    fn statistics(&self, shape: Shape) -> usize {
        shape.batch() * shape.channels()
    }

    fn together(&self, _: Shape) -> usize {
        1
    }

    fn y(&self, of: &Verified<'_>, x: &[f64]) -> Vec<f64> {
        instance_norm::forward(of.shape, x, of.weight, of.bias, self.eps.into()).y
    }

    fn gradients(&self, of: &Verified<'_>, x: &[f64], dy: &[f64]) -> Gradients {
        gradients!(instance_norm::backward(
            of.shape,
            x,
            dy,
            of.weight,
            self.eps.into()
        ))
    }
}

impl Config for GroupNormConfig {
    members!();

    fn parameters(&self) -> usize {
        self.num_channels
    }

    fn statistics(&self, shape: Shape) -> usize {
        shape.batch() * self.num_groups
    }

    fn together(&self, _: Shape) -> usize {
        self.num_channels / self.num_groups
    }

    fn y(&self, of: &Verified<'_>, x: &[f64]) -> Vec<f64> {
        let groups = of.shape.channels() / self.together(of.shape);
        group_norm::forward(of.shape, groups, x, of.weight, of.bias, self.eps.into()).y
    }

    fn gradients(&self, of: &Verified<'_>, x: &[f64], dy: &[f64]) -> Gradients {
        let groups = of.shape.channels() / self.together(of.shape);
        gradients!(group_norm::backward(
            of.shape,
            groups,
            x,
            dy,
            of.weight,
            self.eps.into()
        ))
    }
}

/// Rows of so many values in a tensor.
fn rows(size: usize, shape: Shape) -> usize {
    shape.elements().unwrap_or(0) / size
}

impl Config for LayerNormConfig {
    members!();

    fn parameters(&self) -> usize {
        self.normalized_size
    }

    fn statistics(&self, shape: Shape) -> usize {
        rows(self.normalized_size, shape)
    }

    fn together(&self, shape: Shape) -> usize {
        shape.channels()
    }

    fn y(&self, of: &Verified<'_>, x: &[f64]) -> Vec<f64> {
        layer_norm::forward(self.normalized_size, x, of.weight, of.bias, self.eps.into()).y
    }

    fn gradients(&self, of: &Verified<'_>, x: &[f64], dy: &[f64]) -> Gradients {
        let size = self.normalized_size;
        gradients!(layer_norm::backward(
            size,
            x,
            dy,
            of.weight,
            self.eps.into()
        ))
    }
}

/// A normalized value as the weight multiplies it.
fn before_weight(config: &RmsNormConfig, dtype: Dtype, x_hat: f64) -> f64 {
    match dtype {
        Dtype::F16 if config.rounds_before_weight() => half::f16::from_f64(x_hat).into(),
        Dtype::Bf16 if config.rounds_before_weight() => half::bf16::from_f64(x_hat).into(),
        _ => x_hat,
    }
}

impl Config for RmsNormConfig {
    members!();

    fn rounds_before_weight(&self) -> bool {
        self.rounding == Rounding::BeforeWeight
    }

    fn parameters(&self) -> usize {
        self.normalized_size
    }

    fn statistics(&self, shape: Shape) -> usize {
        rows(self.normalized_size, shape)
    }

    fn together(&self, shape: Shape) -> usize {
        shape.channels()
    }

    fn y(&self, of: &Verified<'_>, x: &[f64]) -> Vec<f64> {
        let (size, eps) = (self.normalized_size, self.eps.into());
        let rounded = |x_hat| before_weight(self, of.dtype, x_hat);
        rms_norm::forward_rounded(size, x, of.weight, of.bias, eps, rounded).y
    }

    fn gradients(&self, of: &Verified<'_>, x: &[f64], dy: &[f64]) -> Gradients {
        let (size, eps) = (self.normalized_size, self.eps.into());
        let rounded = |x_hat| before_weight(self, of.dtype, x_hat);
        let made = rms_norm::backward_rounded(size, x, dy, of.weight, eps, rounded);
        Gradients {
            dx: made.dx,
            dweight: made.dweight,
            dbias: made.dbias,
        }
    }
}
