//! How a plan divides its work: strategies in order of preference, and tiles.

use super::options::setters;
use super::partition::Partition;
use super::tile::{MAX_COLUMNS, Tile};
use crate::dtype::Dtype;
use crate::error::PlanError;
use crate::gpu::{Caps, F16Conversion};
use crate::shape::Shape;
use crate::word::{WordError, words};

/// How the statistics and the pass that needs them follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch that reads its input once: a workgroup holds the values of a statistic (a channel, a group, a row), or of
    /// several neighbouring ones, in registers. For many statistics whose values fit.
    Resident,
    /// One dispatch with a workgroup for each statistic, or for several neighbouring ones: it reduces, then reads its values
    /// again, from cache if they fit. For many statistics.
    Reread,
    /// Three dispatches: partial results of many workgroups a statistic, their combination, and an elementwise pass. Serves
    /// every shape, and keeps the whole device busy with few statistics.
    Split,
}

words!(Strategy, "strategy", "resident, reread or split":
    Resident "resident", Reread "reread", Split "split");

impl Strategy {
    /// Why the strategy cannot serve a partition, if it cannot.
    ///
    /// `held`: what each vector costs the resident strategy.
    pub(crate) fn obstacle(
        self,
        partition: &Partition,
        windows: usize,
        tile: Tile,
        held: Held,
    ) -> Option<&'static str> {
        match self {
            Self::Split => None,
            _ if windows > 1 => Some("the tensor is larger than one binding"),
            _ if !partition.units_are_short(tile) => {
                Some("a statistic has too many values for one workgroup")
            }
            _ if !partition.units_own_their_statistics() => Some(
                "16-byte vectors have values of two statistics, so no workgroup has one to itself",
            ),
            Self::Resident if !held.fits(partition.single_columns(tile).held_vectors()) => {
                Some("the values of a statistic do not fit the registers of one workgroup")
            }
            Self::Resident | Self::Reread => None,
        }
    }

    /// Whether the strategy is likely the fastest of those that follow in the list.
    fn pays(self, partition: &Partition, tile: Tile, caps: &Caps) -> bool {
        let units = partition.units(tile);
        match self {
            Self::Split => true,
            // On a processor the registers of an invocation are memory.
            Self::Resident => !caps.cpu && units >= 64,
            // Few cores with large caches need no more than enough workgroups to share out evenly.
            // Parameters that vary cost as much as values, unless planes side by side share them.
            Self::Reread if caps.cpu => {
                let loads = partition.parameters_vary() && !partition.planes_have_all_parameters();
                units >= 16 && !loads
            }
            // A workgroup streams its values at a fraction of the device's speed. It must be one of many,
            // and small enough that the second read comes from cache.
            Self::Reread => units >= 256 && partition.elements / units <= 16 * 1024,
        }
    }
}

/// Bytes that a lane may hold in registers: 64 registers. GPUs have 256 for an invocation, and GCN 128 in workgroups of 512
/// lanes. That leaves registers for the rest of the kernel.
const HELD_BYTES: u32 = 256;

/// Bytes of machine code that the instruction caches of GPUs hold. The resident kernels have no loops over their vectors.
const CODE_BYTES: u32 = 32 * 1024;

/// Bytes of machine code for each vector that a resident kernel of one tensor or of two holds, at the most, as a compiler for
/// AMD's GPUs makes it (`cargo bench -- --compile`). Conversions of f16 by integers are many instructions, and so are
/// parameters that vary from value to value.
pub(crate) fn code_bytes(
    dtype: Dtype,
    f16: F16Conversion,
    tensors: u32,
    parameters_vary: bool,
) -> u32 {
    let by_integers = dtype == Dtype::F16 && f16 == F16Conversion::Integers;
    let [one, two] = match (dtype, parameters_vary) {
        (_, false) if by_integers => [1900, 2600],
        (_, true) if by_integers => [2750, 4600],
        (Dtype::F32, false) => [600, 1000],
        (Dtype::F32, true) => [1300, 2000],
        // More, so that no family spills registers: RDNA 3 spills 32 vectors of f16, or 16 of two tensors, and GCN 4 those of
        // rows in bf16.
        (Dtype::F16, false) => [1100, 2100],
        (Dtype::Bf16, false) => [800, 1300],
        (Dtype::F16 | Dtype::Bf16, true) => [1500, 2500],
    };
    if tensors == 1 { one } else { two }
}

/// What each vector of a unit costs a kernel that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Bytes in the registers of its lane.
    pub registers: u32,
    /// Bytes of machine code.
    pub code: u32,
}

impl Held {
    /// Can a lane hold this many vectors?
    fn fits(self, vectors: u32) -> bool {
        vectors.saturating_mul(self.registers) <= HELD_BYTES
            && vectors.saturating_mul(self.code) <= CODE_BYTES
    }
}

/// Tensors of at most this many bytes are in a processor's cache when a kernel walks them, which may do so in any order.
const CACHED_BYTES: u64 = 512 * 1024;

/// Columns of a lane for such tensors. A kernel with 4 columns compiles in a quarter of the time of one with 16.
const CACHED_COLUMNS: u32 = 4;

/// Columns of a lane for long rows. More gain 5 to 8 % in training, and take a driver several times as long to compile.
const LONG_ROW_COLUMNS: u32 = 2;

