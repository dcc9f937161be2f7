//! The table of compiled kernels.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, bail};
use wgpu_norm::{Caps, Form};

use crate::compile::{Row, Work, answer, ask, asked};
use crate::subject::Subject;

/// What is asked.
pub struct Options<'a> {
    pub families: &'a [String],
    /// Whether to print the machine code, too.
    pub isa: bool,
    pub record: Option<&'a Path>,
    /// A record to compare with.
    pub against: Option<&'a Path>,
}

/// Compiles the kernels of the subjects for each family, and prints a table.
pub fn compile(subjects: &[Subject], options: &Options<'_>) -> anyhow::Result<()> {
    if let Some(family) = asked() {
        let works = subjects.iter().map(|subject| {
            Ok(Work {
                line: subject.to_string(),
                value_bytes: subject.line.common().problem.dtype.bytes(),
                launches: subject.line.launches(&Caps::webgpu(), Form::default())?,
            })
        });
        let works = works.collect::<anyhow::Result<Vec<_>>>()?;
        return answer(&family, &works, options.isa);
    }
    let before = options.against.map(read).transpose()?.unwrap_or_default();
    let mut rows = Vec::new();
    for family in options.families {
        let mut command = Command::new(env::current_exe()?);
        command.args(env::args_os().skip(1));
        let (compiled, isa) = ask(family, command)?;
        write!(io::stdout(), "{isa}")?;
        rows.extend(compiled);
    }
    print(&rows, &before)?;
    if let Some(path) = options.record {
        let lines = rows.iter().map(Row::csv);
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
