//! Values far from all others, long sums, and variances beyond f32: held to the references in f64, by strategy.

use half::bf16;
use serde::Deserialize;

use crate::common::fixtures::Fixtures;
use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{LayerTuning, Strategy, Tile, Tuning};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::{BatchNormConfig, Dtype, Gpu, Problem, Shape};

const EPS: f64 = 1e-5f32 as f64;
const ULP: f64 = f32::EPSILON as f64;

/// The results of a pass forward and backward.
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    mean: Vec<f32>,
    /// Biased variances.
    var: Vec<f64>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

fn run(gpu: &Gpu, problem: impl Into<Problem>, tuning: Tuning, x: &[f32], dy: &[f32]) -> Results {
    let problem = problem.into();
    let shape = problem.shape;
    // A momentum of 1 keeps the statistics of the batch.
    let config = BatchNormConfig::new(shape.channels()).momentum(Some(1.0));
    let mut bn = config.build(gpu).unwrap();
    let tuning = LayerTuning::default().train(tuning).backward(tuning);
    bn.set_tuning(problem, tuning);
    let [x_tensor, dy] = [x, dy].map(|values| gpu.tensor(problem, values).unwrap());
    let (y, saved) = bn.train(&x_tensor).unwrap();
    let gradients = bn.backward(saved, &dy).unwrap();
    let state = bn.state().unwrap();
    let n = (x.len() / shape.channels()) as f64;
    let var = state.running_var.unwrap().into_iter();
    Results {
        y: y.read().unwrap(),
        dx: gradients.dx.read().unwrap(),
        mean: state.running_mean.unwrap(),
        var: var.map(|v| f64::from(v) * (n - 1.0) / n).collect(),
        dweight: gradients.weight().unwrap().unwrap(),
        dbias: gradients.bias().unwrap().unwrap(),
    }
}

/// Every strategy, on a tile for processors and one for GPUs.
fn tunings() -> Vec<Tuning> {
    let tiles = [Tile::new(8, 8), Tile::new(256, 32)];
    let tunings = tiles.into_iter().flat_map(|tile| {
        Strategy::ALL
            .iter()
            .map(move |&strategy| Tuning::default().strategy(Some(strategy)).tile(Some(tile)))
    });
    tunings.collect()
}

/// Whether the strategy can serve the shape with the tile. What cannot is left out.
fn serves(gpu: &Gpu, problem: impl Into<Problem>, tuning: Tuning) -> bool {
    use wgpu_norm::batch_norm::{BackwardOptions, BackwardPlan, TrainOptions, TrainPlan};
    let problem = problem.into();
    let config = BatchNormConfig::new(problem.shape.channels());
    let train = TrainOptions::default().tuning(tuning);
    let backward = BackwardOptions::default().tuning(tuning);
    TrainPlan::with_options(gpu.kernels(), problem, &config, train).is_ok()
        && BackwardPlan::with_options(gpu.kernels(), problem, &config, backward).is_ok()
}

/// The right results.
type Truth = (oracle::Forward, oracle::Gradients);

fn truth(shape: Shape, x: &[f32], dy: &[f32]) -> Truth {
    let (x, dy) = (wide(x), wide(dy));
    (
        oracle::train(shape, &x, None, None, EPS),
        oracle::backward(shape, &x, &dy, None, EPS),
    )
}

/// Largest errors in units of the last place of their scales. `fixtures/torch_errors.py` measures those of torch alike.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Errors {
    mean: f64,
    var: f64,
    dweight: f64,
    dbias: f64,
    /// Beyond the rounding to 16 bits.
    dx: f64,
}

impl Errors {
    fn of(case: &Case, results: &Results, truth: &Truth) -> Self {
        let shape = case.problem.shape;
        let (x, dy) = (wide(&case.x), wide(&case.dy));
        let (truth, gradients) = truth;
        let channels = shape.channels();
        let [mut size, mut terms, mut squares, mut largest, mut beyond] =
            [(); 5].map(|()| vec![0.0f64; channels]);
        let n = (x.len() / channels) as f64;
        for i in 0..x.len() {
            let c = shape.channel_of(i);
            size[c] += x[i].abs() / n;
            terms[c] += (truth.y[i] * dy[i]).powi(2);
            squares[c] += dy[i].powi(2);
            largest[c] = largest[c].max(dy[i].abs());
            let error = (f64::from(results.dx[i]) - gradients.dx[i]).abs();
            // max drops NaN.
            let error = if error.is_nan() { f64::INFINITY } else { error };
            beyond[c] = beyond[c].max(error - case.rounding(gradients.dx[i]));
        }
        let mut errors = Self::default();
        for c in 0..channels {
            let worst = |worst: &mut f64, error: f64, scale: f64| {
                let error = error.abs() / (scale * ULP);
                *worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
            };
            let (dw, db) = (gradients.dweight[c], gradients.dbias[c]);
            let error = f64::from(results.mean[c]) - truth.mean[c];
            worst(&mut errors.mean, error, size[c]);
            worst(&mut errors.var, results.var[c] - truth.var[c], truth.var[c]);
            let error = f64::from(results.dweight[c]) - dw;
            worst(&mut errors.dweight, error, dw.abs() + terms[c].sqrt());
            let error = f64::from(results.dbias[c]) - db;
            worst(&mut errors.dbias, error, db.abs() + squares[c].sqrt());
            let scale = largest[c] / (truth.var[c] + EPS).sqrt();
            worst(&mut errors.dx, beyond[c], scale);
        }
        errors
    }

