// Which saved statistic a value has, by the index of its own division of the tensor.

#import params

// Whether several neighbours of the division share a saved statistic: channels that of their group.
override GROUPED: bool = false;

fn saved_index(index: vec4<u32>) -> vec4<u32> {
    if GROUPED {
        return index / (params.geometry.statistics / params.geometry.saved_statistics);
    }
    return index;
}
