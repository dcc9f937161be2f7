//! Synchronized statistics over MPI, by the suite that every engine passes.
//!
//! The test starts itself by `mpirun`, with 2, 3 and 4 ranks, and then in jobs of which a rank fails. Every job is ended
//! after a time, so that a job that hangs fails.

#[allow(dead_code)] // The tests of one process use the rest.
mod common;
mod sync_suite;

use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wgpu_norm::sync::{Group, GroupOptions, Mpi};
use wgpu_norm::{BatchNormConfig, Error, SyncError};

use common::gpu;
use sync_suite::rank::{Rank, Shards, running};
use sync_suite::{CASES, FAULTS};

/// The longest run of one job.
const LONGEST: Duration = Duration::from_secs(100);

/// What the ranks of a job do, by the job's name.
const JOBS: &[(&str, fn())] = &[
    ("suite", suite),
    ("initialized", initialized_by_the_application),
    ("faults", faults),
    ("killed", a_rank_is_killed_in_mid_step),
    ("finalized", a_group_after_the_last_one),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [first, name] if first == "--job" => {
            let job = JOBS.iter().find(|(known, _)| known == name);
            job.expect("a job").1();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // The words that other tests take to run some of them only.
    let takes_value = |word: &String| {
        ["--test-threads", "--skip", "--format", "--color"].contains(&word.as_str())
    };
    let after = std::iter::once(None).chain(arguments.iter().map(Some));
    let words = arguments.iter().zip(after);
    let words = words.filter(|(_, before)| !before.is_some_and(takes_value));
    let mut filters = words
        .map(|(word, _)| word)
        .filter(|word| !word.starts_with('-'));
    if filters.clone().next().is_some() && !filters.any(|word| word == "mpi") {
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (job, ranks, more) in [
        ("suite", 2, &[][..]),
        ("suite", 3, &[]),
        ("suite", 4, &[]),
        ("faults", 3, &[]),
        ("initialized", 2, &[]),
        ("finalized", 2, &[]),
        // The others go on, as under a launcher that does not end them.
        ("killed", 3, &["--enable-recovery"]),
        // As mpirun does otherwise.
        ("killed", 3, &[]),
    ] {
        let start = Instant::now();
        let (output, code) = mpirun(job, ranks, more);
        let seconds = start.elapsed().as_secs_f64();
        let verdict = match (job, more) {
            ("killed", []) => ended_by_mpirun(&output, code, seconds),
            ("faults", _) => all_passed(&output, ranks),
            ("killed", _) => the_others_found_out(&output),
            _ if code == Some(0) => Ok(()),
            _ => Err(format!("exit code {code:?}")),
        };
        let words = verdict.as_ref().map_or("FAILED", |()| "ok");
        println!("mpi {job}, {ranks} ranks {more:?}: {words}, {seconds:.1} s");
        let lines = output
            .lines()
            .filter(|line| line.starts_with("    ") || verdict.is_err());
        lines.for_each(|line| println!("{line}"));
        if let Err(problem) = verdict {
            println!("mpi {job}, {ranks} ranks: {problem}");
            failed = true;
        }
    }
    ExitCode::from(u8::from(failed))
}

/// Runs a job of this program, and returns what it printed and its exit code; none if it was ended.
fn mpirun(job: &str, ranks: usize, more: &[&str]) -> (String, Option<i32>) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("mpirun");
    command
        .args(more)
        .args(["-n", &ranks.to_string()])
        .arg(program)
        .args(["--job", job])
        // A container's user is root, and there are fewer cores than ranks.
        .envs([
            ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
            ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
            ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
            ("OMPI_MCA_mpi_yield_when_idle", "1"),
            ("RUST_BACKTRACE", "0"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("mpirun: {error}; install MPI (make mpi)"));
    let mut streams: Vec<Box<dyn Read + Send>> = Vec::new();
    streams.extend(child.stdout.take().map(|stream| Box::new(stream) as Box<_>));
    streams.extend(child.stderr.take().map(|stream| Box::new(stream) as Box<_>));
    // Both are read at once, or the one that is full would stop the job.
    let output = Arc::new(Mutex::new(Vec::new()));
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let output = output.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    output.lock().unwrap().extend(&bytes[..count]);
                }
            })
        })
        .collect();
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            // What is printed is all there when its readers are at the end.
            readers.into_iter().for_each(|reader| drop(reader.join()));
            break status.code();
        }
        if start.elapsed() > LONGEST {
            // mpirun ends its ranks when it is asked to end.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            std::thread::sleep(Duration::from_secs(3));
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = output.lock().unwrap();
    (String::from_utf8_lossy(&output).into_owned(), code)
}

fn options() -> GroupOptions {
    GroupOptions::default().timeout(Duration::from_secs(60))
}

fn suite() {
    let group = Group::with_options(Mpi::world().unwrap(), options()).unwrap();
    let rank = Rank { group, gpu: gpu() };
    for case in CASES {
        let start = Instant::now();
        (case.run)(&rank);
        if rank.rank() == 0 {
            println!("{}: {:?}", case.name, start.elapsed());
        }
    }
}

/// After a timeout the engine does not finalize MPI, which might wait for ever, so that mpirun calls the job a failure.
fn faults() {
    let group = Group::with_options(Mpi::world().unwrap(), options()).unwrap();
    let rank = Rank { group, gpu: gpu() };
    for case in FAULTS {
        (case.run)(&rank);
    }
    println!("passed: rank {}", rank.rank());
    // The first rank that ends takes the others with it.
    rank.same_everywhere("done", &[1.0]);
    std::thread::sleep(Duration::from_millis(200));
}

