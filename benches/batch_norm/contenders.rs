//! What is timed: steps of the library, and kernels of the benchmark beside them.

use std::error::Error;

use wgpu::Buffer;
use wgpu::BufferUsages;
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Epilogue, EvalBuffers, EvalPlan, Step,
    Strategy, TrainBuffers, TrainPlan, Tuning,
};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Dtype, Gpu, PlanError, Problem};

use crate::tensors::Tensors;

/// How the benchmark's kernels address memory: as plain shaders do, and in words of 64 bits.
const PLAIN: &str = include_str!("../../shaders/shared/element_f32.wgsl");
const WIDE: &str = include_str!("../../shaders/shared/element_f32_wide.wgsl");

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Pass {
    Copy,
    Train,
    Eval,
    Backward,
    FrozenBackward,
    /// ReLU in the same pass, and after it.
    TrainRelu,
    TrainThenRelu,
}

impl Pass {
    pub const ALL: &[Self] = &[
        Self::Train,
        Self::Eval,
        Self::Backward,
        Self::FrozenBackward,
        Self::TrainRelu,
        Self::TrainThenRelu,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Backward => "backward",
            Self::FrozenBackward => "frozen backward",
            Self::TrainRelu => "train+relu",
            Self::TrainThenRelu => "train, then relu",
        }
    }

    /// Tensors that must be read or written, each once.
    pub fn tensors(self) -> u64 {
        match self {
            Self::Backward | Self::FrozenBackward => 3,
            _ => 2,
        }
    }
}

/// One way to compute a pass, on each set of tensors.
pub struct Contender {
    pub pass: Pass,
    /// Its strategy, or for a kernel of the benchmark its shape.
    pub strategy: String,
    pub scratch: u64,
    kernels: Vec<&'static str>,
    works: Vec<Work>,
}

/// A step of the library, a kernel of the benchmark, or the one before the other.
struct Work {
    step: Option<Step>,
    kernel: Option<Kernel>,
}

struct Kernel {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    grid: [u32; 2],
}

impl Contender {
    /// Dispatches of the library.
    pub fn dispatches(&self) -> usize {
        self.kernels.len()
    }

    /// The kernel of one of them.
    pub fn kernel(&self, dispatch: usize) -> &'static str {
        self.kernels[dispatch]
    }

    /// Records the work on the tensors whose turn it is, or one dispatch of it.
    pub fn record(&self, turn: usize, dispatch: Option<usize>, pass: &mut wgpu::ComputePass<'_>) {
        let work = &self.works[turn % self.works.len()];
        match (&work.step, dispatch) {
            (Some(step), Some(index)) => return step.record_dispatch(index, pass),
            (Some(step), None) => step.record(pass),
            (None, _) => {}
        }
        if let Some(kernel) = &work.kernel {
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, &kernel.bindings, &[]);
            pass.dispatch_workgroups(kernel.grid[0], kernel.grid[1], 1);
        }
    }
}

/// A problem's contenders, and what they should compute.
pub struct Suite<'a> {
    gpu: &'a Gpu,
    problem: Problem,
    config: BatchNormConfig,
    tensors: Tensors,
}

