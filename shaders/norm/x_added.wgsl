// The sum of input and residual, rounded as it is stored. The pass that reads a vector first writes its sum, and later passes
// read that.

#import layout
#import element
#bind read x: array<StorageVector>
#bind read residual: array<StorageVector>
#bind write added: array<StorageVector>

fn load_x_first(at: Place) -> StorageVector {
    let sum = encode(decode(x[at.vector]) + decode(residual[at.vector]));
    if at.owned {
        added[at.vector] = sum;
    }
    return sum;
}

fn load_x(vector: u32) -> StorageVector {
    return added[vector];
}
