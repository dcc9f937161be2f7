//! The parts of a layer that stay as they are.

use crate::norm::options::setters;

/// Which parts of a layer training does not change, for fine-tuning. Frozen parameters with statistics that move are a common
/// mistake: the network's outputs then shift away from what its other weights were trained with.
///
/// ```no_run
/// # fn f(bn: &mut wgpu_norm::BatchNorm) -> Result<(), wgpu_norm::Error> {
/// use wgpu_norm::batch_norm::Freeze;
/// bn.freeze(Freeze::ALL)?; // as torchvision's FrozenBatchNorm2d
/// bn.freeze(Freeze::default().statistics(true))?; // parameters go on learning
/// bn.freeze(Freeze::default())?; // trains as before
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Freeze {
    /// [`train`](super::BatchNorm::train) normalizes by the running statistics, as [`frozen`](super::BatchNorm::frozen), and
    /// moves none.
    pub statistics: bool,
    /// Backward computes no gradients of weight and bias.
    pub parameters: bool,
}

setters!(Freeze: statistics: bool, parameters: bool);

impl Freeze {
    /// Both.
    pub const ALL: Self = Self {
        statistics: true,
        parameters: true,
    };
}
