//! The suites of others: ONNX's node tests, the samples with which torch tests its own norms, and the cases of WebNN's
//! conformance tests. Their files are in `tests/fixtures`.
//!
//! Every case runs against the oracles in f64, and against the layer on the device where there is one. The numbers of
//! cases are exact: a case that is not run any more turns a test red.

mod case;
mod device;
mod onnx;
mod oracle;
mod torch;
mod webnn;

use std::collections::BTreeMap;

use wgpu_norm::{Error, PlanError};

use crate::common::gpu;
use case::{Case, Norm, check};

/// All cases, in the files' order.
fn cases() -> Vec<Case> {
    [onnx::cases(), torch::cases(), webnn::cases()].concat()
}

/// The cases of each suite and norm: those that run, and all.
const COUNTS: &[(&str, &str, usize, usize)] = &[
    ("ModuleInfo", "BatchNorm", 44, 44),
    ("ModuleInfo", "GroupNorm", 10, 10),
    ("ModuleInfo", "InstanceNorm", 24, 24),
    ("ModuleInfo", "LayerNorm", 7, 7),
    ("ModuleInfo", "RMSNorm", 6, 6),
    ("ONNX", "BatchNorm", 4, 4),
    ("ONNX", "GroupNorm", 2, 2),
    ("ONNX", "InstanceNorm", 2, 2),
    ("ONNX", "LayerNorm", 19, 19),
    ("ONNX", "RMSNorm", 19, 19),
    ("OpInfo", "BatchNorm", 9, 12),
    ("OpInfo", "GroupNorm", 21, 25),
    ("OpInfo", "InstanceNorm", 9, 9),
    ("OpInfo", "LayerNorm", 5, 6),
    ("OpInfo", "RMSNorm", 5, 6),
    ("WebNN", "BatchNorm", 24, 24),
    ("WebNN", "InstanceNorm", 25, 35),
    ("WebNN", "LayerNorm", 19, 23),
];

/// The cases that the library cannot express, under the reason.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "a weight or bias along axes that are not innermost",
        &[
            "layerNormalization float32 4D tensor options.scale and options.axes=[0, 2]",
            "layerNormalization float32 4D tensor all options",
            "layerNormalization float16 4D tensor options.scale and options.axes=[0, 2]",
            "layerNormalization float16 4D tensor all options",
        ],
    ),
    (
        "another operator follows",
        &[
            "instanceNormalization float32 NHWC runtime affine then conv2d",
            "instanceNormalization float16 NHWC runtime affine then conv2d",
        ],
    ),
    (
        "eps is not positive",
        &[
            "group_norm_4",
            "group_norm_5",
            "group_norm_6",
            "group_norm_7",
            "layer_norm_1",
            "rms_norm_1",
            "instanceNormalization float32 nchw zero epsilon no affine",
            "instanceNormalization float32 nchw zero epsilon constant affine",
            "instanceNormalization float32 nhwc zero epsilon no affine",
            "instanceNormalization float32 nhwc zero epsilon constant affine",
            "instanceNormalization float16 nchw zero epsilon no affine",
            "instanceNormalization float16 nchw zero epsilon constant affine",
            "instanceNormalization float16 nhwc zero epsilon no affine",
            "instanceNormalization float16 nhwc zero epsilon constant affine",
        ],
    ),
    ("momentum is no share", &["batch_norm_5"]),
    ("no channels", &["batch_norm_3", "batch_norm_4"]),
];

/// Runs `test` over the cases of some norms that the library can express. Returns their number.
fn run(norms: &[&str], mut test: impl FnMut(&Case)) -> usize {
    let mut tested = 0;
    for case in cases() {
        if case.obstacle().is_none() && norms.contains(&case.norm.name()) {
            test(&case);
            tested += 1;
        }
    }
    tested
}

