//! Which file of a crate names which: a small reader of Rust's modules, `use` trees and paths.
//!
//! An arrow leads from the file that names an item to the file that *defines* it:
//!
//! * Paths count in `use` trees and in code, whether they begin with `crate`, `super`, `self`, a child module or a name
//!   that the module has imported.
//! * A name that a module imports is a signpost. Whoever reaches an item through it has an arrow to the item's own
//!   file. The module with the signpost has one too, unless the signpost is for others only: a `use` with a visibility
//!   (`pub`, `pub(crate)`, `pub(super)`) whose name the module's own code does not use. So a `mod.rs` of re-exports
//!   has no arrows, and one that works with what it re-exports has.
//! * `mod name;` says where a file is and is no arrow. Only examples, benchmarks and tests may say it with
//!   `#[path]`, to share a file.
//! * Methods are found by type and not by path, and make no arrow. Naming the type did.
//! * What stands under `#[cfg(test)]` or `#[test]` is test code, and so is every file of a module declared there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// An identifier, a keyword, a number or a lifetime.
    Name(String),
    /// `::`
    Colons,
    /// The text of a string or character literal.
    Text(String),
    Mark(char),
}

impl Token {
    fn is(&self, name: &str) -> bool {
        matches!(self, Self::Name(n) if n == name)
    }
}

/// A text's tokens, without comments.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let name_len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let raw_prefix = matches!(&rest[..name_len], "r" | "br" | "cr")
            && rest[name_len..].trim_start_matches('#').starts_with('"');
        let len = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if raw_prefix {
            let hashes = rest[name_len..].len() - rest[name_len..].trim_start_matches('#').len();
            let begin = name_len + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            let text_len = rest[begin..].find(&end).expect("an end of the raw string");
            tokens.push(Token::Text(rest[begin..begin + text_len].to_owned()));
            begin + text_len + end.len()
        } else if first == '"' {
            let text_len = literal(&rest[1..], '"');
            tokens.push(Token::Text(rest[1..=text_len].to_owned()));
            text_len + 2
        } else if first == '\'' {
            // A character, or else a lifetime or a label.
            let second = rest[1..].chars().next().expect("a character or a lifetime");
            if second == '\\' || rest[1 + second.len_utf8()..].starts_with('\'') {
                let text_len = literal(&rest[1..], '\'');
                tokens.push(Token::Text(rest[1..=text_len].to_owned()));
                text_len + 2
            } else {
                let label = rest[1..].find(|c| !is_name(c)).unwrap_or(rest.len() - 1);
                tokens.push(Token::Name(rest[..=label].to_owned()));
                label + 1
            }
        } else if name_len > 0 {
            tokens.push(Token::Name(rest[..name_len].to_owned()));
            name_len
        } else if rest.starts_with("::") {
            tokens.push(Token::Colons);
            2
        } else {
            tokens.push(Token::Mark(first));
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    tokens
}

/// The length of the block comment that the text begins with.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += text[at..]
                .chars()
                .next()
                .expect("an end of the comment")
                .len_utf8();
        }
        if depth == 0 {
            return at;
        }
    }
}

/// Bytes up to the quote that ends the literal.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    text.find(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
    .expect("an end of the literal")
}

/// A name that a module imports.
struct Import {
    name: String,
    path: Vec<String>,
    /// Whether others may reach the item through the module.
    visible: bool,
    test: bool,
}

/// A module, in a file of its own or inline.
#[derive(Default)]
struct Module {
    file: usize,
    children: BTreeSet<String>,
    imports: Vec<Import>,
    /// Modules of which everything is imported.
    globs: Vec<(Vec<String>, bool)>,
    /// The names and paths of its code, each with whether that is test code.
    paths: BTreeSet<(Vec<String>, bool)>,
}

/// Where a path leads.
enum Place {
    Module(Vec<String>),
    /// An item of the module.
    Item(Vec<String>),
}

#[derive(Debug)]
pub struct File {
    /// Relative to the package.
    pub path: String,
    /// Whether it is compiled for tests only.
    pub test: bool,
    /// Tokens, each with whether it is test code.
    pub tokens: Vec<(Token, bool)>,
}

