//! A tuner's choices, in memory and in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io, process};

use crate::error::TuneError;
use crate::norm::tuning::Tuning;

/// Choices by key: the two columns of the file.
#[derive(Debug, Default)]
pub struct TuningFile {
    file: Option<PathBuf>,
    lines: BTreeMap<String, String>,
}

impl TuningFile {
    /// The choices in a file, which need not exist yet.
    pub fn open(path: PathBuf) -> Result<Self, TuneError> {
        Ok(Self {
            lines: lines_of(&path)?,
            file: Some(path),
        })
    }

    /// The choice for a key, if its line can be read.
    pub fn get(&self, key: &str) -> Option<Tuning> {
        self.lines.get(key)?.parse().ok()
    }

    /// Remembers a choice, and takes in those that others have written to the file meanwhile.
    pub fn insert(&mut self, key: String, choice: Tuning) -> Result<(), TuneError> {
        if let Some(path) = &self.file {
            self.lines.extend(lines_of(path)?);
        }
        self.lines.insert(key, choice.to_string());
        self.save()
    }

    /// Replaces the file as a whole, so that no reader sees half of it.
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
