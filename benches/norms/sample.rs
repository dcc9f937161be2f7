//! Problem lines of the norms whose statistics come from each sample alone.

use wgpu_norm::batch_norm::{AffineRows, Common, MomentRows};
use wgpu_norm::instance_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Destination, Epilogue, ForwardBuffers,
    ForwardOptions, ForwardPlan, Pass, Tuner, Tuning,
};
use wgpu_norm::reference::{Moments, instance_norm};
use wgpu_norm::{Caps, Dtype, Error, Form, Gpu, Launch, PlanError, SampleLine, SampleNorm, Shape};

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

    /// Whether each sample has parameters of its own.
    fn own_parameters(&self) -> bool;

    /// Whether 1 is added to the weight.
    fn adds_one(&self) -> bool;

    /// Whether normalized values are rounded as they are stored before the weight multiplies them.
    fn rounds_before_weight(&self) -> bool {
        false
    }

    /// The number of values of weight or bias that a sample has.
    fn parameters(&self) -> usize;

    /// The number of statistics in a tensor of a shape.
    fn statistics(&self, shape: Shape) -> usize;

    /// Neighbouring channels that share statistics.
    fn together(&self, shape: Shape) -> usize;

    /// Where the moments of a batch of so many samples lie, if forward leaves them.
    fn moments(&self, _samples: usize) -> Option<MomentRows> {
        None
    }

    /// y in f64, without the epilogue, of some channels, for the weight that multiplies.
    fn y(&self, of: &Verified<'_>, x: &[f64]) -> Vec<f64>;

    /// The gradients in f64, without the epilogue.
    fn gradients(&self, of: &Verified<'_>, x: &[f64], dy: &[f64]) -> Gradients;
}

/// The verified channels of a tensor, or of one sample of it, and their parameters if the norm has them.
#[derive(Clone, Copy)]
pub struct Verified<'a> {
    pub shape: Shape,
    pub dtype: Dtype,
    pub weight: Option<&'a [f64]>,
    pub bias: Option<&'a [f64]>,
}

/// A norm with the channels that are verified.
struct Reference<'a, C> {
    config: C,
    /// The shape of one of the parts, and the parameters of all.
    of: Verified<'a>,
    /// What the reference takes apart: the samples if they have parameters of their own. No sample knows of another.
    parts: usize,
}

impl<C: Config> Reference<'_, C> {
    /// The weight, with 1 added if the norm adds it.
    fn factors(&self) -> Option<Vec<f64>> {
        let offset = f64::from(u8::from(self.config.adds_one()));
        let weight = self.of.weight?.iter();
        Some(weight.map(|weight| weight + offset).collect())
    }

    /// One of the parts, for the weights that multiply in all of them.
    fn part<'b>(&'b self, index: usize, factors: Option<&'b [f64]>) -> Verified<'b> {
        let own = |row: &'b [f64]| {
            let count = row.len() / self.parts;
            &row[index * count..(index + 1) * count]
        };
        Verified {
            weight: factors.map(own),
            bias: self.of.bias.map(own),
            ..self.of
        }
    }
}

impl<C: Config> Oracle for Reference<'_, C> {
    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let factors = self.factors();
        let parts = x.chunks_exact(x.len() / self.parts).enumerate();
        parts
            .flat_map(|(index, x)| self.config.y(&self.part(index, factors.as_deref()), x))
            .collect()
    }

    fn backward(&self, x: &[f64], dy: &[f64]) -> Gradients {
        let factors = self.factors();
        let size = x.len() / self.parts;
        let mut all = Gradients::default();
        for (index, (x, dy)) in x.chunks_exact(size).zip(dy.chunks_exact(size)).enumerate() {
            let of = self.part(index, factors.as_deref());
            let Gradients { dx, dweight, dbias } = self.config.gradients(&of, x, dy);
            all.dx.extend(dx);
            all.dweight.extend(dweight);
            all.dbias.extend(dbias);
        }
        all
    }
}

fn rows<C: SampleNorm>(line: &SampleLine<C>) -> AffineRows {
    line.config
        .affine_rows_of(line.common.problem.shape.batch())
}

/// Samples that have parameters of their own; 1 if all share them.
fn samples<C: Config>(line: &SampleLine<C>) -> usize {
    match line.config.own_parameters() {
        true => line.common.problem.shape.batch(),
        false => 1,
    }
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

    fn rounds_before_weight(&self) -> bool {
        self.config.rounds_before_weight()
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

    fn written(&self, tensors: &Tensors) -> anyhow::Result<Vec<Written>> {
        if let Pass::Backward { dx, parameters } = self.pass {
            let adds = self.config.fused().adds();
            return Ok(backward_written(dx, parameters, rows(self), adds));
        }
        let mut written = vec![Written::Y];
        written.extend(self.prenorm.then_some(Written::Added));
        if let Some(rows) = self.config.moments(self.common.problem.shape.batch()) {
            let x = tensors.values(if self.prenorm { "added" } else { "x" });
            // Instances are the only units whose moments forward leaves.
            let moments = instance_norm::moments(tensors.verified_shape(), x);
            let row = |value: fn(&Moments) -> f64| moments.iter().map(value).collect();
            written.extend(Written::moments(rows, row(|m| m.mean), row(|m| m.m2)));
        }
        Ok(written)
    }

    fn oracle<'a>(&self, tensors: &'a Tensors) -> Box<dyn Oracle + 'a> {
        let (rows, parts) = (rows(self), samples(self));
        let shape = tensors.verified_shape();
        let mut dims = shape.dims();
        dims[0] /= parts;
        Box::new(Reference {
            config: self.config,
            parts,
            of: Verified {
                shape: Shape::from_dims(&dims, shape.layout()).expect("a shape as large at most"),
                dtype: self.common.problem.dtype,
                weight: rows.weight.is_some().then_some(&tensors.weight),
                bias: rows.bias.is_some().then_some(&tensors.bias),
            },
        })
    }

    fn small(&self) -> Small {
        let shape = self.common.problem.shape;
        Small {
            parameters: self.config.parameters(),
            samples: samples(self),
            statistics: self.config.statistics(shape),
            together: self.config.together(shape),
            running: Vec::new(),
            moments: self
                .config
                .moments(shape.batch())
                .map_or(0, |rows| rows.bytes()),
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
                        .affine(memory.affine(rows(self)))
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
                        .affine(memory.affine(rows(self)))
                        .moments(memory.slice_if(plan.moments_bytes() > 0, "moments"))
                        .residual(memory.slice_if(adds || prenorm, "residual"))
                        .added(memory.slice_if(prenorm, "added"))
                        .scratch(memory.scratch()),
                    )
                })
            }
        }
    }
}