/// What one file names of another.
#[derive(Clone, Debug)]
pub struct Arrow {
    /// One of the paths.
    pub path: String,
    /// Whether test code alone has it.
    pub test: bool,
}

/// The files of one crate and the arrows between them.
#[derive(Default)]
pub struct Graph {
    pub files: Vec<File>,
    pub arrows: BTreeMap<(usize, usize), Arrow>,
    modules: BTreeMap<Vec<String>, Module>,
}

impl Graph {
    /// Reads a crate from its root file.
    pub fn of(package: &Path, root: &str) -> Self {
        Self::with(root, &|path| {
            std::fs::read_to_string(package.join(path)).ok()
        })
    }

    fn with(root: &str, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut graph = Self::default();
        graph.read(Path::new(root), Vec::new(), false, read);
        graph.draw();
        graph
    }

    fn read(
        &mut self,
        path: &Path,
        module: Vec<String>,
        test: bool,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let text = read(path).unwrap_or_else(|| panic!("no file {}", path.display()));
        let tokens = tokens(&text);
        let file = self.files.len();
        // Children of `a.rs` stand in `a/`, those of a root or a `mod.rs` beside it.
        let stem = path
            .file_stem()
            .and_then(|s| s.to_str())
            .expect("a file's name");
        let folder = match stem {
            "mod" => path.with_file_name(""),
            _ if module.is_empty() => path.with_file_name(""),
            _ => path.with_extension(""),
        };
        self.files.push(File {
            path: path.display().to_string(),
            test,
            tokens: Vec::new(),
        });
        self.modules.insert(
            module.clone(),
            Module {
                file,
                ..Module::default()
            },
        );

        let partners = partners(&tokens);
        // The modules in which the token stands, inline ones with the token at which they end.
        let mut stack = vec![(module, tokens.len())];
        let mut test_until = if test { tokens.len() } else { 0 };
        // Where the next module stands, if an attribute says so: examples share files.
        let mut elsewhere = None;
        let mut at = 0;
        while at < tokens.len() {
            while stack.last().is_some_and(|(_, end)| *end <= at) {
                stack.pop();
            }
            let here = stack.last().expect("the file's own module").0.clone();
            let test = at < test_until;
            let begin = at;
            let next = tokens.get(at + 1);
            match &tokens[at] {
                Token::Mark('#') => {
                    let open = at + 1 + usize::from(next == Some(&Token::Mark('!')));
                    if tokens.get(open) == Some(&Token::Mark('[')) {
                        at = partners[open];
                        let attribute = &tokens[open + 1..at];
                        if attribute[0].is("path") {
                            assert!(
                                !path.starts_with("src"),
                                "{}: modules stand where they belong",
                                path.display()
                            );
                            let Token::Text(text) = &attribute[2] else {
                                panic!("{}: no path", path.display())
                            };
                            elsewhere = Some(path.with_file_name(text));
                        }
                        if is_test(attribute) {
                            let inner = open == begin + 2;
                            let end = if inner {
                                tokens.len()
                            } else {
                                item_end(&tokens, &partners, at + 1)
                            };
                            test_until = test_until.max(end);
                        }
                    }
                    at += 1;
                }
                Token::Name(name) if name == "pub" && next == Some(&Token::Mark('(')) => {
                    let limits = ["crate", "super", "self", "in"];
                    let limited = limits.iter().any(|limit| tokens[at + 2].is(limit));
                    at = if limited {
                        partners[at + 1] + 1
                    } else {
                        at + 1
                    };
                }
                Token::Name(name) if name == "mod" && matches!(next, Some(Token::Name(_))) => {
                    let Some(Token::Name(child)) = next else {
                        unreachable!()
                    };
                    self.module(&here).children.insert(child.clone());
                    let inner = [&here[..], std::slice::from_ref(child)].concat();
                    if tokens[at + 2] == Token::Mark('{') {
                        let inline = Module {
                            file,
                            ..Module::default()
                        };
                        self.modules.insert(inner.clone(), inline);
                        stack.push((inner, partners[at + 2]));
                    } else {
                        // Folders of the inline modules around it, if any.
                        let depth = self
                            .modules
                            .iter()
                            .filter(|(_, m)| m.file == file)
                            .map(|(p, _)| p.len())
                            .min();
                        let mut folder = folder.clone();
                        folder.extend(&here[depth.unwrap_or(0)..]);
                        let own = folder.join(format!("{child}.rs"));
                        let nested: PathBuf = folder.join(child).join("mod.rs");
                        let usual = if read(&own).is_some() { own } else { nested };
                        let path = elsewhere.take().unwrap_or(usual);
                        self.read(&path, inner, test, read);
                    }
                    at += 3;
                }
                Token::Name(name) if name == "use" && next != Some(&Token::Mark('<')) => {
                    let visible = match at.checked_sub(1).map(|i| &tokens[i]) {
                        Some(Token::Mark(')')) => tokens[partners[at - 1] - 1].is("pub"),
                        Some(token) => token.is("pub"),
                        None => false,
                    };
                    at += 1;
                    let mut trees = Vec::new();
                    at = tree(&tokens, at, Vec::new(), &mut trees);
                    let module = self.module(&here);
                    for (path, name) in trees {
                        if name == "*" {
                            module.globs.push((path, test));
                        } else {
                            module.imports.push(Import {
                                name,
                                path,
                                visible,
                                test,
                            });
                        }
                    }
                }
                Token::Name(first) => {
                    let mut path = vec![first.clone()];
                    while let (Some(Token::Colons), Some(Token::Name(name))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        path.push(name.clone());
                        at += 2;
                    }
                    at += 1;
                    // Fields, methods and the ends of longer paths are no names of this module.
                    let before = begin.checked_sub(1).map(|i| &tokens[i]);
                    if !matches!(before, Some(Token::Mark('.') | Token::Colons)) {
                        self.module(&here).paths.insert((path, test));
                    }
                }
                _ => at += 1,
            }
            let seen = tokens[begin..at].iter().map(|token| (token.clone(), test));
            self.files[file].tokens.extend(seen);
        }
    }