    fn all(self) -> [f64; 5] {
        [self.mean, self.var, self.dweight, self.dbias, self.dx]
    }

    fn join(self, other: Self) -> Self {
        Self {
            mean: self.mean.max(other.mean),
            var: self.var.max(other.var),
            dweight: self.dweight.max(other.dweight),
            dbias: self.dbias.max(other.dbias),
            dx: self.dx.max(other.dx),
        }
    }
}

/// Inputs, rounded as they are stored.
struct Case {
    problem: Problem,
    name: String,
    x: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(problem: impl Into<Problem>, name: impl Into<String>, x: &[f32], dy: &[f32]) -> Self {
        let problem = problem.into();
        let stored = |values: &[f32]| match problem.dtype {
            Dtype::Bf16 => values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect(),
            _ => values.to_vec(),
        };
        Self {
            problem,
            name: name.into(),
            x: stored(x),
            dy: stored(dy),
        }
    }

    /// How far rounding to the storage type moves a value at most, where that is not an f32.
    fn rounding(&self, value: f64) -> f64 {
        match self.problem.dtype {
            Dtype::Bf16 => 2f64.powf(value.abs().max(1e-37).log2().floor() - 8.0),
            _ => 0.0,
        }
    }
}

/// torch's errors in float32 on the same inputs.
#[derive(Deserialize)]
struct Torch {
    shape: String,
    case: String,
    #[serde(flatten)]
    errors: Errors,
}

fn errors_of_torch() -> Vec<Torch> {
    let script = include_bytes!("fixtures/torch_errors.py");
    Fixtures::new(include_bytes!("fixtures/torch_errors.safetensors"), script).json("cases")
}

/// The index in memory of value `i` of channel `c`, in the order of the layout.
fn index(shape: Shape, c: usize, i: usize) -> usize {
    let mut own = (0..shape.elements().unwrap()).filter(|&k| shape.channel_of(k) == c);
    own.nth(i).unwrap()
}

/// Checks all strategies. Prints the largest errors of each case beside torch's, as a table.
fn check(cases: &[Case]) {
    let gpu = gpu();
    let torch = errors_of_torch();
    let mut red = Vec::new();
    for case in cases {
        let shape = case.problem.shape;
        let alike = |torch: &&Torch| torch.shape == shape.to_string() && torch.case == case.name;
        let torch = torch.iter().find(alike).expect("torch's errors").errors;
        let truth = truth(shape, &case.x, &case.dy);
        // A constant dy times the sum of the normalized values, which is zero but for the last digits of the mean.
        let dweight = match case.name.as_str() {
            "constant" => torch.dweight.max(4.0),
            _ => 4.0,
        };
        let bounds = Errors {
            mean: 4.0,
            var: 4.0,
            dweight,
            dbias: 4.0,
            dx: 6.0,
        };
        let mut worst = Errors::default();
        for tuning in tunings() {
            if !serves(&gpu, case.problem, tuning) {
                continue;
            }
            let results = run(&gpu, case.problem, tuning, &case.x, &case.dy);
            let errors = Errors::of(case, &results, &truth);
            worst = worst.join(errors);
            let mut pairs = errors.all().into_iter().zip(bounds.all());
            if pairs.any(|(error, bound)| error > bound) {
                red.push(format!("{shape} {tuning:?} {}: {errors:?}", case.name));
            }
        }
        let pairs = worst.all().into_iter().zip(torch.all());
        let columns = pairs.map(|(ours, torch)| format!("{ours:.1} / {torch:.1}"));
        let columns: Vec<String> = columns.collect();
        println!("| `{shape}` | {} | {} |", case.name, columns.join(" | "));
    }
    assert!(red.is_empty(), "{} above the bound: {red:#?}", red.len());
}

#[test]
fn moments_are_as_good_in_any_order_channels_first() {
    moments_are_as_good_in_any_order(&[Shape::nchw(8, 4, 16, 16), Shape::nchw(16, 3, 7, 7)]);
}

#[test]
fn moments_are_as_good_in_any_order_channels_last() {
    moments_are_as_good_in_any_order(&[Shape::nhwc(8, 16, 16, 4), Shape::nhwc(32, 7, 7, 32)]);
}

