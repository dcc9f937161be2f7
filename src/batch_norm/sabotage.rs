//! Are the checks able to fail? Each mutant of a shader must turn a case red.

use std::sync::Mutex;

use super::cases::cases;
use super::check::side_by_side;
use super::params::Params;
use crate::gpu::compose::{Source, compose};
use crate::gpu::program::Program;
use crate::gpu::{Kernels, test_gpu};
use crate::shared;

/// A file, a piece of its text, what takes its place, and what that breaks.
struct Mutant(&'static str, &'static str, &'static str, &'static str);

const MUTANTS: &[Mutant] = &[
    Mutant(
        "block_reduce",
        "= slot_of(mine);\n    workgroupBarrier();",
        "= slot_of(mine);",
        "lanes read before their neighbours have written",
    ),
    Mutant(
        "block_reduce",
        "        }\n        workgroupBarrier();",
        "        }",
        "levels of the tree overtake each other",
    ),
    Mutant(
        "block_reduce",
        "half >= WIDTH",
        "half > WIDTH",
        "the last level is skipped",
    ),
    Mutant(
        "block_reduce",
        "lane % WIDTH",
        "0u",
        "every column gets the first one's total",
    ),
    Mutant(
        "moments",
        " + delta * delta * (a.count * share)",
        "",
        "means apart do not spread",
    ),
    Mutant(
        "moments",
        "offset + delta * share",
        "offset + delta * 0.5",
        "counts do not weigh",
    ),
    Mutant(
        "moments",
        "(b.pivot - pivot) + ",
        "",
        "pivots are taken for equal",
    ),
    Mutant(
        "sums",
        "a.x_hat_dy + b.x_hat_dy",
        "a.x_hat_dy",
        "half of dweight is lost",
    ),
    Mutant(
        "walk",
        "min(\n            tile_begin + params.geometry.tile,",
        "min(\n            tile_begin + params.geometry.tile - params.geometry.step,",
        "the last step of a tile is skipped",
    ),
    Mutant(
        "walk",
        "row / params.geometry.step * params.geometry.tile",
        "0u",
        "all teams walk the first tile",
    ),
    Mutant(
        "layout_planes",
        "(element >= vec4(begin)) & ",
        "",
        "the plane before is counted in",
    ),
    Mutant(
        "layout_planes",
        "(element < vec4(end)) & ",
        "",
        "the plane after is counted in",
    ),
    Mutant(
        "layout_planes",
        "        element >= vec4(end),",
        "        vec4(false),",
        "a shared vector is all one channel's",
    ),
    Mutant(
        "layout_planes",
        "bound && element.x >= begin",
        "bound",
        "a shared vector has two owners",
    ),
    Mutant(
        "layout_planes",
        " + u32(wraps)",
        "",
        "a walk stays in its sample",
    ),
    Mutant(
        "layout_planes",
        " && vector < params.geometry.vector_end",
        "",
        "windows overlap",
    ),
    Mutant(
        "layout_columns",
        "(element < vec4(params.geometry.elements)) & ",
        "",
        "padding is counted in",
    ),
    Mutant(
        "layout_columns",
        "element / plane;",
        "element;",
        "small planes are taken for channels",
    ),
    Mutant(
        "layout_columns",
        "vector_column(walk, j) < params.geometry.span",
        "true",
        "lanes beyond the row settle its first channels again",
    ),
    Mutant(
        "layout_columns",
        "        && vector >= params.geometry.vector_begin\n",
        "",
        "windows overlap",
    ),
    Mutant(
        "layout_columns",
        "walk.unit * COLUMNS + j",
        "walk.unit + j",
        "strips overlap",
    ),
    Mutant(
        "layout_columns",
        "cursor.vector + select(0u, j * WIDTH, there)",
        "cursor.vector",
        "a lane's columns are all the first",
    ),
    Mutant(
        "layout_columns",
        "COLUMNS == 1u || has_values(walk, j)",
        "true",
        "columns beyond the row are the next row's",
    ),
    Mutant(
        "walk",
        "params.geometry.step - 1u",
        "0u",
        "the last vector is not kept",
    ),
    Mutant(
        "forward_resident",
        "sum / f32(max(mine, 1u))",
        "sum",
        "a sum for a mean",
    ),
    Mutant(
        "forward_resident",
        "m2 += deviation * deviation",
        "m2 = deviation * deviation",
        "the last vector's deviation stands for all",
    ),
    Mutant(
        "forward_resident",
        "decode(kept[i]), own",
        "decode(kept[0]), own",
        "one vector is normalized again and again",
    ),
    Mutant(
        "backward_resident",
        "encode(gradient)",
        "encode(value)",
        "x is kept for dy",
    ),
    Mutant(
        "settle_unit",
        "settle(unit_channels.w, total, statistics, 3u)",
        "settle(unit_channels.w, total, statistics, 2u)",
        "a channel gets its neighbour's statistics",
    ),
    Mutant(
        "backward_settle_unit",
        "settle_backward(unit_channels.w, total, 3u)",
        "settle_backward(unit_channels.w, total, 2u)",
        "a channel gets its neighbour's gradients",
    ),
    Mutant(
        "slot_channel",
        "return fold(value);",
        "return value;",
        "one component of four stands for the channel",
    ),
    Mutant(
        "collect",
        "total.m2 + delta * delta * (count * share)",
        "total.m2 + delta * delta",
        "single vectors weigh too much",
    ),
    Mutant(
        "collect",
        "count += 1.0;",
        "",
        "single vectors are not counted",
    ),
    Mutant(
        "collect",
        "vec4<f32>(inside[2]) + vec4<f32>(inside[3])",
        "vec4<f32>(inside[2])",
        "a value is not counted",
    ),
    Mutant(
        "collect",
        "item + 3u * step < walk.end",
        "item < walk.end",
        "a tile runs into the next",
    ),
    Mutant(
        "collect",
        "select(zero, values[1] - pivot, inside[1])",
        "values[1] - pivot",
        "masked values count",
    ),
    Mutant(
        "backward_collect",
        "item + 3u * step < walk.end",
        "item < walk.end",
        "a tile runs into the next",
    ),
    Mutant(
        "backward_collect",
        "sums_of(p1, (*own)[0])",
        "sums_of(p0, (*own)[0])",
        "every second vector is taken twice",
    ),
    Mutant(
        "backward_collect",
        "select(vec4(0.0), gradient, at.inside)",
        "gradient",
        "masked gradients count",
    ),
    Mutant(
        "relu",
        "select(vec4(0.0), values, passes(values))",
        "values",
        "nothing is cut off",
    ),
    Mutant(
        "relu",
        "0x7fffffffu);\n    return",
        "0x3f800000u);\n    return",
        "large values are cut off",
    ),
    Mutant(
        "epilogue_relu",
        "relu(normalized)",
        "normalized",
        "the epilogue is forgotten",
    ),
    Mutant(
        "epilogue_add_relu",
        "normalized + decode(residual[vector])",
        "normalized",
        "the residual is forgotten",
    ),
    Mutant(
        "epilogue_add_relu",
        "relu(normalized + decode(residual[vector]))",
        "relu(normalized) + decode(residual[vector])",
        "added after ReLU",
    ),
    Mutant(
        "incoming_relu",
        "passes(normalized(x, c))",
        "passes(x)",
        "the gradient passes where x does",
    ),
    Mutant(
        "incoming_add_relu",
        "encode(gradient)",
        "encode(dy_at(at.vector))",
        "the residual's gradient is not cut off",
    ),
    Mutant(
        "element_f32_wide",
        "bits.yw",
        "bits.xz",
        "of four values, two are written twice",
    ),
    Mutant(
        "element_f32_wide",
        "vec4(low.x, high.x, low.y, high.y)",
        "vec4(low.x, low.y, high.x, high.y)",
        "the halves of words are mixed up",
    ),
    Mutant(
        "element_f16",
        " + vec4(0xfffu)",
        "",
        "f16 is cut off, not rounded",
    ),
    Mutant(
        "element_bf16",
        " + vec4(0x7fffu)",
        "",
        "bf16 is cut off, not rounded",
    ),
    Mutant(
        "element_f16",
        "halves.z | (halves.w << 16u)",
        "halves.w | (halves.z << 16u)",
        "halves change places",
    ),
    Mutant(
        "backward_frozen",
        "outgoing(values, gradient, c)",
        "gradient",
        "dx is dy",
    ),
    Mutant(
        "backward_frozen",
        "choose_backward(own[j], beyond, at.beyond)",
        "own[j]",
        "the neighbour gets the wrong factor",
    ),
    Mutant(
        "backward_settle",
        "if has(ACCUMULATE) {",
        "if false {",
        "gradients are not added",
    ),
    Mutant(
        "backward_settle",
        "if has(ACCUMULATE) {",
        "if true {",
        "gradients are always added",
    ),
    Mutant(
        "standardize",
        "variance + params.eps",
        "variance",
        "eps is forgotten",
    ),
    Mutant(
        "standardize",
        "inverseSqrt(positive)",
        "inverseSqrt(positive - params.eps)",
        "eps is half forgotten",
    ),
    Mutant(
        "standardize",
        " - statistics.residual)",
        ")",
        "the rounding of the mean is forgotten",
    ),
    Mutant(
        "known_statistics",
        "inverse_std(statistics_row(1u, channels))",
        "statistics_row(1u, channels)",
        "variance for deviation",
    ),
    Mutant(
        "known_statistics",
        "row * params.geometry.channels",
        "row",
        "rows overlap",
    ),
    Mutant(
        "settle",
        "max(total.count[c] - 1.0, 1.0)",
        "total.count[c]",
        "biased for unbiased",
    ),
    Mutant(
        "settle",
        "momentum * unbiased",
        "momentum * statistics.mean[c]",
        "mean for variance",
    ),
    Mutant(
        "settle",
        "select(params.momentum, 1.0 / f32(batches), has(CUMULATIVE))",
        "params.momentum",
        "no cumulative average",
    ),
    Mutant(
        "settle",
        "(1.0 - momentum) * old_mean + momentum * statistics.mean[c]",
        "momentum * old_mean + (1.0 - momentum) * statistics.mean[c]",
        "momentum the other way round",
    ),
    Mutant(
        "settle",
        "running[2u * channels + channel] = batches;",
        "",
        "batches are not counted",
    ),
    Mutant(
        "affine",
        "select(0u, params.geometry.channels, has(HAS_WEIGHT))",
        "0u",
        "weight for bias",
    ),
    Mutant(
        "coefficients",
        " * c.scale + c.bias",
        " * c.scale",
        "no bias",
    ),
    Mutant(
        "coefficients",
        "select(own.mean, beyond.mean, which)",
        "own.mean",
        "the neighbour is normalized by the wrong mean",
    ),
    Mutant(
        "coefficients",
        " - statistics.residual * scale",
        "",
        "the rounding of the mean is forgotten",
    ),
    Mutant(
        "backward_coefficients",
        " - x_hat * c.mean_x_hat_g",
        "",
        "dx is not orthogonal to x_hat",
    ),
    Mutant(
        "backward_coefficients",
        "(gradient - c.mean_g)",
        "gradient",
        "dx does not sum to zero",
    ),
    Mutant(
        "coefficients",
        "statistics.inv_std * weights(channels)",
        "statistics.inv_std",
        "dx without weight",
    ),
    Mutant(
        "backward_settle",
        "total.x_hat_dy[c];",
        "total.dy[c];",
        "dbias for dweight",
    ),
    Mutant(
        "backward_settle",
        "channel + select(0u, params.geometry.channels, has(HAS_WEIGHT))",
        "channel",
        "dbias over dweight",
    ),
    Mutant(
        "gather_partials",
        "group += rows",
        "group += 2u * rows",
        "half of the partials are lost",
    ),
    Mutant(
        "gather_partials",
        "group / in_groups",
        "0u",
        "the first chunk stands for all",
    ),
    Mutant(
        "gather_partials",
        "4u * group + steps",
        "steps",
        "the first chunks stand for all",
    ),
    Mutant(
        "gather_partials",
        "+ vec4<u32>(entry >= vec4(2u * plane))",
        "",
        "the third of a row's channels is read as the second",
    ),
    Mutant(
        "store_partial",
        "params.partial_chunk + walk.chunk",
        "walk.chunk",
        "windows overwrite each other's partials",
    ),
    Mutant(
        "finalize",
        "channel < params.geometry.channels {\n        conclude",
        "true {\n        conclude",
        "lanes past the last channel settle",
    ),
    Mutant(
        "parts_moments",
        "index < params.partial_chunk",
        "index % 4u == 0u",
        "one set of four is taken",
    ),
    Mutant(
        "outcome_moments",
        "total.count.x",
        "1.0",
        "parts weigh alike",
    ),
    Mutant(
        "means_sums",
        "max(sum_row(2u, channels), vec4(1.0))",
        "vec4(1.0)",
        "sums for means",
    ),
    Mutant(
        "outcome_sums",
        "total.x_hat_dy.x",
        "total.dy.x",
        "dbias for dweight",
    ),
    Mutant(
        "outcome_gradients",
        " * params.inverse_count",
        "",
        "a sum for a mean",
    ),
];

