// Several units share a parameter: their sums wait at the head of scratch memory for the kernel that adds them.

#import monoid
#bind write scratch: array<Entry>

fn write_unit_gradients(index: u32, total: Partial, c: u32) {
    scratch[index] = Entry(total.g[c], total.x_hat_g[c]);
}
