//! Where the values of a layer lie in a file.

use std::collections::{BTreeMap, BTreeSet};

use super::file::StateFile;
use super::naming::Naming;
use super::norms::{Description, Field, Norm};
use crate::error::StateError;

/// The layers of a file, found by prefix.
pub struct Places<'a> {
    file: &'a StateFile,
    naming: Naming,
    /// Prefixes without wrappers, and the prefixes in the file that become those.
    wrapped: BTreeMap<String, BTreeSet<&'a str>>,
}

/// The place of a layer.
pub struct Place {
    /// The prefix in the file.
    pub prefix: String,
    /// The name of each value that is there.
    pub found: BTreeMap<Field, String>,
    /// Tensors beside them of which the norm knows nothing, or the layer.
    pub unexpected: Vec<String>,
}

impl<'a> Places<'a> {
    pub fn new(file: &'a StateFile, naming: Naming) -> Self {
        let mut wrapped: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for name in file.names() {
            let prefix = naming.parent(name);
            if let Some(unwrapped) = naming.unwrapped(prefix) {
                wrapped.entry(unwrapped).or_default().insert(prefix);
            }
        }
        Self {
            file,
            naming,
            wrapped,
        }
    }

    /// The place of a layer: its own prefix if anything of it is there, otherwise the one prefix that becomes it. A layer of
    /// which there is nothing is at its own prefix.
    pub fn find(&self, prefix: &str, layer: &Description) -> Result<Place, StateError> {
        if self.is_at(prefix, layer.norm) {
            return self.at(prefix, layer);
        }
        let wrapped = self.wrapped.get(prefix).into_iter().flatten();
        let mut there: Vec<&str> = wrapped
            .copied()
            .filter(|wrapped| self.is_at(wrapped, layer.norm))
            .collect();
        match there.len() {
            0 => self.at(prefix, layer),
            1 => self.at(there.remove(0), layer),
            _ => Err(StateError::Ambiguous {
                wanted: prefix.to_owned(),
                candidates: there.into_iter().map(str::to_owned).collect(),
            }),
        }
    }

    fn names(&self, norm: Norm, prefix: &str) -> impl Iterator<Item = String> {
        let fields = Field::ALL.iter();
        fields.flat_map(move |&field| self.naming.names(norm, prefix, field))
    }

    fn is_at(&self, prefix: &str, norm: Norm) -> bool {
        let mut names = self.names(norm, prefix);
        names.any(|name| self.file.get(&name).is_some())
    }

    fn at(&self, prefix: &str, layer: &Description) -> Result<Place, StateError> {
        let mut found = BTreeMap::new();
        for &field in Field::ALL.iter().filter(|field| layer.has(**field)) {
            let names = self.naming.names(layer.norm, prefix, field);
            let mut there = names
                .into_iter()
                .filter(|name| self.file.get(name).is_some());
            let Some(name) = there.next() else {
                continue;
            };
            let others: Vec<String> = there.collect();
            if !others.is_empty() {
                return Err(StateError::Ambiguous {
                    wanted: format!("{field} of {prefix}"),
                    candidates: [vec![name], others].concat(),
                });
            }
            found.insert(field, name);
        }
        let mut unexpected = Vec::new();
        for folder in self.naming.folders(layer.norm, prefix) {
            let names = self.file.names_from(&folder);
            let below = names.take_while(|name| name.starts_with(&folder));
            let beside = below.filter(|name| self.naming.parent(name) == folder);
            let unknown = beside.filter(|name| !found.values().any(|known| known == name));
            unexpected.extend(unknown.map(str::to_owned));
        }
        Ok(Place {
            prefix: prefix.to_owned(),
            found,
            unexpected,
        })
    }

    /// The names under which a layer may have left values, those that it does not have now too.
    pub fn all_names(&self, place: &Place, norm: Norm) -> Vec<String> {
        self.names(norm, &place.prefix).collect()
    }
}
