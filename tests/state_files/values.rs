//! Which values come back, and which are refused.

use half::{bf16, f16};

use super::{small_file, three_channels};
use wgpu_norm::batch_norm::{RunningVariance, State};
use wgpu_norm::state::{
    Described, LoadOptions, Naming, StateFile, StoredTensor, safetensors::Dtype,
};
use wgpu_norm::{
    BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig,
    StateError,
};

const STRICT: LoadOptions = LoadOptions::new();
const LENIENT: LoadOptions = LoadOptions::new().strict(false);

fn saved(config: &impl Described, state: &State) -> StateFile {
    let mut file = StateFile::new();
    file.insert_state("net.norm", config, state, Naming::TORCH)
        .unwrap();
    StateFile::from_bytes(&file.to_bytes().unwrap()).unwrap()
}

fn bits(row: &Option<Vec<f32>>) -> Option<Vec<u32>> {
    row.as_ref()
        .map(|row| row.iter().map(|value| value.to_bits()).collect())
}

/// Every value comes back with its bits.
fn comes_back(config: &impl Described, state: &State) {
    let (read, report) = saved(config, state)
        .state("net.norm", config, &STRICT)
        .unwrap();
    for [read, state] in [
        [&read.weight, &state.weight],
        [&read.bias, &state.bias],
        [&read.running_mean, &state.running_mean],
        [&read.running_var, &state.running_var],
    ] {
        assert_eq!(bits(read), bits(state));
    }
    assert_eq!(read.num_batches_tracked, state.num_batches_tracked);
    assert_eq!(report, Default::default());
}

fn without(mut state: State, weight: bool, bias: bool, running: bool) -> State {
    if !weight {
        state.weight = None;
    }
    if !bias {
        state.bias = None;
    }
    if !running {
        (state.running_mean, state.running_var) = (None, None);
        state.num_batches_tracked = None;
    }
    state
}

#[test]
fn every_norm_comes_back_with_its_bits() {
    let all = three_channels();
    for [weight, bias, running] in [
        [true; 3],
        [false, true, true],
        [true, false, true],
        [true, true, false],
        [false; 3],
    ] {
        let config = BatchNormConfig::new(3)
            .weight(weight)
            .bias(bias)
            .track_running_stats(running);
        comes_back(&config, &without(all.clone(), weight, bias, running));
        let state = without(all.clone(), weight, bias, false);
        comes_back(
            &GroupNormConfig::new(3, 3).weight(weight).bias(bias),
            &state,
        );
        comes_back(
            &InstanceNormConfig::new(3).weight(weight).bias(bias),
            &state,
        );
        comes_back(&LayerNormConfig::new(3).weight(weight).bias(bias), &state);
        comes_back(&RmsNormConfig::new(3).weight(weight).bias(bias), &state);
    }
}

/// A file of one tensor under the prefix `bn`, beside sound ones.
fn with(name: &str, tensor: StoredTensor) -> StateFile {
    let mut file = saved_plainly();
    file.insert(format!("bn.{name}"), tensor).unwrap();
    file
}

/// As torch would write it: without the crate's metadata.
fn saved_plainly() -> StateFile {
    let mut file = StateFile::new();
    for name in ["weight", "bias", "running_mean", "running_var"] {
        let tensor = StoredTensor::from_f32([2], &[1.0, 2.0]).unwrap();
        file.insert(format!("bn.{name}"), tensor).unwrap();
    }
    let counter = StoredTensor::new(Dtype::I64, [], 7i64.to_le_bytes().to_vec()).unwrap();
    file.insert("bn.num_batches_tracked", counter).unwrap();
    file
}

fn refusal(file: &StateFile, options: &LoadOptions) -> StateError {
    file.state("bn", &BatchNormConfig::new(2), options)
        .expect_err("a refusal")
}

