//! The table of compiled kernels.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, bail};
use wgpu_norm::Form;

use crate::compile::{Row, Work, answer, ask, asked, caps};
use crate::subject::Subject;

/// What is asked.
pub struct Options<'a> {
    pub families: &'a [String],
    pub record: Option<&'a Path>,
    /// A record to compare with.
    pub against: Option<&'a Path>,
}

/// The dispatches of the subjects on the GPU of [`caps`].
pub fn works(subjects: &[Subject]) -> anyhow::Result<Vec<Work>> {
    let works = subjects.iter().map(|subject| {
        Ok(Work {
            line: subject.to_string(),
            value_bytes: subject.line.common().problem.dtype.bytes(),
            launches: subject.line.launches(&caps(), Form::default())?,
        })
    });
    works.collect()
}

/// Compiles the kernels of the subjects in a process that is asked for one family; `false` in any other.
pub fn answered(subjects: &[Subject], isa: bool) -> anyhow::Result<bool> {
    let Some(family) = asked() else {
        return Ok(false);
    };
    answer(&family, &works(subjects)?, isa)?;
    Ok(true)
}

/// The rows of a family, from a process with the arguments of this one, and what else that prints.
pub fn rows(family: &str) -> anyhow::Result<(Vec<Row>, String)> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1));
    ask(family, command)
}

/// Compiles the kernels for each family, and prints a table.
pub fn compile(options: &Options<'_>) -> anyhow::Result<()> {
    let before = options.against.map(read).transpose()?.unwrap_or_default();
    let mut compiled = Vec::new();
    for family in options.families {
        let (of_family, isa) = rows(family)?;
        write!(io::stdout(), "{isa}")?;
        compiled.extend(of_family);
    }
    print(&compiled, &before)?;
    if let Some(path) = options.record {
        let lines = compiled.iter().map(Row::csv);
        let text = [Row::HEADER.to_owned()].into_iter().chain(lines);
        let text = text.collect::<Vec<_>>().join("\n") + "\n";
        fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut lines = text.lines();
    if lines.next() != Some(Row::HEADER) {
        bail!(
            "{}: no record of --compile, which begins with {}",
            path.display(),
            Row::HEADER
        );
    }
    lines.map(Row::parse).collect()
}

/// Prints a table for each family, with the figures of before in brackets where they were others.
fn print(rows: &[Row], before: &[Row]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let titles = [
        "VGPRs",
        "spilled",
        "scratch",
        "LDS",
        "waves",
        "code",
        "instr.",
        "inv. thr.",
        "loop/value",
        "loop/byte",
        "in flight",
    ];
    let number = |figure: Option<f64>| match figure {
        Some(value) => format!("{}", (value * 10.0).round() / 10.0),
        None => "-".to_owned(),
    };
    let mut family = "";
    for row in rows {
        if row.family != family {
            family = &row.family;
            write!(out, "\n{family:<72}")?;
            for title in titles {
                write!(out, " {title:>13}")?;
            }
            writeln!(out)?;
        }
        let kernel = |row: &'_ Row| (row.family.clone(), row.problem.clone(), row.kernel.clone());
        let old = before.iter().find(|old| kernel(old) == kernel(row));
        write!(out, "{:<72}", format!("{}, {}", row.problem, row.kernel))?;
        for (index, figure) in row.figures().into_iter().enumerate() {
            let old = old
                .map(|old| old.figures()[index])
                .filter(|old| *old != figure);
            let old = old.map_or(String::new(), |old| format!(" ({})", number(old)));
            write!(out, " {:>13}", number(figure) + &old)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
