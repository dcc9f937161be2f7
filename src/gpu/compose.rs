//! Shader composition. A WGSL file may begin with these directives, and has no others:
//!
//! | line | meaning |
//! |---|---|
//! | `#import name` | places the file `name`, or the one that the plan binds to the slot `name`, once, before this file |
//! | `#bind uniform name: Type` | declares the uniform `name` |
//! | `#bind read name: type`, `#bind write name: type` | declares the storage buffer `name`; if several files declare it, `write` wins |
//! | `#const NAME` | declares a `u32` constant whose value the plan gives: lengths of local arrays |
//! | `#enable name` | asks for a WGSL extension, for the whole kernel |
//!
//! A file declares every name that it uses, or imports a file that does. A buffer has the same number in every kernel of
//! one set of sources: its place in the alphabetical list of all their buffers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

/// One WGSL file of the crate.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The file's stem.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Lists the WGSL files of one folder under `shaders/`, by stem.
macro_rules! sources {
    ($folder:literal: $($name:ident),+ $(,)?) => {
        &[$($crate::gpu::compose::Source {
            name: stringify!($name),
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $folder, "/", stringify!($name), ".wgsl")),
        }),+]
    };
}
pub(crate) use sources;

/// A choice: a slot, which is a name that files import, and the file that the plan binds to it.
pub type Choice = (&'static str, &'static str);

/// A composition that does not hold together. The crate's own tests compose every kernel with every choice, so that no
/// user meets one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// No file and no slot of that name.
    #[error("{file}:{line}: unknown import {name:?}")]
    Unknown {
        /// The importing file.
        file: String,
        /// Its line.
        line: usize,
        /// The name imported.
        name: String,
    },
    /// A file that imports itself, by way of others.
    #[error("{file}:{line}: importing {name:?} closes a cycle")]
    Cycle {
        /// The importing file.
        file: String,
        /// Its line.
        line: usize,
        /// The name imported.
        name: String,
    },
    /// A directive below the first declaration.
    #[error("{file}:{line}: directives stand at the top of a file")]
    Late {
        /// The file.
        file: String,
        /// Its line.
        line: usize,
    },
    /// A line that begins as a directive and is none.
    #[error(
        "{file}:{line}: cannot read {text:?}; write #import, #bind uniform|read|write name: type, #const or #enable"
    )]
    Directive {
        /// The file.
        file: String,
        /// Its line.
        line: usize,
        /// The line's text.
        text: String,
    },
    /// Two files declare one buffer with different types.
    #[error("{file}:{line}: {name} is {here}, but another file declares it as {there}")]
    Conflict {
        /// The file.
        file: String,
        /// Its line.
        line: usize,
        /// The buffer.
        name: String,
        /// The type declared here.
        here: String,
        /// The type declared before.
        there: String,
    },
    /// A constant that the plan gives no value.
    #[error("the plan gives constant {name} no value")]
    Constant {
        /// The constant.
        name: String,
    },
    /// Two files, or two choices, of one name.
    #[error("{name:?} is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
}

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// A buffer that a kernel declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name, in WGSL and in the buffers structs.
    pub name: &'static str,
    /// Its binding number.
    pub number: u32,
    /// The strongest access that a file asks for.
    pub access: Access,
    /// Its WGSL type.
    pub ty: &'static str,
}

/// How the composed text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Form {
    /// Whether every storage buffer is declared `read_write`: for engines that lend slices of one buffer, which WebGPU
    /// forbids to bind for reading and for writing in one dispatch.
    pub read_write: bool,
    /// Whether override constants become constants: for engines that compile without pipeline constants.
    pub constants: bool,
}

impl Form {
    /// Sets [`read_write`](Self::read_write).
    pub const fn read_write(mut self, read_write: bool) -> Self {
        self.read_write = read_write;
        self
    }

    /// Sets [`constants`](Self::constants).
    pub const fn constants(mut self, constants: bool) -> Self {
        self.constants = constants;
        self
    }
}

/// A kernel's text, and what it declares.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The buffers, by number.
    pub bindings: Vec<Declared>,
    /// The files, in the order of the text.
    pub files: Vec<&'static str>,
    slots: BTreeSet<&'static str>,
    constants: BTreeSet<&'static str>,
    overrides: BTreeSet<&'static str>,
    extensions: BTreeSet<&'static str>,
    text: String,
}