#[test]
fn narrow_and_wide_types_are_read() {
    let values = [0.333_251_95f32, -2.0];
    let bytes = |dtype| -> Vec<u8> {
        match dtype {
            Dtype::F16 => values
                .iter()
                .flat_map(|&v| f16::from_f32(v).to_le_bytes())
                .collect(),
            Dtype::BF16 => values
                .iter()
                .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
                .collect(),
            Dtype::F64 => values
                .iter()
                .flat_map(|&v| f64::from(v).to_le_bytes())
                .collect(),
            _ => values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
        }
    };
    for (dtype, first) in [
        (Dtype::F16, values[0]),
        (Dtype::BF16, 0.333_984_38),
        (Dtype::F64, values[0]),
        (Dtype::F32, values[0]),
    ] {
        for name in ["weight", "bias", "running_mean"] {
            let file = with(name, StoredTensor::new(dtype, [2], bytes(dtype)).unwrap());
            let (state, _) = file.state("bn", &BatchNormConfig::new(2), &STRICT).unwrap();
            let row = [state.weight, state.bias, state.running_mean];
            assert!(
                row.contains(&Some(vec![first, -2.0])),
                "{dtype} {name}: {row:?}"
            );
        }
    }
    // What comes out is never narrower than f32, whatever came in.
    let mut file = with(
        "running_var",
        StoredTensor::new(Dtype::F16, [2], vec![1, 0, 1, 0]).unwrap(),
    );
    let config = BatchNormConfig::new(2);
    let (state, _) = file.state("bn", &config, &STRICT).unwrap();
    file.insert_state("bn", &config, &state, Naming::TORCH)
        .unwrap();
    assert_eq!(file.get("bn.running_var").unwrap().dtype(), Dtype::F32);
    assert_eq!(
        file.state("bn", &config, &STRICT).unwrap().0.running_var,
        state.running_var
    );
    for dtype in [Dtype::I32, Dtype::U32, Dtype::I16, Dtype::BOOL] {
        let bytes = vec![0; 2 * dtype.bitsize() / 8];
        let file = with("bias", StoredTensor::new(dtype, [2], bytes).unwrap());
        let error = refusal(&file, &LENIENT);
        assert!(
            matches!(&error, StateError::Dtype { tensor, .. } if tensor == "bn.bias"),
            "{error}"
        );
    }
}

#[test]
fn a_shape_that_does_not_fit_is_refused_in_both_modes() {
    for shape in [vec![3], vec![2, 1], vec![1, 2], vec![], vec![0]] {
        let count = shape.iter().product();
        for name in ["weight", "running_var"] {
            let tensor = StoredTensor::from_f32(shape.clone(), &vec![1.0; count]).unwrap();
            for options in [STRICT, LENIENT] {
                let error = refusal(&with(name, tensor.clone()), &options);
                assert!(
                    matches!(&error, StateError::Shape { got, .. } if *got == shape),
                    "{error}"
                );
                assert!(
                    error.to_string().starts_with(&format!("bn.{name}: ")),
                    "{error}"
                );
            }
        }
    }
}

/// torch's `normalized_shape` has several extents: they come back, in and out.
#[test]
fn rows_of_several_extents_keep_them() {
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    for norm in ["layer", "rms"] {
        let mut file = StateFile::new();
        file.insert(
            "weight",
            StoredTensor::from_f32([1, 2, 3], &values).unwrap(),
        )
        .unwrap();
        let layer = LayerNormConfig::new(6).bias(false);
        let rms = RmsNormConfig::new(6);
        let mut state = match norm {
            "layer" => file.state("", &layer, &STRICT).unwrap().0,
            _ => file.state("", &rms, &STRICT).unwrap().0,
        };
        assert_eq!(state.weight.as_deref(), Some(&values[..]));
        state.weight.as_mut().unwrap()[0] = 9.0;
        match norm {
            "layer" => file
                .insert_state("", &layer, &state, Naming::TORCH)
                .unwrap(),
            _ => file.insert_state("", &rms, &state, Naming::TORCH).unwrap(),
        }
        let weight = file.get("weight").unwrap();
        assert_eq!(
            (weight.shape(), weight.to_f32().unwrap()[0]),
            (&[1, 2, 3][..], 9.0)
        );
    }
}

