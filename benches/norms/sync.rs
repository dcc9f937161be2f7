//! A step of a layer on several ranks, beside the same step without synchronization, and its parts by themselves.
//!
//! Ranks are threads of this process, and with the feature `mpi` processes that this program starts by `mpirun`. All
//! ranks share the machine: what two cores do in turns, several machines do at the same time.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::noise;
use wgpu_norm::sync::{Group, Threads};
use wgpu_norm::{BatchNorm, BatchNormConfig, Gpu, Problem, SyncBatchNorm, Tensor};

/// Steps that are timed.
const ROUNDS: usize = 60;

/// Ranks of each table.
const RANKS: [usize; 3] = [1, 2, 4];

/// The default problems of one rank: many values, and many channels.
pub const PROBLEMS: [&str; 2] = ["n8c64h56w56", "n8c512h7w7"];

/// Times each problem on 1, 2 and 4 ranks of each engine.
pub fn measure(gpu: &Gpu, problems: &[Problem]) -> anyhow::Result<()> {
    writeln!(
        io::stdout(),
        "{}\nMedians of {ROUNDS} steps in ms, forward and backward. Every rank has the problem's batch.\n\
         local: the layer without synchronization, on all ranks at once. read, write: the bytes of moments from the \
         device and back, by themselves.\n\
         exchange, back: all_gather of the bytes that go forward and back. MPI: MPI_Allgather of the first.\n\n\
         {:<16} {:<8} {:>5}  {:>8} {:>8} {:>6}  {:>8} {:>8} {:>8} {:>8} {:>8}",
        gpu.adapter_name(),
        "problem",
        "engine",
        "ranks",
        "local",
        "sync",
        "ratio",
        "read",
        "write",
        "exchange",
        "back",
        "MPI",
    )?;
    for &problem in problems {
        for ranks in RANKS {
            over_threads(problem, ranks)?;
        }
        #[cfg(feature = "mpi")]
        for ranks in RANKS {
            over_mpi::start(problem, ranks)?;
        }
    }
    Ok(())
}

