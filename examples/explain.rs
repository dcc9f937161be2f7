//! What a problem line comes to: strategies, buffers, dispatches with their bindings, and if asked for the WGSL.
//!
//! ```text
//! cargo run --example explain -- "n32c64h56w56 nchw f16 relu backward in-place split 256x32"
//! cargo run --example explain -- "n32c64h56w56 nhwc" --caps webgpu --form read-write,constants --wgsl
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use wgpu_norm::batch_norm::{BackwardOptions, EvalOptions, Line, Pass, Strategy, Tuner, Tuning};
use wgpu_norm::{Access, Caps, Form, Gpu, Launch, PlanError};

#[derive(Parser)]
struct Arguments {
    /// A problem line: extents, layout, storage type, epilogue, pass and its options, strategy, tile. The extents alone
    /// will do, for training.
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
    match explain(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn explain(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let mut line = arguments.line;
    let caps = match (arguments.caps, arguments.tune) {
        (Target::Webgpu, None) => {
            println!("a GPU with WebGPU's default limits");
            Caps::webgpu()
        }
        (Target::Webgpu, Some(_)) => return Err("--tune measures on this machine's device".into()),
        (Target::Device, tune) => {
            let gpu = Gpu::open()?;
            println!("{}", gpu.adapter_name());
            if let Some(path) = tune {
                line.common.tuning = measured(&mut Tuner::with_file(&gpu, path)?, &line)?;
            }
            *gpu.kernels().caps()
        }
    };
    println!("{:?}\n\n{line}", line.common.caps(&caps));
    let form = Form::default()
        .read_write(arguments.form.contains(&Variant::ReadWrite))
        .constants(arguments.form.contains(&Variant::Constants));
    print_strategies(&line, &caps)?;
    let launches = line.launches(&caps, form)?;
    print_buffers(&launches);
    for (number, launch) in (1..).zip(&launches) {
        print_launch(number, launch, arguments.wgsl);
    }
    Ok(())
}

/// The fastest strategy and tile on the tuner's device.
fn measured(tuner: &mut Tuner, line: &Line) -> Result<Tuning, Box<dyn Error>> {
    let (problem, config) = (line.common.problem, &line.config);
    Ok(match line.pass {
        Pass::Train => tuner.train(problem, config)?,
        Pass::Eval(y) => tuner.eval(problem, config, EvalOptions::default().y(y))?,
        Pass::Backward {
            frozen,
            dx,
            parameters,
        } => {
            let options = BackwardOptions::default().frozen(frozen).dx(dx);
            tuner.backward(problem, config, options.parameters(parameters))?
        }
        pass => return Err(format!("--tune: {pass} has no choice of strategy").into()),
    })
}

/// Says which strategy the plan takes, and why not another one.
fn print_strategies(line: &Line, caps: &Caps) -> Result<(), PlanError> {
    let with = |strategy| {
        let mut line = *line;
        line.common.tuning.strategy = strategy;
        line.launches(caps, Form::default())
    };
    let own = with(None)?;
    let each: Vec<_> = Strategy::ALL
        .iter()
        .map(|&strategy| (strategy, with(Some(strategy))))
        .collect();
    println!("\nstrategies");
    if each
        .iter()
        .all(|(_, launches)| launches.as_ref() == Ok(&own))
    {
        println!("   the pass leaves no choice");
        return Ok(());
    }
    for (strategy, launches) in each {
        let verdict = match launches {
            Err(PlanError::Strategy { reason, .. }) => format!("cannot serve: {reason}"),
            Err(error) => error.to_string(),
            Ok(launches) if launches == own => "is the plan's choice".to_owned(),
            Ok(_) => "can serve, but the plan expects its choice to be faster".to_owned(),
        };
        let forced = line.common.tuning.strategy == Some(strategy);
        let verdict = if forced {
            format!("{verdict}; forced by the line")
        } else {
            verdict
        };
        println!("   {strategy:<10} {verdict}");
    }
    Ok(())
}

/// The caller's buffers, and how much of each the dispatches bind.
fn print_buffers(launches: &[Launch]) {
    let mut buffers = BTreeMap::new();
    for binding in launches.iter().flat_map(|launch| &launch.bindings) {
        if let Some(bytes) = &binding.bytes {
            let (end, access) = buffers.entry(binding.name).or_insert((0, Access::Read));
            *end = bytes.end.max(*end);
            *access = binding.access.max(*access);
        }
    }
    println!("\nbuffers");
    for (name, (bytes, access)) in buffers {
        println!("   {name:<10} {:<10} {bytes} bytes", word(access));
    }
}

fn print_launch(number: usize, launch: &Launch, wgsl: bool) {
    let [x, y] = launch.grid;
    println!("\n{number}. {} on {x} x {y} workgroups", launch.label);
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
        println!(
            "   {title:<10} {}",
            if words.is_empty() {
                "none".to_owned()
            } else {
                words.join(" ")
            }
        );
    }
    for binding in &launch.bindings {
        let bytes = match (&binding.bytes, binding.access) {
            (Some(bytes), _) => format!("bytes {} to {}", bytes.start, bytes.end),
            (None, Access::Uniform) => format!("{} bytes", launch.uniform.len()),
            (None, _) => "any 16 bytes, which the kernel leaves alone".to_owned(),
        };
        println!(
            "   binding {:>2} {:<10} {:<10} {bytes}",
            binding.binding,
            binding.name,
            word(binding.access),
        );
    }
    if wgsl {
        println!("\n{}", launch.wgsl);
    }
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Uniform => "uniform",
        Access::Read => "read",
        Access::Write => "read_write",
    }
}
