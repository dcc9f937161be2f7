//! What a plan decides: dispatches in order, and the buffers that they bind. Plain data, no device.

use std::ops::Range;

use super::caps::Caps;
use super::compose::{Access, Choice, ComposeError, Composed, Form, Source, compose};
use crate::error::PlanError;

/// A buffer, by its name in `#bind` lines and in the buffers structs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field {
    name: &'static str,
    /// Whether its values have the problem's storage type. If so, a dispatch binds its window.
    activation: bool,
    /// Whether a caller that gives a buffer which the plan does not need has misunderstood something.
    optional: bool,
}

impl Field {
    /// f32 or u32 values that a dispatch binds as a whole.
    pub const fn array(name: &'static str) -> Self {
        Self {
            name,
            activation: false,
            optional: false,
        }
    }

    /// Values of the problem's storage type, of which a dispatch binds a window.
    pub const fn activation(name: &'static str) -> Self {
        Self {
            activation: true,
            ..Self::array(name)
        }
    }

    /// The same, with an error for a buffer that the plan does not need.
    pub const fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether its values have the problem's storage type.
    pub const fn is_activation(self) -> bool {
        self.activation
    }

    /// Whether a buffer that the plan does not need is an error.
    pub const fn is_optional(self) -> bool {
        self.optional
    }
}

/// A kernel: a file, the files bound to the slots that it imports, and the values of its constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelSpec {
    /// The norm: the first half of the label.
    pub norm: &'static str,
    /// The stem of the file, and the name of the entry point.
    pub name: &'static str,
    /// The files bound to slots. A kernel takes those that it imports.
    pub choices: Vec<Choice>,
    /// Values of constants and overrides, 0 and 1 for false and true. A kernel takes those that it declares.
    pub constants: Vec<(&'static str, u32)>,
}

impl KernelSpec {
    /// The kernel's name for drivers and profilers, such as `batch_norm.stats`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.norm, self.name)
    }

    /// The same kernel with those choices and constants only that it imports and declares.
    pub fn reduced(&self, composed: &Composed) -> Self {
        let constants = self.constants.iter().copied();
        Self {
            choices: self.choices(composed),
            constants: constants
                .filter(|(name, _)| composed.declares(name))
                .collect(),
            ..*self
        }
    }

    /// What the kernel's text depends on: the kernel without its overrides.
    pub fn of_text(&self, composed: &Composed) -> Self {
        let mut reduced = self.reduced(composed);
        let constants = &mut reduced.constants;
        constants.retain(|(name, _)| !composed.overrides(name));
        reduced
    }

    /// The choices that the kernel imports.
    pub fn choices(&self, composed: &Composed) -> Vec<Choice> {
        let choices = self.choices.iter().copied();
        choices.filter(|(slot, _)| composed.imports(slot)).collect()
    }

    /// The values of the overrides that the kernel declares.
    pub fn overrides(&self, composed: &Composed) -> Vec<(&'static str, u32)> {
        let declared = self.constants.iter().copied();
        declared
            .filter(|(name, _)| composed.overrides(name))
            .collect()
    }
}

/// The uniform of a norm's kernels.
pub trait Uniform {
    /// Its bytes, as the device reads them.
    fn bytes(&self) -> Vec<u8>;
}

impl Uniform for Vec<u8> {
    fn bytes(&self) -> Vec<u8> {
        self.clone()
    }
}

/// One dispatch; `U` is the uniform of the norm's kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch<U> {
    /// What runs.
    pub kernel: KernelSpec,
    /// Its uniform.
    pub params: U,
    /// The vectors of four values that it binds of each activation.
    pub window: Range<u32>,
    /// Number of workgroups.
    pub groups: u32,
}

impl<U> Dispatch<U> {
    /// The grid, folded into two dimensions if one does not hold it. Kernels skip the surplus.
    pub fn grid(&self, max_groups: u32) -> [u32; 2] {
        let rows = self.groups.div_ceil(max_groups).max(1);
        [self.groups.div_ceil(rows), rows]
    }
}

/// A buffer that a program needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub field: Field,
    /// Its size in bytes, a multiple of 4; 0 if no dispatch touches it.
    pub bytes: u64,
}

/// A plan's dispatches, and the buffers that they need.
#[derive(Clone, Debug)]
pub struct Program<U> {
    /// The WGSL files that the kernels are composed of.
    pub sources: &'static [&'static [Source]],
    /// In order; each sees what those before it wrote.
    pub dispatches: Vec<Dispatch<U>>,
    /// Every buffer that the caller gives.
    pub needs: Vec<Need>,
    /// Bytes of four values of an activation.
    pub vector_bytes: u64,
}

impl<U> Program<U> {
    /// The size that a buffer must have, in bytes; 0 if the program does not touch it.
    pub fn bytes(&self, field: Field) -> u64 {
        let need = self.needs.iter().find(|need| need.field == field);
        need.map_or(0, |need| need.bytes)
    }