#[test]
fn every_case_is_counted() {
    let cases = cases();
    let (mut counts, mut left_out) = (BTreeMap::new(), BTreeMap::<_, Vec<&str>>::new());
    for case in &cases {
        let (run, all) = counts
            .entry((case.suite, case.norm.name()))
            .or_insert((0, 0));
        *all += 1;
        match case.obstacle() {
            Some(obstacle) => left_out.entry(obstacle).or_default().push(&case.name),
            None => *run += 1,
        }
    }
    let counts = counts.into_iter();
    let counts: Vec<_> = counts
        .map(|((suite, norm), (run, all))| (suite, norm, run, all))
        .collect();
    assert_eq!(counts, COUNTS);
    let left_out: Vec<_> = left_out
        .iter()
        .map(|(why, names)| (*why, &names[..]))
        .collect();
    assert_eq!(left_out, LEFT_OUT);
}

#[test]
fn the_oracles_agree_with_every_suite() {
    let tested = run(Norm::NAMES, |case| {
        check(case, &oracle::compute(case), |_| case.bound);
    });
    assert_eq!(tested, 254);
}

#[test]
fn the_layers_agree_with_every_suite() {
    let gpu = gpu();
    let tested = run(Norm::NAMES, |case| {
        let computed = device::compute(&gpu, case).unwrap();
        check(case, &computed, |expected| case.device_bound(expected));
    });
    assert_eq!(tested, 254);
}

/// The calls that torch refuses, by norm.
const ERRORS: &[(&str, usize)] = &[
    ("batch_norm", 6),
    ("group_norm", 6),
    ("layer_norm", 4),
    ("rms_norm", 3),
];

/// What the crate takes although torch refuses it: a row is given by its number of values, which is 1 for no axes, and an
/// empty tensor has an empty output.
const TAKEN: [&str; 2] = [
    "Expected normalized_shape to be at least 1-dimensional",
    "Expected HxW to be greater than 0",
];

/// How the crate's message begins where torch's says so.
const MESSAGES: [(&str, &str); 8] = [
    ("eps must be positive", "eps:"),
    ("at least 2 dimensions", "shape:"),
    ("divisible by num_groups", "num_groups:"),
    ("number of channels to be greater", "num_channels:"),
    ("Expected weight to be of same shape", "weight:"),
    ("Expected bias to be of same shape", "bias:"),
    ("Given normalized_shape", "normalized_size:"),
    ("must be divisible", "num_groups:"),
];

#[test]
fn what_torch_refuses_is_refused() {
    let gpu = gpu();
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for error in torch::errors() {
        *counts.entry(error.norm.clone()).or_default() += 1;
        let refused = device::attempt(&gpu, &error);
        if TAKEN.iter().any(|text| error.error.contains(text)) {
            refused.expect(&error.error);
            continue;
        }
        let message = refused.expect_err(&error.error).to_string();
        let begins = MESSAGES.iter().find(|(text, _)| error.error.contains(text));
        let (_, begins) = begins.unwrap_or_else(|| panic!("{}", error.error));
        assert!(message.starts_with(begins), "{message}");
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(norm, count)| (norm.as_str(), *count))
        .collect();
    assert_eq!(counts, ERRORS);
}

/// Of the cases that are left out, those of BatchNorm can be asked for, and an eps that is not positive.
#[test]
fn cases_that_are_left_out_are_refused() {
    let gpu = gpu();
    let (mut asked, mut without_eps) = (0, 0);
    for case in cases().iter().filter(|case| case.obstacle().is_some()) {
        let by_eps = case.obstacle() == Some("eps is not positive");
        if by_eps || case.norm.name() == "BatchNorm" {
            let refused = device::compute(&gpu, case);
            assert!(matches!(refused, Err(Error::Plan(_))), "{}", case.name);
            let eps = matches!(refused, Err(Error::Plan(PlanError::Eps { .. })));
            assert_eq!(eps, by_eps, "{}", case.name);
            asked += 1;
            without_eps += usize::from(eps);
        }
    }
    assert_eq!((asked, without_eps), (17, 14));
}