    fn module(&mut self, path: &[String]) -> &mut Module {
        self.modules.get_mut(path).expect("a module that was read")
    }

    fn draw(&mut self) {
        let mut arrows: BTreeMap<(usize, usize), Arrow> = BTreeMap::new();
        let mut arrow = |from: usize, to: usize, path: &[String], test: bool| {
            if from != to {
                let new = Arrow {
                    path: path.join("::"),
                    test,
                };
                let old = arrows.entry((from, to)).or_insert_with(|| new.clone());
                if old.test && !test {
                    *old = new;
                }
            }
        };
        for (here, module) in &self.modules {
            let file_test = self.files[module.file].test;
            for import in &module.imports {
                let uses = |test: bool| {
                    module
                        .paths
                        .iter()
                        .any(|(path, t)| path[0] == import.name && *t == test)
                };
                // For others only; or for test code only.
                let (used, used_by_tests) = (uses(false), uses(true));
                if import.visible && !used && !used_by_tests {
                    continue;
                }
                let test = import.test || file_test || (import.visible && !used);
                if let Some(to) = self.target(here, &import.path) {
                    arrow(module.file, to, &import.path, test);
                }
            }
            for (path, test) in &module.paths {
                if let Some(to) = self.target(here, path).filter(|_| path.len() > 1) {
                    arrow(module.file, to, path, *test || file_test);
                }
            }
            for (path, test) in &module.globs {
                if let Some(to) = self.target(here, path) {
                    assert!(
                        to == module.file,
                        "{}: `use {}::*` hides what it takes; name it",
                        self.files[module.file].path,
                        path.join("::")
                    );
                    arrow(module.file, to, path, *test);
                }
            }
        }
        self.arrows = arrows;
    }

    /// The file that defines what a path names, unless another crate does.
    fn target(&self, here: &[String], path: &[String]) -> Option<usize> {
        let (Place::Module(module) | Place::Item(module)) =
            self.place(here, path, &mut Vec::new())?;
        Some(self.modules[&module].file)
    }

