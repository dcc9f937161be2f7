// Softmax and cross-entropy, the mean over the whole batch, with the gradient. One invocation judges one
// image.

override classes: u32; // the digits there are
override whole: u32; // images of the whole batch, of which these may be a part

struct Score {
    loss: f32,
    correct: f32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [image][classes]
@group(0) @binding(1) var<storage, read> labels: array<u32>; // of the whole data set
@group(0) @binding(2) var<storage, read> indices: array<u32>; // of the batch's images
// One for each place in the batch, so that batch after batch can be added up without atomics.
@group(0) @binding(3) var<storage, read_write> scores: array<Score>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>; // [image][classes]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let images = arrayLength(&indices);
    if id.x >= images {
        return;
    }
    let first = id.x * classes;
    let label = labels[indices[id.x]];

    var likeliest = 0u;
    for (var digit = 1u; digit < classes; digit++) {
        if logits[first + digit] > logits[first + likeliest] {
            likeliest = digit;
        }
    }
    // exp of anything else could overflow.
    let largest = logits[first + likeliest];
    var sum = 0.0;
    for (var digit = 0u; digit < classes; digit++) {
        sum += exp(logits[first + digit] - largest);
    }
    for (var digit = 0u; digit < classes; digit++) {
        let probability = exp(logits[first + digit] - largest) / sum;
        dlogits[first + digit] = (probability - select(0.0, 1.0, digit == label)) / f32(whole);
    }
    scores[id.x].loss += log(sum) + largest - logits[first + label];
    scores[id.x].correct += select(0.0, 1.0, likeliest == label);
}
