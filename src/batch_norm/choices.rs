//! What a tuner has chosen, in memory and in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io, process};

use super::tuning::{Strategy, Tuning};
use crate::error::TuneError;
use crate::shared::walk::Tile;

/// Choices by what they are for: the two columns of the file.
#[derive(Debug, Default)]
pub struct Choices {
    file: Option<PathBuf>,
    lines: BTreeMap<String, String>,
}

impl Choices {
    /// Those of a file, which need not be there yet.
    pub fn of_file(path: PathBuf) -> Result<Self, TuneError> {
        Ok(Self {
            lines: lines_of(&path)?,
            file: Some(path),
        })
    }

    /// The choice for a key, if the line reads as one.
    pub fn get(&self, key: &str) -> Option<Tuning> {
        self.lines.get(key).and_then(|text| read(text))
    }

    /// Remembers a choice, beside those that others have written to the file meanwhile.
    pub fn insert(&mut self, key: String, choice: Tuning) -> Result<(), TuneError> {
        if let Some(path) = &self.file {
            self.lines.extend(lines_of(path)?);
        }
        self.lines.insert(key, write(choice));
        self.save()
    }

    /// Replaces the file as a whole, so that nobody reads half of it.
    fn save(&self) -> Result<(), TuneError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let lines = self.lines.iter();
        let text: String = lines
            .map(|(key, choice)| format!("{key}\t{choice}\n"))
            .collect();
        let mut new = path.clone().into_os_string();
        new.push(format!(".{}.new", process::id()));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, path))
            .map_err(|error| file_error(path, &error))
    }
}

fn lines_of(path: &Path) -> Result<BTreeMap<String, String>, TuneError> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file_error(path, &error)),
    };
    let lines = text.lines().filter_map(|line| line.rsplit_once('\t'));
    Ok(lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

fn file_error(path: &Path, error: &io::Error) -> TuneError {
    TuneError::File {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

/// A choice as it stands in the file: "plan", or as in "resident 256x32x1" and "split plan".
fn write(tuning: Tuning) -> String {
    let strategy = tuning.strategy.map_or("plan", Strategy::name);
    match tuning.tile {
        None => format!("{strategy} plan"),
        Some(Tile {
            workgroup,
            lanes,
            columns,
        }) => format!("{strategy} {workgroup}x{lanes}x{columns}"),
    }
}

fn read(text: &str) -> Option<Tuning> {
    let (strategy, tile) = text.split_once(' ')?;
    let strategy = match strategy {
        "plan" => None,
        name => Some(Strategy::ALL.into_iter().find(|s| s.name() == name)?),
    };
    let tile = match tile {
        "plan" => None,
        numbers => {
            let mut numbers = numbers.split('x').map(|number| number.parse().ok());
            Some(Tile {
                workgroup: numbers.next()??,
                lanes: numbers.next()??,
                columns: numbers.next()??,
            })
        }
    };
    Some(Tuning { strategy, tile })
}

#[test]
fn choices_survive_the_file() {
    let tile = Tile {
        workgroup: 64,
        lanes: 32,
        columns: 1,
    };
    for strategy in Strategy::ALL.map(Some).into_iter().chain([None]) {
        for tile in [None, Some(tile)] {
            let tuning = Tuning { strategy, tile };
            assert_eq!(read(&write(tuning)), Some(tuning));
        }
    }
    for text in [
        "",
        "plan",
        "best plan",
        "split 64",
        "split 64x32",
        "split 64xax1",
    ] {
        assert_eq!(read(text), None, "{text:?}");
    }
}
