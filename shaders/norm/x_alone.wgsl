// The input. As in all files of the slot, both functions return a vector as it is stored: `load_x_first` is for the forward
// pass that reads it first, `load_x` for all that come after.

#import layout
#import element
#bind read x: array<StorageVector>

fn load_x_first(at: Place) -> StorageVector {
    return x[at.vector];
}

fn load_x(vector: u32) -> StorageVector {
    return x[vector];
}