    fn place(
        &self,
        here: &[String],
        path: &[String],
        seen: &mut Vec<(Vec<String>, String)>,
    ) -> Option<Place> {
        let (first, rest) = path.split_first()?;
        let module = &self.modules[here];
        let known = module.children.contains(first)
            || module.imports.iter().any(|import| import.name == *first);
        match first.as_str() {
            "crate" => self.walk(here, Vec::new(), rest, seen),
            "self" => self.walk(here, here.to_vec(), rest, seen),
            "super" => self.walk(here, here[..here.len() - 1].to_vec(), rest, seen),
            _ if known => self.walk(here, here.to_vec(), path, seen),
            // Of another crate, or of this module.
            _ => None,
        }
    }

    fn walk(
        &self,
        here: &[String],
        mut at: Vec<String>,
        names: &[String],
        seen: &mut Vec<(Vec<String>, String)>,
    ) -> Option<Place> {
        for name in names {
            let module = &self.modules[&at];
            if name == "super" {
                at.pop();
            } else if module.children.contains(name) {
                at.push(name.clone());
            } else if let Some(import) = module.imports.iter().find(|import| {
                // A private `use` is for the module and what stands in it.
                import.name == *name && (import.visible || here.starts_with(&at))
            }) {
                let step = (at.clone(), name.clone());
                // A name that imports itself is a macro of this module.
                if seen.contains(&step) {
                    return Some(Place::Item(at));
                }
                seen.push(step);
                match self.place(&at.clone(), &import.path, seen)? {
                    Place::Module(module) => at = module,
                    item => return Some(item),
                }
            } else {
                return Some(Place::Item(at));
            }
        }
        Some(Place::Module(at))
    }

    /// The files that lead back to themselves, circle by circle.
    pub fn circles(&self, tests: bool) -> Vec<Vec<usize>> {
        let count = self.files.len();
        let mut reaches = vec![vec![false; count]; count];
        for (&(from, to), arrow) in &self.arrows {
            reaches[from][to] |= tests || !arrow.test;
        }
        for via in 0..count {
            let row = reaches[via].clone();
            for from in reaches.iter_mut().filter(|from| from[via]) {
                from.iter_mut().zip(&row).for_each(|(to, on)| *to |= on);
            }
        }
        let mut circles: Vec<Vec<usize>> = Vec::new();
        for file in (0..count).filter(|&file| reaches[file][file]) {
            if !circles.iter().any(|circle| circle.contains(&file)) {
                let with = |&other: &usize| reaches[file][other] && reaches[other][file];
                circles.push((0..count).filter(with).collect());
            }
        }
        circles
    }
}

