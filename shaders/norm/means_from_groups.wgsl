// The means that dx needs, from the sums of groups: pairs behind those of channels in scratch memory.

#import params
#import layout
#import backward_coefficients
#import grouped
#bind read scratch: array<vec2<f32>>

fn stored_means(index: vec4<u32>) -> Means {
    let share = params.reduction.inverse_count;
    let at = params.geometry.statistics + saved_index(index);
    let first = scratch[at.x];
    if COMPONENTS_SHARE {
        return Means(first.xxxx * share, first.yyyy * share);
    }
    let second = scratch[at.y];
    let third = scratch[at.z];
    let fourth = scratch[at.w];
    return Means(
        vec4(first.x, second.x, third.x, fourth.x) * share,
        vec4(first.y, second.y, third.y, fourth.y) * share,
    );
}