fn all_passed(output: &str, ranks: usize) -> Result<(), String> {
    match (0..ranks).find(|rank| !output.contains(&format!("passed: rank {rank}"))) {
        None => Ok(()),
        Some(rank) => Err(format!("rank {rank} has not passed")),
    }
}

/// The application has initialized MPI, goes on with it, and finalizes it.
fn initialized_by_the_application() {
    use mpi::traits::{Communicator, CommunicatorCollectives};

    let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Serialized).unwrap();
    let world = universe.world();
    // The ranks in reverse.
    let reverse = world
        .split_by_color_with_key(mpi::topology::Color::with_value(0), -world.rank())
        .unwrap();
    let group = Group::with_options(Mpi::from_communicator(&reverse).unwrap(), options()).unwrap();
    assert_eq!(group.rank(), group.size() - 1 - world.rank() as usize);
    let mut values = [group.rank() as f32];
    group.average(&mut values, 1.0).unwrap();
    assert_eq!(values, [(group.size() - 1) as f32 / 2.0]);
    drop(group);
    let mut sum = 0;
    world.all_reduce_into(&1, &mut sum, mpi::collective::SystemOperation::sum());
    assert_eq!(sum, world.size());
    drop(reverse);
    drop(universe);
    let error = Mpi::world().unwrap_err();
    assert!(matches!(error, SyncError::Engine { .. }), "{error}");
}

/// The engine finalizes what it has initialized, and says so to whoever comes later.
fn a_group_after_the_last_one() {
    let group = Group::with_options(Mpi::world().unwrap(), options()).unwrap();
    // A second engine of the process does not need the first.
    let second = Group::with_options(Mpi::world().unwrap(), options()).unwrap();
    drop(group);
    second.average(&mut [1.0], 1.0).unwrap();
    drop(second);
    let error = Mpi::world().unwrap_err().to_string();
    assert!(error.starts_with("MPI: has been finalized"), "{error}");
}

/// How long the others wait for the rank that is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rank 1 dies between its moments and their exchange.
fn a_rank_is_killed_in_mid_step() {
    let group = Group::with_options(Mpi::world().unwrap(), options()).unwrap();
    let rank = Rank { group, gpu: gpu() };
    let mut sync = BatchNormConfig::new(3)
        .build(&rank.gpu)
        .unwrap()
        .to_sync(&rank.group);
    let shards = Shards::images(1, &vec![2; rank.size()]);
    let own = shards.part(rank.rank(), &shards.x);
    let x = rank.gpu.tensor(shards.problem(rank.rank()), own).unwrap();
    let _ = sync.train(&x).unwrap();
    let before = running(sync.local());
    // From here on with less patience, in a group that all of them have made.
    let deadline = Instant::now() + options().timeout;
    let engine = rank.group.engine().split(0, deadline).unwrap();
    let group = Group::with_options(engine, options().timeout(PATIENCE)).unwrap();
    let mut sync = sync.to_local().to_sync(&group);
    let pending = sync.begin_train(&x);
    if rank.rank() == 1 {
        let id = std::process::id().to_string();
        let _ = Command::new("kill").args(["-9", &id]).status();
        std::thread::sleep(LONGEST);
    }
    let start = Instant::now();
    let error = sync.finish_train(pending).unwrap_err();
    let waited = start.elapsed().as_secs_f64();
    println!(
        "    killed: rank {} after {waited:.2} s: {error}",
        rank.rank()
    );
    let found = match &error {
        Error::Sync(SyncError::Timeout { missing, .. }) => missing == &[1],
        Error::Sync(SyncError::RankLost { rank, .. }) => *rank == 1,
        Error::Sync(SyncError::GaveUp { reason, .. }) => reason.to_string().contains("rank 1"),
        _ => false,
    };
    let moved = running(sync.local()) != before;
    println!(
        "    killed: rank {}: named {found}, moved {moved}",
        rank.rank()
    );
    // Without MPI_Finalize, which would wait for the rank that is gone.
    std::process::exit(i32::from(!found || moved));
}

/// Both that are left have named the rank within their patience, and nothing of theirs has moved.
fn the_others_found_out(output: &str) -> Result<(), String> {
    for rank in [0, 2] {
        let line = format!("killed: rank {rank}: named true, moved false");
        if !output.contains(&line) {
            return Err(format!("rank {rank} has not found out"));
        }
        let after = format!("killed: rank {rank} after ");
        let seconds = output.split_once(&after).and_then(|(_, rest)| {
            let word = rest.split_whitespace().next()?;
            word.parse::<f64>().ok()
        });
        match seconds {
            Some(seconds) if seconds <= PATIENCE.as_secs_f64() + 1.0 => {}
            _ => return Err(format!("rank {rank} has waited {seconds:?} s")),
        }
    }
    Ok(())
}

/// mpirun has ended the job long before any time was up.
fn ended_by_mpirun(output: &str, code: Option<i32>, seconds: f64) -> Result<(), String> {
    match code {
        None | Some(0) => Err(format!("exit code {code:?}")),
        _ if !output.contains("signal 9") => {
            Err("mpirun does not say that a rank was killed".to_owned())
        }
        _ if seconds > 60.0 => Err(format!("it took {seconds} s")),
        _ => Ok(()),
    }
}
