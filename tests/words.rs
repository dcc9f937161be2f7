//! What users write reads back, and what cannot be read is named.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use wgpu_norm::batch_norm::{
    Destination, Epilogue, Line, ParameterGradients, Pass, Strategy, Tile, Tuning,
};
use wgpu_norm::rms_norm::Rounding;
use wgpu_norm::{
    BatchNormConfig, Caps, Dtype, Form, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    Layout, PlanError, Problem, RmsNormConfig, SampleLine, SampleNorm, Shape, WordError,
    group_norm, instance_norm, layer_norm, rms_norm,
};

/// Each value's word reads back as the value, and no two values have one word.
fn read_back<T>(values: &[T])
where
    T: Copy + Debug + Display + PartialEq + FromStr<Err: Debug + PartialEq>,
{
    assert!(!values.is_empty());
    for value in values {
        assert_eq!(value.to_string().parse(), Ok(*value));
    }
    let mut words: Vec<String> = values.iter().map(ToString::to_string).collect();
    words.sort();
    words.dedup();
    assert_eq!(words.len(), values.len(), "{words:?}");
}

/// The word of `field` that cannot be read, and a message that says which and what would do.
fn refused<T>(text: &str, field: &str, word: &str)
where
    T: Debug + FromStr<Err = WordError>,
{
    let error = text.parse::<T>().expect_err(text);
    assert_eq!(
        (error.field, error.word.as_str()),
        (field, word),
        "{text:?}"
    );
    let start = format!("{field}: cannot read {word:?}; write ");
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.to_string().len() > start.len(), "{error}");
}

#[test]
fn every_word_reads_back() {
    read_back(Strategy::ALL);
    read_back(Epilogue::ALL);
    read_back(Destination::ALL);
    read_back(ParameterGradients::ALL);
    read_back(Rounding::ALL);
    read_back(Dtype::ALL);
    let tiles = [[1, 1, 1], [8, 8, 4], [256, 32, 1], [64, 32, 16]];
    let tiles =
        tiles.map(|[workgroup, lanes, columns]| Tile::new(workgroup, lanes).columns(columns));
    read_back(&tiles);
    let mut tunings = vec![Tuning::default()];
    let mut problems = Vec::new();
    for &strategy in Strategy::ALL {
        tunings.push(Tuning::default().strategy(Some(strategy)));
        tunings.push(
            Tuning::default()
                .strategy(Some(strategy))
                .tile(Some(tiles[1])),
        );
    }
    tunings.push(Tuning::default().tile(Some(tiles[0])));
    read_back(&tunings);
    for &layout in Layout::ALL {
        for dims in [&[4, 3][..], &[4, 3, 5], &[4, 3, 5, 6], &[4, 3, 5, 6, 7]] {
            let shape = Shape::from_dims(dims, layout).unwrap();
            let dtypes = Dtype::ALL.iter();
            problems.extend(dtypes.map(|&dtype| Problem::new(shape, dtype)));
        }
    }
    // Without spatial axes the layouts are one.
    for problem in &problems {
        let rank = problem.shape.spatial().len();
        let back: Problem = problem.to_string().parse().unwrap();
        assert!(rank == 0 || back == *problem, "{problem}");
        assert_eq!(back.to_string(), problem.to_string());
    }
}

#[test]
fn a_word_that_is_none_is_named_with_those_that_are() {
    refused::<Strategy>("best", "strategy", "best");
    refused::<Epilogue>("gelu", "epilogue", "gelu");
    refused::<Destination>("apart", "destination", "apart");
    refused::<ParameterGradients>("", "parameters", "");
    for word in ["8", "8x", "axb", "8x8x", "8x8x1x1"] {
        refused::<Tile>(word, "tile", word);
    }
    refused::<Tuning>("split", "tuning", "split");
    refused::<Tuning>("best 8x8", "strategy", "best");
    refused::<Tuning>("split 8", "tile", "8");
    for (words, all) in [
        (
            "x".parse::<Strategy>().unwrap_err(),
            Strategy::ALL.iter().map(|v| v.name()).collect(),
        ),
        (
            "x".parse::<Epilogue>().unwrap_err(),
            Epilogue::ALL.iter().map(|v| v.name()).collect(),
        ),
        (
            "x".parse::<Destination>().unwrap_err(),
            Destination::ALL
                .iter()
                .map(|v| v.name())
                .collect::<Vec<_>>(),
        ),
        (
            "x".parse::<ParameterGradients>().unwrap_err(),
            ParameterGradients::ALL.iter().map(|v| v.name()).collect(),
        ),
        (
            "x".parse::<Rounding>().unwrap_err(),
            Rounding::ALL.iter().map(|v| v.name()).collect(),
        ),
    ] {
        let message = words.to_string();
        assert!(all.iter().all(|word| message.contains(word)), "{message}");
    }
    assert_eq!("f8".parse::<Dtype>().unwrap_err().word, "f8");
}

