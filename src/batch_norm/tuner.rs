//! Measures on the device which way to solve a problem is fastest, and remembers it in a file.

use std::path::PathBuf;

use super::SOURCES;
use super::choices::Choices;
use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions};
use super::params::Params;
use super::plan;
use super::trial::Trial;
use super::tuning::{Strategy, Tuning};
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::Program;
use crate::gpu::{Caps, Gpu};
use crate::shared;
use crate::shared::walk::Tile;

/// Chooses strategies and tiles by measuring them on the device, each kind of problem once.
///
/// Without one, plans choose by rules. A choice changes no result beyond the tolerance that the strategies have
/// among each other, and for one plan the bits of a result are the same from run to run, whoever chose. What leaves
/// other results than the plan's own choice is not chosen, however fast it is.
///
/// ```no_run
/// # use wgpu_norm::batch_norm::{TrainPlan, Tuner};
/// # use wgpu_norm::{BatchNormConfig, Gpu, Shape};
/// # let gpu = Gpu::open()?;
/// let config = BatchNormConfig::new(64);
/// let shape = Shape::nchw(32, 64, 56, 56);
/// let mut tuner = Tuner::with_file(&gpu, "wgpu-norm.tuning")?;
/// let tuning = tuner.train(shape, &config)?; // measures, or knows from last time
/// let plan = TrainPlan::with_tuning(gpu.kernels(), shape, &config, tuning)?;
/// # Ok::<(), wgpu_norm::Error>(())
/// ```
///
/// A layer takes all its choices at once, by [`BatchNorm::tune`](super::BatchNorm::tune).
#[derive(Debug)]
pub struct Tuner {
    gpu: Gpu,
    /// Adapter, driver, what plans know of the device, and the kernels' text: what a choice depends on beside the
    /// problem.
    device: String,
    /// Those of this device and of others.
    choices: Choices,
}

impl Tuner {
    /// Remembers as long as it lives.
    pub fn new(gpu: &Gpu) -> Self {
        let kernels = hash(
            &[shared::SOURCES, SOURCES]
                .map(|folder| format!("{folder:?}"))
                .concat(),
        );
        Self {
            device: format!(
                "{} {:?} kernels {kernels:016x}",
                gpu.adapter_name(),
                gpu.kernels().caps()
            ),
            gpu: gpu.clone(),
            choices: Choices::default(),
        }
    }

    /// Remembers in a file, which need not be there yet. One file may serve several devices and versions of the
    /// crate; a line of it that does not read as a choice is measured anew.
    ///
    /// # Errors
    /// [`TuneError::File`](crate::TuneError::File) for a file that is there and cannot be read.
    pub fn with_file(gpu: &Gpu, path: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            choices: Choices::of_file(path.into())?,
            ..Self::new(gpu)
        })
    }

    /// The device that it measures on.
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The choice for a [`TrainPlan`](super::TrainPlan).
    ///
    /// # Errors
    /// [`PlanError`] for a problem that has no plan, [`GpuError`](crate::GpuError) for a device that fails, and
    /// [`TuneError::File`](crate::TuneError::File) if the choice cannot be written down.
    pub fn train(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        let key = format!("train {problem} {config:?}");
        self.choose(key, problem, |caps, tuning| {
            plan::train(caps, problem, config, tuning)
        })
    }

    /// The choice for an [`EvalPlan`](super::EvalPlan) with these options, whose own tuning is not looked at.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn eval(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        options: EvalOptions,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        let with = |tuning| EvalOptions { tuning, ..options };
        let plain = with(Tuning::default());
        let key = format!("eval {problem} {config:?} {plain:?}");
        self.choose(key, problem, |caps, tuning| {
            plan::eval(caps, problem, config, with(tuning))
        })
    }

    /// The choice for a [`BackwardPlan`](super::BackwardPlan) with these options, whose own tuning is not looked at.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn backward(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        options: BackwardOptions,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        let with = |tuning| BackwardOptions { tuning, ..options };
        let plain = with(Tuning::default());
        let key = format!("backward {problem} {config:?} {plain:?}");
        self.choose(key, problem, |caps, tuning| {
            plan::backward(caps, problem, config, with(tuning))
        })
    }

    /// The choice that is remembered for a key and that there still is a program for, or the one with the fastest.
    fn choose(
        &mut self,
        key: String,
        problem: Problem,
        program: impl Fn(&Caps, Tuning) -> Result<Program<Params>, PlanError>,
    ) -> Result<Tuning, Error> {
        let key = format!("{}\t{key}", self.device);
        let program = |tuning| program(self.gpu.kernels().caps(), tuning);
        if let Some(tuning) = self
            .choices
            .get(&key)
            .filter(|&tuning| program(tuning).is_ok())
        {
            return Ok(tuning);
        }
        // The plan's own choice comes first; if it fails there is no plan.
        let mut tunings = vec![Tuning::default()];
        let mut programs = vec![program(Tuning::default())?];
        for tuning in self.candidates() {
            match program(tuning) {
                // Where a pass leaves no choice of strategy, several candidates come to the same.
                Ok(program) if programs.iter().all(|p| p.dispatches != program.dispatches) => {
                    tunings.push(tuning);
                    programs.push(program);
                }
                Ok(_) | Err(PlanError::Strategy { .. } | PlanError::Tile { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let fastest = match programs.len() {
            1 => 0,
            _ => Trial::new(&self.gpu, problem, programs)?.fastest()?,
        };
        let tuning = tunings[fastest];
        self.choices.insert(key, tuning)?;
        Ok(tuning)
    }

    /// Every strategy with every tile that is worth a try.
    fn candidates(&self) -> Vec<Tuning> {
        let caps = self.gpu.kernels().caps();
        let tile = |workgroup: u32, columns| {
            Some(Tile {
                workgroup,
                lanes: caps.lanes.min(workgroup),
                columns,
            })
        };
        let tiles = if caps.cpu {
            vec![None, tile(caps.lanes, 1), tile(caps.lanes, 4)]
        } else {
            [64, 128, 256].map(|workgroup| tile(workgroup, 1)).to_vec()
        };
        let both = |strategy| {
            let tuning = move |&tile| Tuning {
                strategy: Some(strategy),
                tile,
            };
            tiles.iter().map(tuning)
        };
        Strategy::ALL.into_iter().flat_map(both).collect()
    }
}

/// FNV-1a, which is the same in every process and on every machine.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
