//! What a problem line comes to: strategies, buffers, dispatches with their bindings, and if asked for the WGSL.
//!
//! ```text
//! cargo run --example explain -- "n32c64h56w56 nchw f16 relu backward in-place split 256x32"
//! cargo run --example explain -- "group n2c64h56w56 groups=32 silu backward"
//! cargo run --example explain -- "n32c64h56w56 nhwc" --caps webgpu --form read-write,constants --wgsl
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use wgpu_norm::batch_norm::{Common, Strategy, Tuner, Tuning};
use wgpu_norm::{
    Access, Caps, Error, Form, Gpu, Launch, PlanError, WordError, batch_norm, caps_for, group_norm,
    instance_norm, layer_norm, rms_norm,
};

#[derive(Parser)]
struct Arguments {
    /// A problem line: norm, extents, layout, storage type, epilogue, pass and its options, strategy, tile. The norm is
    /// group, instance, layer or rms; without one it is BatchNorm. The extents alone will do, for training.
    #[arg(default_value = "n32c64h56w56 nchw")]
    line: Line,
    /// Plans for this machine's device, or for any GPU with WebGPU's default limits. The second needs no device.
    #[arg(long, value_enum, default_value = "device")]
    caps: Target,
    /// Lets the device measure which strategy and tile are fastest, and remembers its choice in a file.
    #[arg(long, value_name = "FILE")]
    tune: Option<PathBuf>,
    /// Prints each kernel's composed WGSL.
    #[arg(long)]
    wgsl: bool,
    /// Writes the WGSL for an engine that launches kernels itself. With `read-write` every buffer is read_write: slices of
    /// one buffer can be bound together. With `constants` no override is left: it compiles without pipeline constants.
    #[arg(long, value_enum, value_delimiter = ',')]
    form: Vec<Variant>,
}

/// A problem line of any norm.
#[derive(Clone, Copy)]
enum Line {
    Batch(batch_norm::Line),
    Group(group_norm::Line),
    Instance(instance_norm::Line),
    Layer(layer_norm::Line),
    Rms(rms_norm::Line),
}

/// The same expression for the line of each norm.
macro_rules! each {
    ($line:expr, $of:ident => $value:expr) => {
        match $line {
            Line::Batch($of) => $value,
            Line::Group($of) => $value,
            Line::Instance($of) => $value,
            Line::Layer($of) => $value,
            Line::Rms($of) => $value,
        }
    };
}

impl Line {
    fn common(&mut self) -> &mut Common {
        each!(self, line => &mut line.common)
    }

    fn launches(&self, caps: &Caps, form: Form) -> Result<Vec<Launch>, PlanError> {
        each!(self, line => line.launches(caps, form))
    }

    /// The fastest strategy and tile on the tuner's device.
    fn measured(&self, tuner: &mut Tuner) -> Result<Tuning, Error> {
        each!(self, line => line.measured(tuner))
    }
}

impl FromStr for Line {
    type Err = WordError;

