// The sum of input and residual, which an earlier kernel has written.

#import layout
#import element
#bind read added: array<StorageVector>

fn x_stored(at: Place) -> StorageVector {
    return added[at.vector];
}

fn x_at(vector: u32) -> StorageVector {
    return added[vector];
}
