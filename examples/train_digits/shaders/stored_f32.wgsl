// Four channels, stored as f32.
alias Stored = vec4f;

fn load(stored: Stored) -> vec4f {
    return stored;
}

fn store(values: vec4f) -> Stored {
    return values;
}

