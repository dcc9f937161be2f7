//! Names of other systems, by kind of norm and whole segment.

use super::{three_channels, two_values};
use wgpu_norm::batch_norm::State;
use wgpu_norm::state::{Field, LoadOptions, Naming, Norm, StateFile, StoredTensor};
use wgpu_norm::{
    BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig,
    StateError,
};

const STRICT: LoadOptions = LoadOptions::new();

/// A file of rows of two values, each of which holds the number of its row.
fn file_of(names: &[&str]) -> StateFile {
    let mut file = StateFile::new();
    for (number, name) in names.iter().enumerate() {
        let row = StoredTensor::from_f32([2], &[number as f32; 2]).unwrap();
        file.insert(*name, row).unwrap();
    }
    file
}

/// The names that a layer is saved under, weight first.
fn names(naming: Naming, norm: Norm, prefix: &str) -> Vec<String> {
    let fields = Field::ALL.iter();
    fields
        .filter_map(|&field| naming.name(norm, prefix, field))
        .collect()
}

/// The table of `norms.md`: what each system calls weight, bias, running mean and running variance.
#[test]
fn each_system_has_its_names() {
    let batch = |naming| names(naming, Norm::Batch, "a");
    assert_eq!(
        batch(Naming::TORCH),
        [
            "a.weight",
            "a.bias",
            "a.running_mean",
            "a.running_var",
            "a.num_batches_tracked"
        ]
    );
    assert_eq!(
        batch(Naming::KERAS),
        ["a/gamma", "a/beta", "a/moving_mean", "a/moving_variance"]
    );
    assert_eq!(
        batch(Naming::FLAX_LINEN),
        [
            "params/a/scale",
            "params/a/bias",
            "batch_stats/a/mean",
            "batch_stats/a/var"
        ]
    );
    assert_eq!(
        batch(Naming::FLAX_NNX),
        ["a/scale", "a/bias", "a/mean", "a/var"]
    );
    assert_eq!(
        batch(Naming::BURN),
        ["a.gamma", "a.beta", "a.running_mean", "a.running_var"]
    );
    assert_eq!(
        batch(Naming::CANDLE),
        ["a.weight", "a.bias", "a.running_mean", "a.running_var"]
    );
    assert_eq!(names(Naming::KERAS, Norm::Rms, "a")[..1], ["a/scale"]);
    assert_eq!(
        names(Naming::KERAS, Norm::Layer, "a")[..2],
        ["a/gamma", "a/beta"]
    );
    assert_eq!(
        names(Naming::HF_LEGACY, Norm::Layer, "a.LayerNorm")[..2],
        ["a.LayerNorm.gamma", "a.LayerNorm.beta"]
    );
    assert_eq!(
        names(Naming::HF_LEGACY, Norm::Layer, "a.norm")[..2],
        ["a.norm.weight", "a.norm.bias"]
    );
    assert_eq!(
        names(Naming::HF_LEGACY, Norm::Batch, "LayerNorm")[..2],
        ["LayerNorm.weight", "LayerNorm.bias"]
    );
    assert_eq!(names(Naming::OPENNMT, Norm::Layer, "a"), ["a.a_2", "a.b_2"]);
    assert_eq!(names(Naming::OPENNMT, Norm::Batch, "a"), [""; 0]);
    // Without a prefix there is no separator.
    assert_eq!(
        names(Naming::FLAX_LINEN, Norm::Rms, "")[..1],
        ["params/scale"]
    );
    assert_eq!(names(Naming::TORCH, Norm::Rms, "")[..1], ["weight"]);
    let dotted = Naming::FLAX_LINEN.separator(".");
    assert_eq!(names(dotted, Norm::Layer, "a")[..1], ["params.a.scale"]);
}

