// Four channels, stored as f16.
alias Stored = vec2u;

fn load(stored: Stored) -> vec4f {
    return vec4f(unpack2x16float(stored.x), unpack2x16float(stored.y));
}

fn store(values: vec4f) -> Stored {
    return vec2u(pack2x16float(values.xy), pack2x16float(values.zw));
}

