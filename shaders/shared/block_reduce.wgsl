// The only tree reduction and the only workgroup memory.
//
// `monoid` is bound to the file that defines Partial, identity and combine, `slot` to what of a Partial is
// handed on: all four components, or where they belong to one channel their combination.

#import workgroup
#import slot

var<workgroup> block: array<Slot, WORKGROUP>;

// Combines the values of all lanes that share `lane % width` and returns the result to each of them.
// `width` is a power of two, at most WORKGROUP. The tree is fixed, so the bits of the result are too.
//
// Contract: every invocation of the workgroup calls this, in uniform control flow, and at most once unless
// `width` is WORKGROUP. Then a lane's value is its result.
fn block_reduce(lane: u32, value: Partial, width: u32) -> Partial {
    let mine = lane_total(value);
    if width == WORKGROUP {
        return mine;
    }
    block[lane] = slot_of(mine);
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half >= width; half /= 2u) {
        if lane < half {
            block[lane] = slot_of(combine(value_of(block[lane]), value_of(block[lane + half])));
        }
        workgroupBarrier();
    }
    return value_of(block[lane % width]);
}
