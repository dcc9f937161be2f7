//! What the host spends: on plans, on recording steps, and until a new process has its first result.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use wgpu_norm::batch_norm::{Step, TrainBuffers, TrainPlan};
use wgpu_norm::{BatchNormConfig, Gpu, Problem};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is handed to the system's allocator as it came.
#[expect(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Steps recorded in one go, as many as a large network has layers.
const LAYERS: u32 = 200;
const ROUNDS: usize = 25;

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Prints what each call costs.
pub fn measure(gpu: &Gpu, problem: Problem) -> anyhow::Result<()> {
    writeln!(
        io::stdout(),
        "{}\n{problem}, medians of {ROUNDS} rounds",
        gpu.adapter_name()
    )?;
    let config = BatchNormConfig::new(problem.shape.channels());
    let start = Instant::now();
    let plan = TrainPlan::new(gpu.kernels(), problem, &config)?;
    writeln!(
        io::stdout(),
        "first plan, which compiles: {:>10.1} us",
        microseconds(start.elapsed())
    )?;
    let step = bound(gpu, &plan)?;

    let each = |what: &dyn Fn() -> anyhow::Result<()>| {
        let times = (0..ROUNDS).map(|_| {
            let start = Instant::now();
            what()?;
            Ok(microseconds(start.elapsed()))
        });
        times.collect::<anyhow::Result<Vec<f64>>>().map(median)
    };
    let again = each(&|| {
        black_box(TrainPlan::new(gpu.kernels(), problem, &config)?);
        Ok(())
    })?;
    writeln!(io::stdout(), "another plan:               {again:>10.1} us")?;
    let bind = each(&|| {
        black_box(bound(gpu, &plan)?);
        Ok(())
    })?;
    writeln!(io::stdout(), "buffers and bind:           {bind:>10.1} us")?;

    // Into one pass: what remains is the crate's part and wgpu's commands. And each into a pass of its own.
    for (name, own_passes) in [("record", false), ("encode", true)] {
        let (mut times, mut allocations) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let start = Instant::now();
            if own_passes {
                (0..LAYERS).for_each(|_| step.encode(&mut encoder));
            } else {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                (0..LAYERS).for_each(|_| step.record(&mut pass));
            }
            times.push(microseconds(start.elapsed()) / f64::from(LAYERS));
            allocations
                .push((ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / f64::from(LAYERS));
            drop(encoder.finish());
        }
        writeln!(
            io::stdout(),
            "{name}:                     {:>10.2} us a layer of {} dispatches, {:.2} allocations",
            median(times),
            step.dispatch_count(),
            median(allocations),
        )?;
    }

    // Processes of their own, one after the other.
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let result = Command::new(std::env::current_exe()?)
            .args(["--first-result", &problem.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        times.push(microseconds(start.elapsed()) * 1e-3);
        if !result.status.success() {
            bail!("no first result");
        }
        if times.len() == 1 {
            io::stdout().write_all(&result.stdout)?;
        }
    }
    writeln!(
        io::stdout(),
        "a process with one result:  {:>10.1} ms",
        median(times)
    )?;
    Ok(())
}

fn bound(gpu: &Gpu, plan: &TrainPlan) -> anyhow::Result<Step> {
    let buffer = |bytes: u64| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.max(16),
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let [x, y] = [(); 2].map(|()| buffer(plan.activation_bytes()));
    let [affine, running, saved, scratch] = [
        plan.affine_bytes(),
        plan.running_bytes(),
        plan.saved_bytes(),
        plan.scratch_bytes(),
    ]
    .map(buffer);
    let buffers = TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
        .affine(affine.slice(..))
        .running(running.slice(..))
        .scratch(scratch.slice(..));
    Ok(plan.bind(&buffers)?)
}

/// What a new process does until it has a result, and when it has done what.
pub fn first_result(started: Instant, problem: Problem) -> anyhow::Result<()> {
    let elapsed = || started.elapsed().as_secs_f64() * 1e3;
    let gpu = Gpu::open()?;
    let opened = elapsed();
    let values = vec![1.0; problem.shape.elements().context("the shape overflows")?];
    let x = gpu.tensor(problem, &values)?;
    let mut layer = BatchNormConfig::new(problem.shape.channels()).build(&gpu)?;
    let uploaded = elapsed();
    let (y, _) = layer.train(&x)?;
    let submitted = elapsed();
    let first = y.read()?;
    writeln!(
        io::stdout(),
        "first result: device after {opened:.1} ms, input after {uploaded:.1}, submitted after {submitted:.1}, \
         {} values after {:.1}",
        first.len(),
        elapsed(),
    )?;
    Ok(())
}
