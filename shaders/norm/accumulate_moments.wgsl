// The moments of the values in a lane's range, for each of its columns.
//
// Values are taken in blocks. Within a block the sums of the differences from a pivot and of their squares grow: three
// operations a value. After it the pivot moves to the mean. The first value is a block of its own and the first pivot,
// and blocks grow with what has been seen: whatever the first value is, the mean is between all values soon.

#import params
#import layout
#import x
#import element
#import monoid
#import settle

// The most items of a block. More would lose digits of the sums, and fewer would cost time.
const BLOCK = 16u;

// The sums of a block.
struct Block {
    // Of the differences from the pivot, and of their squares.
    sum: vec4<f32>,
    squares: vec4<f32>,
    // The values counted, if some are masked.
    count: vec4<f32>,
}

// Adds a vector to a block.
fn with_vector(block: Block, pivot: vec4<f32>, value: vec4<f32>) -> Block {
    let d = value - pivot;
    return Block(block.sum + d, block.squares + d * d, block.count);
}

// Adds four vectors.
fn with_four(block: Block, pivot: vec4<f32>, values: array<vec4<f32>, 4>) -> Block {
    let d0 = values[0] - pivot;
    let d1 = values[1] - pivot;
    let d2 = values[2] - pivot;
    let d3 = values[3] - pivot;
    return Block(
        block.sum + ((d0 + d1) + (d2 + d3)),
        block.squares + ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)),
        block.count,
    );
}

// The same where components are masked: they are selected away, not multiplied by zero, because they may be NaN.
fn with_masked(block: Block, pivot: vec4<f32>, value: vec4<f32>, inside: vec4<bool>) -> Block {
    let d = select(vec4(0.0), value - pivot, inside);
    return Block(block.sum + d, block.squares + d * d, block.count + vec4<f32>(inside));
}

// Moments of a long walk: `m2_low` is what does not fit `m2`.
struct LongMoments {
    total: Partial,
    m2_low: vec4<f32>,
}

// Adds a block, whose pivot is the total's. It has at most as many values as the total, unless that has none.
//
// Let e = sum - count * offset be the sum of the block's deviations from the mean before. The mean moves by
// e / (count before + count), and the squared deviations grow by squares - offset * (sum + e) - e * move. The last term
// is at most half of the squares, so that little cancels.
fn with_block(moments: LongMoments, block: Block) -> LongMoments {
    let total = moments.total;
    let count = total.count + block.count;
    let deviations = block.sum - block.count * total.offset;
    let way = deviations / max(count, vec4(1.0));
    let correction = total.offset * (block.sum + deviations) + deviations * way;
    let mean = settled(total.pivot, total.offset + way);
    let m2 = settled(total.m2, moments.m2_low + corrected(block.squares, correction));
    return LongMoments(Partial(mean.high, mean.low, m2.high, count), m2.low);
}

// The total with m2 in one f32.
fn whole_moments(moments: LongMoments) -> Partial {
    let total = moments.total;
    // An infinite sum has no rest.
    let m2 = total.m2 + select(moments.m2_low, vec4(0.0), infinite(total.m2));
    return Partial(total.pivot, total.offset, m2, total.count);
}

fn accumulate_moments(range: LaneRange, totals: ptr<function, array<Partial, COLUMNS>>) {
    // Without a loop where one call is enough: drivers do not unroll a loop as long as this, not even one of one round.
    if COLUMNS_TOGETHER == COLUMNS {
        accumulate_columns(range, 0u, totals);
        return;
    }
    for (var first_column = 0u; first_column < COLUMNS; first_column += COLUMNS_TOGETHER) {
        accumulate_columns(range, first_column, totals);
    }
}

// The moments of the columns that are read together, from the first one on.
fn accumulate_columns(range: LaneRange, first_column: u32, totals: ptr<function, array<Partial, COLUMNS>>) {
    let team_rows = params.geometry.team_rows;
    var moments: array<LongMoments, COLUMNS_TOGETHER>;
    for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
        moments[j] = LongMoments(identity(), vec4(0.0));
    }
    var cursor = cursor_at(range);
    var item = range.item;
    if !MASKED && item < range.end {
        for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
            moments[j].total.pivot = decode(load_x_first(place(range, cursor, first_column + j)));
        }
    }
    // Items seen.
    var seen = 0u;
    while item < range.end {
        let size = clamp(seen, 1u, BLOCK);
        let end = min(item + size * team_rows, range.end);
        seen += size;
        var blocks: array<Block, COLUMNS_TOGETHER>;
        for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
            blocks[j] = Block(vec4(0.0), vec4(0.0), vec4(0.0));
        }
        let first = item;
        // Neighbours in memory are best read row by row. Four rows of more than 4 columns do not fit registers.
        if !MASKED && COLUMNS_TOGETHER <= 4u {
            for (; item + 3u * team_rows < end; item += 4u * team_rows) {
                var rows: array<array<vec4<f32>, 4>, COLUMNS_TOGETHER>;
                for (var r = 0u; r < 4u; r++) {
                    for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
                        rows[j][r] = decode(load_x_first(place(range, cursor, first_column + j)));
                    }
                    cursor = cursor_next(cursor);
                }
                for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
                    blocks[j] = with_four(blocks[j], moments[j].total.pivot, rows[j]);
                }
            }
        }
        // Four loads at a time here, too, once all components have a pivot.
        if MASKED && COLUMNS_TOGETHER == 1u && all(moments[0].total.count > vec4(0.0)) {
            for (; item + 3u * team_rows < end; item += 4u * team_rows) {
                var inside: array<vec4<bool>, 4>;
                var stored: array<StorageVector, 4>;
                for (var r = 0u; r < 4u; r++) {
                    let at = place(range, cursor, first_column);
                    inside[r] = at.inside;
                    stored[r] = load_x_first(at);
                    cursor = cursor_next(cursor);
                }
                for (var r = 0u; r < 4u; r++) {
                    blocks[0] = with_masked(blocks[0], moments[0].total.pivot, decode(stored[r]), inside[r]);
                }
            }
        }
        for (; item < end; item += team_rows) {
            for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
                let at = place(range, cursor, first_column + j);
                let value = decode(load_x_first(at));
                if MASKED {
                    // The first value that counts is the first pivot.
                    let fresh = (moments[j].total.count + blocks[j].count) == vec4(0.0);
                    moments[j].total.pivot = select(moments[j].total.pivot, value, fresh & at.inside);
                    blocks[j] = with_masked(blocks[j], moments[j].total.pivot, value, at.inside);
                } else {
                    blocks[j] = with_vector(blocks[j], moments[j].total.pivot, value);
                }
            }
            cursor = cursor_next(cursor);
        }
        // The items of the block.
        let count = f32((item - first) / team_rows);
        for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
            if !MASKED {
                blocks[j].count = vec4(count);
            }
            moments[j] = with_block(moments[j], blocks[j]);
        }
    }
    for (var j = 0u; j < COLUMNS_TOGETHER; j++) {
        (*totals)[first_column + j] = whole_moments(moments[j]);
    }
}
