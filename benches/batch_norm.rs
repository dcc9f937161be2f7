//! Verifies BatchNorm against the oracle, then times it beside a copy of the same tensor.
//!
//! `cargo bench -- --help` lists the options. Every contender runs once in each round, so that what else the
//! machine does meets all of them; the figures are medians, and the figure to compare is the ratio to the copy.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{Buffer, BufferUsages};
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Epilogue, EvalBuffers, EvalPlan, Step,
    Strategy, TrainBuffers, TrainPlan, Tuning,
};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::oracle;
use wgpu_norm::{BatchNormConfig, Dtype, Gpu, PlanError, Problem};

const PROBLEMS: &[&str] = &[
    "n32c64h56w56 nchw",
    "n32c64h56w56 nhwc",
    "n32c256h14w14 nchw",
    "n32c256h14w14 nhwc",
    "n32c512h7w7 nchw",
    "n8c3h224w224 nchw",
    "n8c3h224w224 nhwc",
    "n4096c256",
    "n2c32d16h28w28 ncdhw",
    "n32c64h56w56 nchw f16",
    "n32c64h56w56 nchw bf16",
];

#[derive(Parser)]
struct Arguments {
    /// Problem lines such as "n32c64h56w56 nchw"; none means a list of common ones.
    problems: Vec<String>,
    /// Rounds, of which medians are taken.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Times every strategy that can serve a problem, not only the one that the plan chooses.
    #[arg(long)]
    all: bool,
    /// Writes the table to a new CSV file; a file that is there is never overwritten.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let lines: Vec<&str> = match arguments.problems.as_slice() {
        [] => PROBLEMS.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    if let Some(path) = arguments.record.as_ref().filter(|path| path.exists()) {
        return Err(format!("{} is a record already", path.display()).into());
    }
    let gpu = Gpu::open()?;
    let clock = Clock::new(&gpu);
    let mut csv = format!("# {}\n# clock: {}\n", gpu.adapter_name(), clock.name());
    csv.push_str("problem,pass,strategy,median_ms,quarter_ms,three_quarter_ms,ratio_to_copy\n");
    println!(
        "{}\nclock: {}, medians of {} rounds",
        gpu.adapter_name(),
        clock.name(),
        arguments.rounds
    );
    println!(
        "{:<30} {:<16} {:<9} {:>9} {:>19} {:>8}",
        "problem", "pass", "strategy", "ms", "quartiles", "/ copy"
    );
    for line in lines {
        let problem: Problem = line.parse()?;
        let setup = Setup::new(&gpu, problem)?;
        let contenders = setup.contenders(arguments.all)?;
        for contender in &contenders {
            setup.verify(contender)?;
        }
        let mut times = vec![Vec::new(); contenders.len()];
        for _ in 0..arguments.rounds {
            for (contender, times) in contenders.iter().zip(&mut times) {
                times.push(clock.time(&gpu, &contender.work)?);
            }
        }
        times
            .iter_mut()
            .for_each(|times| times.sort_by(f64::total_cmp));
        let quantile = |index: usize, quarter: usize| {
            let times: &Vec<f64> = &times[index];
            times[(times.len() - 1) * quarter / 4]
        };
        // The best copy is the yardstick.
        let copy = (0..contenders.len())
            .filter(|&i| contenders[i].pass == Pass::Copy)
            .map(|i| quantile(i, 2))
            .fold(f64::INFINITY, f64::min);
        for (index, contender) in contenders.iter().enumerate() {
            let [low, median, high] = [1, 2, 3].map(|quarter| quantile(index, quarter));
            let (pass, ratio) = (contender.pass.name(), median / copy);
            println!(
                "{:<30} {pass:<16} {:<9} {median:>9.3} {low:>9.3}-{high:<9.3} {ratio:>8.2}",
                problem.to_string(),
                contender.strategy
            );
            csv.push_str(&format!(
                "{problem},{pass},{},{median:.4},{low:.4},{high:.4},{ratio:.3}\n",
                contender.strategy
            ));
        }
    }
    if let Some(path) = arguments.record {
        fs::write(path, csv)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pass {
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
    fn name(self) -> &'static str {
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
}

struct Contender {
    pass: Pass,
    strategy: String,
    work: Work,
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

impl Work {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        if let Some(step) = &self.step {
            step.record(pass);
        }
        if let Some(Kernel {
            pipeline,
            bindings,
            grid,
        }) = &self.kernel
        {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bindings, &[]);
            pass.dispatch_workgroups(grid[0], grid[1], 1);
        }
    }
}

/// A shape with its buffers and what the oracle says should be in them.
struct Setup<'a> {
    gpu: &'a Gpu,
    problem: Problem,
    config: BatchNormConfig,
    buffers: HashMap<&'static str, Buffer>,
    expected: HashMap<Pass, Vec<f64>>,
}

