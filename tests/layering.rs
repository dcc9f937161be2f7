//! The house: a folder knows what lies below it, never what lies above.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first, and what names a file of each may use.
const FLOORS: &[(&str, &[&str])] = &[
    ("shape.rs", &[]),
    ("dtype.rs", &["shape"]),
    ("error.rs", &["dtype", "shape"]),
    ("reference", &["shape", "reference"]),
    ("gpu", &["shape", "dtype", "error", "gpu"]),
    (
        "shared",
        &["shape", "dtype", "error", "gpu", "reference", "shared"],
    ),
    (
        "batch_norm",
        &[
            "shape",
            "dtype",
            "error",
            "gpu",
            "reference",
            "shared",
            "batch_norm",
        ],
    ),
];

/// Files that are functions of plain data.
const PURE: &[&str] = &[
    "shape.rs",
    "dtype.rs",
    "reference",
    "shared/block_reduce.rs",
    "shared/layout.rs",
    "shared/moments.rs",
    "shared/sums.rs",
    "shared/walk.rs",
    "batch_norm/config.rs",
    "batch_norm/params.rs",
    "batch_norm/options.rs",
    "batch_norm/plan.rs",
    "batch_norm/plan_pieces.rs",
    "batch_norm/tuning.rs",
    "batch_norm/twin.rs",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries
        .flat_map(|entry| files(&entry.unwrap().path()))
        .collect()
}

/// The lines of code, without comments.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or("").to_owned())
        .collect()
}

#[test]
fn arrows_point_down() {
    for (floor, below) in FLOORS {
        for file in files(&source().join(floor)) {
            for line in code(&file) {
                for used in line.split("crate::").skip(1) {
                    let name: String = used
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    // Names of the crate's root, such as types re-exported there, begin with a capital.
                    let is_module = name.starts_with(char::is_lowercase);
                    assert!(
                        !is_module || below.contains(&name.as_str()),
                        "{} names crate::{name}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn every_file_stands_on_a_floor() {
    for entry in fs::read_dir(source()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = FLOORS.iter().any(|(floor, _)| *floor == name);
        assert!(
            known || ["lib.rs", "architecture.rs"].contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn plans_touch_no_device() {
    for pure in PURE {
        for file in files(&source().join(pure)) {
            let named = code(&file).iter().any(|line| line.contains("wgpu::"));
            assert!(!named, "{} names wgpu", file.display());
        }
    }
}

#[test]
fn the_plumbing_knows_no_norm() {
    for file in files(&source().join("gpu")) {
        let named = code(&file)
            .iter()
            .any(|line| line.to_lowercase().contains("batch"));
        assert!(!named, "{} names a norm", file.display());
    }
}
