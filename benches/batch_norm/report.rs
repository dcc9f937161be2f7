//! Rows of results: a table on the terminal, a CSV file, a picture.

use std::error::Error;
use std::fs;
use std::path::Path;

use wgpu_norm::{Gpu, Problem};

use crate::chart;
use crate::clock::Clock;
use crate::contenders::{Contender, Pass};

/// One contender's times on one problem.
#[derive(Clone, Debug)]
pub struct Row {
    pub problem: Problem,
    /// How often the problem counts in the total.
    pub count: u32,
    pub pass: Pass,
    pub strategy: String,
    /// The one dispatch that was timed, if not all.
    kernel: Option<&'static str>,
    dispatches: usize,
    scratch: u64,
    /// Milliseconds, in order.
    times: Vec<f64>,
    /// The bytes that must move.
    bytes: u64,
    /// The median over that of the fastest copy of the tensor.
    pub to_copy: f64,
}

impl Row {
    pub fn new(
        problem: Problem,
        count: u32,
        contender: &Contender,
        dispatch: Option<usize>,
        mut times: Vec<f64>,
    ) -> Self {
        times.sort_by(f64::total_cmp);
        let tensor = problem.shape.elements().unwrap_or(0) as u64 * problem.dtype.bytes();
        Self {
            problem,
            count,
            pass: contender.pass,
            strategy: contender.strategy.clone(),
            kernel: dispatch.map(|index| contender.kernel(index)),
            dispatches: contender.dispatches(),
            scratch: contender.scratch,
            times,
            bytes: tensor * contender.pass.tensors(),
            to_copy: f64::NAN,
        }
    }

    fn quantile(&self, quarter: usize) -> f64 {
        match self.times.len() {
            0 => f64::NAN,
            length => self.times[(length - 1) * quarter / 4],
        }
    }

    pub fn median(&self) -> f64 {
        self.quantile(2)
    }

    /// The bytes that must move in a second, in units of 10^9.
    fn gigabytes(&self) -> f64 {
        self.bytes as f64 / self.median() * 1e-6
    }

    /// The share of the copy's rate at which the bytes move that must.
    pub fn share(&self) -> f64 {
        self.pass.tensors() as f64 / 2.0 / self.to_copy
    }

    fn name(&self) -> String {
        match self.kernel {
            Some(kernel) => kernel.to_owned(),
            None if self.dispatches > 0 => format!("{}: {}", self.strategy, self.dispatches),
            None => self.strategy.clone(),
        }
    }
}

/// The sum of one strategy's times over the problems of a layout and storage type.
#[derive(Clone, Debug)]
struct Total {
    name: String,
    kind: String,
    problems: usize,
    time: f64,
    copy: f64,
}

/// All rows so far.
pub struct Report {
    head: String,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(gpu: &Gpu, clock: &Clock, rounds: usize, rotate: u64) -> Self {
        let head = format!(
            "{}\nclock: {}, medians of {rounds} rounds, rotating through {rotate} MiB",
            gpu.adapter_name(),
            clock.name(),
        );
        println!("{head}");
        println!(
            "{:<30} {:<16} {:<18} {:>9} {:>9} {:>19} {:>7} {:>7} {:>6} {:>9}",
            "problem",
            "pass",
            "strategy",
            "ms",
            "min",
            "quartiles",
            "/ copy",
            "GB/s",
            "share",
            "scratch"
        );
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Adds the rows of one problem, the copies among them.
    pub fn add(&mut self, mut rows: Vec<Row>) {
        // The best copy is the yardstick.
        let copies = rows.iter().filter(|row| row.pass == Pass::Copy);
        let copy = copies.map(Row::median).fold(f64::INFINITY, f64::min);
        for row in &mut rows {
            row.to_copy = row.median() / copy;
            println!(
                "{:<30} {:<16} {:<18} {:>9.3} {:>9.3} {:>9.3}-{:<9.3} {:>7.2} {:>7.1} {:>5.0}% {:>9}",
                row.problem.to_string(),
                row.pass.name(),
                row.name(),
                row.median(),
                row.quantile(0),
                row.quantile(1),
                row.quantile(3),
                row.to_copy,
                row.gigabytes(),
                100.0 * row.share(),
                row.scratch,
            );
        }
        self.rows.extend(rows);
    }

    /// The whole list's time by layout and storage type, pass and strategy, each problem as often as it counts.
    fn totals(&self) -> Vec<Total> {
        let mut totals: Vec<Total> = Vec::new();
        for row in self.rows.iter().filter(|row| row.kernel.is_none()) {
            // Copies are named after their shape; the best of each problem counts.
            let strategy = match row.pass {
                Pass::Copy if row.to_copy > 1.0 => continue,
                Pass::Copy => "best",
                _ => &row.strategy,
            };
            let line = row.problem.to_string();
            let kind = line.split_once(' ').map_or("", |(_, kind)| kind);
            let time = f64::from(row.count) * row.median();
            let mut single = Total {
                name: format!("{kind:<10} {:<16} {strategy:<10}", row.pass.name()),
                kind: kind.to_owned(),
                problems: 1,
                time,
                copy: time / row.to_copy,
            };
            if let Some(total) = totals.iter_mut().find(|total| total.name == single.name) {
                std::mem::swap(total, &mut single);
                total.problems += single.problems;
                total.time += single.time;
                total.copy += single.copy;
            } else {
                totals.push(single);
            }
        }
        // A strategy that does not serve all problems has no total, and one problem is its own.
        let most = |kind: &str| {
            let same = totals.iter().filter(|total| total.kind == kind);
            same.map(|total| total.problems).max().unwrap_or(0)
        };
        let whole = |total: &&Total| total.problems > 1 && total.problems == most(&total.kind);
        totals.iter().filter(whole).cloned().collect()
    }

    pub fn finish(
        self,
        record: Option<&Path>,
        picture: Option<&Path>,
    ) -> Result<(), Box<dyn Error>> {
        let totals = self.totals();
        if !totals.is_empty() {
            println!("\nAll problems of a kind, each as often as it counts:");
        }
        for total in totals {
            let ratio = total.time / total.copy;
            println!("{} {:>10.3} ms {ratio:>7.2} / copy", total.name, total.time);
        }
        if let Some(path) = record {
            fs::write(path, self.csv())?;
            println!("recorded in {}", path.display());
        }
        if let Some(path) = picture {
            fs::write(path, chart::svg(&self.head, &self.rows))?;
            println!("drawn in {}", path.display());
        }
        Ok(())
    }

    fn csv(&self) -> String {
        let mut csv: String = self
            .head
            .lines()
            .map(|line| format!("# {line}\n"))
            .collect();
        csv.push_str(
            "problem,count,pass,strategy,kernel,median_ms,min_ms,quarter_ms,three_quarter_ms,\
             ratio_to_copy,minimal_gb_per_s,share_of_copy,dispatches,scratch_bytes\n",
        );
        for row in &self.rows {
            csv.push_str(&format!(
                "{},{},{},{},{},{:.4},{:.4},{:.4},{:.4},{:.3},{:.2},{:.3},{},{}\n",
                row.problem,
                row.count,
                row.pass.name().replace(',', ""),
                row.strategy,
                row.kernel.unwrap_or("all"),
                row.median(),
                row.quantile(0),
                row.quantile(1),
                row.quantile(3),
                row.to_copy,
                row.gigabytes(),
                row.share(),
                row.dispatches,
                row.scratch,
            ));
        }
        csv
    }
}