impl<'a> Suite<'a> {
    pub fn new(gpu: &'a Gpu, problem: Problem, rotate: u64) -> Result<Self, Box<dyn Error>> {
        let tensor = problem.dtype.bytes() * problem.shape.elements().unwrap_or(0) as u64;
        if tensor > gpu.kernels().caps().max_binding {
            return Err(format!(
                "{problem} is larger than one binding, and the copy takes no windows"
            )
            .into());
        }
        let suite = Self {
            gpu,
            problem,
            config: BatchNormConfig::new(problem.shape.channels()),
            tensors: Tensors::new(gpu, problem, rotate)?,
        };
        // The statistics that backward is given.
        let train = suite
            .plan(Pass::Train, Tuning::default())?
            .bind(&suite, 0)?;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        train.encode(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        Ok(suite)
    }

    /// The copies, and each pass by each strategy that can serve it; `None` is the plan's own choice.
    pub fn contenders(
        &self,
        passes: &[Pass],
        strategies: &[Option<Strategy>],
    ) -> Result<Vec<Contender>, Box<dyn Error>> {
        let mut contenders = self.copies();
        for &strategy in strategies {
            for &pass in passes {
                // The benchmark's own ReLU knows no other type.
                let unknown = pass == Pass::TrainThenRelu && self.problem.dtype != Dtype::F32;
                // One pass over memory, whatever the strategy.
                let single = matches!(pass, Pass::Eval | Pass::FrozenBackward);
                if unknown || pass == Pass::Copy || (strategy.is_some() && single) {
                    continue;
                }
                let tuning = Tuning {
                    strategy,
                    ..Tuning::default()
                };
                let plan = match self.plan(pass, tuning) {
                    Err(error) if is_obstacle(error.as_ref()) => continue,
                    plan => plan?,
                };
                // What follows the step, if anything does.
                let mut after = match pass {
                    Pass::TrainThenRelu => self.relu(),
                    _ => Vec::new(),
                }
                .into_iter();
                let works = (0..self.tensors.sets.len()).map(|set| {
                    Ok(Work {
                        step: Some(plan.bind(self, set)?),
                        kernel: after.next(),
                    })
                });
                let works: Vec<Work> = works.collect::<Result<_, Box<dyn Error>>>()?;
                contenders.push(Contender {
                    pass,
                    strategy: strategy.map_or("plan", Strategy::name).to_owned(),
                    scratch: plan.scratch_bytes(),
                    kernels: plan.kernels(),
                    works,
                });
            }
        }
        Ok(contenders)
    }

    fn plan(&self, pass: Pass, tuning: Tuning) -> Result<Plan, Box<dyn Error>> {
        let (kernels, problem, config) = (self.gpu.kernels(), self.problem, &self.config);
        Ok(match pass {
            Pass::Copy => return Err("a copy is no plan".into()),
            Pass::Train | Pass::TrainThenRelu => {
                Plan::Train(TrainPlan::with_tuning(kernels, problem, config, tuning)?)
            }
            Pass::TrainRelu => {
                let config = &config.epilogue(Epilogue::Relu);
                Plan::Train(TrainPlan::with_tuning(kernels, problem, config, tuning)?)
            }
            Pass::Eval => Plan::Eval(EvalPlan::new(kernels, problem, config)?),
            Pass::Backward | Pass::FrozenBackward => {
                let options = BackwardOptions {
                    frozen: pass == Pass::FrozenBackward,
                    tuning,
                    ..BackwardOptions::default()
                };
                let statistics = if options.frozen { "still" } else { "saved" };
                let plan = BackwardPlan::with_options(kernels, problem, config, options)?;
                Plan::Backward(plan, statistics)
            }
        })
    }

    /// Plain copies from x to out, and one that walks tiles as the kernels do on processors, in the words that they
    /// use there.
    fn copies(&self) -> Vec<Contender> {
        let tile = self.vectors().div_ceil(32 * 8);
        // Invocations in a workgroup, and vectors to each of them.
        let mut shapes = vec![(PLAIN, 64, 1), (PLAIN, 256, 4), (PLAIN, 8, tile)];
        if self.gpu.kernels().caps().wide_words {
            shapes.push((WIDE, 8, tile));
        }
        shapes
            .into_iter()
            .map(|(words, workgroup, share)| Contender {
                pass: Pass::Copy,
                strategy: if words == WIDE {
                    format!("{workgroup} x {share} u64")
                } else {
                    format!("{workgroup} x {share}")
                },
                scratch: 0,
                kernels: Vec::new(),
                works: self
                    .elementwise("copy", words, &["x", "out"], workgroup, share)
                    .into_iter()
                    .map(|kernel| Work {
                        step: None,
                        kernel: Some(kernel),
                    })
                    .collect(),
            })
            .collect()
    }

    /// ReLU over out, as fast as a copy is.
    fn relu(&self) -> Vec<Kernel> {
        let caps = self.gpu.kernels().caps();
        let (workgroup, share) = if caps.cpu {
            (8, self.vectors().div_ceil(32 * 8))
        } else {
            (256, 4)
        };
        let words = if caps.wide_words { WIDE } else { PLAIN };
        self.elementwise("relu", words, &["out"], workgroup, share)
    }

    /// Vectors of 16 bytes in an activation.
    fn vectors(&self) -> u32 {
        (self.tensors.buffer(0, "x").size() / 16) as u32
    }

    /// A kernel of `elementwise.wgsl`, compiled once, on each set of tensors.
    fn elementwise(
        &self,
        entry: &str,
        words: &str,
        names: &[&str],
        workgroup: u32,
        share: u32,
    ) -> Vec<Kernel> {
        let device = self.gpu.device();
        let text = format!("{words}\n{}", include_str!("elementwise.wgsl"));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(entry),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[("WORKGROUP", workgroup.into()), ("SHARE", share.into())],
                ..Default::default()
            },
            cache: None,
        });
        let groups = self.vectors().div_ceil(workgroup * share);
        let rows = groups.div_ceil(65_535);
        let on_set = |set| {
            // The destination is binding 0, a source follows.
            let entries: Vec<_> = (0..)
                .zip(names.iter().rev())
                .map(|(binding, name)| wgpu::BindGroupEntry {
                    binding,
                    resource: self.tensors.buffer(set, name).as_entire_binding(),
                })
                .collect();
            Kernel {
                pipeline: pipeline.clone(),
                bindings: device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &entries,
                }),
                grid: [groups.div_ceil(rows), rows],
            }
        };
        (0..self.tensors.sets.len()).map(on_set).collect()
    }

    /// Runs once and compares; what is too fast to be right is not timed.
    pub fn verify(&self, contender: &Contender) -> Result<(), Box<dyn Error>> {
        let gpu = self.gpu;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.clear_buffer(self.tensors.buffer(0, "out"), 0, None);
        contender.record(
            0,
            None,
            &mut encoder.begin_compute_pass(&Default::default()),
        );
        gpu.queue().submit([encoder.finish()]);
        let name = format!(
            "{} {} {}",
            self.problem,
            contender.pass.name(),
            contender.strategy
        );
        let rounding = match self.problem.dtype {
            Dtype::F32 => 0.0,
            Dtype::F16 => 2f64.powi(-11),
            _ => 2f64.powi(-8),
        };
        let bound = Bound::new(2e-6 + rounding, 2e-5);
        within(
            &name,
            &self.tensors.read()?,
            &self.expected(contender.pass),
            bound,
        )?;
        Ok(())
    }

    fn expected(&self, pass: Pass) -> Vec<f64> {
        let Tensors {
            x,
            dy,
            weight,
            bias,
            channels,
            ..
        } = &self.tensors;
        let (shape, eps) = (self.tensors.verified_shape(), f64::from(self.config.eps));
        let still = oracle::Running::new(channels.len());
        match pass {
            Pass::Copy => x.clone(),
            Pass::Train => oracle::train(shape, x, Some(weight), Some(bias), eps).y,
            Pass::TrainRelu | Pass::TrainThenRelu => {
                let y = oracle::train(shape, x, Some(weight), Some(bias), eps).y;
                y.into_iter().map(|y| y.max(0.0)).collect()
            }
            Pass::Eval => oracle::eval(shape, x, &still, Some(weight), Some(bias), eps),
            Pass::Backward => oracle::backward(shape, x, dy, Some(weight), eps).dx,
            Pass::FrozenBackward => {
                oracle::backward_frozen(shape, x, dy, &still, Some(weight), eps).dx
            }
        }
    }
}

