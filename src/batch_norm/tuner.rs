//! Measures on the device which way to solve a problem is fastest, and remembers it in a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SOURCES;
use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions};
use super::params::Params;
use super::plan;
use super::plans::Compiled;
use super::tuning::{Strategy, Tuning};
use crate::dtype::Problem;
use crate::error::{Error, PlanError, TuneError};
use crate::gpu::program::{Field, Program};
use crate::gpu::{Caps, Gpu, Step, wait};
use crate::shared;
use crate::shared::walk::Tile;

/// Runs of each candidate that count; one more goes before them.
const RUNS: usize = 7;

/// A run repeats its step for about so long, so that submitting it weighs little.
const RUN: Duration = Duration::from_millis(2);

/// What another candidate must save over the plan's own choice. Less is noise.
const GAIN: f64 = 0.97;

/// Chooses strategies and tiles by measuring them on the device, each kind of problem once.
///
/// Without one, plans choose by rules. A choice changes no result beyond the tolerance that the strategies have
/// among each other, and for one plan the bits of a result are the same from run to run, whoever chose.
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
    file: Option<PathBuf>,
    /// The choices of this device and of others, by the two columns of the file.
    choices: BTreeMap<String, String>,
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
            file: None,
            choices: BTreeMap::new(),
        }
    }

    /// Remembers in a file, which need not be there yet. One file may serve several devices and versions of the
    /// crate; a line of it that does not read as a choice is measured anew.
    ///
    /// # Errors
    /// [`TuneError::File`] for a file that is there and cannot be read.
    pub fn with_file(gpu: &Gpu, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(file_error(&path, &error).into()),
        };
        let choices = text.lines().filter_map(|line| line.rsplit_once('\t'));
        Ok(Self {
            choices: choices.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            file: Some(path),
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
    /// [`TuneError::File`] if the choice cannot be written down.
    pub fn train(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        self.choose(&format!("train {problem} {config:?}"), |caps, tuning| {
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
        self.choose(
            &format!("eval {problem} {config:?} {plain:?}"),
            |caps, tuning| plan::eval(caps, problem, config, with(tuning)),
        )
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
        self.choose(
            &format!("backward {problem} {config:?} {plain:?}"),
            |caps, tuning| plan::backward(caps, problem, config, with(tuning)),
        )
    }

    /// The choice that is remembered for a key and that there still is a program for, or the one with the fastest.
    fn choose(
        &mut self,
        key: &str,
        program: impl Fn(&Caps, Tuning) -> Result<Program<Params>, PlanError>,
    ) -> Result<Tuning, Error> {
        let key = format!("{}\t{key}", self.device);
        let program = |tuning| program(self.gpu.kernels().caps(), tuning);
        let known = self.choices.get(&key).and_then(|text| read(text));
        if let Some(tuning) = known.filter(|&tuning| program(tuning).is_ok()) {
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
        let tuning = tunings[self.fastest(&self.bind(programs)?)?];
        self.choices.insert(key, write(tuning));
        self.save()?;
        Ok(tuning)
    }

    /// The programs on the same memory, which they use one after the other.
    fn bind(&self, programs: Vec<Program<Params>>) -> Result<Vec<Step>, Error> {
        let mut bytes = BTreeMap::<Field, u64>::new();
        for need in programs.iter().flat_map(|program| &program.needs) {
            let most = bytes.entry(need.field).or_default();
            *most = need.bytes.max(*most);
        }
        let buffers = bytes
            .into_iter()
            .map(|(field, bytes)| Ok((field, self.gpu.state_buffer("tuner", bytes)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let slices: Vec<_> = buffers
            .iter()
            .map(|(field, buffer)| (*field, Some(buffer.slice(..))))
            .collect();
        programs
            .into_iter()
            .map(|program| {
                let plan = Compiled::new(self.gpu.kernels(), program)?;
                Ok(plan.bind("tuner", &slices)?)
            })
            .collect()
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

    /// The fastest, the first where the difference is noise. In every round each runs once, so that what else the
    /// machine does meets all of them.
    fn fastest(&self, steps: &[Step]) -> Result<usize, Error> {
        let mut repeats = vec![1; steps.len()];
        let mut best = vec![f64::INFINITY; steps.len()];
        for run in 0..=RUNS {
            for (index, step) in steps.iter().enumerate() {
                let time = self.time(step, repeats[index])?;
                if run == 0 {
                    let wanted = RUN.as_secs_f64() / time.max(1e-6);
                    repeats[index] = wanted.clamp(1.0, 64.0) as u32;
                } else {
                    best[index] = best[index].min(time / f64::from(repeats[index]));
                }
            }
        }
        Ok((1..steps.len()).fold(0, |fastest, index| {
            if best[index] < GAIN * best[fastest] {
                index
            } else {
                fastest
            }
        }))
    }

    /// Seconds.
    fn time(&self, step: &Step, repeats: u32) -> Result<f64, Error> {
        let device = self.gpu.device();
        let mut encoder = device.create_command_encoder(&Default::default());
        (0..repeats).for_each(|_| step.encode(&mut encoder));
        let start = Instant::now();
        self.gpu.queue().submit([encoder.finish()]);
        wait(device)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Replaces the file as a whole, so that nobody reads half of it.
    fn save(&self) -> Result<(), TuneError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let lines = self
            .choices
            .iter()
            .map(|(key, choice)| format!("{key}\t{choice}\n"));
        let new = path.with_extension("new");
        fs::write(&new, lines.collect::<String>())
            .and_then(|()| fs::rename(&new, path))
            .map_err(|error| file_error(path, &error))
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> TuneError {
    TuneError::File {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

/// A choice as it stands in the file: "plan", or as in "resident 256x32x1" and "split plan".
fn write(tuning: Tuning) -> String {
    let strategy = tuning.strategy.map_or("plan", Strategy::name);
    match tuning.tile {
        None => format!("{strategy} plan"),
        Some(Tile {
            workgroup,
            lanes,
            columns,
        }) => format!("{strategy} {workgroup}x{lanes}x{columns}"),
    }
}

fn read(text: &str) -> Option<Tuning> {
    let (strategy, tile) = text.split_once(' ')?;
    let strategy = match strategy {
        "plan" => None,
        name => Some(Strategy::ALL.into_iter().find(|s| s.name() == name)?),
    };
    let tile = match tile {
        "plan" => None,
        numbers => {
            let mut numbers = numbers.split('x').map(|number| number.parse().ok());
            Some(Tile {
                workgroup: numbers.next()??,
                lanes: numbers.next()??,
                columns: numbers.next()??,
            })
        }
    };
    Some(Tuning { strategy, tile })
}

/// FNV-1a, which is the same in every process and on every machine.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn choices_survive_the_file() {
    let tile = Tile {
        workgroup: 64,
        lanes: 32,
        columns: 1,
    };
    for strategy in Strategy::ALL.map(Some).into_iter().chain([None]) {
        for tile in [None, Some(tile)] {
            let tuning = Tuning { strategy, tile };
            assert_eq!(read(&write(tuning)), Some(tuning));
        }
    }
    for text in [
        "",
        "plan",
        "best plan",
        "split 64",
        "split 64x32",
        "split 64xax1",
    ] {
        assert_eq!(read(text), None, "{text:?}");
    }
}
