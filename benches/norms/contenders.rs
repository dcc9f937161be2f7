//! What is timed: steps of the library, and kernels of the benchmark beside them.

use anyhow::{Context, bail};
use wgpu_norm::batch_norm::{Epilogue, Step};
use wgpu_norm::{Form, Gpu, Problem, caps_for};

use crate::line::Line;
use crate::norm::Written;
use crate::steps::Steps;
use crate::subject::Subject;
use crate::tensors::{Further, Tensors};
use crate::verify;

/// How the benchmark's kernels address memory: as plain shaders do, and in words of 64 bits.
const PLAIN: &[&str] = &[include_str!("../../shaders/norm/element_f32.wgsl")];
const WIDE: &[&str] = &[
    include_str!("../../shaders/norm/wide_words.wgsl"),
    include_str!("../../shaders/norm/element_f32_wide.wgsl"),
];

/// One way to compute something, on each set of tensors.
pub struct Contender {
    /// The line that is timed, or the shape of a copy.
    pub name: String,
    /// What is timed; nothing for a copy.
    pub subject: Option<Subject>,
    pub scratch: u64,
    /// Tensors that must be read or written, each once.
    pub tensors: u64,
    kernels: Vec<&'static str>,
    /// Bytes of activations that each dispatch of the library moves, and those of the kernel of the benchmark.
    moved: Vec<u64>,
    moved_by_kernel: u64,
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

    /// Bytes of activations that the work moves, or one dispatch of it.
    pub fn moved(&self, dispatch: Option<usize>) -> u64 {
        match dispatch {
            Some(index) => self.moved[index],
            None => self.moved.iter().sum::<u64>() + self.moved_by_kernel,
        }
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
    tensors: Tensors,
}

impl<'a> Suite<'a> {
    /// For subjects that share the tensors of a line.
    pub fn new(
        gpu: &'a Gpu,
        line: &Line,
        subjects: &[Subject],
        rotate: u64,
    ) -> anyhow::Result<Self> {
        let problem = line.common().problem;
        // What no plan serves is not worth the memory.
        line.launches(&caps_for(gpu.kernels(), problem.dtype), Form::default())
            .with_context(|| line.to_string())?;
        let tensor = problem.dtype.bytes() * problem.shape.elements().unwrap_or(0) as u64;
        if tensor > gpu.kernels().caps().max_binding {
            bail!("{problem} is larger than one binding, and the copy takes no windows");
        }
        let adds = subjects.iter().any(|s| s.line.epilogue().adds());
        let further = match adds {
            _ if line.prenorm() => Further::Prenorm,
            true => Further::Epilogue,
            false => Further::None,
        };
        let suite = Self {
            gpu,
            problem,
            tensors: Tensors::new(gpu, problem, &line.small(), further, rotate)?,
        };
        let mut before = *line;
        before.prepare(Epilogue::Identity);
        suite.run_before(&before)?;
        if adds {
            before.prepare(Epilogue::AddRelu);
            suite.run_before(&before)?;
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            for set in 0..suite.tensors.sets.len() {
                let [from, to] = ["out", "output"].map(|name| suite.tensors.buffer(set, name));
                encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
            }
            gpu.queue().submit([encoder.finish()]);
        }
        Ok(suite)
    }

    /// Runs a pass whose results another one is given.
    fn run_before(&self, line: &Line) -> anyhow::Result<()> {
        let before = line.bind(self.gpu, &self.tensors)?;
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        for step in &before.steps {
            step.encode(&mut encoder);
        }
        self.gpu.queue().submit([encoder.finish()]);
        Ok(())
    }

    /// The bytes that a copy of a tensor moves.
    pub fn copied_bytes(&self) -> u64 {
        2 * self.tensors.buffer(0, "x").size()
    }

    /// The copies, then the subjects in order.
    pub fn contenders(&self, subjects: &[Subject]) -> anyhow::Result<Vec<Contender>> {
        let mut contenders = self.copies();
        for subject in subjects {
            let Steps {
                steps,
                kernels,
                moved,
                scratch,
            } = subject.line.bind(self.gpu, &self.tensors)?;
            let mut after = if subject.then_relu {
                self.relu()
            } else {
                Vec::new()
            }
            .into_iter();
            let work = |step| Work {
                step: Some(step),
                kernel: after.next(),
            };
            contenders.push(Contender {
                name: subject.to_string(),
                subject: Some(*subject),
                scratch,
                tensors: subject.line.tensors(),
                kernels,
                moved,
                // As much as a copy.
                moved_by_kernel: u64::from(subject.then_relu) * self.copied_bytes(),
                works: steps.into_iter().map(work).collect(),
            });
        }
        Ok(contenders)
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
                name: format!(
                    "{} copy {workgroup} x {share}{}",
                    self.problem,
                    if words == WIDE { " u64" } else { "" }
                ),
                subject: None,
                scratch: 0,
                tensors: 2,
                kernels: Vec::new(),
                moved: Vec::new(),
                moved_by_kernel: self.copied_bytes(),
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
        words: &[&str],
        names: &[&str],
        workgroup: u32,
        share: u32,
    ) -> Vec<Kernel> {
        let device = self.gpu.device();
        let files = words.iter().chain(&[include_str!("elementwise.wgsl")]);
        let lines = files.flat_map(|file| file.lines());
        // The files that another imports stand before it here.
        let lines: Vec<_> = lines.filter(|line| !line.starts_with("#import")).collect();
        let text = lines.join("\n");
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
    pub fn verify(&self, contender: &Contender) -> anyhow::Result<()> {
        let tensors = &self.tensors;
        if let Some(mut line) = contender.subject.map(|subject| subject.line)
            && line.make_sums()
        {
            self.run_before(&line)?;
        }
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let subject = contender.subject;
        let written = subject.map(|subject| subject.line.written(tensors));
        let written = written.transpose()?.unwrap_or_default();
        for name in written.iter().map(Written::buffer).chain(["out"]) {
            encoder.clear_buffer(tensors.buffer(0, name), 0, None);
        }
        // What goes in place begins as the input. Later runs find there what the one before has left.
        let input = subject.and_then(|subject| subject.line.overwrites());
        if let Some(input) = input {
            let [from, to] = [input, "out"].map(|name| tensors.buffer(0, name));
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        contender.record(
            0,
            None,
            &mut encoder.begin_compute_pass(&Default::default()),
        );
        self.gpu.queue().submit([encoder.finish()]);
        match &contender.subject {
            Some(subject) => verify::verify(subject, tensors, written),
            None => verify::copied(&contender.name, tensors),
        }
    }
}
