//! What steps should take on GPUs that are not there: a roofline on paper, and a measured record beside it.
//!
//! A dispatch takes the longer of two times, and a fixed one for itself. The first is that of its bytes at the memory's full
//! speed. The second is that of its main loop: instructions for each value, as the GPU's compiler counts them, with all
//! lanes busy. Caches, and latencies beyond the fixed time, are left out. A loop that loads parameters has no count, and is
//! taken to wait for memory.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use wgpu_norm::Launch;

use crate::compile::{Kernel, Row, Work, kernel, kernels};
use crate::compiled;
use crate::moved::Moved;
use crate::subject::Subject;

/// GPUs, by the figures of their makers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Model {
    /// NVIDIA H200: 4.8 TB/s, 132 multiprocessors of 128 lanes at 1.76 GHz. Instructions as RDNA 2 has them, because
    /// NVIDIA's compiler is not there.
    H200,
    /// AMD Radeon RX 7900 XTX: 960 GB/s, 96 units of 64 lanes at 2.5 GHz.
    Rx7900,
    /// AMD Radeon 780M, in a processor, with two channels of DDR5-5600: 90 GB/s, 12 units of 64 lanes at 2.7 GHz.
    Radeon780m,
}

/// A device as the roofline sees it.
struct Roof {
    /// Mesa's name of the family whose instructions are counted.
    family: &'static str,
    /// Bytes in a second.
    bandwidth: f64,
    /// Instructions of single lanes in a second.
    lanes: f64,
}

/// Seconds that a dispatch takes beside its own work: what a second kernel in line added in Vulkan on a GPU of NVIDIA's, by
/// the table of cumulative sums in apache/tvm#16934.
const DISPATCH: f64 = 4.3e-6;

impl Model {
    fn roof(self) -> Roof {
        let roof = |family, bandwidth, units: f64, lanes: f64, clock: f64| Roof {
            family,
            bandwidth,
            lanes: units * lanes * clock,
        };
        match self {
            Self::H200 => roof("navi21", 4.8e12, 132.0, 128.0, 1.76e9),
            Self::Rx7900 => roof("gfx1100", 0.96e12, 96.0, 64.0, 2.5e9),
            Self::Radeon780m => roof("gfx1100", 0.09e12, 12.0, 64.0, 2.7e9),
        }
    }

    fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or(String::new(), |value| value.get_name().to_owned())
    }
}

/// Seconds of one step.
#[derive(Clone, Copy, Debug, Default)]
struct Prediction {
    moved: u64,
    memory: f64,
    instructions: f64,
    dispatches: f64,
    /// Of each dispatch the longer time, and its own.
    whole: f64,
}

impl Prediction {
    fn add(&mut self, other: Self, times: f64) {
        self.moved += other.moved * times as u64;
        self.memory += times * other.memory;
        self.instructions += times * other.instructions;
        self.dispatches += times * other.dispatches;
        self.whole += times * other.whole;
    }

    /// What the most of the time is for.
    fn bound_by(&self) -> &'static str {
        if self.dispatches > self.memory.max(self.instructions) {
            "dispatches"
        } else if self.instructions > self.memory {
            "instructions"
        } else {
            "memory"
        }
    }
}

/// The step of a problem line, on one roof.
fn predict(roof: &Roof, work: &Work, compiled: &Compiled) -> anyhow::Result<Prediction> {
    let mut step = Prediction::default();
    for launch in &work.launches {
        let row = compiled.row(launch)?;
        let moved = Moved::of(launch);
        let memory = moved.bytes() as f64 / roof.bandwidth;
        let values = moved.read / work.value_bytes;
        let instructions = row.per_value.unwrap_or(0.0) * values as f64 / roof.lanes;
        let dispatch = Prediction {
            moved: moved.bytes(),
            memory,
            instructions,
            dispatches: DISPATCH,
            whole: DISPATCH + memory.max(instructions),
        };
        step.add(dispatch, 1.0);
    }
    Ok(step)
}

/// The kernels of all works, compiled for one family.
struct Compiled<'a> {
    rows: Vec<Row>,
    /// The row of each kernel.
    numbers: HashMap<Kernel<'a>, usize>,
}

impl<'a> Compiled<'a> {
    fn new(family: &str, works: &'a [Work]) -> anyhow::Result<Self> {
        let (rows, _) = compiled::rows(family)?;
        let kernels = kernels(works).into_iter();
        let numbers: HashMap<_, _> = kernels.map(|(_, launch)| kernel(launch)).zip(0..).collect();
        ensure!(
            rows.len() == numbers.len(),
            "{family}: cannot compile all kernels"
        );
        Ok(Self { rows, numbers })
    }

