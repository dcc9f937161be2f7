//! The buffers of a program on the host.

use std::collections::HashMap;

use crate::gpu::program::Field;

/// The buffers of a program, value by value. Integers are numbers like the others.
#[derive(Clone, Debug, Default)]
pub struct Memory(HashMap<Field, Vec<f64>>);

impl Memory {
    pub fn insert(&mut self, field: Field, values: Vec<f64>) {
        self.0.insert(field, values);
    }

    pub fn values(&self, field: Field) -> &[f64] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, field: Field, index: usize) -> f64 {
        self.0[&field][index]
    }

    pub fn set(&mut self, field: Field, index: usize, value: f64) {
        self.0.get_mut(&field).expect("a field of the program")[index] = value;
    }

    /// The fields that there are.
    pub fn fields(&self) -> Vec<Field> {
        self.0.keys().copied().collect()
    }
}
