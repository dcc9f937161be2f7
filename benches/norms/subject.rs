//! What is timed, by its problem line.

use std::fmt;

use anyhow::{Context, bail};
use wgpu_norm::batch_norm::{Strategy, Tuner, Tuning};
use wgpu_norm::{Caps, Dtype, Error, Form, PlanError};

use crate::line::Line;
use crate::norm::{Kind, Usual};

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

    /// One of the usual passes of a line; nothing if the benchmark cannot do it.
    fn usual(mut line: Line, usual: Usual) -> Option<Self> {
        let then_relu = usual == Usual::TrainThenRelu;
        if then_relu && line.common().problem.dtype != Dtype::F32 || !line.take(usual) {
            return None;
        }
        Some(Self { line, then_relu })
    }

    /// The line without its problem: what is done to the tensor.
    pub fn work(&self) -> String {
        let problem = self.line.common().problem.to_string();
        let work = self.to_string().replacen(&problem, "", 1);
        work.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The same by every strategy that the pass can choose from; nothing if there is no choice.
    pub fn strategies(&self, caps: &Caps) -> Result<Vec<Self>, PlanError> {
        let mut found = Vec::new();
        for &strategy in Strategy::ALL {
            let mut subject = *self;
            subject.line.common_mut().tuning.strategy = Some(strategy);
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

    /// The same by a tuner's choice; nothing if that is the plan's own, or if the line leaves no choice.
    pub fn tuned(&self, tuner: &mut Tuner) -> Result<Option<Self>, Error> {
        let own = Tuning::default();
        if self.line.common().tuning != own || self.line.kind() == Kind::Piece {
            return Ok(None);
        }
        let mut subject = *self;
        subject.line.common_mut().tuning = self.line.measured(tuner)?;
        Ok((subject != *self).then_some(subject))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relu = if self.then_relu { ", then relu" } else { "" };
        write!(f, "{}{relu}", self.line)
    }
}

/// Reads a line, and says what is timed: its own pass, or if it names none the usual ones.
pub fn parse(text: &str, usual: &[Usual]) -> anyhow::Result<(Line, Vec<Subject>)> {
    let line: Line = text.parse().with_context(|| text.to_owned())?;
    let common = line.common();
    if common.problem.shape.elements().unwrap_or(0) == 0 {
        bail!("{text}: must have at least one value, and not more than this machine can count");
    }
    if common.as_gpu || common.max_binding.is_some() {
        let reason = "the benchmark plans for the device at hand; leave out gpu and binding";
        bail!("{text}: {reason}");
    }
    let default = line.default_pass();
    if default.is_none_or(|default| text.split_whitespace().any(|word| word == default)) {
        return Ok((line, vec![Subject::new(line)]));
    }
    let mut subjects = Vec::new();
    for subject in usual
        .iter()
        .filter_map(|&usual| Subject::usual(line, usual))
    {
        // With relu in the line, two of the usual passes are the same.
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    Ok((line, subjects))
}