    fn row(&self, launch: &Launch) -> anyhow::Result<&Row> {
        let number = self.numbers.get(&kernel(launch));
        let row = number.and_then(|&number| self.rows.get(number));
        row.with_context(|| format!("{} was not compiled", launch.label))
    }
}

/// The medians of a record, in seconds, by line.
fn measured(path: &Path) -> anyhow::Result<HashMap<String, f64>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(line), Some(kernel), Some(median)) =
        (column("line"), column("kernel"), column("median_ms"))
    else {
        bail!("{}: no record of timed lines", path.display());
    };
    let mut medians = HashMap::new();
    for row in lines {
        let fields: Vec<&str> = row.split(',').collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        // Single dispatches are no steps.
        if field(kernel) == "all" {
            let seconds = field(median).parse::<f64>().map(|median| 1e-3 * median);
            let seconds = seconds.with_context(|| format!("{}: {row:?}", path.display()))?;
            medians.insert(field(line).to_owned(), seconds);
        }
    }
    Ok(medians)
}

/// Predicts a step of each subject, which counts so often, on each model, and prints a table.
pub fn print(
    subjects: &[(Subject, u32)],
    models: &[Model],
    record: Option<&Path>,
    against: Option<&Path>,
) -> anyhow::Result<()> {
    let alone: Vec<Subject> = subjects.iter().map(|(subject, _)| *subject).collect();
    let works = compiled::works(&alone)?;
    let measured = against.map(measured).transpose()?;
    if let (Some(medians), Some(path)) = (&measured, against) {
        let known = works.iter().any(|work| medians.contains_key(&work.line));
        ensure!(known, "{}: none of these lines", path.display());
    }
    let mut by_family = HashMap::new();
    let mut out = io::stdout().lock();
    let mut lines = vec![
        "gpu,line,count,moved_bytes,memory_us,instructions_us,dispatches_us,predicted_us"
            .to_owned(),
    ];
    for &model in models {
        let roof = model.roof();
        if !by_family.contains_key(roof.family) {
            by_family.insert(roof.family, Compiled::new(roof.family, &works)?);
        }
        let compiled = &by_family[roof.family];
        let name = model.name();
        write!(
            out,
            "\n{name:<56} {:>9} {:>9} {:>9} {:>9} {:>9}  bound by",
            "MB moved", "memory", "instr.", "dispatch", "us"
        )?;
        writeln!(
            out,
            "{}",
            if measured.is_some() {
                "      measured  of roofline"
            } else {
                ""
            }
        )?;
        let mut totals: Vec<(String, Prediction, Option<f64>)> = Vec::new();
        for ((subject, count), work) in subjects.iter().zip(&works) {
            let step = predict(&roof, work, compiled)?;
            let found = measured
                .as_ref()
                .and_then(|medians| medians.get(&work.line).copied());
            show(&mut out, &work.line, step, found)?;
            lines.push(csv(&name, &work.line, *count, step));
            let problem = subject.line.common().problem.to_string();
            let kind = problem.split_once(' ').map_or("", |(_, kind)| kind);
            let total = format!("all {kind}: {}", subject.work());
            let index = totals.iter().position(|(other, ..)| *other == total);
            let index = index.unwrap_or_else(|| {
                totals.push((total, Prediction::default(), Some(0.0)));
                totals.len() - 1
            });
            let times = f64::from(*count);
            let (_, sum, time) = &mut totals[index];
            sum.add(step, times);
            *time = time.zip(found).map(|(time, found)| time + times * found);
        }
        for (total, sum, time) in totals {
            show(&mut out, &total, sum, time.filter(|_| measured.is_some()))?;
        }
    }
    if let Some(path) = record {
        fs::write(path, lines.join("\n") + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn show(
    out: &mut impl Write,
    line: &str,
    step: Prediction,
    measured: Option<f64>,
) -> io::Result<()> {
    write!(
        out,
        "{line:<56} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}  {:<12}",
        step.moved as f64 * 1e-6,
        step.memory * 1e6,
        step.instructions * 1e6,
        step.dispatches * 1e6,
        step.whole * 1e6,
        step.bound_by(),
    )?;
    match measured {
        Some(time) => writeln!(
            out,
            "{:>10.1} {:>11.0}%",
            time * 1e6,
            100.0 * step.whole / time
        ),
        None => writeln!(out),
    }
}

fn csv(gpu: &str, line: &str, count: u32, step: Prediction) -> String {
    let [memory, instructions, dispatches, whole] =
        [step.memory, step.instructions, step.dispatches, step.whole].map(|time| time * 1e6);
    format!(
        "{gpu},{line},{count},{},{memory:.2},{instructions:.2},{dispatches:.2},{whole:.2}",
        step.moved
    )
}
