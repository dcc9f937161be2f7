//! What becomes of the rows: a table on the terminal, a CSV file, a picture.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use wgpu_norm::{Gpu, Problem};

use crate::chart;
use crate::clock::Clock;
use crate::row::Row;

/// The sum of the times of one pass and strategy over the problems of a layout and storage type.
#[derive(Clone, Debug)]
struct Total {
    name: String,
    kind: String,
    problems: Vec<Problem>,
    time: f64,
    copy: f64,
}

/// All rows so far.
pub struct Report {
    head: String,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(gpu: &Gpu, clock: &Clock, rounds: usize, rotate: u64) -> io::Result<Self> {
        let head = format!(
            "{}\nclock: {}, medians of {rounds} rounds, rotating through {rotate} MiB",
            gpu.adapter_name(),
            clock.name(),
        );
        writeln!(io::stdout(), "{head}")?;
        writeln!(
            io::stdout(),
            "{:<48} {:<18} {:>9} {:>9} {:>19} {:>7} {:>6} {:>7} {:>7} {:>6} {:>9}",
            "line",
            "dispatches",
            "ms",
            "min",
            "quartiles",
            "/ copy",
            "moved",
            "by byte",
            "GB/s",
            "share",
            "scratch"
        )?;
        Ok(Self {
            head,
            rows: Vec::new(),
        })
    }

    /// Adds the rows of one problem, the copies among them.
    pub fn add(&mut self, mut rows: Vec<Row>) -> io::Result<()> {
        // The best copy is the yardstick.
        let copies = rows.iter().filter(|row| row.subject.is_none());
        let copy = copies.map(Row::median).fold(f64::INFINITY, f64::min);
        for row in &mut rows {
            row.to_copy = row.median() / copy;
            writeln!(
                io::stdout(),
                "{:<48} {:<18} {:>9.3} {:>9.3} {:>9.3}-{:<9.3} {:>7.2} {:>6.2} {:>7} {:>7.1} {:>5.0}% {:>9}",
                row.name,
                row.part(),
                row.median(),
                row.quantile(0),
                row.quantile(1),
                row.quantile(3),
                row.to_copy,
                row.moved,
                row.to_copy_by_byte()
                    .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
                row.gigabytes(),
                100.0 * row.share(),
                row.scratch,
            )?;
        }
        self.rows.extend(rows);
        Ok(())
    }

    /// The whole list's time by layout and storage type, and by what is done, each problem as often as it counts.
    fn totals(&self) -> Vec<Total> {
        let mut totals: Vec<Total> = Vec::new();
        for row in self.rows.iter().filter(|row| row.kernel.is_none()) {
            // Copies are named after their shape; the best of each problem counts.
            let work = match &row.subject {
                None if row.to_copy > 1.0 => continue,
                None => "best copy".to_owned(),
                Some(subject) => subject.work(),
            };
            let line = row.problem.to_string();
            let kind = line.split_once(' ').map_or("", |(_, kind)| kind);
            let time = f64::from(row.count) * row.median();
            let name = format!("{kind:<10} {work:<28}");
            let index = totals.iter().position(|total| total.name == name);
            let index = index.unwrap_or_else(|| {
                totals.push(Total {
                    name,
                    kind: kind.to_owned(),
                    problems: Vec::new(),
                    time: 0.0,
                    copy: 0.0,
                });
                totals.len() - 1
            });
            let total = &mut totals[index];
            // Lines of several configurations bring a problem's copies several times.
            if !total.problems.contains(&row.problem) {
                total.problems.push(row.problem);
                total.time += time;
                total.copy += time / row.to_copy;
            }
        }
        // A strategy that does not serve all problems has no total, and one problem is its own.
        let most = |kind: &str| {
            let same = totals.iter().filter(|total| total.kind == kind);
            same.map(|total| total.problems.len()).max().unwrap_or(0)
        };
        let whole =
            |total: &&Total| total.problems.len() > 1 && total.problems.len() == most(&total.kind);
        totals.iter().filter(whole).cloned().collect()
    }

    pub fn finish(self, record: Option<&Path>, picture: Option<&Path>) -> anyhow::Result<()> {
        let totals = self.totals();
        if !totals.is_empty() {
            writeln!(
                io::stdout(),
                "\nAll problems of a kind, each as often as it counts:"
            )?;
        }
        for total in totals {
            let ratio = total.time / total.copy;
            writeln!(
                io::stdout(),
                "{} {:>10.3} ms {ratio:>7.2} / copy",
                total.name,
                total.time
            )?;
        }
        if let Some(path) = record {
            File::create_new(path)
                .and_then(|mut file| file.write_all(self.csv().as_bytes()))
                .with_context(|| path.display().to_string())?;
            writeln!(io::stdout(), "recorded in {}", path.display())?;
        }
        if let Some(path) = picture {
            fs::write(path, chart::svg(&self.head, &self.rows))
                .with_context(|| path.display().to_string())?;
            writeln!(io::stdout(), "drawn in {}", path.display())?;
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
            "line,count,kernel,median_ms,min_ms,quarter_ms,three_quarter_ms,\
             ratio_to_copy,minimal_gb_per_s,share_of_copy,dispatches,scratch_bytes,moved_to_copy,\
             ratio_by_byte\n",
        );
        for row in &self.rows {
            csv.push_str(&format!(
                "{},{},{},{:.4},{:.4},{:.4},{:.4},{:.3},{:.2},{:.3},{},{},{:.3},{}\n",
                row.name.replace(',', ""),
                row.count,
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
                row.moved,
                row.to_copy_by_byte()
                    .map_or(String::new(), |ratio| format!("{ratio:.3}")),
            ));
        }
        csv
    }
}
