//! What a norm computes, in f64.

/// A norm without its epilogue, with its parameters.
pub trait Oracle {
    fn forward(&self, x: &[f64]) -> Vec<f64>;

    fn backward(&self, x: &[f64], dy: &[f64]) -> Gradients;
}

#[derive(Default)]
pub struct Gradients {
    pub dx: Vec<f64>,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
}