const BATCH_LINES: [&str; 15] = [
    "n32c64h56w56 nchw f16 relu backward in-place no-bias split 256x32",
    "n4c3 nc f32 train",
    "n4c3l5 ncl bf16 add-relu eval",
    "n4c3l5 nlc f32 eval in-place untracked",
    "n4c3h5w6 nhwc f32 backward no-dx accumulate",
    "n4c3h5w6 nhwc f32 frozen-backward skip no-weight no-bias",
    "n4c8d2h5w6 ndhwc f16 frozen-backward in-place accumulate reread",
    "n4c3 nc f32 stats gpu binding=1024",
    "n4c3l5 ncl f32 instances cumulative",
    "n4c3 nc f32 combine=7",
    "n4c3 nc f32 finalize=1 momentum=0.3",
    "n4c3 nc f32 apply in-place eps=0.001",
    "n4c3 nc f32 backward-reduce cumulative 8x8x4",
    "n4c3 nc f32 backward-combine=2",
    "n4c3h5w6 nchw f32 relu backward-apply in-place split 64x32",
];

const INSTANCE_LINES: [&str; 5] = [
    "instance n2c64h56w56 nhwc f16 relu backward in-place no-weight split 256x32",
    "instance n2c3l5 ncl f32 forward",
    "instance n2c3l5 ncl f32 forward prenorm tracked no-bias",
    "instance n2c3l5 nlc bf16 add-relu forward no-weight no-bias eps=0.001 gpu binding=1024",
    "instance n2c3h4w4 nchw f32 backward no-dx accumulate",
];

const GROUP_LINES: [&str; 5] = [
    "group n2c64h56w56 nchw f16 silu backward groups=16",
    "group n2c64h56w56 nhwc f32 relu forward",
    "group n2c6l5 ncl bf16 add-relu backward in-place skip groups=3 no-weight no-bias eps=0.001",
    "group n4c8 nc f32 forward groups=2 split 256x32",
    "group n2c6d2h5w6 ndhwc f32 backward no-dx accumulate groups=6 gpu binding=4096",
];

const LAYER_LINES: [&str; 6] = [
    "layer n8c1152l256 nlc bf16 backward per-sample unit-offset eps=0.000001",
    "layer n4096c1024 nc f16 backward",
    "layer n2c6l5 ncl f32 forward size=5",
    "layer n2c8l5 nlc bf16 silu backward in-place accumulate no-bias eps=0.001 reread",
    "layer n2c6h4w4 nhwc f32 forward size=96 no-weight no-bias",
    "layer n2c6h4w4 nchw f32 add-relu backward no-dx gpu binding=4096",
];

const RMS_LINES: [&str; 6] = [
    "rms n4096c1024 nc f16 backward",
    "rms n2c6l5 nlc bf16 silu backward skip unit-offset eps=0.00001",
    "rms n2c6h4w4 nhwc f32 forward size=24 no-weight",
    "rms n2c6l5 nlc bf16 backward rounding=before-weight no-weight unit-offset",
    "rms n2c6h4w4 nchw f32 backward in-place size=16 split 64x32",
    "rms n2c6l5 nlc f16 forward rounding=before-weight bias",
];

/// Each line reads back, and has dispatches.
fn lines_of_samples<C: SampleNorm>(lines: &[&str]) {
    for line in lines {
        let read: SampleLine<C> = line.parse().unwrap();
        assert_eq!(read.to_string(), *line);
        assert_eq!(read.to_string().parse(), Ok(read));
        let launches = read.launches(&Caps::webgpu(), Form::default()).unwrap();
        assert!(!launches.is_empty(), "{line}");
    }
}

