// The means that dx needs, from the sums of all values that share statistics: pairs at the head of scratch memory.

#import params
#import layout
#import backward_coefficients
#bind read scratch: array<vec2<f32>>

fn stored_means(index: vec4<u32>) -> Means {
    let share = params.reduction.inverse_count;
    let first = scratch[index.x];
    if COMPONENTS_SHARE {
        return Means(first.xxxx * share, first.yyyy * share);
    }
    let second = scratch[index.y];
    let third = scratch[index.z];
    let fourth = scratch[index.w];
    return Means(
        vec4(first.x, second.x, third.x, fourth.x) * share,
        vec4(first.y, second.y, third.y, fourth.y) * share,
    );
}