    /// What a dispatch binds as `name`: a field and its bytes, or nothing if the configuration leaves the buffer out.
    pub fn bound(&self, name: &str, window: &Range<u32>) -> Option<(Field, Range<u64>)> {
        let need = self
            .needs
            .iter()
            .find(|need| need.field.name() == name && need.bytes > 0)?;
        let bytes = if need.field.is_activation() {
            self.vector_bytes * u64::from(window.start)..self.vector_bytes * u64::from(window.end)
        } else {
            0..need.bytes
        };
        Some((need.field, bytes))
    }

    /// The text of a dispatch's kernel, and what it declares.
    ///
    /// # Errors
    /// [`ComposeError`], which the crate's tests exclude.
    pub fn composed(&self, dispatch: &Dispatch<U>) -> Result<Composed, ComposeError> {
        let kernel = &dispatch.kernel;
        compose(kernel.name, self.sources, &kernel.choices)
    }
}

impl<U: Uniform> Program<U> {
    /// The same with the bytes of the uniforms.
    pub fn with_bytes(&self) -> Program<Vec<u8>> {
        let dispatches = self.dispatches.iter().map(|dispatch| Dispatch {
            kernel: dispatch.kernel.clone(),
            params: dispatch.params.bytes(),
            window: dispatch.window.clone(),
            groups: dispatch.groups,
        });
        Program {
            sources: self.sources,
            dispatches: dispatches.collect(),
            needs: self.needs.clone(),
            vector_bytes: self.vector_bytes,
        }
    }

    /// The dispatches as data for callers that compile and launch them.
    ///
    /// # Errors
    /// [`ComposeError`], which the crate's tests exclude.
    pub fn launches(&self, max_groups: u32, form: Form) -> Result<Vec<Launch>, ComposeError> {
        let launch = |dispatch: &Dispatch<U>| {
            let composed = self.composed(dispatch)?;
            let kernel = &dispatch.kernel;
            let bindings = composed.bindings.iter().map(|declared| {
                let bound = self.bound(declared.name, &dispatch.window);
                LaunchBinding {
                    binding: declared.number,
                    name: declared.name,
                    access: declared.access,
                    bytes: bound.map(|(_, bytes)| bytes),
                }
            });
            Ok(Launch {
                label: kernel.label(),
                entry_point: kernel.name,
                wgsl: composed.wgsl(&kernel.constants, form)?,
                overrides: match form.constants {
                    true => Vec::new(),
                    false => kernel.overrides(&composed),
                },
                choices: kernel.choices(&composed),
                files: composed.files.clone(),
                uniform: dispatch.params.bytes(),
                bindings: bindings.collect(),
                grid: dispatch.grid(max_groups),
            })
        };
        self.dispatches.iter().map(launch).collect()
    }
}

impl<U: Uniform> Program<U> {
    /// The dispatches as data, for a device with these properties.
    ///
    /// # Errors
    /// [`PlanError::Kernel`] for a kernel that cannot be composed, which the crate's tests exclude.
    pub fn describe(&self, caps: &Caps, form: Form) -> Result<Vec<Launch>, PlanError> {
        let launches = self.launches(caps.max_groups, form);
        launches.map_err(|error| PlanError::Kernel {
            kernel: self
                .dispatches
                .first()
                .map_or("", |first| first.kernel.name),
            message: error.to_string(),
        })
    }
}

/// One dispatch as data: all that a caller needs who compiles and launches the kernel without this crate's device code.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Launch {
    /// The kernel's name, such as `batch_norm.stats`.
    pub label: String,
    /// The entry point.
    pub entry_point: &'static str,
    /// The composed WGSL.
    pub wgsl: String,
    /// Values of override constants, 0 and 1 for false and true; empty if the text has them as constants.
    pub overrides: Vec<(&'static str, u32)>,
    /// The slots that the kernel imports, and the files bound to them.
    pub choices: Vec<(&'static str, &'static str)>,
    /// The WGSL files of the text, in order, each after its imports.
    pub files: Vec<&'static str>,
    /// The bytes of the uniform.
    pub uniform: Vec<u8>,
    /// The bindings of group 0, by number.
    pub bindings: Vec<LaunchBinding>,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
}

/// One binding of a [`Launch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchBinding {
    /// The number of the binding in group 0.
    pub binding: u32,
    /// The buffer's name, as in the buffers structs; `params` for the uniform.
    pub name: &'static str,
    /// How the kernel uses it. With [`Form::read_write`] the text declares what is only read as `read_write`, too, so that
    /// the bind group's layout must.
    pub access: Access,
    /// The bytes to bind, counted from the start of the caller's slice; `None` for the uniform, and for a buffer that
    /// the configuration leaves out: bind any 16 bytes, the kernel does not touch them.
    pub bytes: Option<Range<u64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_its_workgroups_within_the_limit() {
        let dispatch = |groups| Dispatch {
            kernel: KernelSpec {
                norm: "",
                name: "",
                choices: vec![],
                constants: vec![],
            },
            params: (),
            window: 0..0,
            groups,
        };
        for groups in [0, 1, 2, 65_535, 65_536, 65_537, 1_000_003, 4_000_000_000] {
            let [x, y] = dispatch(groups).grid(65_535);
            assert!(x <= 65_535 && y <= 65_535, "{groups}");
            assert!(u64::from(x) * u64::from(y) >= u64::from(groups), "{groups}");
        }
    }
}
