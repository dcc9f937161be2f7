//! One line of the table: a kernel, compiled for a family.

use anyhow::{Context, bail};
use wgpu_norm::Launch;

use super::isa::main_loop;
use super::radv::Compiled;
use super::work::Work;

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub family: String,
    /// The first problem line with this kernel.
    pub problem: String,
    pub kernel: String,
    /// Vector registers of a lane.
    pub vgprs: f64,
    /// Registers, vector and scalar, that did not fit and went to memory.
    pub spilled: f64,
    /// Bytes of memory for those.
    pub scratch: f64,
    /// Bytes of workgroup memory.
    pub lds: f64,
    /// Subgroups that a SIMD unit can hold at once, to hide each other's waiting.
    pub waves: f64,
    /// Bytes of machine code.
    pub code: f64,
    pub instructions: f64,
    /// The compiler's guess of the cycles between two subgroups, if nothing waits.
    pub inverse_throughput: f64,
    /// In the main loop, for each value of each input; none without a loop that loads, or if it loads parameters, too.
    pub per_value: Option<f64>,
    /// The same for each byte that is loaded or stored.
    pub per_byte: Option<f64>,
    /// Loads of a lane that are under way at once, at the most, in the main loop.
    pub in_flight: Option<f64>,
}

/// Activations that a kernel reads side by side, value by value.
const INPUTS: [&str; 5] = ["x", "dy", "residual", "output", "dresidual"];

impl Row {
    /// The columns of a record.
    pub const HEADER: &str = "family,problem,kernel,vgprs,spilled,scratch,lds,waves,code,instructions,inverse_throughput,\
    loop_instructions_per_value,loop_instructions_per_byte,loads_in_flight";

    pub fn new(
        family: &str,
        work: &Work,
        launch: &Launch,
        compiled: &Compiled,
    ) -> anyhow::Result<Self> {
        let of = |name: &str| {
            let mut statistics = compiled.statistics.iter();
            let found = statistics.find(|(other, _)| other == name);
            found
                .map(|(_, value)| *value)
                .with_context(|| format!("the driver does not say {name:?}"))
        };
        let inputs = launch.bindings.iter();
        let inputs = inputs.filter(|input| INPUTS.contains(&input.name) && input.bytes.is_some());
        let main = main_loop(&compiled.isa);
        // Kernels that combine partial results have no values.
        let main = main.filter(|_| inputs.clone().count() > 0);
        // Where parameters change from value to value, they are among what the loop loads.
        let varying = launch.overrides.contains(&("PARAMETERS_VARY", 1));
        let affine = launch
            .bindings
            .iter()
            .any(|b| b.name == "affine" && b.bytes.is_some());
        let of_values = main.filter(|_| !(varying && affine));
        Ok(Self {
            family: family.to_owned(),
            problem: work.line.clone(),
            kernel: launch.label.clone(),
            vgprs: of("VGPRs")?,
            spilled: of("Spilled VGPRs")? + of("Spilled SGPRs")?,
            scratch: of("Scratch size")?,
            lds: of("LDS size")?,
            waves: of("Subgroups per SIMD")?,
            code: of("Code size")?,
            instructions: of("Instructions")?,
            inverse_throughput: of("Inverse Throughput")?,
            per_value: of_values.map(|main| {
                let values = f64::from(main.loaded) / work.value_bytes as f64;
                main.instructions as f64 / values
            }),
            per_byte: of_values.map(|main| {
                let bytes = f64::from(main.loaded + main.stored);
                main.instructions as f64 / bytes
            }),
            in_flight: main.map(|main| main.in_flight as f64),
        })
    }

    /// The figures, in the order of the header; an empty text for those that there are not.
    pub fn figures(&self) -> [Option<f64>; 11] {
        [
            Some(self.vgprs),
            Some(self.spilled),
            Some(self.scratch),
            Some(self.lds),
            Some(self.waves),
            Some(self.code),
            Some(self.instructions),
            Some(self.inverse_throughput),
            self.per_value,
            self.per_byte,
            self.in_flight,
        ]
    }

    pub fn csv(&self) -> String {
        let figures = self
            .figures()
            .map(|figure| figure.map_or(String::new(), |v| format!("{v}")));
        format!(
            "{},{},{},{}",
            self.family,
            self.problem,
            self.kernel,
            figures.join(",")
        )
    }

    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [family, problem, kernel, figures @ ..] = &fields[..] else {
            bail!("{line:?}: no row of compiled kernels");
        };
        let figures = figures.iter().map(|text| match text.is_empty() {
            true => Ok(None),
            false => text
                .parse()
                .map(Some)
                .with_context(|| format!("{line:?}: {text:?} is no number")),
        });
        let figures = figures.collect::<anyhow::Result<Vec<Option<f64>>>>()?;
        let [
            Some(vgprs),
            Some(spilled),
            Some(scratch),
            Some(lds),
            Some(waves),
            Some(code),
            Some(instructions),
            Some(inverse_throughput),
            per_value,
            per_byte,
            in_flight,
        ] = figures[..]
        else {
            bail!("{line:?}: expected the columns {}", Self::HEADER);
        };
        Ok(Self {
            family: (*family).to_owned(),
            problem: (*problem).to_owned(),
            kernel: (*kernel).to_owned(),
            vgprs,
            spilled,
            scratch,
            lds,
            waves,
            code,
            instructions,
            inverse_throughput,
            per_value,
            per_byte,
            in_flight,
        })
    }
}