fn moments_are_as_good_in_any_order(shapes: &[Shape]) {
    let mut cases = Vec::new();
    for &shape in shapes {
        let count = shape.elements().unwrap();
        let (ordinary, dy) = (noise(1, count), noise(2, count));
        let values = count / shape.channels();
        for outlier in [1e3f32, 1e6, 1e12] {
            for place in [0, values / 2, values - 1] {
                let mut x = ordinary.clone();
                for c in 0..shape.channels() {
                    x[index(shape, c, place)] = outlier * (1.0 + c as f32 / 7.0);
                }
                let name = format!("{outlier:e} at {place}");
                if name == "1e6 at 0" && shape == shapes[0] {
                    let problem = Problem::new(shape, Dtype::Bf16);
                    cases.push(Case::new(problem, format!("{name}, bf16"), &x, &dy));
                }
                cases.push(Case::new(shape, name, &x, &dy));
            }
        }
    }
    check(&cases);
}

#[test]
fn long_sums_keep_their_digits() {
    let mut cases = Vec::new();
    for shape in [
        Shape::nhwc(32, 7, 7, 32),
        Shape::nchw(32, 3, 14, 14),
        Shape::nchw(16, 1, 64, 64),
    ] {
        let count = shape.elements().unwrap();
        let x = noise(1, count);
        let mut one_hot = vec![0.0; count];
        let values = count / shape.channels();
        for c in 0..shape.channels() {
            one_hot[index(shape, c, values * (c + 1) / (shape.channels() + 2))] = 1.0;
        }
        let positive: Vec<f32> = noise(3, count).iter().map(|v| v + 1.1).collect();
        for (name, dy) in [
            ("noise", noise(2, count)),
            ("constant", vec![0.1; count]),
            ("one hot", one_hot),
            ("positive", positive),
        ] {
            cases.push(Case::new(shape, name, &x, &dy));
        }
    }
    check(&cases);
}

/// The variance does not fit f32, and 1 / sqrt(infinity) is zero: as torch, y is the bias, and nothing has a gradient.
#[test]
fn a_variance_beyond_f32_leaves_the_bias() {
    let gpu = gpu();
    for shape in [Shape::nchw(4, 2, 8, 8), Shape::nhwc(4, 8, 8, 8)] {
        let count = shape.elements().unwrap();
        let dy = noise(2, count);
        let mut sums = vec![0.0; shape.channels()];
        for (i, &dy) in dy.iter().enumerate() {
            sums[shape.channel_of(i)] += f64::from(dy);
        }
        for large in [1e20f32, 1e30] {
            let x: Vec<f32> = (0..count)
                .map(|i| [large, -large, 0.0, 1.0][(i / shape.channels() + i) % 4])
                .collect();
            for tuning in tunings() {
                if !serves(&gpu, shape, tuning) {
                    continue;
                }
                let results = run(&gpu, shape, tuning, &x, &dy);
                let name = format!("{shape} {tuning:?} {large:e}");
                assert!(results.y.iter().all(|&y| y == 0.0), "{name}: y");
                assert!(results.dx.iter().all(|&dx| dx == 0.0), "{name}: dx");
                assert!(
                    results.dweight.iter().all(|&dw| dw == 0.0),
                    "{name}: dweight"
                );
                assert!(
                    results.var.iter().all(|&var| var == f64::INFINITY),
                    "{name}: var"
                );
                for (actual, sum) in results.dbias.iter().zip(&sums) {
                    assert!((f64::from(*actual) - sum).abs() < 1e-4, "{name}: dbias");
                }
            }
        }
    }
}

#[test]
fn an_infinite_running_variance_leaves_the_bias() {
    let gpu = gpu();
    let shape = Shape::nchw(2, 3, 4, 4);
    let mut bn = BatchNormConfig::new(3).build(&gpu).unwrap();
    bn.set_bias(&[1.0, 2.0, 3.0]).unwrap();
    let mut state = bn.state().unwrap();
    state.running_var = Some(vec![f32::INFINITY, 1.0, f32::MAX]);
    bn.load_state(&state).unwrap();
    let x = gpu.tensor(shape, &noise(1, 96)).unwrap();
    let y = bn.eval(&x).unwrap().read().unwrap();
    for (i, y) in y.into_iter().enumerate() {
        match shape.channel_of(i) {
            0 => assert_eq!(y, 1.0),
            1 => assert!(y.is_finite() && y != 2.0),
            _ => assert!((y - 3.0).abs() < 1e-6),
        }
    }
    let (y, saved) = bn.frozen(&x).unwrap();
    assert!(y.read().unwrap().iter().all(|y| y.is_finite()));
    let gradients = bn.backward(saved, &x).unwrap();
    let dx = gradients.dx.read().unwrap();
    assert!(dx.iter().all(|dx| dx.is_finite()));
    assert_eq!(dx[..16], [0.0; 16]);
    assert_eq!(gradients.weight().unwrap().unwrap()[0], 0.0);
}
