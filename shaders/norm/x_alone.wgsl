// The input.

#import layout
#import element
#bind read x: array<StorageVector>

fn x_stored(at: Place) -> StorageVector {
    return x[at.vector];
}

fn x_at(vector: u32) -> StorageVector {
    return x[vector];
}
