// Which values an invocation visits.
//
// A tensor is cut into units (one channel, or a strip of columns), a unit into items, the items into
// chunks. A workgroup takes one chunk of one unit. Its lanes stand `width` across; the rows of lanes
// form groups of `step`, and each group walks a contiguous tile of the chunk, `step` items at a time:
// neighbouring lanes read neighbouring vectors, and a group that runs alone for a while, as on a
// software adapter, still walks memory in order. There a lane may take several columns of a row, so that
// the group walks whole rows.
//
// The kernel declares `params`, with a field `geometry`. What an item is, `layout` says.

// True where a vector may hold values of two channels or none, or stand outside what is bound. Where it
// is false, every place within a lane's tile is four values of the lane's own channels.
override MASKED: bool = true;

// Lanes across, a power of two.
override WIDTH: u32 = 1;

struct Geometry {
    channels: u32,
    // N * C * S
    elements: u32,
    units: u32,
    // Items in a chunk.
    chunk: u32,
    // Items in a tile.
    tile: u32,
    // The items of this dispatch.
    item_begin: u32,
    item_end: u32,
    // Kernels know it as WIDTH.
    width: u32,
    // Rows of lanes that walk one tile together.
    step: u32,
    // Vectors that an item counts through: of a plane's window, or of a row of columns.
    span: u32,
    // step / span and step % span.
    step_samples: u32,
    step_offset: u32,
    // Neighbouring values of one channel.
    plane: u32,
    // The vectors that are bound in this dispatch.
    vector_begin: u32,
    vector_end: u32,
    // Vector columns of each lane, WIDTH apart. Kernels know it as COLUMNS.
    columns: u32,
}

struct Walk {
    unit: u32,
    chunk: u32,
    // The lane's place across.
    column: u32,
    // The lane's first item, and the end of its tile.
    item: u32,
    end: u32,
}

// Grids above the limit of one dimension are folded into two.
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

fn in_grid(work: u32) -> bool {
    let chunk = work / params.geometry.units;
    return params.geometry.item_begin + chunk * params.geometry.chunk < params.geometry.item_end;
}

// The lane's share, before `layout` has looked whether there are values at its place across.
fn share(work: u32, lane: u32) -> Walk {
    let chunk = work / params.geometry.units;
    let row = lane / WIDTH;
    let chunk_begin = params.geometry.item_begin + chunk * params.geometry.chunk;
    let tile_begin = chunk_begin + row / params.geometry.step * params.geometry.tile;
    return Walk(
        work % params.geometry.units,
        chunk,
        lane % WIDTH,
        tile_begin + row % params.geometry.step,
        min(
            tile_begin + params.geometry.tile,
            min(chunk_begin + params.geometry.chunk, params.geometry.item_end),
        ),
    );
}

// The items on a lane's walk.
fn items(walk: Walk) -> u32 {
    return (max(walk.end, walk.item) - walk.item + params.geometry.step - 1u) / params.geometry.step;
}

// What a lane finds at one step of its walk.
struct Place {
    // Index into the bound vectors.
    vector: u32,
    // The components that are values of the lane's own channels.
    inside: vec4<bool>,
    // The components that are values of the channels after those.
    beyond: vec4<bool>,
    // Whether an elementwise pass writes this vector here: each vector has one owner.
    owned: bool,
}
