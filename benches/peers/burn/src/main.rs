//! burn's norms beside wgpu-norm's: the same work, on one wgpu device, in turns.
//!
//! Both are checked against wgpu-norm's f64 reference before they are timed. Times are wall clock from the first call
//! to the moment the device is done, because burn decides by itself what it submits when.

mod case;
mod device;
mod ours;
mod peer;
mod problem;
mod table;
mod times;

use std::error::Error;
use std::path::PathBuf;

use burn::tensor::Device;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use wgpu_norm::Gpu;

use case::Case;
use ours::Ours;
use problem::Problem;
use table::Table;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
#[command(about = "burn's norms beside wgpu-norm's")]
struct Arguments {
    /// Problem lines in f32, such as "n32c64h56w56", "group n8c256h28w28 groups=32", "instance n8c64h56w56",
    /// "layer n4096c1024" and "rms n4096c1024 prenorm". Each is timed forward, and forward with backward.
    #[arg(default_values = ["n32c64h56w56", "n32c256h14w14", "n32c512h7w7"])]
    problems: Vec<Problem>,
    /// Rounds, of which medians are taken; three more go before them, for burn to compile and tune in.
    #[arg(long, default_value_t = 15, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Writes the table to a new CSV file; a file that is there is never overwritten.
    #[arg(long)]
    record: Option<PathBuf>,
    /// A line of the record's head, such as what else the machine did.
    #[arg(long, requires = "record")]
    note: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(path) = arguments.record.as_ref().filter(|path| path.exists()) {
        return Err(format!("{} is a record already", path.display()).into());
    }
    let (device, gpu) = device::open()?;
    let rounds = arguments.rounds;
    let mut head = vec![
        gpu.adapter_name(),
        format!("wall time, medians of {rounds} rounds"),
    ];
    head.extend(arguments.note);
    let mut table = Table::new(head);
    for problem in arguments.problems {
        measure(problem, &device, &gpu, rounds, &mut table)?;
    }
    match arguments.record {
        Some(path) => table.write(&path),
        None => Ok(()),
    }
}

/// Checks both sides, then times them. A peer that computes something else is timed all the same, and called wrong.
fn measure(
    problem: Problem,
    device: &Device,
    gpu: &Gpu,
    rounds: usize,
    table: &mut Table,
) -> Result<()> {
    let line = problem.line.clone();
    let case = Case::new(problem)?;
    let (ours, peer) = (Ours::new(gpu, &case)?, peer::of(device, &case)?);
    if let Some(error) = case.faults(&ours.outcome()?).into_iter().flatten().next() {
        return Err(format!("{line}: wgpu-norm {error}").into());
    }
    let faults = case.faults(&peer.outcome()?);
    for error in faults.iter().flatten() {
        table.note(&format!("burn is wrong: {line}: {error}"));
    }
    let burn = |faults: &[Option<_>]| match faults.iter().any(Option::is_some) {
        true => "burn (wrong)",
        false => "burn",
    };
    let (burn_forward, burn_both) = (burn(&faults[..1]), burn(&faults));

    let [ours_forward, peer_forward, ours_both, peer_both, incoming] = times::of(
        [
            &|| ours.forward(),
            &|| peer.forward(),
            &|| ours.both(),
            &|| peer.both(),
            &|| peer.incoming(),
        ],
        rounds,
    )?;
    // What it takes burn to bring in gradients is no part of the norm.
    let peer_both = peer_both.less(incoming.median);
    let [forward, both] = ["forward", "forward+backward"];
    for (pass, contender, times, ours) in [
        (forward, "wgpu-norm", ours_forward, Some(ours_forward)),
        (forward, burn_forward, peer_forward, Some(ours_forward)),
        (both, "wgpu-norm", ours_both, Some(ours_both)),
        (both, burn_both, peer_both, Some(ours_both)),
        ("incoming gradient", "burn", incoming, None),
    ] {
        table.row(&line, pass, contender, times, ours);
    }
    Ok(())
}