#[test]
fn what_is_saved_under_a_naming_loads_under_it() {
    for naming in [
        Naming::TORCH,
        Naming::KERAS,
        Naming::FLAX_LINEN,
        Naming::FLAX_NNX,
        Naming::BURN,
        Naming::CANDLE,
        Naming::HF_LEGACY,
    ] {
        let options = STRICT.naming(naming);
        let mut file = StateFile::new();
        let mut state = three_channels();
        let bn = BatchNormConfig::new(3);
        file.insert_state("bn", &bn, &state, naming).unwrap();
        let (read, report) = file.state("bn", &bn, &options).unwrap();
        if report.missing.is_empty() {
            assert!([Naming::TORCH, Naming::HF_LEGACY].contains(&naming));
        } else {
            state.num_batches_tracked = Some(0);
        }
        assert_eq!(read, state, "{naming:?}");
        let affine = two_values();
        let mut weight = State::default();
        weight.weight = affine.weight.clone();
        file.insert_state("LayerNorm", &LayerNormConfig::new(2), &affine, naming)
            .unwrap();
        file.insert_state("gn", &GroupNormConfig::new(1, 2), &affine, naming)
            .unwrap();
        file.insert_state(
            "in",
            &InstanceNormConfig::new(2).affine(true),
            &affine,
            naming,
        )
        .unwrap();
        file.insert_state("rms", &RmsNormConfig::new(2), &weight, naming)
            .unwrap();
        assert_eq!(
            file.state("LayerNorm", &LayerNormConfig::new(2), &options)
                .unwrap()
                .0,
            affine
        );
        assert_eq!(
            file.state("gn", &GroupNormConfig::new(1, 2), &options)
                .unwrap()
                .0,
            affine
        );
        assert_eq!(
            file.state("in", &InstanceNormConfig::new(2).affine(true), &options)
                .unwrap()
                .0,
            affine
        );
        assert_eq!(
            file.state("rms", &RmsNormConfig::new(2), &options)
                .unwrap()
                .0,
            weight
        );
    }
}

