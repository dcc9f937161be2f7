//! Shader composition: `#import name` lines at the top of a file, and nothing else.
//!
//! A name is a file's stem, or is bound to one: a choice (which layout, which element type) is a binding
//! of a name to a file. Each file is placed once, what it imports before it.

use std::collections::HashMap;

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

/// A choice: the name that files import, and the file that it stands for.
pub type Choice = (&'static str, &'static str);

/// A composition that does not hold together. The crate's own tests compose every kernel with every
/// choice, so that no user meets one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// No file and no choice of that name.
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
    /// An import below the first declaration.
    #[error("{file}:{line}: imports stand at the top of a file")]
    Late {
        /// The importing file.
        file: String,
        /// Its line.
        line: usize,
    },
    /// Two files, or two choices, of one name.
    #[error("{name:?} is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
}

/// The text of the entry file `entry` with everything that it imports.
pub fn compose(
    entry: &str,
    sources: &[&[Source]],
    choices: &[Choice],
) -> Result<String, ComposeError> {
    let mut files = HashMap::new();
    for source in sources.iter().copied().flatten() {
        if files.insert(source.name, source.text).is_some() {
            return Err(ComposeError::Duplicate {
                name: source.name.to_owned(),
            });
        }
    }
    let mut bound = HashMap::new();
    for &(name, file) in choices {
        if files.contains_key(name) || bound.insert(name, file).is_some() {
            return Err(ComposeError::Duplicate {
                name: name.to_owned(),
            });
        }
    }
    let mut composer = Composer {
        files,
        bound,
        state: HashMap::new(),
        text: String::new(),
    };
    composer.place(entry, ("the plan", 0))?;
    Ok(composer.text)
}

#[derive(PartialEq)]
enum State {
    Open,
    Placed,
}

struct Composer<'a> {
    files: HashMap<&'a str, &'a str>,
    bound: HashMap<&'a str, &'a str>,
    state: HashMap<&'a str, State>,
    text: String,
}

impl Composer<'_> {
    /// Places the file that `name` stands for, unless it stands already; `from` is the importing line.
    fn place(&mut self, name: &str, from: (&str, usize)) -> Result<(), ComposeError> {
        let stem = self.bound.get(name).copied().unwrap_or(name);
        let Some((&stem, &text)) = self.files.get_key_value(stem) else {
            return Err(ComposeError::Unknown {
                file: from.0.to_owned(),
                line: from.1,
                name: name.to_owned(),
            });
        };
        match self.state.get(stem) {
            Some(State::Placed) => return Ok(()),
            Some(State::Open) => {
                return Err(ComposeError::Cycle {
                    file: from.0.to_owned(),
                    line: from.1,
                    name: name.to_owned(),
                });
            }
            None => {}
        }
        self.state.insert(stem, State::Open);
        let mut body = String::new();
        let mut declared = false;
        for (number, line) in text.lines().enumerate() {
            if let Some(import) = line.strip_prefix("#import ") {
                if declared {
                    return Err(ComposeError::Late {
                        file: stem.to_owned(),
                        line: number + 1,
                    });
                }
                self.place(import.trim(), (stem, number + 1))?;
                continue;
            }
            declared |= !line.trim().is_empty() && !line.starts_with("//");
            body.push_str(line);
            body.push('\n');
        }
        self.state.insert(stem, State::Placed);
        self.text
            .push_str(&format!("// ==== {stem}.wgsl\n{}\n\n", body.trim()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[Source] = &[
        Source {
            name: "entry",
            text: "// Entry.\n#import a\n#import choice\nfn entry() {}\n",
        },
        Source {
            name: "a",
            text: "#import b\nfn a() {}\n",
        },
        Source {
            name: "b",
            text: "fn b() {}\n",
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
    ];

    #[test]
    fn each_file_is_placed_once_after_its_imports() {
        let text = compose("entry", &[FILES], &[("choice", "b")]).unwrap();
        let order: Vec<_> = text.lines().filter(|l| l.starts_with("fn")).collect();
        assert_eq!(order, ["fn b() {}", "fn a() {}", "fn entry() {}"]);
    }

    #[test]
    fn what_does_not_hold_together_is_named_by_file_and_line() {
        assert_eq!(
            compose("entry", &[FILES], &[]).unwrap_err().to_string(),
            "entry:3: unknown import \"choice\""
        );
        assert_eq!(
            compose("loop_1", &[FILES], &[]).unwrap_err().to_string(),
            "loop_2:2: importing \"loop_1\" closes a cycle"
        );
        assert_eq!(
            compose("late", &[FILES], &[]).unwrap_err().to_string(),
            "late:2: imports stand at the top of a file"
        );
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
