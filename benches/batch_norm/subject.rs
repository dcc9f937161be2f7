//! What is timed, by its problem line.

use std::fmt;

use anyhow::{Context, bail};
use wgpu_norm::batch_norm::{Destination, Epilogue, Line, Pass, Strategy};
use wgpu_norm::{Caps, Dtype, Form, PlanError};

/// A pass of the library, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subject {
    pub line: Line,
    /// Whether the benchmark's own ReLU follows, in a dispatch of its own.
    pub then_relu: bool,
}

impl Subject {
    pub const fn new(line: Line) -> Self {
        Self {
            line,
            then_relu: false,
        }
    }

    /// The line without its problem: what is done to the tensor.
    pub fn work(&self) -> String {
        let (whole, problem) = (self.to_string(), self.line.common.problem.to_string());
        whole[problem.len()..].trim_start().to_owned()
    }

    /// The same by every strategy that the pass can choose from; nothing if there is no choice.
    pub fn strategies(&self, caps: &Caps) -> Result<Vec<Self>, PlanError> {
        let mut found = Vec::new();
        for &strategy in Strategy::ALL {
            let mut subject = *self;
            subject.line.common.tuning.strategy = Some(strategy);
            match subject.line.launches(caps, Form::default()) {
                // A strategy that makes no difference to the pass is no choice.
                Ok(launches) if found.iter().all(|(_, others)| *others != launches) => {
                    found.push((subject, launches));
                }
                Ok(_) | Err(PlanError::Strategy { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if found.len() < 2 {
            return Ok(Vec::new());
        }
        Ok(found.into_iter().map(|(subject, _)| subject).collect())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relu = if self.then_relu { ", then relu" } else { "" };
        write!(f, "{}{relu}", self.line)
    }
}

/// The passes of a line that names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Usual {
    Train,
    Eval,
    Backward,
    FrozenBackward,
    /// ReLU in the same pass.
    TrainRelu,
    /// ReLU in a pass of its own, by a kernel of the benchmark for f32.
    TrainThenRelu,
}

impl Usual {
    pub const ALL: &[Self] = &[
        Self::Train,
        Self::Eval,
        Self::Backward,
        Self::FrozenBackward,
        Self::TrainRelu,
        Self::TrainThenRelu,
    ];

    /// What it makes of a line; nothing if the benchmark cannot do it.
    fn subject(self, line: Line) -> Option<Subject> {
        let config = line.config;
        let (config, pass) = match self {
            Self::Train => (config, Pass::Train),
            Self::Eval => (config, Pass::Eval(Destination::OutOfPlace)),
            Self::Backward => (config, Pass::backward(false)),
            Self::FrozenBackward => (config, Pass::backward(true)),
            Self::TrainRelu => (config.epilogue(Epilogue::Relu), Pass::Train),
            Self::TrainThenRelu => (config.epilogue(Epilogue::Identity), Pass::Train),
        };
        let then_relu = self == Self::TrainThenRelu;
        if then_relu && line.common.problem.dtype != Dtype::F32
            || self == Self::FrozenBackward && !config.track_running_stats
        {
            return None;
        }
        let mut subject = Subject {
            line: Line::new(line.common.problem, &config, pass),
            then_relu,
        };
        subject.line.common.tuning = line.common.tuning;
        Some(subject)
    }
}

/// Reads a line, and says what is timed: its own pass, or if it names none the usual ones.
pub fn parse(text: &str, usual: &[Usual]) -> anyhow::Result<(Line, Vec<Subject>)> {
    let line: Line = text.parse().with_context(|| text.to_owned())?;
    if line.common.problem.shape.elements().unwrap_or(0) == 0 {
        bail!("{text}: must have at least one value, and not more than this machine can count");
    }
    if line.common.as_gpu || line.common.max_binding.is_some() {
        let reason = "the benchmark plans for the device at hand; leave out gpu and binding";
        bail!("{text}: {reason}");
    }
    let named = line.pass != Pass::Train || text.split_whitespace().any(|word| word == "train");
    if named {
        return Ok((line, vec![Subject::new(line)]));
    }
    let mut subjects = Vec::new();
    for subject in usual.iter().filter_map(|usual| usual.subject(line)) {
        // With relu in the line, two of the usual passes are the same.
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    Ok((line, subjects))
}
