// The only tree reduction and the only workgroup memory.
//
// The file in slot `monoid` defines the partial results and how two of them combine. The file in slot `exchange` defines
// what of a partial result the lanes exchange: all four components, or their combination if they share statistics.

#import grid
#import exchange

var<workgroup> block: array<Exchanged, WORKGROUP>;

// Combines the values of all lanes with the same `lane % WIDTH`, and returns the result to each of them. The tree is
// fixed, and so are the bits of the result.
//
// Contract: every lane of the workgroup calls this in uniform control flow, and between two calls there is a barrier, unless
// WIDTH is WORKGROUP. Then the value of a lane is its result.
fn block_reduce(lane: u32, value: Partial) -> Partial {
    let mine = lane_total(value);
    if WIDTH == WORKGROUP {
        return mine;
    }
    block[lane] = exchanged_of(mine);
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half >= WIDTH; half /= 2u) {
        if lane < half {
            block[lane] = exchanged_of(combine(value_of(block[lane]), value_of(block[lane + half])));
        }
        workgroupBarrier();
    }
    return value_of(block[lane % WIDTH]);
}
