//! The size of workgroups, and which lanes walk together.

/// The most of [`Tile::columns`]. Registers and compile time grow with it.
pub const MAX_COLUMNS: u32 = 16;

/// Vectors of a small plane for each lane, and the fewest lanes for one plane: so many neighbouring vectors fill a cache
/// line.
const VECTORS_OF_LANE: u32 = 4;
const FEWEST_LANES: u32 = 8;

/// The longest planes, in vectors, of which a processor's lanes take one each.
const MAX_LANE_SPAN: u32 = 4096;

/// The size of a workgroup, and how its lanes walk together. A lane is one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tile {
    /// Lanes in a workgroup: a power of two, at most [`Caps::max_workgroup`](crate::Caps::max_workgroup).
    pub workgroup: u32,
    /// Lanes that walk neighbouring vectors: a power of two, at most `workgroup`. The number that the hardware runs
    /// together is best.
    pub lanes: u32,
    /// Vector columns of a lane in layouts whose channels are neighbours in memory, and rows of a lane side by side: 1, 2, 4, 8
    /// or 16. More than one is for
    /// adapters on which `lanes` lanes run alone for a while, and should walk long pieces of rows; it multiplies the
    /// registers of a lane. No effect if `workgroup` is above `lanes`.
    pub columns: u32,
}

impl Tile {
    /// A tile with one column a lane.
    pub const fn new(workgroup: u32, lanes: u32) -> Self {
        Self {
            workgroup,
            lanes,
            columns: 1,
        }
    }

    /// The lanes that take one plane of `span` vectors, of a workgroup that takes several: so many that each has a few
    /// vectors to load at once. On a processor, whose lanes run together, each takes a plane of its own.
    pub(crate) fn plane_lanes(self, span: u32) -> u32 {
        if self.workgroup == self.lanes {
            return match span <= MAX_LANE_SPAN {
                true => 1,
                false => self.workgroup,
            };
        }
        let lanes = span.div_ceil(VECTORS_OF_LANE).next_power_of_two();
        lanes.max(FEWEST_LANES).min(self.workgroup)
    }

    /// Sets [`columns`](Self::columns).
    pub const fn columns(mut self, columns: u32) -> Self {
        self.columns = columns;
        self
    }
}

impl std::fmt::Display for Tile {
    /// As in `256x32` or `8x8x4`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.workgroup, self.lanes)?;
        match self.columns {
            1 => Ok(()),
            columns => write!(f, "x{columns}"),
        }
    }
}

impl std::str::FromStr for Tile {
    type Err = crate::word::WordError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let mut numbers = word.split('x').map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok);
        let tile = match (next(), next()) {
            (Some(workgroup), Some(lanes)) => Self::new(workgroup, lanes),
            _ => {
                return Err(Self::Err::new(
                    "tile",
                    word,
                    "a tile such as 256x32 or 8x8x4",
                ));
            }
        };
        match (numbers.next(), numbers.next()) {
            (None, _) => Ok(tile),
            (Some(Ok(columns)), None) => Ok(tile.columns(columns)),
            _ => Err(Self::Err::new(
                "tile",
                word,
                "a tile such as 256x32 or 8x8x4",
            )),
        }
    }
}