    fn from_str(line: &str) -> Result<Self, WordError> {
        Ok(match line.split_whitespace().next() {
            Some("group") => Self::Group(line.parse()?),
            Some("instance") => Self::Instance(line.parse()?),
            Some("layer") => Self::Layer(line.parse()?),
            Some("rms") => Self::Rms(line.parse()?),
            _ => Self::Batch(line.parse()?),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, line => line.fmt(f))
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Target {
    Device,
    Webgpu,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Variant {
    ReadWrite,
    Constants,
}

fn main() -> ExitCode {
    match explain(Arguments::parse(), &mut io::stdout()) {
        Err(error) if !is_closed_pipe(&error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Whether the output's reader has seen enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn explain(arguments: Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let mut line = arguments.line;
    let caps = match (arguments.caps, arguments.tune) {
        (Target::Webgpu, None) => {
            writeln!(out, "a GPU with WebGPU's default limits")?;
            Caps::webgpu()
        }
        (Target::Webgpu, Some(_)) => bail!("--tune measures on this machine's device"),
        (Target::Device, tune) => {
            let gpu = Gpu::open()?;
            writeln!(out, "{}", gpu.adapter_name())?;
            if let Some(path) = tune {
                line.common().tuning = line.measured(&mut Tuner::with_file(&gpu, path)?)?;
            }
            caps_for(gpu.kernels(), line.common().problem.dtype)
        }
    };
    writeln!(out, "{:?}\n\n{line}", line.common().caps(&caps))?;
    let form = Form::default()
        .read_write(arguments.form.contains(&Variant::ReadWrite))
        .constants(arguments.form.contains(&Variant::Constants));
    print_strategies(&line, &caps, out)?;
    let launches = line.launches(&caps, form)?;
    print_buffers(&launches, out)?;
    for (number, launch) in (1..).zip(&launches) {
        print_launch(number, launch, arguments.wgsl, out)?;
    }
    writeln!(
        out,
        "\nregisters and code, as compiled for AMD's GPUs: cargo bench -- --compile \"{line}\""
    )?;
    Ok(())
}

/// Says which strategy the plan takes, and why not another one.
fn print_strategies(line: &Line, caps: &Caps, out: &mut impl Write) -> anyhow::Result<()> {
    let with = |strategy| {
        let mut line = *line;
        line.common().tuning.strategy = strategy;
        line.launches(caps, Form::default())
    };
    let forced_by_line = { *line }.common().tuning.strategy;
    let own = with(None)?;
    let each: Vec<_> = Strategy::ALL
        .iter()
        .map(|&strategy| (strategy, with(Some(strategy))))
        .collect();
    writeln!(out, "\nstrategies")?;
    if each
        .iter()
        .all(|(_, launches)| launches.as_ref() == Ok(&own))
    {
        writeln!(out, "   the pass leaves no choice")?;
        return Ok(());
    }
    for (strategy, launches) in each {
        let verdict = match launches {
            Err(PlanError::Strategy { reason, .. }) => format!("cannot serve: {reason}"),
            Err(error) => error.to_string(),
            Ok(launches) if launches == own => "is the plan's choice".to_owned(),
            Ok(_) => "can serve, but the plan expects its choice to be faster".to_owned(),
        };
        let forced = forced_by_line == Some(strategy);
        let verdict = if forced {
            format!("{verdict}; forced by the line")
        } else {
            verdict
        };
        writeln!(out, "   {strategy:<10} {verdict}")?;
    }
    Ok(())
}

/// The caller's buffers, and how much of each the dispatches bind.
fn print_buffers(launches: &[Launch], out: &mut impl Write) -> io::Result<()> {
    let mut buffers = BTreeMap::new();
    for binding in launches.iter().flat_map(|launch| &launch.bindings) {
        if let Some(bytes) = &binding.bytes {
            let (end, access) = buffers.entry(binding.name).or_insert((0, Access::Read));
            *end = bytes.end.max(*end);
            *access = binding.access.max(*access);
        }
    }
    writeln!(out, "\nbuffers")?;
    for (name, (bytes, access)) in buffers {
        writeln!(out, "   {name:<10} {:<10} {bytes} bytes", word(access))?;
    }
    Ok(())
}

fn print_launch(
    number: usize,
    launch: &Launch,
    wgsl: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let [x, y] = launch.grid;
    writeln!(out, "\n{number}. {} on {x} x {y} workgroups", launch.label)?;
    let overrides = launch
        .overrides
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let choices = launch
        .choices
        .iter()
        .map(|(slot, file)| format!("{slot}={file}"));
    for (title, words) in [
        ("overrides", overrides.collect::<Vec<_>>()),
        ("files", choices.collect()),
    ] {
        writeln!(
            out,
            "   {title:<10} {}",
            if words.is_empty() {
                "none".to_owned()
            } else {
                words.join(" ")
            }
        )?;
    }
    for binding in &launch.bindings {
        let bytes = match (&binding.bytes, binding.access) {
            (Some(bytes), _) => format!("bytes {} to {}", bytes.start, bytes.end),
            (None, Access::Uniform) => format!("{} bytes", launch.uniform.len()),
            (None, _) => "any 16 bytes, which the kernel leaves alone".to_owned(),
        };
        writeln!(
            out,
            "   binding {:>2} {:<10} {:<10} {bytes}",
            binding.binding,
            binding.name,
            word(binding.access),
        )?;
    }
    if wgsl {
        writeln!(out, "\n{}", launch.wgsl)?;
    }
    Ok(())
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Uniform => "uniform",
        Access::Read => "read",
        Access::Write => "read_write",
    }
}
