//! Layers on a device, through files.

use crate::common::{gpu, noise};
use wgpu_norm::batch_norm::{NonFinite, State};
use wgpu_norm::state::{LoadOptions, StateFile, Stateful, StoredTensor};
use wgpu_norm::{
    BatchNorm, BatchNormConfig, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    RmsNormConfig, Shape, StateError,
};

const STRICT: LoadOptions = LoadOptions::new();

fn through_bytes(file: &StateFile) -> StateFile {
    StateFile::from_bytes(&file.to_bytes().unwrap()).unwrap()
}

#[test]
fn layers_of_all_norms_share_a_file() {
    let gpu = gpu();
    let batch = BatchNormConfig::new(4).momentum(None);
    let group = GroupNormConfig::new(2, 4);
    let instance = InstanceNormConfig::new(4).affine(true);
    let plain = InstanceNormConfig::new(4);
    let layer = LayerNormConfig::new(6).bias(false);
    let rms = RmsNormConfig::new(5).unit_offset(true);
    let mut bn = batch.build(&gpu).unwrap();
    let mut gn = group.build(&gpu).unwrap();
    let mut inst = instance.build(&gpu).unwrap();
    let mut ln = layer.build(&gpu).unwrap();
    let mut rn = rms.build(&gpu).unwrap();
    let x = gpu.tensor(Shape::nc(9, 4), &noise(1, 36)).unwrap();
    bn.train(&x).map(drop).unwrap();
    bn.set_bias(&noise(2, 4)).unwrap();
    gn.set_weight(&noise(3, 4)).unwrap();
    inst.set_bias(&noise(4, 4)).unwrap();
    ln.set_weight(&noise(5, 6)).unwrap();
    rn.set_weight(&noise(6, 5)).unwrap();
    let mut file = StateFile::new();
    let kernel = StoredTensor::from_f32([2, 2], &noise(7, 4)).unwrap();
    file.insert("conv.weight", kernel.clone()).unwrap();
    let saved: [(&str, &dyn Stateful); 6] = [
        ("bn", &bn),
        ("gn", &gn),
        ("in", &inst),
        ("plain", &plain.build(&gpu).unwrap()),
        ("ln", &ln),
        ("rms", &rn),
    ];
    for (prefix, layer) in saved {
        file.save(prefix, layer).unwrap();
    }
    assert_eq!(file.get("conv.weight"), Some(&kernel));

    let mut bn2 = batch.build(&gpu).unwrap();
    let mut gn2 = group.build(&gpu).unwrap();
    let mut in2 = instance.build(&gpu).unwrap();
    let mut plain2 = plain.build(&gpu).unwrap();
    let mut ln2 = layer.build(&gpu).unwrap();
    let mut rn2 = rms.build(&gpu).unwrap();
    let file = through_bytes(&file);
    let report = file
        .load(
            &mut [
                ("bn", &mut bn2),
                ("gn", &mut gn2),
                ("in", &mut in2),
                ("plain", &mut plain2),
                ("ln", &mut ln2),
                ("rms", &mut rn2),
            ],
            &STRICT,
        )
        .unwrap();
    assert_eq!(report, Default::default());
    assert_eq!(bn2.state().unwrap(), bn.state().unwrap());
    assert_eq!(
        [gn2.weight().unwrap(), gn2.bias().unwrap()],
        [gn.weight().unwrap(), gn.bias().unwrap()]
    );
    assert_eq!(
        [in2.weight().unwrap(), in2.bias().unwrap()],
        [inst.weight().unwrap(), inst.bias().unwrap()]
    );
    assert_eq!(
        [ln2.weight().unwrap(), ln2.bias().unwrap()],
        [ln.weight().unwrap(), None]
    );
    assert_eq!(rn2.weight().unwrap(), rn.weight().unwrap());
}

/// A layer that has been trained for some steps.
fn trained(
    gpu: &Gpu,
    config: BatchNormConfig,
    steps: std::ops::Range<u64>,
    bn: Option<BatchNorm>,
) -> BatchNorm {
    let mut bn = bn.unwrap_or_else(|| config.build(gpu).unwrap());
    for step in steps {
        let x = gpu
            .tensor(Shape::nchw(3, 4, 5, 2), &noise(step, 120))
            .unwrap();
        let (y, saved) = bn.train(&x).unwrap();
        // A step of SGD, on the host.
        let gradients = bn.backward(saved, &y).unwrap();
        let state = bn.state().unwrap();
        let next = |value: Option<Vec<f32>>, gradient: Option<Vec<f32>>| -> Vec<f32> {
            let pairs = value.unwrap().into_iter().zip(gradient.unwrap());
            pairs
                .map(|(value, gradient)| value - 0.01 * gradient)
                .collect()
        };
        bn.set_weight(&next(state.weight, gradients.weight().unwrap()))
            .unwrap();
        bn.set_bias(&next(state.bias, gradients.bias().unwrap()))
            .unwrap();
    }
    bn
}

