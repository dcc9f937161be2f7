//! Verifies BatchNorm against the oracle, then times it beside a copy of the same tensor.
//!
//! `cargo bench -- --help` lists the options. The executable that `cargo bench --no-run` builds stands alone: it can be
//! carried to another machine. Every contender runs once in each round, so that what else the machine does meets
//! all of them, on buffers that take turns, so that none finds its own in cache. The figures are medians, and the
//! figure to compare is the ratio to the copy.

mod chart;
mod clock;
mod contenders;
mod host;
mod problems;
mod report;
mod tensors;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use wgpu_norm::batch_norm::Strategy;
use wgpu_norm::{Gpu, Problem};

use clock::Clock;
use contenders::{Pass, Suite};
use problems::List;
use report::{Report, Row};

#[derive(Parser)]
struct Arguments {
    /// Problem lines such as "n32c64h56w56 nchw f16"; none means those of --list.
    problems: Vec<String>,
    /// Lists of problems.
    #[arg(long, value_enum, default_value = "common", value_delimiter = ',')]
    list: Vec<List>,
    /// The batch size of the lists that have one.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Layouts of the lists' problems.
    #[arg(long, value_delimiter = ',', default_value = "nchw")]
    layout: Vec<String>,
    /// Storage types of the lists' problems.
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    dtype: Vec<String>,
    /// Passes; all of them if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    pass: Vec<Pass>,
    /// Times every strategy that can serve a problem, not only the one that the plan chooses.
    #[arg(long)]
    all: bool,
    /// Times each dispatch of a step by itself, instead of whole steps.
    #[arg(long)]
    dispatches: bool,
    /// Rounds, of which medians are taken.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// MiB of activations to rotate through: more than the last cache holds. 0 keeps to one set.
    #[arg(long, default_value_t = 192)]
    rotate: u64,
    /// Measures what the host spends on plans, steps and the first result, instead of kernels.
    #[arg(long)]
    host: bool,
    /// Writes the table to a new CSV file; a file that is there is never overwritten.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Draws the ratios as an SVG picture.
    #[arg(long)]
    chart: Option<PathBuf>,
    /// Computes one result of a problem, says how long it took, and ends.
    #[arg(long, hide = true)]
    first_result: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// The problems, each with the number of times that it counts in the total.
    fn problems(&self) -> Result<Vec<(Problem, u32)>, Box<dyn Error>> {
        let mut problems = Vec::new();
        for line in &self.problems {
            problems.push((line.parse()?, 1));
        }
        if !problems.is_empty() {
            return Ok(problems);
        }
        for list in &self.list {
            for (extents, count) in list.problems(self.batch) {
                for layout in &self.layout {
                    for dtype in &self.dtype {
                        let problem: Problem = problems::line(&extents, layout, dtype).parse()?;
                        // A layout of features is that of both orders.
                        if !problems.contains(&(problem, count)) {
                            problems.push((problem, count));
                        }
                    }
                }
            }
        }
        Ok(problems)
    }

    fn passes(&self) -> &[Pass] {
        if self.pass.is_empty() {
            Pass::ALL
        } else {
            &self.pass
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let started = std::time::Instant::now();
    let arguments = Arguments::parse();
    let problems = arguments.problems()?;
    if arguments.first_result {
        return host::first_result(started, problems[0].0);
    }
    if let Some(path) = arguments.record.as_ref().filter(|path| path.exists()) {
        return Err(format!("{} is a record already", path.display()).into());
    }
    let gpu = Gpu::open()?;
    if arguments.host {
        return host::measure(&gpu, problems[0].0);
    }
    let clock = Clock::new(&gpu);
    let mut report = Report::new(&gpu, &clock, arguments.rounds, arguments.rotate);
    let bar = ProgressBar::new((problems.len() * (arguments.rounds + 1)) as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?);
    for (problem, count) in problems {
        bar.set_message(problem.to_string());
        let strategies: Vec<Option<Strategy>> = std::iter::once(None)
            .chain(
                Strategy::ALL
                    .into_iter()
                    .filter(|_| arguments.all)
                    .map(Some),
            )
            .collect();
        let suite = Suite::new(&gpu, problem, arguments.rotate << 20)?;
        let contenders = suite.contenders(arguments.passes(), &strategies)?;
        for contender in &contenders {
            suite.verify(contender)?;
        }
        bar.inc(1);
        // What is timed: each contender as a whole, or dispatch by dispatch.
        let parts: Vec<(usize, Option<usize>)> = contenders
            .iter()
            .enumerate()
            .flat_map(|(index, contender)| {
                let dispatches = contender.dispatches();
                if arguments.dispatches && dispatches > 0 {
                    (0..dispatches).map(|d| (index, Some(d))).collect()
                } else {
                    vec![(index, None)]
                }
            })
            .collect();
        let mut times = vec![Vec::new(); parts.len()];
        // Whoever comes next finds the tensors that were used the longest ago.
        let mut turn = 0;
        for _ in 0..arguments.rounds {
            for (&(index, dispatch), times) in parts.iter().zip(&mut times) {
                times
                    .push(clock.time(&gpu, |pass| contenders[index].record(turn, dispatch, pass))?);
                turn += 1;
            }
            bar.inc(1);
        }
        let rows = parts.iter().zip(times).map(|(&(index, dispatch), times)| {
            Row::new(problem, count, &contenders[index], dispatch, times)
        });
        bar.suspend(|| report.add(rows.collect()));
    }
    bar.finish_and_clear();
    report.finish(arguments.record.as_deref(), arguments.chart.as_deref())
}