/// For each bracket its partner.
fn partners(tokens: &[Token]) -> Vec<usize> {
    let mut partners = vec![0; tokens.len()];
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(' | '[' | '{') => open.push(at),
            Token::Mark(')' | ']' | '}') => {
                let begin = open.pop().expect("a bracket that was opened");
                (partners[begin], partners[at]) = (at, begin);
            }
            _ => {}
        }
    }
    partners
}

/// `test`, `cfg(test)` and the like.
fn is_test(attribute: &[Token]) -> bool {
    let named = |name: &str| attribute.iter().any(|token| token.is(name));
    attribute[0].is("test") || (attribute[0].is("cfg") && named("test") && !named("not"))
}

/// Where the item ends that begins here, perhaps with more attributes.
fn item_end(tokens: &[Token], partners: &[usize], mut at: usize) -> usize {
    while tokens[at] == Token::Mark('#') {
        at = partners[at + 1] + 1;
    }
    let mut keywords = tokens[at..].iter().filter_map(|token| match token {
        Token::Name(name)
            if !["pub", "crate", "super", "self", "in", "unsafe"].contains(&name.as_str()) =>
        {
            Some(name.as_str())
        }
        _ => None,
    });
    let (first, second) = (keywords.next().unwrap_or(""), keywords.next().unwrap_or(""));
    let is_value =
        ["use", "static", "type", "let"].contains(&first) || (first == "const" && second != "fn");
    let is_item = [
        "fn",
        "const",
        "async",
        "extern",
        "struct",
        "enum",
        "union",
        "trait",
        "impl",
        "mod",
        "macro_rules",
    ]
    .contains(&first);
    while at < tokens.len() {
        match tokens[at] {
            Token::Mark('{') if !is_value => return partners[at] + 1,
            Token::Mark('(' | '[' | '{') => at = partners[at],
            Token::Mark(';') => return at + 1,
            // A field, a variant or an arm.
            Token::Mark(',') if !is_item && !is_value => return at + 1,
            Token::Mark('}' | ')' | ']') => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Collects the paths of a `use` tree with the names that they get, and returns the token after it.
fn tree(
    tokens: &[Token],
    mut at: usize,
    mut path: Vec<String>,
    trees: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let mut alias = None;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Name(name) if name == "as" => {
                let Token::Name(name) = &tokens[at + 1] else {
                    panic!("a name after `as`")
                };
                alias = Some(name.clone());
                at += 1;
            }
            // `a::{self}` is `a`.
            Token::Name(name) if name == "self" && !path.is_empty() => {}
            Token::Name(name) => path.push(name.clone()),
            Token::Mark('*') => alias = Some("*".to_owned()),
            Token::Mark('{') => {
                loop {
                    at = tree(tokens, at + 1, path.clone(), trees);
                    if tokens[at] == Token::Mark('}') {
                        break;
                    }
                }
                // Nothing but a comma or an end can follow.
                path.clear();
            }
            Token::Mark(',' | '}' | ';') => break,
            _ => {}
        }
        at += 1;
    }
    if let Some(last) = path.last() {
        let name = alias.unwrap_or_else(|| last.clone());
        trees.push((path, name));
    }
    at
}

#[test]
fn arrows_are_seen_wherever_a_path_can_stand() {
    let files = [
        (
            "lib.rs",
            "mod a; pub mod b; mod c; pub use b::deep::Thing; #[cfg(test)] mod proof;",
        ),
        // By the root's signpost, by a tree, in code, and by a name that only looks like one.
        (
            "a.rs",
            "use crate::{Thing, c::{self, Other as More}}; fn f() { c::g(); \"crate::proof::x\"; } // super::proof",
        ),
        (
            "b/mod.rs",
            "pub(crate) mod deep; pub(in crate::b) use super::c::Other; macro_rules! m { () => { $crate::a::f() } }",
        ),
        (
            "b/deep.rs",
            "pub struct Thing<'a>(&'a str, char); impl Thing<'_> { fn f() { let _ = ('\\'', 'x', r#\"\"\"#); super::super::a::f() } }",
        ),
        (
            "c.rs",
            "pub fn g() {} pub struct Other; #[cfg(test)] mod tests { use super::*; use super::super::proof::check; #[test] fn t() {} } fn h(x: crate::b::deep::Thing) {}",
        ),
        (
            "proof.rs",
            "pub fn check() { super::a::f(); self::inner::x() } mod inner { use crate::b; pub fn x() { b::Other } }",
        ),
    ];
    let graph = Graph::with("lib.rs", &|path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    });
    let arrows: Vec<String> = graph
        .arrows
        .iter()
        .map(|(&(from, to), arrow)| {
            let [from, to] = [from, to].map(|file| graph.files[file].path.trim_end_matches(".rs"));
            format!("{from} {} {to}", if arrow.test { "~>" } else { "->" })
        })
        .collect();
    let mut expected = [
        "a -> b/deep",
        "a -> c",
        "b/mod -> a",
        "b/deep -> a",
        "c -> b/deep",
        "c ~> proof",
        "proof ~> a",
        "proof ~> c",
        "proof ~> b/mod",
    ];
    expected.sort_unstable();
    let mut found = arrows.clone();
    found.sort_unstable();
    assert_eq!(found, expected);
    let names = |circles: Vec<Vec<usize>>| -> Vec<usize> { circles.iter().map(Vec::len).collect() };
    assert_eq!(names(graph.circles(false)), [3], "a, b/deep and c");
    assert_eq!(
        names(graph.circles(true)),
        [5],
        "the proofs and what proves itself by them too"
    );
    assert!(
        graph
            .files
            .iter()
            .any(|file| file.path == "proof.rs" && file.test)
    );
}