fn bits(state: &State) -> Vec<u32> {
    let rows = [
        &state.weight,
        &state.bias,
        &state.running_mean,
        &state.running_var,
    ];
    rows.into_iter()
        .flatten()
        .flatten()
        .map(|value| value.to_bits())
        .collect()
}

#[test]
fn training_goes_on_from_a_file_bit_for_bit() {
    let gpu = gpu();
    for momentum in [Some(0.1), None] {
        let config = BatchNormConfig::new(4).momentum(momentum);
        let whole = trained(&gpu, config, 0..6, None);
        let before = trained(&gpu, config, 0..3, None);
        let mut file = StateFile::new();
        file.save("bn", &before).unwrap();
        drop(before);
        let mut resumed = config.build(&gpu).unwrap();
        through_bytes(&file)
            .load(&mut [("bn", &mut resumed)], &STRICT)
            .unwrap();
        let resumed = trained(&gpu, config, 3..6, Some(resumed));
        let [whole_state, state] = [&whole, &resumed].map(|bn| bn.state().unwrap());
        assert_eq!(bits(&state), bits(&whole_state), "{momentum:?}");
        assert_eq!(state.num_batches_tracked, Some(6));
        let x = gpu.tensor(Shape::nchw(3, 4, 5, 2), &noise(9, 120)).unwrap();
        let [a, b] = [&whole, &resumed].map(|bn| bn.eval(&x).unwrap().read().unwrap());
        assert_eq!(a, b);
    }
}

/// A channel that has skipped a batch weighs the next one by the batches that it has not skipped.
#[test]
fn channels_that_skipped_batches_go_on_bit_for_bit() {
    let gpu = gpu();
    let config = BatchNormConfig::new(4)
        .momentum(None)
        .non_finite(NonFinite::Skip);
    let step = |bn: &mut BatchNorm, seed: u64, poison: bool| {
        let mut values = noise(seed, 36);
        if poison {
            values[2] = f32::NAN;
        }
        let x = gpu.tensor(Shape::nc(9, 4), &values).unwrap();
        bn.train(&x).map(drop).unwrap();
    };
    let mut whole = config.build(&gpu).unwrap();
    for (seed, poison) in [(0, false), (1, true), (2, true)] {
        step(&mut whole, seed, poison);
    }
    let mut file = StateFile::new();
    file.save("bn", &whole).unwrap();
    let mut resumed = config.build(&gpu).unwrap();
    through_bytes(&file)
        .load(&mut [("bn", &mut resumed)], &STRICT)
        .unwrap();
    for bn in [&mut whole, &mut resumed] {
        step(bn, 3, false);
    }
    let [whole, resumed] = [&whole, &resumed].map(|bn| bn.state().unwrap());
    assert_eq!(bits(&resumed), bits(&whole));
    assert_eq!(resumed, whole);
    assert_eq!(resumed.num_batches_skipped, Some(vec![0, 0, 2, 0]));
}

/// The last of several layers does not fit: none has changed.
#[test]
fn all_layers_are_loaded_or_none() {
    let gpu = gpu();
    let config = BatchNormConfig::new(4);
    let mut file = StateFile::new();
    file.save("a", &trained(&gpu, config, 0..1, None)).unwrap();
    file.save("b", &LayerNormConfig::new(3).build(&gpu).unwrap())
        .unwrap();
    let mut a = config.build(&gpu).unwrap();
    let before = a.state().unwrap();
    let mut refused = |file: &StateFile, options: LoadOptions| {
        let mut b = LayerNormConfig::new(3).build(&gpu).unwrap();
        let error = file
            .load(&mut [("a", &mut a), ("b", &mut b)], &options)
            .unwrap_err();
        assert_eq!(a.state().unwrap(), before, "{error}");
        match error {
            Error::State(error) => error,
            other => panic!("{other}"),
        }
    };
    let changed = |name: &str, values: &[f32]| {
        let mut file = file.clone();
        let shape = [values.len()];
        file.insert(name, StoredTensor::from_f32(shape, values).unwrap())
            .unwrap();
        file
    };
    let lenient = STRICT.strict(false);
    let mut short = file.clone();
    short.remove("b.bias");
    assert!(matches!(
        refused(&short, STRICT),
        StateError::Missing { .. }
    ));
    assert!(matches!(
        refused(&changed("b.bias", &[1.0; 4]), STRICT),
        StateError::Shape { .. }
    ));
    assert!(matches!(
        refused(&changed("b.bias", &[1.0; 4]), lenient),
        StateError::Shape { .. }
    ));
    assert!(matches!(
        refused(&changed("b.bias", &[f32::NAN; 3]), lenient),
        StateError::Value { .. }
    ));
    assert!(matches!(
        refused(&changed("b.extra", &[1.0]), STRICT),
        StateError::Unexpected { .. }
    ));
    assert!(matches!(
        refused(&changed("a.running_var", &[-1.0; 4]), STRICT),
        StateError::Value { .. }
    ));
}

