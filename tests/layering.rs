//! The house: a file knows what lies below it, never what lies above, and no file leads back to itself.
//! `modules.rs` says what counts as an arrow.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::modules::{Graph, Token, tokens};

/// The floors, lowest first. A file may name files of lower floors and of its own room. Rooms on one floor do not
/// know each other.
const FLOORS: &[&[&str]] = &[
    &["word.rs", "shape.rs"],
    &["dtype.rs"],
    &["error.rs"],
    &["reference/"],
    &["gpu/"],
    &["norm/"],
    &[
        "batch_norm/",
        "group_norm/",
        "instance_norm/",
        "layer_norm/",
        "rms_norm/",
    ],
    &["convert.rs", "fold.rs", "state/", "sync/", "tracked.rs"],
    &["lib.rs", "architecture/", "choose.rs"],
];

/// The files that may name `wgpu::`. All others are functions of plain data.
const ON_A_DEVICE: &[&str] = &[
    // Usages of buffers.
    "error.rs",
    "gpu/buffer.rs",
    "gpu/caps.rs",
    "gpu/compiled.rs",
    "gpu/guard.rs",
    "gpu/kernels.rs",
    "gpu/open.rs",
    "gpu/step.rs",
    "gpu/submit.rs",
    "gpu/tensor.rs",
    "gpu/transfer.rs",
    "gpu/under_way.rs",
    "gpu/wait.rs",
    // It asks the device.
    "norm/f16.rs",
    "norm/layer/",
    "norm/plan.rs",
    "norm/proof/device.rs",
    "norm/sample/layer.rs",
    "norm/tuner/trial.rs",
    // Its proof runs a kernel of its own.
    "norm/twin/element.rs",
    "batch_norm/layer.rs",
    "batch_norm/moments.rs",
    "batch_norm/precise.rs",
    "batch_norm/state.rs",
    "sync/forward.rs",
    "sync/backward.rs",
    "tracked.rs",
];

/// What names every buffer of a norm.
const FIELDS: &str = "norm/field.rs";

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn library() -> Graph {
    let mut graph = Graph::of(package(), "src/lib.rs");
    for file in &mut graph.files {
        file.path = file.path["src/".len()..].to_owned();
    }
    graph
}

/// The library, and each benchmark, example and executable of tests.
fn crates() -> Vec<Graph> {
    let mut roots = vec![
        "src/lib.rs".to_owned(),
        "tests/main.rs".to_owned(),
        "tests/mpi.rs".to_owned(),
        "examples/train_digits/sync_digits.rs".to_owned(),
    ];
    for folder in ["benches", "examples"] {
        for entry in fs::read_dir(package().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            for root in [
                format!("{folder}/{name}"),
                format!("{folder}/{name}/main.rs"),
            ] {
                let is_root = root.ends_with(".rs") && package().join(&root).is_file();
                roots.extend(is_root.then_some(root));
            }
        }
    }
    roots
        .iter()
        .map(|root| Graph::of(package(), root))
        .collect()
}

fn is_in(path: &str, room: &str) -> bool {
    path == room || (room.ends_with('/') && path.starts_with(room))
}

/// A file's floor and its room there.
fn floor(path: &str) -> Option<(usize, &'static str)> {
    let floors = FLOORS.iter().enumerate();
    let mut rooms = floors.flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, *room)));
    rooms.find(|(_, room)| is_in(path, room))
}

