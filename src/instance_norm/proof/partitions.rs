//! Statistics over every partition, by the kernels that InstanceNorm runs: those of ghost batches, groups and rows, too,
//! which other norms need.

use std::fmt;

use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::{Field, Program};
use crate::instance_norm::program::NORM;
use crate::norm::field::{MOMENTS, X};
use crate::norm::kernels::finalize::{Combine, Finalized};
use crate::norm::kernels::{MOMENTS_FLOATS, finalize, stats};
use crate::norm::options::Epilogue;
use crate::norm::partition::{Over, Partition};
use crate::norm::planner::{Decisions, Planner};
use crate::norm::proof::Case;
use crate::norm::proof::chain::{programs_agree_with_the_oracle, twins_agree_with_the_oracle};
use crate::norm::proof::inputs::{Fill, Inputs, Storage};
use crate::norm::proof::shapes::{CPU_TILE, GPU_TILES, shapes};
use crate::norm::sample::Params;
use crate::norm::tuning::Tuning;
use crate::norm::twin::MoveRunning;
use crate::norm::twin::memory::Memory;
use crate::norm::uniform::EpsSettings;
use crate::reference::Moments;
use crate::reference::compare::Bound;

/// The moments of a tensor over a partition.
#[derive(Clone, Copy)]
struct PartitionCase {
    problem: Problem,
    over: Over,
    tuning: Tuning,
    max_binding: Option<u64>,
}

impl fmt::Display for PartitionCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            problem,
            over,
            tuning,
            max_binding,
        } = self;
        write!(
            f,
            "{problem} moments over {over:?} {tuning} {max_binding:?}"
        )
    }
}

impl PartitionCase {
    fn x(&self) -> Vec<f64> {
        let inputs = Inputs {
            problem: self.problem,
            epilogue: Epilogue::Identity,
            weight: None,
            bias: None,
            fill: Fill::Noise,
        };
        inputs.x()
    }

    fn plan(&self, caps: &Caps) -> Result<Program<Params>, PlanError> {
        let mut caps = *caps;
        caps.max_binding = self.max_binding.unwrap_or(caps.max_binding);
        let decisions = Decisions {
            over: self.over,
            settings: EpsSettings { eps: 0.0 },
            weight: false,
            bias: false,
            samples: None,
            unit_offset: false,
            epilogue: Epilogue::Identity,
            tuning: self.tuning,
        };
        let mut planner = Planner::new(&NORM, &caps, self.problem, decisions)?;
        let (mut dispatches, params) = planner.reduction(MOMENTS_FLOATS, stats::dispatch)?;
        let moments = Finalized::Moments;
        dispatches.push(finalize::dispatch(
            &planner,
            Combine::Chunks,
            moments,
            params,
        ));
        let needs = vec![planner.activation(X), planner.statistics(MOMENTS, 4)];
        planner.program(dispatches, needs)
    }
}

impl Case for PartitionCase {
    type Settings = EpsSettings;

    const MOVE_RUNNING: MoveRunning<EpsSettings> = |_, _, _, _, _| {};

    fn storage(&self) -> Storage {
        Storage {
            dtype: self.problem.dtype,
            counters: 0,
        }
    }

    fn program(&self, caps: &Caps) -> Option<Program<Params>> {
        match self.plan(caps) {
            Ok(program) => Some(program),
            // Rows of channels first, for instance, or more moments than the small binding holds.
            Err(PlanError::Unsupported { .. } | PlanError::Limit { .. }) => None,
            Err(error) => panic!("{self}: {error}"),
        }
    }

    fn memory(&self, program: &Program<Params>) -> Memory {
        let mut memory = Memory::default();
        for need in &program.needs {
            let values = match need.field {
                X => self.x(),
                _ => vec![f64::NAN; need.bytes as usize / 4],
            };
            memory.insert(need.field, values);
        }
        memory
    }

    fn expected(&self) -> Vec<(Field, Vec<f64>)> {
        let partition = Partition::of(self.problem.shape, self.over).expect("a program");
        let mut values = vec![Vec::new(); partition.statistics() as usize];
        for (element, value) in (0..).zip(self.x()) {
            values[partition.statistics_of(element) as usize].push(value);
        }
        let moments: Vec<_> = values.into_iter().map(Moments::of).collect();
        let row = |value: fn(&Moments) -> f64| moments.iter().map(value).collect::<Vec<_>>();
        let rows = [
            row(|m| m.mean),
            row(|_| 0.0),
            row(|m| m.m2),
            row(|m| m.count),
        ];
        vec![(MOMENTS, rows.concat())]
    }

    fn bound(&self, field: Field) -> Bound {
        let ulp = f64::from(f32::EPSILON);
        match field {
            X => Bound::EXACT,
            _ => Bound::new(16.0 * ulp, 16.0 * ulp * self.amplification()),
        }
    }

    fn amplification(&self) -> f64 {
        self.problem.shape.elements().expect("a small shape") as f64
    }
}

fn cases() -> Vec<PartitionCase> {
    let mut cases = Vec::new();
    let extents = [
        "n7c6h5w3",
        "n8c12h4w4",
        "n5c4l7",
        "n20c6h3w3",
        "n6c8",
        "n3c2h9w9",
        "n9c10l1",
    ];
    for (index, shape) in shapes(&extents).into_iter().enumerate() {
        let channels = shape.channels();
        for over in [
            Over::Batch,
            Over::Samples(2),
            Over::Samples(4),
            Over::Instance,
            Over::Groups(2),
            Over::Groups(channels),
            Over::Groups(1),
            Over::Trailing(channels),
            Over::Trailing(shape.plane().expect("a small plane")),
            Over::Trailing(shape.elements().expect("a small shape")),
        ] {
            for tile in [CPU_TILE, GPU_TILES[index % 2]] {
                for max_binding in [None, Some(1024)] {
                    cases.push(PartitionCase {
                        problem: shape.into(),
                        over,
                        tuning: Tuning::default().tile(Some(tile)),
                        max_binding,
                    });
                }
            }
        }
    }
    cases.retain(|case| {
        // A vector holds values of two outer groups at most.
        let partition = Partition::of(case.problem.shape, case.over);
        partition.is_ok_and(|p| p.outer == 1 || p.outer_values >= 4)
    });
    cases
}

#[test]
fn twins_agree_with_the_reference_over_every_partition() {
    let checked = twins_agree_with_the_oracle(&cases());
    assert!(checked > 250, "only {checked}");
}

#[test]
fn programs_on_the_device_agree_with_the_reference_over_every_partition() {
    let checked = programs_agree_with_the_oracle(&cases(), 1000).programs;
    assert!(checked > 250, "only {checked}");
}
