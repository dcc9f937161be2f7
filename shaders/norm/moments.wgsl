// Partial results of the forward pass: mean and squared deviations, for four independent components at a time.
//
// The mean is `pivot + offset`. The pivot is the mean rounded to f32, so that values near it subtract exactly: a mean far
// from zero costs neither the mean nor the deviations digits, and neither does a value far from all others, wherever it
// stands.

#import settle

struct Partial {
    // At most one unit of the last place from the mean.
    pivot: vec4<f32>,
    // mean - pivot
    offset: vec4<f32>,
    // Sum of squared deviations from the mean.
    m2: vec4<f32>,
    count: vec4<f32>,
}

fn identity() -> Partial {
    return Partial(vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
}

// By Chan, Golub and LeVeque (1979). Either side may be the identity.
fn combine(a: Partial, b: Partial) -> Partial {
    let count = a.count + b.count;
    // The mean moves from the side with more values, which is nearer to it, by at most half of the way.
    let swap = b.count > a.count;
    let pivot = select(a.pivot, b.pivot, swap);
    let offset = select(a.offset, b.offset, swap);
    let fewer = select(b.count, a.count, swap);
    let way = (select(b.pivot, a.pivot, swap) - pivot) + (select(b.offset, a.offset, swap) - offset);
    let delta = select(way, vec4(0.0), fewer == vec4(0.0));
    // max: two identities make the identity, not 0/0.
    let share = fewer / max(count, vec4(1.0));
    let m2 = a.m2 + b.m2 + delta * delta * ((count - fewer) * share);
    let mean = settled(pivot, offset + delta * share);
    return Partial(mean.high, mean.low, m2, count);
}

// The four components combined into one. All four components of the result are equal.
fn fold(p: Partial) -> Partial {
    let pairs = combine(p, Partial(p.pivot.zwxy, p.offset.zwxy, p.m2.zwxy, p.count.zwxy));
    let all = combine(
        pairs,
        Partial(pairs.pivot.yxwz, pairs.offset.yxwz, pairs.m2.yxwz, pairs.count.yxwz),
    );
    return Partial(vec4(all.pivot.x), vec4(all.offset.x), vec4(all.m2.x), vec4(all.count.x));
}

// One component in memory: pivot, offset, m2, count.
alias Entry = vec4<f32>;

fn entries_of(p: Partial) -> array<Entry, 4> {
    return array<Entry, 4>(
        vec4(p.pivot.x, p.offset.x, p.m2.x, p.count.x),
        vec4(p.pivot.y, p.offset.y, p.m2.y, p.count.y),
        vec4(p.pivot.z, p.offset.z, p.m2.z, p.count.z),
        vec4(p.pivot.w, p.offset.w, p.m2.w, p.count.w),
    );
}

fn partial_of(entries: array<Entry, 4>) -> Partial {
    return Partial(
        vec4(entries[0].x, entries[1].x, entries[2].x, entries[3].x),
        vec4(entries[0].y, entries[1].y, entries[2].y, entries[3].y),
        vec4(entries[0].z, entries[1].z, entries[2].z, entries[3].z),
        vec4(entries[0].w, entries[1].w, entries[2].w, entries[3].w),
    );
}