impl Composed {
    /// Whether the kernel imports a slot of that name.
    pub fn imports(&self, slot: &str) -> bool {
        self.slots.contains(slot)
    }

    /// Whether the kernel declares a constant or an override of that name.
    pub fn declares(&self, name: &str) -> bool {
        self.constants.contains(name) || self.overrides.contains(name)
    }

    /// Whether the kernel declares an override of that name.
    pub fn overrides(&self, name: &str) -> bool {
        self.overrides.contains(name)
    }

    /// The whole WGSL text, with values of constants, and if `form` asks for it of overrides.
    ///
    /// # Errors
    /// [`ComposeError::Constant`] for a constant without a value.
    pub fn wgsl(&self, values: &[(&'static str, u32)], form: Form) -> Result<String, ComposeError> {
        let value = |name: &str| {
            let found = values.iter().find(|(other, _)| *other == name);
            found.map(|&(_, value)| value)
        };
        let mut text = String::new();
        for name in &self.extensions {
            // Writing to a string does not fail.
            let _ = writeln!(text, "enable {name};");
        }
        for name in &self.constants {
            let value = value(name).ok_or_else(|| ComposeError::Constant {
                name: (*name).to_owned(),
            })?;
            let _ = writeln!(text, "const {name} = {value}u;");
        }
        for Declared {
            name,
            number,
            access,
            ty,
        } in &self.bindings
        {
            let space = match access {
                Access::Uniform => "uniform",
                Access::Read if !form.read_write => "storage, read",
                Access::Read | Access::Write => "storage, read_write",
            };
            let _ = writeln!(
                text,
                "@group(0) @binding({number}) var<{space}> {name}: {ty};"
            );
        }
        text.push('\n');
        if !form.constants {
            text.push_str(&self.text);
            return Ok(text);
        }
        for line in self.text.lines() {
            match override_of(line) {
                Some((name, ty, default)) => {
                    let value = match (value(name), ty) {
                        (None, _) => default.to_owned(),
                        (Some(value), "bool") => (value != 0).to_string(),
                        (Some(value), _) => value.to_string(),
                    };
                    let _ = writeln!(text, "const {name}: {ty} = {value};");
                }
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        Ok(text)
    }
}

/// Name, type and default of a line `override NAME: type = default;`.
fn override_of(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.strip_prefix("override ")?.split_once(':')?;
    let (ty, default) = rest.split_once('=')?;
    let default = default.trim().strip_suffix(';')?;
    Some((name.trim(), ty.trim(), default))
}

/// One line of a file.
enum Line {
    Import(&'static str),
    Bind(Access, &'static str, &'static str),
    Const(&'static str),
    Enable(&'static str),
    Text,
}

/// Reads a line; `None` for one that begins as a directive and is none.
fn line_of(line: &'static str) -> Option<Line> {
    if !line.starts_with('#') {
        return Some(Line::Text);
    }
    let (directive, rest) = line.split_once(' ')?;
    let rest = rest.trim();
    match directive {
        "#import" => Some(Line::Import(rest)),
        "#const" => Some(Line::Const(rest)),
        "#enable" => Some(Line::Enable(rest)),
        "#bind" => {
            let (access, declaration) = rest.split_once(' ')?;
            let access = match access {
                "uniform" => Access::Uniform,
                "read" => Access::Read,
                "write" => Access::Write,
                _ => return None,
            };
            let (name, ty) = declaration.split_once(':')?;
            Some(Line::Bind(access, name.trim(), ty.trim()))
        }
        _ => None,
    }
}

/// The kernel in file `entry` with everything that it imports.
///
/// # Errors
/// [`ComposeError`], by file and line.
pub fn compose(
    entry: &str,
    sources: &[&'static [Source]],
    choices: &[Choice],
) -> Result<Composed, ComposeError> {
    let mut files = HashMap::new();
    let mut buffers = BTreeSet::new();
    for source in sources.iter().copied().flatten() {
        if files.insert(source.name, *source).is_some() {
            return Err(ComposeError::Duplicate {
                name: source.name.to_owned(),
            });
        }
        for line in source.text.lines() {
            if let Some(Line::Bind(Access::Read | Access::Write, name, _)) = line_of(line) {
                buffers.insert(name);
            }
        }
    }
    let mut slots = HashMap::new();
    for &(name, file) in choices {
        if files.contains_key(name) || slots.insert(name, file).is_some() {
            return Err(ComposeError::Duplicate {
                name: name.to_owned(),
            });
        }
    }
    let mut composer = Composer {
        files,
        slots,
        state: HashMap::new(),
        order: Vec::new(),
        used: BTreeSet::new(),
        bindings: BTreeMap::new(),
        constants: BTreeSet::new(),
        overrides: BTreeSet::new(),
        extensions: BTreeSet::new(),
        text: String::new(),
    };
    composer.place(entry, ("the plan", 0))?;
    let number = |name| (1..).zip(&buffers).find(|(_, other)| **other == name);
    let mut bindings: Vec<_> = composer
        .bindings
        .into_iter()
        .map(|(name, (access, ty))| Declared {
            name,
            // The uniform is no storage buffer, and has number 0.
            number: number(name).map_or(0, |(number, _)| number),
            access,
            ty,
        })
        .collect();
    bindings.sort_by_key(|declared| declared.number);
    Ok(Composed {
        bindings,
        files: composer.order,
        slots: composer.used,
        constants: composer.constants,
        overrides: composer.overrides,
        extensions: composer.extensions,
        text: composer.text,
    })
}

#[derive(PartialEq)]
enum State {
    Open,
    Placed,
}

struct Composer {
    files: HashMap<&'static str, Source>,
    slots: HashMap<&'static str, &'static str>,
    state: HashMap<&'static str, State>,
    order: Vec<&'static str>,
    used: BTreeSet<&'static str>,
    bindings: BTreeMap<&'static str, (Access, &'static str)>,
    constants: BTreeSet<&'static str>,
    overrides: BTreeSet<&'static str>,
    extensions: BTreeSet<&'static str>,
    text: String,
}

impl Composer {
    /// Places the file that `name` refers to, if it is not placed yet; `from` is the importing line.
    fn place(&mut self, name: &str, from: (&str, usize)) -> Result<(), ComposeError> {
        let slot = self
            .slots
            .get_key_value(name)
            .map(|(&slot, &file)| (slot, file));
        self.used.extend(slot.map(|(slot, _)| slot));
        let stem = slot.map_or(name, |(_, file)| file);
        let (file, line, name) = (from.0.to_owned(), from.1, name.to_owned());
        let Some(&Source { name: stem, text }) = self.files.get(stem) else {
            return Err(ComposeError::Unknown { file, line, name });
        };
        match self.state.get(stem) {
            Some(State::Placed) => return Ok(()),
            Some(State::Open) => return Err(ComposeError::Cycle { file, line, name }),
            None => {}
        }
        self.state.insert(stem, State::Open);
        let mut body = String::new();
        let mut declared = false;
        for (number, text) in (1..).zip(text.lines()) {
            let (file, line) = (stem.to_owned(), number);
            let read = line_of(text).ok_or_else(|| ComposeError::Directive {
                file: file.clone(),
                line,
                text: text.to_owned(),
            })?;
            if declared && !matches!(read, Line::Text) {
                return Err(ComposeError::Late { file, line });
            }
            match read {
                Line::Import(name) => self.place(name, (stem, number))?,
                Line::Bind(access, name, ty) => self.bind(access, name, ty, (stem, number))?,
                Line::Const(name) => {
                    self.constants.insert(name);
                }
                Line::Enable(name) => {
                    self.extensions.insert(name);
                }
                Line::Text => {
                    declared |= !text.trim().is_empty() && !text.starts_with("//");
                    self.overrides
                        .extend(override_of(text).map(|(name, ..)| name));
                    body.push_str(text);
                    body.push('\n');
                }
            }
        }
        self.state.insert(stem, State::Placed);
        self.order.push(stem);
        self.text
            .push_str(&format!("// ==== {stem}.wgsl\n{}\n\n", body.trim()));
        Ok(())
    }

    fn bind(
        &mut self,
        access: Access,
        name: &'static str,
        ty: &'static str,
        at: (&str, usize),
    ) -> Result<(), ComposeError> {
        let declared = self.bindings.entry(name).or_insert((access, ty));
        if declared.1 != ty {
            return Err(ComposeError::Conflict {
                file: at.0.to_owned(),
                line: at.1,
                name: name.to_owned(),
                here: ty.to_owned(),
                there: declared.1.to_owned(),
            });
        }
        declared.0 = declared.0.max(access);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[Source] = &[
        Source {
            name: "entry",
            text: "// Entry.\n#import a\n#import choice\n#bind write y: array<f32>\nfn entry() {}\n",
        },
        Source {
            name: "a",
            text: "#import b\n#bind read x: array<f32>\n#bind uniform params: Params\noverride ON: bool = true;\nfn a() {}\n",
        },
        Source {
            name: "b",
            text: "#const LENGTH\n#bind write x: array<f32>\nfn b() {}\n",
        },
        Source {
            name: "loop_1",
            text: "#import loop_2\n",
        },
        Source {
            name: "loop_2",
            text: "// Comment.\n#import loop_1\n",
        },
        Source {
            name: "late",
            text: "fn late() {}\n#import b\n",
        },
        Source {
            name: "other_type",
            text: "#import a\n#bind read x: array<u32>\n",
        },
        Source {
            name: "not_a_directive",
            text: "#if ON\n",
        },
        Source {
            name: "unused",
            text: "#bind read a_buffer: array<u32>\n",
        },
    ];

    const CHOICES: &[Choice] = &[("choice", "b")];

    #[test]
    fn each_file_is_placed_once_after_its_imports() {
        let composed = compose("entry", &[FILES], CHOICES).unwrap();
        assert_eq!(composed.files, ["b", "a", "entry"]);
        assert!(composed.imports("choice") && !composed.imports("a"));
        let text = composed.wgsl(&[("LENGTH", 4)], Form::default()).unwrap();
        let order: Vec<_> = text.lines().filter(|l| l.starts_with("fn")).collect();
        assert_eq!(order, ["fn b() {}", "fn a() {}", "fn entry() {}"]);
        assert!(text.starts_with("const LENGTH = 4u;\n"), "{text}");
    }

    #[test]
    fn a_buffer_has_its_strongest_access_and_one_number_in_all_kernels() {
        let bindings = |entry| {
            let composed = compose(entry, &[FILES], CHOICES).unwrap().bindings;
            let triple = |d: Declared| (d.name, d.number, d.access);
            composed.into_iter().map(triple).collect::<Vec<_>>()
        };
        let x = ("x", 2, Access::Write);
        let params = ("params", 0, Access::Uniform);
        assert_eq!(bindings("entry"), [params, x, ("y", 3, Access::Write)]);
        assert_eq!(bindings("a"), [params, x]);
        assert_eq!(bindings("unused"), [("a_buffer", 1, Access::Read)]);
    }

    #[test]
    fn the_form_decides_on_access_and_on_overrides() {
        let composed = compose("a", &[FILES], CHOICES).unwrap();
        let values = [("LENGTH", 4), ("ON", 0)];
        let plain = composed.wgsl(&values, Form::default()).unwrap();
        assert!(plain.contains("override ON: bool = true;"), "{plain}");
        let form = Form::default().constants(true).read_write(true);
        let constants = composed.wgsl(&values, form).unwrap();
        assert!(constants.contains("const ON: bool = false;"), "{constants}");
        let unused = compose("unused", &[FILES], CHOICES).unwrap();
        let shared = unused.wgsl(&[], form).unwrap();
        assert!(shared.contains("@binding(1) var<storage, read_write> a_buffer"));
        let alone = unused.wgsl(&[], Form::default()).unwrap();
        assert!(alone.contains("@binding(1) var<storage, read> a_buffer"));
        assert_eq!(
            composed.wgsl(&[], form).unwrap_err().to_string(),
            "the plan gives constant LENGTH no value"
        );
    }

    #[test]
    fn an_error_names_file_and_line() {
        let message = |entry| compose(entry, &[FILES], CHOICES).unwrap_err().to_string();
        assert_eq!(
            compose("entry", &[FILES], &[]).unwrap_err().to_string(),
            "entry:3: unknown import \"choice\""
        );
        assert_eq!(
            message("loop_1"),
            "loop_2:2: importing \"loop_1\" closes a cycle"
        );
        assert_eq!(
            message("late"),
            "late:2: directives stand at the top of a file"
        );
        assert_eq!(
            message("other_type"),
            "other_type:2: x is array<u32>, but another file declares it as array<f32>"
        );
        assert!(message("not_a_directive").starts_with("not_a_directive:1: cannot read"));
        for (sources, choices) in [
            (&[FILES, FILES][..], &[][..]),
            (&[FILES], &[("choice", "a"), ("choice", "b")]),
            (&[FILES], &[("a", "b")]),
        ] {
            assert!(matches!(
                compose("entry", sources, choices),
                Err(ComposeError::Duplicate { .. })
            ));
        }
    }
}
