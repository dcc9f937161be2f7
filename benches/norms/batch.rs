//! Problem lines of BatchNorm.

use anyhow::bail;
use wgpu_norm::batch_norm::{
    ApplyBuffers, ApplyPlan, BackwardApplyBuffers, BackwardApplyPlan, BackwardBuffers,
    BackwardOptions, BackwardPlan, BackwardReduceBuffers, BackwardReducePlan, Common, Destination,
    Epilogue, EvalBuffers, EvalOptions, EvalPlan, Line, Pass, PieceOptions, StatsBuffers,
    StatsPlan, TrainBuffers, TrainOptions, TrainPlan, Tuner, Tuning,
};
use wgpu_norm::reference::batch_norm as reference;
use wgpu_norm::{Caps, Error, Form, Gpu, Launch, PlanError, Shape};

use crate::norm::{Kind, Norm, Usual, Written, backward_written};
use crate::oracle::{Gradients, Oracle};
use crate::steps::Steps;
use crate::tensors::{Small, Tensors};

impl Norm for Line {
    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn epilogue(&self) -> Epilogue {
        self.config.epilogue
    }

    fn kind(&self) -> Kind {
        match self.pass {
            Pass::Train => Kind::Forward,
            Pass::Eval(_) => Kind::Eval,
            Pass::Backward { frozen: false, .. } => Kind::Backward,
            Pass::Backward { frozen: true, .. } => Kind::FrozenBackward,
            _ => Kind::Piece,
        }
    }

