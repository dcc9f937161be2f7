//! Steps of the library, from a problem line and buffers by name.

use anyhow::bail;
use wgpu::{Buffer, BufferSlice};
use wgpu_norm::Gpu;
use wgpu_norm::batch_norm::{
    ApplyBuffers, ApplyPlan, BackwardApplyBuffers, BackwardApplyPlan, BackwardBuffers,
    BackwardOptions, BackwardPlan, BackwardReduceBuffers, BackwardReducePlan, Destination,
    EvalBuffers, EvalOptions, EvalPlan, Line, Pass, PieceOptions, StatsBuffers, StatsPlan, Step,
    TrainBuffers, TrainOptions, TrainPlan,
};

use crate::tensors::Tensors;

/// A line's plan, bound to each set of tensors.
pub struct Steps {
    pub steps: Vec<Step>,
    /// The name of each dispatch's kernel.
    pub kernels: Vec<&'static str>,
    /// Bytes.
    pub scratch: u64,
    /// Tensors that must be read or written, each once.
    pub tensors: u64,
}

/// The buffers of one step.
struct Memory<'a> {
    tensors: &'a Tensors,
    set: usize,
    scratch: Buffer,
    line: &'a Line,
}

impl<'a> Memory<'a> {
    fn slice(&self, name: &str) -> BufferSlice<'a> {
        self.tensors.buffer(self.set, name).slice(..)
    }

    /// A buffer that the line needs only under a condition.
    fn slice_if(&self, needed: bool, name: &str) -> Option<BufferSlice<'a>> {
        needed.then(|| self.slice(name))
    }

    fn affine(&self) -> Option<BufferSlice<'a>> {
        match (self.line.config.weight, self.line.config.bias) {
            (true, true) => Some(self.slice("affine")),
            (true, false) => Some(self.slice("weight")),
            (false, true) => Some(self.slice("bias")),
            (false, false) => None,
        }
    }

    fn scratch(&self) -> BufferSlice<'_> {
        self.scratch.slice(..)
    }
}

/// Plans a line and binds it to each set of tensors. The result is "out"; what goes in place is there to begin with.
pub fn bind(gpu: &Gpu, line: &Line, tensors: &Tensors) -> anyhow::Result<Steps> {
    let (kernels, problem, config) = (gpu.kernels(), line.common.problem, &line.config);
    let tuning = line.common.tuning;
    let piece = PieceOptions::default().tuning(tuning);
    let (adds, tracks) = (config.epilogue.adds(), config.track_running_stats);
    let apart = |place| place == Destination::OutOfPlace;
    let input = |place, name| if apart(place) { name } else { "out" };
    // Plans of different kinds are different types, bound alike.
    macro_rules! steps {
        ($plan:ident = $make:expr; $memory:ident => $buffers:expr) => {{
            let $plan = $make?;
            let steps = (0..tensors.sets.len()).map(|set| {
                let $memory = Memory {
                    tensors,
                    set,
                    scratch: tensors.scratch($plan.scratch_bytes()),
                    line,
                };
                Ok($plan.bind(&$buffers)?)
            });
            let launches = $plan.launches(Default::default());
            Ok(Steps {
                steps: steps.collect::<anyhow::Result<_>>()?,
                kernels: launches.iter().map(|launch| launch.entry_point).collect(),
                scratch: $plan.scratch_bytes(),
                tensors: moved(line),
            })
        }};
    }
    match line.pass {
        Pass::Train => steps!(
            plan = TrainPlan::with_options(kernels, problem, config, TrainOptions::default().tuning(tuning));
            memory => TrainBuffers::new(memory.slice("x"), memory.slice("out"), memory.slice("saved"))
                .affine(memory.affine())
                .running(memory.slice_if(tracks, "running"))
                .residual(memory.slice_if(adds, "residual"))
                .scratch(memory.scratch())
        ),
        Pass::Eval(y) => steps!(
            plan = EvalPlan::with_options(kernels, problem, config, EvalOptions::default().y(y).tuning(tuning));
            memory => EvalBuffers::new(memory.slice(input(y, "x")))
                .y(memory.slice_if(apart(y), "out"))
                .affine(memory.affine())
                .running(memory.slice_if(tracks, "still"))
                .residual(memory.slice_if(adds, "residual"))
                .saved(memory.slice("saved"))
                .scratch(memory.scratch())
        ),
        Pass::Backward {
            frozen,
            dx,
            parameters,
        } => {
            let options = BackwardOptions::default()
                .frozen(frozen)
                .dx(dx)
                .parameters(parameters);
            steps!(
                plan = BackwardPlan::with_options(kernels, problem, config, options.tuning(tuning));
                memory => BackwardBuffers::new(
                        memory.slice("x"),
                        memory.slice(input(dx.unwrap_or_default(), "dy")),
                    )
                    .dx(memory.slice_if(dx.is_some_and(apart), "out"))
                    .saved(memory.slice_if(!frozen, "saved"))
                    .running(memory.slice_if(frozen, "still"))
                    .affine(memory.affine())
                    .grads(memory.slice_if(plan.grads_bytes() > 0, "grads"))
                    .output(memory.slice_if(adds, "output"))
                    .dresidual(memory.slice_if(adds, "dresidual"))
                    .scratch(memory.scratch())
            )
        }
        Pass::Stats => steps!(
            plan = StatsPlan::with_options(kernels, problem, config, piece);
            memory => StatsBuffers::new(memory.slice("x"), memory.slice("moments")).scratch(memory.scratch())
        ),
        Pass::Apply(y) => steps!(
            plan = ApplyPlan::with_options(kernels, problem, config, piece.destination(y));
            memory => ApplyBuffers::new(memory.slice(input(y, "x")), memory.slice("saved"))
                .y(memory.slice_if(apart(y), "out"))
                .affine(memory.affine())
                .residual(memory.slice_if(adds, "residual"))
        ),
        Pass::BackwardReduce => steps!(
            plan = BackwardReducePlan::with_options(kernels, problem, config, piece);
            memory => BackwardReduceBuffers::new(
                    memory.slice("x"),
                    memory.slice("dy"),
                    memory.slice("saved"),
                    memory.slice("sums"),
                )
                .affine(memory.affine())
                .output(memory.slice_if(adds, "output"))
                .dresidual(memory.slice_if(adds, "dresidual"))
                .scratch(memory.scratch())
        ),
        Pass::BackwardApply(dx) => steps!(
            plan = BackwardApplyPlan::with_options(kernels, problem, config, piece.destination(dx));
            memory => BackwardApplyBuffers::new(
                    memory.slice("x"),
                    memory.slice(input(dx, "dy")),
                    memory.slice("saved"),
                    memory.slice("sums"),
                )
                .dx(memory.slice_if(apart(dx), "out"))
                .affine(memory.affine())
                .dresidual(memory.slice_if(adds, "dresidual"))
        ),
        pass => bail!("{pass} passes over no tensor, so that no copy can be its yardstick"),
    }
}

/// Tensors that a pass must read or write, each once.
fn moved(line: &Line) -> u64 {
    let adds = u64::from(line.config.epilogue.adds());
    match line.pass {
        Pass::Stats => 1,
        Pass::Train | Pass::Eval(_) | Pass::Apply(_) => 2 + adds,
        Pass::BackwardReduce => 2 + 2 * adds,
        // The gradient of the residual stands in for dy.
        Pass::BackwardApply(_) => 3,
        Pass::Backward { dx, .. } => 2 + u64::from(dx.is_some()) + 2 * adds,
        _ => 0,
    }
}
