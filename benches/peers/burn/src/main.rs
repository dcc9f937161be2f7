//! burn's batch normalization beside wgpu-norm's: the same work, on one wgpu device, in turns.
//!
//! Both are checked against wgpu-norm's f64 oracle before they are timed. Times are wall clock from the first call
//! to the moment the device is done, because burn decides by itself what it submits when.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::Param;
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{Device, Tensor, TensorData};
use burn_nn::{BatchNorm, BatchNormConfig as BurnConfig};
use clap::Parser;
use wgpu::{Buffer, BufferUsages};
use wgpu_norm::batch_norm::{BackwardBuffers, BackwardPlan, Step, TrainBuffers, TrainPlan};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Gpu, Layout, Problem, Shape, reference};

#[derive(Parser)]
#[command(about = "burn's batch normalization beside wgpu-norm's")]
struct Arguments {
    /// Problem lines, f32 and channels first, with two spatial extents.
    #[arg(default_values = ["n32c64h56w56", "n32c256h14w14", "n32c512h7w7"])]
    problems: Vec<String>,
    /// Rounds, of which medians are taken; three more go before them, for burn to compile and tune in.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Writes the table to a new CSV file; a file that is there is never overwritten.
    #[arg(long)]
    record: Option<PathBuf>,
}

const WARM_UP: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(path) = arguments.record.as_ref().filter(|path| path.exists()) {
        return Err(format!("{} is a record already", path.display()).into());
    }
    if arguments.rounds == 0 {
        return Err("there must be a round".into());
    }
    let (device, gpu) = open()?;
    let mut csv = format!(
        "# {}\n# wall time, medians of {} rounds\n",
        gpu.adapter_name(),
        arguments.rounds
    );
    csv.push_str(
        "problem,pass,contender,median_ms,min_ms,quarter_ms,three_quarter_ms,ratio_to_wgpu_norm\n",
    );
    println!("{}", gpu.adapter_name());
    println!(
        "{:<26} {:<18} {:<12} {:>9} {:>9} {:>8}",
        "problem", "pass", "contender", "ms", "min", "/ ours"
    );
    for line in &arguments.problems {
        let problem: Problem = line.parse()?;
        let shape = problem.shape;
        // burn's tensors are f32 and channels first here; others would be timed under a name that is not theirs.
        if problem != Problem::from(shape) || shape.layout() != Layout::ChannelsFirst {
            return Err(format!("{line}: only f32 and channels first").into());
        }
        if shape.spatial().len() != 2 {
            return Err(format!("{line}: only two spatial extents").into());
        }
        let case = Case::new(shape)?;
        let ours = Ours::new(&gpu, &case)?;
        let burn = Burn::new(&device, &case);
        case.check("wgpu-norm", &ours.outcome()?)?;
        // A peer that computes something else is timed all the same, and called wrong.
        let peer = match case.check("burn", &burn.outcome()?) {
            Ok(()) => "burn",
            Err(error) => {
                println!("{line}: {error}");
                "burn (wrong)"
            }
        };
        let mut works: Vec<(
            &str,
            &str,
            Box<dyn FnMut() -> Result<(), Box<dyn Error>> + '_>,
        )> = vec![
            (
                "forward",
                "wgpu-norm",
                Box::new(|| ours.run(&[&ours.forward])),
            ),
            ("forward", peer, Box::new(|| burn.forward())),
            (
                "forward+backward",
                "wgpu-norm",
                Box::new(|| ours.run(&[&ours.forward, &ours.backward])),
            ),
            ("forward+backward", peer, Box::new(|| burn.both())),
            // What it takes burn to bring in a gradient; it is subtracted from the line before.
            ("incoming gradient", peer, Box::new(|| burn.incoming())),
        ];
        let mut times = vec![Vec::new(); works.len()];
        for round in 0..WARM_UP + arguments.rounds {
            for ((.., work), times) in works.iter_mut().zip(&mut times) {
                let start = Instant::now();
                work()?;
                if round >= WARM_UP {
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        times
            .iter_mut()
            .for_each(|times| times.sort_by(f64::total_cmp));
        let quantile = |index: usize, quarter: usize| {
            let times: &Vec<f64> = &times[index];
            times[(times.len() - 1) * quarter / 4]
        };
        for (index, (pass, contender, _)) in works.iter().enumerate() {
            let incoming = if index == 3 { quantile(4, 2) } else { 0.0 };
            let [min, low, median, high] =
                [0, 1, 2, 3].map(|quarter| quantile(index, quarter) - incoming);
            // Ours stands before burn's.
            let ratio = median / quantile(index.min(3) / 2 * 2, 2);
            let ratio = if index == 4 {
                String::new()
            } else {
                format!("{ratio:.2}")
            };
            println!("{line:<26} {pass:<18} {contender:<12} {median:>9.3} {min:>9.3} {ratio:>8}");
            csv.push_str(&format!(
                "{line},{pass},{contender},{median:.4},{min:.4},{low:.4},{high:.4},{ratio}\n"
            ));
        }
    }
    if let Some(path) = arguments.record {
        fs::File::create_new(path)?.write_all(csv.as_bytes())?;
    }
    Ok(())
}

/// One device for both. burn chooses it and opens it with all that its compiler wants, and wgpu-norm is a guest on
/// it; where `WGPU_ADAPTER_NAME` names an adapter in part, as it does for [`Gpu::open`], it is opened for both.
fn open() -> Result<(Device, Gpu), Box<dyn Error>> {
    let options = Device::wgpu_options();
    let wanted = env::var("WGPU_ADAPTER_NAME").unwrap_or_default();
    if wanted.is_empty() {
        let (device, setup) = options.init_with_setup()?;
        return Ok((device, Gpu::from_wgpu(setup.device, setup.queue)?));
    }
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    let instance = wgpu::Instance::new(descriptor);
    let names = |adapter: &wgpu::Adapter| {
        let name = adapter.get_info().name.to_lowercase();
        name.contains(&wanted.to_lowercase())
    };
    let adapter = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .find(names)
        .ok_or_else(|| format!("no adapter is named {wanted}"))?;
    // What burn asks for where it opens the device itself.
    let request = wgpu::DeviceDescriptor {
        required_features: adapter.features() - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&request))?;
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone())?;
    let setup = WgpuSetup {
        backend: adapter.get_info().backend,
        instance,
        adapter,
        device,
        queue,
    };
    Ok((options.setup(setup).init()?, gpu))
}