/// A choice of strategy and tile. A plan chooses itself what is `None`; a tuner returns what it has measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuning {
    /// The strategy; `None` to choose by shape and device.
    pub strategy: Option<Strategy>,
    /// The tile; `None` to choose by device, size, layout and strategy.
    pub tile: Option<Tile>,
}

setters!(Tuning: strategy: Option<Strategy>, tile: Option<Tile>);

impl std::fmt::Display for Tuning {
    /// As in `split 256x32`, with `plan` for what the plan chooses itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.strategy {
            Some(strategy) => write!(f, "{strategy} ")?,
            None => f.write_str("plan ")?,
        }
        match self.tile {
            Some(tile) => write!(f, "{tile}"),
            None => f.write_str("plan"),
        }
    }
}

impl std::str::FromStr for Tuning {
    type Err = WordError;

    fn from_str(words: &str) -> Result<Self, WordError> {
        let expected = "a strategy and a tile, such as \"split 256x32\" or \"plan plan\"";
        let two = words.trim().split_once(' ');
        let (strategy, tile) = two.ok_or_else(|| WordError::new("tuning", words, expected))?;
        let chosen = |word: &str| word != "plan";
        Ok(Self {
            strategy: chosen(strategy).then(|| strategy.parse()).transpose()?,
            tile: chosen(tile).then(|| tile.parse()).transpose()?,
        })
    }
}

impl Tuning {
    /// The tile to use on a device for tensors of `bytes` bytes, before the strategy is known.
    pub(crate) fn tile_for(
        self,
        caps: &Caps,
        partition: &Partition,
        bytes: u64,
    ) -> Result<Tile, PlanError> {
        let Some(tile) = self.tile else {
            // On a processor a workgroup costs as much as many values, and its lanes run in groups one after the other:
            // one group is the best size.
            let workgroup = if caps.cpu { caps.lanes } else { 256 };
            let workgroup = workgroup.min(caps.max_workgroup);
            return Ok(Tile {
                workgroup,
                lanes: caps.lanes.min(workgroup),
                columns: match caps.cpu {
                    false => 1,
                    true if partition.rows_are_long() => LONG_ROW_COLUMNS,
                    true if bytes <= CACHED_BYTES => CACHED_COLUMNS,
                    // Memory is best walked in order.
                    true => MAX_COLUMNS,
                },
            });
        };
        let reason = if !tile.workgroup.is_power_of_two() || !tile.lanes.is_power_of_two() {
            "workgroup and lanes must be powers of two"
        } else if tile.lanes > tile.workgroup {
            "lanes must not be above workgroup"
        } else if tile.workgroup > caps.max_workgroup {
            "workgroup is above what the device or the kernels allow"
        } else if !tile.columns.is_power_of_two() || tile.columns > MAX_COLUMNS {
            "columns must be 1, 2, 4, 8 or 16"
        } else {
            return Ok(tile);
        };
        Err(PlanError::Tile {
            workgroup: tile.workgroup,
            lanes: tile.lanes,
            columns: tile.columns,
            reason,
        })
    }

    /// The tile of workgroups twice as large, whose registers hold units twice as large, if a plan may choose it.
    pub(crate) fn wider(self, caps: &Caps, tile: Tile) -> Option<Tile> {
        let workgroup = 2 * tile.workgroup;
        let may = self.tile.is_none() && !caps.cpu && workgroup <= caps.max_workgroup;
        may.then_some(Tile { workgroup, ..tile })
    }

    /// The strategy to use for a shape on a device.
    pub(crate) fn strategy_for(
        self,
        shape: Shape,
        partition: &Partition,
        windows: usize,
        tile: Tile,
        caps: &Caps,
        held: Held,
    ) -> Result<Strategy, PlanError> {
        if let Some(strategy) = self.strategy {
            return match strategy.obstacle(partition, windows, tile, held) {
                None => Ok(strategy),
                Some(reason) => Err(PlanError::Strategy {
                    strategy: strategy.name(),
                    shape,
                    reason,
                }),
            };
        }
        let mut strategies = Strategy::ALL.iter().copied();
        Ok(strategies
            .find(|s| {
                s.obstacle(partition, windows, tile, held).is_none()
                    && s.pays(partition, tile, caps)
            })
            .unwrap_or(Strategy::Split))
    }
}

/// The number of workgroups for a pass over memory, if its units leave a choice: enough to share out evenly. Each
/// leaves partial results to combine.
pub(crate) fn wanted_groups(caps: &Caps) -> u32 {
    if caps.cpu { 4 * caps.cores } else { 1024 }
}

#[test]
fn a_choice_reads_back() {
    let tile = Tile::new(64, 32);
    let strategies = Strategy::ALL.iter().map(|&strategy| Some(strategy));
    for strategy in strategies.chain([None]) {
        for tile in [None, Some(tile), Some(tile.columns(4))] {
            let tuning = Tuning { strategy, tile };
            assert_eq!(tuning.to_string().parse(), Ok(tuning));
        }
    }
    for words in [
        "",
        "plan",
        "best plan",
        "split 64",
        "split 64xax1",
        "split 8x8x1x1",
    ] {
        assert!(words.parse::<Tuning>().is_err(), "{words:?}");
    }
}