/// The faults of a rule by substring: ConvNeXt's layer scale is called `gamma`, and `beta_proj` is a linear layer.
#[test]
fn a_name_is_taken_for_no_norm_by_a_part_of_it() {
    let convnext = [
        "stages.0.layers.0.gamma",
        "stages.0.layers.0.norm.weight",
        "stages.0.layers.0.norm.bias",
        "mixer.beta_proj.weight",
        "mixer.beta_proj.bias",
        "gamma.weight",
        "gamma.bias",
        "LayerNorm.gamma_scale",
        "LayerNorm2.gamma",
        "LayerNorm2.beta",
    ];
    let config = LayerNormConfig::new(2);
    let weight = |state: State| state.weight.unwrap()[0];
    for naming in [Naming::TORCH, Naming::HF_LEGACY, Naming::CANDLE] {
        let options = STRICT.naming(naming);
        let mut file = file_of(&convnext);
        let (state, report) = file
            .state("stages.0.layers.0.norm", &config, &options)
            .unwrap();
        assert_eq!(weight(state.clone()), 1.0);
        assert_eq!(report, Default::default());
        let (gamma, _) = file.state("gamma", &config, &options).unwrap();
        assert_eq!(weight(gamma), 5.0);
        file.insert_state("stages.0.layers.0.norm", &config, &state, naming)
            .unwrap();
        let names: Vec<&str> = file.names().collect();
        let mut expected = convnext.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
    // A LayerNorm's own scale by torch's names: the layer has none, and `gamma` beside it is no weight.
    let file = file_of(&convnext);
    let error = file
        .state("stages.0.layers.0", &config, &STRICT)
        .unwrap_err();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    let error = file
        .state(
            "stages.0.layers.0",
            &config,
            &STRICT.naming(Naming::HF_LEGACY),
        )
        .unwrap_err();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    // Not a module called LayerNorm, in Hugging Face's sense.
    let error = file
        .state("LayerNorm2", &config, &STRICT.naming(Naming::HF_LEGACY))
        .unwrap_err();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    let error = file
        .state("LayerNorm", &config, &STRICT.naming(Naming::HF_LEGACY))
        .unwrap_err();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
}

#[test]
fn old_names_are_read() {
    let config = LayerNormConfig::new(2);
    for (naming, names) in [
        (
            Naming::HF_LEGACY,
            ["bert.LayerNorm.gamma", "bert.LayerNorm.beta"],
        ),
        (
            Naming::HF_LEGACY,
            ["bert.LayerNorm.weight", "bert.LayerNorm.bias"],
        ),
        (
            Naming::OPENNMT,
            ["bert.LayerNorm.a_2", "bert.LayerNorm.b_2"],
        ),
        (
            Naming::CANDLE,
            ["bert.LayerNorm.gamma", "bert.LayerNorm.beta"],
        ),
    ] {
        let options = STRICT.naming(naming);
        let (state, _) = file_of(&names)
            .state("bert.LayerNorm", &config, &options)
            .unwrap();
        assert_eq!(
            [state.weight, state.bias],
            [Some(vec![0.0; 2]), Some(vec![1.0; 2])]
        );
        // Saved again, they stay.
        let mut again = file_of(&names);
        let (state, _) = again.state("bert.LayerNorm", &config, &options).unwrap();
        again
            .insert_state("bert.LayerNorm", &config, &state, naming)
            .unwrap();
        assert!(again.names().eq(file_of(&names).names()));
        let torch = file_of(&names).state("bert.LayerNorm", &config, &STRICT);
        assert_eq!(torch.is_ok(), names[0].ends_with(".weight"));
        // Neither of two names is better than the other.
        let both = file_of(&[
            names[0],
            names[1],
            "bert.LayerNorm.weight",
            "bert.LayerNorm.gamma",
        ]);
        if naming != Naming::OPENNMT {
            let error = both.state("bert.LayerNorm", &config, &options).unwrap_err();
            assert!(matches!(error, StateError::Ambiguous { .. }), "{error}");
        }
    }
}

/// What a naming has no name for is not lost in silence.
#[test]
fn a_value_without_a_name_is_not_left_out() {
    let mut file = StateFile::new();
    let config = BatchNormConfig::new(3);
    let error = file.insert_state("bn", &config, &three_channels(), Naming::OPENNMT);
    assert_eq!(
        error.unwrap_err().to_string(),
        "weight of bn: the naming has no name for it; use another"
    );
    assert_eq!(file, StateFile::new());
    // Systems without a counter are known for that.
    file.insert_state("bn", &config, &three_channels(), Naming::BURN)
        .unwrap();
    assert_eq!(file.names().count(), 4);
}

#[test]
fn segments_of_other_programs_are_dropped() {
    let (config, weight) = (LayerNormConfig::new(2).bias(false), |state: State| {
        state.weight.unwrap()[0]
    });
    let found = |names: &[&str], prefix: &str| {
        file_of(names)
            .state(prefix, &config, &STRICT)
            .map(|(state, _)| weight(state))
    };
    for name in [
        "module.net.norm.weight",
        "_orig_mod.net.norm.weight",
        "module._orig_mod.net.norm.weight",
        "net._orig_mod.norm.weight",
        "net.module.norm._orig_mod.weight",
    ] {
        assert_eq!(found(&[name], "net.norm"), Ok(0.0), "{name}");
        // Saved again it keeps the name.
        let mut file = file_of(&[name]);
        let (state, _) = file.state("net.norm", &config, &STRICT).unwrap();
        file.insert_state("net.norm", &config, &state, Naming::TORCH)
            .unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), [name]);
        let key = format!("wgpu-norm/layer/{}", name.strip_suffix(".weight").unwrap());
        assert!(file.metadata().contains_key(&key), "{key}");
        let error = file
            .state("net.norm", &config.eps(1.0), &STRICT)
            .unwrap_err();
        assert!(matches!(error, StateError::Setting { .. }), "{error}");
    }
    assert_eq!(found(&["module.weight"], ""), Ok(0.0));
    // The exact name first.
    assert_eq!(
        found(&["module.norm.weight", "norm.weight"], "norm"),
        Ok(1.0)
    );
    assert_eq!(
        found(&["module.norm.weight", "norm.weight"], "module.norm"),
        Ok(0.0)
    );
    // Whole segments only, and no other names.
    for name in [
        "modules.norm.weight",
        "my_module.norm.weight",
        "norm.module_weight",
        "model.norm.weight",
    ] {
        assert!(
            matches!(found(&[name], "norm"), Err(StateError::Missing { .. })),
            "{name}"
        );
    }
    let error = found(&["module.norm.weight", "_orig_mod.norm.weight"], "norm").unwrap_err();
    let StateError::Ambiguous { wanted, candidates } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (wanted.as_str(), candidates),
        (
            "norm",
            vec!["_orig_mod.norm".to_owned(), "module.norm".to_owned()]
        )
    );
    // A layer is at one place: its values are not gathered from two.
    let two = file_of(&["norm.weight", "module.norm.bias"]);
    let error = two
        .state("norm", &LayerNormConfig::new(2), &STRICT)
        .unwrap_err();
    assert_eq!(
        error,
        StateError::Missing {
            names: vec!["norm.bias".to_owned()]
        }
    );
    // Keras has no such segments.
    let keras = file_of(&["module/norm/gamma"]);
    assert!(
        keras
            .state("norm", &config, &STRICT.naming(Naming::KERAS))
            .is_err()
    );
}

#[test]
fn norms_and_fields_are_words() {
    for &norm in Norm::ALL {
        assert_eq!(norm.to_string().parse(), Ok(norm));
    }
    for &field in Field::ALL {
        assert_eq!(field.to_string().parse(), Ok(field));
    }
    let error = "gamma".parse::<Field>().unwrap_err().to_string();
    assert!(
        Field::ALL.iter().all(|field| error.contains(field.name())),
        "{error}"
    );
    let error = "sync".parse::<Norm>().unwrap_err().to_string();
    assert!(
        Norm::ALL.iter().all(|norm| error.contains(norm.name())),
        "{error}"
    );
}
