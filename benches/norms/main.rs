//! Verifies the norms against their oracles, then times it beside a copy of the same tensor.
//!
//! `cargo bench -- --help` lists the options. The executable that `cargo bench --no-run` builds stands alone: it can be
//! carried to another machine. Every contender runs once in each round, so that what else the machine does meets
//! all of them, on buffers that take turns, so that none finds its own in cache. The figures are medians, and the
//! figure to compare is the ratio to the copy.

mod batch;
mod chart;
mod clock;
mod compile;
mod compiled;
mod contenders;
#[path = "../../examples/shared/exit.rs"]
mod exit;
mod host;
mod line;
mod moved;
mod norm;
mod oracle;
mod problems;
mod report;
mod roofline;
mod row;
mod sample;
mod sample_configs;
mod steps;
mod subject;
mod sync;
mod tensors;
mod verify;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::builder::RangedU64ValueParser;
use clap::{Parser, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use wgpu_norm::batch_norm::Tuner;
use wgpu_norm::{Caps, Dtype, Gpu, Problem, caps_for};

use clock::Clock;
use contenders::Suite;
use line::Line;
use norm::Usual;
use problems::{List, Order};
use report::Report;
use roofline::Model;
use row::Row;
use subject::Subject;

#[derive(Parser)]
struct Arguments {
    /// Problem lines, such as "n32c64h56w56 nchw f16 relu backward in-place no-bias split 256x32". The extents alone
    /// will do: a line without a pass is timed with those of --pass. A line begins with instance, group, layer or rms if
    /// the norm is not BatchNorm: "layer n4096c1024 f16". No line means the problems of --list.
    lines: Vec<String>,
    /// Lists of problems.
    #[arg(long, value_enum, default_value = "common", value_delimiter = ',')]
    list: Vec<List>,
    /// The batch size of the lists that have one.
    #[arg(long, default_value_t = 32, value_parser = at_least_one())]
    batch: usize,
    /// Layouts of the lists' problems.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nchw")]
    layout: Vec<Order>,
    /// Storage types of the lists' problems.
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    dtype: Vec<Dtype>,
    /// Passes of lines that name none, as far as their norm has them; all of them by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    pass: Vec<Usual>,
    /// Times every strategy that a pass can choose from, too, where the line forces none.
    #[arg(long)]
    all: bool,
    /// Lets the device measure which strategy and tile are fastest for each pass, remembers its choices in a file, and times
    /// those, too, that are not the plan's own.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["on_paper", "host", "sync"])]
    tune: Option<PathBuf>,
    /// Times each dispatch of a step by itself, instead of whole steps.
    #[arg(long)]
    dispatches: bool,
    /// Rounds, of which medians are taken.
    #[arg(long, default_value_t = 15, value_parser = at_least_one().range(..=MOST))]
    rounds: usize,
    /// MiB of activations to rotate through: more than the last cache holds. 0 keeps to one set.
    #[arg(long, default_value_t = 192, value_parser = value_parser!(u64).range(..=MOST))]
    rotate: u64,
    /// Measures what the host spends on BatchNorm's plans, steps and the first result, instead of kernels.
    #[arg(long)]
    host: bool,
    /// Compiles the kernels as for GPUs of AMD, by Mesa's driver and without a GPU, and prints registers, spills,
    /// code and the main loop's figures, instead of timing them.
    #[arg(long, group = "on_paper")]
    compile: bool,
    /// Families of GPUs that --compile compiles for, by Mesa's names.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "polaris10,vega10,navi21,gfx1100",
        requires = "compile"
    )]
    family: Vec<String>,
    /// Prints the machine code of each kernel that --compile compiles, too.
    #[arg(long, requires = "compile")]
    isa: bool,
    /// Predicts what steps take on GPUs that are not there, from the bytes that they move and the instructions of their
    /// main loops, instead of timing them.
    #[arg(long, group = "on_paper")]
    roofline: bool,
    /// GPUs that --roofline predicts for.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "h200,rx7900,radeon780m",
        requires = "roofline"
    )]
    gpu: Vec<Model>,
    /// A record to compare with. With --compile, one of --compile: the figures of then stand in brackets where they were
    /// others. With --roofline, one of a GPU: the medians stand beside the predictions.
    #[arg(long, requires = "on_paper")]
    against: Option<PathBuf>,
    /// Times a step of 1, 2 and 4 ranks that synchronize BatchNorm's statistics, and its parts, instead of kernels.
    #[arg(long)]
    sync: bool,
    /// Writes the table to a new CSV file; a file that is there is never overwritten.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Draws the ratios as an SVG picture.
    #[arg(long)]
    chart: Option<PathBuf>,
    /// Computes one result of a problem, says how long it took, and ends.
    #[arg(long, hide = true)]
    first_result: bool,
    /// Takes part in the step as one rank, and ends.
    #[arg(long, hide = true)]
    sync_rank: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The most rounds, and the most MiB to rotate through: beyond what any machine does, and safe to compute with.
