//! The buffers of a program on the host.

use crate::gpu::program::Field;

/// The buffers of a program, value by value. Integers are numbers like the others. Twins look fields up for every value, and
/// a search among few is faster than a hash.
#[derive(Clone, Debug, Default)]
pub struct Memory(Vec<(Field, Vec<f64>)>);

impl Memory {
    fn find(&self, field: Field) -> Option<&Vec<f64>> {
        let mut fields = self.0.iter();
        fields.find_map(|(other, values)| (*other == field).then_some(values))
    }

    fn find_mut(&mut self, field: Field) -> Option<&mut Vec<f64>> {
        let mut fields = self.0.iter_mut();
        fields.find_map(|(other, values)| (*other == field).then_some(values))
    }

    pub fn insert(&mut self, field: Field, values: Vec<f64>) {
        match self.find_mut(field) {
            Some(old) => *old = values,
            None => self.0.push((field, values)),
        }
    }

    pub fn values(&self, field: Field) -> &[f64] {
        self.find(field).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, field: Field, index: usize) -> f64 {
        self.find(field).expect("a field of the program")[index]
    }

    pub fn set(&mut self, field: Field, index: usize, value: f64) {
        self.find_mut(field).expect("a field of the program")[index] = value;
    }

    /// The fields that there are.
    pub fn fields(&self) -> Vec<Field> {
        self.0.iter().map(|(field, _)| *field).collect()
    }
}
