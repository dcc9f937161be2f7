//! What of a layer stays as it is.

use crate::norm::options::setters;

/// What of a layer training leaves as it is, for fine-tuning. Parameters frozen while the statistics move is the common mistake:
/// the network then drifts away from what its weights were trained with.
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
    /// [`train`](super::BatchNorm::train) normalizes by the running statistics, as [`frozen`](super::BatchNorm::frozen), and moves none.
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
