//! Layers on a device, into a file and out of it.

use super::file::StateFile;
use super::load::{LoadOptions, LoadReport, Loader};
use super::naming::Naming;
use super::norms::{Described, Description};
use crate::batch_norm::{BatchNorm, State};
use crate::error::Error;
use crate::norm::sample::{Layer, SampleNorm};

/// A layer that a state file can hold: [`BatchNorm`], and [`Layer`] of the other norms. Sealed.
pub trait Stateful: OnDevice {}

impl<T: OnDevice> Stateful for T {}

/// What [`Stateful`] keeps to the crate.
pub trait OnDevice {
    fn layer(&self) -> Description;
    fn read(&self) -> Result<State, Error>;
    /// Writes what the state has, which has been checked.
    fn replace(&mut self, state: &State) -> Result<(), Error>;
}

impl OnDevice for BatchNorm {
    fn layer(&self) -> Description {
        super::norms::Sealed::description(self.config())
    }

    fn read(&self) -> Result<State, Error> {
        self.state()
    }

    fn replace(&mut self, state: &State) -> Result<(), Error> {
        self.write_rows(state)
    }
}

impl<C: SampleNorm + Described> OnDevice for Layer<C> {
    fn layer(&self) -> Description {
        self.config().description()
    }

    fn read(&self) -> Result<State, Error> {
        Ok(State {
            weight: self.weight()?,
            bias: self.bias()?,
            ..State::default()
        })
    }

    fn replace(&mut self, state: &State) -> Result<(), Error> {
        if let Some(weight) = &state.weight {
            self.set_weight(weight)?;
        }
        if let Some(bias) = &state.bias {
            self.set_bias(bias)?;
        }
        Ok(())
    }
}

impl StateFile {
    /// Puts the state of a layer into the file under torch's names, in place of what the file has of that layer. Waits for the
    /// device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails; [`StateError`](crate::StateError) if it is not clear which layer of the
    /// file is meant.
    pub fn save(&mut self, prefix: &str, layer: &dyn Stateful) -> Result<(), Error> {
        self.save_as(prefix, layer, Naming::TORCH)
    }

    /// As [`save`](Self::save), under other names.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_as(
        &mut self,
        prefix: &str,
        layer: &dyn Stateful,
        naming: Naming,
    ) -> Result<(), Error> {
        let state = layer.read()?;
        Ok(self.insert_layer(prefix, &layer.layer(), &state, naming)?)
    }

    /// Loads layers, each by its prefix: all of them, or on error none. Everything is read and checked before the first layer
    /// is written; only a device that fails in that moment can leave some layers loaded and others not.
    ///
    /// # Errors
    /// [`StateError`](crate::StateError) for values that are missing, do not fit a layer, or are NaN, infinite or a negative variance;
    /// [`GpuError`](crate::GpuError).
    pub fn load(
        &self,
        layers: &mut [(&str, &mut dyn Stateful)],
        options: &LoadOptions,
    ) -> Result<LoadReport, Error> {
        let mut loader = Loader::new(self, *options);
        let mut states = Vec::new();
        for (prefix, layer) in layers.iter() {
            states.push(loader.state(prefix, &layer.layer())?);
        }
        let report = loader.finish()?;
        for ((_, layer), state) in layers.iter_mut().zip(&states) {
            layer.replace(state)?;
        }
        Ok(report)
    }
}
