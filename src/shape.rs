//! The shape of a tensor: extents, memory order, and counts of values that cannot overflow.

use std::fmt;
use std::str::FromStr;

/// Extents that make no [`Shape`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Too few axes for a batch and a channel axis, or more than three spatial axes.
    #[error("shape: expected 2 to 5 axes (batch, channels, up to 3 spatial), got {rank}")]
    Rank {
        /// The number of axes given.
        rank: usize,
    },
    /// A problem line that cannot be parsed.
    #[error(
        "shape: cannot read {line:?}; write extents and layout as in \"n32c64h56w56 nchw\", \
         \"n8c16l100 nlc\" or \"n64c128\", and f16 or bf16 after them for 16-bit values"
    )]
    Line {
        /// The line as given.
        line: String,
    },
}

/// The order of the axes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// `(N, C, ...)`, torch's contiguous order: all values of one channel of one sample are neighbours.
    ChannelsFirst,
    /// `(N, ..., C)`, torch's `channels_last`: all channels of one position are neighbours.
    ChannelsLast,
}

impl Layout {
    /// Every layout.
    pub const ALL: &'static [Self] = &[Self::ChannelsFirst, Self::ChannelsLast];
}

/// The extents of a dense tensor with a batch axis, a channel axis and up to three spatial axes.
///
/// `Display` and `FromStr` use a *problem line*: batch, channel and spatial extents, then the layout.
///
/// ```
/// use wgpu_norm::Shape;
/// let shape: Shape = "n32c64h56w56 nhwc".parse()?;
/// assert_eq!(shape, Shape::nhwc(32, 56, 56, 64));
/// assert_eq!(shape.to_string(), "n32c64h56w56 nhwc");
/// # Ok::<(), wgpu_norm::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    batch: usize,
    channels: usize,
    /// The spatial extents, outermost first; those past `spatial_rank` are 1.
    spatial: [usize; 3],
    spatial_rank: usize,
    layout: Layout,
}

impl Shape {
    /// `(N, C)`: features of a linear layer, one value per sample and channel.
    pub const fn nc(n: usize, c: usize) -> Self {
        Self::with(n, c, [1; 3], 0, Layout::ChannelsFirst)
    }
    /// `(N, C, L)`: sequences, channels first.
    pub const fn ncl(n: usize, c: usize, l: usize) -> Self {
        Self::with(n, c, [l, 1, 1], 1, Layout::ChannelsFirst)
    }
    /// `(N, L, C)`: sequences, channels last.
    pub const fn nlc(n: usize, l: usize, c: usize) -> Self {
        Self::with(n, c, [l, 1, 1], 1, Layout::ChannelsLast)
    }
    /// `(N, C, H, W)`: images, channels first.
    pub const fn nchw(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self::with(n, c, [h, w, 1], 2, Layout::ChannelsFirst)
    }
    /// `(N, H, W, C)`: images, channels last.
    pub const fn nhwc(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self::with(n, c, [h, w, 1], 2, Layout::ChannelsLast)
    }
    /// `(N, C, D, H, W)`: volumes, channels first.
    pub const fn ncdhw(n: usize, c: usize, d: usize, h: usize, w: usize) -> Self {
        Self::with(n, c, [d, h, w], 3, Layout::ChannelsFirst)
    }
    /// `(N, D, H, W, C)`: volumes, channels last.
    pub const fn ndhwc(n: usize, d: usize, h: usize, w: usize, c: usize) -> Self {
        Self::with(n, c, [d, h, w], 3, Layout::ChannelsLast)
    }

    const fn with(
        batch: usize,
        channels: usize,
        spatial: [usize; 3],
        spatial_rank: usize,
        layout: Layout,
    ) -> Self {
        Self {
            batch,
            channels,
            spatial,
            spatial_rank,
            layout,
        }
    }

    /// The shape with the extents `dims`, given in memory order.
    ///
    /// # Errors
    /// [`ShapeError::Rank`] for fewer than 2 or more than 5 axes.
    pub fn from_dims(dims: &[usize], layout: Layout) -> Result<Self, ShapeError> {
        if !(2..=5).contains(&dims.len()) {
            return Err(ShapeError::Rank { rank: dims.len() });
        }
        let (channels, inner) = match layout {
            Layout::ChannelsFirst => (dims[1], &dims[2..]),
            Layout::ChannelsLast => (dims[dims.len() - 1], &dims[1..dims.len() - 1]),
        };
        // Without spatial axes both layouts are the same.
        let layout = if inner.is_empty() {
            Layout::ChannelsFirst
        } else {
            layout
        };
        let mut spatial = [1; 3];
        spatial[..inner.len()].copy_from_slice(inner);
        Ok(Self::with(dims[0], channels, spatial, inner.len(), layout))
    }