/// The input of both, and what both must make of it.
struct Case {
    shape: Shape,
    x: Vec<f32>,
    dy: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    expected: Outcome<f64>,
}

/// Outputs and gradients.
struct Outcome<T> {
    y: Vec<T>,
    dx: Vec<T>,
    dweight: Vec<T>,
    dbias: Vec<T>,
}

/// `count` values in [-1, 1), which f32 represents exactly.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    reference::noise(seed, count).map(|v| v as f32).collect()
}

impl Case {
    fn new(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let elements = shape.elements().ok_or("the shape overflows")?;
        let channels = shape.channels();
        let (x, dy) = (noise(1, elements), noise(2, elements));
        let (weight, bias) = (noise(3, channels), noise(4, channels));
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        let eps = f64::from(BatchNormConfig::new(channels).eps);
        let forward = oracle::train(
            shape,
            &wide(&x),
            Some(&wide(&weight)),
            Some(&wide(&bias)),
            eps,
        );
        let backward = oracle::backward(shape, &wide(&x), &wide(&dy), Some(&wide(&weight)), eps);
        let expected = Outcome {
            y: forward.y,
            dx: backward.dx,
            dweight: backward.dweight,
            dbias: backward.dbias,
        };
        Ok(Self {
            shape,
            x,
            dy,
            weight,
            bias,
            expected,
        })
    }

    fn check(&self, name: &str, actual: &Outcome<f32>) -> Result<(), Box<dyn Error>> {
        let values = self.shape.values_per_channel().unwrap_or(0) as f64;
        let each = Bound::new(1e-4, 1e-4);
        // Sums of so many values, of either sign.
        let sums = Bound::new(1e-4, 1e-6 * values);
        within(&format!("{name} y"), &actual.y, &self.expected.y, each)?;
        within(&format!("{name} dx"), &actual.dx, &self.expected.dx, each)?;
        within(
            &format!("{name} dweight"),
            &actual.dweight,
            &self.expected.dweight,
            sums,
        )?;
        within(
            &format!("{name} dbias"),
            &actual.dbias,
            &self.expected.dbias,
            sums,
        )?;
        Ok(())
    }
}

/// Two steps, bound once.
struct Ours<'a> {
    gpu: &'a Gpu,
    case: &'a Case,
    y: Buffer,
    dx: Buffer,
    grads: Buffer,
    forward: Step,
    backward: Step,
}

