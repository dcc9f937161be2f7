//! One row of results.

use wgpu_norm::Problem;

use crate::contenders::Contender;
use crate::subject::Subject;

/// One contender's times on one problem.
#[derive(Clone, Debug)]
pub struct Row {
    /// The line that was timed, or the shape of a copy.
    pub name: String,
    /// What was timed; nothing for a copy.
    pub subject: Option<Subject>,
    pub problem: Problem,
    /// How often the problem counts in the total.
    pub count: u32,
    /// The one dispatch that was timed, if not all.
    pub kernel: Option<&'static str>,
    pub dispatches: usize,
    pub scratch: u64,
    /// Milliseconds, in order.
    times: Vec<f64>,
    /// Tensors that must be read or written, each once.
    tensors: u64,
    /// Bytes of activations that the dispatches move, over those that a copy moves.
    pub moved: f64,
    /// The median over that of the fastest copy of the tensor.
    pub to_copy: f64,
}

impl Row {
    pub fn new(
        problem: Problem,
        count: u32,
        contender: &Contender,
        dispatch: Option<usize>,
        copied_bytes: u64,
        mut times: Vec<f64>,
    ) -> Self {
        times.sort_by(f64::total_cmp);
        Self {
            name: contender.name.clone(),
            subject: contender.subject,
            problem,
            count,
            kernel: dispatch.map(|index| contender.kernel(index)),
            dispatches: contender.dispatches(),
            scratch: contender.scratch,
            times,
            tensors: contender.tensors,
            moved: contender.moved(dispatch) as f64 / copied_bytes as f64,
            to_copy: f64::NAN,
        }
    }

    /// After so many quarters of the times.
    pub fn quantile(&self, quarter: usize) -> f64 {
        match self.times.len() {
            0 => f64::NAN,
            length => self.times[(length - 1) * quarter / 4],
        }
    }

    pub fn median(&self) -> f64 {
        self.quantile(2)
    }

    /// The bytes that must move in a second, in units of 10^9.
    pub fn gigabytes(&self) -> f64 {
        let elements = self.problem.shape.elements().unwrap_or(0) as u64;
        let bytes = self.tensors * elements * self.problem.dtype.bytes();
        bytes as f64 / self.median() * 1e-6
    }

    /// The share of the copy's rate at which the bytes move that must.
    pub fn share(&self) -> f64 {
        self.tensors as f64 / 2.0 / self.to_copy
    }

    /// The time for each byte that the dispatches move, over that of the fastest copy; nothing for a dispatch that moves
    /// no activation.
    pub fn to_copy_by_byte(&self) -> Option<f64> {
        (self.moved > 0.0).then(|| self.to_copy / self.moved)
    }

    /// What ran: one dispatch, or how many.
    pub fn part(&self) -> String {
        match self.kernel {
            Some(kernel) => kernel.to_owned(),
            None => self.dispatches.to_string(),
        }
    }
}
