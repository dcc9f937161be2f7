//! RMSNorm rounded before the weight has the bits of models after Llama, as torch computes them. `llama.py` made the
//! fixtures.

use serde::Deserialize;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::rms_norm;
use wgpu_norm::rms_norm::Rounding;
use wgpu_norm::{Dtype, Problem, RmsNormConfig, Shape};

use crate::common::fixtures::{Fixtures, draw};
use crate::common::{gpu, wide};

#[derive(Debug, Deserialize)]
struct Case {
    dtype: String,
    rows: usize,
    size: usize,
    eps: f32,
}

/// The nearest value of a storage type.
fn stored(dtype: Dtype, value: f64) -> f64 {
    match dtype {
        Dtype::F16 => half::f16::from_f32(value as f32).into(),
        _ => half::bf16::from_f32(value as f32).into(),
    }
}

/// What one unit in the last place is worth, as a share of a value at most.
fn unit(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-10),
        _ => 2f64.powi(-7),
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// How many values are further than that from those expected.
fn further(actual: &[f64], expected: &[f64], distance: f64) -> usize {
    assert_eq!(actual.len(), expected.len());
    let pairs = actual.iter().zip(expected);
    pairs.filter(|(a, b)| (*a - *b).abs() > distance).count()
}

#[test]
fn values_rounded_before_the_weight_have_the_bits_of_llamas() {
    let script = include_bytes!("fixtures/llama.py");
    let fixtures = Fixtures::new(include_bytes!("fixtures/llama.safetensors"), script);
    let gpu = gpu();
    let cases: Vec<Case> = fixtures.json("cases");
    assert_eq!(cases.len(), 6);
    // All values, and those that are not torch's: y, and gradients of weights.
    let (mut all, mut other, mut other_weights) = ([0; 2], [0; 2], [0; 2]);
    for (index, case) in cases.iter().enumerate() {
        let (size, eps) = (case.size, f64::from(case.eps));
        let dtype: Dtype = case.dtype.parse().unwrap();
        let problem = Problem::new(Shape::nc(case.rows, size), dtype);
        let drawn = |seed, count, of: fn(f64) -> f64| -> Vec<f64> {
            let values = draw(8 * index as u64 + seed, count).into_iter();
            values.map(|v| stored(dtype, of(v))).collect()
        };
        let x = drawn(1, case.rows * size, |v| 2.0 * v);
        let dy = drawn(2, case.rows * size, |v| v);
        let weight = drawn(3, size, |v| 1.5 + v);
        let expected = |name: &str| fixtures.values(&format!("{index}.{name}")).unwrap();
        let (y, dx, dweight) = (expected("y"), expected("dx"), expected("dweight"));
        let largest = |values: &[f64]| values.iter().fold(0f64, |most, v| most.max(v.abs()));

        let rounded = |x_hat| stored(dtype, x_hat);
        let of = rms_norm::forward_rounded(size, &x, Some(&weight), None, eps, rounded);
        let of: Vec<f64> = of.y.into_iter().map(rounded).collect();
        assert_eq!(further(&of, &y, 0.0), 0, "{case:?}: the reference");

        for (way, rounding) in [Rounding::BeforeWeight, Rounding::Once]
            .into_iter()
            .enumerate()
        {
            let config = RmsNormConfig::new(size).eps(case.eps).rounding(rounding);
            let mut norm = config.build(&gpu).unwrap();
            norm.set_weight(&narrow(&weight)).unwrap();
            let tensor = |values| gpu.tensor(problem, &narrow(values)).unwrap();
            let (actual, saved) = norm.train(&tensor(&x)).unwrap();
            let gradients = norm.backward(saved, &tensor(&dy)).unwrap();
            let actual = wide(&actual.read().unwrap());
            within("y", &actual, &y, Bound::new(unit(dtype), 0.0)).unwrap();
            all[0] += y.len();
            other[way] += further(&actual, &y, 0.0);
            let actual = wide(&gradients.weight().unwrap().unwrap());
            all[1] += dweight.len();
            other_weights[way] += further(&actual, &dweight, 4e-7 * largest(&dweight));
            // torch rounds the products of dy and weight, too.
            let actual = wide(&gradients.dx.read().unwrap());
            let bound = Bound::new(unit(dtype), unit(dtype) * largest(&dx));
            within("dx", &actual, &dx, bound).unwrap();
        }
    }
    let [values, weights] = all.map(|both| both / 2);
    println!("not torch's: {other:?} of {values}; gradients: {other_weights:?} of {weights}");
    // f32 rounds to the other side where a value is in the middle between two.
    assert!(1000 * other[0] <= values);
    assert!(100 * other_weights[0] <= weights);
    // Rounded once, they are other numbers.
    assert!(5 * other[1] > values);
    assert!(10 * other_weights[1] > 9 * weights);
    fixtures.check_all_used();
}