/// A plan of any pass.
enum Plan {
    Train(TrainPlan),
    Eval(EvalPlan),
    /// With the name of the statistics.
    Backward(BackwardPlan, &'static str),
}

impl Plan {
    fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Train(plan) => plan.scratch_bytes(),
            Self::Eval(plan) => plan.scratch_bytes(),
            Self::Backward(plan, _) => plan.scratch_bytes(),
        }
    }

    fn kernels(&self) -> Vec<&'static str> {
        match self {
            Self::Train(plan) => plan
                .dispatches()
                .map(|dispatch| dispatch.kernel())
                .collect(),
            Self::Eval(plan) => plan
                .dispatches()
                .map(|dispatch| dispatch.kernel())
                .collect(),
            Self::Backward(plan, _) => plan
                .dispatches()
                .map(|dispatch| dispatch.kernel())
                .collect(),
        }
    }

    fn bind(&self, suite: &Suite<'_>, set: usize) -> Result<Step, Box<dyn Error>> {
        let slice = |name| suite.tensors.buffer(set, name).slice(..);
        let scratch: Buffer = suite.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: self.scratch_bytes().max(16),
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let scratch = Some(scratch.slice(..));
        Ok(match self {
            Self::Train(plan) => plan.bind(&TrainBuffers {
                x: slice("x"),
                y: slice("out"),
                residual: None,
                affine: Some(slice("affine")),
                running: Some(slice("running")),
                saved: slice("saved"),
                scratch,
            })?,
            Self::Eval(plan) => plan.bind(&EvalBuffers {
                x: slice("x"),
                y: Some(slice("out")),
                residual: None,
                affine: Some(slice("affine")),
                running: Some(slice("still")),
                saved: None,
                scratch,
            })?,
            Self::Backward(plan, statistics) => plan.bind(&BackwardBuffers {
                x: slice("x"),
                dy: slice("dy"),
                dx: Some(slice("out")),
                output: None,
                dresidual: None,
                statistics: slice(statistics),
                affine: Some(slice("affine")),
                grads: Some(slice("grads")),
                scratch,
            })?,
        })
    }
}

fn is_obstacle(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(PlanError::Strategy { .. }))
}