#[test]
fn problem_lines_read_back_and_have_dispatches() {
    let (caps, form) = (Caps::webgpu(), Form::default());
    for line in BATCH_LINES {
        let read: Line = line.parse().unwrap();
        assert_eq!(read.to_string(), line);
        assert_eq!(read.to_string().parse(), Ok(read));
        let launches = read.launches(&caps, form);
        if line.contains("in-place untracked") {
            let refused = matches!(launches, Err(PlanError::Unsupported { .. }));
            assert!(refused, "{line}: {launches:?}");
        } else {
            assert!(!launches.unwrap().is_empty(), "{line}");
        }
    }
    lines_of_samples::<InstanceNormConfig>(&INSTANCE_LINES);
    lines_of_samples::<GroupNormConfig>(&GROUP_LINES);
    lines_of_samples::<LayerNormConfig>(&LAYER_LINES);
    lines_of_samples::<RmsNormConfig>(&RMS_LINES);
    // Layout, storage type and pass may be left out.
    let short: Line = "n4c3h5w6".parse().unwrap();
    assert_eq!(short.to_string(), "n4c3h5w6 nchw f32 train");
    let made = Line::new(
        Shape::nchw(4, 3, 5, 6),
        &BatchNormConfig::new(3),
        Pass::Train,
    );
    assert_eq!(short, made);
    let short: instance_norm::Line = "instance n4c3h5w6".parse().unwrap();
    assert_eq!(short.to_string(), "instance n4c3h5w6 nchw f32 forward");
    let config = InstanceNormConfig::new(3).affine(true);
    let pass = instance_norm::Pass::Forward;
    let made = instance_norm::Line::new(Shape::nchw(4, 3, 5, 6), &config, pass);
    assert_eq!(short, made);
    // 32 groups where they divide the channels, else one. Rows of channels where those are innermost, else of whole samples.
    let groups = |line: &str| line.parse::<group_norm::Line>().unwrap().config.num_groups;
    assert_eq!((groups("group n2c64l5"), groups("group n2c48l5")), (32, 1));
    let row = |line: &str| {
        line.parse::<layer_norm::Line>()
            .unwrap()
            .config
            .normalized_size
    };
    assert_eq!((row("layer n2c6l5 nlc"), row("layer n2c6l5 ncl")), (6, 30));
    let row = |line: &str| {
        line.parse::<rms_norm::Line>()
            .unwrap()
            .config
            .normalized_size
    };
    assert_eq!((row("rms n2c6"), row("rms n2c6l5")), (6, 30));
}

#[test]
fn a_line_that_cannot_be_read_names_the_word() {
    for (line, word) in [
        ("", ""),
        ("n4x3 train", "n4x3"),
        ("n4c3h5w6 nlc train", "n4c3h5w6 nlc"),
        ("n4c3 gelu", "gelu"),
        ("n4c3 nc f32 relu backward f8", "f8"),
        ("n4c3 train in-place", "in-place"),
        ("n4c3 eval no-dx", "no-dx"),
        ("n4c3 accumulate stats", "accumulate"),
        ("n4c3 eps=small", "eps=small"),
        ("n4c3 momentum=", "momentum="),
        ("n4c3 combine=some", "combine=some"),
        ("n4c3 binding=-1", "binding=-1"),
        ("n4c3 train split 8x", "8x"),
    ] {
        refused::<Line>(line, "line", word);
    }
    for (line, word) in [
        ("n4c3l5 forward", "n4c3l5 forward"),
        ("instance n4", "n4"),
        ("instance n4c3l5 train", "train"),
        ("instance n4c3l5 forward in-place", "in-place"),
        ("instance n4c3l5 skip", "skip"),
        ("instance n4c3l5 backward untracked", "untracked"),
        ("instance n4c3l5 eps=small", "eps=small"),
    ] {
        refused::<instance_norm::Line>(line, "line", word);
    }
    for (line, word) in [
        ("instance n4c4l5", "instance n4c4l5"),
        ("group n4c4l5 groups=", "groups="),
        ("group n4c4l5 groups=-2", "groups=-2"),
        ("group n4c4l5 size=4", "size=4"),
        ("group n4c4l5 offset", "offset"),
        ("group n4c4l5 skip forward", "skip"),
    ] {
        refused::<group_norm::Line>(line, "line", word);
    }
    for (line, word) in [
        ("layernorm n4c4", "layernorm n4c4"),
        ("layer n4c4 groups=2", "groups=2"),
        ("layer n4c4 size=all", "size=all"),
        ("layer n4c4 per-row", "per-row"),
        ("layer n4c4 rounding=once", "rounding=once"),
    ] {
        refused::<layer_norm::Line>(line, "line", word);
    }
    for (line, word) in [
        ("layer n4c4", "layer n4c4"),
        ("rms n4c4 no-bias", "no-bias"),
        ("rms n4c4 size=", "size="),
        ("rms n4c4 rounding", "rounding"),
        ("rms n4c4 rounding=twice", "rounding=twice"),
        ("rms n4c4 untracked", "untracked"),
    ] {
        refused::<rms_norm::Line>(line, "line", word);
    }
}