#[test]
fn the_counter_is_one_integer_that_the_device_can_count_to() {
    let counter = |dtype, shape: &[usize], value: i128| {
        let size = dtype_bytes(dtype);
        with(
            "num_batches_tracked",
            StoredTensor::new(dtype, shape, value.to_le_bytes()[..size].to_vec()).unwrap(),
        )
    };
    fn dtype_bytes(dtype: Dtype) -> usize {
        dtype.bitsize() / 8
    }
    let config = BatchNormConfig::new(2);
    for (dtype, shape, value) in [
        (Dtype::I64, &[][..], 0),
        (Dtype::I64, &[], u32::MAX.into()),
        (Dtype::I64, &[1], 5),
        (Dtype::I32, &[], 6),
        (Dtype::U64, &[], 7),
        (Dtype::U32, &[], u32::MAX.into()),
    ] {
        let (state, _) = counter(dtype, shape, value)
            .state("bn", &config, &STRICT)
            .unwrap();
        assert_eq!(state.num_batches_tracked.map(i128::from), Some(value));
    }
    for (dtype, value) in [
        (Dtype::I64, -1),
        (Dtype::I64, i128::from(u32::MAX) + 1),
        (Dtype::U64, u64::MAX.into()),
        (Dtype::I32, -7),
    ] {
        let error = refusal(&counter(dtype, &[], value), &STRICT.repair(true));
        assert!(
            matches!(&error, StateError::Counter { got, .. } if *got == value.to_string()),
            "{error}"
        );
    }
    let two = StoredTensor::new(Dtype::I64, [2], vec![0; 16]).unwrap();
    assert!(matches!(
        refusal(&with("num_batches_tracked", two), &LENIENT),
        StateError::Shape { .. }
    ));
    let float = StoredTensor::from_f32([], &[3.0]).unwrap();
    assert!(matches!(
        refusal(&with("num_batches_tracked", float), &LENIENT),
        StateError::Dtype { .. }
    ));
    // Written as torch writes it.
    let state = three_channels();
    let file = saved(&BatchNormConfig::new(3), &state);
    let counter = file.get("net.norm.num_batches_tracked").unwrap();
    assert_eq!((counter.dtype(), counter.shape()), (Dtype::I64, &[][..]));
    assert_eq!(counter.data(), 12345i64.to_le_bytes());
}

/// torch before version 2 of BatchNorm wrote no counter.
#[test]
fn a_file_without_a_counter_counts_from_zero() {
    let mut file = saved_plainly();
    file.remove("bn.num_batches_tracked");
    for options in [STRICT, LENIENT] {
        let (state, report) = file
            .state("bn", &BatchNormConfig::new(2), &options)
            .unwrap();
        assert_eq!(state.num_batches_tracked, Some(0));
        assert_eq!(report.missing, ["bn.num_batches_tracked"]);
    }
    // Without statistics there is nothing that has been counted.
    file.remove("bn.running_var");
    let (state, report) = file
        .state("bn", &BatchNormConfig::new(2), &LENIENT)
        .unwrap();
    assert_eq!(state.num_batches_tracked, None);
    assert_eq!(report.missing, ["bn.running_var", "bn.num_batches_tracked"]);
    let error = refusal(&file, &STRICT);
    let names = ["bn.running_var", "bn.num_batches_tracked"].map(str::to_owned);
    assert_eq!(
        error,
        StateError::Missing {
            names: names.to_vec()
        }
    );
}