    fn default_pass(&self) -> Option<&'static str> {
        (self.pass == Pass::Train).then_some("train")
    }

    fn take(&mut self, usual: Usual) -> bool {
        self.pass = match usual {
            Usual::Train | Usual::TrainRelu | Usual::TrainThenRelu => Pass::Train,
            Usual::Eval => Pass::Eval(Destination::OutOfPlace),
            Usual::Backward => Pass::backward(false),
            Usual::FrozenBackward if self.config.track_running_stats => Pass::backward(true),
            Usual::FrozenBackward | Usual::Forward => return false,
        };
        match usual {
            Usual::TrainRelu => self.config.epilogue = Epilogue::Relu,
            Usual::TrainThenRelu => self.config.epilogue = Epilogue::Identity,
            _ => {}
        }
        true
    }

    fn prepare(&mut self, epilogue: Epilogue) {
        let config = self.config.epilogue(epilogue);
        *self = Self::new(self.common.problem, &config, Pass::Train);
    }

    fn make_sums(&mut self) -> bool {
        let applies = matches!(self.pass, Pass::BackwardApply(_));
        if applies {
            *self = Self::new(self.common.problem, &self.config, Pass::BackwardReduce);
        }
        applies
    }

    fn overwrites(&self) -> Option<&'static str> {
        match self.pass {
            Pass::Eval(Destination::InPlace) | Pass::Apply(Destination::InPlace) => Some("x"),
            Pass::BackwardApply(Destination::InPlace)
            | Pass::Backward {
                dx: Some(Destination::InPlace),
                ..
            } => Some("dy"),
            _ => None,
        }
    }

    fn tensors(&self) -> u64 {
        let adds = u64::from(self.config.epilogue.adds());
        match self.pass {
            Pass::Stats => 1,
            Pass::Train | Pass::Eval(_) | Pass::Apply(_) => 2 + adds,
            Pass::BackwardReduce => 2 + 2 * adds,
            // The gradient of the residual stands in for dy.
            Pass::BackwardApply(_) => 3,
            Pass::Backward { dx, .. } => 2 + u64::from(dx.is_some()) + 2 * adds,
            _ => 0,
        }
    }

    fn written(&self, tensors: &Tensors) -> anyhow::Result<Vec<Written>> {
        let config = &self.config;
        let adds = config.epilogue.adds();
        Ok(match self.pass {
            Pass::Train | Pass::Eval(_) | Pass::Apply(_) => vec![Written::Y],
            Pass::Backward { dx, parameters, .. } => {
                backward_written(dx, parameters, config.affine_rows(), adds)
            }
            Pass::BackwardApply(_) => vec![Written::Dx],
            Pass::BackwardReduce => {
                let rows = config.sum_rows();
                vec![Written::Parameters {
                    buffer: "sums",
                    rows: [Some(rows.dweight), Some(rows.dbias)],
                }]
            }
            Pass::Stats => {
                let (shape, x) = (tensors.verified_shape(), tensors.values("x"));
                let forward = reference::train(shape, x, None, None, config.eps.into());
                let count = shape.values_per_channel().unwrap_or(0) as f64;
                let m2 = forward.var.iter().map(|var| var * count).collect();
                Written::moments(config.moment_rows(), forward.mean, m2)
            }
            pass => bail!("{pass} has no reference here"),
        })
    }

    fn oracle<'a>(&self, tensors: &'a Tensors) -> Box<dyn Oracle + 'a> {
        let running = match self.pass {
            Pass::Eval(_) => self.config.track_running_stats,
            Pass::Backward { frozen, .. } => frozen,
            _ => false,
        };
        Box::new(Reference {
            shape: tensors.verified_shape(),
            // Those of a new layer.
            running: running.then(|| reference::Running::new(tensors.channels.len())),
            weight: self.config.weight.then_some(&tensors.weight),
            bias: self.config.bias.then_some(&tensors.bias),
            eps: self.config.eps.into(),
        })
    }

    fn small(&self) -> Small {
        let config = &self.config;
        Small {
            parameters: config.num_features,
            samples: 1,
            statistics: config.num_features,
            together: 1,
            running: config.initial_running(),
            moments: config.moment_rows().bytes(),
            sums: config.sum_rows().bytes(),
        }
    }

    fn launches(&self, caps: &Caps, form: Form) -> Result<Vec<Launch>, PlanError> {
        Line::launches(self, caps, form)
    }

    fn measured(&self, tuner: &mut Tuner) -> Result<Tuning, Error> {
        Line::measured(self, tuner)
    }

    fn bind(&self, gpu: &Gpu, tensors: &Tensors) -> anyhow::Result<Steps> {
        let (kernels, problem, config) = (gpu.kernels(), self.common.problem, &self.config);
        let tuning = self.common.tuning;
        let piece = PieceOptions::default().tuning(tuning);
        let (adds, tracks) = (config.epilogue.adds(), config.track_running_stats);
        let apart = |place| place == Destination::OutOfPlace;
        let input = |place, name| if apart(place) { name } else { "out" };
        match self.pass {
            Pass::Train => {
                let options = TrainOptions::default().tuning(tuning);
                let plan = TrainPlan::with_options(kernels, problem, config, options)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &TrainBuffers::new(
                            memory.slice("x"),
                            memory.slice("out"),
                            memory.slice("saved"),
                        )
                        .affine(memory.affine(config.affine_rows()))
                        .running(memory.slice_if(tracks, "running"))
                        .residual(memory.slice_if(adds, "residual"))
                        .scratch(memory.scratch()),
                    )
                })
            }
            Pass::Eval(y) => {
                let options = EvalOptions::default().y(y).tuning(tuning);
                let plan = EvalPlan::with_options(kernels, problem, config, options)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &EvalBuffers::new(memory.slice(input(y, "x")))
                            .y(memory.slice_if(apart(y), "out"))
                            .affine(memory.affine(config.affine_rows()))
                            .running(memory.slice_if(tracks, "still"))
                            .residual(memory.slice_if(adds, "residual"))
                            .saved(memory.slice("saved"))
                            .scratch(memory.scratch()),
                    )
                })
            }
            Pass::Backward {
                frozen,
                dx,
                parameters,
            } => {
                let options = BackwardOptions::default()
                    .frozen(frozen)
                    .dx(dx)
                    .parameters(parameters)
                    .tuning(tuning);
                let plan = BackwardPlan::with_options(kernels, problem, config, options)?;
                let dy = input(dx.unwrap_or_default(), "dy");
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &BackwardBuffers::new(memory.slice("x"), memory.slice(dy))
                            .dx(memory.slice_if(dx.is_some_and(apart), "out"))
                            .saved(memory.slice_if(!frozen, "saved"))
                            .running(memory.slice_if(frozen, "still"))
                            .affine(memory.affine(config.affine_rows()))
                            .grads(memory.slice_if(plan.grads_bytes() > 0, "grads"))
                            .output(memory.slice_if(adds, "output"))
                            .dresidual(memory.slice_if(adds, "dresidual"))
                            .scratch(memory.scratch()),
                    )
                })
            }
            Pass::Stats => {
                let plan = StatsPlan::with_options(kernels, problem, config, piece)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &StatsBuffers::new(memory.slice("x"), memory.slice("moments"))
                            .scratch(memory.scratch()),
                    )
                })
            }
            Pass::Apply(y) => {
                let options = piece.destination(y);
                let plan = ApplyPlan::with_options(kernels, problem, config, options)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &ApplyBuffers::new(memory.slice(input(y, "x")), memory.slice("saved"))
                            .y(memory.slice_if(apart(y), "out"))
                            .affine(memory.affine(config.affine_rows()))
                            .residual(memory.slice_if(adds, "residual")),
                    )
                })
            }
            Pass::BackwardReduce => {
                let plan = BackwardReducePlan::with_options(kernels, problem, config, piece)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &BackwardReduceBuffers::new(
                            memory.slice("x"),
                            memory.slice("dy"),
                            memory.slice("saved"),
                            memory.slice("sums"),
                        )
                        .affine(memory.affine(config.affine_rows()))
                        .output(memory.slice_if(adds, "output"))
                        .dresidual(memory.slice_if(adds, "dresidual"))
                        .scratch(memory.scratch()),
                    )
                })
            }
            Pass::BackwardApply(dx) => {
                let options = piece.destination(dx);
                let plan = BackwardApplyPlan::with_options(kernels, problem, config, options)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &BackwardApplyBuffers::new(
                            memory.slice("x"),
                            memory.slice(input(dx, "dy")),
                            memory.slice("saved"),
                            memory.slice("sums"),
                        )
                        .dx(memory.slice_if(apart(dx), "out"))
                        .affine(memory.affine(config.affine_rows()))
                        .dresidual(memory.slice_if(adds, "dresidual")),
                    )
                })
            }
            pass => {
                bail!("{pass} passes over no tensor, so that no copy can be its yardstick")
            }
        }
    }
}

/// BatchNorm in f64: by running statistics if there are any, else by the batch's.
struct Reference<'a> {
    shape: Shape,
    running: Option<reference::Running>,
    weight: Option<&'a [f64]>,
    bias: Option<&'a [f64]>,
    eps: f64,
}

impl Oracle for Reference<'_> {
    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let Self {
            shape,
            weight,
            bias,
            ..
        } = *self;
        match &self.running {
            Some(running) => reference::eval(shape, x, running, weight, bias, self.eps),
            None => reference::train(shape, x, weight, bias, self.eps).y,
        }
    }

    fn backward(&self, x: &[f64], dy: &[f64]) -> Gradients {
        let Self { shape, weight, .. } = *self;
        let gradients = match &self.running {
            Some(running) => reference::backward_frozen(shape, x, dy, running, weight, self.eps),
            None => reference::backward(shape, x, dy, weight, self.eps),
        };
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}
