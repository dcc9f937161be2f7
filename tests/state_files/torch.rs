//! Files that torch has written, and files for torch. `tests/fixtures/state_files.py` has both directions.

use std::path::Path;

use crate::common::fixtures::Fixtures;
use crate::common::gpu;
use wgpu_norm::state::{LoadOptions, StateFile, StoredTensor};
use wgpu_norm::{
    BatchNorm, BatchNormConfig, Gpu, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig,
    LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig, Shape, Tensor,
};

const STATE: &[u8] = include_bytes!("../fixtures/torch_state.safetensors");
const WRAPPED: &[u8] = include_bytes!("../fixtures/torch_state_wrapped.safetensors");
const VALUES: &[u8] = include_bytes!("../fixtures/torch_state_values.safetensors");
const SCRIPT: &[u8] = include_bytes!("../fixtures/state_files.py");

/// The norms of the script's network.
struct Norms {
    gpu: Gpu,
    bn: BatchNorm,
    gn: GroupNorm,
    instance: InstanceNorm,
    ln: LayerNorm,
    rms: RmsNorm,
}

impl Norms {
    fn new(gpu: &Gpu) -> Self {
        let bn = BatchNormConfig::new(4).eps(1e-3).momentum(Some(0.2));
        Self {
            gpu: gpu.clone(),
            bn: bn.build(gpu).unwrap(),
            gn: GroupNormConfig::new(2, 4).build(gpu).unwrap(),
            instance: InstanceNormConfig::new(4).affine(true).build(gpu).unwrap(),
            ln: LayerNormConfig::new(15).build(gpu).unwrap(),
            rms: RmsNormConfig::new(5).eps(1e-6).build(gpu).unwrap(),
        }
    }

    fn load(&mut self, file: &StateFile) {
        let layers: &mut [(&str, &mut dyn wgpu_norm::state::Stateful)] = &mut [
            ("bn", &mut self.bn),
            ("gn", &mut self.gn),
            ("norms.0", &mut self.instance),
            ("norms.1", &mut self.ln),
            ("rms", &mut self.rms),
        ];
        let report = file.load(layers, &LoadOptions::new()).unwrap();
        assert_eq!(report, Default::default());
    }

    fn save(&self, file: &mut StateFile) {
        file.save("bn", &self.bn).unwrap();
        file.save("gn", &self.gn).unwrap();
        file.save("norms.0", &self.instance).unwrap();
        file.save("norms.1", &self.ln).unwrap();
        file.save("rms", &self.rms).unwrap();
    }

    fn tensor(&self, values: &[f32]) -> Tensor {
        self.gpu
            .tensor(Shape::nchw(values.len() / 60, 4, 3, 5), values)
            .unwrap()
    }

    fn eval(&self, x: &[f32]) -> Vec<f32> {
        let y = self.bn.eval(&self.tensor(x)).unwrap();
        let y = self.gn.eval(&y).unwrap();
        let y = self.instance.eval(&y).unwrap();
        let y = self.ln.eval(&y).unwrap();
        self.rms.eval(&y).unwrap().read().unwrap()
    }
}

#[test]
fn what_torch_wrote_is_what_torch_computes() {
    let gpu = gpu();
    let values = Fixtures::new(VALUES, SCRIPT);
    let x: Vec<f32> = values
        .values("x")
        .unwrap()
        .iter()
        .map(|&v| v as f32)
        .collect();
    let expected = values.values("y").unwrap();
    for bytes in [STATE, WRAPPED] {
        let file = StateFile::from_bytes(bytes).unwrap();
        let mut norms = Norms::new(&gpu);
        norms.load(&file);
        assert_eq!(norms.bn.state().unwrap().num_batches_tracked, Some(7));
        let mut largest = 0f64;
        for (y, expected) in norms.eval(&x).into_iter().zip(&expected) {
            let error = (f64::from(y) - expected).abs();
            assert!(error <= 2e-5, "{y} {expected}");
            largest = largest.max(error);
        }
        println!("largest error {largest:.1e}");
        // Saved at once, each tensor is as torch wrote it: name, type, shape and bits, and those that are no norm's.
        let mut saved = file.clone();
        norms.save(&mut saved);
        let saved = StateFile::from_bytes(&saved.to_bytes().unwrap()).unwrap();
        let names: Vec<&str> = saved.names().collect();
        assert_eq!(names, file.names().collect::<Vec<_>>());
        for name in names {
            assert_eq!(saved.get(name), file.get(name), "{name}");
        }
        assert_eq!(saved.metadata()["format"], "pt");
    }
}

/// The part of wgpu-norm in the script's round trip: loads the network, trains its BatchNorm by SGD towards
/// outputs of 1, evaluates, and saves over the file.
#[test]
#[ignore = "the script runs it"]
fn for_the_script() {
    let folder = std::env::var("WGPU_NORM_ROUND_TRIP").expect("the script names a folder");
    let folder = Path::new(&folder);
    let mut file = StateFile::read(folder.join("model.safetensors")).unwrap();
    let inputs = StateFile::read(folder.join("inputs.safetensors")).unwrap();
    let inputs: Vec<Vec<f32>> = inputs
        .names()
        .map(|name| inputs.get(name).unwrap().to_f32().unwrap())
        .collect();
    let mut norms = Norms::new(&gpu());
    norms.load(&file);
    for x in &inputs {
        let (y, saved) = norms.bn.train(&norms.tensor(x)).unwrap();
        let dy: Vec<f32> = y.read().unwrap().iter().map(|y| y - 1.0).collect();
        let gradients = norms.bn.backward(saved, &norms.tensor(&dy)).unwrap();
        let state = norms.bn.state().unwrap();
        let step = |value: Option<Vec<f32>>, gradient: Option<Vec<f32>>| -> Vec<f32> {
            let pairs = value.unwrap().into_iter().zip(gradient.unwrap());
            pairs
                .map(|(value, gradient)| value - 0.002 * gradient)
                .collect()
        };
        norms
            .bn
            .set_weight(&step(state.weight, gradients.weight().unwrap()))
            .unwrap();
        norms
            .bn
            .set_bias(&step(state.bias, gradients.bias().unwrap()))
            .unwrap();
    }
    let mut outputs = StateFile::new();
    for (number, x) in inputs.iter().enumerate() {
        let y = StoredTensor::from_f32([x.len() / 60, 4, 3, 5], &norms.eval(x)).unwrap();
        outputs.insert(format!("y{number}"), y).unwrap();
    }
    outputs.write(folder.join("outputs.safetensors")).unwrap();
    norms.save(&mut file);
    file.write(folder.join("model.safetensors")).unwrap();
}
