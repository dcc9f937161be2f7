//! What the compiler of a GPU makes of kernels, without the GPU: registers, spills, code, and the main loop.
//!
//! Mesa's driver of AMD GPUs makes a device of any family that compiles and does nothing else. A process has one family, so
//! that each is asked by a process of its own.

mod isa;
mod radv;
mod row;
mod spirv;
mod work;

use std::collections::HashSet;
use std::env;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use wgpu_norm::{Caps, Launch};

pub use row::Row;
pub use work::Work;

/// The properties of a GPU that is not there: WebGPU's defaults, and the larger workgroups that native drivers allow.
pub fn caps() -> Caps {
    let mut caps = Caps::webgpu();
    caps.max_workgroup = 512;
    caps
}

/// What the lines of rows begin with, from one process to the other.
const ROW: &str = "compiled ";

/// What the last line begins with, before the number of rows.
const END: &str = "compiled rows: ";

/// The variable by which a process is asked. That of the driver may be set for other reasons.
const ASKED: &str = "WGPU_NORM_COMPILE_FOR";

/// Has a command that ends in [`answer`] compile for a family. What else it prints comes second.
pub fn ask(family: &str, mut command: Command) -> anyhow::Result<(Vec<Row>, String)> {
    let driver = radv::manifest()?;
    command.env(ASKED, family).env(radv::FAMILY, family);
    command.stdout(Stdio::piped());
    for name in radv::DRIVER {
        command.env(name, &driver);
    }
    let output = command.spawn()?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{family}: kernels could not be compiled"
    );
    let (mut rows, mut rest, mut count) = (Vec::new(), String::new(), None);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(number) = line.strip_prefix(END) {
            count = number.parse().ok();
        } else if let Some(row) = line.strip_prefix(ROW) {
            rows.push(Row::parse(row)?);
        } else {
            rest += &format!("{line}\n");
        }
    }
    ensure!(count == Some(rows.len()), "{family}: rows are missing");
    Ok((rows, rest))
}

/// The family that this process is asked to compile for.
pub fn asked() -> Option<String> {
    env::var(ASKED).ok()
}

/// What tells kernels apart: text and overrides.
pub type Kernel<'a> = (&'a str, &'a [(&'static str, u32)]);

pub fn kernel(launch: &Launch) -> Kernel<'_> {
    (&launch.wgsl, &launch.overrides)
}

/// The kernels of all works, each once, by the first work and dispatch that have it.
pub fn kernels(works: &[Work]) -> Vec<(&Work, &Launch)> {
    let launches = works
        .iter()
        .flat_map(|work| work.launches.iter().map(move |launch| (work, launch)));
    let mut seen = HashSet::new();
    launches
        .filter(|(_, launch)| seen.insert(kernel(launch)))
        .collect()
}

/// Compiles each kernel, and prints its row, and on request its machine code.
pub fn answer(family: &str, works: &[Work], isa: bool) -> anyhow::Result<()> {
    let radv = radv::Radv::open().with_context(|| format!("family {family}"))?;
    let mut out = io::stdout().lock();
    // A test's name may stand in the line.
    writeln!(out)?;
    let mut rows = 0;
    for (work, launch) in kernels(works) {
        if launch.wgsl.starts_with("enable f16;") && !radv.native_f16 {
            writeln!(out, "{family} has no f16: {}", work.line)?;
            continue;
        }
        let compiled = radv.compile(launch, &spirv::of(launch)?)?;
        if isa {
            let (label, line) = (&launch.label, &work.line);
            writeln!(out, "// {family}: {label} of {line}\n{}", compiled.isa)?;
        }
        let row = Row::new(family, work, launch, &compiled)?;
        writeln!(out, "{ROW}{}", row.csv())?;
        rows += 1;
    }
    writeln!(out, "{END}{rows}")?;
    Ok(())
}
