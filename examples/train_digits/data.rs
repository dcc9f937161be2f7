//! The handwritten digits (see `DATA.md`) and their split into a training and a test set.

use std::io::Read;

use anyhow::Context;
use flate2::read::GzDecoder;

use crate::random::Random;

/// Height and width of an image.
pub const SIZE: usize = 8;
pub const PIXELS: usize = SIZE * SIZE;
pub const CLASSES: usize = 10;
/// Images to learn from; the rest is for the test.
pub const TRAINING: usize = 1437;

/// The split must be the same in every run, or test accuracies could not be compared.
const SPLIT_SEED: u64 = 1998;
/// The brightest value a pixel takes in the file.
const WHITE: f32 = 16.0;

pub struct Digits {
    /// All images one after the other, `PIXELS` values from 0 to 1 each.
    pub pixels: Vec<f32>,
    /// The digit each image shows.
    pub labels: Vec<u32>,
    /// The numbers of the training images.
    pub training: Vec<u32>,
    /// The numbers of the test images.
    pub test: Vec<u32>,
}

impl Digits {
    pub fn load() -> anyhow::Result<Self> {
        let mut text = String::new();
        GzDecoder::new(&include_bytes!("digits.csv.gz")[..]).read_to_string(&mut text)?;
        let mut pixels = Vec::new();
        let mut labels = Vec::new();
        for line in text.lines() {
            let (image, label) = line.rsplit_once(',').context("a line without a label")?;
            for value in image.split(',') {
                pixels.push(value.parse::<f32>()? / WHITE);
            }
            labels.push(label.parse()?);
        }
        let mut training: Vec<u32> = (0..labels.len() as u32).collect();
        Random::new(SPLIT_SEED).shuffle(&mut training);
        let test = training.split_off(TRAINING);
        Ok(Self {
            pixels,
            labels,
            training,
            test,
        })
    }
}