/// The crate's files with one of them mutated. Leaked: programs hold static sources.
fn mutated(mutant: &Mutant) -> &'static [&'static [Source]] {
    let Mutant(file, from, to, _) = mutant;
    let mut found = 0;
    let folders: Vec<&'static [Source]> = [shared::SOURCES, super::SOURCES]
        .into_iter()
        .map(|folder| {
            let files: Vec<Source> = folder
                .iter()
                .map(|source| {
                    if source.name != *file {
                        return *source;
                    }
                    found += source.text.matches(from).count();
                    let text = source.text.replace(from, to);
                    Source {
                        text: Box::leak(text.into_boxed_str()),
                        ..*source
                    }
                })
                .collect();
            &*Box::leak(files.into_boxed_slice())
        })
        .collect();
    assert!(found > 0, "{file} has no {from:?}");
    Box::leak(folders.into_boxed_slice())
}

/// Whether a file has a part in any of a program's kernels.
fn imports(program: &Program<Params>, file: &str) -> bool {
    program.dispatches.iter().any(|dispatch| {
        let kernel = &dispatch.kernel;
        let text = compose(kernel.name, program.sources, &kernel.choices).expect("a kernel");
        text.contains(&format!("// ==== {file}.wgsl\n"))
    })
}

#[test]
fn every_mutant_is_caught() {
    // A few cases of every kind first, which catch most, and then those that are rare.
    let all = cases();
    let windowed = all.iter().filter(|case| case.is_windowed());
    let few = all.iter().step_by(41).chain(windowed);
    let cases: Vec<_> = few.chain(&all).collect();
    let survivors = Mutex::new(Vec::new());
    side_by_side(MUTANTS, |mutant| {
        let sources = mutated(mutant);
        // Compiled kernels are kept by name, so that each mutant needs its own.
        let kernels = Kernels::new(test_gpu().device()).expect("the test device");
        let caught = cases.iter().any(|case| {
            let program = case
                .program(kernels.caps())
                .filter(|program| imports(program, mutant.0));
            program.is_some_and(|program| {
                let program = Program { sources, ..program };
                case.check_on_device(&kernels, &program).is_err()
            })
        });
        if !caught {
            survivors.lock().unwrap().push((mutant.0, mutant.3));
        }
        caught
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "not caught: {survivors:#?}");
    assert!(MUTANTS.len() >= 12);
}