/// Numbers in [-1, 1), the same at every call.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

impl<'a> Setup<'a> {
    fn new(gpu: &'a Gpu, problem: Problem) -> Result<Self, Box<dyn Error>> {
        let Problem { shape, dtype } = problem;
        let config = BatchNormConfig::new(shape.channels());
        let elements = shape.elements().ok_or("the shape overflows")?;
        let stored = |values: Vec<f32>| -> Vec<f32> {
            match dtype {
                Dtype::F32 => values,
                Dtype::F16 => values
                    .into_iter()
                    .map(|v| half::f16::from_f32(v).to_f32())
                    .collect(),
                Dtype::Bf16 => values
                    .into_iter()
                    .map(|v| half::bf16::from_f32(v).to_f32())
                    .collect(),
            }
        };
        let (x, dy) = (stored(noise(1, elements)), stored(noise(2, elements)));
        let affine = noise(3, 2 * shape.channels());
        let running = config.initial_running();

        let (weight, bias) = affine.split_at(shape.channels());
        let (weight, bias, eps) = (wide(weight), wide(bias), f64::from(config.eps));
        let still = oracle::Running::new(shape.channels());
        let (wide_x, wide_dy) = (wide(&x), wide(&dy));
        let forward = oracle::train(shape, &wide_x, Some(&weight), Some(&bias), eps);
        let saved: Vec<f32> = [&forward.mean, &forward.inv_std, &vec![0.0; weight.len()]]
            .into_iter()
            .flatten()
            .map(|&v| v as f32)
            .collect();
        let relu: Vec<f64> = forward.y.iter().map(|y| y.max(0.0)).collect();
        let expected = HashMap::from([
            (Pass::Copy, wide_x.clone()),
            (
                Pass::Eval,
                oracle::eval(shape, &wide_x, &still, Some(&weight), Some(&bias), eps),
            ),
            (
                Pass::Backward,
                oracle::backward(shape, &wide_x, &wide_dy, Some(&weight), eps).dx,
            ),
            (
                Pass::FrozenBackward,
                oracle::backward_frozen(shape, &wide_x, &wide_dy, &still, Some(&weight), eps).dx,
            ),
            (Pass::TrainRelu, relu.clone()),
            (Pass::TrainThenRelu, relu),
            (Pass::Train, forward.y),
        ]);

        let upload = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            gpu.device().create_buffer_init(&BufferInitDescriptor {
                label: None,
                contents: &bytes,
                usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            })
        };
        let activation = |values: &[f32]| match dtype {
            Dtype::F32 => upload(bytemuck::cast_slice(values)),
            Dtype::F16 => {
                let halves: Vec<u16> = values
                    .iter()
                    .map(|&v| half::f16::from_f32(v).to_bits())
                    .collect();
                upload(bytemuck::cast_slice(&halves))
            }
            Dtype::Bf16 => {
                let halves: Vec<u16> = values
                    .iter()
                    .map(|&v| half::bf16::from_f32(v).to_bits())
                    .collect();
                upload(bytemuck::cast_slice(&halves))
            }
        };
        let buffers = HashMap::from([
            ("x", activation(&x)),
            ("dy", activation(&dy)),
            ("out", activation(&vec![0.0; elements])),
            ("affine", upload(bytemuck::cast_slice(&affine))),
            ("grads", upload(bytemuck::cast_slice(&affine))),
            // Moved by training; evaluation reads one that stays.
            ("running", upload(bytemuck::cast_slice(&running))),
            ("still", upload(bytemuck::cast_slice(&running))),
            ("saved", upload(bytemuck::cast_slice(&saved))),
        ]);
        Ok(Self {
            gpu,
            problem,
            config,
            buffers,
            expected,
        })
    }

    fn slice(&self, name: &str) -> wgpu::BufferSlice<'_> {
        self.buffers[name].slice(..)
    }

    fn scratch(&self, bytes: u64) -> Buffer {
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.max(16),
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    }

    fn contenders(&self, all: bool) -> Result<Vec<Contender>, Box<dyn Error>> {
        let mut contenders = self.copies();
        let forced = Strategy::ALL.into_iter().filter(|_| all).map(Some);
        for strategy in std::iter::once(None).chain(forced) {
            for pass in [
                Pass::Train,
                Pass::Eval,
                Pass::Backward,
                Pass::FrozenBackward,
                Pass::TrainRelu,
                Pass::TrainThenRelu,
            ] {
                if pass == Pass::TrainThenRelu && self.problem.dtype != Dtype::F32 {
                    // The benchmark's own ReLU knows no other.
                    continue;
                }
                if strategy.is_some() && matches!(pass, Pass::Eval | Pass::FrozenBackward) {
                    // One pass, whatever the strategy.
                    continue;
                }
                let step = match self.step(
                    pass,
                    Tuning {
                        strategy,
                        ..Tuning::default()
                    },
                ) {
                    Err(error) if is_obstacle(error.as_ref()) => continue,
                    step => step?,
                };
                let strategy = match strategy {
                    None => format!("plan: {}", step.dispatches()),
                    Some(strategy) => strategy.name().to_owned(),
                };
                contenders.push(Contender {
                    pass,
                    strategy,
                    work: Work {
                        step: Some(step),
                        kernel: (pass == Pass::TrainThenRelu).then(|| self.relu()),
                    },
                });
            }
        }
        Ok(contenders)
    }

    fn step(&self, pass: Pass, tuning: Tuning) -> Result<Step, Box<dyn Error>> {
        let (kernels, problem, config) = (self.gpu.kernels(), self.problem, &self.config);
        Ok(match pass {
            Pass::Copy => unreachable!("a copy is no plan"),
            Pass::Train | Pass::TrainRelu | Pass::TrainThenRelu => {
                let epilogue = if pass == Pass::TrainRelu {
                    Epilogue::Relu
                } else {
                    Epilogue::Identity
                };
                let config = &config.epilogue(epilogue);
                let plan = TrainPlan::with_tuning(kernels, problem, config, tuning)?;
                plan.bind(&TrainBuffers {
                    x: self.slice("x"),
                    y: self.slice("out"),
                    residual: None,
                    affine: Some(self.slice("affine")),
                    running: Some(self.slice("running")),
                    saved: self.scratch(plan.saved_bytes()).slice(..),
                    scratch: Some(self.scratch(plan.scratch_bytes()).slice(..)),
                })?
            }
            Pass::Eval => {
                let plan = EvalPlan::new(kernels, problem, config)?;
                plan.bind(&EvalBuffers {
                    x: self.slice("x"),
                    y: Some(self.slice("out")),
                    residual: None,
                    affine: Some(self.slice("affine")),
                    running: Some(self.slice("still")),
                    saved: None,
                    scratch: None,
                })?
            }
            Pass::Backward | Pass::FrozenBackward => {
                let frozen = pass == Pass::FrozenBackward;
                let options = BackwardOptions {
                    frozen,
                    tuning,
                    ..BackwardOptions::default()
                };
                let plan = BackwardPlan::with_options(kernels, problem, config, options)?;
                plan.bind(&BackwardBuffers {
                    x: self.slice("x"),
                    dy: self.slice("dy"),
                    dx: Some(self.slice("out")),
                    output: None,
                    dresidual: None,
                    statistics: self.slice(if frozen { "still" } else { "saved" }),
                    affine: Some(self.slice("affine")),
                    grads: Some(self.slice("grads")),
                    scratch: Some(self.scratch(plan.scratch_bytes()).slice(..)),
                })?
            }
        })
    }

    /// Copies from x to out: plain ones, and one that walks tiles as the kernels do.
    fn copies(&self) -> Vec<Contender> {
        let vectors = (self.buffers["x"].size() / 16) as u32;
        // Invocations in a workgroup, and vectors to each of them.
        [(64, 1), (256, 4), (8, vectors.div_ceil(32 * 8))]
            .into_iter()
            .map(|(workgroup, share)| Contender {
                pass: Pass::Copy,
                strategy: format!("{workgroup} x {share}"),
                work: Work {
                    step: None,
                    kernel: Some(self.kernel("copy", &["x", "out"], workgroup, share)),
                },
            })
            .collect()
    }

    /// ReLU over out, as fast as a copy is.
    fn relu(&self) -> Kernel {
        let vectors = (self.buffers["x"].size() / 16) as u32;
        self.kernel("relu", &["out"], 8, vectors.div_ceil(32 * 8))
    }

    /// A kernel of `elementwise.wgsl`.
    fn kernel(&self, entry: &str, buffers: &[&str], workgroup: u32, share: u32) -> Kernel {
        let device = self.gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(entry),
            source: wgpu::ShaderSource::Wgsl(include_str!("elementwise.wgsl").into()),
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
        // The destination is binding 0, a source follows.
        let entries: Vec<_> = (0..)
            .zip(buffers.iter().rev())
            .map(|(binding, name)| wgpu::BindGroupEntry {
                binding,
                resource: self.buffers[name].as_entire_binding(),
            })
            .collect();
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let vectors = (self.buffers["x"].size() / 16) as u32;
        let groups = vectors.div_ceil(workgroup * share);
        let rows = groups.div_ceil(65_535);
        Kernel {
            pipeline,
            bindings,
            grid: [groups.div_ceil(rows), rows],
        }
    }

    /// Runs once and compares; what is too fast to be right is not timed.
    fn verify(&self, contender: &Contender) -> Result<(), Box<dyn Error>> {
        let gpu = self.gpu;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.buffers["out"], 0, None);
        contender
            .work
            .record(&mut encoder.begin_compute_pass(&Default::default()));
        gpu.queue().submit([encoder.finish()]);
        let out = gpu
            .tensor_from_buffer(self.problem, self.buffers["out"].clone())?
            .read()?;
        let name = format!(
            "{} {} {}",
            self.problem,
            contender.pass.name(),
            contender.strategy
        );
        let rounding = match self.problem.dtype {
            Dtype::F32 => 0.0,
            Dtype::F16 => 2f64.powi(-11),
            Dtype::Bf16 => 2f64.powi(-8),
        };
        let bound = Bound::new(2e-6 + rounding, 2e-5);
        within(&name, &out, &self.expected[&contender.pass], bound)?;
        Ok(())
    }
}