    /// The extents in memory order.
    pub fn dims(&self) -> Vec<usize> {
        let mut dims = vec![self.batch];
        match self.layout {
            Layout::ChannelsFirst => {
                dims.push(self.channels);
                dims.extend(self.spatial());
            }
            Layout::ChannelsLast => {
                dims.extend(self.spatial());
                dims.push(self.channels);
            }
        }
        dims
    }

    /// The number of samples, `N`.
    pub const fn batch(&self) -> usize {
        self.batch
    }
    /// The number of channels, `C`.
    pub const fn channels(&self) -> usize {
        self.channels
    }
    /// The spatial extents, outermost first; empty for `(N, C)`.
    pub fn spatial(&self) -> &[usize] {
        &self.spatial[..self.spatial_rank]
    }
    /// The order of the axes in memory.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// `S`, the product of the spatial extents, or `None` if it overflows.
    pub fn plane(&self) -> Option<usize> {
        product(self.spatial())
    }
    /// `N·S`, the number of values that share one channel's statistics, or `None` if it overflows.
    pub fn values_per_channel(&self) -> Option<usize> {
        self.plane()?.checked_mul(self.batch)
    }
    /// `N·C·S`, the number of values, or `None` if it overflows.
    pub fn elements(&self) -> Option<usize> {
        product(&self.dims())
    }

    /// The channel, below `C`, of the value at `index` in memory order. `index` is below
    /// [`elements`](Self::elements); an index beyond it wraps, and a shape without values gives 0.
    pub fn channel_of(&self, index: usize) -> usize {
        let index = match self.layout {
            Layout::ChannelsFirst => quotient(index, self.plane()),
            Layout::ChannelsLast => index,
        };
        index.checked_rem(self.channels).unwrap_or(0)
    }

    /// The sample, below `N`, of the value at `index` in memory order, in either layout. `index` is as for
    /// [`channel_of`](Self::channel_of).
    pub fn sample_of(&self, index: usize) -> usize {
        let values = self
            .plane()
            .and_then(|plane| plane.checked_mul(self.channels));
        quotient(index, values).checked_rem(self.batch).unwrap_or(0)
    }
}

/// `index / divisor`. `None` is a divisor above every index.
fn quotient(index: usize, divisor: Option<usize>) -> usize {
    divisor.map_or(0, |divisor| index.checked_div(divisor).unwrap_or(0))
}

/// The product, or `None` if it overflows. With an extent of zero it is zero, however large the others are.
pub(crate) fn product(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |a, &b| a.checked_mul(b))
}

/// The letters of the spatial axes, indexed by their number.
const SPATIAL_LETTERS: [&str; 4] = ["", "l", "hw", "dhw"];

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = SPATIAL_LETTERS[self.spatial_rank];
        write!(f, "n{}c{}", self.batch, self.channels)?;
        for (letter, extent) in letters.chars().zip(self.spatial()) {
            write!(f, "{letter}{extent}")?;
        }
        match self.layout {
            Layout::ChannelsFirst => write!(f, " nc{letters}"),
            Layout::ChannelsLast => write!(f, " n{letters}c"),
        }
    }
}

impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(line: &str) -> Result<Self, ShapeError> {
        let wrong = || ShapeError::Line {
            line: line.to_owned(),
        };
        let mut words = line.split_whitespace();
        let extents = words.next().ok_or_else(wrong)?;
        let order = words.next();
        if words.next().is_some() {
            return Err(wrong());
        }
        let mut letters = String::new();
        let mut values = Vec::new();
        for part in extents.split_inclusive(|c: char| c.is_ascii_digit()) {
            // Each part ends in its only digit; a letter before the digit starts a new extent.
            let digit = part
                .chars()
                .last()
                .and_then(|c| c.to_digit(10))
                .ok_or_else(wrong)?;
            match part.len() {
                1 => {
                    let last: &mut usize = values.last_mut().ok_or_else(wrong)?;
                    *last = last
                        .checked_mul(10)
                        .and_then(|v| v.checked_add(digit as usize))
                        .ok_or_else(wrong)?;
                }
                2 => {
                    letters.push_str(&part[..1]);
                    values.push(digit as usize);
                }
                _ => return Err(wrong()),
            }
        }
        let spatial_rank = SPATIAL_LETTERS
            .iter()
            .position(|spatial| letters == format!("nc{spatial}"))
            .ok_or_else(wrong)?;
        let spatial_letters = SPATIAL_LETTERS[spatial_rank];
        let layout = match order {
            None => Layout::ChannelsFirst,
            Some(order) if order == letters => Layout::ChannelsFirst,
            Some(order) if order == format!("n{spatial_letters}c") => Layout::ChannelsLast,
            Some(_) => return Err(wrong()),
        };
        let mut spatial = [1; 3];
        spatial[..spatial_rank].copy_from_slice(&values[2..]);
        Ok(Self::with(
            values[0],
            values[1],
            spatial,
            spatial_rank,
            layout,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_line_reads_back_as_the_shape_that_wrote_it() {
        for shape in [
            Shape::nc(8, 3),
            Shape::ncl(4, 5, 7),
            Shape::nlc(4, 7, 5),
            Shape::nchw(32, 64, 56, 57),
            Shape::nhwc(32, 56, 57, 64),
            Shape::ncdhw(1, 2, 3, 4, 5),
            Shape::ndhwc(1, 3, 4, 5, 2),
            Shape::nchw(0, 64, 0, 3),
        ] {
            assert_eq!(shape.to_string().parse(), Ok(shape), "{shape}");
            assert_eq!(Shape::from_dims(&shape.dims(), shape.layout()), Ok(shape));
        }
        let either = Shape::from_dims(&[8, 3], Layout::ChannelsLast);
        assert_eq!(either, Ok(Shape::nc(8, 3)), "both layouts are the same");
    }

    #[test]
    fn a_line_that_is_no_problem_is_an_error_that_quotes_it() {
        for line in [
            "",
            "n1",
            "c1n1",
            "n1c",
            "nnc1",
            "1c2",
            "n1c2 ncl",
            "n1c2h3 nchw",
            "n1c2 nc f9",
            "n99999999999999999999c1",
            "n1c2é3",
            "n1c-2",
        ] {
            let error = line.parse::<Shape>().expect_err(line);
            assert!(matches!(error, ShapeError::Line { line: ref quoted } if quoted == line));
        }
    }

    #[test]
    fn rank_is_checked_and_products_do_not_wrap() {
        for dims in [&[][..], &[3], &[1, 2, 3, 4, 5, 6]] {
            assert_eq!(
                Shape::from_dims(dims, Layout::ChannelsFirst),
                Err(ShapeError::Rank { rank: dims.len() })
            );
        }
        assert_eq!(Shape::nchw(usize::MAX, 2, 1, 1).elements(), None);
        assert_eq!(Shape::nchw(usize::MAX, 2, 0, 1).elements(), Some(0));
        assert_eq!(Shape::nhwc(2, 3, 4, 5).values_per_channel(), Some(24));
    }

    #[test]
    fn channel_and_sample_follow_the_layout() {
        type Of = fn(&Shape, usize) -> usize;
        let all = |of: Of, shape: Shape| -> Vec<usize> { (0..12).map(|i| of(&shape, i)).collect() };
        let (first, last) = (Shape::ncl(2, 3, 2), Shape::nlc(2, 2, 3));
        let channels = all(Shape::channel_of, first);
        assert_eq!(channels, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
        let channels = all(Shape::channel_of, last);
        assert_eq!(channels, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
        for shape in [first, last] {
            let samples = all(Shape::sample_of, shape);
            assert_eq!(samples, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], "{shape}");
        }
    }

    #[test]
    fn indices_of_degenerate_shapes_do_not_panic() {
        for layout in Layout::ALL {
            for dims in [[0, 0, 0], [2, 0, 3], [2, 3, 0], [usize::MAX; 3]] {
                let shape = Shape::from_dims(&dims, *layout).unwrap();
                for index in [0, 1, usize::MAX] {
                    let (n, c) = (shape.sample_of(index), shape.channel_of(index));
                    assert!(n < shape.batch().max(1), "{shape}: sample {n}");
                    assert!(c < shape.channels().max(1), "{shape}: channel {c}");
                }
            }
        }
    }
}