const MOST: u64 = 1 << 20;

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// What is timed with the same tensors, and how often each of it counts in the total.
struct Group {
    /// The first line; the others share its tensors.
    line: Line,
    subjects: Vec<Subject>,
    count: u32,
}

impl Arguments {
    /// What is timed, in groups.
    fn groups(&self) -> anyhow::Result<Vec<Group>> {
        let listed = match self.lines.is_empty() {
            true => self.listed(),
            false => Vec::new(),
        };
        let given = self.lines.iter().map(|line| (line.clone(), 1));
        let mut groups: Vec<Group> = Vec::new();
        for (text, count) in given.chain(listed) {
            let (line, subjects) = subject::parse(&text, self.passes())?;
            let same = |group: &&mut Group| group.count == count && group.line.shares(line);
            match groups.iter_mut().find(same) {
                Some(group) => group.subjects.extend(subjects),
                None => groups.push(Group {
                    line,
                    subjects,
                    count,
                }),
            }
        }
        Ok(groups)
    }

    /// The lists' lines, each with the number of times that it counts.
    fn listed(&self) -> Vec<(String, u32)> {
        let mut lines = Vec::new();
        for list in &self.list {
            for (text, count) in list.problems(self.batch) {
                for &order in &self.layout {
                    for &dtype in &self.dtype {
                        let line = (problems::line(&text, order, dtype), count);
                        // A layout of features is that of both orders.
                        if !lines.contains(&line) {
                            lines.push(line);
                        }
                    }
                }
            }
        }
        lines
    }

    /// The first problem, of BatchNorm.
    fn problem(&self) -> anyhow::Result<Problem> {
        match self.lines.first() {
            Some(line) => self.of_batch_norm(line),
            None => self.of_batch_norm(&self.listed().swap_remove(0).0),
        }
    }

    /// The problems of one rank.
    fn rank_problems(&self) -> anyhow::Result<Vec<Problem>> {
        if self.lines.is_empty() {
            let lines = sync::PROBLEMS.iter();
            return lines.map(|line| self.of_batch_norm(line)).collect();
        }
        let lines = self.lines.iter();
        lines.map(|line| self.of_batch_norm(line)).collect()
    }

    fn of_batch_norm(&self, line: &str) -> anyhow::Result<Problem> {
        match subject::parse(line, self.passes())?.0 {
            Line::Batch(line) => Ok(line.common.problem),
            line => bail!(
                "{line}: --host and --sync measure BatchNorm, whose lines begin with the extents"
            ),
        }
    }

    fn passes(&self) -> &[Usual] {
        if self.pass.is_empty() {
            Usual::ALL
        } else {
            &self.pass
        }
    }

    /// The subjects of a group, and their strategies if all are asked for.
    fn with_strategies(&self, group: &Group, caps: &Caps) -> anyhow::Result<Vec<Subject>> {
        let mut subjects = group.subjects.clone();
        let free = |subject: &&Subject| subject.line.common().tuning.strategy.is_none();
        for subject in group.subjects.iter().filter(free).filter(|_| self.all) {
            subjects.extend(subject.strategies(caps)?);
        }
        Ok(subjects)
    }