/// Fails with all that was found.
fn none(found: &[String], what: &str) {
    assert!(
        found.is_empty(),
        "{} {what}:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn no_file_leads_back_to_itself() {
    let mut found = Vec::new();
    for graph in crates() {
        for tests in [false, true] {
            for circle in graph.circles(tests) {
                let mut text = format!(
                    "a circle of {} files from {}, {} test code:",
                    circle.len(),
                    graph.files[0].path,
                    if tests { "with" } else { "without" }
                );
                for (&(from, to), arrow) in &graph.arrows {
                    if circle.contains(&from) && circle.contains(&to) && (tests || !arrow.test) {
                        let [from, to] = [from, to].map(|file| &graph.files[file].path);
                        write!(text, "\n    {from} -> {to}, by {}", arrow.path).unwrap();
                    }
                }
                found.push(text);
            }
        }
    }
    none(&found, "circles");
}

#[test]
fn arrows_point_down() {
    let graph = library();
    let mut found = Vec::new();
    for (&(from, to), arrow) in &graph.arrows {
        let [from, to] = [from, to].map(|file| graph.files[file].path.as_str());
        let (Some(above), Some(below)) = (floor(from), floor(to)) else {
            // Another test finds files without a floor.
            continue;
        };
        if below.0 > above.0 || (below.0 == above.0 && below != above) {
            found.push(format!("{from} names {} of {to}", arrow.path));
        }
    }
    none(&found, "arrows that do not point down");
    assert!(graph.arrows.len() > 100, "{} arrows", graph.arrows.len());
}

#[test]
fn every_file_stands_on_a_floor() {
    let graph = library();
    let mut read = BTreeSet::new();
    let mut found = Vec::new();
    for file in &graph.files {
        read.insert(file.path.clone());
        if floor(&file.path).is_none() {
            found.push(file.path.clone());
        }
    }
    none(&found, "files without a floor");
    let mut unread = Vec::new();
    let mut folders = vec![package().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(package().join("src")).unwrap();
            let name = name.to_str().unwrap().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if !read.contains(&name) && !name.ends_with(".md") {
                unread.push(name);
            }
        }
    }
    none(&unread, "files that are no modules");
}

#[test]
fn plans_touch_no_device() {
    let graph = library();
    let mut found = Vec::new();
    let mut named: BTreeSet<&&str> = BTreeSet::new();
    for file in &graph.files {
        let names_it = |pair: &[(Token, bool)]| {
            matches!(&pair[0].0, Token::Name(name) if name == "wgpu") && pair[1].0 == Token::Colons
        };
        let room = ON_A_DEVICE.iter().find(|room| is_in(&file.path, room));
        if file.tokens.windows(2).any(names_it) {
            named.extend(room);
            found.extend(room.is_none().then(|| file.path.clone()));
        }
    }
    none(&found, "files that name wgpu");
    let stale = ON_A_DEVICE.iter().filter(|room| !named.contains(*room));
    let stale: Vec<String> = stale.map(ToString::to_string).collect();
    none(&stale, "rooms that may name wgpu and do not");
}

#[test]
fn the_plumbing_knows_no_norm_and_no_buffer() {
    let text = fs::read_to_string(package().join("src").join(FIELDS)).expect(FIELDS);
    let tokens = tokens(&text);
    let mut buffers = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        match (token, tokens.get(at + 1)) {
            (Token::Text(name), _) => buffers.insert(name.clone()),
            (Token::Name(keyword), Some(Token::Name(name))) if keyword == "const" => {
                buffers.insert(name.clone())
            }
            _ => false,
        };
    }
    assert!(
        buffers.contains("SAVED") && buffers.contains("saved"),
        "{buffers:?}"
    );
    let mut found = Vec::new();
    for file in library()
        .files
        .iter()
        .filter(|file| file.path.starts_with("gpu/"))
    {
        for (token, test) in &file.tokens {
            let (Token::Name(word) | Token::Text(word)) = token else {
                continue;
            };
            let lower = word.to_lowercase();
            let norms = [
                "batch",
                "group_norm",
                "groupnorm",
                "instance_norm",
                "instancenorm",
                "layer_norm",
                "layernorm",
                "rms_norm",
                "rmsnorm",
            ];
            let norm = norms.iter().any(|name| lower.contains(name));
            // A test may have buffers of its own, by whatever name.
            if norm || (!test && buffers.contains(word)) {
                found.push(format!("{} says {word:?}", file.path));
            }
        }
    }
    none(&found, "words of norms in gpu/");
}