#[test]
fn strict_wants_all_values_and_no_others() {
    let config = BatchNormConfig::new(2);
    let file = saved_plainly();
    assert!(file.state("bn", &config, &STRICT).is_ok());
    // What the configuration leaves out is too much in the file.
    for (config, names) in [
        (config.bias(false), vec!["bn.bias"]),
        (config.affine(false), vec!["bn.bias", "bn.weight"]),
        (
            config.track_running_stats(false),
            vec![
                "bn.num_batches_tracked",
                "bn.running_mean",
                "bn.running_var",
            ],
        ),
    ] {
        let error = file.state("bn", &config, &STRICT).unwrap_err();
        let StateError::Unexpected { names: told } = &error else {
            panic!("{error}");
        };
        assert_eq!(*told, names);
        let (state, report) = file.state("bn", &config, &LENIENT).unwrap();
        assert_eq!(report.unexpected, names);
        assert_eq!(state.weight.is_some(), config.weight);
        assert_eq!(state.running_var.is_some(), config.track_running_stats);
    }
    // Running statistics of an InstanceNorm, which has none here.
    let instance = InstanceNormConfig::new(2).affine(true);
    let error = file.state("bn", &instance, &STRICT).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("bn.running_mean, bn.running_var: in the file"),
        "{error}"
    );
    // Values that nobody wrote, and a layer that is not there.
    let error = saved(&InstanceNormConfig::new(3), &State::default())
        .state("net.norm", &instance, &STRICT)
        .unwrap_err();
    assert!(matches!(error, StateError::Setting { .. }), "{error}");
    let error = file.state("nb", &config, &STRICT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nb.weight, nb.bias, nb.running_mean, nb.running_var, nb.num_batches_tracked: missing from the file; \
         check prefix and naming, or load leniently"
    );
    // A neighbour that no norm has.
    let neighbour = StoredTensor::from_f32([1], &[0.0]).unwrap();
    let file = with("running_median", neighbour.clone());
    assert_eq!(
        refusal(&file, &STRICT),
        StateError::Unexpected {
            names: vec!["bn.running_median".to_owned()]
        }
    );
    // What lies deeper, or elsewhere, is not beside the layer.
    let mut file = with("deep.er", neighbour.clone());
    file.insert("bn2.weight", neighbour.clone()).unwrap();
    file.insert("bn", neighbour).unwrap();
    assert!(file.state("bn", &config, &STRICT).is_ok());
}

#[test]
fn settings_are_compared() {
    let state = three_channels();
    let config = BatchNormConfig::new(3).eps(1.1e-5).momentum(Some(0.017));
    let file = saved(&config, &state);
    let entry = &file.metadata()["wgpu-norm/layer/net.norm"];
    assert_eq!(
        entry,
        "norm=batch eps=1.1e-5 num_features=3 momentum=0.017 running_variance=unbiased"
    );
    for (other, message) in [
        (
            config.eps(1e-3),
            "net.norm: eps is 1.1e-5 in the file, but 0.001 here; ",
        ),
        (
            config.momentum(None),
            "net.norm: momentum is 0.017 in the file, but cumulative here; ",
        ),
        (
            config.momentum(Some(0.1)),
            "net.norm: momentum is 0.017 in the file, but 0.1 here; ",
        ),
        (
            config.running_variance(RunningVariance::Biased),
            "net.norm: running_variance is unbiased in the file, but biased here; ",
        ),
    ] {
        let error = file.state("net.norm", &other, &STRICT).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        let (read, report) = file.state("net.norm", &other, &LENIENT).unwrap();
        assert_eq!((read, &report.differing[..]), (state.clone(), &[error][..]));
    }
    let affine = without(state, true, true, false);
    let group = saved(&GroupNormConfig::new(3, 3), &affine);
    let error = group
        .state("net.norm", &GroupNormConfig::new(1, 3), &STRICT)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("num_groups is 3 in the file, but 1 here"),
        "{error}"
    );
    let error = group
        .state(
            "net.norm",
            &InstanceNormConfig::new(3).affine(true),
            &STRICT,
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("norm is group in the file, but instance here"),
        "{error}"
    );
    let rms = RmsNormConfig::new(3);
    let file = saved(&rms, &without(affine, true, false, false));
    let error = file
        .state("net.norm", &rms.unit_offset(true), &STRICT)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("unit_offset is false in the file, but true here"),
        "{error}"
    );
    assert!(file.metadata()["wgpu-norm/layer/net.norm"].contains("eps=1.1920929e-7 "));
}

