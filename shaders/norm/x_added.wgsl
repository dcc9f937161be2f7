// The sum of input and residual, rounded as it is stored. The pass that reads a vector first writes its sum.

#import layout
#import element
#bind read x: array<StorageVector>
#bind read residual: array<StorageVector>
#bind write added: array<StorageVector>

fn x_stored(at: Place) -> StorageVector {
    let sum = encode(decode(x[at.vector]) + decode(residual[at.vector]));
    if at.owned {
        added[at.vector] = sum;
    }
    return sum;
}

fn x_at(vector: u32) -> StorageVector {
    return added[vector];
}
