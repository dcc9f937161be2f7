//! How a plan divides its work: strategies in order of preference, and tiles.

use crate::error::PlanError;
use crate::gpu::Caps;
use crate::shape::Shape;
use crate::shared::walk::{MAX_COLUMNS, Tile, Walk};

/// How statistics and the pass that needs them follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// One dispatch that reads its input once: a workgroup keeps a channel, or a strip of channels, in its
    /// registers. For many channels that fit.
    Resident,
    /// One dispatch, a workgroup for each channel or strip of channels: it reduces, then reads its values
    /// again, from cache if they fit. For many channels.
    Reread,
    /// Three dispatches: partial results of many workgroups a channel, their combination, and an
    /// elementwise pass. Serves every shape, and keeps the whole device busy with few channels.
    Split,
}

impl Strategy {
    /// All strategies, the first that is wanted and possible wins.
    pub const ALL: [Self; 3] = [Self::Resident, Self::Reread, Self::Split];

    /// The strategy's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Reread => "reread",
            Self::Split => "split",
        }
    }

    /// What keeps the strategy from a shape, if anything does.
    ///
    /// `kept` is the number of bytes that a lane keeps of each vector that it visits if it keeps any.
    fn obstacle(self, walk: &Walk, windows: usize, tile: Tile, kept: u32) -> Option<&'static str> {
        match self {
            Self::Split => None,
            _ if windows > 1 => Some("the tensor is larger than one binding"),
            _ if !walk.units_are_short(tile) => Some("a channel is too long for one workgroup"),
            _ if !walk.units_own_their_channels() => {
                Some("16-byte vectors cross its channels, so no workgroup has a channel to itself")
            }
            Self::Resident if walk.single_columns(tile).visits() * kept > KEPT_BYTES => {
                Some("a channel does not fit the registers of one workgroup")
            }
            Self::Resident | Self::Reread => None,
        }
    }

    /// Whether the strategy is likely the fastest of those that remain.
    fn pays(self, walk: &Walk, tile: Tile, caps: &Caps) -> bool {
        let units = walk.units(tile);
        match self {
            Self::Split => true,
            // What a processor keeps for an invocation is memory too.
            Self::Resident => !caps.cpu && units >= 64,
            // Few cores with large caches: enough workgroups to share out evenly are all that it takes.
            Self::Reread if caps.cpu => units >= 16,
            // A workgroup streams its values at a fraction of the device's speed. It must be one of many,
            // and small enough that the second read comes from cache.
            Self::Reread => units >= 256 && walk.elements / units <= 16 * 1024,
        }
    }
}

/// What a lane may keep in registers: 64 of them, a quarter of what GPUs have for it, which leaves the rest of the
/// kernel its own and a second workgroup its place.
const KEPT_BYTES: u32 = 256;

/// Tensors of so many bytes and fewer are in a processor's cache by the time that they are walked, and may be walked
/// in any order.
const CACHED_BYTES: u64 = 512 * 1024;

/// Columns of a lane there. Kernels of so few take a quarter of the time to compile.
const CACHED_COLUMNS: u32 = 4;

/// Overrides of what a plan chooses by itself, for tests and benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuning {
    /// The strategy, if it is not to be chosen by shape and device.
    pub strategy: Option<Strategy>,
    /// The tile, if it is not to be chosen by device.
    pub tile: Option<Tile>,
}

impl Tuning {
    /// The tile to use on a device for tensors of so many bytes.
    pub(crate) fn tile(self, caps: &Caps, bytes: u64) -> Result<Tile, PlanError> {
        let Some(tile) = self.tile else {
            // On a processor each workgroup costs as much as many values, and its invocations run one group
            // of lanes after the other: one group is the best size.
            let workgroup = if caps.cpu { caps.lanes } else { 256 };
            let workgroup = workgroup.min(caps.max_workgroup);
            return Ok(Tile {
                workgroup,
                lanes: caps.lanes.min(workgroup),
                columns: match caps.cpu {
                    false => 1,
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

    /// The strategy to use for a shape on a device.
    pub(crate) fn strategy(
        self,
        shape: Shape,
        walk: &Walk,
        windows: usize,
        tile: Tile,
        caps: &Caps,
        kept: u32,
    ) -> Result<Strategy, PlanError> {
        if let Some(strategy) = self.strategy {
            return match strategy.obstacle(walk, windows, tile, kept) {
                None => Ok(strategy),
                Some(reason) => Err(PlanError::Strategy {
                    strategy: strategy.name(),
                    shape,
                    reason,
                }),
            };
        }
        Ok(Strategy::ALL
            .into_iter()
            .find(|s| s.obstacle(walk, windows, tile, kept).is_none() && s.pays(walk, tile, caps))
            .unwrap_or(Strategy::Split))
    }
}

/// The workgroups that a pass over memory is spread over, if its units leave the choice: enough to be shared out
/// evenly. Each leaves partial results to be combined.
pub(crate) fn wanted_groups(caps: &Caps) -> u32 {
    if caps.cpu { 4 * caps.cores } else { 1024 }
}
