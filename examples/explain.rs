//! What a plan comes to on this machine's device: dispatches, memory, and if asked for the composed WGSL.
//!
//! `cargo run --example explain -- "n32c64h56w56 nchw" --pass backward --wgsl`

use std::error::Error;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use wgpu_norm::batch_norm::{
    BackwardOptions, BackwardPlan, DispatchInfo, Epilogue, EvalOptions, EvalPlan, Strategy, Tile,
    TrainPlan, Tuner, Tuning,
};
use wgpu_norm::{BatchNormConfig, Gpu, Problem};

#[derive(Parser)]
struct Arguments {
    /// A problem line.
    #[arg(default_value = "n32c64h56w56 nchw")]
    problem: Problem,
    /// What follows the normalization.
    #[arg(long, value_enum, default_value_t = Follows::Identity)]
    epilogue: Follows,
    /// Which pass to plan.
    #[arg(long, value_enum, default_value_t = Pass::Train)]
    pass: Pass,
    /// Forces a strategy: resident, reread or split.
    #[arg(long)]
    strategy: Option<String>,
    /// Forces a tile: invocations in a workgroup, those of them that walk together, and the columns of each
    /// where there are columns, as in 256x32 or 8x8x4.
    #[arg(long)]
    tile: Option<String>,
    /// Lets the device measure which strategy and tile are fastest, and remembers its choice in a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["strategy", "tile"])]
    tune: Option<PathBuf>,
    /// Prints each kernel's composed WGSL.
    #[arg(long)]
    wgsl: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pass {
    Train,
    Eval,
    Backward,
    FrozenBackward,
}

#[derive(Clone, Copy, ValueEnum)]
enum Follows {
    Identity,
    Relu,
    AddRelu,
}

impl From<Follows> for Epilogue {
    fn from(follows: Follows) -> Self {
        match follows {
            Follows::Identity => Self::Identity,
            Follows::Relu => Self::Relu,
            Follows::AddRelu => Self::AddRelu,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut tuning = Tuning {
        strategy: arguments.strategy.as_deref().map(strategy).transpose()?,
        tile: arguments.tile.as_deref().map(tile).transpose()?,
    };
    let gpu = Gpu::open()?;
    let (kernels, problem) = (gpu.kernels(), arguments.problem);
    let config = BatchNormConfig::new(problem.shape.channels()).epilogue(arguments.epilogue.into());
    let backward = BackwardOptions {
        frozen: matches!(arguments.pass, Pass::FrozenBackward),
        ..BackwardOptions::default()
    };
    println!("{problem} on {}", gpu.adapter_name());
    println!("{:?}", kernels.caps());
    if let Some(path) = arguments.tune {
        let mut tuner = Tuner::with_file(&gpu, path)?;
        tuning = match arguments.pass {
            Pass::Train => tuner.train(problem, &config)?,
            Pass::Eval => tuner.eval(problem, &config, EvalOptions::default())?,
            Pass::Backward | Pass::FrozenBackward => tuner.backward(problem, &config, backward)?,
        };
        println!("chosen: {tuning:?}");
    }
    match arguments.pass {
        Pass::Train => {
            let plan = TrainPlan::with_tuning(kernels, problem, &config, tuning)?;
            println!(
                "scratch {} bytes, saved {} bytes",
                plan.scratch_bytes(),
                plan.saved_bytes()
            );
            print(plan.dispatches(), arguments.wgsl);
        }
        Pass::Eval => {
            let options = EvalOptions {
                tuning,
                ..EvalOptions::default()
            };
            let plan = EvalPlan::with_options(kernels, problem, &config, options)?;
            println!("scratch {} bytes", plan.scratch_bytes());
            print(plan.dispatches(), arguments.wgsl);
        }
        Pass::Backward | Pass::FrozenBackward => {
            let options = BackwardOptions { tuning, ..backward };
            let plan = BackwardPlan::with_options(kernels, problem, &config, options)?;
            println!("scratch {} bytes", plan.scratch_bytes());
            print(plan.dispatches(), arguments.wgsl);
        }
    }
    Ok(())
}

fn print<'a>(dispatches: impl Iterator<Item = DispatchInfo<'a>>, wgsl: bool) {
    for (number, dispatch) in dispatches.enumerate() {
        let [x, y] = dispatch.grid();
        println!(
            "{}. {} on {x} x {y} workgroups",
            number + 1,
            dispatch.kernel()
        );
        let overrides = dispatch
            .overrides()
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let choices = dispatch
            .choices()
            .iter()
            .map(|(name, file)| format!("{name}={file}"));
        println!(
            "   {}",
            overrides.chain(choices).collect::<Vec<_>>().join(" ")
        );
        if wgsl {
            println!("\n{}", dispatch.wgsl());
        }
    }
}

fn strategy(name: &str) -> Result<Strategy, String> {
    let found = Strategy::ALL
        .into_iter()
        .find(|strategy| strategy.name() == name);
    found.ok_or_else(|| format!("--strategy: {name:?} is none of resident, reread and split"))
}

fn tile(text: &str) -> Result<Tile, String> {
    let read = || {
        let mut numbers = text.split('x').map(|number| number.parse().ok());
        let tile = Tile {
            workgroup: numbers.next()??,
            lanes: numbers.next()??,
            columns: numbers.next().unwrap_or(Some(1))?,
        };
        numbers.next().is_none().then_some(tile)
    };
    read().ok_or_else(|| format!("--tile: {text:?} is not like 256x32 or 8x8x4"))
}
