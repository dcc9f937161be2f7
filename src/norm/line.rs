//! Problem lines: all that the dispatches of a pass depend on, as words. One line is the name of a test, of a row of the
//! benchmark, and of what `explain` prints.

use std::fmt;

use super::options::{Epilogue, setters};
use super::tile::Tile;
use super::tuning::{Strategy, Tuning};
use crate::dtype::{Dtype, Problem};
use crate::gpu::{Caps, F16Conversion};
use crate::shape::Shape;
use crate::word::WordError;

/// The words that the lines of all norms have.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Common {
    /// Extents, layout and storage type: `n32c64h56w56 nchw f16`.
    pub problem: Problem,
    /// Strategy and tile if they are forced: `split`, `256x32`.
    pub tuning: Tuning,
    /// Whether the pass is planned as for a GPU on any device: `gpu`.
    pub as_gpu: bool,
    /// How f16 is converted if that is forced: `f16=native`.
    pub f16: Option<F16Conversion>,
    /// The largest storage binding in bytes if it is lower than the device's: `binding=1024`.
    pub max_binding: Option<u64>,
}

setters!(Common:
    tuning: Tuning, as_gpu: bool, f16: Option<F16Conversion>, max_binding: Option<u64>);

impl Common {
    /// A problem with nothing forced.
    pub fn new(problem: impl Into<Problem>) -> Self {
        Self {
            problem: problem.into(),
            tuning: Tuning::default(),
            as_gpu: false,
            f16: None,
            max_binding: None,
        }
    }

    /// The properties of a device as the line wants them.
    pub fn caps(&self, caps: &Caps) -> Caps {
        let mut caps = *caps;
        if self.as_gpu {
            (caps.cpu, caps.wide_words, caps.lanes) = (false, false, 32);
        }
        caps.f16 = self.f16.unwrap_or(caps.f16);
        caps.max_binding = self.max_binding.unwrap_or(caps.max_binding);
        caps
    }

    /// Reads the words of a line. `own` reads those that only one norm has, and says whether it knew the word.
    pub(crate) fn parse(
        line: &str,
        mut own: impl FnMut(&str) -> Result<bool, WordError>,
    ) -> Result<Self, WordError> {
        let wrong = |word| {
            let expected =
                "a problem line such as \"n32c64h56w56 nchw f16 relu train split 256x32\"";
            WordError::new("line", word, expected)
        };
        let mut words = line.split_whitespace().peekable();
        let mut extents = words.next().ok_or_else(|| wrong(line))?.to_owned();
        if let Some(layout) =
            words.next_if(|word| word.starts_with('n') && word.chars().all(char::is_alphabetic))
        {
            extents = format!("{extents} {layout}");
        }
        let mut common = Self::new(extents.parse::<Shape>().map_err(|_| wrong(&extents))?);
        for word in words {
            if let Ok(dtype) = word.parse::<Dtype>() {
                common.problem.dtype = dtype;
            } else if let Ok(strategy) = word.parse::<Strategy>() {
                common.tuning.strategy = Some(strategy);
            } else if let Ok(tile) = word.parse::<Tile>() {
                common.tuning.tile = Some(tile);
            } else if word == "gpu" {
                common.as_gpu = true;
            } else if let Some(conversion) = word.strip_prefix("f16=") {
                common.f16 = Some(conversion.parse().map_err(|_| wrong(word))?);
            } else if let Some(bytes) = word.strip_prefix("binding=") {
                common.max_binding = Some(bytes.parse().map_err(|_| wrong(word))?);
            } else if !own(word)? {
                return Err(wrong(word));
            }
        }
        Ok(common)
    }

    /// Writes the words, with those of the norm in their place.
    pub(crate) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        epilogue: Epilogue,
        own: &str,
    ) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        if epilogue != Epilogue::Identity {
            write!(f, " {epilogue}")?;
        }
        write!(f, " {own}")?;
        if let Some(strategy) = self.tuning.strategy {
            write!(f, " {strategy}")?;
        }
        if let Some(tile) = self.tuning.tile {
            write!(f, " {tile}")?;
        }
        if self.as_gpu {
            f.write_str(" gpu")?;
        }
        if let Some(conversion) = self.f16 {
            write!(f, " f16={conversion}")?;
        }
        if let Some(bytes) = self.max_binding {
            write!(f, " binding={bytes}")?;
        }
        Ok(())
    }
}
