// The only tree reduction and the only workgroup memory.
//
// `monoid` is bound to the file that defines Partial, identity and combine, `slot` to what of a Partial is
// handed on: all four components, or where they belong to one channel their combination.

#import walk
#import workgroup
#import slot

var<workgroup> block: array<Slot, WORKGROUP>;

// Combines the values of all lanes that share `lane % WIDTH` and returns the result to each of them.
// The tree is fixed, so the bits of the result are too.
//
// Contract: every invocation of the workgroup calls this, in uniform control flow, and at most once unless
// WIDTH is WORKGROUP. Then a lane's value is its result.
fn block_reduce(lane: u32, value: Partial) -> Partial {
    let mine = lane_total(value);
    if WIDTH == WORKGROUP {
        return mine;
    }
    block[lane] = slot_of(mine);
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half >= WIDTH; half /= 2u) {
        if lane < half {
            block[lane] = slot_of(combine(value_of(block[lane]), value_of(block[lane + half])));
        }
        workgroupBarrier();
    }
    return value_of(block[lane % WIDTH]);
}
