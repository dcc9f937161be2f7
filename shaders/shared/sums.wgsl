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

// A partial in memory has so many fields of four components. In arrays there is room for those of any
// monoid, so that code for all of them needs no loop: a local array with an index that is not constant is
// memory, and on software adapters slow memory.
const FIELDS = 2u;

fn fields_of(p: Partial) -> array<vec4<f32>, 4> {
    return array(p.dy, p.x_hat_dy, vec4(0.0), vec4(0.0));
}

fn partial_of(fields: array<vec4<f32>, 4>) -> Partial {
    return Partial(fields[0], fields[1]);
}