#[test]
fn values_of_no_sound_layer_are_refused_or_repaired() {
    let config = BatchNormConfig::new(2);
    for (name, value, expected) in [
        ("weight", f32::NAN, "a finite number"),
        ("weight", f32::INFINITY, "a finite number"),
        ("bias", f32::NEG_INFINITY, "a finite number"),
        ("running_mean", f32::NAN, "a finite number"),
        ("running_var", f32::NAN, "a finite number of at least 0"),
        (
            "running_var",
            f32::INFINITY,
            "a finite number of at least 0",
        ),
        ("running_var", -1e-20, "a finite number of at least 0"),
    ] {
        let file = with(name, StoredTensor::from_f32([2], &[1.0, value]).unwrap());
        let error = refusal(&file, &STRICT);
        let told = StateError::Value {
            tensor: format!("bn.{name}"),
            index: 1,
            expected,
            got: value.to_string(),
        };
        assert_eq!(error, told);
        assert_eq!(refusal(&file, &LENIENT), told);
        let (state, report) = file.state("bn", &config, &STRICT.repair(true)).unwrap();
        assert_eq!(report.repaired, [told]);
        let (channel, statistics) = match name {
            "weight" => ((state.weight, 1.0), false),
            "bias" => ((state.bias, 0.0), false),
            _ => ((state.running_mean.clone(), 0.0), true),
        };
        assert_eq!(channel.0, Some(vec![1.0, channel.1]), "{name}");
        // Both halves of the channel's statistics, and no other channel's.
        let [mean, var] = if statistics { [0.0, 1.0] } else { [2.0, 2.0] };
        assert_eq!(state.running_mean, Some(vec![1.0, mean]), "{name}");
        assert_eq!(state.running_var, Some(vec![1.0, var]), "{name}");
    }
    // A new layer's weight is 0 where 1 is added to it.
    let mut file = StateFile::new();
    file.insert(
        "weight",
        StoredTensor::from_f32([2], &[f32::NAN, 3.0]).unwrap(),
    )
    .unwrap();
    let config = RmsNormConfig::new(2).unit_offset(true);
    let (state, _) = file.state("", &config, &STRICT.repair(true)).unwrap();
    assert_eq!(state.weight, Some(vec![0.0, 3.0]));
    // What a file in f64 has beyond f32.
    let wide = [1e300f64, 1.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let error = refusal(
        &with("bias", StoredTensor::new(Dtype::F64, [2], wide).unwrap()),
        &STRICT,
    );
    assert!(matches!(error, StateError::Value { .. }), "{error}");
    // Half a statistic, alone in the file.
    let mut file = with(
        "running_mean",
        StoredTensor::from_f32([2], &[f32::NAN, 5.0]).unwrap(),
    );
    file.remove("bn.running_var");
    let (state, report) = file
        .state("bn", &BatchNormConfig::new(2), &LENIENT.repair(true))
        .unwrap();
    assert_eq!(
        (state.running_mean, state.running_var),
        (Some(vec![0.0, 5.0]), None)
    );
    assert_eq!(report.repaired.len(), 1);
}

/// torch has no such value: it is in the metadata, and goes when there are none.
#[test]
fn batches_that_channels_skipped_come_back() {
    let config = BatchNormConfig::new(3);
    let mut state = three_channels();
    state.num_batches_skipped = Some(vec![0, 12345, 2]);
    let mut file = saved(&config, &state);
    assert_eq!(file.metadata()["wgpu-norm/skipped/net.norm"], "1:12345 2:2");
    assert_eq!(file.names().count(), 5);
    assert_eq!(file.state("net.norm", &config, &STRICT).unwrap().0, state);
    // Whoever drops the counter, or the metadata, drops them.
    let mut without_counter = file.clone();
    without_counter.remove("net.norm.num_batches_tracked");
    let (read, _) = without_counter.state("net.norm", &config, &STRICT).unwrap();
    let counters = (read.num_batches_tracked, read.num_batches_skipped);
    assert_eq!(counters, (Some(0), None));
    let refused = |skipped: Vec<u32>, config: &BatchNormConfig| {
        let mut state = without(state.clone(), true, true, config.track_running_stats);
        state.num_batches_skipped = Some(skipped);
        let mut file = StateFile::new();
        let error = file.insert_state("bn", config, &state, Naming::TORCH);
        assert!(matches!(error, Err(StateError::Unfit { .. })), "{error:?}");
    };
    refused(vec![0, 12346, 0], &config);
    refused(vec![1; 2], &config);
    refused(vec![0; 3], &config.track_running_stats(false));
    state.num_batches_skipped = None;
    file.insert_state("net.norm", &config, &state, Naming::TORCH)
        .unwrap();
    assert!(!file.metadata().keys().any(|key| key.contains("skipped")));
}

/// A layer that has gone wrong can be saved, to be looked at.
#[test]
fn any_values_are_saved() {
    let mut state = three_channels();
    state.running_var = Some(vec![f32::NAN, -1.0, f32::INFINITY]);
    let config = BatchNormConfig::new(3);
    let file = saved(&config, &state);
    let row = file.get("net.norm.running_var").unwrap().to_f32();
    assert_eq!(bits(&row), bits(&state.running_var));
    let (read, report) = file
        .state("net.norm", &config, &STRICT.repair(true))
        .unwrap();
    assert_eq!(read.running_var, Some(vec![1.0; 3]));
    assert_eq!(read.running_mean, Some(vec![0.0; 3]));
    assert_eq!(report.repaired.len(), 3);
}

/// What does not fit is refused, and leaves the file alone.
#[test]
fn a_state_that_does_not_fit_is_not_saved() {
    let file = small_file();
    let refused = |config: &BatchNormConfig, state: &State| {
        let mut changed = file.clone();
        let error = changed
            .insert_state("net.bn", config, state, Naming::TORCH)
            .unwrap_err();
        assert_eq!(changed, file, "{error}");
        error
    };
    let state = three_channels();
    let config = BatchNormConfig::new(3);
    for (config, state, message) in [
        (
            BatchNormConfig::new(2),
            state.clone(),
            "net.bn.weight: the configuration has 2 values, the state 3",
        ),
        (
            config.bias(false),
            state.clone(),
            "net.bn.bias: the configuration has no such value; leave it out",
        ),
        (
            config,
            without(state.clone(), true, false, true),
            "net.bn.bias: missing in the state; fill it in",
        ),
        (
            config.track_running_stats(false),
            state.clone(),
            "net.bn.running_mean: the configuration has no such value; leave it out",
        ),
    ] {
        let error = refused(&config, &state);
        assert!(matches!(error, StateError::Unfit { .. }));
        assert_eq!(error.to_string(), message);
    }
    let mut beyond = state;
    beyond.num_batches_tracked = Some(1 << 32);
    let error = refused(&config, &beyond);
    assert!(matches!(error, StateError::Counter { .. }), "{error}");
}

/// Rewriting a layer leaves the others, and all that is not a layer, as it was; and nothing of what the layer was before.
#[test]
fn rewriting_keeps_what_others_have_put_there() {
    let mut file = small_file();
    let before = file.clone();
    let config = BatchNormConfig::new(3).affine(false);
    let state = without(three_channels(), false, false, true);
    file.insert_state("net.bn", &config, &state, Naming::TORCH)
        .unwrap();
    let file = StateFile::from_bytes(&file.to_bytes().unwrap()).unwrap();
    for name in before.names() {
        let gone = matches!(name, "net.bn.weight" | "net.bn.bias");
        assert_eq!(file.get(name), before.get(name).filter(|_| !gone), "{name}");
    }
    assert_eq!(file.metadata(), before.metadata());
    assert!(file.state("net.bn", &config, &STRICT).is_ok());
}
