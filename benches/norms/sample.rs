//! Problem lines of the norms whose statistics come from each sample alone.

use wgpu_norm::batch_norm::{AffineRows, Common};
use wgpu_norm::instance_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Destination, Epilogue, ForwardBuffers,
    ForwardOptions, ForwardPlan, Pass, Tuner, Tuning,
};
use wgpu_norm::{Caps, Error, Form, Gpu, Launch, PlanError, SampleLine, SampleNorm, Shape};

use crate::norm::{Kind, Norm, Usual, Written, backward_written};
use crate::oracle::{Gradients, Oracle};
use crate::steps::Steps;
use crate::tensors::{Small, Tensors};

/// What differs between the norms.
pub trait Config: SampleNorm {
    /// The epilogue.
    fn fused(&self) -> Epilogue;

    /// Sets the epilogue.
    fn fuse(&mut self, epilogue: Epilogue);

    /// What the reference does not know.
    fn unverified(&self) -> Option<&'static str>;

    /// Whether 1 is added to the weight.
    fn adds_one(&self) -> bool;

    /// The number of values of weight or bias.
    fn parameters(&self) -> usize;

    /// The number of statistics in a tensor of a shape.
    fn statistics(&self, shape: Shape) -> usize;

    /// Neighbouring channels that share statistics.
    fn together(&self, shape: Shape) -> usize;

    /// y in f64, without the epilogue, of some channels, for the weight that multiplies.
    fn y(&self, of: &Verified<'_>, x: &[f64]) -> Vec<f64>;

    /// The gradients in f64, without the epilogue.
    fn gradients(&self, of: &Verified<'_>, x: &[f64], dy: &[f64]) -> Gradients;
}

/// The verified channels of a tensor, and their parameters if the norm has them.
#[derive(Clone, Copy)]
pub struct Verified<'a> {
    pub shape: Shape,
    pub weight: Option<&'a [f64]>,
    pub bias: Option<&'a [f64]>,
}

/// A norm with the channels that are verified.
struct Reference<'a, C> {
    config: C,
    of: Verified<'a>,
}

impl<C: Config> Reference<'_, C> {
    /// The weight, with 1 added if the norm adds it.
    fn factors(&self) -> Option<Vec<f64>> {
        let offset = f64::from(u8::from(self.config.adds_one()));
        let weight = self.of.weight?.iter();
        Some(weight.map(|weight| weight + offset).collect())
    }

    fn with<'b>(&'b self, weight: Option<&'b [f64]>) -> Verified<'b> {
        Verified { weight, ..self.of }
    }
}

impl<C: Config> Oracle for Reference<'_, C> {
    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let factors = self.factors();
        self.config.y(&self.with(factors.as_deref()), x)
    }

    fn backward(&self, x: &[f64], dy: &[f64]) -> Gradients {
        let factors = self.factors();
        self.config.gradients(&self.with(factors.as_deref()), x, dy)
    }
}

fn rows(config: &impl SampleNorm) -> AffineRows {
    config.affine_rows()
}

impl<C: Config> Norm for SampleLine<C> {
    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn epilogue(&self) -> Epilogue {
        self.config.fused()
    }

    fn kind(&self) -> Kind {
        match self.pass {
            Pass::Backward { .. } => Kind::Backward,
            _ => Kind::Forward,
        }
    }

    fn prenorm(&self) -> bool {
        self.prenorm
    }

