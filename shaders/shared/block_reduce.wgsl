// The only tree reduction and the only workgroup memory.
//
// `monoid` is bound to the file that defines Partial, identity and combine.

#import workgroup
#import monoid

var<workgroup> block: array<Partial, WORKGROUP>;

// Combines the values of all lanes that share `lane % width` and returns the result to each of them.
// `width` is a power of two, at most WORKGROUP. The tree is fixed, so the bits of the result are too.
//
// Contract: every invocation of the workgroup calls this, in uniform control flow, and at most once.
fn block_reduce(lane: u32, value: Partial, width: u32) -> Partial {
    block[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half >= width; half /= 2u) {
        if lane < half {
            block[lane] = combine(block[lane], block[lane + half]);
        }
        workgroupBarrier();
    }
    return block[lane % width];
}
