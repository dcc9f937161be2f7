// Four channels, stored as bf16: the upper half of an f32.
alias Stored = vec2u;

fn load(stored: Stored) -> vec4f {
    let halves = vec4u(stored.x << 16, stored.x, stored.y << 16, stored.y);
    return bitcast<vec4f>(halves & vec4u(0xffff0000u));
}

fn store(values: vec4f) -> Stored {
    // To the nearest, ties to even.
    let bits = bitcast<vec4u>(values);
    let rounded = (bits + 0x7fffu + (bits >> vec4u(16) & vec4u(1))) >> vec4u(16);
    return rounded.xz | rounded.yw << vec2u(16);
}