    fn unverified(&self) -> Option<&'static str> {
        self.config.unverified()
    }

    fn default_pass(&self) -> Option<&'static str> {
        (self.pass == Pass::Forward).then_some("forward")
    }

    fn take(&mut self, usual: Usual) -> bool {
        let options = BackwardOptions::default();
        self.pass = match usual {
            Usual::Forward => Pass::Forward,
            Usual::Backward => Pass::Backward {
                dx: options.dx,
                parameters: options.parameters,
            },
            _ => return false,
        };
        true
    }

    fn prepare(&mut self, epilogue: Epilogue) {
        let mut config = self.config;
        config.fuse(epilogue);
        let prenorm = self.prenorm;
        *self = Self::new(self.common.problem, &config, Pass::Forward);
        self.prenorm = prenorm;
    }

    fn overwrites(&self) -> Option<&'static str> {
        let in_place = matches!(
            self.pass,
            Pass::Backward {
                dx: Some(Destination::InPlace),
                ..
            }
        );
        in_place.then_some("dy")
    }

    fn tensors(&self) -> u64 {
        let adds = u64::from(self.config.fused().adds());
        match self.pass {
            Pass::Backward { dx, .. } => {
                2 + u64::from(dx.is_some()) + 2 * adds + u64::from(self.prenorm)
            }
            _ => 2 + adds + 2 * u64::from(self.prenorm),
        }
    }

    fn written(&self, _: &Tensors) -> anyhow::Result<Vec<Written>> {
        Ok(match self.pass {
            Pass::Backward { dx, parameters } => {
                let adds = self.config.fused().adds();
                backward_written(dx, parameters, rows(&self.config), adds)
            }
            _ if self.prenorm => vec![Written::Y, Written::Added],
            _ => vec![Written::Y],
        })
    }

    fn oracle<'a>(&self, tensors: &'a Tensors) -> Box<dyn Oracle + 'a> {
        let rows = rows(&self.config);
        Box::new(Reference {
            config: self.config,
            of: Verified {
                shape: tensors.verified_shape(),
                weight: rows.weight.is_some().then_some(&tensors.weight),
                bias: rows.bias.is_some().then_some(&tensors.bias),
            },
        })
    }

    fn small(&self) -> Small {
        let shape = self.common.problem.shape;
        Small {
            parameters: self.config.parameters(),
            statistics: self.config.statistics(shape),
            together: self.config.together(shape),
            running: Vec::new(),
            moments: 0,
            sums: 0,
        }
    }

    fn launches(&self, caps: &Caps, form: Form) -> Result<Vec<Launch>, PlanError> {
        SampleLine::launches(self, caps, form)
    }

    fn measured(&self, tuner: &mut Tuner) -> Result<Tuning, Error> {
        SampleLine::measured(self, tuner)
    }

    fn bind(&self, gpu: &Gpu, tensors: &Tensors) -> anyhow::Result<Steps> {
        let (kernels, problem, config) = (gpu.kernels(), self.common.problem, &self.config);
        let (tuning, prenorm) = (self.common.tuning, self.prenorm);
        let adds = config.fused().adds();
        match self.pass {
            Pass::Backward { dx, parameters } => {
                let options = BackwardOptions::default()
                    .dx(dx)
                    .parameters(parameters)
                    .prenorm(prenorm)
                    .tuning(tuning);
                let plan = BackwardPlan::with_options(kernels, problem, config, options)?;
                let dy = self.overwrites().map_or("dy", |_| "out");
                let apart = dx == Some(Destination::OutOfPlace);
                let x = if prenorm { "added" } else { "x" };
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &BackwardBuffers::new(
                            memory.slice(x),
                            memory.slice(dy),
                            memory.slice("saved"),
                        )
                        .dx(memory.slice_if(apart, "out"))
                        .affine(memory.affine(rows(config)))
                        .grads(memory.slice_if(plan.grads_bytes() > 0, "grads"))
                        .dadded(memory.slice_if(prenorm, "dadded"))
                        .output(memory.slice_if(adds, "output"))
                        .dresidual(memory.slice_if(adds, "dresidual"))
                        .scratch(memory.scratch()),
                    )
                })
            }
            _ => {
                let options = ForwardOptions::default().prenorm(prenorm).tuning(tuning);
                let plan = ForwardPlan::with_options(kernels, problem, config, options)?;
                Steps::new(&plan, tensors, |memory| {
                    plan.bind(
                        &ForwardBuffers::new(
                            memory.slice("x"),
                            memory.slice("out"),
                            memory.slice("saved"),
                        )
                        .affine(memory.affine(rows(config)))
                        .residual(memory.slice_if(adds || prenorm, "residual"))
                        .added(memory.slice_if(prenorm, "added"))
                        .scratch(memory.scratch()),
                    )
                })
            }
        }
    }
}