    /// Where choices are remembered, if they are asked for.
    fn tuner(&self, gpu: &Gpu) -> anyhow::Result<Option<Tuner>> {
        let path = self.tune.as_ref();
        Ok(path.map(|path| Tuner::with_file(gpu, path)).transpose()?)
    }
}

fn main() -> ExitCode {
    exit::code(run(&Arguments::parse()))
}

/// Finds out before the first round whether a file can be written after the last one.
fn check_writable(path: &Path) -> anyhow::Result<()> {
    let existed = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("{} cannot be written", path.display()))?;
    if !existed {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// What needs no GPU: its compiler's figures.
fn on_paper(arguments: &Arguments, groups: &[Group]) -> anyhow::Result<()> {
    let caps = compile::caps();
    let mut counted = Vec::new();
    for group in groups {
        let subjects = arguments.with_strategies(group, &caps)?.into_iter();
        counted.extend(subjects.map(|subject| (subject, group.count)));
    }
    // A ReLU of the benchmark's own is no kernel of a plan.
    counted.retain(|(subject, _)| !subject.then_relu);
    ensure!(!counted.is_empty(), "no plan has any of these passes");
    let subjects: Vec<Subject> = counted.iter().map(|&(subject, _)| subject).collect();
    if compiled::answered(&subjects, arguments.isa)? {
        return Ok(());
    }
    let (record, against) = (arguments.record.as_deref(), arguments.against.as_deref());
    if arguments.roofline {
        return roofline::print(&counted, &arguments.gpu, record, against);
    }
    compiled::compile(&compiled::Options {
        families: &arguments.family,
        record,
        against,
    })
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    if arguments.first_result {
        return host::first_result(started, arguments.problem()?);
    }
    let groups = arguments.groups()?;
    if let Some(path) = arguments.record.as_ref().filter(|path| path.exists()) {
        bail!("{} is a record already", path.display());
    }
    for path in arguments.record.iter().chain(&arguments.chart) {
        check_writable(path)?;
    }
    if arguments.compile || arguments.roofline {
        return on_paper(arguments, &groups);
    }
    let gpu = Gpu::open()?;
    if arguments.sync_rank {
        #[cfg(feature = "mpi")]
        return sync::over_mpi::rank(&gpu, arguments.problem()?);
        #[cfg(not(feature = "mpi"))]
        bail!("--sync-rank: built without the feature mpi");
    }
    if arguments.sync {
        return sync::measure(&gpu, &arguments.rank_problems()?);
    }
    if arguments.host {
        return host::measure(&gpu, arguments.problem()?);
    }
    let mut tuner = arguments.tuner(&gpu)?;
    let clock = Clock::new(&gpu);
    let mut report = Report::new(&gpu, &clock, arguments.rounds, arguments.rotate)?;
    let bar = ProgressBar::new((groups.len() * (arguments.rounds + 1)) as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?);
    for group in groups {
        let problem = group.line.common().problem;
        bar.set_message(problem.to_string());
        let caps = caps_for(gpu.kernels(), problem.dtype);
        let mut subjects = arguments.with_strategies(&group, &caps)?;
        if let Some(tuner) = &mut tuner {
            for subject in &group.subjects {
                let tuned = subject.tuned(tuner)?;
                subjects.extend(tuned.filter(|tuned| !subjects.contains(tuned)));
            }
        }
        let suite = Suite::new(&gpu, &group.line, &subjects, arguments.rotate << 20)?;
        let contenders = suite.contenders(&subjects)?;
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
            let contender = &contenders[index];
            let copied = suite.copied_bytes();
            Row::new(problem, group.count, contender, dispatch, copied, times)
        });
        bar.suspend(|| report.add(rows.collect()))?;
    }
    bar.finish_and_clear();
    report.finish(arguments.record.as_deref(), arguments.chart.as_deref())
}