impl<'a> Ours<'a> {
    fn new(gpu: &'a Gpu, case: &'a Case) -> Result<Self, Box<dyn Error>> {
        let config = BatchNormConfig::new(case.shape.channels());
        let train = TrainPlan::new(gpu.kernels(), case.shape, &config)?;
        let backward = BackwardPlan::new(gpu.kernels(), case.shape, &config)?;
        let empty = |bytes: u64| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.next_multiple_of(16).max(16),
                usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let filled = |values: &[f32]| {
            let buffer = empty(4 * values.len() as u64);
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            gpu.queue().write_buffer(&buffer, 0, &bytes);
            buffer
        };
        let running = config.initial_running().into_iter().map(f32::from_bits);
        let (x, dy) = (filled(&case.x), filled(&case.dy));
        let affine = filled(&[case.weight.clone(), case.bias.clone()].concat());
        let (y, dx) = (
            empty(train.activation_bytes()),
            empty(train.activation_bytes()),
        );
        let (saved, grads) = (empty(train.saved_bytes()), empty(backward.grads_bytes()));
        let running = filled(&running.collect::<Vec<_>>());
        let scratch = empty(train.scratch_bytes().max(backward.scratch_bytes()));
        let forward = train.bind(
            &TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
                .affine(affine.slice(..))
                .running(running.slice(..))
                .scratch(scratch.slice(..)),
        )?;
        let backward = backward.bind(
            &BackwardBuffers::new(x.slice(..), dy.slice(..))
                .dx(dx.slice(..))
                .saved(saved.slice(..))
                .affine(affine.slice(..))
                .grads(grads.slice(..))
                .scratch(scratch.slice(..)),
        )?;
        Ok(Self {
            gpu,
            case,
            y,
            dx,
            grads,
            forward,
            backward,
        })
    }

    fn run(&self, steps: &[&Step]) -> Result<(), Box<dyn Error>> {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        steps.iter().for_each(|step| step.encode(&mut encoder));
        self.gpu.queue().submit([encoder.finish()]);
        self.gpu
            .device()
            .poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }

    fn outcome(&self) -> Result<Outcome<f32>, Box<dyn Error>> {
        self.run(&[&self.forward, &self.backward])?;
        let read = |buffer: &Buffer| {
            let tensor = self
                .gpu
                .tensor_from_buffer(self.case.shape, buffer.clone())?;
            tensor.read()
        };
        let rows = BatchNormConfig::new(self.case.shape.channels()).affine_rows();
        let row = |row: Option<Range<u64>>| {
            let row = row.ok_or("no such row")?;
            Ok::<_, Box<dyn Error>>(self.gpu.read_f32(self.grads.slice(row))?)
        };
        Ok(Outcome {
            y: read(&self.y)?,
            dx: read(&self.dx)?,
            dweight: row(rows.weight)?,
            dbias: row(rows.bias)?,
        })
    }
}

/// burn's layer, in training.
struct Burn {
    device: Device,
    layer: BatchNorm,
    x: Tensor<4>,
    dy: Tensor<4>,
}

impl Burn {
    fn new(device: &Device, case: &Case) -> Self {
        let device = device.clone().autodiff();
        let [n, c] = [case.shape.batch(), case.shape.channels()];
        let [h, w] = [0, 1].map(|axis| case.shape.spatial().get(axis).copied().unwrap_or(1));
        let tensor = |values: &[f32]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [n, c, h, w]), &device)
        };
        let row =
            |values: &[f32]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [c]), &device);
        let mut layer = BurnConfig::new(c).init(&device);
        layer.gamma = Param::from_tensor(row(&case.weight));
        layer.beta = Param::from_tensor(row(&case.bias));
        Self {
            layer,
            x: tensor(&case.x),
            dy: tensor(&case.dy),
            device,
        }
    }

    /// The output is held until the device is done, so that nothing is left out.
    fn forward(&self) -> Result<(), Box<dyn Error>> {
        let _y = self.layer.forward(self.x.clone());
        Ok(self.device.sync()?)
    }

    fn both(&self) -> Result<(), Box<dyn Error>> {
        let _held = self.gradients();
        Ok(self.device.sync()?)
    }

    /// burn's backward begins with ones; a product brings in another gradient.
    fn gradients(&self) -> (Tensor<4>, Tensor<4>, burn::tensor::Gradients) {
        let x = self.x.clone().require_grad();
        let y = self.layer.forward(x.clone());
        let grads = (y.clone() * self.dy.clone()).backward();
        (x, y, grads)
    }

    /// What the product takes by itself.
    fn incoming(&self) -> Result<(), Box<dyn Error>> {
        let x = self.x.clone().require_grad();
        let grads = (x.clone() * self.dy.clone()).backward();
        let _held = (x, grads);
        Ok(self.device.sync()?)
    }

    fn outcome(&self) -> Result<Outcome<f32>, Box<dyn Error>> {
        let (x, y, grads) = self.gradients();
        let values = |data: TensorData| {
            data.try_to_vec::<f32>()
                .map_err(|error| format!("{error:?}"))
        };
        let row = |tensor: Option<Tensor<1>>| values(tensor.ok_or("no gradient")?.into_data());
        Ok(Outcome {
            dx: values(x.grad(&grads).ok_or("no gradient")?.into_data())?,
            dweight: row(self.layer.gamma.val().grad(&grads))?,
            dbias: row(self.layer.beta.val().grad(&grads))?,
            y: values(y.into_data())?,
        })
    }
}
