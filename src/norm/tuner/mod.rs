//! Measures on the device which strategy and tile are fastest for a problem, and remembers them in a file.

mod file;
mod trial;

use std::path::PathBuf;

use self::file::TuningFile;
pub(crate) use self::trial::Trial;
use super::tile::Tile;
use super::tuning::{Strategy, Tuning};
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::{Program, Uniform};
use crate::gpu::{Caps, F16Conversion, Gpu};
use crate::norm::f16::caps_for;

/// Chooses strategies and tiles by measuring them on the device, each kind of problem once.
///
/// Without a tuner, plans choose by rules. A choice changes results at most as far as strategies differ from each other.
/// For one plan the bits of a result are the same from run to run. A candidate whose results differ from those of the plan's
/// own choice is not chosen, however fast it is.
///
/// ```no_run
/// # use wgpu_norm::batch_norm::{TrainOptions, TrainPlan, Tuner};
/// # use wgpu_norm::{BatchNormConfig, Gpu, Shape};
/// # let gpu = Gpu::open()?;
/// let config = BatchNormConfig::new(64);
/// let shape = Shape::nchw(32, 64, 56, 56);
/// let mut tuner = Tuner::with_file(&gpu, "wgpu-norm.tuning")?;
/// let tuning = tuner.train(shape, &config)?; // measures, or remembers from last time
/// let options = TrainOptions::default().tuning(tuning);
/// let plan = TrainPlan::with_options(gpu.kernels(), shape, &config, options)?;
/// # Ok::<(), wgpu_norm::Error>(())
/// ```
///
/// A layer takes all its choices at once, by [`BatchNorm::tune`](crate::BatchNorm::tune) or, of the other norms,
/// [`Layer::tune`](crate::group_norm::Layer::tune).
#[derive(Debug)]
pub struct Tuner {
    gpu: Gpu,
    /// Adapter, driver, and the properties that plans depend on.
    device: String,
    /// Choices for this device and for others.
    file: TuningFile,
}

impl Tuner {
    /// Remembers as long as it lives.
    pub fn new(gpu: &Gpu) -> Self {
        let Caps {
            cpu,
            cores,
            wide_words,
            lanes,
            max_workgroup,
            max_groups,
            max_binding,
            ..
        } = *gpu.kernels().caps();
        let kind = if cpu {
            format!("cpu {cores} cores")
        } else {
            "gpu".to_owned()
        };
        let wide = if wide_words { " wide words" } else { "" };
        Self {
            device: format!(
                "{} {kind}{wide} lanes {lanes} workgroup {max_workgroup} groups {max_groups} binding {max_binding}",
                gpu.adapter_name(),
            ),
            gpu: gpu.clone(),
            file: TuningFile::default(),
        }
    }

    /// Remembers in a file, which is made if it is not there. One file may serve several devices and versions of the crate,
    /// and several tuners and processes at a time: each choice is a line that is appended. A line that cannot be read as a
    /// choice is measured anew. (A network file system may lose a line if two machines append at the same moment.)
    ///
    /// If the file fails later, say because the disk is full, the first choice that cannot be written is an error. All
    /// choices are remembered in memory nevertheless, so that calls go on from there, and are written with the next one if
    /// the file can be written again.
    ///
    /// # Errors
    /// [`TuneError::File`](crate::TuneError::File) for a file that cannot be read and written, that is no regular file,
    /// that is another program's (its first line is not `# wgpu-norm tuning`), or that is larger than 16 MiB.
    pub fn with_file(gpu: &Gpu, path: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            file: TuningFile::open(path.into())?,
            ..Self::new(gpu)
        })
    }

    /// The device that it measures on.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The remembered choice for a pass if there still is a program for it, or the choice with the fastest program. `pass`
    /// names the norm, the pass, the problem, and all of the configuration that the dispatches depend on.
    pub(crate) fn choose<U: Uniform + PartialEq>(
        &mut self,
        pass: &str,
        problem: Problem,
        program: impl Fn(&Caps, Tuning) -> Result<Program<U>, PlanError>,
    ) -> Result<Tuning, Error> {
        let caps = caps_for(self.gpu.kernels(), problem.dtype);
        let program = |tuning| program(&caps, tuning);
        // The plan's own choice comes first; if it fails there is no plan.
        let own = program(Tuning::default())?;
        let kernels = hash(&format!("{:?}", own.sources));
        let conversion = match caps.f16 {
            F16Conversion::Integers => String::new(),
            other => format!(" f16 {other}"),
        };
        let key = format!("{}{conversion} kernels {kernels:016x}\t{pass}", self.device);
        let remembered = self.file.get(&key);
        if let Some(tuning) = remembered.filter(|&tuning| program(tuning).is_ok()) {
            return Ok(tuning);
        }
        let mut tunings = vec![Tuning::default()];
        let mut programs = vec![own];
        for tuning in self.candidates() {
            match program(tuning) {
                // If a pass leaves no choice of strategy, several candidates have the same dispatches.
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
            _ => Trial::new(&self.gpu, problem, &programs)?.fastest()?,
        };
        let tuning = tunings[fastest];
        self.file.insert(key, tuning)?;
        Ok(tuning)
    }

    /// Every strategy with every tile worth trying.
    fn candidates(&self) -> Vec<Tuning> {
        let caps = self.gpu.kernels().caps();
        let tile = |workgroup: u32, columns| {
            Some(Tile::new(workgroup, caps.lanes.min(workgroup)).columns(columns))
        };
        let tiles = if caps.cpu {
            vec![None, tile(caps.lanes, 1), tile(caps.lanes, 4)]
        } else {
            [64, 128, 256, 512]
                .map(|workgroup| tile(workgroup, 1))
                .to_vec()
        };
        let both = |strategy| {
            let tuning = move |&tile| Tuning {
                strategy: Some(strategy),
                tile,
            };
            tiles.iter().map(tuning)
        };
        Strategy::ALL.iter().copied().flat_map(both).collect()
    }
}

/// FNV-1a, which is the same in every process and on every machine.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