/// What a layer has, and the file has not, is none of the load's business.
#[test]
fn a_lenient_load_into_a_layer_that_is_not_finite_loads_what_there_is() {
    let gpu = gpu();
    let config = BatchNormConfig::new(2);
    let mut file = StateFile::new();
    file.save("a", &config.build(&gpu).unwrap()).unwrap();
    for name in ["running_mean", "running_var", "num_batches_tracked"] {
        file.remove(&format!("a.{name}"));
    }
    let weight = StoredTensor::from_f32([2], &[3.0, 4.0]).unwrap();
    file.insert("a.weight", weight).unwrap();
    let mut spoiled = config.build(&gpu).unwrap();
    let x = gpu
        .tensor(Shape::nc(2, 2), &[f32::NAN, 1.0, 2.0, 3.0])
        .unwrap();
    spoiled.train(&x).map(drop).unwrap();
    let before = spoiled.state().unwrap();
    let lenient = LoadOptions::new().strict(false);
    file.load(&mut [("a", &mut spoiled)], &lenient).unwrap();
    let after = spoiled.state().unwrap();
    assert_eq!(after.weight, Some(vec![3.0, 4.0]));
    assert!(after.running_mean.unwrap()[0].is_nan());
    assert_eq!(
        after.running_var.unwrap()[1],
        before.running_var.unwrap()[1]
    );
    assert_eq!(after.num_batches_tracked, Some(1));

    // Skipped batches that were told of are not told again because weights were loaded.
    let mut telling = config.non_finite(NonFinite::Error).build(&gpu).unwrap();
    telling.train(&x).map(drop).unwrap();
    assert!(telling.state().is_err());
    file.load(&mut [("a", &mut telling)], &lenient).unwrap();
    assert_eq!(
        telling.state().unwrap().num_batches_skipped,
        Some(vec![1, 0])
    );
}

/// A cumulative average that forgets how many batches it is of goes on as if the next one were the first.
#[test]
fn a_cumulative_average_needs_its_counter() {
    let gpu = gpu();
    for (momentum, needed) in [(None, true), (Some(0.1), false)] {
        let config = BatchNormConfig::new(2).momentum(momentum);
        let mut file = StateFile::new();
        file.save("a", &config.build(&gpu).unwrap()).unwrap();
        file.remove("a.num_batches_tracked");
        let mut layer = config.build(&gpu).unwrap();
        let loaded = file.load(&mut [("a", &mut layer)], &STRICT);
        match loaded {
            Err(Error::State(StateError::Missing { names })) if needed => {
                assert_eq!(names, ["a.num_batches_tracked"]);
            }
            Ok(_) if !needed => {}
            other => panic!("{momentum:?}: {other:?}"),
        }
    }
}

#[test]
fn a_lenient_load_keeps_what_is_missing() {
    let gpu = gpu();
    let config = BatchNormConfig::new(4);
    let mut file = StateFile::new();
    let source = trained(&gpu, config, 0..2, None);
    file.save("bn", &source).unwrap();
    file.remove("bn.bias");
    file.remove("bn.running_var");
    file.remove("bn.num_batches_tracked");
    let mut bn = trained(&gpu, config, 5..8, None);
    let before = bn.state().unwrap();
    let report = file
        .load(&mut [("bn", &mut bn)], &STRICT.strict(false))
        .unwrap();
    assert_eq!(
        report.missing,
        ["bn.bias", "bn.running_var", "bn.num_batches_tracked"]
    );
    let (after, source) = (bn.state().unwrap(), source.state().unwrap());
    assert_eq!(
        [&after.weight, &after.running_mean],
        [&source.weight, &source.running_mean]
    );
    assert_eq!(
        [&after.bias, &after.running_var],
        [&before.bias, &before.running_var]
    );
    assert_eq!(after.num_batches_tracked, Some(3));
    // A layer of which the file has nothing stays as it is.
    let mut ln = LayerNormConfig::new(2).build(&gpu).unwrap();
    ln.set_weight(&[3.0, 4.0]).unwrap();
    let report = file
        .load(&mut [("ln", &mut ln)], &STRICT.strict(false))
        .unwrap();
    assert_eq!(report.missing, ["ln.weight", "ln.bias"]);
    assert_eq!(ln.weight().unwrap(), Some(vec![3.0, 4.0]));
}
