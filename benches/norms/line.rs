//! The problem line of any norm.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;

use wgpu_norm::batch_norm::Epilogue;
use wgpu_norm::{WordError, batch_norm, group_norm, instance_norm, layer_norm, rms_norm};

use crate::norm::Norm;

/// A problem line. All but BatchNorm's begin with the norm's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    Batch(batch_norm::Line),
    Instance(instance_norm::Line),
    Group(group_norm::Line),
    Layer(layer_norm::Line),
    Rms(rms_norm::Line),
}

/// Why a line cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error(
        "{0:?} is no norm: a line begins with instance, group, layer or rms, or for BatchNorm with its extents"
    )]
    Norm(String),
    #[error(transparent)]
    Word(#[from] WordError),
}

impl Line {
    /// Whether two lines may share tensors and saved statistics: all is alike but the pass, its tuning and the epilogue.
    pub fn shares(self, other: Self) -> bool {
        let bare = |mut line: Self| {
            line.prepare(Epilogue::Identity);
            line
        };
        bare(self) == bare(other)
    }
}

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let first = text.split_whitespace().next().unwrap_or_default();
        Ok(match first {
            "instance" => Self::Instance(text.parse()?),
            "group" => Self::Group(text.parse()?),
            "layer" => Self::Layer(text.parse()?),
            "rms" => Self::Rms(text.parse()?),
            // A word without digits is no extents.
            _ if !first.is_empty() && !first.contains(|c: char| c.is_ascii_digit()) => {
                return Err(LineError::Norm(first.to_owned()));
            }
            _ => Self::Batch(text.parse()?),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Deref for Line {
    type Target = dyn Norm;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Batch(line) => line,
            Self::Instance(line) => line,
            Self::Group(line) => line,
            Self::Layer(line) => line,
            Self::Rms(line) => line,
        }
    }
}

impl DerefMut for Line {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Batch(line) => line,
            Self::Instance(line) => line,
            Self::Group(line) => line,
            Self::Layer(line) => line,
            Self::Rms(line) => line,
        }
    }
}