/// Each thread has a device of its own: on a common one each would wait for the work of all.
fn over_threads(problem: Problem, ranks: usize) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = Threads::ranks(ranks)
            .into_iter()
            .map(|engine| {
                scope.spawn(move || {
                    let group = Group::new(engine)?;
                    rank(&Gpu::open()?, &group, problem, "threads", None)
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}

/// The layers and tensors of one rank.
struct Layers {
    local: BatchNorm,
    sync: SyncBatchNorm,
    x: Tensor,
    dy: Tensor,
}

/// A call of another library that gives everybody everything.
type Gather<'a> = &'a dyn Fn(&[u8], &mut [u8]);

/// What each rank does; the first one prints.
fn rank(
    gpu: &Gpu,
    group: &Group,
    problem: Problem,
    engine: &str,
    gather: Option<Gather<'_>>,
) -> anyhow::Result<()> {
    let channels = problem.shape.channels();
    let config = BatchNormConfig::new(channels);
    let count = problem.shape.elements().context("too many values")?;
    let values = |seed| -> Vec<f32> { noise(seed, count).map(|v| v as f32).collect() };
    let mut layers = Layers {
        local: config.build(gpu)?,
        sync: config.build(gpu)?.to_sync(group),
        x: gpu.tensor(problem, &values(1))?,
        dy: gpu.tensor(problem, &values(2))?,
    };
    verify(&mut layers)?;

    let aligned = || -> anyhow::Result<()> { Ok(group.sum(&mut [0.0])?) };
    let timed = |what: &mut dyn FnMut() -> anyhow::Result<()>| {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            aligned()?;
            let start = Instant::now();
            what()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        anyhow::Ok(median(times))
    };
    // In turns, so that what else the machine does meets both.
    let (mut locals, mut syncs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        aligned()?;
        let start = Instant::now();
        let (_, saved) = layers.local.train(&layers.x)?;
        wait(gpu, layers.local.backward(saved, &layers.dy)?.buffer())?;
        let local = start.elapsed().as_secs_f64() * 1e3;
        aligned()?;
        let start = Instant::now();
        let (_, saved) = layers.sync.train(&layers.x)?;
        wait(gpu, layers.sync.backward(saved, &layers.dy)?.buffer())?;
        let sync = start.elapsed().as_secs_f64() * 1e3;
        locals.push(local);
        syncs.push(sync);
        ratios.push(sync / local);
    }
    let [local, sync, ratio] = [locals, syncs, ratios].map(median);

    // The bytes of the exchanges: a header, a count, and three floats a channel forward, two back.
    let (forward, back) = (vec![1; 128 + 12 * channels], vec![1; 128 + 8 * channels]);
    let deadline = || Instant::now() + Duration::from_secs(60);
    let exchange = timed(&mut || done(group.engine().all_gather(&forward, deadline())?))?;
    let backward = timed(&mut || done(group.engine().all_gather(&back, deadline())?))?;
    let moments = gpu.tensor(wgpu_norm::Shape::nc(4, channels), &vec![0.0; 4 * channels])?;
    let read = timed(&mut || done(moments.read()?))?;
    let rows = vec![0.0; 4 * channels];
    let write = timed(&mut || done(gpu.write_f32(moments.buffer().slice(..), &rows)?))?;
    let other = match gather {
        None => "-".to_owned(),
        Some(gather) => {
            let mut all = vec![0; forward.len() * group.size()];
            let time = timed(&mut || {
                gather(&forward, &mut all);
                Ok(())
            })?;
            format!("{time:.3}")
        }
    };
    if group.rank() == 0 {
        writeln!(
            io::stdout(),
            "{:<16} {engine:<8} {:>5}  {local:>8.2} {sync:>8.2} {ratio:>6.2}  {read:>8.3} {write:>8.3} {exchange:>8.3} {backward:>8.3} {other:>8}",
            problem.shape.to_string(),
            group.size(),
        )?;
    }
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Nobody looks at the result.
fn done<T>(_: T) -> anyhow::Result<()> {
    Ok(())
}

/// Waits until everything that was submitted is done: the gradients are computed last.
fn wait(gpu: &Gpu, gradients: Option<&wgpu::Buffer>) -> anyhow::Result<()> {
    let gradients = gradients.context("a layer with parameters")?;
    gpu.read_f32(gradients.slice(..4))?;
    Ok(())
}

/// Every rank has the same values, so that the statistics of all ranks are those of each.
fn verify(layers: &mut Layers) -> anyhow::Result<()> {
    let Layers { local, sync, x, dy } = layers;
    let (y, saved) = local.train(&*x)?;
    let dx = local.backward(saved, dy)?.dx;
    let (sync_y, saved) = sync.train(&*x)?;
    let sync_dx = sync.backward(saved, dy)?.dx;
    for (name, got, expected) in [("y", sync_y, y), ("dx", sync_dx, dx)] {
        let expected: Vec<f64> = expected.read()?.into_iter().map(f64::from).collect();
        within(name, &got.read()?, &expected, Bound::new(1e-5, 1e-5))?;
    }
    ensure!(local.state()?.num_batches_tracked == sync.local().state()?.num_batches_tracked);
    Ok(())
}

/// Ranks that are processes.
#[cfg(feature = "mpi")]
pub mod over_mpi {
    use std::process::Command;

    use anyhow::{Context, ensure};
    use mpi::traits::CommunicatorCollectives;
    use wgpu_norm::sync::{Group, Mpi};
    use wgpu_norm::{Gpu, Problem};

    /// Starts this program by `mpirun`.
    pub fn start(problem: Problem, ranks: usize) -> anyhow::Result<()> {
        let program = std::env::current_exe()?;
        let status = Command::new("mpirun")
            .args(["-n", &ranks.to_string()])
            .arg(program)
            .args(["--sync-rank", &problem.to_string()])
            // A container's user is root, and there may be fewer cores than ranks.
            .envs([
                ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
                ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
                ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
                ("OMPI_MCA_mpi_yield_when_idle", "1"),
            ])
            .status()
            .context("mpirun; install MPI (make mpi)")?;
        ensure!(status.success(), "mpirun: {status}");
        Ok(())
    }

    /// What each process does.
    pub fn rank(gpu: &Gpu, problem: Problem) -> anyhow::Result<()> {
        let group = Group::new(Mpi::world()?)?;
        let world = mpi::topology::SimpleCommunicator::world();
        let gather = |own: &[u8], all: &mut [u8]| world.all_gather_into(own, all);
        super::rank(gpu, &group, problem, "mpi", Some(&gather))
    }
}
