// Partial results of the backward pass: two sums, for four independent components at a time.

struct Partial {
    // Of the gradient g of the normalized values.
    g: vec4<f32>,
    // Of x_hat * g.
    x_hat_g: vec4<f32>,
}

fn identity() -> Partial {
    return Partial(vec4(0.0), vec4(0.0));
}

fn combine(a: Partial, b: Partial) -> Partial {
    return Partial(a.g + b.g, a.x_hat_g + b.x_hat_g);
}

// The four components combined into one. All four components of the result are equal.
fn fold(p: Partial) -> Partial {
    let pairs = combine(p, Partial(p.g.zwxy, p.x_hat_g.zwxy));
    let all = combine(pairs, Partial(pairs.g.yxwz, pairs.x_hat_g.yxwz));
    return Partial(vec4(all.g.x), vec4(all.x_hat_g.x));
}

// One component in memory: g, x_hat_g.
alias Entry = vec2<f32>;

fn entries_of(p: Partial) -> array<Entry, 4> {
    return array<Entry, 4>(
        vec2(p.g.x, p.x_hat_g.x),
        vec2(p.g.y, p.x_hat_g.y),
        vec2(p.g.z, p.x_hat_g.z),
        vec2(p.g.w, p.x_hat_g.w),
    );
}

fn partial_of(entries: array<Entry, 4>) -> Partial {
    return Partial(
        vec4(entries[0].x, entries[1].x, entries[2].x, entries[3].x),
        vec4(entries[0].y, entries[1].y, entries[2].y, entries[3].y),
    );
}