fn is_obstacle(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(PlanError::Strategy { .. }))
}

/// Timestamps around the compute pass, or where the device has none the time until it is done.
struct Clock(Option<Timestamps>);

struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    staging: Buffer,
    nanoseconds: f64,
}

impl Clock {
    fn new(gpu: &Gpu) -> Self {
        let device = gpu.device();
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Self(None);
        }
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        Self(Some(Timestamps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            staging: buffer(BufferUsages::COPY_DST | BufferUsages::MAP_READ),
            nanoseconds: gpu.queue().get_timestamp_period().into(),
        }))
    }

    fn name(&self) -> &'static str {
        if self.0.is_some() {
            "timestamps of the device"
        } else {
            "wall time until the device is done"
        }
    }

    /// Milliseconds.
    fn time(&self, gpu: &Gpu, work: &Work) -> Result<f64, Box<dyn Error>> {
        let device = gpu.device();
        let mut encoder = device.create_command_encoder(&Default::default());
        work.record(&mut encoder.begin_compute_pass(
            &wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: self.0.as_ref().map(|timestamps| {
                    wgpu::ComputePassTimestampWrites {
                        query_set: &timestamps.queries,
                        beginning_of_pass_write_index: Some(0),
                        end_of_pass_write_index: Some(1),
                    }
                }),
            },
        ));
        if let Some(timestamps) = &self.0 {
            encoder.resolve_query_set(&timestamps.queries, 0..2, &timestamps.resolved, 0);
            encoder.copy_buffer_to_buffer(&timestamps.resolved, 0, &timestamps.staging, 0, 16);
        }
        let start = Instant::now();
        gpu.queue().submit([encoder.finish()]);
        let Some(timestamps) = &self.0 else {
            device.poll(wgpu::PollType::wait_indefinitely())?;
            return Ok(start.elapsed().as_secs_f64() * 1e3);
        };
        timestamps
            .staging
            .map_async(wgpu::MapMode::Read, .., |_| {});
        device.poll(wgpu::PollType::wait_indefinitely())?;
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(&timestamps.staging.get_mapped_range(..)?);
        timestamps.staging.unmap();
        Ok((ticks[1] - ticks[0]) as f64 * timestamps.nanoseconds * 1e-6)
    }
}
