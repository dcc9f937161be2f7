// The monoid of the backward pass: two sums, four independent components at a time.

struct Partial {
    // Sum of dy.
    dy: vec4<f32>,
    // Sum of x_hat * dy.
    x_hat_dy: vec4<f32>,
}

fn identity() -> Partial {
    return Partial(vec4(0.0), vec4(0.0));
}

fn combine(a: Partial, b: Partial) -> Partial {
    return Partial(a.dy + b.dy, a.x_hat_dy + b.x_hat_dy);
}

// The four components combined into one, which then stands in all four.
fn fold(p: Partial) -> Partial {
    let pairs = combine(p, Partial(p.dy.zwxy, p.x_hat_dy.zwxy));
    let all = combine(pairs, Partial(pairs.dy.yxwz, pairs.x_hat_dy.yxwz));
    return Partial(vec4(all.dy.x), vec4(all.x_hat_dy.x));
}

// One component in memory: dy, x_hat_dy.
alias Entry = vec2<f32>;

fn entries_of(p: Partial) -> array<Entry, 4> {
    return array<Entry, 4>(
        vec2(p.dy.x, p.x_hat_dy.x),
        vec2(p.dy.y, p.x_hat_dy.y),
        vec2(p.dy.z, p.x_hat_dy.z),
        vec2(p.dy.w, p.x_hat_dy.w),
    );
}

fn partial_of(entries: array<Entry, 4>) -> Partial {
    return Partial(
        vec4(entries[0].x, entries[1].x, entries[2].x, entries[3].x),
        vec4(entries[0].y, entries[1].y, entries[2].y, entries[3].y),
    );
}
